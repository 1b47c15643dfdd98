"""Makes the page: one folder that any host of static files serves as it is.

It exports the network that comes with the package and a detector to ONNX, and puts the page's files, what is needed of
onnxruntime-web, and sample photographs beside them. `make web` calls it.
"""
import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx
import torch

import timm
from timm.data import resolve_data_config
from timm.utils.model import reparameterize_model

import timm_mobilenext

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
EXAMPLE = ROOT / 'build' / 'detector' / 'best'
RUNTIME = HERE / 'node_modules' / 'onnxruntime-web'
PACKAGE = Path(timm_mobilenext.__file__).parent
CELLS = PACKAGE / 'detection' / 'bccd'
CELL_CLASSES = ['Platelets', 'RBC', 'WBC']
NETWORK = 'mobilenext_050.cifar10'


def copy_samples(files, folder):
    """Copies sample photographs. Returns what the page must know of them."""
    folder.mkdir()
    for file in files:
        shutil.copy(file, folder)
    return [{'file': f'{folder.name}/{file.name}', 'name': file.stem} for file in files]


def write_settings(file, **settings):
    file.write_text(json.dumps(settings, indent=1) + '\n', encoding='utf-8')


def add_classifier(page):
    """Exports the network that comes with the package, with batch norm folded."""
    model = timm.create_model(NETWORK, pretrained=True).eval()
    config = resolve_data_config(model=model)
    channels, height, width = config['input_size']
    if (config['crop_mode'], config['crop_pct'], channels, height) != ('squash', 1, 3, width):
        sys.exit(f'The page squashes a photograph to a square, and {NETWORK} wants another transform: {config}')
    top_1 = re.search(r'top-1 (\d+)', ' '.join(model.pretrained_cfg['notes']))[1]
    params = sum(parameter.numel() for parameter in model.parameters())
    torch.onnx.export(
        reparameterize_model(model), (torch.zeros(1, channels, height, width),), page / 'classifier.onnx',
        input_names=['image'], output_names=['logits'], external_data=False, verbose=False)
    classes = model.pretrained_cfg['label_names']
    write_settings(
        page / 'classifier.json', size=height, interpolation=config['interpolation'], mean=config['mean'],
        std=config['std'], classes=classes,
        samples=copy_samples(sorted((PACKAGE / 'photographs').glob('*.jpg')), page / 'photographs'),
        about=f'The network is {NETWORK}: {params / 1e6:.1f} million parameters, and it sees {height} × {width} pixels.'
              f' It was trained on the {len(classes)} classes of CIFAR-10, so it names anything one of these, and'
              f' nothing else. It is right on {top_1} of 100 images like those of its training, less often on yours.')


def add_detector(page, folder):
    """Exports a detector, NMS included."""
    if not (folder / 'config.json').is_file():
        sys.exit(f'{folder} is not the folder of a detector: give one, or run make web, which trains one.')
    command = [sys.executable, '-m', 'timm_mobilenext', 'detect', 'export', folder, '-o', page / 'detector.onnx']
    if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
        sys.exit(1)  # the command has said why
    facts = {entry.key: entry.value for entry in onnx.load(page / 'detector.onnx').metadata_props}
    classes, size = facts['class_names'].splitlines(), int(facts['img_size'])
    backbone = json.loads((folder / 'config.json').read_text(encoding='utf-8'))['backbone']
    about = f'The detector is SSDLite on {backbone}. It finds {", ".join(classes)}, and sees {size} × {size} pixels.'
    if folder == EXAMPLE:
        about += ' It was trained for a minute on eight photographs of blood cells (BCCD), and not on these four.'
    # photographs to measure on, so not those of the training
    names = (CELLS / 'ImageSets/Main/val.txt').read_text().split() if classes == CELL_CLASSES else []
    samples = copy_samples([CELLS / f'JPEGImages/{name}.jpg' for name in names], page / 'cells')
    write_settings(
        page / 'detector.json', size=size, interpolation='bilinear', mean=[0, 0, 0], std=[1, 1, 1], classes=classes,
        samples=samples, about=about)


def add_runtime(page):
    """Copies what one thread of WebAssembly needs of onnxruntime-web."""
    if not RUNTIME.is_dir():
        sys.exit(f'{RUNTIME} is missing: run npm ci in {HERE}, or make web.')
    (page / 'ort').mkdir()
    for name in ('ort.wasm.bundle.min.mjs', 'ort-wasm-simd-threaded.wasm'):
        shutil.copy(RUNTIME / 'dist' / name, page / 'ort')


def write_licences(page):
    version = json.loads((RUNTIME / 'package.json').read_text(encoding='utf-8'))['version']
    (page / 'licences.txt').write_text(
        f"""timm-mobilenext: the page, and the network that names photographs
(The detector has the licence of whoever trained it.)
{(ROOT / 'LICENSE').read_text(encoding='utf-8')}

onnxruntime-web {version}: the files in ort/
{(HERE / 'onnxruntime.LICENSE').read_text(encoding='utf-8')}

BCCD: the photographs in cells/
{(CELLS / 'LICENSE').read_text(encoding='utf-8')}

The photographs in photographs/ are in the public domain, or under CC0 1.0.
{(PACKAGE / 'photographs' / 'README.md').read_text(encoding='utf-8')}""", encoding='utf-8')


def write_service_worker(page):
    """Tells the service worker all files of the page, and a version that changes with any of them."""
    files = sorted(file for file in page.rglob('*') if file.is_file() and file.name != 'sw.js')
    script = (page / 'sw.js').read_text(encoding='utf-8')
    digest = hashlib.sha256(script.encode())
    for file in files:
        digest.update(f'{file.relative_to(page)} {hashlib.sha256(file.read_bytes()).hexdigest()}\n'.encode())
    names = ['./', *(file.relative_to(page).as_posix() for file in files)]
    script = script.replace("['FILES']", json.dumps(names)).replace('VERSION', digest.hexdigest()[:16])
    (page / 'sw.js').write_text(script, encoding='utf-8')


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--detector', type=Path, default=EXAMPLE, help='folder of a detector (default: %(default)s)')
    parser.add_argument(
        '--output', type=Path, default=ROOT / 'build' / 'web', help='folder to write (default: %(default)s)')
    args = parser.parse_args()
    if args.output.exists() and not (args.output / 'sw.js').is_file():
        sys.exit(f'{args.output} exists, and is not a page that can be replaced: give another --output.')
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.output.parent, prefix='.web-') as new:  # the old page stays till the end
        page = Path(new) / 'page'
        shutil.copytree(HERE / 'page', page)
        add_runtime(page)
        add_classifier(page)
        add_detector(page, args.detector)
        write_licences(page)
        write_service_worker(page)
        shutil.rmtree(args.output, ignore_errors=True)
        page.rename(args.output)
    size = sum(file.stat().st_size for file in args.output.rglob('*') if file.is_file())
    print(f'written  {args.output}: {size / 1e6:.1f} MB')


if __name__ == '__main__':
    main()
