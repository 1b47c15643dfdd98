"""The scripts of examples/int8: what they print is true, and bad input is told in a line."""
import ast
import re
import runpy
import shutil
import sys
from importlib.util import find_spec
from unittest.mock import MagicMock

import pytest
import torch
from formats import FORMATS, run, start
from helpers import ROOT, SHIPPED
from PIL import Image

import timm
from timm.data import create_transform, ImageDataset, resolve_data_config

pytestmark = [pytest.mark.slow, pytest.mark.tools]  # it exports whole networks

SCRIPTS = {
    format_name: ROOT / 'examples' / 'int8' / f'{script}_int8.py' for format_name, script in FORMATS.items() if script}
SUFFIXES = dict(onnx='.onnx', openvino='.xml', executorch='.pte', litert='.tflite')
# the package's photographs by their classes in CIFAR-10, of which all must be there
PHOTOGRAPHS = dict(cat=['cat', 'kitten'], dog=['dog'], bird=['duck', 'macaw', 'owl'], horse=['horses'], deer=['moose'])
OTHERS = ['airplane', 'automobile', 'frog', 'ship', 'truck']


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """An image folder of eight photographs, and one of each class that has none."""
    folder = tmp_path_factory.mktemp('images')
    for label, names in (*PHOTOGRAPHS.items(), *((other, ['cat']) for other in OTHERS)):
        (folder / label).mkdir()
        for name in names:
            shutil.copy(ROOT / 'timm_mobilenext' / 'photographs' / f'{name}.jpg', folder / label)
    return folder


@pytest.fixture(scope='module')
def top1(images) -> float:
    """Top-1 of the shipped network by timm alone, in percent to two places."""
    model = timm.create_model(SHIPPED, pretrained=True).eval()
    dataset = ImageDataset(str(images), transform=create_transform(**resolve_data_config(model=model)))
    with torch.no_grad():
        right = [model(image[None]).argmax().item() == label for image, label in dataset]
    return round(100 * sum(right) / len(right), 2)


@pytest.mark.parametrize('format_name', SCRIPTS)
def test_script_says_what_int8_costs(format_name, images, top1, tmp_path):
    output = tmp_path / f'int8{SUFFIXES[format_name]}'
    command = ['python', SCRIPTS[format_name], SHIPPED, images, images, '-o', output]
    printed = run(format_name, tmp_path, *map(str, command))
    before, after, count, agreement, bytes_before, bytes_after = re.fullmatch(
        r'top-1 +([\d.]+)% before, ([\d.]+)% after, of (\d+) images\n'
        r'agreement +([\d.]+)%\nbytes +([\d,]+) before, ([\d,]+) after\n', printed[printed.index('top-1'):]).groups()
    float32, int8 = (int(size.replace(',', '')) for size in (bytes_before, bytes_after))
    assert (float(before), int(count)) == (top1, 13)
    assert abs(float(after) - float(before)) < 24 and float(agreement) > 76  # of 13 images, three may change
    assert int8 == sum(file.stat().st_size for file in tmp_path.iterdir()) < float32 / 2
    if format_name == 'onnx':
        check_onnx(output)


def test_one_image_to_calibrate_on(images, tmp_path):
    """Of another size than the network's, and without a folder for its class."""
    folder = tmp_path / 'one'
    folder.mkdir()
    Image.open(images / 'dog' / 'dog.jpg').resize((40, 30)).save(folder / 'dog.png')
    output = tmp_path / 'int8.onnx'
    printed = run('onnx', tmp_path, 'python', *map(str, (SCRIPTS['onnx'], SHIPPED, folder, images, '-o', output)))
    assert 'of 13 images' in printed
    check_onnx(output)


def check_onnx(output):
    """ONNX Runtime runs every convolution in int8, and takes any batch."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(output.with_suffix('.optimized'))
    options.log_severity_level = 3  # it warns that the file is of this machine
    session = onnxruntime.InferenceSession(output, options, providers=['CPUExecutionProvider'])
    operators = [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
    assert operators.count('QLinearConv') > 50 and 'Conv' not in operators
    for batch in (1, 3):
        images = torch.zeros(batch, 3, 64, 64).numpy()
        assert session.run(None, {'pixel_values': images})[0].shape == (batch, 10)


@pytest.mark.parametrize('format_name', SCRIPTS)
def test_nothing_is_left_when_the_disk_is_full(format_name, images, tmp_path):
    """A limit of 1 MB a file, which the int8 file exceeds."""
    output = tmp_path / f'int8{SUFFIXES[format_name]}'
    done = start(
        format_name, tmp_path, 'bash', '-c', 'ulimit -f 1000 && exec python "$@"', 'bash',
        *map(str, (SCRIPTS[format_name], SHIPPED, images / 'dog', images, '-o', output)))
    assert done.returncode != 0
    left = [file for file in tmp_path.iterdir() if not file.name.startswith('tmp')]  # LiteRT's converter aborts Python
    assert left == []


@pytest.fixture(params=SCRIPTS)
def refusal(request, monkeypatch):
    """What a script says as it ends. It is run up to where its runtime would begin, which may not be installed."""
    def read_refusal(*arguments):
        script = SCRIPTS[request.param]
        for node in ast.walk(ast.parse(script.read_text())):
            name = node.module if isinstance(node, ast.ImportFrom) else ''
            names = [name] if name else [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                package = name.split('.')[0]
                if isinstance(sys.modules.get(package), MagicMock) or find_spec(package) is None:
                    monkeypatch.setitem(sys.modules, name, MagicMock())
        monkeypatch.setattr(sys, 'argv', [script.name, *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            runpy.run_path(str(script), run_name='__main__')
        return exit.value.code
    read_refusal.suffix = SUFFIXES[request.param]
    return read_refusal


@pytest.mark.parametrize('make', [True, False], ids=['empty', 'not there'])
def test_calibration_folder_without_images(make, images, refusal, tmp_path):
    folder = tmp_path / 'images'
    if make:
        folder.mkdir()
    said = refusal(SHIPPED, folder, images, '-o', tmp_path / f'int8{refusal.suffix}')
    assert said.startswith(f'{SHIPPED} must have weights, {folder} and {images} must be folders of images.')
    assert '\n' not in said


@pytest.mark.parametrize('model, reason', [
    ('mobilenet_100', 'Unknown model (mobilenet_100)'),
    ('mobilenext_075', 'No pretrained weights'),
    ('local-dir:nowhere', 'nowhere'),
])
def test_model_without_weights(model, reason, images, refusal, tmp_path):
    said = refusal(model, images, images, '-o', tmp_path / f'int8{refusal.suffix}')
    assert said.startswith(f'{model} must have weights') and reason in said


def test_file_that_exists_is_kept(images, refusal, tmp_path):
    output = tmp_path / f'int8{refusal.suffix}'
    output.write_text('mine')
    said = refusal(SHIPPED, images, images, '-o', output)
    assert said == f'{output} exists, or its folder does not: give another --output'
    assert output.read_text() == 'mine'


def test_folder_of_the_output_that_is_not_there(images, refusal, tmp_path):
    output = tmp_path / 'nowhere' / f'int8{refusal.suffix}'
    said = refusal(SHIPPED, images, images, '-o', output)
    assert said == f'{output} exists, or its folder does not: give another --output'


@pytest.mark.parametrize('format_name', SCRIPTS)
def test_missing_package_is_told_with_its_install(format_name, monkeypatch):
    for package in ('onnxruntime', 'nncf', 'executorch', 'litert_torch'):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(sys, 'argv', ['script'])
    with pytest.raises(SystemExit, match='^(No module named|import of) .*: pip install .*timm.*$'):
        runpy.run_path(str(SCRIPTS[format_name]), run_name='__main__')
