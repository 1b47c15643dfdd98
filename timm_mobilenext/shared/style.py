""" One style for all pictures: colors, and text of any language"""
import math
import re
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import ImageFont

__all__ = ['dress_curves', 'FAINT', 'INK', 'legible', 'load_font', 'NETWORKS', 'plot_text', 'RIGHT', 'WRONG']

INK, FAINT, RIGHT, WRONG = '#1f2933', '#a5b1bd', '#0f766e', '#c2410c'
# networks side by side, in this order: neither right nor wrong, and told apart by the colour-blind
NETWORKS = '#1d4ed8', '#c98a04', '#be185d', '#64748b', '#6d28d9', '#0e7490'

_PROBE = 20  # pixels of the font that is asked for its characters


@lru_cache
def load_font(size: float) -> Any:
    """ Font of PIL: DejaVu Sans, which matplotlib brings and draws with, or PIL's own if there is no matplotlib."""
    spec = find_spec('matplotlib')
    folders = spec.submodule_search_locations or [] if spec else []
    files = [Path(folder, 'mpl-data', 'fonts', 'ttf', 'DejaVuSans.ttf') for folder in folders]
    file = next((file for file in files if file.is_file()), None)
    return ImageFont.truetype(str(file), size) if file else ImageFont.load_default(size)


@lru_cache(maxsize=10_000)
def _look(character: str) -> Any:
    """ What the font draws for a character by itself, where the other layout would put a circle under a mark."""
    mask = load_font(_PROBE).font_variant(layout_engine=ImageFont.Layout.BASIC).getmask(character)
    return mask.size, bytes(mask)


def legible(text: str, size: float, width: float = math.inf) -> str:
    """ Text as it can be drawn: on one line, and with code points (U+732B) in place of what the font lacks.

    Args:
        text: Any text, such as the name of a class.
        size: Size of the font.
        width: Width to cut the text at, in the unit of the size.
    """
    missing = _look('\U0010ffff')
    characters = []
    for character in text:
        is_half = '\ud800' <= character <= '\udfff'  # of a file name that is not UTF-8
        if is_half or not character.isspace() and (not ord(character) or _look(character) == missing):
            character = f'\nU+{ord(character):04X}\n'
        characters.append(character)
    # spaces that separate parts of a line stay as they are
    line = re.sub(r'\s+', lambda run: ' ' if run[0].strip(' ') else run[0], ''.join(characters)).strip()
    font = load_font(size)
    if font.getlength(line) <= width:
        return line
    kept = int(min(len(line), 5 * width / size))  # a character is rarely narrower than a fifth of its height
    while kept > 0 and font.getlength(f'{line[:kept]}…') > width:
        kept -= 1
    return f'{line[:kept]}…'


def plot_text(text: str, size: float = 12, width: float = math.inf) -> str:
    """ The same for matplotlib, which would take what is between two dollar signs for mathematics."""
    return legible(text, size, width).replace('$', r'\$')


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
