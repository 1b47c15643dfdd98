"""Tools that take a network apart, or put one together."""
import pytest
from tools import run_python

pytestmark = [pytest.mark.slow, pytest.mark.tools]


def test_grad_cam(use, photographs, tmp_path):
    found = use('grad-cam', photographs / 'cat.jpg', photographs / 'horses.jpg')
    assert found['left'] > 0.8 and found['right'] > 0.8  # of the heat for the class of the left, and of the right
    assert (tmp_path / 'cat.png').stat().st_size > 1000


def test_segmentation_models_pytorch(use, masks):
    found = use('segmentation-models-pytorch', masks)
    assert len(found['shapes']) == 12 and all(shape == [2, 2, 128, 128, True] for shape in found['shapes'].values())
    maps = [[16, 2], [48, 4], [64, 8], [136, 16], [1280, 32]]  # channels and stride
    assert found['depths'] == {str(depth): maps[:depth] for depth in range(1, 6)}
    assert found['strides'] == {'8': 8, '16': 16, '32': 32}
    assert found['iou'] > 0.75 and found['iou_of_all'] < 0.1


def test_transformers(use, photographs, tmp_path):
    weights = photographs.parent / 'weights' / 'mobilenext_050.cifar10.safetensors'
    convert = 'convert', weights, '--model', 'mobilenext_050.cifar10', '-o', 'hub'
    run_python('transformers', tmp_path, '-m', 'timm_mobilenext', *convert)
    found = use('transformers', 'hub', photographs / 'cat.jpg')
    assert found['error'] < 1e-5 and found['error_again'] < 1e-5 and found['gradients'] == 1
    assert found['answer']['label'] == 'cat' and found['answer']['score'] == pytest.approx(0.692, abs=5e-4)
    assert found['channels'] == [96, 192, 1280]
    assert found['maps'] == [[1, 96, 8, 8], [1, 192, 4, 4], [1, 1280, 2, 2]]


def test_thop(use):
    """It passes over the batch norms, of every network of timm."""
    found = use('thop')
    for name, macs in ('mobilenext_100', 311.4e6), ('mobilenetv2_100', 300.8e6):
        assert found[name]['macs'] == pytest.approx(macs, abs=0.1e6)
        assert found[name]['counted'] == found[name]['parameters'] - found[name]['of_batch_norms']


def test_torchinfo(use):
    assert use('torchinfo') == dict(parameters=3_535_416, macs=pytest.approx(311.3e6, abs=0.1e6))
