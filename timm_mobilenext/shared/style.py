""" One style for all pictures"""
from typing import Any

__all__ = ['dress_curves', 'FAINT', 'INK', 'RIGHT', 'WRONG']

INK, FAINT, RIGHT, WRONG = '#1f2933', '#a5b1bd', '#0f766e', '#c2410c'


def dress_curves(axes: Any, heading: str) -> None:
    """ Give axes of matplotlib, with curves over epochs, their title, labels and grid."""
    from matplotlib.ticker import MaxNLocator

    axes.set_title(heading, color=INK, fontsize=11, loc='left')
    axes.set_xlabel('epoch', color=INK, fontsize=9)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(axis='y', color=FAINT, alpha=0.3)
    axes.spines[['top', 'right']].set_visible(False)
