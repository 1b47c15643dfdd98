"""How the experiments report: tables in Markdown, differences in words, and the style of their pictures."""
import statistics
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from matplotlib.figure import Figure
from torch import nn

from experiments.statistics import differences, paired_effect
from timm_mobilenext.shared.counts import count
from timm_mobilenext.shared.style import FAINT, INK, RIGHT, WRONG

OURS, THEIRS = RIGHT, WRONG  # colours of MobileNeXt and of what it is compared with


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


def draw_comparison(
        file: Path, logs: Dict[str, List[List[Tuple[float, float]]]], measure: str, heading: str,
        highest: Optional[float] = None) -> None:
    """Draw two networks: a measure by epoch, and after the last epoch, of each seed and in the mean.

    Args:
        file: File of the picture, as PNG.
        logs: Epochs and percents of each seed, for each network by its name. A network without runs leaves its place
            empty.
        measure: Name of the measure.
        heading: What is drawn by epoch.
        highest: End of the measure's axis, None to end it at the data.
    """
    figure = Figure(figsize=(10, 4.2), dpi=150)
    curves, bars = figure.subplots(1, 2, width_ratios=(3, 2))
    for place, ((model, runs), color) in enumerate(zip(logs.items(), (OURS, THEIRS), strict=True)):
        if not runs:
            continue
        for run in runs:
            curves.plot(*zip(*run, strict=True), color=color, lw=1, alpha=0.35)
        means = [statistics.mean(value for _, value in points) for points in zip(*runs, strict=True)]
        curves.plot([epoch for epoch, _ in runs[0]], means, color=color, lw=2.5, label=model)
        bars.barh(place, means[-1], color=color, alpha=0.35, height=0.6)
        bars.plot([run[-1][1] for run in runs], [place] * len(runs), 'o', color=color, ms=5)
        bars.text(means[-1] / 2, place, f'{model}\n{means[-1]:.2f} %', color=INK, ha='center', va='center')
    curves.set_title(f'{heading} by epoch, each seed and the mean', loc='left', fontsize=11)
    curves.set_xlabel('epoch')
    curves.legend(frameon=False, loc='lower right')
    bars.set_title('after the last epoch, mean and each seed', loc='left', fontsize=11)
    bars.set(yticks=[], xlim=(0, highest), xlabel=f'{measure} in percent', ylim=(1.5, -0.5))
    dress(curves, 'y')
    dress(bars, 'x')
    figure.tight_layout()
    figure.savefig(file, format='png')
