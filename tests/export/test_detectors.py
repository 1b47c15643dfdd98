"""examples/detector_runtimes.py: each runtime finds what PyTorch finds, and bad input is told in a line."""
import re
import runpy
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from formats import run as run_in
from helpers import randomize, ROOT

from timm_mobilenext.detection import create_ssdlite
from timm_mobilenext.detection.data import BCCD
from timm_mobilenext.detection.export import RawDetector

pytestmark = [pytest.mark.slow, pytest.mark.tools]  # it exports a whole detector

SCRIPT = ROOT / 'examples' / 'detector_runtimes.py'
# the script's word for each runtime -> its environment, and what it needs, by the names of imports
RUNTIMES = dict(
    onnxruntime=('onnx', ['onnxruntime']), openvino=('openvino', ['openvino']),
    executorch=('executorch', ['executorch']),
    litert=('litert', ['litert_torch', 'ai_edge_litert']), ncnn=('ncnn', ['ncnn', 'pnnx']))


def run(*arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', [SCRIPT.name, *map(str, arguments)])
        runpy.run_path(str(SCRIPT), run_name='__main__')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A detector of random weights that finds boxes everywhere, and three photographs."""
    folder = tmp_path_factory.mktemp('runtimes')
    torch.manual_seed(0)
    randomize(create_ssdlite('mobilenext_035', 3, 'voc', 64)).save_pretrained(folder / 'detector')
    (folder / 'photographs').mkdir()
    for file in sorted((BCCD / 'JPEGImages').glob('*.jpg'))[:3]:
        shutil.copy(file, folder / 'photographs')
    return folder


@pytest.mark.parametrize('runtime', RUNTIMES)
def test_runtime_finds_what_pytorch_finds(runtime, folder, tmp_path):
    printed = run_in(
        RUNTIMES[runtime][0], tmp_path, 'python', *map(str, (SCRIPT, folder / 'detector', folder / 'photographs')),
        '-o', 'out')
    count, detections = re.search('^([0-9]+) photographs, ([0-9,]+) detections$', printed, re.M).groups()
    assert int(count) == 3 and int(detections.replace(',', '')) > 30
    boxes, scores, same, of, their_boxes, their_scores = re.search(
        rf'^{runtime} +(\S+) +(\S+) +in (\d+) of (\d+) +(\S+) +(\S+)$', printed, re.M).groups()
    assert same == of == '3'
    assert max(float(boxes), float(their_boxes)) < 1e-3 and max(float(scores), float(their_scores)) < 1e-5


def test_missing_package_is_told_with_its_install(folder, tmp_path, monkeypatch, capsys):
    packages = [package for _, needed in RUNTIMES.values() for package in needed]
    loaded = [name for name in sys.modules if name.partition('.')[0] in packages]
    for name in packages + loaded:
        monkeypatch.setitem(sys.modules, name, None)
    run(folder / 'detector', folder / 'photographs', '-o', tmp_path / 'out')
    printed = capsys.readouterr().out
    for runtime in RUNTIMES:
        assert re.search(rf'^{runtime} +(import of|No module named) .*: pip install {runtime}', printed, re.M), printed


@pytest.mark.parametrize('score_thresh, same, difference', [(None, 0, 'nan'), (1.0, 3, '0.0e+00')])
def test_runtime_that_finds_nothing_is_told(score_thresh, same, difference, folder, tmp_path, monkeypatch, capsys):
    # over 1.0, PyTorch finds nothing, either
    torch.manual_seed(0)
    model = randomize(create_ssdlite('mobilenext_035', 3, 'voc', 64, score_thresh=score_thresh))
    model.save_pretrained(tmp_path / 'detector')
    nothing = [np.zeros((1, RawDetector(model.eval()).sizes.shape[1], size), np.float32) for size in (4, 3)]
    for _, needed in RUNTIMES.values():
        for package in needed:
            monkeypatch.setitem(sys.modules, package, None)
    network = SimpleNamespace(to_tuple=lambda: nothing)
    monkeypatch.setitem(sys.modules, 'openvino', SimpleNamespace(compile_model=lambda *_: lambda image: network))
    run(tmp_path / 'detector', folder / 'photographs', '-o', tmp_path / 'out')
    line, = (line for line in capsys.readouterr().out.splitlines() if line.startswith('openvino'))
    assert re.search(rf' in {same} of 3 +{re.escape(difference)} +{re.escape(difference)}$', line), line


def test_bad_input_is_told_in_a_line(folder, tmp_path):
    for detector, photographs, output, told in (
            (folder / 'detector', tmp_path, tmp_path / 'out', 'has no photograph'),
            (folder / 'detector', tmp_path / 'none', tmp_path / 'out', 'has no photograph'),
            (tmp_path, folder / 'photographs', tmp_path / 'out', 'is not the folder of a detector'),
            (folder / 'detector', folder / 'photographs', tmp_path, 'exists: remove it, or give another --output'),
    ):
        with pytest.raises(SystemExit, match=told):
            run(detector, photographs, '-o', output)
    assert not (tmp_path / 'out').exists()


def test_script_has_the_nms_of_the_page():
    page = (ROOT / 'docs' / 'deployment.md').read_text(encoding='utf-8')
    function, = re.findall(r'^def nms\(.*?(?=^```)', page, re.M | re.S)
    assert function in SCRIPT.read_text(encoding='utf-8')
