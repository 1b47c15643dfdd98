"""The demo as a user meets it, on a few small scans. Each run is a process of its own."""
import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from helpers import OFFLINE, run_cli
from PIL import Image
from processes import start_cli
from safetensors.torch import load_file
from sklearn.datasets import load_digits

import timm

from timm_mobilenext.classify.demo import reload_difference

pytestmark = [pytest.mark.tools, pytest.mark.slow]

SMALL = ['--img-size', 32, '--batch-size', 8]
QUICK = [*SMALL, '--epochs', 1]


def demo(*arguments, code=0):
    return run_cli(dict(OFFLINE, COLUMNS='200'), 'demo', *arguments, code=code)


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


def test_trains_saves_reloads_and_draws(image_folder, tmp_path):
    stdout = demo('--data-dir', image_folder, '--output', tmp_path / 'out', '--model', 'mobilenext_035', *QUICK)
    check_complete(tmp_path / 'out')
    assert 'reloaded    by timm alone in a new process' in stdout
    assert '24 images to train, 12 to validate' in stdout
    named = stdout.split('names photographs:')[1].split()
    assert {f'{name}.jpg' for name in 'cat dog duck horses kitten macaw moose owl'.split()} < set(named)
    assert timm.create_model(f'local-dir:{tmp_path / "out" / "model"}', pretrained=True).num_classes == 3
    # and it would have said so, had the folder not been the model
    with pytest.raises(RuntimeError, match='not the trained one'):
        reload_difference(tmp_path / 'out' / 'model', image_folder, 8, torch.zeros(12, 3))


def test_bad_image_folder_is_reported_in_one_line(image_folder, tmp_path):
    """tests/classify/test_image_folder.py has all the faults."""
    folder = tmp_path / 'images'
    shutil.copytree(image_folder / 'train', folder / 'train')
    error = demo('--data-dir', folder, '--output', tmp_path / 'out', *QUICK, code=1)
    assert 'no validation or val folder' in error


def test_folder_that_is_not_ours_is_left_alone(image_folder, tmp_path):
    (tmp_path / 'thesis.txt').write_text('three years of work')
    error = demo('--data-dir', image_folder, '--output', tmp_path, *QUICK, code=1)
    assert 'is not empty and not from this demo' in error
    assert [path.name for path in tmp_path.iterdir()] == ['thesis.txt']


@pytest.mark.parametrize('sent', [signal.SIGKILL, signal.SIGINT])
def test_interrupted_run_leaves_nothing_half_written_and_a_repeat_completes(image_folder, tmp_path, sent):
    output, log = tmp_path / 'out', tmp_path / 'log'
    arguments = ['--data-dir', image_folder, '--output', output]
    if sent == signal.SIGINT:
        process = start_cli(OFFLINE, ['demo', *arguments, *SMALL, '--epochs', 500], log)
        wait_for(lambda: 'epoch' in read(f'{log}.stdout'), process)
    else:
        # the model is being written until a new process has loaded it, which takes a while
        process = start_cli(OFFLINE, ['demo', *arguments, *QUICK], log)
        wait_for((output / '.model.new').exists, process)
    os.kill(process.pid, sent)
    process.join(timeout=60)
    if sent == signal.SIGINT:
        assert process.exitcode == 130 and read(f'{log}.stderr').splitlines() == ['Interrupted.']
    left = {'.model.new', '.model.lock'} if sent == signal.SIGKILL else set()
    assert {path.name for path in output.iterdir()} == {'.timm-mobilenext-demo'} | left
    # as if it had been killed in the midst of writing these too
    (output / '.digits.new').mkdir()
    (output / '.demo.png.new').write_bytes(b'half')
    demo(*arguments, *QUICK, '--model', 'mobilenetv2_035')  # as any model of timm
    check_complete(output)


def read(file):
    return Path(file).read_text() if Path(file).exists() else ''


def wait_for(condition, process):
    while not condition():
        assert process.is_alive()
        time.sleep(0.001)
