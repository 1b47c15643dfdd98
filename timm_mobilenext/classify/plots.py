""" Pictures of the demo and of predictions, as PNG; needs matplotlib"""
from pathlib import Path
from typing import Any, Dict, List, Sequence

import torch
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from ..shared.style import dress_curves, FAINT, INK, legible, plot_text, RIGHT, WRONG

__all__ = ['draw_demo', 'draw_predictions', 'History']

History = List[Dict[str, float]]  # of each epoch: 'loss', and top-1 of the 'raw' and of the 'EMA' weights

_COLUMNS = 4
_POINTS = 72  # of an inch
_BOLD = 0.85  # how much of a bold line fits where a plain one does
_LENGTH = 0.8  # of a bar that says 100 %; behind it is room for the percentage


def draw_predictions(file: Path, title: str, predictions: Sequence[Any], truths: Sequence[str] = ()) -> None:
    """ Draw images, and under each its most probable classes as bars.

    Args:
        file: PNG to write.
        title: Title of the picture.
        predictions: What a model says about each image, as `name_images` returns it.
        truths: The true class of each image, if they are known. Colors then say what is right.
    """
    columns = min(_COLUMNS, len(predictions))
    rows = -(-len(predictions) // columns)
    width, bars, head = max(2.6 * columns, 5.2), 1.2 if truths else 0.9, 0.5
    tallest = max(prediction.image.height / prediction.image.width for prediction in predictions)
    photograph = min(2.6, 0.93 * width / columns * tallest)  # no higher than the highest needs
    height = (photograph + bars) * rows
    figure = Figure(figsize=(width, height + head), dpi=150)
    room = _LENGTH * 0.9 * width / columns * _POINTS  # of a name on its bar
    heading = plot_text(title, 12, _BOLD * 0.96 * width * _POINTS)
    figure.text(0.02, 1 - 0.3 / (height + head), heading, color=INK, fontsize=12, fontweight='bold', va='center')
    grid = figure.add_gridspec(
        2 * rows, columns, height_ratios=[photograph, bars] * rows, left=0.02, right=0.98, bottom=0.02,
        top=1 - head / (height + head), hspace=0.05, wspace=0.08)
    for i, prediction in enumerate(predictions):
        row, column = divmod(i, columns)
        axes = figure.add_subplot(grid[2 * row, column], anchor='SW')
        axes.imshow(prediction.image.convert('RGB'))
        axes.axis('off')
        axes = figure.add_subplot(grid[2 * row + 1, column])
        top = prediction.classes[:3]
        places = range(len(top))
        color = INK if not truths else RIGHT if top[0][0] == truths[i] else WRONG
        lengths = [_LENGTH * p for _, p in top]
        axes.barh(places, lengths, color=[color, *[FAINT] * (len(top) - 1)], height=0.8, alpha=0.35)
        if truths:
            axes.text(0, -1, plot_text(f'true: {truths[i]}', 9, room), color=INK, fontsize=9, va='center')
        for place, (name, probability) in zip(places, top, strict=True):
            axes.text(0.02, place, plot_text(name, 9, room), color=INK, fontsize=9, va='center')
            axes.text(0.98, place, f'{100 * probability:.0f} %', color=INK, fontsize=9, va='center', ha='right')
        axes.set(xlim=(0, 1), ylim=(2.6, -1.6 if truths else -0.6), xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    figure.savefig(file, format='png')


def draw_demo(
        picture: Path,
        title: str,
        history: History,
        files: List[str],
        probabilities: torch.Tensor,
        targets: torch.Tensor,
        class_names: List[str],
) -> None:
    """ Draw loss and top-1 of each epoch, and validation images with their predicted classes and probabilities."""
    figure = Figure(figsize=(13, 7), dpi=150)
    figure.text(0.03, 0.94, plot_text(title, 14, _BOLD * 12 * _POINTS), color=INK, fontsize=14, fontweight='bold')

    def plot_curves(bottom: float, heading: str, **colors: str) -> None:
        axes = figure.add_axes((0.05, bottom, 0.25, 0.32))
        for name, color in colors.items():
            axes.plot(range(1, len(history) + 1), [h[name] for h in history], '.-', color=color, lw=2, ms=8, label=name)
        dress_curves(axes, heading)
        if len(colors) > 1:
            axes.legend(frameon=False, loc='lower right')

    last = history[-1]
    plot_curves(0.54, f'training loss, {last["loss"]:.3f} at the end', loss=INK)
    plot_curves(0.09, f'top-1, raw {last["raw"]:.2f} %, EMA {last["EMA"]:.2f} %', raw=FAINT, EMA=RIGHT)

    room = 0.063 * 13 * _POINTS  # of a text under an image

    def plot_images(top: float, heading: str, indices: List[int]) -> None:
        figure.text(0.345, top + 0.02, heading, color=INK, fontsize=11)
        for i, index in enumerate(indices):
            row, column = divmod(i, columns)
            axes = figure.add_axes((0.345 + 0.0645 * column, top - 0.105 - 0.175 * row, 0.0565, 0.105))
            with Image.open(files[index]) as image:
                axes.imshow(ImageOps.fit(image.convert('RGB'), (96, 96), Image.Resampling.BICUBIC))
            axes.set(xticks=[], yticks=[])
            prediction, target = int(probabilities[index].argmax()), int(targets[index])
            color = RIGHT if prediction == target else WRONG
            name, percent = class_names[prediction], f'{100 * probabilities[index, prediction]:.0f} %'
            line = f'{name}  {percent}'
            lines = [line] if legible(line, 8, room) == legible(line, 8) else [name, percent]
            if prediction != target:
                lines.append(f'is {class_names[target]}')
            axes.set_xlabel('\n'.join(plot_text(line, 8, room) for line in lines), color=color, fontsize=8)
            axes.spines[:].set(color=color, linewidth=2)

    # three rows from the first class to the last, and one of the images whose true class is least probable
    columns = 10
    places = torch.linspace(0, len(targets) - 1, min(3 * columns, len(targets))).long()
    through = targets.argsort(stable=True)[places].tolist()
    plot_images(0.86, 'validation images, predicted class and confidence', through)
    hardest = probabilities.gather(1, targets[:, None])[:, 0].argsort()[:columns].tolist()
    plot_images(0.27, 'the hardest of them, with the least confidence in the true class', hardest)
    figure.savefig(picture, format='png')
