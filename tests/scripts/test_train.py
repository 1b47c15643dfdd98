"""train.py, one flag after the other: each has an effect that is seen, not only an exit code of 0."""
import math
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from runs import BASE, command, environment, epochs_of, load, RUN, run, TIMM_REPO, train

import timm

pytestmark = [pytest.mark.tools, pytest.mark.slow]

FROZEN = '--lr', 1e-12, '--warmup-lr', 1e-12  # 0 is no rate for train.py


@pytest.fixture(scope='module')
def plain(few, tmp_path_factory):
    """A training of one epoch without any more flags, to compare with, its first batch saved as a picture."""
    output = tmp_path_factory.mktemp('plain') / 'plain'
    train(output, few, '--save-images')
    return output


def picture(output):
    with Image.open(output / 'train-batch-0.jpg') as image:
        return torch.frombuffer(bytearray(image.convert('RGB').tobytes()), dtype=torch.uint8).float()


def test_trains(trained):
    epochs = epochs_of(trained)
    assert [row['epoch'] for row in epochs] == list(range(10))
    assert epochs[-1]['train_loss'] < epochs[0]['train_loss'] / 2 and epochs[-1]['eval_top1'] > 60


@pytest.mark.parametrize('own_timm', [False, True])
def test_knows_the_models_by_autoload_on_the_installed_timm_and_on_its_own(few, tmp_path, own_timm):
    seen = train(tmp_path / 'out', few, spy=True, own_timm=own_timm)
    assert (str(TIMM_REPO) in seen['timm']) == own_timm and seen['block_calls'] > 0
    assert len(epochs_of(tmp_path / 'out')) == 1


def test_device_modules_registers_the_models_where_autoload_is_off(few, tmp_path):
    printed = train(tmp_path / 'off', few, code=1, TIMM_MOBILENEXT_AUTOLOAD=0)
    assert 'Unknown model (mobilenext_035)' in printed
    train(tmp_path / 'on', few, '--device-modules', 'timm_mobilenext', TIMM_MOBILENEXT_AUTOLOAD=0)
    assert len(epochs_of(tmp_path / 'on')) == 1


def test_ema_weights_are_saved_and_are_others(trained):
    checkpoint = load(trained / 'model_best.pth.tar')
    raw, averaged = checkpoint['state_dict'], checkpoint['state_dict_ema']
    assert raw.keys() == averaged.keys()
    assert not torch.equal(raw['conv_stem.weight'], averaged['conv_stem.weight'])


@pytest.mark.parametrize('flags', [
    # without mmax9 and on Pillow 13, timm asks for no bits of a pixel now and then, and Pillow refuses
    ['--aa', 'rand-m9-mstd0.5-inc1-mmax9'],
    ['--aa', 'original'],
    ['--mixup', '0.8', '--cutmix', '1.0'],
])
def test_augmentation_changes_the_images(plain, few, tmp_path, flags):
    train(tmp_path / 'out', few, '--save-images', *flags)
    changed = (picture(tmp_path / 'out') - picture(plain)).abs() > 32
    assert changed.float().mean() > 0.05


def test_random_erasing_changes_a_part_of_the_images(plain, few, tmp_path):
    train(tmp_path / 'out', few, '--save-images', '--reprob', 1, '--remode', 'const')
    changed = (picture(tmp_path / 'out') - picture(plain)).abs() > 32
    assert 0.01 < changed.float().mean() < 0.5


def test_label_smoothing_keeps_the_loss_above_its_entropy(digits, tmp_path):
    losses = {}
    for smoothing in (0., 0.5):
        train(tmp_path / f'out{smoothing}', digits, '--smoothing', smoothing, epochs=3)
        losses[smoothing] = epochs_of(tmp_path / f'out{smoothing}')[-1]['train_loss']
    on, off = 0.5 + 0.5 / 10, 0.5 / 10
    entropy = -on * math.log(on) - 9 * off * math.log(off)
    assert losses[0.] < entropy < losses[0.5]


def test_drop_path_drops_residuals(few, tmp_path):
    seen = train(tmp_path / 'out', few, '--drop-path', 0.5, spy=True, epochs=2)
    # the rate grows from 0 in the first block to nearly 0.5 in the last
    assert 0.1 < seen['dropped'] / seen['samples'] < 0.4


def test_gradient_accumulation_updates_once_for_all_its_batches(few, tmp_path):
    printed = train(tmp_path / 'out', few, '--grad-accum-steps', 2, '--log-interval', 1)
    assert re.findall(r'Train: 0 \[\s*(\d+)/(\d+)', printed) == [('0', '3'), ('1', '3'), ('2', '3')]  # five batches


def test_channels_last_is_the_layout_of_images_and_weights(plain, few, tmp_path):
    seen = train(tmp_path / 'out', few, '--channels-last', spy=True)
    assert seen['layouts'] == ['channels_last']
    weights = [load(output / 'last.pth.tar')['state_dict']['blocks.1.0.conv_pw1.weight'] for output in (
        tmp_path / 'out', plain)]
    assert [weight.stride()[1] for weight in weights] == [1, 1]  # a 1x1 is both
    stems = [load(output / 'last.pth.tar')['state_dict']['conv_stem.weight'] for output in (tmp_path / 'out', plain)]
    assert [stem.stride()[1] for stem in stems] == [1, 9]


def test_bfloat16_amp_on_the_cpu_convolves_in_16_bits(few, tmp_path):
    seen = train(tmp_path / 'out', few, '--amp', '--amp-dtype', 'bfloat16', spy=True, epochs=2)
    assert seen['conv_dtypes'] == ['torch.bfloat16']
    state_dict = load(tmp_path / 'out' / 'last.pth.tar')['state_dict']
    assert state_dict['conv_stem.weight'].dtype == torch.float32
    assert epochs_of(tmp_path / 'out')[1]['train_loss'] < epochs_of(tmp_path / 'out')[0]['train_loss']


def test_torch_compile_trains_to_the_same_loss(plain, few, tmp_path):
    printed = train(tmp_path / 'out', few, '--torchcompile')
    assert 'backend=inductor' in printed and 'graph break' not in printed.lower()
    losses = [epochs_of(output)[0]['train_loss'] for output in (tmp_path / 'out', plain)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)


def test_layer_decay_slows_early_layers(few, tmp_path):
    train(tmp_path / 'out', few, '--layer-decay', 0.5)
    groups = load(tmp_path / 'out' / 'last.pth.tar')['optimizer']['param_groups']
    scales = [group['lr_scale'] for group in groups]
    # the stem, 20 blocks and the classifier, halved from one to the next; scales under a millionth are as good as none
    assert len(set(scales)) == 22 and max(scales) == 1 and min(scales) == pytest.approx(0.5 ** 21)


def test_layer_decay_freezes_layers_whose_rate_is_too_small(few, tmp_path):
    initial = tmp_path / 'initial.pth'
    torch.save(timm.create_model('mobilenext_035', num_classes=10).state_dict(), initial)
    train(tmp_path / 'out', few, '--layer-decay', 0.5, '--layer-decay-no-opt-scale', 0.01,
          '--initial-checkpoint', initial)
    before, after = load(initial), load(tmp_path / 'out' / 'last.pth.tar')['state_dict']
    moved = {
        '.'.join(key.split('.')[1:3]) for key in before
        if key.endswith('conv_pw1.weight') and not torch.equal(before[key], after[key])}
    # half to the power of six is above 0.01: the classifier and six blocks
    assert moved == {'5.2', '5.3', '6.0', '6.1', '6.2', '7.0'}
    assert torch.equal(before['conv_stem.weight'], after['conv_stem.weight'])
    # the statistics of frozen layers' norms move all the same
    assert not torch.equal(before['bn1.running_mean'], after['bn1.running_mean'])


def test_model_registered_frozen_trains_its_classifier_alone(few, tmp_path):
    text = (Path(__file__).parents[2] / 'docs' / 'training.md').read_text()
    (tmp_path / 'frozen.py').write_text(re.search(r'```python\n(# frozen\.py.*?)```', text, re.DOTALL)[1])
    train(tmp_path / 'out', few, '--model', 'frozen_body', '--pretrained', '--device-modules', 'frozen',
          PYTHONPATH=tmp_path)
    before = timm.create_model('mobilenext_050.cifar10', pretrained=True).state_dict()
    after = load(tmp_path / 'out' / 'last.pth.tar')['state_dict']
    changed = [key for key in after if not torch.equal(before[key], after[key])]
    assert changed == ['classifier.weight', 'classifier.bias']


def test_gradient_checkpointing_computes_blocks_twice_to_the_same_loss(plain, few, tmp_path):
    seen = train(tmp_path / 'out', few, '--grad-checkpointing', spy=True)
    blocks = sum(len(stage) for stage in timm.create_model('mobilenext_035', device='meta').blocks)
    assert seen['block_calls'] > 1.5 * blocks * seen['stem_calls']
    losses = [epochs_of(output)[0]['train_loss'] for output in (tmp_path / 'out', plain)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_resume_after_a_kill_continues_where_it_was(digits, tmp_path):
    output = tmp_path / 'out'
    arguments = ['--data-dir', digits, *BASE, '--epochs', 6, '--output', tmp_path, '--experiment', 'out']
    process = subprocess.Popen(command('train.py', *arguments, '--log-interval', 1), env=environment(), **RUN)
    for line in process.stdout:
        if re.match(r'Train: 2 \[\s*9/', line):  # in the midst of the third epoch
            process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = epochs_of(output)
    assert [row['epoch'] for row in before] == [0, 1]

    printed = run('train.py', *arguments, '--resume', output / 'last.pth.tar')
    assert "Loaded checkpoint" in printed
    rows = epochs_of(output)
    assert [row['epoch'] for row in rows] == [0, 1, 2, 3, 4, 5]
    # the schedule's cosine, of the whole training
    expected = [3e-3 * (1 + math.cos(math.pi * epoch / 6)) / 2 for epoch in range(1, 6)]
    assert [row['lr'] for row in rows[1:]] == pytest.approx(expected, rel=1e-6)
    assert rows[2]['train_loss'] < rows[1]['train_loss'] and rows[-1]['train_loss'] < rows[1]['train_loss'] / 2


def test_each_batch_has_the_size_of_its_choice(few, tmp_path):
    seen = train(tmp_path / 'out', few, '--train-img-sizes', 32, 48, 64, '--train-batch-sizes', 16, 8, 4, spy=True)
    assert sorted(seen['shapes']) == [[4, 3, 64, 64], [8, 3, 48, 48], [16, 3, 32, 32]]


def test_muon_keeps_a_momentum_for_matrices_and_lowers_the_loss(few, tmp_path):
    train(tmp_path / 'out', few, '--opt', 'muon', '--lr', 0.02, epochs=2)
    states = load(tmp_path / 'out' / 'last.pth.tar')['optimizer']['state'].values()
    assert {frozenset(state) - {'use_muon'} for state in states} == {
        frozenset(['momentum_buffer']), frozenset(['step', 'exp_avg', 'exp_avg_sq'])}
    epochs = epochs_of(tmp_path / 'out')
    assert epochs[1]['train_loss'] < epochs[0]['train_loss']


def test_torchrun_on_a_cpu_says_what_it_lacks(few, tmp_path):
    """train.py gives DDP a device id, which torch takes for GPUs only. tests/models has DDP on CPUs."""
    torchrun = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2', '--no-python']
    arguments = ['--data-dir', few, *BASE, '--epochs', 1, '--output', tmp_path, '--experiment', 'out']
    done = subprocess.run([*torchrun, *command('train.py', *arguments)], env=environment(), timeout=600, **RUN)
    assert done.returncode != 0
    assert 'Training in distributed mode with multiple processes' in done.stdout
    assert 'mobilenext_035 created' in done.stdout and 'DistributedDataParallel device_ids' in done.stdout


@pytest.fixture(scope='module')
def teacher(trained, tmp_path_factory):
    """The trained network as a Hub folder, converted as the docs say."""
    folder = tmp_path_factory.mktemp('hub') / 'teacher'
    convert = [sys.executable, '-m', 'timm_mobilenext', 'convert']
    subprocess.run([*convert, trained / 'model_best.pth.tar', '-o', folder], env=environment(), check=True, **RUN)
    return folder


def test_distillation_from_a_local_folder_teaches_without_labels(teacher, digits, tmp_path):
    arguments = [
        '--kd-model-name', f'local-dir:{teacher}', '--task-loss-weight', 0, '--distill-loss-weight', 1,
        '--kd-temperature', 1]
    train(tmp_path / 'out', digits, *arguments, epochs=6)
    assert epochs_of(tmp_path / 'out')[-1]['eval_top1'] > 40


def test_distillation_of_features_teaches_the_body_without_labels(teacher, digits, tmp_path):
    arguments = [
        '--kd-model-name', f'local-dir:{teacher}', '--kd-distill-type', 'feature', '--task-loss-weight', 0,
        '--distill-loss-weight', 1]
    train(tmp_path / 'out', digits, *arguments, epochs=3)
    losses = [row['train_loss'] for row in epochs_of(tmp_path / 'out')]
    assert losses[-1] < losses[0] / 2


def test_initial_checkpoint_is_where_training_starts(trained, digits, tmp_path):
    best = trained / 'model_best.pth.tar'
    train(tmp_path / 'out', digits, '--initial-checkpoint', best, *FROZEN)
    # of an almost frozen network; only the statistics of its batch norms move
    assert epochs_of(tmp_path / 'out')[0]['eval_top1'] > load(best)['metric'] - 15


def test_pretrained_path_keeps_the_body_and_renews_the_classifier(trained, three, tmp_path):
    best = trained / 'model_best.pth.tar'
    train(tmp_path / 'out', three, '--pretrained', '--pretrained-path', best, '--num-classes', 3, *FROZEN)
    before, after = load(best)['state_dict_ema'], load(tmp_path / 'out' / 'last.pth.tar')['state_dict']
    body = [key for key in before if key.endswith('weight') and not key.startswith('classifier.')]
    assert all(torch.allclose(before[key], after[key], atol=1e-6) for key in body) and len(body) > 100
    renewed = after['classifier.weight']
    assert renewed.shape == (3, 1280) and not torch.allclose(renewed, before['classifier.weight'][:3], atol=1e-3)
