"""Tools that put a network into another, look into it, change it, or draw and measure what it found."""
import re

import pytest
from tools import run_python

pytestmark = [pytest.mark.slow, pytest.mark.tools]


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


def test_torchvision(use, cells):
    found = use('torchvision', cells)
    assert found['maps'] == {'blocks.2': [1, 96, 8, 8], 'blocks.4': [1, 192, 4, 4], 'classifier': [1, 10]}
    assert found['last'] < 0.75 * found['first'] and min(found['best']) > 0.8


def test_grad_cam(use, photographs, tmp_path):
    found = use('grad-cam', photographs / 'cat.jpg', photographs / 'horses.jpg')
    assert found['left'] > 0.8 and found['right'] > 0.8  # of the heat for the class of the left, and of the right
    assert (tmp_path / 'cat.png').stat().st_size > 1000


def test_torchcam(use, photographs):
    found = use('torchcam', photographs / 'cat.jpg', photographs / 'horses.jpg')
    assert found.keys() == {'GradCAM', 'LayerCAM'} and all(min(shares) > 0.8 for shares in found.values())


def test_captum(use, photographs):
    found = use('captum', photographs / 'cat.jpg')
    assert found['sum'] == pytest.approx(found['explained'], rel=0.03)
    assert found['without_most'] < found['explained'] / 1.5 < found['without_least']
    assert found['heat'] == [1, 1, 64, 64]


def test_torch_pruning(use, tiles):
    found = use('torch-pruning', tiles)
    assert found['macs'][1] < 0.45 * found['macs'][0] and found['parameters'][1] < 0.45 * found['parameters'][0]
    trained, pruned, again = found['accuracies']
    assert pruned < 0.8 < 0.88 < again and trained > 0.95


def test_torchao(use, photographs):
    found = use('torchao', photographs)
    assert found['same'] == found['of'] == 8 and found['differ'] and found['correlation'] > 0.99
    assert found['quantized'] == found['convolutions'] + 1 == 75  # and the classifier


def test_thop(use):
    """It passes over the batch norms, of every network of timm."""
    found = use('thop')
    for name, macs in ('mobilenext_100', 311.4e6), ('mobilenetv2_100', 300.8e6):
        assert found[name]['macs'] == pytest.approx(macs, abs=0.1e6)
        assert found[name]['counted'] == found[name]['parameters'] - found[name]['of_batch_norms']


def test_torchinfo(use):
    assert use('torchinfo') == dict(parameters=3_535_416, macs=pytest.approx(311.3e6, abs=0.1e6))


def test_timm_info(use):
    found = use('timm-info')
    assert len(found['found']['models']) == 17
    described = found['described']
    assert described['num_params'] == 871_304 and described['num_channels_per_feature'] == [16, 72, 96, 192, 1280]
    assert described['pretrained_weights'] == [{'tag': 'cifar10', 'license': 'apache-2.0'}]


def test_timmx(use, photographs):
    assert use('timmx', photographs / 'cat.jpg') == dict(label='cat', score=pytest.approx(0.692, abs=5e-4))


@pytest.fixture(scope='module')
def detections(cells, tmp_path_factory):
    """What our own commands write of the photographs that a detector was trained on, and the AP50 that they print."""
    folder = tmp_path_factory.mktemp('detections')
    train = ('--backbone mobilenext_050.cifar10 --pretrained --img-size 128 --batch-size 4 --epochs 16 --opt adamw'
             ' --lr 0.004 --no-aug --cache --clip-grad 10 --val-interval 16').split()
    detect = '-m', 'timm_mobilenext', 'detect'
    run_python('supervision', folder, *detect, 'train', '-o', 'out', *train)
    printed = run_python('supervision', folder, *detect, 'eval', 'out/last', '--split', 'train')
    photographs = sorted((cells / 'JPEGImages').iterdir())
    predict = 'predict', 'out/last', *photographs, '-o', 'boxes', '--score-thresh', 0.001
    run_python('supervision', folder, *detect, *predict)
    ap50 = float(re.search(r'^AP50 +([\d.]+) %$', printed, re.M)[1]) / 100
    names = ','.join((cells / 'ImageSets' / 'Main' / 'train.txt').read_text().split())
    return folder / 'boxes' / 'detections.json', names, ap50


def test_supervision(use, cells, detections, tmp_path):
    file, names, ap50 = detections
    found = use('supervision', cells, file, names)
    assert ap50 > 0.3 and found['ap50'] == pytest.approx(ap50, abs=0.01)
    assert found['classes'] == ['Platelets', 'RBC', 'WBC']
    assert 0 < found['kept'] < found['count'] and found['drawn'] > 0.01
    assert (tmp_path / 'boxes.png').exists()


def test_torchmetrics(use, cells, detections, photographs):
    file, names, ap50 = detections
    found = use('torchmetrics', cells, file, names, photographs)
    assert found['ap50'] == pytest.approx(ap50, abs=0.01) and found['top1'] == 0.5
