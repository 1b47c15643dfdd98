"""A detector from training to boxes, in processes of their own, as the README has it."""
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from helpers import hub_env, OFFLINE, randomize, run_cli
from PIL import Image
from safetensors.torch import load_file, save_file
from torchvision.ops import box_iou

from timm_mobilenext.detection import create_ssdlite, SSDLite
from timm_mobilenext.detection.data import BCCD, load_split
from timm_mobilenext.detection.evaluate import run_eval
from timm_mobilenext.detection.export import export_onnx, run_export
from timm_mobilenext.detection.predict import load_detector, run_predict
from timm_mobilenext.shared.errors import UserError

pytestmark = [pytest.mark.tools, pytest.mark.slow]

PHOTOGRAPHS = sorted((BCCD / 'JPEGImages').glob('*.jpg'))


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A detector that has seen enough to find cells."""
    output = tmp_path_factory.mktemp('trained') / 'out'
    run_cli(OFFLINE, 'detect', 'train', '-o', output, '--backbone', 'mobilenext_050.cifar10', '--pretrained',
            '--img-size', 128, '--batch-size', 4, '--epochs', 16, '--opt', 'adamw', '--lr', 0.004, '--no-aug',
            '--cache', '--clip-grad', 10, '--val-interval', 16)
    return output / 'last'


def test_train_eval_predict(trained, tmp_path):
    printed = run_cli(OFFLINE, 'detect', 'eval', trained, '--split', 'train', '-o', tmp_path / 'found.json')
    assert '8 images, 131 boxes' in printed
    ap50 = float(re.search(r'^AP50 +([\d.]+) %$', printed, re.M)[1])
    assert ap50 > 20
    # what it stored is what it measured
    again = run_cli(OFFLINE, 'detect', 'eval', '--split', 'train', '--detections', tmp_path / 'found.json')
    assert printed[printed.index('COCO'):printed.index('\n\nwritten')].rstrip() == again[again.index('COCO'):].rstrip()

    printed = run_cli(OFFLINE, 'detect', 'predict', trained, *PHOTOGRAPHS[:3], '-o', tmp_path / 'boxes',
                      '--score-thresh', 0.3)
    assert {file.name for file in (tmp_path / 'boxes').iterdir()} == {
        'detections.json', *(f'{file.stem}.png' for file in PHOTOGRAPHS[:3])}
    results = json.loads((tmp_path / 'boxes' / 'detections.json').read_text())
    for file, result in zip(PHOTOGRAPHS[:3], results, strict=True):
        boxes = result['boxes']
        assert re.search(rf'^{file.name} +{len(boxes)}( |$)', printed, re.M)
        assert all(box['score'] >= 0.3 and box['class'] in ('Platelets', 'RBC', 'WBC') for box in boxes)
        with Image.open(tmp_path / 'boxes' / f'{file.stem}.png') as drawn, Image.open(file) as photograph:
            assert drawn.size == photograph.size
            changed = np.abs(np.asarray(drawn).astype(int) - np.asarray(photograph.convert('RGB'))).sum(2) > 30
        for box in boxes:
            x1, y1, x2, _ = (int(n) for n in box['box'])
            assert changed[max(0, y1), max(0, x1):max(1, x2)].mean() > 0.8
        assert bool(boxes) == bool(changed.any())
    assert sum(len(result['boxes']) for result in results) > 3


def test_export_finds_the_same_boxes(trained, tmp_path):
    """Of 21 images, one without a detection among them."""
    printed = run_cli(OFFLINE, 'detect', 'export', trained, '-o', tmp_path / 'detector.onnx')
    assert 'Platelets, RBC, WBC' in printed
    session = onnxruntime.InferenceSession(tmp_path / 'detector.onnx')
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata['class_names'].splitlines() == ['Platelets', 'RBC', 'WBC'] and metadata['img_size'] == '128'
    model = SSDLite.from_pretrained(trained).eval()
    with torch.no_grad():  # so that a black image has no detection
        model.score_thresh = model([torch.zeros(3, 128, 128)])[0]['scores'].max().item() + 0.01
    export_onnx(model, tmp_path / 'detector.onnx')
    session = onnxruntime.InferenceSession(tmp_path / 'detector.onnx')
    images = []
    for file in PHOTOGRAPHS:
        with Image.open(file) as photograph:
            images += [small := photograph.resize((128, 128)), small.transpose(Image.Transpose.ROTATE_90)]
    numbers = []
    for image in [*(np.asarray(image) for image in images[:20]), np.zeros((128, 128, 3), dtype=np.uint8)]:
        x = torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)[None]
        boxes, scores, labels = (
            torch.from_numpy(output) for output in session.run(None, {'image': x.contiguous().numpy()}))
        with torch.no_grad():
            found = model([x[0]])[0]
        numbers.append(len(scores))
        assert len(scores) == len(found['scores'])
        if len(scores):
            assert torch.equal(labels, found['labels'])
            assert (scores - found['scores']).abs().max() < 1e-4
            assert box_iou(boxes, found['boxes']).diagonal().min() > 0.999
    assert numbers[-1] == 0 and sum(numbers) > 50, numbers


def test_export_of_the_focal_preset(tmp_path):
    """Sigmoids without a background, of random weights that find a hundred boxes."""
    model = randomize(create_ssdlite('mobilenext_035', 3, 'coco', img_size=64, score_thresh=0.2)).eval()
    export_onnx(model, tmp_path / 'detector.onnx')
    session = onnxruntime.InferenceSession(tmp_path / 'detector.onnx')
    for x in torch.rand(3, 1, 3, 64, 64):
        boxes, scores, labels = (torch.from_numpy(output) for output in session.run(None, {'image': x.numpy()}))
        with torch.no_grad():
            found = model([x[0]])[0]
        assert len(scores) == len(found['scores']) > 20
        assert (scores - found['scores']).abs().max() < 1e-4
        assert set(labels.tolist()) <= {1, 2, 3} and (boxes - found['boxes']).abs().max() < 0.1


def test_push_pull_predict(trained, hub, tmp_path):
    """By huggingface_hub's mixin, to a Hub and back in another home."""
    env = hub_env(hub, tmp_path / 'home')
    env.pop('HF_HUB_OFFLINE', None)
    code = f'''
from timm_mobilenext.detection import SSDLite
SSDLite.from_pretrained({str(trained)!r}).push_to_hub("alice/cells")
'''
    pushed = subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True, timeout=300)
    assert pushed.returncode == 0, pushed.stderr
    here = run_cli(OFFLINE, 'detect', 'predict', trained, PHOTOGRAPHS[0], '-o', tmp_path / 'here')
    there = run_cli(
        hub_env(hub, tmp_path / 'other'), 'detect', 'predict', 'hf-hub:alice/cells@main', PHOTOGRAPHS[0],
        '-o', tmp_path / 'there')
    assert here.splitlines()[:2] == there.splitlines()[:2]
    name = 'detections.json'
    assert (tmp_path / 'here' / name).read_bytes() == (tmp_path / 'there' / name).read_bytes()
    assert env['HF_TOKEN'] not in pushed.stdout + pushed.stderr


@pytest.fixture(scope='module')
def untrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp('untrained')
    create_ssdlite('mobilenext_035', 3, img_size=64, class_names=['Platelets', 'RBC', 'WBC']).save_pretrained(folder)
    return folder


def make_one_pixel(file):
    Image.new('RGB', (1, 1)).save(file)


def make_grey(file):
    Image.new('L', (50, 40), 99).save(file)


def make_transparent(file):
    Image.new('RGBA', (50, 40)).save(file)


def make_sixteen_bits(file):
    Image.fromarray((np.arange(2000).reshape(40, 50) * 30).astype('uint16')).save(file)


@pytest.mark.parametrize('make', [make_one_pixel, make_grey, make_transparent, make_sixteen_bits])
def test_predicts_on_any_image(untrained, tmp_path, make):
    make(tmp_path / 'odd.png')
    run_cli(OFFLINE, 'detect', 'predict', untrained, tmp_path / 'odd.png', '-o', tmp_path / 'out', '--score-thresh', 0)
    with Image.open(tmp_path / 'out' / 'odd.png') as drawn, Image.open(tmp_path / 'odd.png') as given:
        assert drawn.size == given.size


def test_bad_image_does_not_keep_the_others_from_being_done(untrained, tmp_path):
    bad = tmp_path / 'bad.jpg'
    bad.write_text('no image')
    names = [file.stem for file in PHOTOGRAPHS[:2]]
    with pytest.raises(UserError, match='bad.jpg cannot be read as an image'):
        run_predict([PHOTOGRAPHS[0], bad, PHOTOGRAPHS[1]], str(untrained), tmp_path / 'out')
    results = json.loads((tmp_path / 'out' / 'detections.json').read_text())
    assert [result['file'] for result in results] == [str(file) for file in PHOTOGRAPHS[:2]]
    assert sorted(file.name for file in (tmp_path / 'out').iterdir()) == sorted(
        ['detections.json', *(f'{name}.png' for name in names)])
    with pytest.raises(UserError, match='bad.jpg cannot be read as an image'):
        run_predict([bad], str(untrained), tmp_path / 'nothing')
    assert not (tmp_path / 'nothing').exists()


def test_bad_input_is_reported_in_one_line(untrained, tmp_path):
    photograph = PHOTOGRAPHS[0]
    (tmp_path / 'cut.jpg').write_bytes(photograph.read_bytes()[:5000])
    (tmp_path / 'file').write_text('')
    Image.new('RGB', (9, 9)).save(tmp_path / 'own.png')
    for arguments, told in (
            (['predict', untrained, tmp_path / 'cut.jpg', '-o', tmp_path / 'out'], 'cut.jpg cannot be read'),
            (['predict', untrained, tmp_path / 'none.jpg', '-o', tmp_path / 'out'], 'none.jpg is not there'),
            (['predict', untrained, photograph, '-o', tmp_path / 'file'], 'is a file: give a folder'),
            (['predict', untrained, tmp_path / 'own.png', '-o', tmp_path], 'own.png would be replaced by its picture'),
            (['eval', untrained, '-o', tmp_path], 'give the name of a JSON file'),
            (['eval', untrained, '--device', 'abacus'], 'There is no device abacus here'),
            (['predict', tmp_path, photograph, '-o', tmp_path / 'out'], 'is not the folder of a detector'),
            (['eval'], 'Give either a detector or --detections'),
            (['export', untrained, '-o', tmp_path / 'detector.pt'], 'give a name that ends in .onnx'),
    ):
        assert told in run_cli(OFFLINE, 'detect', *arguments, code=1)


@pytest.mark.parametrize('name', ['twin.jpg', 'twin.png', 'Twin.JPG'])
def test_images_whose_pictures_would_be_one(tmp_path, name):
    """Also where a file system takes A.png and a.png for one file."""
    (tmp_path / 'other').mkdir()
    for file in (tmp_path / 'twin.jpg', tmp_path / 'other' / name):
        file.touch()
    with pytest.raises(UserError, match=f'twin.jpg and .*other/{name} would have the same picture'):
        run_predict([tmp_path / 'twin.jpg', tmp_path / 'other' / name], 'detector', tmp_path / 'out')


def test_missing_library_is_named_with_its_extra_after_bad_arguments(untrained, tmp_path, monkeypatch):
    for module in ('onnx', 'pycocotools'):
        monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    with pytest.raises(UserError, match=r"^This needs onnx: pip install 'timm-mobilenext\[detection\]'$"):
        run_export(str(untrained), tmp_path / 'detector.onnx')
    with pytest.raises(UserError, match='is not the folder of a detector'):
        run_export(str(tmp_path), tmp_path / 'detector.onnx')
    with pytest.raises(UserError, match=r"^This needs pycocotools: pip install 'timm-mobilenext\[detection\]'$"):
        run_eval(str(untrained), None, 'val')
    with pytest.raises(UserError, match='gone.txt is not there'):
        run_eval(str(untrained), None, 'gone')


def test_detector_of_other_classes_does_not_measure(untrained, tmp_path):
    split = load_split(BCCD, 'val')
    split.truth['categories'][0]['name'] = 'Parasites'
    (tmp_path / 'truth.json').write_text(json.dumps(split.truth))
    for sample in split.samples:
        shutil.copy(sample.file, tmp_path)
    assert 'unknown class Parasites' in run_cli(
        OFFLINE, 'detect', 'eval', untrained, '--data-dir', tmp_path, '--split', 'truth.json', code=1)


@pytest.mark.parametrize('spoil, told', [
    (lambda config: config.update(num_classes=4), 'There are 3 class names for 4 classes'),
    (lambda config: config.update(num_classes=4, class_names=None), 'size mismatch'),
    (lambda config: config.update(backbone='mobilenext_050'), 'size mismatch'),
    (lambda config: config.update(backbone='hf-hub:evil/net'), "timm has no model 'hf-hub:evil/net'"),
    (lambda config: config.update(preset='none'), "preset 'none'"),
    (lambda config: config.update(score_thresh='0.5'), "score_thresh '0.5' is not a number from 0 to 1"),
])
def test_config_that_disagrees_with_the_weights(untrained, tmp_path, spoil, told):
    shutil.copytree(untrained, tmp_path / 'detector')
    file = tmp_path / 'detector' / 'config.json'
    config = json.loads(file.read_text())
    spoil(config)
    file.write_text(json.dumps(config))
    assert told in run_cli(OFFLINE, 'detect', 'predict', tmp_path / 'detector', PHOTOGRAPHS[0], '-o', tmp_path / 'out',
                           code=1)


def test_weights_that_are_not_numbers_are_refused(untrained, tmp_path):
    shutil.copytree(untrained, tmp_path / 'detector')
    file = tmp_path / 'detector' / 'model.safetensors'
    save_file({key: torch.full_like(value, np.nan) if value.is_floating_point() else value
               for key, value in load_file(file).items()}, file)
    with pytest.raises(UserError, match='detector is not a detector that can be used: The weights are damaged, NaN'):
        load_detector(str(tmp_path / 'detector'))
