"""Training a detector, on the photographs that come with the package and in processes of their own."""
import csv
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from helpers import OFFLINE, run_cli
from PIL import Image
from processes import start_cli
from safetensors.torch import load_file

from timm_mobilenext.detection import SSDLite
from timm_mobilenext.detection.data import BCCD, load_split
from timm_mobilenext.detection.evaluate import coco_figures, read_detections
from timm_mobilenext.detection.settings import TrainSettings
from timm_mobilenext.detection.train import run_train
from timm_mobilenext.shared.errors import UserError

pytestmark = [pytest.mark.tools, pytest.mark.slow]

RECIPES = Path(__file__).parents[2] / 'hub_configs' / 'ssdlite320_mobilenext_100'
COMMAND = Path(sys.executable).with_name('timm-mobilenext')
SMALL = ['--backbone', 'mobilenext_035', '--img-size', '64', '--batch-size', '4', '--lr', '0.01', '--cache']


def train(output, *arguments, code=0):
    return run_cli(OFFLINE, 'detect', 'train', '-o', output, *SMALL, *arguments, code=code)


def rows(output):
    with open(output / 'metrics.csv', newline='') as lines:
        return list(csv.DictReader(lines))


def weights(output, name='last'):
    return load_file(output / name / 'model.safetensors')


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Three epochs with all that has a state: EMA, warm-up, cosine, momentum, augmentation, drop path."""
    output = tmp_path_factory.mktemp('whole') / 'out'
    printed = train(output, '--epochs', 3, *STATEFUL)
    return output, printed


STATEFUL = ('--model-ema', '--model-ema-decay', 0.5, '--warmup-epochs', 1, '--clip-grad', 10)


def test_leaves_detectors_a_log_and_a_picture(whole):
    output, printed = whole
    assert {file.name for file in output.iterdir()} == {
        'best', 'last', 'metrics.csv', 'curves.png', 'args.yaml', 'training.pth'}
    assert 'train: 8 images, 131 boxes' in printed and 'MACs' in printed
    lines = [line for line in printed.splitlines() if line.startswith('epoch')]
    table = rows(output)
    assert len(lines) == len(table) == 3
    for row in table:
        assert float(row['loss']) == pytest.approx(float(row['bbox_regression']) + float(row['classification']))
        assert 0 <= float(row['AP']) <= float(row['AP50']) <= 1 and row['AP RBC']
    rates = [float(row['lr']) for row in table]
    assert rates[0] > rates[1] > rates[2] == 0
    assert yaml.safe_load((output / 'args.yaml').read_text())['backbone'] == 'mobilenext_035'
    with Image.open(output / 'curves.png') as picture:
        picture.load()
        assert picture.width > 1000
    detector = SSDLite.from_pretrained(output / 'best')
    assert detector.class_names == ['Platelets', 'RBC', 'WBC'] and detector.img_size == 64
    # the averaged weights are kept, the state has both
    state = torch.load(output / 'training.pth', weights_only=True)
    assert same({key: state['state_dict_ema'][key] for key in weights(output)}, weights(output))
    stem = 'backbone.body.conv_stem.weight'
    assert not torch.equal(state['state_dict'][stem], state['state_dict_ema'][stem])
    assert state['state_dict_ema']['backbone.body.bn1.num_batches_tracked'] == 6  # it has followed every step


def test_killed_training_resumes_to_the_same_weights(whole, tmp_path):
    output = tmp_path / 'out'
    arguments = [str(a) for a in ('detect', 'train', '-o', output, *SMALL, '--epochs', 3, *STATEFUL)]
    with open(tmp_path / 'log', 'wb') as log:
        process = subprocess.Popen([COMMAND, *arguments],
                                   env=OFFLINE, stdout=log, stderr=log)
        while not (output / 'training.pth').exists():
            assert process.poll() is None, (tmp_path / 'log').read_text()
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = len(torch.load(output / 'training.pth', weights_only=True)['rows'])
    assert 1 <= done < 3
    printed = train(output, '--epochs', 3, *STATEFUL, '--resume')
    assert printed.count('\nepoch ') == 3 - done
    assert same(weights(output), weights(whole[0]))
    for ours, theirs in zip(rows(output), rows(whole[0]), strict=True):
        assert {k: v for k, v in ours.items() if k != 'seconds'} == {k: v for k, v in theirs.items() if k != 'seconds'}
    assert 'is complete' in train(output, '--epochs', 3, *STATEFUL, '--resume')


def test_other_settings_do_not_resume(whole):
    output, _ = whole
    before = weights(output)
    assert 'give --resume' in train(output, '--epochs', 3, code=1)
    assert 'was trained with lr 0.01, not 0.5' in train(
        output, '--epochs', 3, *STATEFUL, '--lr', 0.5, '--resume', code=1)
    assert same(weights(output), before)


def test_nothing_to_resume(tmp_path):
    assert 'has no training to resume' in train(tmp_path / 'out', '--resume', code=1)


def test_two_processes_train_one_detector(tmp_path):
    """DDP: gradients of both halves of a batch, and each image measured once."""
    output = tmp_path / 'out'
    process = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node', '2', '--rdzv-backend', 'c10d',
         '--rdzv-endpoint', '127.0.0.1:0', '-m', 'timm_mobilenext', 'detect', 'train', '-o', str(output), *SMALL,
         '--epochs', '2'],
        env=OFFLINE, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stdout + process.stderr
    assert process.stdout.count('\nepoch ') == 2  # one of them speaks
    assert len(rows(output)) == 2
    state = torch.load(output / 'training.pth', weights_only=True)
    assert state['world_size'] == 2
    # what both measured is what is kept, of which each has had its own statistics
    run_cli(OFFLINE, 'detect', 'eval', output / 'last', '-o', tmp_path / 'found.json')
    val = load_split(BCCD, 'val')
    figures, _ = coco_figures(val, read_detections(tmp_path / 'found.json', val))
    assert figures['AP50'] > 0
    assert figures['AP50'] == pytest.approx(float(rows(output)[-1]['AP50']), rel=1e-6)
    assert 'was trained by 2 processes, not 1' in train(output, '--epochs', 2, '--resume', code=1)


def test_sync_bn_on_a_cpu_is_refused(tmp_path):
    assert 'sync_bn needs GPUs' in train(tmp_path / 'out', '--sync-bn', code=1)


def test_mixed_precision_and_channels_last(tmp_path):
    """In memory that is full of large numbers, because torch leaves some gradients of bfloat16 unwritten on a CPU."""
    command = [sys.executable, '-m', 'timm_mobilenext', 'detect', 'train', '-o', tmp_path / 'out', *SMALL]
    result = subprocess.run(
        [*command, '--epochs', '1', '--amp', '--channels-last'], env=dict(OFFLINE, MALLOC_PERTURB_='1'),
        capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr
    assert all(value.dtype != torch.bfloat16 for value in weights(tmp_path / 'out').values())
    assert 'is neither' in train(tmp_path / 'other', '--amp-dtype', 'float8', code=1)


def test_schedule_of_milestones_and_no_measurement(tmp_path):
    train(tmp_path / 'out', '--epochs', 3, '--sched', 'multistep', '--decay-milestones', 1, '--decay-milestones', 2,
          '--val-interval', 3, '--preset', 'coco', '--no-aug', '--opt', 'momentum')
    table = rows(tmp_path / 'out')
    assert [float(row['lr']) for row in table] == pytest.approx([0.001, 0.0001, 0.0001])
    assert [row['AP'] == 'nan' for row in table] == [True, True, False]


def test_recipe(tmp_path):
    recipe = tmp_path / 'recipe.yaml'
    recipe.write_text('backbone: mobilenext_035\nimg_size: 64\nlr: 1e-2\nbatch_size: 4\nepochs: 5\nmodel_ema: true\n')
    run_cli(OFFLINE, 'detect', 'train', '--config', recipe, '-o', tmp_path / 'out', '--epochs', 1)
    args = yaml.safe_load((tmp_path / 'out' / 'args.yaml').read_text())
    assert (args['lr'], args['batch_size'], args['epochs'], args['model_ema']) == (0.01, 4, 1, True)
    recipe.write_text('learning_rate: 1\n')
    assert "has a setting 'learning_rate', which detect train does not know" in run_cli(
        OFFLINE, 'detect', 'train', '--config', recipe, '-o', tmp_path / 'other', code=1)


def test_starts_from_a_checkpoint_of_a_classifier(tmp_path):
    import timm

    network = timm.create_model('mobilenext_035', num_classes=10)
    torch.save({'state_dict': network.state_dict()}, tmp_path / 'checkpoint.pth.tar')
    train(tmp_path / 'out', '--epochs', 1, '--lr', 0, '--initial-checkpoint', tmp_path / 'checkpoint.pth.tar')
    assert torch.equal(weights(tmp_path / 'out')['backbone.body.conv_stem.weight'], network.conv_stem.weight)


def test_data_without_boxes_is_refused(tmp_path):
    shutil.copytree(BCCD, tmp_path / 'bccd')
    names = (BCCD / 'ImageSets' / 'Main' / 'train.txt').read_text().split()
    data = dict(images=[dict(id=i, file_name=f'{name}.jpg') for i, name in enumerate(names)], annotations=[],
                categories=[dict(id=1, name='cell')])
    (tmp_path / 'bccd' / 'JPEGImages' / 'empty.json').write_text(json.dumps(data))
    told = train(tmp_path / 'out', '--data-dir', tmp_path / 'bccd', '--train-split', 'JPEGImages/empty.json',
                 '--val-split', 'JPEGImages/empty.json', code=1)
    assert 'has no boxes at all' in told and not (tmp_path / 'out').exists()


def test_batch_larger_than_the_data_is_refused(tmp_path):
    told = train(tmp_path / 'out', '--batch-size', 9, code=1)
    assert 'has too few images for a batch of 9, 8: give a smaller --batch-size.' in told
    shutil.copytree(BCCD, tmp_path / 'bccd')
    split = tmp_path / 'bccd' / 'ImageSets' / 'Main' / 'train.txt'
    split.write_text(split.read_text().split()[0])
    told = train(tmp_path / 'out', '--data-dir', tmp_path / 'bccd', '--batch-size', 2, code=1)
    assert 'has too few images for a batch of 2, 1: give at least 2 images.' in told


def test_loss_that_is_not_a_number_stops_and_names_the_files(tmp_path):
    told = train(tmp_path / 'out', '--epochs', 9, '--lr', 1e12, code=1)
    assert 'The loss is' in told and 'step' in told and '.jpg' in told


def test_weights_that_are_not_numbers_are_not_kept(tmp_path):
    told = train(tmp_path / 'out', '--batch-size', 8, '--epochs', 1, '--lr', 3e38, code=1)
    assert 'Some weights are not finite after epoch 1' in told
    assert not (tmp_path / 'out' / 'training.pth').exists() and not (tmp_path / 'out' / 'last').exists()


def test_results_of_another_training_are_left_alone(whole, tmp_path):
    output = tmp_path / 'out'
    shutil.copytree(whole[0], output)
    (output / 'training.pth').unlink()
    assert 'out/best would be replaced' in train(output, '--epochs', 1, code=1)
    assert same(weights(output), weights(whole[0]))


@pytest.mark.parametrize('name', ['args.yaml', 'curves.png'])
def test_files_of_another_tool_are_left_alone(tmp_path, name):
    """timm's train.py leaves an args.yaml, which `push` reads."""
    (tmp_path / name).touch()
    settings = TrainSettings(tmp_path, backbone='mobilenext_035', img_size=64, batch_size=4, epochs=1)
    with pytest.raises(UserError, match=f'{name} would be replaced: give another --output.$'):
        run_train(settings)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_first_epoch_that_could_not_be_kept_is_repeated(tmp_path, monkeypatch):
    output = tmp_path / 'out'
    settings = TrainSettings(output, backbone='mobilenext_035', img_size=64, batch_size=4, epochs=1)

    def fail(*args):
        raise RuntimeError('No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr(torch, 'save', fail)
        with pytest.raises(UserError, match='cannot be written after epoch 1 .*: mend this, then repeat the command.$'):
            run_train(settings)
    assert (output / 'last').exists() and not (output / 'training.pth').exists()
    with pytest.raises(UserError, match='leave out --resume'):
        run_train(dataclasses.replace(settings, resume=True))
    run_train(settings)
    assert {file.name for file in output.iterdir()} == {
        'best', 'last', 'metrics.csv', 'curves.png', 'args.yaml', 'training.pth'}


def test_scaler_of_half_precision_resumes(tmp_path):
    arguments = ('--epochs', 2, '--amp', '--amp-dtype', 'float16')
    train(tmp_path / 'whole', *arguments)
    state = torch.load(tmp_path / 'whole' / 'training.pth', weights_only=True)
    assert state['scaler']['scale'] > 100
    file = tmp_path / 'whole' / 'training.pth'
    torch.save(dict(state, rows=state['rows'][:1], scaler=dict(state['scaler'], scale=4.)), file)
    train(tmp_path / 'whole', *arguments, '--resume')
    assert torch.load(file, weights_only=True)['scaler']['scale'] <= 4.  # half of it after an overflow


@pytest.mark.parametrize('arguments, told', [
    (('--sched', 'plateau'), 'The schedule plateau depends on measurements'),
    (('--device', 'cuda:9'), 'There is no device cuda:9 here'),
    (('--opt', 'sdg'), 'timm cannot create the optimizer sdg'),
    (('--lr', '-1'), 'timm cannot create the optimizer sgd'),
])
def test_impossible_settings_are_reported(tmp_path, arguments, told):
    assert told in train(tmp_path / 'out', *arguments, code=1)


def test_process_of_several_opens_its_own_device_alone(tmp_path, monkeypatch):
    for name, value in dict(WORLD_SIZE=100, RANK=99, LOCAL_RANK=99).items():
        monkeypatch.setenv(name, str(value))
    for device in ('cuda', 'cuda:0'):
        with pytest.raises(UserError, match='There is no device cuda:99 here'):
            run_train(TrainSettings(tmp_path / 'out', backbone='mobilenext_035', device=device))


@pytest.mark.parametrize('module', ['matplotlib', 'pycocotools'])
def test_missing_library_is_named_with_its_extra_after_bad_arguments(tmp_path, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    settings = TrainSettings(tmp_path / 'out', backbone='mobilenext_035', img_size=64, batch_size=4)
    with pytest.raises(UserError, match=rf"^This needs {module}: pip install 'timm-mobilenext\[detection\]'$"):
        run_train(settings)
    for change, message in (
            (dict(backbone='mobilenxt_035'), "timm has no model 'mobilenxt_035'"),
            (dict(train_split='gone'), 'gone.txt is not there'),
            (dict(batch_size=9), 'too few images for a batch of 9'),
    ):
        with pytest.raises(UserError, match=message):
            run_train(dataclasses.replace(settings, **change))
    assert not (tmp_path / 'out').exists()


def test_truncated_photograph_is_named_from_a_worker_too(tmp_path):
    shutil.copytree(BCCD, tmp_path / 'bccd')
    name = (BCCD / 'ImageSets' / 'Main' / 'train.txt').read_text().split()[0]
    file = tmp_path / 'bccd' / 'JPEGImages' / f'{name}.jpg'
    file.write_bytes(file.read_bytes()[:9000])
    told = train(
        tmp_path / 'out', '--data-dir', tmp_path / 'bccd', '--no-cache', '--workers', 1, '--sched', 'none', code=1)
    assert f'{name}.jpg cannot be read as an image' in told


def test_full_disk_leaves_the_old_state(whole, tmp_path):
    """A limit to the size of files stands for it."""
    output = tmp_path / 'out'
    shutil.copytree(whole[0], output)
    state = torch.load(output / 'training.pth', weights_only=True)
    state['rows'] = state['rows'][:2]
    torch.save(state, output / 'training.pth')
    before = {file: file.read_bytes() for file in sorted(output.rglob('*')) if file.is_file()}
    arguments = ['detect', 'train', '-o', output, *SMALL, '--epochs', 3, *STATEFUL, '--resume']
    process = subprocess.run(
        ['bash', '-c', 'ulimit -f 2000; trap "" XFSZ; "$0" "$@"', COMMAND, *map(str, arguments)],
        env=OFFLINE, capture_output=True, text=True, timeout=300)
    assert process.returncode == 1 and 'Traceback' not in process.stderr
    assert 'cannot be written after epoch 3' in process.stderr
    after = {file: file.read_bytes() for file in sorted(output.rglob('*')) if file.is_file()}
    assert after == before


def test_interrupted_by_the_user(tmp_path):
    output = tmp_path / 'out'
    process = start_cli(OFFLINE, ['detect', 'train', '-o', output, *SMALL, '--epochs', 500], tmp_path / 'log')
    while not (output / 'training.pth').exists():
        assert process.is_alive()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    process.join(timeout=120)
    stderr = (tmp_path / 'log.stderr').read_text()
    assert process.exitcode == 130 and stderr.strip().endswith('Interrupted.'), stderr
    assert not [file for file in output.iterdir() if file.name.startswith('.')]
    torch.load(output / 'training.pth', weights_only=True)
    assert os.listdir(output / 'last')


@pytest.mark.parametrize('recipe', sorted(RECIPES.glob('*.yaml')), ids=lambda file: file.stem)
def test_recipes_of_the_authors_start(recipe, tmp_path):
    """On the photographs that come with the package, for a step or two."""
    run_cli(OFFLINE, 'detect', 'train', '--config', recipe, '-o', tmp_path / 'out',
            '--train-split', 'train', '--val-split', 'val', '--device', 'cpu', '--no-sync-bn', '--no-pretrained',
            '--batch-size', 4, '--img-size', 64, '--workers', 0, '--epochs', 1)
    args = yaml.safe_load((tmp_path / 'out' / 'args.yaml').read_text())
    changed = {'train_split', 'val_split', 'device', 'sync_bn', 'pretrained', 'batch_size', 'img_size', 'workers',
               'epochs'}
    values = yaml.safe_load(recipe.read_text())
    assert all(args[key] == value for key, value in values.items() if key not in changed)
    assert len(set(values) - changed) > 8
