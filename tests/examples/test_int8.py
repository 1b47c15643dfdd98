"""The scripts of examples/int8: what they print is true, and bad input is told in a line."""
import re
import runpy
import shutil
import sys

import pytest
import torch
from helpers import ROOT, SHIPPED

import timm
from timm.data import create_transform, ImageDataset, resolve_data_config

pytestmark = [pytest.mark.slow, pytest.mark.tools]  # it exports whole networks

# what each script needs beside timm, by the names of imports, and what it writes
SCRIPTS = dict(
    onnxruntime=(['onnxruntime'], '.onnx'),
    openvino=(['openvino', 'nncf'], '.xml'),
    executorch=(['executorch', 'torchao'], '.pte'),
    litert=(['litert_torch', 'ai_edge_litert', 'ai_edge_quantizer'], '.tflite'),
)
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


@pytest.fixture
def run(monkeypatch):
    def run_script(runtime, *arguments):
        monkeypatch.setattr(sys, 'argv', [f'{runtime}_int8.py', *map(str, arguments)])
        runpy.run_path(str(ROOT / 'examples' / 'int8' / f'{runtime}_int8.py'), run_name='__main__')
    return run_script


@pytest.mark.parametrize('runtime', SCRIPTS)
def test_script_says_what_int8_costs(runtime, images, run, tmp_path, capsys):
    packages, suffix = SCRIPTS[runtime]
    for package in packages:
        pytest.importorskip(package, reason=f'needs {", ".join(packages)}: the script names the pip install')
    output = tmp_path / f'int8{suffix}'
    run(runtime, SHIPPED, images, images, '-o', output)
    printed = capsys.readouterr().out
    before, after, count, agreement, bytes_before, bytes_after = re.fullmatch(
        r'top-1 +([\d.]+)% before, ([\d.]+)% after, of (\d+) images\n'
        r'agreement +([\d.]+)%\nbytes +([\d,]+) before, ([\d,]+) after\n', printed[printed.index('top-1'):]).groups()
    float32, int8 = (int(size.replace(',', '')) for size in (bytes_before, bytes_after))
    assert (float(before), int(count)) == (measure(images), 13)
    assert abs(float(after) - float(before)) < 24 and float(agreement) > 76  # of 13 images, three may change
    assert int8 == sum(file.stat().st_size for file in tmp_path.iterdir()) < float32 / 2
    if runtime == 'onnxruntime':
        check_onnx(output)


def check_onnx(output):
    """int8 weights in convolutions, and any batch."""
    onnx, onnxruntime = pytest.importorskip('onnx'), pytest.importorskip('onnxruntime')
    weights = [tensor for tensor in onnx.load(output).graph.initializer if len(tensor.dims) == 4]
    assert weights and {tensor.data_type for tensor in weights} == {onnx.TensorProto.INT8}
    session = onnxruntime.InferenceSession(output, providers=['CPUExecutionProvider'])
    for batch in (1, 3):
        assert session.run(None, {'pixel_values': torch.zeros(batch, 3, 64, 64).numpy()})[0].shape == (batch, 10)


def measure(folder) -> float:
    """Top-1 of the shipped network by timm alone, in percent to two places."""
    model = timm.create_model(SHIPPED, pretrained=True).eval()
    dataset = ImageDataset(str(folder), transform=create_transform(**resolve_data_config(model=model)))
    with torch.no_grad():
        right = [model(image[None]).argmax().item() == label for image, label in dataset]
    return round(100 * sum(right) / len(right), 2)


@pytest.mark.parametrize('make', [True, False], ids=['empty', 'not there'])
def test_calibration_folder_without_images(make, images, run, tmp_path):
    folder = tmp_path / 'images'
    if make:
        folder.mkdir()
    with pytest.raises(SystemExit, match=f'^{folder} has no images to calibrate int8 on: '):
        run('onnxruntime', SHIPPED, folder, images, '-o', tmp_path / 'int8.onnx')
    assert not (tmp_path / 'int8.onnx').exists()


def test_file_that_exists_is_kept(images, run, tmp_path):
    (tmp_path / 'int8.onnx').write_text('mine')
    with pytest.raises(SystemExit, match='int8.onnx exists: remove it, or give another --output'):
        run('onnxruntime', SHIPPED, images, images, '-o', tmp_path / 'int8.onnx')
    assert (tmp_path / 'int8.onnx').read_text() == 'mine'


@pytest.mark.parametrize('runtime', SCRIPTS)
def test_missing_package_is_told_with_its_install(runtime, run, monkeypatch):
    for package in SCRIPTS[runtime][0]:
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit, match='^(No module named|import of) .*: pip install .*timm.*$'):
        run(runtime)
