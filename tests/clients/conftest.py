"""Real images for the tools: the photographs and the blood cells that come with the package."""
import re
import shutil
from xml.etree import ElementTree

import pytest
from environments import ROOT
from PIL import Image, ImageDraw
from tools import need, TOOLS, use_script

CELLS = ROOT / 'timm_mobilenext' / 'detection' / 'bccd'
SPLITS = dict(train='train', validation='val')  # as an image folder has them -> as VOC has them
SIDE = 160  # of a tile, in pixels


def pytest_runtest_setup(item):
    """Skip a test before images are made for it. It has the name of its tool."""
    tool = re.sub('^test_(program_of_)?', '', item.name).replace('_', '-')
    if tool in TOOLS:
        need(tool)


def read_cells(split):
    """The photographs of a split, each with its cells: kind and box."""
    for name in (CELLS / 'ImageSets' / 'Main' / f'{split}.txt').read_text().split():
        cells = [
            (cell.findtext('name'), [int(cell.findtext(f'bndbox/{side}')) for side in ('xmin', 'ymin', 'xmax', 'ymax')])
            for cell in ElementTree.parse(CELLS / 'Annotations' / f'{name}.xml').iter('object')]
        yield CELLS / 'JPEGImages' / f'{name}.jpg', cells


@pytest.fixture
def use(tmp_path):
    """Run a tool's script in a folder of its own."""
    return lambda tool, *arguments, **env: use_script(tool, tmp_path, *arguments, **env)


@pytest.fixture(scope='session')
def cells():
    """Photographs of blood cells with boxes, in the format of Pascal VOC."""
    return CELLS


@pytest.fixture(scope='session')
def photographs():
    """One each of a cat, a dog, a duck, ..., by name."""
    return ROOT / 'timm_mobilenext' / 'photographs'


@pytest.fixture(scope='session')
def masks(tmp_path_factory):
    """`images` and `masks` to train on and to validate on: eight and four photographs, and their white cells."""
    root = tmp_path_factory.mktemp('masks')
    for split, in_voc in SPLITS.items():
        (root / split / 'images').mkdir(parents=True)
        (root / split / 'masks').mkdir()
        for photograph, cells in read_cells(in_voc):
            shutil.copy(photograph, root / split / 'images')
            mask = Image.new('L', Image.open(photograph).size)
            for kind, box in cells:
                if kind == 'WBC':
                    ImageDraw.Draw(mask).ellipse(box, fill=255)
            mask.save(root / split / 'masks' / f'{photograph.stem}.png')
    return root


@pytest.fixture(scope='session')
def tiles(tmp_path_factory):
    """An image folder of two classes, tiles of the photographs of cells: with a white one on them, or `red` alone."""
    root = tmp_path_factory.mktemp('tiles')
    for split, in_voc in SPLITS.items():
        for label in ('red', 'white'):
            (root / split / label).mkdir(parents=True)
        for photograph, cells in read_cells(in_voc):
            image = Image.open(photograph)
            whites = [box for kind, box in cells if kind == 'WBC']
            for y in range(0, image.height - SIDE + 1, SIDE // 2):
                for x in range(0, image.width - SIDE + 1, SIDE // 2):
                    share = sum(
                        max(0, min(x + SIDE, x2) - max(x, x1)) * max(0, min(y + SIDE, y2) - max(y, y1))
                        for x1, y1, x2, y2 in whites) / SIDE ** 2
                    if share == 0 or share > 0.3:
                        name = f'{photograph.stem}_{x}_{y}.png'
                        tile = image.crop((x, y, x + SIDE, y + SIDE))
                        tile.save(root / split / ('white' if share else 'red') / name)
    return root
