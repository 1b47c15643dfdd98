"""timm-mobilenext predict, and the weights that come with the package, on real photographs."""
import json
from pathlib import Path

import pytest
import torch
from helpers import OFFLINE, run_cli, SHIPPED
from PIL import Image

import timm
from timm.models import save_for_hf

import timm_mobilenext

pytestmark = pytest.mark.tools

PHOTOGRAPHS = Path(timm_mobilenext.__file__).parent / 'photographs'
CLASSES = ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck']
# of photographs/README.md
TRUE = dict(cat='cat', dog='dog', duck='bird', horses='horse', kitten='cat', macaw='bird', moose='deer', owl='bird')
RIGHT = {'cat', 'horses', 'kitten', 'moose'}  # that the shipped network names right


def rows_of(printed):
    """The table's rows: image, class, percent."""
    lines = [line.split() for line in printed.splitlines()]
    return {line[0]: (line[1], float(line[2])) for line in lines if len(line) > 3 and line[3] == '%'}


@torch.inference_mode()
def expected(model, file):
    transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))
    probabilities = model(transform(Image.open(file).convert('RGB'))[None])[0].softmax(0)
    return int(probabilities.argmax()), round(100 * float(probabilities.max()), 1)


def test_shipped_weights_load_with_timm_alone_and_name_photographs(tmp_path):
    model = timm.create_model(SHIPPED, pretrained=True).eval()
    files = sorted(PHOTOGRAPHS.glob('*.jpg'))
    rows = rows_of(run_cli(OFFLINE, 'predict', *files, '-o', tmp_path / 'out.png'))
    assert list(rows) == [file.name for file in files] and len(files) == 8
    for file in files:
        index, percent = expected(model, file)
        assert rows[file.name] == (CLASSES[index], pytest.approx(percent, abs=0.1))
    right = {file.stem for file in files if rows[file.name][0] == TRUE[file.stem]}
    assert right >= RIGHT, right
    with Image.open(tmp_path / 'out.png') as picture:
        picture.load()
        assert picture.width > 1000 and len(picture.convert('RGB').getcolors(2 ** 24)) > 10_000  # photographs are in it


def save(folder, label_names=None, descriptions=None, **kwargs):
    """A Hub folder of a network that is sure of class 1 by 89 % or more, to the name that --model takes."""
    model = timm.create_model('mobilenext_035', **kwargs)
    torch.nn.init.zeros_(model.classifier.weight)
    model.classifier.bias.data[1] = 9
    save_for_hf(model, str(folder), safe_serialization='both')
    config = json.loads((folder / 'config.json').read_text())
    config.update(label_names=label_names, label_descriptions=descriptions)
    (folder / 'config.json').write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return f'local-dir:{folder}'


@pytest.mark.parametrize('label_names, descriptions, name', [
    (None, None, 'class 1'),
    (['one', 'two', 'three'], None, 'two'),
    ([7, 8, 9], None, '8'),
    ({'0': 'one', '1': 'two', '2': 'three'}, None, 'two'),
    (['one', 'two', 'three'], {'two': 'the second of three, and a long name for it'}, 'the second of three, and a'),
])
def test_classes_have_the_names_that_the_folder_tells(tmp_path, label_names, descriptions, name):
    model = save(tmp_path / 'model', label_names, descriptions, num_classes=3)
    row = run_cli(OFFLINE, 'predict', PHOTOGRAPHS / 'cat.jpg', '--model', model, '--topk', 1).splitlines()[1]
    assert row.removeprefix('cat.jpg').strip().startswith(name)


def test_classes_of_imagenet_have_their_names(tmp_path):
    model = save(tmp_path / 'model')
    row = run_cli(OFFLINE, 'predict', PHOTOGRAPHS / 'cat.jpg', '--model', model).splitlines()[1]
    assert row.split()[1] == 'goldfish'


def test_network_of_one_channel_takes_photographs(tmp_path):
    model = save(tmp_path / 'model', num_classes=3, in_chans=1)
    assert 'class 1' in run_cli(OFFLINE, 'predict', PHOTOGRAPHS / 'cat.jpg', '--model', model)


@pytest.mark.parametrize('kind', ['greyscale', '16 bits', 'palette', 'alpha', 'turned', 'one pixel'])
def test_images_of_every_kind(tmp_path, kind):
    with Image.open(PHOTOGRAPHS / 'owl.jpg') as image:
        image.load()
    grey = image.convert('L')
    file, same = tmp_path / 'image.png', tmp_path / 'same.png'
    grey.save(same)
    if kind == 'greyscale':
        grey.save(file)
    elif kind == '16 bits':
        pixels = [value * 257 for value in grey.tobytes()]
        wide = Image.new('I;16', grey.size)
        wide.putdata(pixels)
        wide.save(file)
    elif kind == 'palette':
        grey.convert('P').save(file)
    elif kind == 'alpha':
        grey.convert('RGBA').save(file)
    elif kind == 'turned':
        exif = Image.Exif()
        exif[0x0112] = 6  # the camera was turned by 90 degrees
        grey.transpose(Image.Transpose.ROTATE_90).save(file, exif=exif)
    else:
        grey.resize((1, 1)).save(file)
        grey.resize((1, 1)).save(same)
    rows = rows_of(run_cli(OFFLINE, 'predict', file, same))
    assert rows[file.name][0] == rows['same.png'][0]
    assert rows[file.name][1] == pytest.approx(rows['same.png'][1], abs=1)


def break_image(tmp_path, how):
    file = tmp_path / 'image.jpg'
    if how == 'folder':
        file.mkdir()
    elif how == 'text':
        file.write_text('no image')
    elif how == 'half':
        file.write_bytes((PHOTOGRAPHS / 'cat.jpg').read_bytes()[:-6000])
    elif how == 'empty':
        file.touch()
    return file


@pytest.mark.parametrize('how, words', [
    ('missing', 'is not there'),
    ('folder', 'is a folder'),
    ('text', 'cannot be read as an image'),
    ('half', 'cannot be read as an image'),
    ('empty', 'cannot be read as an image'),
])
def test_bad_image_is_told_in_one_line(tmp_path, how, words):
    file = break_image(tmp_path, how)
    error = run_cli(OFFLINE, 'predict', PHOTOGRAPHS / 'cat.jpg', file, '-o', tmp_path / 'out.png', code=1)
    assert f'{file} {words}' in error
    assert not (tmp_path / 'out.png').exists()


@pytest.mark.parametrize('model, words', [
    ('mobilenext_50', 'did you mean mobilenext_050'),
    ('mobilenext_050', 'has no weights: give one of mobilenext_050.cifar10'),
    ('mobilenext_035', 'has no weights: give a model that has'),
    ('mobilenext_050.cifar100', 'has no weights: give one of mobilenext_050.cifar10'),
    ('local-dir:/nowhere', '/nowhere has no config.json'),
    ('hf-hub:user/name', 'timm-mobilenext pull user/name'),
    ('vit_small_patch16_224.dino', 'has no classifier'),
])
def test_model_without_weights_is_told_in_one_line(model, words):
    assert words in run_cli(OFFLINE, 'predict', PHOTOGRAPHS / 'cat.jpg', '--model', model, code=1)


@pytest.mark.parametrize('output, words', [
    ('out.jpg', 'is no PNG'),
    ('nowhere/out.png', 'is no folder'),
    ('folder.png', 'is a folder'),
    ('image.png', 'is one of the images'),
])
def test_bad_output_is_told_in_one_line(tmp_path, output, words):
    (tmp_path / 'folder.png').mkdir()
    Image.new('RGB', (8, 8)).save(tmp_path / 'image.png')
    assert words in run_cli(OFFLINE, 'predict', tmp_path / 'image.png', '-o', tmp_path / output, code=1)


def test_picture_of_too_many_images_is_refused(tmp_path):
    files = [PHOTOGRAPHS / 'cat.jpg'] * 101
    assert 'takes 100 images at most, here are 101' in run_cli(
        OFFLINE, 'predict', *files, '-o', tmp_path / 'out.png', code=1)
