"""Drawings of blocks: boxes are as wide as their channels, and data flows down."""
from typing import Any, Dict, List, Tuple

from matplotlib.figure import Figure

from experiments.report import mean_and_deviation, NARROW, OURS
from timm_mobilenext.shared.style import INK

ABOVE = -0.12  # where a shortcut leaves an arrow, above its head


def plot_layers(axes: Any, x: float, layers: str) -> None:
    """Layers from top to bottom, as wide as their channels: (d)epthwise, (r)eduction, (e)xpansion."""
    wide, narrow, label = 1.0, 0.3, dict(d='3×3 depthwise', r='1×1', e='1×1')
    for y, kind in enumerate(layers):
        top, bottom = narrow if kind == 'e' else wide, narrow if kind == 'r' else wide
        axes.fill(
            [x - top, x + top, x + bottom, x - bottom], [y + 0.18, y + 0.18, y + 0.82, y + 0.82], ec=INK, lw=1,
            fc='#dbe4ee' if kind == 'd' else '#f4f6f8')
        axes.text(x, y + 0.5, label[kind], ha='center', va='center', fontsize=11, color=INK)
    for y in range(len(layers) + 1):
        axes.annotate('', (x, y + 0.2), (x, y - 0.2), arrowprops=dict(arrowstyle='-|>', color=INK, lw=1.2))


def plot_shortcut(axes: Any, x: float, start: float, end: int, color: str, text: str = '', side: int = 1) -> None:
    """An arrow beside the layers, from one tensor to the sum at another: on the right, or on the left with side -1."""
    far = x + side * 1.25
    axes.annotate('', (x + side * 0.06, end), (far, end), arrowprops=dict(arrowstyle='-|>', color=color, lw=2.5))
    axes.plot([x, far, far], [start, start, end], color=color, lw=2.5)
    axes.plot(x, end, 'o', color=color, mfc='white', mew=2, ms=13, zorder=3)
    axes.plot(x, end, '+', color=color, mew=2, ms=8, zorder=4)
    axes.text(
        far + side * 0.07, (start + end) / 2, text, color=color, va='center', ha='left' if side > 0 else 'right',
        fontsize=11)


def finish(axes: Any, xlim: Tuple[float, float], height: float, names: List[Tuple[float, str, str]]) -> None:
    """Name the columns, and leave no axes."""
    for x, name, color in names:
        axes.text(x, -0.55, name, ha='center', color=color, fontsize=12, fontweight='bold')
    axes.set(xlim=xlim, ylim=(height, -0.9))
    axes.axis('off')


def draw_shortcut(figure: Figure) -> str:
    """Two sandglass blocks in a row, with wide and with narrow shortcuts."""
    axes = figure.subplots()
    for x in (0, 4):
        plot_layers(axes, x, 'dreddred')
    plot_shortcut(axes, 0, ABOVE, 4, OURS, '384\nchannels')
    plot_shortcut(axes, 0, 4, 8, OURS, '384\nchannels', side=-1)  # from the sum, and apart from what led to it
    plot_shortcut(axes, 4, 2 + ABOVE, 6, NARROW, '64\nchannels')
    finish(axes, (-2.2, 6.2), 8.5, [(0, 'wide: MobileNeXt', OURS), (4, 'narrow', NARROW)])
    return 'The same layers, with the shortcut between other tensors'


def draw_depthwise(figure: Figure, top1: Dict[str, List[float]]) -> str:
    """The places of the depthwise convolutions, with the top-1 of their runs."""
    axes, names = figure.subplots(), []
    for x, arm, layers, name, color in (
            (0.0, 'before', 'dre', 'before', INK), (3.2, 'wide', 'dred', 'both: MobileNeXt', OURS),
            (6.4, 'after', 'red', 'after', INK)):
        plot_layers(axes, x, layers)
        plot_shortcut(axes, x, ABOVE, len(layers), color)
        runs = f'top-1 {mean_and_deviation(top1[arm])} %, {len(top1[arm])} runs'
        axes.text(x, 4.75, runs, ha='center', fontsize=12, color=color)
        names.append((x, name, color))
    finish(axes, (-1.3, 8), 4.9, names)
    return 'Before or after: our runs cannot tell them apart'
