""" Information between a block's input and output

A deterministic map of a continuous input has infinite mutual information with it. So what is estimated is
I(P x; Q f(x) + s e): x and f(x) are a block's input and output, P and Q fixed linear maps to the same few dimensions,
whitened, and e noise of deviation 1. P and Q are a random sketch, and the first principal components of other images'
sketches. The level s says how fine what is asked for is. Units are nats.

Two estimators of different kinds, each fitted on images that it is not measured on:

- `gaussian_information` knows correlations alone: canonical directions, and -log(1 - r^2) / 2 of each;
- `kernel_information` knows nonlinear dependence and other distributions too: the entropy of y less that of what a
  kernel ridge regression leaves of it (random Fourier features, Rahimi and Recht 2007; nearest neighbours).

Besides, how well a linear probe reads the class, and a ridge regression the pixels, from each block's output.
"""
import math
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from rich.table import Table
from torch import nn

from timm.utils import random_seed

from ..shared.console import create_table_console
from ..shared.errors import UserError
from .subjects import (
    calibrate_norms,
    check_weight_init,
    create_network,
    flat_tensors,
    Images,
    load_images,
    map_side,
    normalize,
    plan,
)
from .tables import check_output, mean_and_spread, name_strides, shared, show, write_results

__all__ = [
    'BlockInformation', 'BlockProbe', 'check_images', 'ESTIMATORS', 'gaussian_information', 'Information',
    'kernel_information', 'measure_information', 'NOISES', 'run_information', 'SAMPLES_A_DIMENSION',
]

NOISES = 0.1, 0.3, 1.0
SAMPLES_A_DIMENSION = 10
_SKETCH = 1024  # numbers that are kept of a larger tensor, of each image
_FEATURES = 512  # random Fourier features
_PIXELS = 16  # side of the images that the regression reads
_PENALTIES = 10. ** torch.arange(-6, 5, dtype=torch.float64)  # of ridge regressions, times the number of samples
_WIDTHS = 0.5, 1.0, 2.0, 4.0  # of the kernel, in medians of distances
_BATCH = 100  # images that go through a network at once
_NEIGHBOUR = 3  # whose distance tells the density


def _check_samples(samples: int, dimensions: int) -> None:
    """ Raise a UserError if samples are too few: ten for each dimension of both variables, in each half."""
    needed = 2 * SAMPLES_A_DIMENSION * 2 * dimensions
    if samples < needed:
        raise UserError(f'{samples} samples are too few for {dimensions} dimensions: {needed} are needed.')


def _halves(samples: int) -> List[Tuple[slice, slice]]:
    """ To fit on and to measure on, each half once."""
    first, second = slice(0, samples // 2), slice(samples // 2, samples)
    return [(first, second), (second, first)]


def _inverse_root(covariance: torch.Tensor) -> torch.Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=values[-1] * 1e-12).rsqrt() @ vectors.T


def _whiten(samples: torch.Tensor) -> torch.Tensor:
    """ Samples of mean 0 and the unit matrix for their covariance, by a linear map."""
    centered = samples - samples.mean(0)
    return centered @ _inverse_root(centered.T @ centered / len(centered))


def gaussian_information(x: torch.Tensor, ys: Sequence[torch.Tensor]) -> List[float]:
    """ Mutual information of two variables by their canonical correlations, right where both are Gaussian.

    Directions are fitted on one half of the samples, and correlations measured on the other; each half once.

    Args:
        x: Samples (N, D).
        ys: Samples (N, D) of each of the variables that x may tell something of.

    Returns:
        Nats of each. The sampling error of a correlation is taken off, so it is 0 in the mean of independent variables.

    Raises:
        UserError: If there are too few samples.
    """
    x = x.double()
    _check_samples(len(x), x.shape[1])
    nats = []
    for y in ys:
        y = y.double()
        total = 0.
        for fit, test in _halves(len(x)):
            means = x[fit].mean(0), y[fit].mean(0)
            a, b = x[fit] - means[0], y[fit] - means[1]
            n = len(a)
            roots = _inverse_root(a.T @ a / n), _inverse_root(b.T @ b / n)
            u, _, v = torch.linalg.svd(roots[0] @ (a.T @ b / n) @ roots[1])
            a, b = (x[test] - means[0]) @ roots[0] @ u, (y[test] - means[1]) @ roots[1] @ v.T
            a, b = a - a.mean(0), b - b.mean(0)
            n = len(a)
            unexplained = 1 - (a * b).sum(0).square() / (a.square().sum(0) * b.square().sum(0))
            # the square of a correlation of independent variables is 1 / (n - 1) in the mean
            unexplained = unexplained * (n - 1) / (n - 2)
            total -= unexplained.clamp(min=1e-12).log().sum().item() / 2
        nats.append(total / 2)
    return nats


def kernel_information(x: torch.Tensor, ys: Sequence[torch.Tensor], seed: int = 0) -> List[float]:
    """ Mutual information of two variables by what a kernel ridge regression of y on x leaves over.

    h(y) - h(y - g(x)), with g fitted on one half of the samples, and entropies measured on the other; each half once.
    It is a lower bound but for errors, reached where what g leaves does not depend on x. Errors grow with the number of
    dimensions where samples gather in clusters, each of which has fewer of them: the tests allow a quarter too much.

    Args:
        x: Samples (N, D).
        ys: Samples (N, D) of each of the variables that x may tell something of.
        seed: Seed of the random features.

    Returns:
        Nats of each.

    Raises:
        UserError: If there are too few samples.
    """
    _check_samples(len(x), x.shape[1])
    x = _whiten(x.double())  # distances are of no more meaning in one direction than in another
    stacked = torch.cat([y.double() for y in ys], dim=1)
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(x.shape[1], _FEATURES, dtype=x.dtype, generator=generator)
    phases = 2 * math.pi * torch.rand(_FEATURES, dtype=x.dtype, generator=generator)
    nats = torch.zeros(len(ys), dtype=x.dtype)
    for fit, test in _halves(len(x)):
        median = torch.pdist(x[fit][:500]).median()
        features = [
            torch.cat([x, (x @ directions / (width * median) + phases).cos()], dim=1) for width in _WIDTHS]
        predicted = _ridge([f[fit] for f in features], stacked[fit], [f[test] for f in features])
        for i, (y, told) in enumerate(zip(
                stacked[test].split(x.shape[1], dim=1), predicted.split(x.shape[1], dim=1), strict=True)):
            nats[i] += (_entropy(y) - _entropy(y - told)) / 2
    return nats.tolist()


def _entropy(samples: torch.Tensor) -> float:
    """ Entropy by nearest neighbours (Kozachenko and Leonenko 1987) but for a constant of their number, in nats.

    Neighbours are those of whitened samples, so that the estimator's errors are the same for all Gaussians.
    """
    centered = samples - samples.mean(0)
    covariance = centered.T @ centered / len(centered)
    white = centered @ _inverse_root(covariance)
    distances = torch.cdist(white, white).kthvalue(_NEIGHBOUR + 1, dim=1).values  # the first is oneself
    return torch.linalg.slogdet(covariance).logabsdet.item() / 2 + samples.shape[1] * distances.log().mean().item()


ESTIMATORS = dict(gaussian=gaussian_information, kernel=kernel_information)


def _ridge(fit: List[torch.Tensor], targets: torch.Tensor, test: List[torch.Tensor]) -> torch.Tensor:
    """ Ridge regression, by that of several sets of features and that penalty whose error is least, left one out.

    Args:
        fit: Features (N, M) of each set.
        targets: What to predict, (N, K); for each of the K the best set and penalty are found alone.
        test: The same features of other samples, (L, M).

    Returns:
        Predictions (L, K) of the targets of those.
    """
    mean = targets.mean(0)
    centered = targets - mean
    best = torch.full((targets.shape[1],), math.inf, dtype=targets.dtype)
    predicted = torch.zeros(len(test[0]), targets.shape[1], dtype=targets.dtype)
    for features, others in zip(fit, test, strict=True):
        center, scale = features.mean(0), features.std(0)
        varies = scale > 1e-9 * scale.max()
        features, others = ((f[:, varies] - center[varies]) / scale[varies] for f in (features, others))
        values, vectors = _principal(features)
        scores, products = features @ vectors, vectors.T @ (features.T @ centered) / len(features)
        chosen = torch.full_like(best, math.nan)
        for penalty in _PENALTIES:
            shrink = 1 / (values + penalty)
            residual = centered - scores @ (shrink[:, None] * products)
            leverage = 1 / len(features) + scores.square() @ shrink / len(features)
            error = (residual / (1 - leverage).clamp(min=1e-9)[:, None]).square().mean(0)
            better = error < best
            best = torch.where(better, error, best)
            chosen[better] = penalty
        scores = others @ vectors
        for penalty in _PENALTIES:
            if (which := chosen == penalty).any():
                predicted[:, which] = scores / (values + penalty) @ products[:, which] + mean[which]
    return predicted


def _principal(features: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """ Variances (R,) and directions (M, R) of the principal components of features (N, M)."""
    samples, size = features.shape
    if size <= samples:
        values, vectors = torch.linalg.eigh(features.T @ features / samples)
        kept = values > 1e-12 * values[-1]
        return values[kept], vectors[:, kept]
    values, vectors = torch.linalg.eigh(features @ features.T / samples)
    kept = values > 1e-12 * values[-1]
    return values[kept], features.T @ vectors[:, kept] / (samples * values[kept]).sqrt()


@dataclass(frozen=True)
class BlockInformation:
    """ Mutual information between input and output of a block."""
    block: str
    tensor: int  # number of the tensor among those that the block takes, and gives
    place: int  # in the order in which data flows, from 0
    depth: float  # the same from 0 to 1
    stride: float  # of the tensor that the block gives; 0 where that is no feature map
    keeps_shape: bool  # input and output are of the same shape, so there may be a shortcut
    explained_in: float  # part of the input's variance in the dimensions that are kept, as P has them
    explained_out: float
    noise: float  # s
    estimator: str
    nats: float
    shuffled: float  # the same where inputs and outputs are of different images: 0 but for errors


@dataclass(frozen=True)
class BlockProbe:
    """ What can be read from the output of a block, all tensors that it gives, by a linear map of their sketches."""
    block: str
    place: int
    depth: float
    stride: float  # of the first tensor
    top1: float  # percent, of the class
    pixels: float  # part of the variance of the image's pixels that is explained, 1 at most


@dataclass
class Information:
    """ What was measured of a network."""
    blocks: List[BlockInformation] = field(default_factory=list)
    probes: List[BlockProbe] = field(default_factory=list)


def check_images(count: int, dimensions: int) -> None:
    """ Raise a UserError if images are too few for so many dimensions."""
    needed = 3 * SAMPLES_A_DIMENSION * 2 * dimensions
    if count < needed:
        raise UserError(f'{count} images are too few for {dimensions} dimensions: {needed} are needed, a third of them'
                         ' for principal components.')


@torch.inference_mode()
def measure_information(
        model: nn.Module,
        blocks: Dict[str, nn.Module],
        batches: Iterable[torch.Tensor],
        targets: torch.Tensor,
        dimensions: int = 16,
        noises: Sequence[float] = NOISES,
        seed: int = 0,
) -> Information:
    """ Measure information between input and output of each block, with the network in the mode that it is in.

    A third of the images gives principal components, the others the two halves of the estimators. Of a block that takes
    and gives several tensors, each is measured from input to output.

    Args:
        model: Network.
        blocks: Its blocks by name.
        batches: Images (B, 3, H, W), as the network takes them, N in all.
        targets: Their classes (N,).
        dimensions: Dimensions of P and Q.
        noises: Levels of noise, relative to the whitened output.
        seed: Seed of sketches, noise and shuffling.

    Raises:
        UserError: If there are too few images, no block runs, or one runs twice or gives what is no finite number.
    """
    check_images(len(targets), dimensions)
    components = len(targets) // 3
    borders = _Sketches(blocks, seed)
    seen = []
    with borders:
        for batch in batches:
            seen.append(F.adaptive_avg_pool2d(batch, _PIXELS).flatten(1).double())
            img_size = batch.shape[-1]
            model(batch.clone())  # the network may write in it
    if not borders.order:
        raise UserError(f'None of the blocks {", ".join(blocks)} ran.')
    pixels = torch.cat(seen)
    for (name, *_), parts in borders.kept.items():
        if sum(map(len, parts)) > len(pixels):
            raise UserError(f'Block {name} runs more than once for an image: what passes it is not one thing.')
    classes = F.one_hot(targets, int(targets.max()) + 1).double()
    found = Information()
    generator = torch.Generator().manual_seed(seed)
    for place, name in enumerate(borders.order):
        about = place, place / max(len(borders.order) - 1, 1)
        # tensors of one block may differ in it: a narrow one is handed on from before the strided convolution
        strides = [img_size / side if side else 0. for side in borders.sides[name]]
        for tensor in borders.tensors(name):
            x, y = (borders.read(name, border, tensor) for border in ('in', 'out'))
            keeps_shape = borders.shapes[name, 'in', tensor] == borders.shapes[name, 'out', tensor]
            for row in _estimate(x, y, components, dimensions, noises, generator):
                found.blocks.append(BlockInformation(name, tensor, *about, strides[tensor], keeps_shape, **row))
        features = torch.cat(
            [borders.read(name, 'out', tensor) for tensor in range(len(borders.sides[name]))], dim=1)
        fit, test = slice(components, None), slice(0, components)
        read = _ridge([features[fit]], torch.cat([classes, pixels], dim=1)[fit], [features[test]])
        right = read[:, :classes.shape[1]].argmax(1) == targets[test]
        error = (read[:, classes.shape[1]:] - pixels[test]).square().sum()
        spread = (pixels[test] - pixels[fit].mean(0)).square().sum()
        found.probes.append(BlockProbe(
            name, *about, strides[0], 100 * right.double().mean().item(), (1 - error / spread).item()))
    return found


def _estimate(
        x: torch.Tensor, y: torch.Tensor, components: int, dimensions: int, noises: Sequence[float],
        generator: torch.Generator) -> Iterator[Dict[str, Any]]:
    """ What is estimated of input and output at each level of noise, in words of `BlockInformation`."""
    (x, explained_in), (y, explained_out) = (_project(sketch, components, dimensions) for sketch in (x, y))
    # the same at each level, so that levels differ by nothing else
    noise = torch.randn(y.shape, dtype=y.dtype, generator=generator)
    noisy = [y + level * noise for level in noises]
    # every output with the input of another image
    shuffled = [of[torch.randperm(len(y), generator=generator)] for of in noisy]
    for key, estimate in ESTIMATORS.items():
        nats = estimate(x, [*noisy, *shuffled])
        for i, level in enumerate(noises):
            yield dict(
                explained_in=explained_in, explained_out=explained_out, noise=level, estimator=key, nats=nats[i],
                shuffled=nats[len(noises) + i])


def _project(sketch: torch.Tensor, components: int, dimensions: int) -> Tuple[torch.Tensor, float]:
    """ Principal components of the first samples, in all others, whitened; and their part of the variance there.

    Raises:
        UserError: If the samples vary in fewer dimensions.
    """
    first, others = sketch[:components], sketch[components:]
    _, deviations, directions = torch.linalg.svd(first - first.mean(0), full_matrices=False)
    if len(deviations) < dimensions or deviations[dimensions - 1] <= deviations[0] * 1e-6:
        raise UserError(f'A tensor varies in fewer than {dimensions} dimensions: give fewer.')
    others = others - others.mean(0)
    kept = others @ directions[:dimensions].T
    explained = (kept.square().sum() / others.square().sum()).item()
    return _whiten(kept), explained


class _Sketches:
    """ Hooks that keep a random sketch of the input and of the output of each block, while they are in place."""

    def __init__(self, blocks: Dict[str, nn.Module], seed: int):
        self.blocks = blocks
        self.seed = seed
        self.order: List[str] = []
        self.sides: Dict[str, List[Optional[int]]] = {}
        self.shapes: Dict[Tuple[str, str, int], torch.Size] = {}
        self.kept: Dict[Tuple[str, str, int], List[torch.Tensor]] = defaultdict(list)
        self.maps: Dict[int, Tuple[torch.Tensor, torch.Tensor]] = {}
        self.handles: List[Any] = []

    def __enter__(self) -> '_Sketches':
        for name, block in self.blocks.items():
            # before it runs, for it may write in what it reads
            self.handles.append(block.register_forward_pre_hook(
                lambda module, inputs, name=name: self._keep(name, 'in', inputs)))
            self.handles.append(block.register_forward_hook(
                lambda module, inputs, output, name=name: self._keep(name, 'out', output)))
        return self

    def __exit__(self, *_: Any) -> None:
        for handle in self.handles:
            handle.remove()

    def _keep(self, name: str, side: str, border: Any) -> None:
        if name not in self.order:
            self.order.append(name)
        tensors = flat_tensors(border)
        if not tensors:
            raise UserError(f'Block {name} {"takes" if side == "in" else "gives"} no tensor.')
        for number, x in enumerate(tensors):
            self.shapes[name, side, number] = x.shape[1:]
            self.kept[name, side, number].append(self._sketch(x.flatten(1)))
        self.sides[name] = [map_side(x) for x in tensors]

    def tensors(self, name: str) -> List[int]:
        """ Numbers of the tensors that a block takes and gives."""
        return [number for of, side, number in self.kept if (of, side) == (name, 'in') and (name, 'out', number) in
                self.kept]

    def read(self, name: str, side: str, tensor: int) -> torch.Tensor:
        """ Sketches of all images, (N, M)."""
        sketch = torch.cat(self.kept[name, side, tensor]).double()
        if not sketch.isfinite().all():
            border = 'input' if side == 'in' else 'output'
            raise UserError(f'The {border} of block {name} is no finite number for some images.')
        return sketch

    def _sketch(self, x: torch.Tensor) -> torch.Tensor:
        """ Count sketch (Charikar et al. 2002): each number with a random sign is added to one of a few at random."""
        size = x.shape[1]
        if size <= _SKETCH:
            return x.clone()
        if size not in self.maps:
            generator = torch.Generator().manual_seed(self.seed)
            self.maps[size] = (
                torch.randint(_SKETCH, (size,), generator=generator),
                2 * torch.randint(2, (size,), generator=generator) - 1)
        places, signs = self.maps[size]
        return x.new_zeros(len(x), _SKETCH).index_add_(1, places, x * signs)


def run_information(
        specs: Sequence[str],
        data_dir: Path,
        output: Path,
        checkpoints: Sequence[str] = (),
        pretrained: bool = False,
        weight_init: str = 'model',
        split: str = 'validation',
        img_size: Optional[int] = None,
        samples: int = 3000,
        dimensions: int = 16,
        seeds: int = 3,
) -> None:
    """ Measure information in the blocks of networks, and write tables and a picture.

    Batch norms use their running statistics; those of initial weights are taken of the images.

    Args:
        specs: Models of timm, as `plan` takes them.
        data_dir: Image folder.
        output: Folder to write: information.csv, probes.csv, ranking.csv, information.png, args.json.
        checkpoints: States of a training to measure beside the first, as `plan` takes them.
        pretrained: Begin with timm's weights rather than initial ones.
        weight_init: Initial weights, as `create_network` takes them.
        split: Split of the images.
        img_size: Size of the images, that of the first model's weights if None.
        samples: Images of each seed.
        dimensions: Dimensions of P and Q.
        seeds: Seeds, of initial weights, choice of images, sketches and noise: 0, 1, ...

    Raises:
        UserError: If something given can't be used, or there are too few images.
        UserError: If weights can't be had, or don't fit.
    """
    check_output(output)
    from .plots import draw_information  # before the work is done

    check_weight_init(weight_init, pretrained)
    check_images(samples, dimensions)
    subjects = plan(specs, checkpoints, pretrained, seeds)
    img_size = img_size or subjects[0].img_size()
    console = create_table_console()
    blocks: List[Dict[str, Any]] = []
    probes: List[Dict[str, Any]] = []
    for seed in range(seeds):
        images = load_images(data_dir, split, img_size, samples, seed)
        for subject in subjects:
            network = create_network(subject, images.num_classes, img_size, seed, weight_init)
            random_seed(seed)
            network.model.eval()

            def batches(model: nn.Module = network.model, images: Images = images) -> Iterator[torch.Tensor]:
                return (normalize(pixels, model) for pixels in images.pixels.split(_BATCH))

            if subject.state == 'initial':
                calibrate_norms(network.model, batches())
            try:
                found = measure_information(
                    network.model, network.blocks, batches(), images.targets, dimensions, seed=seed)
            except ValueError as e:
                raise UserError(f'{subject.label}, {subject.state}, seed {seed}: {e}') from None
            about = dict(model=subject.label, state=subject.state, weights=subject.weights(seed), seed=seed)
            blocks += [{**about, **vars(row)} for row in found.blocks]
            probes += [{**about, **vars(row)} for row in found.probes]
            console.print(f'{subject.label}  {subject.state}  seed {seed}')
    ranking = rank(blocks)
    arguments = dict(
        models=list(specs), checkpoints=list(map(str, checkpoints)), pretrained=pretrained, weight_init=weight_init,
        data=data_dir.name, split=split, img_size=img_size, samples=samples, dimensions=dimensions,
        noises=list(NOISES), seeds=seeds)
    write_results(
        output, dict(information=blocks, probes=probes, ranking=ranking), arguments, 'information.png',
        lambda file: draw_information(file, blocks, probes, ranking))
    table = Table(box=None, pad_edge=False, header_style='bold')
    for heading in ('state', 'noise', 'estimator', 'model'):
        table.add_column(heading, overflow='fold')
    for heading in ('tensor', 'nats', 'of shuffled pairs'):
        table.add_column(heading, justify='right')
    for row in (row for row in ranking if row['stride'] == 'all'):
        table.add_row(
            row['state'], f'{row["noise"]:g}', row['estimator'], row['model'], str(row['tensor']),
            show(row['nats'], row['deviation']), f'{row["shuffled"]:.2g}')
    console.print(table)
    at = name_strides([row for row in ranking if row['stride'] != 'all'])
    console.print(
        f'\nMeans over blocks that keep the shape at {at}, each stride weighing the same, ± a deviation over seeds: of'
        '\ninitial weights, of trainings, or of images alone where a state has one checkpoint.')
    console.print(f'\ntables and picture  {output}')


def rank(blocks: Sequence[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """ Networks by the mean information of their blocks that keep the shape, the most first, at each level of noise.

    At each stride that all of them have such blocks at, and in the mean of those strides, stride 'all': networks have
    different numbers of blocks at each, and information differs from stride to stride. Several tensors of a block are
    ranked apart. A network without such blocks comes last, with NaN.
    """
    ranking = []
    kept = shared([row for row in blocks if row['keeps_shape']], 'stride', by=('model', 'tensor'))
    strides = sorted({row['stride'] for row in kept})
    for state, noise, estimator in dict.fromkeys((row['state'], row['noise'], row['estimator']) for row in blocks):
        here = dict(state=state, noise=noise, estimator=estimator)
        for stride in (*strides, 'all'):
            rows = []
            for model, tensor in dict.fromkeys(
                    (row['model'], row['tensor']) for row in blocks if row['state'] == state):
                about = dict(here, model=model, tensor=tensor)
                own = [
                    row for row in kept
                    if all(row[key] == value for key, value in about.items()) and stride in ('all', row['stride'])]
                nats, deviation = mean_and_spread(own, 'nats', within='stride')
                rows.append(dict(
                    here, stride=stride, model=model, tensor=tensor, nats=nats, deviation=deviation,
                    shuffled=mean_and_spread(own, 'shuffled', within='stride')[0],
                    blocks=len({row['block'] for row in own})))
            ranking += sorted(rows, key=lambda row: math.inf if math.isnan(row['nats']) else -row['nats'])
    return ranking
