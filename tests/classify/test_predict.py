"""timm-mobilenext predict, and the weights that come with the package, on real photographs."""
import io
import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from helpers import Evil, hub_env, OFFLINE, run_cli, SHIPPED
from PIL import Image
from typer.testing import CliRunner

import timm
from timm.models import save_for_hf

import timm_mobilenext
from timm_mobilenext.classify import demo
from timm_mobilenext.classify.plots import draw_predictions
from timm_mobilenext.classify.predict import Prediction
from timm_mobilenext.cli.main import app, main

pytestmark = [pytest.mark.tools, pytest.mark.slow]

PHOTOGRAPHS = Path(timm_mobilenext.__file__).parent / 'photographs'
CLASSES = ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck']
TRUE = dict(re.findall(r'^\| `(\w+)\.jpg` \| (\w+)', (PHOTOGRAPHS / 'README.md').read_text(encoding='utf-8'), re.M))
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


def test_demo_knows_what_is_true_of_each_photograph():
    assert TRUE == demo.PHOTOGRAPHS and set(TRUE) == {file.stem for file in PHOTOGRAPHS.glob('*.jpg')}


def test_picture_says_what_is_right(tmp_path):
    """The first bar is greener than red where the class is true, redder than green where it is not, else gray."""
    colors = []
    for number, truths in enumerate((['cat'], ['dog'], ())):
        prediction = Prediction(Path('a.png'), Image.new('RGB', (40, 30)), [('cat', 0.9), ('dog', 0.1)])
        draw_predictions(tmp_path / f'{number}.png', 'a title', [prediction], truths)
        with Image.open(tmp_path / f'{number}.png') as picture:
            found = picture.convert('RGB').getcolors(2 ** 24)
        # the largest part of the picture that is neither white nor of the black photograph
        colors.append(max((count, color) for count, color in found if 100 < min(color) < 240)[1])
    right, wrong, unknown = colors
    assert right[1] > right[0] + 30 and wrong[0] > wrong[1] + 30 and max(unknown) - min(unknown) < 30


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
def test_classes_have_the_names_that_the_folder_gives(tmp_path, label_names, descriptions, name):
    model = save(tmp_path / 'model', label_names, descriptions, num_classes=3)
    row = run_cli(OFFLINE, 'predict', PHOTOGRAPHS / 'cat.jpg', '--model', model, '--topk', 1).splitlines()[1]
    assert row.removeprefix('cat.jpg').strip().startswith(name)


def test_classes_of_imagenet_have_their_names(tmp_path):
    model = save(tmp_path / 'model')
    row = run_cli(OFFLINE, 'predict', PHOTOGRAPHS / 'cat.jpg', '--model', model).splitlines()[1]
    assert row.split()[1] == 'goldfish'


@pytest.fixture
def on_hub(hub, tmp_path):
    """Alice's model of three classes, sure of the second one. A later commit has other names."""
    save(tmp_path / 'model', ['one', 'two', 'three'], num_classes=3)
    hub.create('alice/model')
    files = {name: (tmp_path / 'model' / name).read_bytes() for name in ('config.json', 'model.safetensors')}
    hub.put('alice/model', dict(files, **{'notes/of.txt': b'notes'}))
    first = hub.repo('alice/model').history()[0]
    config = json.loads(files['config.json'])
    config['label_names'] = ['a', 'b', 'c']
    hub.put('alice/model', {'config.json': json.dumps(config).encode()})
    return first


def test_model_on_the_hub(hub, on_hub, tmp_path):
    env = hub_env(hub, tmp_path / 'home')
    cat = PHOTOGRAPHS / 'cat.jpg'
    assert rows_of(run_cli(env, 'predict', cat, '--model', 'hf-hub:alice/model'))['cat.jpg'][0] == 'b'
    assert rows_of(run_cli(env, 'predict', cat, '--model', f'hf_hub:alice/model@{on_hub}'))['cat.jpg'][0] == 'two'
    # only what is needed was downloaded, and then it needs no network
    downloaded = {file.name for file in (tmp_path / 'home').rglob('snapshots/*/*')}
    assert downloaded == {'config.json', 'model.safetensors'}
    offline = dict(env, HF_HUB_OFFLINE='1', HF_ENDPOINT='http://127.0.0.1:9')
    assert rows_of(run_cli(offline, 'predict', cat, '--model', 'hf-hub:alice/model'))['cat.jpg'][0] == 'b'


def test_model_on_the_hub_is_not_trusted(hub, on_hub, tmp_path):
    env = hub_env(hub, tmp_path / 'home')
    torch.save(Evil(tmp_path / 'executed'), tmp_path / 'evil.bin')
    repo = hub.repo('alice/model')
    tree = {name: entry for name, entry in repo.tree('main').items() if name != 'model.safetensors'}
    repo.commit('refs/heads/main', repo.resolve('main'), tree, 'no safetensors')
    for files, words in (
            ({}, ['alice/model has no weights']),
            ({'pytorch_model.bin': (tmp_path / 'evil.bin').read_bytes()}, ['refused', 'nothing is executed']),
            ({'pytorch_model.bin': (tmp_path / 'model' / 'pytorch_model.bin').read_bytes()}, None),
            ({'config.json': b'{'}, ['alice/model', 'JSON']),
    ):
        if files:
            hub.put('alice/model', files)
        arguments = ['predict', PHOTOGRAPHS / 'cat.jpg', '--model', 'hf-hub:alice/model']
        said = run_cli(env, *arguments, code=1 if words else 0)
        assert all(word in said for word in words or ['b']) and str(tmp_path / 'home') not in said, said
    assert not (tmp_path / 'executed').exists()
    assert 'has no alice/nothing' in run_cli(
        env, 'predict', PHOTOGRAPHS / 'cat.jpg', '--model', 'hf-hub:alice/nothing', code=1)


@pytest.mark.parametrize('channels', [2, 4])
def test_network_of_other_channels_is_told(tmp_path, channels):
    result = predict(PHOTOGRAPHS / 'cat.jpg', '--model', save(tmp_path / 'model', num_classes=3, in_chans=channels))
    assert result.exit_code == 1 and len(result.stderr.splitlines()) == 1
    assert f'takes images of {channels} channels, and a photograph has 3 (colour) or 1 (greyscale)' in result.stderr


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
def test_bad_image_is_reported_in_one_line(tmp_path, how, words):
    file = break_image(tmp_path, how)
    error = run_cli(OFFLINE, 'predict', PHOTOGRAPHS / 'cat.jpg', file, '-o', tmp_path / 'out.png', code=1)
    assert f'{file} {words}' in error
    # what is not there is told before anything is done
    assert (tmp_path / 'out.png').exists() == (how not in ('missing', 'folder'))


def predict(*arguments):
    return CliRunner().invoke(app, ['predict', *map(str, arguments)])


def test_bad_images_do_not_keep_the_others_from_being_named(tmp_path):
    bad = [tmp_path / f'{i}.jpg' for i in range(7)]
    for file in bad:
        file.write_text('no image')
    result = predict(bad[0], PHOTOGRAPHS / 'cat.jpg', *bad[1:], PHOTOGRAPHS / 'owl.jpg', '-o', tmp_path / 'out.png')
    assert result.exit_code == 1 and list(rows_of(result.stdout)) == ['cat.jpg', 'owl.jpg']
    told = f'Error: 7 of 9 images cannot be read: {", ".join(map(str, bad[:5]))} and 2 more. Repair'
    assert result.stderr.startswith(told) and (tmp_path / 'out.png').exists()
    (tmp_path / 'out.png').unlink()
    result = predict(*bad, '-o', tmp_path / 'out.png')
    assert result.exit_code == 1 and not result.stdout and not (tmp_path / 'out.png').exists()


@pytest.mark.skipif(sys.platform != 'linux', reason='other systems take no such names')
def test_name_that_is_not_utf8_is_printed(tmp_path, monkeypatch):
    shutil.copy(PHOTOGRAPHS / 'cat.jpg', os.fsencode(tmp_path) + b'/caf\xe9.jpg')
    stdout = io.TextIOWrapper(io.BytesIO(), 'utf-8', 'strict')  # as most terminals have it
    monkeypatch.setattr(sys, 'stdout', stdout)
    monkeypatch.setattr(sys, 'argv', ['timm-mobilenext', 'predict', *map(str, tmp_path.iterdir())])
    with pytest.raises(SystemExit) as end:
        main()
    stdout.seek(0)
    assert not end.value.code and r'caf\udce9.jpg  cat' in stdout.read()


@pytest.mark.parametrize('model, words', [
    ('mobilenext_50', 'did you mean mobilenext_050'),
    ('mobilenext_050', 'has no weights: give one of mobilenext_050.cifar10'),
    ('mobilenext_035', 'has no weights: give a model that has'),
    ('mobilenext_050.cifar100', 'has no weights: give one of mobilenext_050.cifar10'),
    ('local-dir:/nowhere', '/nowhere has no config.json'),
    ('local-network:folder', "no model 'local-network:folder'"),
    ('hf-hub:user/name', 'user/name is not in the cache'),
    ('hf-hub:name', 'give user/name'),
    ('hf-hub:user/name@a b', 'a revision'),
    ('resnet18.a1_in1k', 'timm/resnet18.a1_in1k is not in the cache'),
    ('vit_small_patch16_224.dino', 'has no classifier'),
])
def test_model_without_weights_is_reported_in_one_line(model, words):
    assert words in run_cli(OFFLINE, 'predict', PHOTOGRAPHS / 'cat.jpg', '--model', model, code=1)


@pytest.mark.parametrize('output, words', [
    ('out.jpg', 'is not a PNG'),
    ('nowhere/out.png', 'is not a folder'),
    ('folder.png', 'is a folder'),
    ('image.png', 'is one of the images'),
])
def test_bad_output_is_reported_in_one_line(tmp_path, output, words):
    (tmp_path / 'folder.png').mkdir()
    Image.new('RGB', (8, 8)).save(tmp_path / 'image.png')
    assert words in run_cli(OFFLINE, 'predict', tmp_path / 'image.png', '-o', tmp_path / output, code=1)


def test_device_that_is_not_there():
    assert 'There is no device abacus here' in run_cli(
        OFFLINE, 'predict', PHOTOGRAPHS / 'cat.jpg', '--device', 'abacus', code=1)


def test_network_that_does_not_work_at_the_size_of_its_images(tmp_path):
    save_for_hf(timm.create_model('vit_tiny_patch16_224', num_classes=3), str(tmp_path), safe_serialization='both')
    file = tmp_path / 'config.json'
    config = json.loads(file.read_text())
    config['pretrained_cfg']['test_input_size'] = [3, 32, 32]
    file.write_text(json.dumps(config))
    error = run_cli(OFFLINE, 'predict', PHOTOGRAPHS / 'cat.jpg', '--model', f'local-dir:{tmp_path}', code=1)
    assert 'The model does not work on images of 3 x 32 x 32: ' in error


def test_picture_of_too_many_images_is_refused(tmp_path):
    files = [PHOTOGRAPHS / 'cat.jpg'] * 101
    assert 'takes 100 images at most, here are 101' in run_cli(
        OFFLINE, 'predict', *files, '-o', tmp_path / 'out.png', code=1)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_shipped_weights_name_the_same_in_half_precision(dtype):
    model = timm.create_model('mobilenext_050.cifar10', pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))
    images = torch.stack([transform(Image.open(file).convert('RGB')) for file in sorted(PHOTOGRAPHS.glob('*.jpg'))])
    with torch.no_grad():
        expected, half = model(images), model.to(dtype)(images.to(dtype))
    assert half.dtype == dtype and torch.equal(half.argmax(1), expected.argmax(1))
