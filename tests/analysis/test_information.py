"""Mutual information: estimators where it is known, and blocks where it is."""
import csv
import json
import math
import os
import statistics

import pytest
import torch
from helpers import colour_folder, run_cli
from PIL import Image
from torch import nn

import timm

from timm_mobilenext.analysis.estimators import ESTIMATORS, gaussian_information, kernel_information
from timm_mobilenext.analysis.information import measure_information, NOISES, run_information
from timm_mobilenext.analysis.settings import InformationSettings
from timm_mobilenext.analysis.subjects import (
    calibrate_norms,
    create_network,
    find_blocks,
    load_images,
    normalize,
    plan,
)

pytestmark = [pytest.mark.tools, pytest.mark.slow]

ENV = {**os.environ, 'OMP_NUM_THREADS': '1', 'NO_COLOR': '1'}


def gaussians(samples, dimensions, correlation):
    """Two Gaussian variables each of whose dimensions has one of the other's that it is correlated with, turned."""
    x = torch.randn(samples, dimensions, dtype=torch.float64)
    y = correlation * x + math.sqrt(1 - correlation ** 2) * torch.randn_like(x)
    turn = torch.linalg.qr(torch.randn(dimensions, dimensions, dtype=torch.float64)).Q
    return x, y @ turn, -dimensions / 2 * math.log(1 - correlation ** 2)


@pytest.mark.parametrize('estimator', list(ESTIMATORS))
@pytest.mark.parametrize('dimensions', [2, 8])
@pytest.mark.parametrize('correlation', [0.3, 0.7, 0.95, 0.995])
def test_gaussian_pairs(estimator, dimensions, correlation):
    x, y, known = gaussians(1000, dimensions, correlation)
    assert ESTIMATORS[estimator](x, [y]) == [pytest.approx(known, rel=0.1, abs=0.1)]


@pytest.mark.parametrize('estimator', list(ESTIMATORS))
@pytest.mark.parametrize('dimensions, samples, error', [(16, 2000, 0.08), (16, 640, 0.15), (64, 2667, 0.1)])
def test_gaussian_pairs_at_the_command(estimator, dimensions, samples, error):
    """Samples: the command's default, the fewest that it accepts, and those of docs/why.md."""
    for correlation in (0.8, 0.995):
        x, y, known = gaussians(samples, dimensions, correlation)
        assert ESTIMATORS[estimator](x, [y]) == [pytest.approx(known, rel=error)]


@pytest.mark.parametrize('within, error', [(0.5, 0.1), (0.2, 0.25)])
def test_clusters_give_too_much_information(within, error):
    """Ten clusters in 9 of 16 dimensions, as classes of a trained network: the known errors of both estimators."""
    corners = torch.linalg.svd(torch.eye(10, dtype=torch.float64) - 0.1).U[:, :9]  # of a simplex
    centers = corners * math.sqrt(10 * (1 - within ** 2))  # so that each dimension has variance 1
    noise, variance = 0.3, within ** 2 + 0.09

    def sample(count):
        x = torch.randn(count, 16, dtype=torch.float64)
        x[:, :9] = centers[torch.arange(count) % 10] + within * x[:, :9]
        return x, x + noise * torch.randn_like(x)

    y = sample(50000)[1][:, :9]
    # entropy of the clusters, less that of noise, and what the other 7 tell
    density = (-torch.cdist(y, centers).square() / (2 * variance)).exp().mean(1)
    clusters = -density.log().mean().item() + 9 / 2 * (math.log(variance / noise ** 2) - 1)
    known = clusters + 7 / 2 * math.log(1 + 1 / noise ** 2)
    x, noisy = sample(2000)
    [kernel], [gaussian] = kernel_information(x, [noisy]), gaussian_information(x, [noisy])
    assert known < kernel < (1 + error) * known < gaussian


@pytest.mark.parametrize('estimator', list(ESTIMATORS))
@pytest.mark.parametrize('dimensions', [2, 16])
def test_independent_pairs(estimator, dimensions):
    x, y, _ = gaussians(1000, dimensions, 0.8)
    estimates = ESTIMATORS[estimator](x, [y[torch.randperm(len(y))] for _ in range(5)])
    mean, deviation = torch.tensor(estimates).mean().item(), torch.tensor(estimates).std().item()
    assert abs(mean) < 0.03 + deviation
    assert deviation < 0.05


def test_sampling_errors_of_correlations_are_taken_off():
    """Squares of correlations of 320 independent samples would add up to 0.025 nats in 16 dimensions."""
    x, y, _ = gaussians(640, 16, 0.8)
    estimates = gaussian_information(x, [y[torch.randperm(len(y))] for _ in range(30)])
    assert abs(torch.tensor(estimates).mean().item()) < 0.008


@pytest.mark.parametrize('width', [1, 0.5, 0.1])
def test_uniform_noise_on_a_uniform_variable(width):
    """h(x + e) - h(e) is width / 2 - log(width) in each dimension. Gaussian entropies are too large for it."""
    x = torch.rand(2000, 2)
    y = x + width * torch.rand(2000, 2)
    known = 2 * (width / 2 - math.log(width))
    [kernel], [gaussian] = kernel_information(x, [y]), gaussian_information(x, [y])
    assert kernel == pytest.approx(known, rel=0.15)
    assert gaussian < known + 0.05
    if width == 1:
        assert kernel > gaussian + 0.1


def test_dependence_without_correlation():
    x = torch.randn(1200, 2)
    # noise alone is left when x is known, and y varies more than that by sin(3x)'s variance of nearly 1/2
    y = (3 * x).sin() + 0.3 * torch.randn(1200, 2)
    [kernel], [gaussian] = kernel_information(x, [y]), gaussian_information(x, [y])
    assert abs(gaussian) < 0.05
    assert 1 < kernel < math.log(1 + 0.5 / 0.09) + 0.1


@pytest.mark.parametrize('estimator', list(ESTIMATORS))
def test_linear_maps_change_nothing(estimator):
    x, y, _ = gaussians(800, 4, 0.8)
    maps = torch.randn(2, 4, 4, dtype=torch.float64)
    [one], [other] = ESTIMATORS[estimator](x, [y]), ESTIMATORS[estimator](x @ maps[0] + 5, [100 * y @ maps[1]])
    assert other == pytest.approx(one, rel=1e-6 if estimator == 'gaussian' else 0.1)


def test_several_variables_are_each_by_itself():
    x, y, _ = gaussians(800, 4, 0.8)
    noisy = y + torch.randn_like(y)
    for estimate in ESTIMATORS.values():
        assert estimate(x, [y, noisy]) == pytest.approx([*estimate(x, [y]), *estimate(x, [noisy])], rel=1e-6)


@pytest.mark.parametrize('estimator', list(ESTIMATORS))
def test_too_few_samples(estimator):
    x, y, _ = gaussians(319, 8, 0.5)
    with pytest.raises(ValueError, match=r'^319 samples are too few for 8 dimensions: 320 are needed\.$'):
        ESTIMATORS[estimator](x, [y])
    x, y, _ = gaussians(320, 8, 0.5)
    assert math.isfinite(ESTIMATORS[estimator](x, [y])[0])


class Known(nn.Module):
    """Blocks that are known to keep certain things."""

    def __init__(self):
        super().__init__()
        self.same = nn.Identity()
        self.mirror = Mirror()
        self.forget = Forget()

    def forward(self, x):
        return self.forget(self.mirror(self.same(x)))


class Mirror(nn.Module):
    def forward(self, x):
        y = -2 * x.flip(3)
        x.zero_()  # a block may that begins with an activation in place
        return y


class Forget(nn.Module):
    def forward(self, x):
        return torch.randn_like(x) * torch.linspace(1, 3, x.shape[-1])


@pytest.fixture(scope='module', params=[8, 24], ids=['whole', 'sketched'])
def known(request):
    torch.manual_seed(0)
    model = Known()
    # four clear components; of 8 px the numbers are few enough to need no sketch
    side = request.param
    patterns = torch.randn(4, 3, side, side) * torch.tensor([8, 6, 4, 3]).view(4, 1, 1, 1)
    factors = torch.randn(1500, 4)
    images = torch.einsum('nk,kchw->nchw', factors, patterns) + 0.1 * torch.randn(1500, 3, side, side)
    blocks = dict(model.named_children())
    targets = (factors[:, 0] > 0).long()
    given = images.clone()
    found = measure_information(model, blocks, images.split(100), targets, dimensions=4)
    assert torch.equal(images, given)  # though a block writes in what it reads
    return found


@pytest.mark.parametrize('estimator', list(ESTIMATORS))
@pytest.mark.parametrize('noise', NOISES)
def test_blocks_of_known_information(known, estimator, noise):
    rows = {row.block: row for row in known.blocks if (row.estimator, row.noise) == (estimator, noise)}
    # the same four components, and noise on them
    channel = 4 / 2 * math.log(1 + 1 / noise ** 2)
    assert rows['same'].nats == pytest.approx(channel, rel=0.1, abs=0.05)
    assert rows['mirror'].nats == pytest.approx(channel, rel=0.1, abs=0.05)
    assert abs(rows['forget'].nats) < 0.1
    assert all(abs(row.shuffled) < 0.1 for row in rows.values())
    assert [(row.place, row.depth, row.stride, row.keeps_shape) for row in rows.values()] == [
        (0, 0, 1, True), (1, 0.5, 1, True), (2, 1, 1, True)]


def test_probes_of_known_blocks(known):
    same, mirror, forget = known.probes
    assert same.pixels == pytest.approx(1, abs=1e-3) and mirror.pixels == pytest.approx(1, abs=1e-3)
    assert abs(forget.pixels) < 0.1
    assert min(same.top1, mirror.top1) > 85
    assert 40 < forget.top1 < 60


def test_probes_are_measured_on_images_that_they_were_not_fitted_on():
    """A class that moves one of 192 numbers by a deviation to either side cannot be read in more than 84.1 %."""
    targets = torch.randint(2, (1500,))
    images = torch.randn(1500, 3, 8, 8)
    images[:, 0, 0, 0] += 2 * targets - 1
    model = nn.Sequential(nn.Identity())
    [probe] = measure_information(model, {'0': model[0]}, images.split(500), targets, dimensions=2).probes
    assert 70 < probe.top1 < 84.1


class Aside(nn.Module):
    def forward(self, x):
        return torch.randn_like(x), x.clone()


def test_probes_read_all_tensors_of_a_block():
    targets = torch.randint(2, (600,))
    images = torch.randn(600, 3, 4, 4) + 3 * targets.view(-1, 1, 1, 1)
    model = nn.Sequential(Aside())
    [probe] = measure_information(model, {'0': model[0]}, images.split(200), targets, dimensions=2).probes
    assert probe.top1 > 95 and probe.pixels > 0.99


@pytest.mark.parametrize('name, kwargs', [
    ('mobilenext_035', {}), ('mobilenext_035', dict(narrow_skip=True)), ('resnet10t', {})])
def test_noise_lowers_information_in_a_network(name, kwargs):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=2, **kwargs).eval()
    images = nn.functional.interpolate(torch.randn(600, 3, 4, 4), 64, mode='bilinear')
    calibrate_norms(model, images.split(100))
    found = measure_information(
        model, find_blocks(model, name), images.split(100), torch.arange(600) % 2, dimensions=4)
    for estimator in ESTIMATORS:
        nats = torch.tensor(
            [row.nats for row in found.blocks if row.estimator == estimator and not row.tensor]).view(-1, 3)
        assert len(nats) == len(find_blocks(model, name))
        assert nats.mean(0)[0] > nats.mean(0)[1] > nats.mean(0)[2] > 0
        assert (nats.diff(dim=1) < 0.1).all()  # in each block but for errors
        shuffled = torch.tensor([row.shuffled for row in found.blocks if row.estimator == estimator])
        assert abs(shuffled.mean()) < 0.15
    if name == 'mobilenext_035':
        kept = [
            row.block for row in found.blocks
            if row.keeps_shape and (row.tensor, row.noise, row.estimator) == (0, 1, 'kernel')]
        assert kept == [f'blocks.{i}.{j}' for i, of in ((2, 3), (3, 3), (4, 4), (5, 4), (6, 3)) for j in range(1, of)]
    if kwargs:
        # a block of stride 2 hands on its narrow tensor as it was before the stride
        strides = {(row.block, row.tensor): row.stride for row in found.blocks}
        assert [strides['blocks.2.0', tensor] for tensor in (0, 1)] == [8, 4]
        assert [strides['blocks.2.1', tensor] for tensor in (0, 1)] == [8, 8]


def test_norms_are_calibrated():
    model = timm.create_model('mobilenext_035', num_classes=2).eval()
    momentum = model.bn1.momentum
    images = torch.randn(60, 3, 32, 32) + 3
    calibrate_norms(model, images.split(30))
    x = model.conv_stem(images)
    assert torch.allclose(model.bn1.running_mean, x.mean((0, 2, 3)), atol=1e-4)
    assert model.bn1.momentum == momentum and not model.training and not model.bn1.training


def test_norms_of_checkpoints_stay_as_they_are(tmp_path):
    folder = colour_folder(tmp_path / 'images', 40)
    torch.manual_seed(0)
    trained = timm.create_model('mobilenext_035', num_classes=2)
    state_dict = {name: x for name, x in trained.state_dict().items() if 'num_batches_tracked' not in name}
    reads = {}
    for shift in (0., 1.):
        state_dict['bn1.running_mean'] = torch.full_like(trained.bn1.running_mean, shift)
        torch.save(dict(state_dict=state_dict), tmp_path / f'{shift}.pth')
        run_information(InformationSettings(
            ['mobilenext_035'], folder, tmp_path / f'{shift}', checkpoints=[str(tmp_path / f'{shift}.pth')],
            img_size=32, samples=70, dimensions=1, seeds=1))
        with open(tmp_path / f'{shift}' / 'probes.csv', newline='') as lines:
            reads[shift] = [row['pixels'] for row in csv.DictReader(lines) if row['state'] != 'initial']
    assert reads[0.] != reads[1.]


def test_blocks_that_run_twice_are_reported():
    model = Known()
    twice = nn.Sequential(model, model)
    with pytest.raises(ValueError, match='^Block 0 runs more than once for an image'):
        measure_information(
            twice, {'0': model}, torch.randn(300, 3, 8, 8).split(100), torch.arange(300) % 2, dimensions=2)


def test_numbers_that_are_not_finite_and_too_few_dimensions():
    model = Known()
    images = torch.randn(300, 3, 8, 8)
    images[0, 0, 0, 0] = math.inf
    with pytest.raises(ValueError, match='^The input of block same is not finite for some images'):
        measure_information(model, dict(model.named_children()), [images], torch.arange(300) % 2, dimensions=2)
    flat = torch.randn(300, 1, 1, 1).expand(300, 3, 8, 8).clone()
    with pytest.raises(ValueError, match='^A tensor varies in fewer than 2 dimensions: give fewer'):
        measure_information(model, dict(model.named_children()), [flat], torch.arange(300) % 2, dimensions=2)


def test_command(tmp_path):
    folder = colour_folder(tmp_path / 'images', 40)
    printed = run_cli(
        ENV, 'analyze', 'information', '--models', 'mobilenext_035', 'mobilenext_035,noskip=True', '--data-dir', folder,
        '--img-size', 32, '--samples', 70, '--dimensions', 1, '--seeds', 2, '-o', tmp_path / 'out')
    with open(tmp_path / 'out' / 'ranking.csv', newline='') as lines:
        ranking = list(csv.DictReader(lines))
    assert [row['stride'] for row in ranking[::2]] == ['8', '16', '32', 'all'] * 3 * 2
    ranking = [row for row in ranking if row['stride'] == 'all']
    assert len(ranking) == 3 * 2 * 2
    for first, second in zip(ranking[::2], ranking[1::2], strict=True):
        assert float(first['nats']) >= float(second['nats'])
        assert (first['noise'], first['estimator']) == (second['noise'], second['estimator'])
        assert first['blocks'] == second['blocks'] == '12'
        assert f'{float(first["nats"]):.3g} ± ' in printed
    with open(tmp_path / 'out' / 'information.csv', newline='') as lines:
        blocks = list(csv.DictReader(lines))
    assert len(blocks) == 2 * 2 * 20 * 3 * 2
    own = [
        (row['stride'], float(row['nats'])) for row in blocks if row['keeps_shape'] == 'True' and
        (row['model'], row['noise'], row['estimator']) == tuple(ranking[0][k] for k in ('model', 'noise', 'estimator'))]
    assert len(own) == 24
    by_stride = [statistics.mean(nats for at, nats in own if at == stride) for stride in ('8', '16', '32')]
    assert float(ranking[0]['nats']) == pytest.approx(statistics.mean(by_stride), rel=1e-4)
    # the second seed, by what the functions themselves measure
    network = create_network(plan(['mobilenext_035'])[0], 2, 32, seed=1)
    images = load_images(folder, 'validation', 32, 70, seed=1)
    pixels = normalize(images.pixels, network.model)
    calibrate_norms(network.model.eval(), [pixels])
    found = measure_information(network.model, network.blocks, [pixels], images.targets, dimensions=1, seed=1)
    told = [row for row in blocks if (row['model'], row['seed']) == ('mobilenext_035', '1')]
    assert [float(row['nats']) for row in told] == pytest.approx([row.nats for row in found.blocks], rel=1e-3, abs=1e-3)
    with open(tmp_path / 'out' / 'probes.csv', newline='') as lines:
        probes = list(csv.DictReader(lines))
    assert len(probes) == 2 * 2 * 20 and float(probes[0]['top1']) > 90  # of dark and light images
    assert json.loads((tmp_path / 'out' / 'args.json').read_text())['samples'] == 70
    with Image.open(tmp_path / 'out' / 'information.png') as picture:
        assert picture.format == 'PNG' and picture.width > 1000


@pytest.mark.parametrize('change, message', [
    (dict(samples=119), '119 images are too few for 2 dimensions: 120 are needed, a third of them for principal'
                        ' components.'),
    (dict(samples=1000), ".* has 4 images in its split 'validation': 1000 are needed."),
    (dict(models=[]), 'No model is given: --models takes one or more models of timm.'),
])
def test_bad_input(tmp_path, change, message):
    folder = colour_folder(tmp_path / 'images', 2)
    kwargs = dict(models=['mobilenext_035'], data_dir=folder, img_size=32, samples=120, dimensions=2, seeds=1)
    kwargs.update(change)
    with pytest.raises(ValueError, match=f'^{message}$'):
        run_information(InformationSettings(output=tmp_path / 'out', **kwargs))
    assert not (tmp_path / 'out').exists()
