""" Gradients through any network of timm, block by block

The paper argues that gradients through the sandglass are larger (in its section on the shortcut of wide features). This
measures them, and gradient confusion: how much the gradients of two batches oppose each other (Sankararaman et al.,
arXiv:1904.06963).
"""
import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import nn

from ..shared.console import create_table_console
from ..shared.errors import UserError
from .settings import GradientSettings
from .subjects import flat_tensors, map_side, naming, normalize, NORMS, prepare, study
from .tables import mean_and_spread, name_strides, Rows, shared, show, states, write_results

__all__ = ['BlockGradient', 'comparisons', 'Gradients', 'measure_gradients', 'ParameterGradient', 'run_gradients']


@dataclass(frozen=True)
class BlockGradient:
    """ Gradient of a batch's loss at the borders of a block."""
    batch: int
    block: str
    place: int  # in the order in which data flows, from 0
    depth: float  # the same, from 0 for the first block to 1 for the last
    stride: float  # of the block's output, in pixels of the image; 0 if it is not a feature map
    keeps_shape: bool  # input and output (the first tensor of each) have the same shape: there may be a shortcut
    loss: float  # of the batch
    norm_in: float  # of the gradient with respect to the whole input of the block
    norm_out: float  # of the gradient with respect to its whole output
    rms_out: float  # norm_out, divided by the square root of how many numbers have a gradient
    ratio: float  # norm_in divided by norm_out: what the block does to a gradient on its way back


@dataclass(frozen=True)
class ParameterGradient:
    """ Gradient of a batch's loss with respect to the weights of one kind in a block, or outside of blocks."""
    batch: int
    group: str  # name of the block, or of a module outside of blocks
    kind: str  # pointwise, depthwise, convolution, linear, norm, other
    gradient_norm: float
    weight_norm: float
    ratio: float  # gradient_norm divided by weight_norm


@dataclass
class Gradients:
    """ What was measured of a network."""
    blocks: List[BlockGradient] = field(default_factory=list)
    parameters: List[ParameterGradient] = field(default_factory=list)
    confusion: Dict[str, float] = field(default_factory=dict)  # least cosine between two batches, by group and of 'all'


def measure_gradients(
        model: nn.Module,
        blocks: Dict[str, nn.Module],
        batches: Sequence[Tuple[torch.Tensor, torch.Tensor]],
) -> Gradients:
    """ Measure the gradients of cross-entropy, batch by batch. The network stays in its mode.

    Args:
        model: Network, to logits (B, num_classes).
        blocks: Its blocks by name. If a block takes or gives several tensors, they are one border together.
        batches: Images (B, C, H, W) and classes (B,) of each batch, at least two batches.

    Raises:
        UserError: If there are fewer than two batches, if no block runs, or if a gradient is not finite.
    """
    if len(batches) < 2:
        raise UserError(f'{len(batches)} batches are too few for gradient confusion: give two or more.')
    found = Gradients()
    kinds = _kinds(model, blocks)
    vectors: Dict[str, List[torch.Tensor]] = defaultdict(list)
    for number, (images, targets) in enumerate(batches):
        borders = _Borders(blocks)
        model.zero_grad(set_to_none=True)
        with borders:
            # the images require a gradient, so that a first layer with frozen weights passes one on too
            loss = F.cross_entropy(model(images.detach().requires_grad_()), targets)
            loss.backward()
        if not math.isfinite(loss.item()):
            raise UserError(f'The loss of batch {number} is {loss.item()}, so its gradients have no meaning.')
        found.blocks += borders.read(number, images.shape[-2], loss.item())
        rows, gradients = _read_parameters(model, kinds, number)
        found.parameters += rows
        for group, parts in gradients.items():
            vectors[group].append(torch.cat(parts))
    model.zero_grad(set_to_none=True)
    products = {group: torch.stack(rows) @ torch.stack(rows).T for group, rows in vectors.items()}
    products['all'] = torch.stack(list(products.values())).sum(0)
    found.confusion = {group: _least_cosine(product) for group, product in products.items()}
    return found


def _read_parameters(
        model: nn.Module, kinds: Dict[str, Tuple[str, str]], batch: int,
) -> Tuple[List[ParameterGradient], Dict[str, List[torch.Tensor]]]:
    """ Norms of the weights' gradients by group and kind, and the gradients themselves by group."""
    squares: Dict[Tuple[str, str], List[float]] = defaultdict(lambda: [0., 0.])
    gradients: Dict[str, List[torch.Tensor]] = defaultdict(list)
    for name, weight in model.named_parameters():
        if weight.grad is None:
            continue
        group, kind = kinds[name]
        square = _sum_squares(weight.grad)
        if not math.isfinite(square):
            raise UserError(f'The gradient of {name} in batch {batch} is not finite.')
        squares[group, kind][0] += square
        squares[group, kind][1] += _sum_squares(weight.detach())
        gradients[group].append(weight.grad.flatten())
    rows = []
    for (group, kind), sums in squares.items():
        norms = math.sqrt(sums[0]), math.sqrt(sums[1])
        rows.append(ParameterGradient(batch, group, kind, *norms, norms[0] / norms[1] if norms[1] else math.nan))
    return rows, gradients


def _sum_squares(x: torch.Tensor) -> float:
    x = x.cpu() if x.device.type == 'mps' else x  # which has no doubles
    return x.double().square().sum().item()


def _least_cosine(product: torch.Tensor) -> float:
    product = product.cpu()
    norms = product.diagonal().sqrt()
    cosines = product / (norms[:, None] * norms)
    return cosines[~torch.eye(len(cosines), dtype=torch.bool)].min().item()


class _Borders:
    """ Hooks that measure the gradient at the input and the output of each block, while they are in place."""

    def __init__(self, blocks: Dict[str, nn.Module]):
        self.blocks = blocks
        self.order: List[str] = []
        self.sides: Dict[str, Optional[int]] = {}
        self.shapes: Dict[Tuple[str, str], List[torch.Size]] = {}
        self.squares: Dict[Tuple[str, str], float] = {}
        self.numbers: Dict[Tuple[str, str], int] = defaultdict(int)
        self.handles: List[Any] = []

    def __enter__(self) -> '_Borders':
        for name, block in self.blocks.items():
            self.handles.append(block.register_forward_pre_hook(self._tap_input(name), with_kwargs=True))
            self.handles.append(block.register_forward_hook(self._tap_output(name)))
        return self

    def __exit__(self, *_: Any) -> None:
        for handle in self.handles:
            handle.remove()

    def _tap(self, name: str, side: str, border: Any) -> Any:
        """ The same border, with a hook on each of its tensors, in lists and tuples too."""
        if isinstance(border, (list, tuple)):
            return type(border)(self._tap(name, side, part) for part in border)
        if not isinstance(border, torch.Tensor) or not border.requires_grad:
            return border
        # a copy, for other modules may read the tensor or write to it
        copy = border.clone()
        self.squares.setdefault((name, side), 0.)
        self.shapes.setdefault((name, side), []).append(border.shape)

        def add(gradient: torch.Tensor) -> None:
            self.squares[name, side] += _sum_squares(gradient)
            self.numbers[name, side] += gradient.numel()

        copy.register_hook(add)
        return copy

    def _tap_input(self, name: str) -> Callable:
        def hook(module: nn.Module, inputs: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Any:
            if name not in self.order:
                self.order.append(name)
            return self._tap(name, 'in', inputs), {key: self._tap(name, 'in', x) for key, x in kwargs.items()}
        return hook

    def _tap_output(self, name: str) -> Callable:
        def hook(module: nn.Module, inputs: Tuple[Any, ...], output: Any) -> Any:
            tensors = flat_tensors(output)
            self.sides[name] = map_side(tensors[0]) if tensors else None
            return self._tap(name, 'out', output)
        return hook

    def read(self, batch: int, img_size: int, loss: float) -> List[BlockGradient]:
        """ What was measured, in the order in which the blocks ran."""
        if not self.order:
            raise UserError(f'None of the blocks {", ".join(self.blocks)} ran.')
        rows = []
        for place, name in enumerate(self.order):
            for side, verb in (('in', 'takes'), ('out', 'gives')):
                if (name, side) not in self.squares:
                    raise UserError(f'Block {name} {verb} no tensor that has a gradient.')
            norm_in, norm_out = (math.sqrt(self.squares[name, side]) for side in ('in', 'out'))
            if not (math.isfinite(norm_in) and math.isfinite(norm_out)):
                raise UserError(f'The gradient at block {name} in batch {batch} is not finite.')
            map_size = self.sides[name]
            shapes_in, shapes_out = self.shapes[name, 'in'], self.shapes[name, 'out']
            rows.append(BlockGradient(
                batch, name, place, place / max(len(self.order) - 1, 1), img_size / map_size if map_size else 0.,
                shapes_in[0] == shapes_out[0] and len(shapes_in) == len(shapes_out), loss, norm_in, norm_out,
                norm_out / math.sqrt(self.numbers[name, 'out'] or 1), norm_in / norm_out if norm_out else math.nan))
        return rows


def _kinds(model: nn.Module, blocks: Dict[str, nn.Module]) -> Dict[str, Tuple[str, str]]:
    """ Group and kind of each parameter by name."""
    kinds = {}
    for name, _ in model.named_parameters():
        owner, _, _ = name.rpartition('.')
        module = model.get_submodule(owner)
        group = next((block for block in blocks if f'{owner}.'.startswith(f'{block}.')), name.partition('.')[0])
        kinds[name] = group, _kind(module)
    return kinds


def _kind(module: nn.Module) -> str:
    if isinstance(module, nn.Conv2d):
        if module.groups > 1 and module.groups == module.in_channels:
            return 'depthwise'
        return 'pointwise' if module.kernel_size == (1, 1) else 'convolution'
    if isinstance(module, nn.Linear):
        return 'linear'
    return 'norm' if isinstance(module, NORMS) or 'norm' in type(module).__name__.lower() else 'other'


def run_gradients(settings: GradientSettings) -> None:
    """ Measure the gradients of networks on images, with batch norms in training mode, and write tables and a picture.

    The folder gets blocks.csv, parameters.csv, confusion.csv, gradients.png and args.json.

    Raises:
        UserError: If something that was given cannot be used, or if a gradient is not finite.
    """
    subjects, img_size = prepare(settings)
    console = create_table_console()
    rows: Dict[str, List[Dict[str, Any]]] = dict(blocks=[], parameters=[], confusion=[])
    num_images = settings.batch_size * settings.batches
    for columns, network, images in study(settings, subjects, img_size, num_images):
        pixels = normalize(images.pixels, network.model).to(settings.device)
        targets = images.targets.to(settings.device)
        batches = list(zip(pixels.split(settings.batch_size), targets.split(settings.batch_size), strict=True))
        with naming(columns):
            found = measure_gradients(network.model.train(), network.blocks, batches)
        rows['blocks'] += [{**columns, **vars(row)} for row in found.blocks]
        rows['parameters'] += [{**columns, **vars(row)} for row in found.parameters]
        rows['confusion'] += [
            {**columns, 'group': group, 'confusion': cosine} for group, cosine in found.confusion.items()]
        console.print(f'{columns["model"]}  {columns["state"]}  seed {columns["seed"]}')
    from .plots import draw_gradients

    _print(rows, console)
    write_results(
        settings, rows, dict(img_size=img_size), 'gradients.png', lambda file: draw_gradients(file, rows))
    console.print(f'\ntables and picture  {settings.output}')


def comparisons(blocks: Rows, parameters: Rows) -> List[Tuple[str, Rows, str, str]]:
    """ What networks are compared by, in geometric means.

    Args:
        blocks: Rows of blocks.csv.
        parameters: Rows of parameters.csv.

    Returns:
        For each comparison: its heading, the rows that all networks have, the column to take the mean of, and the
        column whose values have equal weight.
    """
    names = {(row['model'], row['block']) for row in blocks}
    inside = [row for row in parameters if (row['model'], row['group']) in names]
    comparable = shared(blocks, 'stride')
    kept = shared([row for row in blocks if row['keeps_shape']], 'stride')
    return [
        ('norm at blocks', comparable, 'norm_out', 'stride'),
        ('per number', comparable, 'rms_out', 'stride'),
        ('in by out', kept, 'ratio', 'stride'),
        ('gradient by weight', shared(inside, 'kind'), 'ratio', 'kind'),
    ]


def _print(rows: Dict[str, List[Dict[str, Any]]], console: Console) -> None:
    """ Print a row of means for each network and state. Each stride, and each kind of weights, has the same weight."""
    compared = comparisons(rows['blocks'], rows['parameters'])
    (_, comparable, *_), _, (_, kept, *_), _ = compared
    everything = [row for row in rows['confusion'] if row['group'] == 'all']
    columns: List[Tuple[str, Rows, str, bool, Optional[str]]] = [
        ('loss', rows['blocks'], 'loss', False, None),
        *((heading, part, key, True, within) for heading, part, key, within in compared),
        ('confusion', everything, 'confusion', False, None),
    ]
    table = Table(box=None, pad_edge=False, header_style='bold')
    for heading in ('model', 'state'):
        table.add_column(heading, overflow='fold')
    for heading, *_ in columns:
        table.add_column(heading, justify='right')
    for about in states(rows['blocks']):
        cells = []
        for _, part, key, geometric, within in columns:
            own = [row for row in part if (row['model'], row['state']) == about]
            cells.append(show(*mean_and_spread(own, key, geometric, within), geometric=geometric))
        table.add_row(*about, *cells)
    console.print(table)
    console.print(
        f'\nNorm at blocks, and per number: at {name_strides(comparable)}.'
        f'\nIn by out: of blocks that keep the shape, at {name_strides(kept)}.'
        '\nEach stride, and each kind of weights, has the same weight.'
        '\nDeviations are over seeds: of initial weights, of trainings, or of images alone if a state has one'
        ' checkpoint.'
        '\nWith a single seed they are over batches.')
