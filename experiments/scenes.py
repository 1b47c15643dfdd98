"""Draws road scenes of CamVid: what is true, and what segmentation networks say."""
from pathlib import Path
from typing import Mapping, Sequence

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

STEP, NUM_SCENES = 29, 8  # eight scenes from all over the split `test`
# sky, building, pole, road, pavement, tree, sign, fence, car, pedestrian, bicyclist, and no class
COLORS = (
    '#9ecae1', '#8c6d5a', '#f2c14e', '#6b7280', '#c9b8d8', '#4d8b4a', '#e4572e', '#b08968', '#2f5fd0', '#d6336c',
    '#0aa5a5', '#ffffff')


def draw_scenes(data_dir: Path, names: Sequence[str], masks: Mapping[str, np.ndarray]) -> Figure:
    """Draw every 29th scene, two in a row.

    Args:
        data_dir: Folder of CamVid, for the true masks.
        names: Names of the scenes of the split `test`.
        masks: Predicted classes (scenes, height, width) of each network.
    """
    classes = [name.replace('_', ' ') for name in (data_dir / 'classes.txt').read_text().split()]
    palette = np.array([to_rgb(color) for color in COLORS])
    places = range(0, len(names), STEP)[:NUM_SCENES]
    figure = Figure(figsize=(8.8, 5.4), dpi=100)
    columns = [1.0] * (1 + len(masks))
    grid = figure.subplots(len(places) // 2, 2 * len(columns) + 1, squeeze=False, gridspec_kw=dict(
        wspace=0.04, hspace=0.04, width_ratios=[*columns, 0.15, *columns]))  # a gap between two scenes
    for axes in grid[:, len(columns)]:
        axes.remove()
    for number, place in enumerate(places):
        truth = np.asarray(Image.open(data_dir / 'masks' / 'test' / f'{names[place]}.png'))
        shown = dict(truth=truth, **{model: predicted[place] for model, predicted in masks.items()})
        row = np.delete(grid[number // 2], len(columns)).reshape(2, -1)[number % 2]
        for axes, (title, mask) in zip(row, shown.items(), strict=True):
            axes.imshow(palette[np.where(truth == len(classes), len(classes), mask)], interpolation='nearest')
            axes.axis('off')
            if number < 2:
                axes.set_title(title, fontsize=9)
    handles = [Figure().subplots().plot([], [], 's', color=color, ms=9)[0] for color in COLORS[:len(classes)]]
    figure.legend(handles, classes, ncols=6, loc='lower center', frameon=False, fontsize=9)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.95, bottom=0.12)
    return figure
