""" Information between the input and the output of each block of a network

A deterministic map of a continuous input has infinite mutual information with it. So this estimates
I(P x; Q f(x) + s e). Here x and f(x) are the input and the output of a block. P and Q are fixed linear maps to the same
few dimensions, whitened: a random sketch, projected to the first principal components of other images' sketches. e is
noise of deviation 1, and its level s says how fine the details are that count.

A linear probe of each block's output measures how well the class can be read from it, and a ridge regression measures
how well the pixels of the image can.
"""
import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import nn

from ..shared.console import create_table_console
from ..shared.errors import UserError
from .estimators import ESTIMATORS, project, ridge, SAMPLES_A_DIMENSION
from .settings import InformationSettings
from .subjects import calibrate_norms, flat_tensors, Images, map_side, naming, normalize, prepare, study
from .tables import mean_and_spread, name_strides, Rows, shared, show, write_results

__all__ = [
    'BlockInformation', 'BlockProbe', 'check_images', 'Information', 'measure_information', 'NOISES', 'rank',
    'run_information',
]

NOISES = 0.1, 0.3, 1.0
_SKETCH = 1024  # numbers that are kept of a larger tensor, for each image
_PIXELS = 16  # side of the images that the regression predicts


@dataclass(frozen=True)
class BlockInformation:
    """ Mutual information between input and output of a block."""
    block: str
    tensor: int  # number of the tensor, among those that the block takes and gives
    place: int  # in the order in which data flows, from 0
    depth: float  # the same, from 0 to 1
    stride: float  # of the tensor that the block gives, 0 if it is not a feature map
    keeps_shape: bool  # input and output have the same shape, so there may be a shortcut
    explained_in: float  # part of the input's variance that its principal components have
    explained_out: float
    noise: float  # s
    estimator: str
    nats: float
    shuffled: float  # the same with inputs and outputs of different images: 0 apart from errors


@dataclass(frozen=True)
class BlockProbe:
    """ What linear maps read from all tensors that a block gives, or from their sketches."""
    block: str
    place: int
    depth: float
    stride: float  # of the first tensor
    top1: float  # of the class, in percent
    pixels: float  # explained part of the variance of the image's pixels, 1 at most


@dataclass
class Information:
    """ What was measured of a network."""
    blocks: List[BlockInformation] = field(default_factory=list)
    probes: List[BlockProbe] = field(default_factory=list)


def check_images(count: int, dimensions: int) -> None:
    """ Raise a UserError if there are too few images for so many dimensions."""
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
    """ Measure information between input and output of each block. The network stays in its mode.

    A third of the images gives the principal components. The others are the two halves of the estimators. If a block
    takes and gives several tensors, each is measured from input to output.

    Args:
        model: Network.
        blocks: Its blocks by name.
        batches: Images (B, 3, H, W) as the network takes them, N in all.
        targets: Their classes (N,).
        dimensions: Dimensions of P and Q.
        noises: Levels of noise, in deviations of the whitened output.
        seed: Seed of sketches, noise and shuffling.

    Raises:
        UserError: If there are too few images, if no block runs, if a block runs twice, or if a number is not finite.
    """
    check_images(len(targets), dimensions)
    components = len(targets) // 3
    borders = _Sketches(blocks, seed)
    seen = []
    with borders:
        for batch in batches:
            seen.append(F.adaptive_avg_pool2d(batch, _PIXELS).flatten(1).cpu().double())
            img_size = batch.shape[-1]
            model(batch.clone())  # the network may write to it
    if not borders.order:
        raise UserError(f'None of the blocks {", ".join(blocks)} ran.')
    pixels = torch.cat(seen)
    for (name, *_), parts in borders.kept.items():
        if sum(map(len, parts)) > len(pixels):
            raise UserError(f'Block {name} runs more than once for an image, so its input and output are not unique.')
    classes = F.one_hot(targets, int(targets.max()) + 1).double()
    found = Information()
    generator = torch.Generator().manual_seed(seed)
    for place, name in enumerate(borders.order):
        about = place, place / max(len(borders.order) - 1, 1)
        # tensors of a block may differ in it: a narrow one comes from before the strided convolution
        strides = [img_size / side if side else 0. for side in borders.sides[name]]
        for tensor in borders.tensors(name):
            x, y = (borders.read(name, border, tensor) for border in ('in', 'out'))
            keeps_shape = borders.shapes[name, 'in', tensor] == borders.shapes[name, 'out', tensor]
            for row in _estimate(x, y, components, dimensions, noises, generator):
                found.blocks.append(BlockInformation(name, tensor, *about, strides[tensor], keeps_shape, **row))
        features = torch.cat(
            [borders.read(name, 'out', tensor) for tensor in range(len(borders.sides[name]))], dim=1)
        found.probes.append(BlockProbe(name, *about, strides[0], *_probe(features, classes, pixels, components)))
    return found


def _estimate(
        x: torch.Tensor, y: torch.Tensor, components: int, dimensions: int, noises: Sequence[float],
        generator: torch.Generator) -> Iterator[Dict[str, Any]]:
    """ Estimates between input and output at each level of noise, as fields of `BlockInformation`."""
    (x, explained_in), (y, explained_out) = (project(sketch, components, dimensions) for sketch in (x, y))
    # the same noise at each level, so that levels differ by nothing else
    noise = torch.randn(y.shape, dtype=y.dtype, generator=generator)
    noisy = [y + level * noise for level in noises]
    # every output with the input of another image
    shuffled = [samples[torch.randperm(len(y), generator=generator)] for samples in noisy]
    for key, estimate in ESTIMATORS.items():
        nats = estimate(x, [*noisy, *shuffled])
        for i, level in enumerate(noises):
            yield dict(
                explained_in=explained_in, explained_out=explained_out, noise=level, estimator=key, nats=nats[i],
                shuffled=nats[len(noises) + i])


def _probe(
        features: torch.Tensor, classes: torch.Tensor, pixels: torch.Tensor, components: int) -> Tuple[float, float]:
    """ Top-1 in percent, and explained part of the pixels, on the first images; the others are fitted to."""
    fit, test = slice(components, None), slice(0, components)
    num_classes = classes.shape[1]
    read = ridge([features[fit]], torch.cat([classes, pixels], dim=1)[fit], [features[test]])
    right = read[:, :num_classes].argmax(1) == classes[test].argmax(1)
    error = (read[:, num_classes:] - pixels[test]).square().sum()
    spread = (pixels[test] - pixels[fit].mean(0)).square().sum()
    return 100 * right.double().mean().item(), (1 - error / spread).item()


class _Sketches:
    """ Hooks that keep a random sketch of the input and the output of each block, while they are in place."""

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
            # before the block runs, for it may write to its input
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
            self.kept[name, side, number].append(self._sketch(x.flatten(1)).cpu())
        self.sides[name] = [map_side(x) for x in tensors]

    def tensors(self, name: str) -> List[int]:
        """ Numbers of the tensors that a block both takes and gives."""
        return [number for block, side, number in self.kept
                if (block, side) == (name, 'in') and (name, 'out', number) in self.kept]

    def read(self, name: str, side: str, tensor: int) -> torch.Tensor:
        """ Sketches of all images, (N, M)."""
        sketch = torch.cat(self.kept[name, side, tensor]).double()
        if not sketch.isfinite().all():
            border = 'input' if side == 'in' else 'output'
            raise UserError(f'The {border} of block {name} is not finite for some images.')
        return sketch

    def _sketch(self, x: torch.Tensor) -> torch.Tensor:
        """ Count sketch (Charikar et al. 2002): each number, with a random sign, is added to one of a few at random."""
        size = x.shape[1]
        if size <= _SKETCH:
            return x.clone()
        if size not in self.maps:
            generator = torch.Generator().manual_seed(self.seed)
            places = torch.randint(_SKETCH, (size,), generator=generator)
            signs = 2 * torch.randint(2, (size,), generator=generator) - 1
            self.maps[size] = places.to(x.device), signs.to(x.device)
        places, signs = self.maps[size]
        return x.new_zeros(len(x), _SKETCH).index_add_(1, places, x * signs)


def run_information(settings: InformationSettings) -> None:
    """ Measure information in the blocks of networks, and write tables and a picture.

    The folder gets information.csv, probes.csv, ranking.csv, information.png and args.json. Batch norms use their
    running statistics; with initial weights, these are set from the images.

    Raises:
        UserError: If something that was given cannot be used, or if there are too few images.
    """
    check_images(settings.samples, settings.dimensions)
    subjects, img_size = prepare(settings)
    console = create_table_console()
    blocks: List[Dict[str, Any]] = []
    probes: List[Dict[str, Any]] = []
    for columns, network, images in study(settings, subjects, img_size, settings.samples):
        model = network.model.eval()
        if columns['state'] == 'initial':
            calibrate_norms(model, _read_batches(images, model, settings))
        with naming(columns):
            found = measure_information(
                model, network.blocks, _read_batches(images, model, settings), images.targets, settings.dimensions,
                seed=columns['seed'])
        blocks += [{**columns, **vars(row)} for row in found.blocks]
        probes += [{**columns, **vars(row)} for row in found.probes]
        console.print(f'{columns["model"]}  {columns["state"]}  seed {columns["seed"]}')
    from .plots import draw_information

    ranking = rank(blocks)
    _print(ranking, console)
    write_results(
        settings, dict(information=blocks, probes=probes, ranking=ranking),
        dict(img_size=img_size, noises=list(NOISES)), 'information.png',
        lambda file: draw_information(file, blocks, probes, ranking))
    console.print(f'\ntables and picture  {settings.output}')


def _read_batches(images: Images, model: nn.Module, settings: InformationSettings) -> Iterator[torch.Tensor]:
    for pixels in images.pixels.split(settings.batch_size):
        yield normalize(pixels, model).to(settings.device)


def _print(ranking: Rows, console: Console) -> None:
    """ Print the means over all strides, the most information first."""
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
    strides = name_strides([row for row in ranking if row['stride'] != 'all'])
    console.print(
        f'\nMeans over the blocks that keep the shape, at {strides}. Each stride has the same weight.'
        '\n± is the deviation over seeds: of initial weights, of trainings, or of images alone if a state has one'
        ' checkpoint.')


def rank(blocks: Rows) -> List[Dict[str, Any]]:
    """ Rank networks by the mean information of their blocks that keep the shape, at each level of noise.

    The most information comes first. There is a ranking at each stride at which all networks have such blocks, and one
    of the mean over these strides, with the stride 'all'. Strides are ranked apart because networks have different
    numbers of blocks at each, and information differs between them. Several tensors of a block are ranked apart too. A
    network without such blocks comes last, with NaN.
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
