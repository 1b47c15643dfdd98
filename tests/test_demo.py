"""The demo as a user meets it: each run is a process of its own, on a tiny image folder"""
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

ENV = {**os.environ, 'HF_HUB_OFFLINE': '1', 'NO_COLOR': '1', 'PYTHONUNBUFFERED': '1'}
QUICK = ['--epochs', '1', '--img-size', '32', '--batch-size', '8']
LOAD = """
import json, sys, timm, torch
model = timm.create_model('local-dir:' + sys.argv[1], pretrained=True).eval()
logits = model(torch.zeros(1, 3, 32, 32))
cfg = {k: model.pretrained_cfg[k] for k in ('label_names', 'input_size', 'num_classes', 'mean', 'std', 'crop_pct')}
print(json.dumps(dict(cfg, shape=logits.shape)))
"""


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, '-m', 'timm_mobilenext.cli', 'demo', *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENV,
        # a test run in the background of a shell would hand on its deafness for Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def run(*arguments):
    process = start(*arguments)
    stdout, stderr = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def wait_for(condition, process):
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def files(folder):
    return {
        str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest()
        for f in sorted(folder.rglob('*')) if f.is_file()
    }


def names(folder):
    return {f.name for f in folder.iterdir()}


@pytest.fixture(scope='session')
def image_folder(tmp_path_factory):
    """24 digits of three classes to train, 12 to validate."""
    from sklearn.datasets import load_digits

    data = load_digits(n_class=3)
    folder = tmp_path_factory.mktemp('images')
    for i in range(36):
        split = folder / ('validation' if i % 3 == 0 else 'train')
        class_folder = split / ('zero', 'one', 'two')[data.target[i]]
        class_folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((data.images[i] * 15).astype('uint8')).save(class_folder / f'{i}.png')
    assert all(len(names(folder / split)) == 3 for split in ('train', 'validation'))
    return folder


@pytest.fixture
def own_folder(image_folder, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(image_folder, tmp_path / 'images')


@pytest.fixture(scope='session')
def finished(image_folder, tmp_path_factory):
    """A finished run and its output folder, not to be written to."""
    output = tmp_path_factory.mktemp('demo') / 'out'
    result = run('--data-dir', image_folder, '--output', output, *QUICK)
    assert (result.returncode, result.stderr) == (0, '')
    return result, output


def load_with_timm_alone(folder):
    result = subprocess.run([sys.executable, '-c', LOAD, str(folder)], capture_output=True, text=True, env=ENV)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_outputs_are_there_and_complete(finished):
    _, output = finished
    assert names(output) == {'.timm-mobilenext-demo', 'model', 'demo.png'}
    assert {'config.json', 'model.safetensors', 'README.md'} <= names(output / 'model')
    assert names(output / 'model') <= {'config.json', 'model.safetensors', 'README.md', 'pytorch_model.bin'}
    with Image.open(output / 'demo.png') as picture:
        picture.load()
        assert picture.width > 1000
    card = (output / 'model' / 'README.md').read_text()
    assert re.match(r'---\nlicense: other\nlibrary_name: timm\n(.*\n)*tags:\n(- .*\n)+---\n# mobilenext_035', card)


def test_log_is_plain_and_ends_in_a_summary(finished):
    result, output = finished
    assert '\x1b' not in result.stdout
    assert re.search(r'^epoch 1/1  loss \d+\.\d+  top-1 raw +[\d.]+ %  EMA +[\d.]+ %', result.stdout, re.M)
    assert re.search(r'^model +mobilenext_035, 6\d\d,\d{3} parameters, 32 px$', result.stdout, re.M)
    assert re.search(r'^top-1 +raw [\d.]+ %, EMA [\d.]+ % of 12 images$', result.stdout, re.M)
    difference = re.search(r'^reloaded .* difference of the logits (\S+)$', result.stdout, re.M)
    assert float(difference[1]) <= 1e-5
    # the last line, run as it stands, loads the model
    line = result.stdout.splitlines()[-1]
    loaded = subprocess.run([sys.executable, '-c', f'{line}; print(model.num_classes)'], capture_output=True, env=ENV)
    assert loaded.stdout == b'3\n', loaded.stderr


def test_timm_alone_loads_the_folder_as_trained(finished):
    loaded = load_with_timm_alone(finished[1] / 'model')
    assert loaded['shape'] == [1, 3]
    assert loaded['label_names'] == ['one', 'two', 'zero']
    assert (loaded['input_size'], loaded['num_classes'], loaded['crop_pct']) == ([3, 32, 32], 3, 1.0)
    assert (loaded['mean'], loaded['std']) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def test_same_seed_same_weights_in_a_used_folder(finished, image_folder, tmp_path):
    output = shutil.copytree(finished[1], tmp_path / 'out')
    (output / 'notes.txt').write_text('mine')
    before = files(output)
    (output / 'model' / 'README.md').write_text('of an earlier run')
    result = run('--data-dir', image_folder, '--output', output, *QUICK)
    assert result.returncode == 0, result.stderr
    assert files(output / 'model') == files(finished[1] / 'model')
    assert files(output).keys() == before.keys() and (output / 'notes.txt').read_text() == 'mine'


def test_other_model_and_val_folder_and_seed(own_folder, tmp_path):
    (own_folder / 'validation').rename(own_folder / 'val')
    result = run(
        '--data-dir', own_folder, '--output', tmp_path / 'a#b', '--model', 'mobilenetv2_035.untrained', '--seed', 7, *QUICK)
    assert result.returncode == 0, result.stderr


def test_digits_are_all_there(tmp_path):
    """The split is written before training begins, so this run is left early."""
    process = start('--output', tmp_path / 'out')
    wait_for(lambda: 'data' in process.stdout.readline(), process)
    process.kill()
    process.communicate()
    digits = tmp_path / 'out' / 'digits'
    for split, count in (('train', 1433), ('validation', 364)):
        images = list((digits / split).glob('*/*.png'))
        assert len(images) == count and {f.parent.name for f in images} == set('0123456789')
    assert {f.stem for f in digits.rglob('*.png')} == {f'{i:04}' for i in range(1797)}


# Bad input


def fails(result, *words):
    """One clear line, no traceback."""
    assert (result.returncode, result.stdout) == (1, '')
    assert re.fullmatch(r'Error: [^\n]+\n', result.stderr), result.stderr
    for word in words:
        assert str(word) in result.stderr


def spoil_corrupt(folder):
    path = next((folder / 'train' / 'two').glob('*.png'))
    path.write_bytes(path.read_bytes()[:60])
    return path.name


def spoil_text(folder):
    (folder / 'validation' / 'two' / 'not_an_image.png').write_text('hello')
    return 'not_an_image.png'


def spoil_one_class(folder):
    for split in ('train', 'validation'):
        for name in ('one', 'two'):
            shutil.rmtree(folder / split / name)
    return 'zero'


def spoil_empty_class(folder):
    shutil.rmtree(folder / 'train' / 'one')
    (folder / 'train' / 'one').mkdir()
    return 'train', 'one'


def spoil_missing_class(folder):
    shutil.rmtree(folder / 'validation' / 'two')
    return 'validation', 'two'


def spoil_flat(folder):
    (folder / 'train' / 'zero' / '0.png').rename(folder / 'train' / '0.png') if (
        folder / 'train' / 'zero' / '0.png').exists() else shutil.copy(
        next(folder.rglob('*.png')), folder / 'train' / '0.png')
    return 'outside'


def spoil_split(folder):
    shutil.rmtree(folder / 'validation')
    return 'validation or val'


def spoil_all(folder):
    shutil.rmtree(folder)
    return 'no folder'
