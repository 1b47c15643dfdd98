""" Picture of a detector's training, as PNG; needs matplotlib"""
import math
from pathlib import Path
from typing import Any, Dict, Sequence

from matplotlib.figure import Figure

from ..shared.style import dress_curves, FAINT, INK, plot_text, RIGHT, WRONG

__all__ = ['draw_curves']


def draw_curves(file: Path, title: str, rows: Sequence[Dict[str, Any]]) -> None:
    """ Draw losses and average precision of a detector over the epochs of its training.

    Args:
        file: PNG to write.
        title: Title of the picture.
        rows: Rows of metrics.csv. What was not measured is NaN, and is not drawn.
    """
    figure = Figure(figsize=(9, 3.6), dpi=150, layout='constrained')
    figure.suptitle(plot_text(title, 12, 540), color=INK, fontsize=12, fontweight='bold', x=0.01, ha='left')
    losses, precision = figure.subplots(1, 2)
    columns = {'loss': ('loss', INK), 'classification': ('classes', WRONG), 'bbox_regression': ('boxes', FAINT)}
    _plot(losses, rows, columns, factor=1, digits=3)
    dress_curves(losses, 'loss')
    _plot(precision, rows, {'AP': ('AP', INK), 'AP50': ('AP50', RIGHT)}, factor=100, digits=1)
    dress_curves(precision, 'average precision, %')
    for axes in (losses, precision):
        axes.legend(frameon=False, fontsize=9)
    figure.savefig(file, format='png')


def _plot(
        axes: Any, rows: Sequence[Dict[str, Any]], columns: Dict[str, Any], factor: float, digits: int) -> None:
    """ A line for each column, with its last value in the legend."""
    for column, (name, color) in columns.items():
        points = [(row['epoch'], factor * row[column]) for row in rows if math.isfinite(row[column])]
        label = f'{name} {points[-1][1]:.{digits}f}' if points else name
        axes.plot(*zip(*points, strict=True) if points else ([], []), '.-', color=color, lw=1.5, ms=4, label=label)
