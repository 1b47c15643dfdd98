"""Every way out of PyTorch that this machine can run: size, accuracy and time, float32 and int8.

    pip install 'timmx[onnx,openvino,executorch,litert,ncnn]' nncf torchao ai-edge-litert ai-edge-quantizer sympy
    make web                                      # onnxruntime-web, for Node.js
    python -m benchmarks.deployment cifar10       # prints a table, writes benchmarks/deployment.csv

`cifar10` is the data set as folders of images, `train` and `validation`, for the accuracy. timmx exports every network,
and examples/int8 quantizes it. The weights of all but the shipped network are new, for they do not change the time. One
thread takes one image. The candidates of an engine take turns, see rounds.py. A ratio is the median of those to the
network's peer in the same round, of the CPU's time.
"""
import argparse
import csv
import importlib.metadata
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

os.environ['OMP_NUM_THREADS'] = '1'

import numpy as np
import torch

from benchmarks.rounds import measure
from benchmarks.runtimes import load_executorch, load_litert, load_ncnn, load_onnx, load_openvino

ROOT = Path(__file__).parents[1]
MODULES = ROOT / 'web'  # where npm has put onnxruntime-web
SHIPPED = 'mobilenext_050.cifar10'
# network -> the peer that its time is divided by; those of the shipped network take 64 px, the others 224
PEERS = {
    'mobilenetv2_100': 'mobilenetv2_100',
    'mobilenext_100': 'mobilenetv2_100',
    'mobilenext_100_id050': 'mobilenetv2_100',
    'efficientnet_b0': 'efficientnet_b0',
    'mobilenext_s': 'efficientnet_b0',
    'mobilenetv2_050': 'mobilenetv2_050',
    SHIPPED: 'mobilenetv2_050',
}
HEADER = (
    'engine', 'precision', 'network', 'bytes', 'difference', 'top1', 'agreement', 'start_s', 'median_ms', 'ratio',
    'lower_quartile', 'upper_quartile')


def load_eager(folder, is_folded=False, is_compiled=False, dtype=torch.float32):
    import timm  # not above: each timed process would import it, too
    from timm.utils.model import reparameterize_model

    model = timm.create_model(f'local-dir:{folder}', pretrained=True).eval()
    if is_folded:
        model = reparameterize_model(model)
    model = model.to(dtype=dtype, memory_format=torch.channels_last)
    if is_compiled:
        model = torch.compile(model)

    def run(image):
        with torch.inference_mode():
            image = torch.from_numpy(image).to(dtype=dtype, memory_format=torch.channels_last)
            return model(image).float().numpy()
    return run


def load_aot(file):
    model = torch._inductor.aoti_load_package(str(file))

    def run(image):
        with torch.inference_mode():
            return model(torch.from_numpy(image)).numpy()
    return run


def write_aot(folder, file):
    import timm
    from timm.data import resolve_data_config

    model = timm.create_model(f'local-dir:{folder}', pretrained=True).eval()
    image = torch.zeros(1, *resolve_data_config(model=model)['input_size'])
    with torch.no_grad():
        torch._inductor.aoti_compile_and_package(torch.export.export(model, (image,)), package_path=str(file))


class WebAssembly:
    """A network in Node.js, which says what time it takes."""

    def __init__(self, file, size):
        command = ['node', ROOT / 'benchmarks' / 'wasm.mjs', MODULES, file, *map(str, size)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def __call__(self):
        self.time(1)

    def time(self, repeats):
        print(repeats, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())


@dataclass
class Engine:
    """A runtime, or a way of PyTorch's own."""
    load: object  # function of a file, which returns a function of an image
    package: str = 'torch'  # whose version is printed, if Python knows it
    arguments: tuple = ()  # of `load`, after the file
    format: str = ''  # timmx's word, if timmx writes what is loaded
    suffix: str = ''
    script: str = ''  # of examples/int8, if it can quantize
    options: tuple = ()  # of timmx
    networks: tuple = tuple(PEERS)


FEW = 'mobilenetv2_100', 'mobilenext_100'  # for compilers, which take their time
ENGINES = {
    'ONNX Runtime': Engine(load_onnx, 'onnxruntime', (), 'onnx', '.onnx', 'onnxruntime'),
    'OpenVINO': Engine(load_openvino, 'openvino', (), 'openvino', '.xml', 'openvino', ('--no-fp16',)),
    'ExecuTorch': Engine(load_executorch, 'executorch', (), 'executorch', '.pte', 'executorch'),
    'LiteRT': Engine(load_litert, 'ai-edge-litert', (), 'litert', '.tflite', 'litert'),
    'WebAssembly': Engine(WebAssembly, '', (), 'onnx', '.onnx', 'onnxruntime'),
    'ncnn': Engine(load_ncnn, 'ncnn', (), 'ncnn', '', '', ('--no-fp16',)),
    'eager': Engine(load_eager),
    'eager, folded': Engine(load_eager, arguments=(True,)),
    'torch.compile': Engine(load_eager, arguments=(False, True), networks=FEW),
    'torch.compile, folded': Engine(load_eager, arguments=(True, True), networks=FEW),
    'AOTInductor': Engine(load_aot, suffix='.pt2', networks=FEW),
    'eager, bfloat16': Engine(load_eager, arguments=(False, False, torch.bfloat16)),
    'torch.compile, folded, bfloat16': Engine(load_eager, arguments=(True, True, torch.bfloat16), networks=FEW),
}


def write_source(name, folder):
    """A Hub folder, from which all that follows takes the network."""
    import timm
    from timm.data import resolve_data_config
    from timm.models import save_for_hf

    if name == SHIPPED:
        model = timm.create_model(name, pretrained=True)
    elif PEERS[SHIPPED] == name:
        size = dict(input_size=(3, 64, 64), num_classes=10)
        model = timm.create_model(name, num_classes=10, pretrained_cfg_overlay=size)
    else:
        model = timm.create_model(name)
    save_for_hf(model, folder, safe_serialization=True)
    return resolve_data_config(model=model)['input_size']


def run_quietly(*arguments):
    """Run Python, and end with what it printed if it failed."""
    run = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True)
    if run.returncode:
        sys.exit(run.stdout + run.stderr)


def write_float32(engine, source, target):
    """The file that an engine loads. PyTorch itself loads the source."""
    if engine.format:
        options = ['--pretrained', *engine.options, '--output', target]
        run_quietly('-m', 'timmx', 'export', engine.format, f'local-dir:{source}', *options)
    elif engine.suffix:
        write_aot(source, target)
    else:
        return source
    return target


def write_int8(engine, source, images, target):
    script = ROOT / 'examples' / 'int8' / f'{engine.script}_int8.py'
    run_quietly(script, f'local-dir:{source}', *images, '--output', target)


def build(load, arguments, file, size):
    if load is WebAssembly:
        return load(file, size)
    run = load(file, *arguments)
    image = np.random.default_rng(0).standard_normal((1, *size), np.float32)
    return lambda: run(image)


def serve_start(connection, candidate):
    """Send the seconds from a process that has imported torch to a first answer."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    build(*candidate)()
    connection.send(time.perf_counter() - start)


def measure_start(candidate):
    """Seconds to the first answer, of the clock, for compilers start processes. Nothing that was compiled is kept."""
    context = multiprocessing.get_context('spawn')
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        os.environ['TORCHINDUCTOR_CACHE_DIR'] = folder
        process = context.Process(target=serve_start, args=(theirs, candidate))
        process.start()
        seconds = ours.recv()
        process.join()
        del os.environ['TORCHINDUCTOR_CACHE_DIR']
    return seconds


class Accuracy:
    """What the shipped network says of photographs and of CIFAR-10, beside PyTorch in float32."""

    def __init__(self, cifar10):
        import timm
        from timm.data import create_transform, ImageDataset, resolve_data_config

        model = timm.create_model(SHIPPED, pretrained=True).eval()
        transform = create_transform(**resolve_data_config(model=model))
        photographs = ImageDataset(str(ROOT / 'timm_mobilenext' / 'photographs'), transform=transform)
        self.photographs = [image[None].numpy() for image, _ in photographs]
        validation = ImageDataset(str(cifar10 / 'validation'), transform=transform)
        loader = torch.utils.data.DataLoader(validation, batch_size=1)
        self.images, self.labels = zip(*((image.numpy(), label.item()) for image, label in loader), strict=True)
        with torch.inference_mode():
            self.logits = [model(torch.from_numpy(image)).numpy() for image in self.photographs]
            self.answers = np.array([model(torch.from_numpy(image)).argmax().item() for image in self.images])

    def judge(self, run):
        """Largest difference of a logit on the photographs, top-1 and agreement with PyTorch in percent."""
        pairs = zip(self.photographs, self.logits, strict=True)
        difference = max(np.abs(run(image) - logits).max() for image, logits in pairs)
        answers = np.array([run(image).argmax() for image in self.images])
        top1, agreement = 100 * (answers == self.labels).mean(), 100 * (answers == self.answers).mean()
        return f'{difference:.1g}', f'{top1:.2f}', f'{agreement:.2f}'


def write_files(engine, precision, sources, cifar10, folder):
    """What an engine loads, a file or a folder for each network."""
    files = {}
    for name in engine.networks:
        source = sources[name]
        target = folder / source.name / f'network{engine.suffix}'
        if target.exists():  # for another engine that loads the same, or by an earlier run
            files[name] = target
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if precision == 'int8':
            photographs = folder.parents[1] / 'images'
            calibration = cifar10 / 'train' if name == SHIPPED else photographs
            write_int8(engine, source, (calibration, photographs), target)
            files[name] = target
        else:
            files[name] = write_float32(engine, source, target)
    return files


def measure_engine(engine, files, sizes, rounds, repeats):
    """Name -> seconds to the first answer, milliseconds of a call, and the quartiles of the ratio to the peer."""
    candidates = {name: (engine.load, engine.arguments, file, sizes[name]) for name, file in files.items()}
    starts = {name: measure_start(candidate) for name, candidate in candidates.items()}
    times = measure({name: (build, *candidate) for name, candidate in candidates.items()}, {}, rounds, repeats)
    figures = {}
    for name, seconds in times.items():
        ratios = [ours / peer for ours, peer in zip(seconds, times[PEERS[name]], strict=True)]
        lower, median, upper = statistics.quantiles(ratios, n=4)
        milliseconds = 1e3 * statistics.median(seconds)
        figures[name] = f'{starts[name]:.2f}', f'{milliseconds:.2f}', f'{median:.3f}', f'{lower:.3f}', f'{upper:.3f}'
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('cifar10', type=Path, help='folder with train and validation, folders of images by class')
    parser.add_argument('--engines', nargs='+', default=list(ENGINES), choices=ENGINES, help='which, default all')
    parser.add_argument('--files', type=Path, help='folder to keep the files in, from which another run goes on')
    parser.add_argument('--rounds', type=int, default=60, help='rounds in which the candidates take turns')
    parser.add_argument('--repeats', type=int, default=5, help='calls a round')
    parser.add_argument('--output', type=Path, default=Path(__file__).with_suffix('.csv'), help='CSV file to write')
    args = parser.parse_args()
    if 'WebAssembly' in args.engines and not (MODULES / 'node_modules' / 'onnxruntime-web').is_dir():
        sys.exit(f'{MODULES} has no onnxruntime-web: run `make web`')
    torch.set_num_threads(1)
    torch.manual_seed(0)
    packages = dict.fromkeys(['torch', 'timm', 'timmx', *(ENGINES[name].package for name in args.engines)])
    versions = (f'{package} {importlib.metadata.version(package)}' for package in packages if package)
    print(platform.machine(), *versions, sep=', ')
    form = '{:33}{:10}{:22}' + '{:>15}' * (len(HEADER) - 3)
    print(form.format(*HEADER), flush=True)
    accuracy = Accuracy(args.cifar10)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.files or Path(temporary)
        shutil.copytree(ROOT / 'timm_mobilenext' / 'photographs', folder / 'images' / 'all', dirs_exist_ok=True)
        sources = {name: folder / 'sources' / name.replace('.', '-') for name in PEERS}
        sizes = {name: write_source(name, source) for name, source in sources.items()}
        runs = []  # what is written first, and timed then, when nothing else has to run
        for engine_name in args.engines:
            engine = ENGINES[engine_name]
            for precision in ('float32', 'int8') if engine.script else ('float32',):
                written = folder / (engine.format or engine_name) / precision
                files = write_files(engine, precision, sources, args.cifar10, written)
                judged = {}
                # of compilers and of WebAssembly, other tests compare the answers
                if SHIPPED in files and engine.load is not WebAssembly:
                    judged[SHIPPED] = accuracy.judge(engine.load(files[SHIPPED], *engine.arguments))
                runs.append((engine_name, precision, files, judged))
                print(f'written  {engine_name}, {precision}', *judged.get(SHIPPED, ()), file=sys.stderr, flush=True)
        for engine_name, precision, files, judged in runs:
            figures = measure_engine(ENGINES[engine_name], files, sizes, args.rounds, args.repeats)
            for name, file in files.items():
                size = sum(inner.stat().st_size for inner in file.parent.rglob('*') if inner.is_file())
                is_file = file != sources[name]  # PyTorch itself takes the weights alone
                accuracies = judged.get(name, ('', '', ''))
                shown = 'bfloat16' if torch.bfloat16 in ENGINES[engine_name].arguments else precision
                rows.append((engine_name, shown, name, size if is_file else '', *accuracies, *figures[name]))
                print(form.format(*rows[-1]), flush=True)
    with args.output.open('w', newline='') as f:
        csv.writer(f, lineterminator='\n').writerows((HEADER, *rows))


if __name__ == '__main__':
    main()
