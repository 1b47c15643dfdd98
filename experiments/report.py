"""How the experiments report: tables in Markdown, differences in words, and the style of their pictures."""
import statistics
from io import BytesIO
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Sequence, Tuple, Union

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

from experiments.statistics import differences, Effect, paired_effect
from timm_mobilenext.shared.counts import count
from timm_mobilenext.shared.style import FAINT, INK, NETWORKS

# MobileNeXt, which has wide shortcuts; MobileNetV2 and its block; MobileNeXt with narrow shortcuts, and with none
OURS, THEIRS, NARROW, NONE = NETWORKS[:4]
CIFAR10 = (
    'The images of cifar10 are JPEG of quality 75, with colors at half the resolution. They are a copy of CIFAR-10,\n'
    'and not the lossless original.')


def make_table(headings: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """A table in Markdown."""
    return '\n'.join(f'| {" | ".join(map(str, row))} |' for row in (headings, ['---'] * len(headings), *rows))


def mean_and_deviation(values: Sequence[float]) -> str:
    """The mean, and the deviation if there is more than one value, to two digits."""
    deviation = f' ± {statistics.stdev(values):.2f}' if len(values) > 1 else ''
    return f'{statistics.mean(values):.2f}{deviation}'


def describe_pairs(what: str, unit: str, ours: Mapping[int, float], theirs: Mapping[int, float]) -> str:
    """A sentence on the mean of paired differences, by seed, with its interval.

    Args:
        what: What is compared.
        unit: Unit of the difference.
        ours: A value for each seed.
        theirs: The same of what is subtracted.
    """
    effect = paired_effect(ours, theirs)
    if effect is None:
        return 'Too few pairs of runs have ended to tell a difference.'
    return (
        f'{what}: {effect.mean:+.2f} {unit} in the mean of {len(differences(ours, theirs))} seeds, 95 % interval'
        f' {effect.low:+.2f} to {effect.high:+.2f} (Student\'s t of the paired differences).')


def describe_costs(network: nn.Module, img_size: int) -> Tuple[str, ...]:
    """Parameters, MACs and activations of a network for one image."""
    counts = count(network, (3, img_size, img_size))
    return f'{counts["params"]:,}', *(f'{counts[key] / 1e6:.2f}M' for key in ('macs', 'activations'))


def describe_machines(rows: Iterable[Mapping[str, Any]]) -> str:
    """The machines that runs were trained on, each once."""
    return '; '.join(sorted({'{machine}, torch {torch}, timm {timm}'.format(**row) for row in rows}))


def describe_data_sets(rows: Iterable[Mapping[str, Any]]) -> str:
    """The data that runs were trained on, each once, and what they are a copy of."""
    names = '; '.join(sorted({row['data'] for row in rows}))
    return f'{names}.\n{CIFAR10}' if names.startswith('cifar10,') else f'{names}.'


def break_options(recipe: str) -> str:
    """A command's options, a line for each."""
    return recipe.replace(' --', ' \\\n    --')


def dress(axes: Any, grid: str = 'both') -> None:
    """Give axes the style of all pictures.

    Args:
        axes: Axes of matplotlib.
        grid: Axis that the grid belongs to: 'x', 'y' or 'both'.
    """
    axes.grid(axis=grid, color=FAINT, alpha=0.3)
    axes.spines[['top', 'right']].set_visible(False)


def save(figure: Figure, file: Path) -> None:
    """Write a picture as a PNG of at most 256 colors, which is a third of the bytes."""
    pixels = BytesIO()
    figure.savefig(pixels, format='png')
    shrink(pixels, file)


def shrink(picture: Union[BytesIO, Path], file: Path) -> None:
    """Write a PNG again, of at most 256 colors."""
    with Image.open(picture) as image:
        # this method keeps the colors of thin lines
        small = image.convert('RGB').quantize(method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    small.save(file, format='png', optimize=True)


def plot_effect(axes: Any, place: float, effect: Effect, color: str, hollow: bool = False) -> None:
    """A mean difference at a place of the vertical axis, with its interval. It is hollow where it decides nothing."""
    axes.plot([effect.low, effect.high], [place] * 2, color=color, lw=2.5, solid_capstyle='butt')
    axes.plot(effect.mean, place, 'o', color=color, mfc='white' if hollow else color, mew=2, ms=8)


def plot_means(
        axes: Any, places: Sequence[Any], lines: Dict[str, Tuple[str, List[Tuple[float, float, float]]]],
        style: str = 'o-') -> None:
    """Means of networks side by side: their color, and at each place a mean with the ends of its deviation."""
    for shift, (name, (color, values)) in enumerate(lines.items()):
        at = [place + 0.12 * (shift - (len(lines) - 1) / 2) for place in range(len(places))]
        means, lows, highs = zip(*values, strict=True)
        axes.plot(at, means, style, color=color, lw=2, ms=8, label=name)
        axes.vlines(at, lows, highs, color=color, lw=2)
    axes.set_xticks(range(len(places)), map(str, places))
    dress(axes, 'y')


def draw_comparison(
        file: Path, logs: Dict[str, Dict[int, List[Tuple[float, float]]]], measure: str, unit: str) -> None:
    """Draw two networks: a measure by epoch, after the last one, and the difference of pairs that share a seed.

    Args:
        file: File of the picture, as PNG.
        logs: Epochs and percents of each seed, for each network by its name. A network without runs leaves its place
            empty.
        measure: What is drawn by epoch.
        unit: Unit of the difference.
    """
    figure = Figure(figsize=(8.8, 4.2), dpi=200, layout='constrained')
    grid = figure.add_gridspec(2, 2, width_ratios=(3, 2), height_ratios=(3, 2))
    curves, ends, pairs = (figure.add_subplot(grid[place]) for place in (np.s_[:, 0], np.s_[0, 1], np.s_[1, 1]))
    last = {model: {seed: points[-1][1] for seed, points in runs.items()} for model, runs in logs.items()}
    for place, ((model, runs), color) in enumerate(zip(logs.items(), (OURS, THEIRS), strict=True)):
        if not runs:
            continue
        for run in runs.values():
            curves.plot(*zip(*run, strict=True), color=color, lw=1, alpha=0.35)
        means = [statistics.mean(value for _, value in points) for points in zip(*runs.values(), strict=True)]
        curves.plot([epoch for epoch, _ in next(iter(runs.values()))], means, color=color, lw=2.5, label=model)
        ends.plot(list(last[model].values()), [place] * len(runs), 'o', color=color, alpha=0.5, ms=7, mew=0)
        ends.plot([means[-1]] * 2, [place - 0.3, place + 0.3], color=color, lw=2.5)
        ends.text(
            0, place - 0.55, f'{model}, {means[-1]:.2f} %', color=color, va='center',
            transform=ends.get_yaxis_transform())
    effect = paired_effect(*last.values())
    if effect:
        values = differences(*last.values())
        pairs.plot(values, [0] * len(values), 'o', color=INK, alpha=0.35, ms=7, mew=0)
        plot_effect(pairs, -0.6, effect, INK)
        pairs.axvline(0, color=INK, lw=1)
    curves.set_title(f'{measure}, each run and the mean', loc='left', fontsize=11)
    curves.set(xlabel='epoch', ylabel='percent')
    curves.legend(frameon=False, loc='lower right')
    ends.set_title('after the last epoch, percent', loc='left', fontsize=11)
    ends.set(yticks=[], ylim=(1.5, -1))
    pairs.set_title('the first less the second', loc='left', fontsize=11)
    pairs.set(yticks=[], xlabel=f'{unit}: pairs, 95 % interval', ylim=(-1.1, 0.5))
    for axes in (curves, ends, pairs):
        dress(axes, 'y' if axes is curves else 'x')
    save(figure, file)
