""" Gradients through a network, block by block

The paper's argument that gradients through the sandglass are larger (its section on the shortcut of wide features), and
gradient confusion, by which batches pull against each other (Sankararaman et al., arXiv:1904.06963). Any model of timm.
"""
import math
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import nn

from timm.utils import random_seed

from ..shared.console import create_table_console
from ..shared.errors import UserError
from .subjects import (
    check_weight_init,
    create_network,
    flat_tensors,
    load_images,
    map_side,
    normalize,
    NORMS,
    plan,
)
from .tables import (
    check_output,
    mean_and_spread,
    name_strides,
    Rows,
    shared,
    show,
    states,
    write_results,
)

__all__ = ['BlockGradient', 'comparisons', 'Gradients', 'measure_gradients', 'ParameterGradient', 'run_gradients']


@dataclass(frozen=True)
class BlockGradient:
    """ Gradient of a batch's loss at the borders of a block."""
    batch: int
    block: str
    place: int  # in the order in which data flows, from 0
    depth: float  # the same from 0 for the first block to 1 for the last
    stride: float  # of the block's output, in pixels of the image; 0 where that is no feature map
    keeps_shape: bool  # input and output are of the same shape, of several tensors the first: there may be a shortcut
    loss: float  # of the batch
    norm_in: float  # of all numbers in the gradient of the loss by the block's input
    norm_out: float
    rms_out: float  # the same of one number: norm_out by the root of how many a gradient goes to
    ratio: float  # norm_in by norm_out: what the block does to a gradient on its way back


@dataclass(frozen=True)
class ParameterGradient:
    """ Gradient of a batch's loss by the weights of a kind in a block, or outside of blocks."""
    batch: int
    group: str  # name of the block, or of what stands outside
    kind: str  # pointwise, depthwise, convolution, linear, norm, other
    gradient_norm: float
    weight_norm: float
    ratio: float  # gradient by weight


@dataclass
class Gradients:
    """ What was measured of a network."""
    blocks: List[BlockGradient] = field(default_factory=list)
    parameters: List[ParameterGradient] = field(default_factory=list)
    confusion: Dict[str, float] = field(default_factory=dict)  # least cosine of two batches, of each group and of 'all'


def measure_gradients(
        model: nn.Module,
        blocks: Dict[str, nn.Module],
        batches: Sequence[Tuple[torch.Tensor, torch.Tensor]],
) -> Gradients:
    """ Measure the gradients of cross-entropy, batch by batch, with the network in the mode that it is in.

    Args:
        model: Network, to logits (B, num_classes).
        blocks: Its blocks by name. Of a block that takes or gives several tensors, all are one border.
        batches: Images (B, C, H, W) and classes (B,) of each batch, two at least.

    Raises:
        UserError: If there are fewer than two batches, no block runs, or a gradient is no finite number.
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
            # a first layer whose weights are frozen passes a gradient on all the same
            loss = F.cross_entropy(model(images.detach().requires_grad_()), targets)
            loss.backward()
        if not math.isfinite(loss.item()):
            raise UserError(f'The loss of batch {number} is {loss.item()}: gradients of it say nothing.')
        found.blocks += borders.read(number, images.shape[-2], loss.item())
        squares: Dict[Tuple[str, str], List[float]] = defaultdict(lambda: [0., 0.])
        gradients: Dict[str, List[torch.Tensor]] = defaultdict(list)
        for name, weight in model.named_parameters():
            if weight.grad is None:
                continue
            group, kind = kinds[name]
            square = weight.grad.double().square().sum().item()
            if not math.isfinite(square):
                raise UserError(f'The gradient of {name} in batch {number} is no finite number.')
            squares[group, kind][0] += square
            squares[group, kind][1] += weight.detach().double().square().sum().item()
            gradients[group].append(weight.grad.flatten())
        for (group, kind), sums in squares.items():
            norms = math.sqrt(sums[0]), math.sqrt(sums[1])
            found.parameters.append(ParameterGradient(
                number, group, kind, *norms, norms[0] / norms[1] if norms[1] else math.nan))
        for group, parts in gradients.items():
            vectors[group].append(torch.cat(parts))
    model.zero_grad(set_to_none=True)
    products = {group: torch.stack(rows) @ torch.stack(rows).T for group, rows in vectors.items()}
    products['all'] = torch.stack(list(products.values())).sum(0)
    found.confusion = {group: _least_cosine(product) for group, product in products.items()}
    return found


def _least_cosine(product: torch.Tensor) -> float:
    norms = product.diagonal().sqrt()
    cosines = product / (norms[:, None] * norms)
    return cosines[~torch.eye(len(cosines), dtype=torch.bool)].min().item()


class _Borders:
    """ Hooks that keep the gradient at the input and at the output of each block, while they are in place."""

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
        """ The same, with a hook on each tensor in it, be it in lists."""
        if isinstance(border, (list, tuple)):
            return type(border)(self._tap(name, side, part) for part in border)
        if not isinstance(border, torch.Tensor) or not border.requires_grad:
            return border
        # a copy, for in what the block reads others may write, and others may read it too
        copy = border.clone()
        self.squares.setdefault((name, side), 0.)
        self.shapes.setdefault((name, side), []).append(border.shape)

        def add(gradient: torch.Tensor) -> None:
            self.squares[name, side] += gradient.double().square().sum().item()
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
        """ What has been kept, in the order in which the blocks ran."""
        if not self.order:
            raise UserError(f'None of the blocks {", ".join(self.blocks)} ran.')
        rows = []
        for place, name in enumerate(self.order):
            for side, does in (('in', 'takes'), ('out', 'gives')):
                if (name, side) not in self.squares:
                    raise UserError(f'Block {name} {does} no tensor that a gradient goes to.')
            norm_in, norm_out = (math.sqrt(self.squares[name, side]) for side in ('in', 'out'))
            if not (math.isfinite(norm_in) and math.isfinite(norm_out)):
                raise UserError(f'The gradient at block {name} in batch {batch} is no finite number.')
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


def run_gradients(
        specs: Sequence[str],
        data_dir: Path,
        output: Path,
        checkpoints: Sequence[str] = (),
        pretrained: bool = False,
        weight_init: str = 'model',
        split: str = 'train',
        img_size: Optional[int] = None,
        batch_size: int = 32,
        num_batches: int = 8,
        seeds: int = 3,
) -> None:
    """ Measure the gradients of networks on images, batch norms in training mode, and write tables and a picture.

    Args:
        specs: Models of timm, as `plan` takes them.
        data_dir: Image folder.
        output: Folder to write: blocks.csv, parameters.csv, confusion.csv, gradients.png, args.json.
        checkpoints: States of a training to measure beside the first, as `plan` takes them.
        pretrained: Begin with timm's weights rather than initial ones.
        weight_init: Initial weights, as `create_network` takes them.
        split: Split of the images.
        img_size: Size of the images, that of the first model's weights if None.
        batch_size: Images of a batch.
        num_batches: Batches of each seed.
        seeds: Seeds, of initial weights and of the choice of images: 0, 1, ...

    Raises:
        UserError: If something given can't be used, or a gradient is no finite number.
        UserError: If weights can't be had, or don't fit.
    """
    check_output(output)
    from .plots import draw_gradients  # before the work is done

    check_weight_init(weight_init, pretrained)
    subjects = plan(specs, checkpoints, pretrained, seeds)
    img_size = img_size or subjects[0].img_size()
    console = create_table_console()
    rows: Dict[str, List[Dict[str, Any]]] = dict(blocks=[], parameters=[], confusion=[])
    for seed in range(seeds):
        images = load_images(data_dir, split, img_size, batch_size * num_batches, seed)
        for subject in subjects:
            network = create_network(subject, images.num_classes, img_size, seed, weight_init)
            pixels = normalize(images.pixels, network.model)
            random_seed(seed)  # of dropout
            try:
                found = measure_gradients(
                    network.model.train(), network.blocks,
                    list(zip(pixels.split(batch_size), images.targets.split(batch_size), strict=True)))
            except ValueError as e:
                raise UserError(f'{subject.label}, {subject.state}, seed {seed}: {e}') from None
            about = dict(
                model=subject.label, state=subject.state, weights=subject.weights(seed), seed=seed)
            rows['blocks'] += [{**about, **vars(row)} for row in found.blocks]
            rows['parameters'] += [{**about, **vars(row)} for row in found.parameters]
            rows['confusion'] += [
                {**about, 'group': group, 'confusion': cosine} for group, cosine in found.confusion.items()]
            console.print(f'{subject.label}  {subject.state}  seed {seed}')
    arguments = dict(
        models=list(specs), checkpoints=list(map(str, checkpoints)), pretrained=pretrained, weight_init=weight_init,
        data=data_dir.name, split=split, img_size=img_size, batch_size=batch_size, batches=num_batches, seeds=seeds)
    write_results(output, rows, arguments, 'gradients.png', lambda file: draw_gradients(file, rows))
    _print(rows, console)
    console.print(f'\ntables and picture  {output}')


def comparisons(blocks: Rows, parameters: Rows) -> List[Tuple[str, Rows, str, str]]:
    """ What networks are compared by, in geometric means: the heading, the rows of what all of them have, the column to
    take the mean of, and that each of whose values weighs the same."""
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
    """ A row for each network and state: means, in which each stride, or kind of weights, weighs the same."""
    compared = comparisons(rows['blocks'], rows['parameters'])
    (_, comparable, *_), _, (_, kept, *_), _ = compared
    everything = [row for row in rows['confusion'] if row['group'] == 'all']
    columns: List[Tuple[str, Rows, str, bool, Optional[str]]] = [
        ('loss', rows['blocks'], 'loss', False, None),
        *((heading, of, key, True, within) for heading, of, key, within in compared),
        ('confusion', everything, 'confusion', False, None),
    ]
    table = Table(box=None, pad_edge=False, header_style='bold')
    for heading in ('model', 'state'):
        table.add_column(heading, overflow='fold')
    for heading, *_ in columns:
        table.add_column(heading, justify='right')
    for about in states(rows['blocks']):
        cells = []
        for _, of, key, geometric, within in columns:
            own = [row for row in of if (row['model'], row['state']) == about]
            cells.append(show(*mean_and_spread(own, key, geometric, within), geometric=geometric))
        table.add_row(*about, *cells)
    console.print(table)
    console.print(
        f'\nNorms and numbers: at {name_strides(comparable)}. In by out: of blocks that keep the shape, at'
        f' {name_strides(kept)}.\nEach stride, and each kind of weights, weighs the same. Deviations are over seeds:'
        ' of initial weights, of\ntrainings, or of images alone where a state has one checkpoint; of a single seed over'
        ' batches.')
