"""Gradients at blocks, against finite differences, and the tool as a user meets it."""
import csv
import errno
import json
import math
import os
import shutil
import statistics
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers import colour_folder, randomize, run_cli
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import timm

from timm_mobilenext.analysis.gradients import measure_gradients, run_gradients
from timm_mobilenext.analysis.settings import GradientSettings
from timm_mobilenext.analysis.subjects import create_network, draw_weights, find_blocks, load_images, plan
from timm_mobilenext.cli.main import app
from timm_mobilenext.shared.errors import UserError

pytestmark = [pytest.mark.tools, pytest.mark.slow]

ENV = {**os.environ, 'OMP_NUM_THREADS': '1', 'NO_COLOR': '1'}
TWO_BLOCKS = [['sg_r1_k3_s2_e2_c16'], ['sg_r1_k3_s1_e2_c16']]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return colour_folder(tmp_path_factory.mktemp('images'), 24)


def batches(number=2, size=4, img_size=32, num_classes=10, dtype=torch.float32):
    return [
        (torch.randn(size, 3, img_size, img_size, dtype=dtype), torch.randint(num_classes, (size,)))
        for _ in range(number)]


def rows(file):
    with open(file, newline='') as lines:
        return list(csv.DictReader(lines))


def difference(loss, x, step=1e-5):
    """Norm of the gradient of a loss by x, where each number of x is moved in turn."""
    square = 0.
    flat = x.view(-1)
    for i in range(len(flat)):
        kept = flat[i].item()
        values = []
        for sign in (1, -1):
            flat[i] = kept + sign * step
            values.append(loss().item())
        flat[i] = kept
        square += ((values[0] - values[1]) / (2 * step)) ** 2
    return math.sqrt(square)


@torch.no_grad()
def test_agrees_with_finite_differences():
    # smooth, or a step would now and then cross a kink
    model = randomize(timm.create_model(
        'mobilenext_100', arch_def=TWO_BLOCKS, stem_size=8, num_classes=3, act_layer='silu',
        dtype=torch.float64)).eval()
    data = batches(2, 2, 8, 3, torch.float64)
    with torch.enable_grad():
        found = measure_gradients(model, find_blocks(model, 'it'), data)
    for number, (images, targets) in enumerate(data):
        borders = [model.bn1(model.conv_stem(images))]
        for stage in model.blocks:
            borders.append(stage(borders[-1]))

        def loss(start, stages=model.blocks, borders=borders, targets=targets):
            return F.cross_entropy(model.forward_head(stages[start:](borders[start])), targets)

        expected = [difference(lambda start=start: loss(start), borders[start]) for start in range(3)]
        first, second = [row for row in found.blocks if row.batch == number]
        assert (first.block, second.block) == ('blocks.0.0', 'blocks.1.0')
        for measured, norm in zip(
                (first.norm_in, first.norm_out, second.norm_in, second.norm_out),
                (expected[0], expected[1], expected[1], expected[2]), strict=True):
            assert measured == pytest.approx(norm, rel=1e-6)
        assert second.ratio == pytest.approx(expected[1] / expected[2], rel=1e-6)
        assert second.rms_out == pytest.approx(expected[2] / math.sqrt(borders[2].numel()), rel=1e-6)
        assert (first.loss, second.loss) == (pytest.approx(loss(0).item()),) * 2

        weights = model.blocks[1][0].conv_dw1.weight, model.blocks[1][0].conv_dw2.weight
        norm = math.hypot(*(difference(lambda: loss(0), weight) for weight in weights))
        [row] = [
            row for row in found.parameters
            if (row.batch, row.group, row.kind) == (number, 'blocks.1.0', 'depthwise')]
        assert row.gradient_norm == pytest.approx(norm, rel=1e-6)
        assert row.weight_norm == pytest.approx(math.hypot(*(weight.norm().item() for weight in weights)))
        assert row.ratio == pytest.approx(row.gradient_norm / row.weight_norm)


def test_place_depth_and_stride():
    model = timm.create_model('mobilenext_100', arch_def=[*TWO_BLOCKS, ['sg_r2_k3_s2_e6_c32']], num_classes=10)
    found = measure_gradients(model, find_blocks(model, 'it'), batches())
    assert [(row.place, row.depth, row.stride, row.keeps_shape) for row in found.blocks if row.batch == 1] == [
        (0, 0, 4, False), (1, 1 / 3, 4, True), (2, 2 / 3, 8, False), (3, 1, 8, True)]
    # nothing lies between two blocks
    for before, after in zip(found.blocks[:3], found.blocks[1:4], strict=True):
        assert before.norm_out == pytest.approx(after.norm_in)


@pytest.mark.parametrize('name, blocks, kinds', [
    ('mobilenext_035', 20, {'pointwise', 'depthwise', 'norm'}),
    ('mobilenetv2_035', 17, {'pointwise', 'depthwise', 'norm'}),
    ('resnet10t', 4, {'convolution', 'pointwise', 'norm'}),
    ('densenet121', 58, {'convolution', 'pointwise', 'norm'}),
    ('swin_tiny_patch4_window7_224', 12, {'linear', 'norm', 'other'}),
    ('convnext_atto', 12, {'depthwise', 'pointwise', 'linear', 'norm', 'other'}),
    ('test_vit', 6, {'linear', 'norm', 'other'}),
])
def test_any_model_of_timm(name, blocks, kinds):
    model = create_network(plan([name])[0], 10, 64).model
    size = 160 if name == 'test_vit' else 64
    if name == 'test_vit':
        model = timm.create_model(name, num_classes=10)
    found = measure_gradients(model, find_blocks(model, name), batches(2, 2, size))
    assert len([row for row in found.blocks if row.batch == 0]) == blocks
    names = {row.block for row in found.blocks}
    assert {row.kind for row in found.parameters if row.group in names} <= kinds
    assert all(row.norm_in > 0 and row.norm_out > 0 for row in found.blocks)
    assert all((row.stride > 0) == (name != 'test_vit') for row in found.blocks)
    assert set(found.confusion) >= {'all', *names}


def test_narrow_blocks_have_both_tensors_at_their_border():
    model = timm.create_model('mobilenext_035', narrow_skip=True, num_classes=10)
    data = batches()
    found = measure_gradients(model, find_blocks(model, 'it'), data)
    squares = []

    def keep(module, inputs):
        # copies, whose gradients are of this block alone
        copies = tuple(x.clone() for x in inputs)
        for x in copies:
            x.register_hook(lambda gradient: squares.append(gradient.square().sum().item()))
        return copies

    model.blocks[4][2].register_forward_pre_hook(keep)
    F.cross_entropy(model(data[0][0]), data[0][1]).backward()
    assert len(squares) == 2 and min(squares) > 0.01 * max(squares)
    [row] = [row for row in found.blocks if (row.batch, row.block) == (0, 'blocks.4.2')]
    assert row.norm_in == pytest.approx(math.sqrt(sum(squares)), rel=1e-4)


class Linear(nn.Module):
    """Classes of an image by its mean, of weights 0, so that gradients are known."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(nn.Identity())
        self.head = nn.Linear(3, 2)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        return self.head(self.blocks(x).mean((2, 3)))


def test_confusion_is_the_least_cosine():
    images = torch.ones(1, 3, 8, 8)
    model = Linear()
    blocks = {'blocks.0': model.blocks[0]}
    same = [(images, torch.tensor([0]))] * 2
    assert measure_gradients(model, blocks, same).confusion['all'] == pytest.approx(1)
    against = [*same, (images, torch.tensor([1]))]
    assert measure_gradients(model, blocks, against).confusion == {'head': pytest.approx(-1), 'all': pytest.approx(-1)}
    # by hand: weights (1, 0, 0) and (0, 1, 0), biases 1 and 1, so cosines of 1 / 2
    one, other = (torch.zeros(1, 3, 8, 8) for _ in range(2))
    one[:, 0], other[:, 1] = 1, 1
    aside = [(one, torch.tensor([0])), (other, torch.tensor([0]))]
    assert measure_gradients(model, blocks, aside).confusion['all'] == pytest.approx(0.5)


def test_measuring_changes_nothing():
    model = timm.create_model('mobilenext_035', num_classes=10).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    data = batches()
    images = data[0][0].clone()
    measure_gradients(model, find_blocks(model, 'it'), data)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert torch.equal(images, data[0][0]) and not data[0][0].requires_grad
    assert all(p.grad is None for p in model.parameters())
    assert not any(block._forward_hooks or block._forward_pre_hooks for block in find_blocks(model, 'it').values())


def test_gradient_that_is_not_finite_is_reported():
    model = timm.create_model('mobilenext_035', num_classes=10)
    data = batches()
    data[1][0][0] = math.nan
    with pytest.raises(ValueError, match=r'^The loss of batch 1 is nan, so its gradients have no meaning\.$'):
        measure_gradients(model, find_blocks(model, 'it'), data)
    with pytest.raises(ValueError, match=r'^1 batches are too few for gradient confusion: give two or more\.$'):
        measure_gradients(model, find_blocks(model, 'it'), data[:1])


class Explode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * math.nan


def test_gradient_that_is_not_finite_of_a_finite_loss_is_reported():
    model = timm.create_model('mobilenext_035', num_classes=10)
    model.blocks[3][1].conv_dw1.register_forward_pre_hook(lambda module, inputs: (Explode.apply(inputs[0]),))
    with pytest.raises(ValueError, match=r'^The gradient at block blocks\.\d\.\d in batch 0 is not finite\.$'):
        measure_gradients(model, find_blocks(model, 'it'), batches())


class Lists(nn.Module):
    def forward(self, tensors):
        return [2 * tensors[0], 3 * tensors[1]]


def test_blocks_of_lists():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = Lists()
            self.head = nn.Linear(6, 2)

        def forward(self, x):
            return self.head(torch.cat(self.block([x.mean((2, 3)), x.amax((2, 3))]), 1))

    model = Model()
    data = batches(num_classes=2)
    images = data[0][0].clone().requires_grad_()
    inputs = [images.mean((2, 3)), images.amax((2, 3))]
    F.cross_entropy(model.head(torch.cat([2 * inputs[0], 3 * inputs[1]], 1)), data[0][1]).backward(inputs=inputs)
    found = measure_gradients(model, dict(block=model.block), data)
    assert found.blocks[0].norm_in == pytest.approx(math.hypot(*(x.grad.norm().item() for x in inputs)))

    model.block = nn.Identity()
    model.forward = lambda x: model.head(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1) * model.block(2))
    with pytest.raises(ValueError, match='^Block block takes no tensor that has a gradient'):
        measure_gradients(model, dict(block=model.block), data)


def test_narrow_shortcuts_keep_the_blocks_that_are_compared():
    torch.manual_seed(0)
    found = {}
    for label, kwargs in dict(wide={}, narrow=dict(narrow_skip=True)).items():
        model = timm.create_model('mobilenext_035', num_classes=2, **kwargs)
        found[label] = measure_gradients(model, find_blocks(model, label), batches(num_classes=2)).blocks
    kept = {label: [row.block for row in rows if row.keeps_shape] for label, rows in found.items()}
    assert kept['wide'] == kept['narrow'] and len(set(kept['wide'])) == 12
    # the last block's narrow tensor goes nowhere, so only the numbers of its wide one have a gradient
    last = {label: rows[-1].norm_out / rows[-1].rms_out for label, rows in found.items()}
    assert last['narrow'] == pytest.approx(last['wide'])


def test_network_without_blocks_is_reported():
    with pytest.raises(ValueError, match='^cait has no blocks to measure. Looked for .*; its modules are .*, blocks'):
        find_blocks(timm.create_model('cait_xxs24_224', device='meta'), 'cait')
    with pytest.raises(ValueError) as e:
        find_blocks(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten()), 'mine')
    assert str(e.value) == (
        'mine has no blocks to measure. Looked for modules that its group_matcher calls blocks, and it names none;'
        ' its modules are 0, 1.')


@pytest.mark.parametrize('scheme', ['authors', 'timm'])
def test_one_scheme_for_all(scheme):
    torch.manual_seed(0)
    model = timm.create_model('mobilenetv2_100', num_classes=1000)
    nn.init.zeros_(model.bn1.weight)  # as timm begins the last norm of a residual branch
    draw_weights(model, scheme)
    assert (model.bn1.weight == 1).all()
    depthwise = model.blocks[6][0].conv_dw.weight  # 960 channels of 3x3
    pointwise = model.blocks[6][0].conv_pwl.weight
    assert depthwise.std().item() == pytest.approx(math.sqrt(2 / 9 / (960 if scheme == 'authors' else 1)), rel=0.03)
    assert pointwise.std().item() == pytest.approx(math.sqrt(2 / 320), rel=0.03)
    assert model.classifier.weight.std().item() == pytest.approx(
        0.01 if scheme == 'authors' else math.sqrt(1 / 3 / 1000), rel=0.03)


def test_images(folder):
    images = load_images(folder, 'train', 16, 40, seed=1)
    assert (images.pixels.shape, images.pixels.dtype, images.num_classes) == ((40, 3, 16, 16), torch.uint8, 2)
    assert torch.equal(images.pixels.float().mean((1, 2, 3)) > 127, images.targets == 1)
    assert torch.equal(load_images(folder, 'train', 16, 40, seed=1).pixels, images.pixels)
    assert not torch.equal(load_images(folder, 'train', 16, 40, seed=2).pixels, images.pixels)
    assert set(load_images(folder, 'val', 16, 20).targets.tolist()) == {0, 1}


def test_hidden_folder_is_not_a_class(tmp_path):
    folder = colour_folder(tmp_path, 2)
    shutil.copytree(folder / 'train' / 'dark', folder / 'train' / '.ipynb_checkpoints')
    with pytest.raises(UserError, match='.ipynb_checkpoints is a hidden folder with images'):
        load_images(folder, 'train', 16, 4)


def test_command(folder, tmp_path):
    torch.manual_seed(1)
    trained = timm.create_model('mobilenext_035', num_classes=2)
    file = tmp_path / os.fsdecode(b'caf\xe9.pth.tar')  # a name that is not UTF-8
    torch.save(dict(state_dict=trained.state_dict(), epoch=7), tmp_path / 'last.pth.tar')
    (tmp_path / 'last.pth.tar').rename(file)
    printed = run_cli(
        ENV, 'analyze', 'gradients', '--models', 'mobilenext_035', 'mobilenetv2_035', '--data-dir', folder,
        '--checkpoint', f'mobilenext_035={file}', '--weight-init', 'authors', '--img-size', 32,
        '--batch-size', 4, '--batches', 3, '--seeds', 2, '-o', tmp_path / 'out')
    assert [line.split()[:2] for line in printed.splitlines() if line.count(' ×/ ') > 1] == [
        ['mobilenext_035', 'initial'], ['mobilenext_035', 'after'], ['mobilenetv2_035', 'initial']]
    blocks = rows(tmp_path / 'out' / 'blocks.csv')
    assert len(blocks) == (20 + 20 + 17) * 3 * 2
    # by hand, of strides that both networks have blocks of one shape at
    assert 'Norm at blocks, and per number: at strides 4, 8, 16, 32.\n' in printed
    assert 'In by out: of blocks that keep the shape, at strides 8, 16, 32.\n' in printed
    kept = [
        (row['seed'], row['stride'], math.log(float(row['ratio']))) for row in blocks
        if (row['model'], row['state'], row['keeps_shape']) == ('mobilenext_035', 'initial', 'True')]
    assert len(kept) == 12 * 3 * 2
    by_seed = [statistics.mean(statistics.mean(ratio for of, at, ratio in kept if (of, at) == (seed, stride))
                               for stride in ('8', '16', '32')) for seed in ('0', '1')]
    told = f'{math.exp(statistics.mean(by_seed)):.3g} ×/ {math.exp(statistics.stdev(by_seed)):.3g}'
    assert told in printed
    assert {row['state'] for row in blocks} == {'initial', 'after epoch 8'}
    assert str(tmp_path / r'caf\udce9.pth.tar') in {row['weights'] for row in blocks}
    assert all(float(row['ratio']) == pytest.approx(float(row['norm_in']) / float(row['norm_out']), rel=1e-4)
               for row in blocks)
    assert {row['seed'] for row in rows(tmp_path / 'out' / 'confusion.csv')} == {'0', '1'}
    assert len(rows(tmp_path / 'out' / 'parameters.csv')) > 100
    assert json.loads((tmp_path / 'out' / 'args.json').read_text())['batches'] == 3
    with Image.open(tmp_path / 'out' / 'gradients.png') as picture:
        assert picture.format == 'PNG' and picture.width > 1000

    # one of initial weights, by what the function itself measures of them
    network = create_network(plan(['mobilenext_035'])[0], 2, 32, 0, 'authors')
    images = load_images(folder, 'train', 32, 12, 0)
    mean, std = (torch.tensor(network.model.pretrained_cfg[key])[:, None, None] for key in ('mean', 'std'))
    pixels = (images.pixels / 255 - mean) / std
    found = measure_gradients(
        network.model.train(), network.blocks, list(zip(pixels.split(4), images.targets.split(4), strict=True)))
    assert float(blocks[0]['norm_in']) == pytest.approx(found.blocks[0].norm_in, rel=1e-4)


@pytest.mark.parametrize('specs, strides', [
    (['test_vit'], 'strides none (no feature maps)'),
    (['test_vit', 'mobilenext_035'], 'no common stride'),
])
def test_networks_without_strides(folder, tmp_path, capsys, specs, strides):
    run_gradients(
        GradientSettings(specs, folder, tmp_path / 'out', img_size=160, batch_size=2, batches=2, seeds=1))
    printed = capsys.readouterr().out.splitlines()
    assert f'Norm at blocks, and per number: at {strides}.' in printed
    assert f'In by out: of blocks that keep the shape, at {strides}.' in printed


def test_what_was_measured_is_printed_before_it_is_written(folder, tmp_path, monkeypatch, capsys):
    def fail(*args):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr('timm_mobilenext.analysis.gradients.write_results', fail)
    settings = GradientSettings(
        ['mobilenext_035'], folder, tmp_path / 'out', img_size=32, batch_size=2, batches=2, seeds=1)
    with pytest.raises(OSError, match='No space'):
        run_gradients(settings)
    assert 'Norm at blocks' in capsys.readouterr().out


@pytest.mark.parametrize('change, message', [
    (dict(models=['mobilenext_35']), r"timm has no model 'mobilenext_35': did you mean mobilenext_035.*"),
    (dict(models=['mobilenext_035', 'mobilenext_035']), 'mobilenext_035 is given twice: give each model once, or under'
                                                         ' another label, LABEL=mobilenext_035.'),
    (dict(models=['mobilenext_035,noskip']),
     "mobilenext_035,noskip: 'noskip' is not an argument, give NAME,KEY=VALUE .*"),
    (dict(models=['mobilenext_035,no=1']), 'mobilenext_035,no=1 cannot be created: .*no.*'),
    (dict(models=['mobilenext_035,arch_def=[["xx_r1"]]']), 'mobilenext_035,arch_def=.* cannot be created: .*xx_r1.*'),
    (dict(models=['mobilenext_035,in_chans=1']),
     r'mobilenext_035,in_chans=1 gives no logits of an image of 32 pixels \(.*3 channels.*\): give an image size of'
     ' 224, which it is made for, or other arguments.'),
    (dict(models=['mobilenext_035,features_only=True']),
     'mobilenext_035,features_only=True has no classifier: leave out the argument .* such as features_only, .*'),
    (dict(models=["mobilenext_035,global_pool=''"]), "mobilenext_035,global_pool='' gives no logits of an image of 32"
                                                     r' pixels \(mat1 and mat2 .*'),
    (dict(device='abacus'), 'There is no device abacus here .*'),
    (dict(data_dir=Path('gone')), 'gone is not a folder: give an image folder.'),
    (dict(weight_init='xavier'), "weight_init 'xavier' is not one of model, authors, timm."),
    (dict(pretrained=True, weight_init='timm'), "weight_init 'timm' and pretrained weights exclude each other: leave"
                                                ' one out.'),
    (dict(pretrained=True), 'mobilenext_035 has no pretrained weights: give a checkpoint, or leave --pretrained out.'),
    (dict(models=['mobilenext_050.cifar10'], pretrained=True),
     'mobilenext_050.cifar10 has 10 classes and the data has 2: give weights and data with the same classes.'),
    (dict(checkpoints=['gone.pth']), 'gone.pth is not a file: --checkpoint takes a checkpoint of mobilenext_035.'),
    (dict(models=['mobilenext_035', 'mobilenetv2_035'], checkpoints=['gone.pth']),
     '--checkpoint gone.pth does not say which model it is for: give MODEL=FILE, with MODEL as in --models.'),
    (dict(batches=100), '.* has 48 images in its split \'train\': 400 are needed.'),
    (dict(split='tset'), ".* has no images of a split 'tset': put some into a folder for each class in .*tset."),
])
def test_bad_input(folder, tmp_path, change, message):
    kwargs = dict(models=['mobilenext_035'], data_dir=folder, img_size=32, batch_size=4, batches=2, seeds=1)
    kwargs.update(change)
    with pytest.raises(UserError, match=f'^{message}$'):
        run_gradients(GradientSettings(output=tmp_path / 'out', **kwargs))
    assert not list(tmp_path.iterdir())


def test_missing_library_is_named_with_its_extra_after_bad_arguments(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'matplotlib', None)  # as if it were not installed
    settings = GradientSettings(['mobilenext_035'], folder, tmp_path / 'out', img_size=32)
    with pytest.raises(UserError, match=r"^This needs matplotlib: pip install 'timm-mobilenext\[demo\]'$"):
        run_gradients(settings)
    settings.models = ['mobilenext_35']
    with pytest.raises(UserError, match="^timm has no model 'mobilenext_35'"):
        run_gradients(settings)


@pytest.mark.parametrize('arguments', [
    ['--models', 'mobilenext_035', 'mobilenext_035'],
    ['--models=mobilenext_035', 'mobilenext_035'],
    ['--models', 'mobilenext_035', '--seeds', '1', '--models', 'mobilenext_035'],
])
def test_models_are_all_words_up_to_the_next_option(tmp_path, arguments):
    """Each of the two arrives, and so the second is refused."""
    others = ['--data-dir', str(tmp_path), '-o', str(tmp_path / 'out')]
    for place in (others + arguments, arguments + others):
        result = CliRunner().invoke(app, ['analyze', 'gradients', *place])
        assert result.exit_code == 1 and 'Error: mobilenext_035 is given twice' in result.output


def test_words_after_another_option_are_not_models(tmp_path):
    arguments = ['--models', 'mobilenext_035', '--data-dir', '.', 'mobilenext_050', '-o', str(tmp_path / 'out')]
    result = CliRunner().invoke(app, ['analyze', 'information', *arguments])
    assert result.exit_code == 2 and 'mobilenext_050' in result.output


def test_checkpoints_are_loaded(tmp_path):
    file = tmp_path / 'checkpoint-3.pth.tar'
    model = timm.create_model('mobilenetv2_035', num_classes=2)
    torch.save(dict(state_dict=model.state_dict(), epoch=3), file)
    _, subject = plan(['mobilenetv2_035'], [str(file)])
    network = create_network(subject, 2, 32)
    assert subject.state == 'after epoch 4'
    loaded = network.model.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in model.state_dict().items())
    _, subject = plan(['mobilenext_035'], [str(file)])
    with pytest.raises(RuntimeError, match='conv_pw1') as e:
        create_network(subject, 2, 32)
    assert len(str(e.value).splitlines()) == 1


def test_checkpoints_of_one_state_are_seeds(tmp_path):
    files = []
    for seed in (1, 2):
        files.append(str(tmp_path / f'seed{seed}.pth.tar'))
        torch.manual_seed(seed)
        model = timm.create_model('mobilenext_035', num_classes=2)
        torch.save(dict(state_dict=model.state_dict(), epoch=7), files[-1])
    first, after = plan(['mobilenext_035'], files, seeds=2)
    assert (first.state, after.state) == ('initial', 'after epoch 8')
    assert [after.weights(seed) for seed in (0, 1)] == files
    stems = [create_network(after, 2, 32, seed).model.conv_stem.weight for seed in (0, 1)]
    assert torch.equal(stems[1], model.conv_stem.weight) and not torch.equal(*stems)
    with pytest.raises(ValueError, match='mobilenext_035 has 2 checkpoints of the same state, after epoch 8: give'
                                         ' one, or one for each of the 3 seeds'):
        plan(['mobilenext_035'], files, seeds=3)
    with pytest.raises(ValueError, match='seed1.pth.tar is given twice: give each checkpoint once'):
        plan(['mobilenext_035'], [files[0], files[0]], seeds=2)


def test_arguments_with_commas():
    arch_def = '[["sg_r1_k3_s2_e2_c32"],["sg_r1_k3_s2_e6_c48"]]'
    [subject] = plan([f'mobilenext_035,arch_def={arch_def},bn_eps=0.1,act_layer=silu'])
    assert dict(subject.kwargs) == dict(
        arch_def=[['sg_r1_k3_s2_e2_c32'], ['sg_r1_k3_s2_e6_c48']], bn_eps=0.1, act_layer='silu')
    assert len(create_network(subject, 2, 32).blocks) == 2


def test_labels(tmp_path):
    file = tmp_path / 'last.pth.tar'
    torch.save(dict(state_dict=timm.create_model('mobilenext_035', num_classes=2).state_dict(), epoch=7), file)
    specs = ['wide=mobilenext_035', 'no shortcut=mobilenext_035,noskip=True', 'mobilenext_035,drop_rate=0.1']
    planned = plan(specs, [f'no shortcut={file}', f'mobilenext_035,drop_rate=0.1={file}'])
    assert [(subject.label, subject.name, subject.state) for subject in planned] == [
        ('wide', 'mobilenext_035', 'initial'),
        ('no shortcut', 'mobilenext_035', 'initial'),
        ('no shortcut', 'mobilenext_035', 'after epoch 8'),
        ('mobilenext_035,drop_rate=0.1', 'mobilenext_035', 'initial'),
        ('mobilenext_035,drop_rate=0.1', 'mobilenext_035', 'after epoch 8'),
    ]
    assert [dict(subject.kwargs) for subject in planned[1:4]] == [dict(noskip=True)] * 2 + [dict(drop_rate=0.1)]
    # a file whose name begins like the label
    _, subject = plan([f'{str(file)[:4]}=mobilenext_035'], [str(file)])
    assert subject.weights(0) == str(file)
    with pytest.raises(ValueError, match='wide is given twice'):
        plan(['wide=mobilenext_035', 'wide=mobilenext_050'])


def test_checkpoint_of_other_classes(folder, tmp_path):
    torch.save(timm.create_model('mobilenext_035', num_classes=7).state_dict(), tmp_path / 'of7.pth')
    with pytest.raises(ValueError, match='of7.pth has 7 classes and the data has 2: give weights and data with the'
                                         ' same'):
        run_gradients(GradientSettings(['mobilenext_035'], folder, tmp_path / 'out', [str(tmp_path / 'of7.pth')],
                                       img_size=32, batch_size=4, batches=2, seeds=1))
    assert not (tmp_path / 'out').exists()


def test_empty_data_and_existing_output(folder, tmp_path):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match="empty has no images of a split 'train'"):
        run_gradients(GradientSettings(['mobilenext_035'], tmp_path / 'empty', tmp_path / 'out', img_size=32))
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'blocks.csv').write_text('mine')
    assert run_cli(
        ENV, 'analyze', 'gradients', '--models', 'mobilenext_035', '--data-dir', folder, '-o', tmp_path / 'out', code=1,
    ) == f'Error: {tmp_path / "out"} exists: give another name, nothing is overwritten.'
    assert (tmp_path / 'out' / 'blocks.csv').read_text() == 'mine'
