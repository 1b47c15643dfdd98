""" Pictures of what the instruments measured, as PNG; needs matplotlib"""
import math
from collections import defaultdict
from pathlib import Path
from typing import Any, Dict, Iterable, List, Sequence, Tuple

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from ..shared.style import FAINT, INK, NETWORKS, plot_text
from .tables import mean_and_spread, Rows, states

__all__ = ['draw_gradients', 'draw_information']

_KINDS = 'pointwise', 'depthwise', 'convolution', 'linear', 'norm', 'other'
_LINES = dict(gaussian='-', kernel=':')  # style of each estimator's line


def _dress(axes: Any, heading: str, label: str = '') -> None:
    axes.set_title(plot_text(heading), color=INK, fontsize=10, loc='left')
    axes.set_xlabel(label, color=INK, fontsize=9)
    axes.tick_params(colors=INK, labelsize=8)
    axes.grid(axis='y', color=FAINT, alpha=0.3)
    axes.spines[['top', 'right']].set_visible(False)


def _colors(models: Iterable[str]) -> Dict[str, str]:
    return {model: NETWORKS[i % len(NETWORKS)] for i, model in enumerate(dict.fromkeys(models))}


def _tensor_colors(rows: Rows) -> Dict[Tuple[str, int], Any]:
    """ The color of each tensor: that of its network, lighter for a second one. First tensors come first."""
    colors = _colors(row['model'] for row in rows)
    lines = sorted(dict.fromkeys((row['model'], row['tensor']) for row in rows), key=lambda line: line[1])
    return {
        (model, tensor): tuple((1 + part) / 2 for part in to_rgb(colors[model])) if tensor else colors[model]
        for model, tensor in lines}


def _log_scale(axes: Any) -> None:
    axes.set_yscale('log')
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter('{x:g}')  # numbers instead of powers
    axes.yaxis.set_minor_formatter(NullFormatter())


def _plot_depth(axes: Any, rows: Rows, key: str, color: Any, geometric: bool = False, **style: Any) -> None:
    """ A line through the blocks of a network, and a band of a deviation over seeds or batches."""
    by_place: Dict[int, List[Dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_place[row['place']].append(row)
    places = sorted(by_place)
    depths = [by_place[place][0]['depth'] for place in places]
    means, deviations = np.array([mean_and_spread(by_place[place], key, geometric) for place in places]).T
    axes.plot(depths, means, marker='.', color=color, lw=1.5, ms=4, **style)
    if np.isfinite(deviations).any():
        low, high = (means / deviations, means * deviations) if geometric else (means - deviations, means + deviations)
        axes.fill_between(depths, low, high, color=color, alpha=0.15, lw=0)


def _by_resolution(rows: Rows) -> List[Dict[str, Any]]:
    """ Rows with the place of their stride as depth. The blocks of a stride are spread evenly."""
    strides: Dict[float, List[int]] = defaultdict(list)
    for row in rows:
        if row['stride'] and row['place'] not in strides[row['stride']]:
            strides[row['stride']].append(row['place'])
    moved = []
    for row in rows:
        if row['stride']:
            places = sorted(strides[row['stride']])
            depth = math.log2(row['stride']) + 0.85 * places.index(row['place']) / len(places)
            moved.append({**row, 'depth': depth})
    return moved


def draw_gradients(file: Path, rows: Dict[str, List[Dict[str, Any]]]) -> None:
    """ Draw gradients: a row of six pictures for each state of the weights, with all networks in each picture.

    They are the norm at the blocks' outputs, by relative depth and by resolution; the same for a single number; the
    norm at a block's input divided by that at its output, if the block keeps the shape; gradient by weight, for each
    kind of weights; and gradient confusion.

    Args:
        file: PNG to write.
        rows: Rows of the tables `blocks`, `parameters` and `confusion`.
    """
    all_states = list(dict.fromkeys(state for _, state in states(rows['blocks'])))
    colors = _colors(row['model'] for row in rows['blocks'])
    names = {(row['model'], row['block']) for row in rows['blocks']}
    inside = [row for row in rows['parameters'] if (row['model'], row['group']) in names]
    kinds = [kind for kind in _KINDS if any(row['kind'] == kind for row in inside)]
    figure = Figure(figsize=(20, 0.6 + 3.1 * len(all_states)), dpi=120, layout='constrained')
    grid = figure.subplots(len(all_states), 6, squeeze=False)
    for state, (depth, resolution, number, ratio, weights, confusion) in zip(all_states, grid, strict=True):
        for model, color in colors.items():
            blocks, parameters, confused = (
                [row for row in part if (row['model'], row['state']) == (model, state)]
                for part in (rows['blocks'], inside, rows['confusion']))
            if not blocks:
                continue
            _plot_depth(depth, blocks, 'norm_out', color, geometric=True, label=plot_text(model))
            if moved := _by_resolution(blocks):
                _plot_depth(resolution, moved, 'norm_out', color, geometric=True)
                _plot_depth(number, moved, 'rms_out', color, geometric=True)
            if kept := [row for row in blocks if row['keeps_shape']]:
                _plot_depth(ratio, kept, 'ratio', color, geometric=True)
            place = list(colors).index(model)
            _plot_kinds(weights, parameters, kinds, color, (place - (len(colors) - 1) / 2) * 0.8 / len(colors))
            mean, deviation = mean_and_spread([row for row in confused if row['group'] == 'all'], 'confusion')
            confusion.barh(place, mean, xerr=0 if math.isnan(deviation) else deviation, color=color, alpha=0.5,
                           height=0.6)
        _dress(depth, f'{state}: gradient norm at blocks', 'relative depth')
        _dress(resolution, 'the same by resolution', 'stride')
        _dress(number, 'per number, by resolution', 'stride')
        _dress(ratio, 'input by output, shape kept', 'relative depth')
        _dress(weights, 'gradient by weight, in blocks')
        _dress(confusion, 'least cosine of two batches')
        for axes in (depth, resolution, number, weights):
            _log_scale(axes)
        depth.legend(frameon=False, fontsize=8)
        for axes in (resolution, number):
            axes.set_xticks(range(1, 6), [str(2 ** tick) for tick in range(1, 6)])
            axes.set_xlim(0.8, 6)
        ratio.axhline(1, color=FAINT, lw=1)
        weights.set_xticks(range(len(kinds)), kinds, fontsize=8)
        confusion.set(yticks=[], ylim=(len(colors) - 0.5, -0.5))
        confusion.axvline(0, color=FAINT, lw=1)
    figure.savefig(file, format='png')


def _plot_kinds(axes: Any, rows: Rows, kinds: Sequence[str], color: str, shift: float) -> None:
    """ Gradient by weight of a network, for each kind of weights, beside that of other networks."""
    for place, kind in enumerate(kinds):
        own = [row for row in rows if row['kind'] == kind]
        if own:
            mean, deviation = mean_and_spread(own, 'ratio', geometric=True)
            axes.plot(place + shift, mean, 'o', color=color, ms=5)
            if math.isfinite(deviation):
                axes.plot([place + shift] * 2, [mean / deviation, mean * deviation], color=color, lw=1.5)


def draw_information(file: Path, blocks: Rows, probes: Rows, ranking: Rows) -> None:
    """ Draw information: two rows of pictures for each state of the weights, with all networks in each picture.

    The first row has the information between input and output of each block, at each level of noise and by both
    estimators, and its mean over the blocks that keep their shape. The second has what linear maps read from each
    block's output, and those means at each stride. If blocks give a second tensor, it has a lighter line of its own.

    Args:
        file: PNG to write.
        blocks: Rows of the table `information`.
        probes: Rows of the table `probes`.
        ranking: Rows of the table `ranking`.
    """
    all_states = list(dict.fromkeys(state for _, state in states(blocks)))
    noises = list(dict.fromkeys(row['noise'] for row in blocks))
    models = list(dict.fromkeys(row['model'] for row in blocks))
    colors = _tensor_colors(blocks)
    columns = len(noises) + 1
    figure = Figure(figsize=(4 * columns, 0.6 + 5.6 * len(all_states)), dpi=120, layout='constrained')
    grid = figure.subplots(2 * len(all_states), columns, squeeze=False)
    for place, state in enumerate(all_states):
        upper, lower = grid[2 * place], grid[2 * place + 1]
        for axes, noise in zip(upper, noises, strict=False):
            for (model, tensor), color in colors.items():
                for estimator, line in _LINES.items():
                    own = [row for row in blocks if (
                        row['model'], row['tensor'], row['state'], row['noise'], row['estimator']
                    ) == (model, tensor, state, noise, estimator)]
                    if own:
                        which = f', tensor {tensor}' if tensor else ''
                        _plot_depth(axes, own, 'nats', color, ls=line, label=plot_text(f'{model}{which}, {estimator}'))
            _dress(axes, f'{state}: nats at noise {noise:g}', 'relative depth')
            axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
        of_state = [row for row in ranking if row['state'] == state]
        _plot_noises(upper[-1], of_state, noises, colors)
        for axes, key, heading in (
                (lower[0], 'top1', 'top-1 of a linear probe, %'), (lower[1], 'pixels', 'pixels explained by a ridge')):
            for model in models:
                own = [row for row in probes if (row['model'], row['state']) == (model, state)]
                if own:
                    _plot_depth(axes, own, key, colors[model, 0])
            _dress(axes, f'{state}: {heading}', 'relative depth')
        _plot_strides(lower[2], of_state, noises[len(noises) // 2], colors)
        for axes in lower[3:]:
            axes.axis('off')
        lower[3].legend(*upper[0].get_legend_handles_labels(), frameon=False, fontsize=8, loc='upper left')
    figure.savefig(file, format='png')


def _plot_noises(axes: Any, ranking: Rows, noises: Sequence[float], colors: Dict[Tuple[str, int], Any]) -> None:
    """ Means and deviations over all strides at each level of noise. Those of the kernel estimator are hollow."""
    for row in ranking:
        if row['stride'] == 'all':
            is_kernel = row['estimator'] == 'kernel'
            color = colors[row['model'], row['tensor']]
            place = list(colors).index((row['model'], row['tensor'])) - (len(colors) - 1) / 2
            # the kernel estimator to the right, networks side by side
            x = noises.index(row['noise']) + (0.2 if is_kernel else -0.2) + 0.3 * place / len(colors)
            axes.errorbar(
                x, row['nats'], row['deviation'], fmt='o', color=color, mfc='white' if is_kernel else color, ms=4,
                lw=1.5)
    if all(row['nats'] > 0 for row in ranking):  # errors may make information negative
        _log_scale(axes)
    axes.set_xticks(range(len(noises)), [f'{noise:g}' for noise in noises])
    axes.set_xlim(-0.5, len(noises) - 0.5)
    _dress(axes, 'nats, blocks that keep the shape (hollow: kernel)', 'noise')


def _plot_strides(axes: Any, ranking: Rows, noise: float, colors: Dict[Tuple[str, int], Any]) -> None:
    """ Means and deviations at each stride, at one level of noise."""
    for (model, tensor), color in colors.items():
        for estimator, line in _LINES.items():
            own = sorted(
                (row for row in ranking if row['stride'] != 'all' and (
                    row['model'], row['tensor'], row['estimator'], row['noise']) == (model, tensor, estimator, noise)),
                key=lambda row: row['stride'])
            axes.errorbar(
                range(len(own)), [row['nats'] for row in own], [row['deviation'] for row in own], color=color, ls=line,
                marker='.', lw=1.5)
            if own:
                axes.set_xticks(range(len(own)), [f'{row["stride"]:g}' for row in own])
    _dress(axes, f'nats at noise {noise:g}, blocks that keep the shape', 'stride')
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
