"""The demo as a user meets it, on a few small scans; each run is a process of its own."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_digits

import timm

from timm_mobilenext.classify.demo import reload_difference

pytestmark = [pytest.mark.tools, pytest.mark.slow]

ENV = {**os.environ, 'HF_HUB_OFFLINE': '1', 'OMP_NUM_THREADS': '1', 'PYTHONUNBUFFERED': '1', 'NO_COLOR': '1'}
SMALL = ['--img-size', '32', '--batch-size', '8']
QUICK = [*SMALL, '--epochs', '1']


def start(*arguments):
    command = [sys.executable, '-m', 'timm_mobilenext', 'demo', *map(str, arguments)]
    return subprocess.Popen(
        command, env=ENV, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # a shell's background job ignores Ctrl-C, and its children would too
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))


def demo(*arguments):
    process = start(*arguments)
    stdout, stderr = process.communicate(timeout=240)
    return process.returncode, stdout, stderr


@pytest.fixture(scope='module')
def image_folder(tmp_path_factory):
    """Three classes of scikit-learn's digits, eight scans each to train and four to validate."""
    folder = tmp_path_factory.mktemp('images')
    digits = load_digits()
    for digit, name in enumerate(['zero', 'one', 'two']):
        for i, scan in enumerate(digits.images[digits.target == digit][:12]):
            file = folder / ('train' if i < 8 else 'validation') / name / f'{i}.png'
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((scan * 15).astype('uint8')).save(file)
    return folder


def check_complete(output):
    config = json.loads((output / 'model' / 'config.json').read_text())
    assert config['num_classes'] == 3 and config['label_names'] == ['one', 'two', 'zero']
    assert config['pretrained_cfg']['input_size'] == [3, 32, 32]
    assert (output / 'model' / 'README.md').read_text().startswith('---\n')
    assert load_file(output / 'model' / 'model.safetensors')['classifier.weight'].shape[0] == 3
    with Image.open(output / 'demo.png') as picture:
        picture.load()
        assert picture.width > 1000
    with Image.open(output / 'photographs.png') as picture:
        picture.load()
    # no temporary is left
    assert {path.name for path in output.iterdir()} == {
        'model', 'demo.png', 'photographs.png', '.timm-mobilenext-demo'}


@pytest.mark.parametrize('model', ['mobilenext_035', 'mobilenetv2_035'])
def test_trains_saves_reloads_and_draws(image_folder, tmp_path, model):
    code, stdout, stderr = demo('--data-dir', image_folder, '--output', tmp_path / 'out', '--model', model, *QUICK)
    assert code == 0, stderr
    check_complete(tmp_path / 'out')
    assert 'reloaded    by timm alone in a new process' in stdout
    assert '24 images to train, 12 to validate' in stdout
    named = stdout.split('names photographs:')[1].split()
    assert {f'{name}.jpg' for name in 'cat dog duck horses kitten macaw moose owl'.split()} < set(named)
    assert timm.create_model(f'local-dir:{tmp_path / "out" / "model"}', pretrained=True).num_classes == 3
    # and it would have said so, had the folder not been the model
    with pytest.raises(RuntimeError, match='not the trained one'):
        reload_difference(tmp_path / 'out' / 'model', image_folder, 8, torch.zeros(12, 3))


def test_bad_image_folder_is_told_in_one_line(image_folder, tmp_path):
    """tests/test_image_folder.py has all that can be wrong with one."""
    folder = tmp_path / 'images'
    shutil.copytree(image_folder / 'train', folder / 'train')
    code, stdout, stderr = demo('--data-dir', folder, '--output', tmp_path / 'out', *QUICK)
    assert code == 1 and stdout == ''
    assert len(stderr.splitlines()) == 1 and stderr.startswith('Error: ')
    assert 'no validation or val folder' in stderr


def test_folder_of_others_is_left_alone(image_folder, tmp_path):
    (tmp_path / 'thesis.txt').write_text('three years of work')
    code, _, stderr = demo('--data-dir', image_folder, '--output', tmp_path, *QUICK)
    assert code == 1 and 'is not empty and not from this demo' in stderr
    assert [path.name for path in tmp_path.iterdir()] == ['thesis.txt']


@pytest.mark.parametrize('sent', [signal.SIGKILL, signal.SIGINT])
def test_interrupted_run_leaves_nothing_half_written_and_a_repeat_completes(image_folder, tmp_path, sent):
    output = tmp_path / 'out'
    arguments = ['--data-dir', image_folder, '--output', output]
    if sent == signal.SIGINT:
        process = start(*arguments, *SMALL, '--epochs', '500')
        assert any(line.startswith('epoch') for line in process.stdout)
    else:
        # the model is being written until a new process has loaded it, which takes a while
        process = start(*arguments, *QUICK)
        while not (output / '.model.new').exists():
            assert process.poll() is None
            time.sleep(0.001)
    process.send_signal(sent)
    _, stderr = process.communicate(timeout=60)
    if sent == signal.SIGINT:
        assert process.returncode == 130 and stderr.splitlines() == ['Interrupted.']
    left = {'.model.new'} if sent == signal.SIGKILL else set()
    assert {path.name for path in output.iterdir()} == {'.timm-mobilenext-demo'} | left
    # as if it had been killed in the midst of writing these too
    (output / '.digits.new').mkdir()
    (output / '.demo.png.new').write_bytes(b'half')
    code, _, stderr = demo(*arguments, *QUICK)
    assert code == 0, stderr
    check_complete(output)
