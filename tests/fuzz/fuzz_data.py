"""Data sets, recipes and photographs that are damaged or strange: read, or refused in a line."""
import io
import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from oracle import damaged, fuzz, is_told, STRANGE, tell, twisted
from PIL import Image
from typer.testing import CliRunner

from timm_mobilenext.classify.image_folder import run_check
from timm_mobilenext.cli.main import app
from timm_mobilenext.detection.evaluate import run_eval
from timm_mobilenext.shared.images import read_image

COCO = dict(
    images=[dict(id=1, file_name='a.jpg', width=64, height=48), dict(id=2, file_name='b.jpg', width=64, height=48)],
    categories=[dict(id=1, name='cell'), dict(id=2, name='other', supercategory='cell')],
    annotations=[
        dict(id=1, image_id=1, category_id=1, bbox=[5, 5, 20, 20], area=400, iscrowd=0),
        dict(id=2, image_id=2, category_id=2, bbox=[5.5, 5, 20, 20.5], area=410, iscrowd=1)])
FOUND = [dict(image_id=1, category_id=1, bbox=[5, 5, 20, 20], score=0.9)]
VOC = b"""<annotation><filename>a.jpg</filename><size><width>64</width><height>48</height><depth>3</depth></size>
<object><name>cell</name><difficult>0</difficult><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>30</xmax><ymax>30</ymax></bndbox>
</object></annotation>"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    for name in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
        (folder / name).mkdir(parents=True)
    for file in (folder / 'a.jpg', folder / 'b.jpg', folder / 'JPEGImages' / 'a.jpg'):
        Image.new('RGB', (64, 48), 'red').save(file)
    return folder


def test_coco(folder):
    @fuzz()
    @given(st.tuples(twisted(COCO), st.just(FOUND)) | st.tuples(st.just(COCO), twisted(FOUND)))
    def run(data):
        for name, value in zip(('x.json', 'found.json'), data, strict=True):
            (folder / name).write_text(json.dumps(value))
        tell(run_eval, None, folder, 'x.json', folder / 'found.json')

    run()


def test_damaged_json(folder):
    @fuzz(0.3)
    @given(damaged(json.dumps(COCO).encode()))
    def run(content):
        (folder / 'x.json').write_bytes(content)
        (folder / 'found.json').write_text(json.dumps(FOUND))
        tell(run_eval, None, folder, 'x.json', folder / 'found.json')

    run()


def test_voc(folder):
    values = STRANGE.map(lambda value: str(value).encode('utf-8', 'surrogatepass'))
    parts = st.sampled_from([b'64', b'48', b'30', b'>5', b'cell', b'a.jpg', b'<difficult>0'])
    replaced = st.builds(VOC.replace, parts, values)

    @fuzz()
    @given(st.tuples(damaged(VOC) | replaced, st.just(b'a\n')) | st.tuples(st.just(VOC), damaged(b'a 1\na -1\nb\n')))
    def run(data):
        (folder / 'Annotations' / 'a.xml').write_bytes(data[0])
        (folder / 'ImageSets' / 'Main' / 'val.txt').write_bytes(data[1])
        (folder / 'none.json').write_text('[]')
        tell(run_eval, None, folder, 'val', folder / 'none.json')

    run()


def test_recipe(folder):
    """The data are not there, so that a sound recipe ends in a line too."""
    recipe = dict(
        backbone='mobilenext_100', lr=0.01, epochs=3, batch_size=8, model_ema=True, opt='sgd', clip_grad=1.0,
        decay_milestones=[1, 2], img_size=320, seed=1, device='cpu', amp_dtype='float16', preset='coco')
    file = folder / 'recipe.yaml'
    arguments = ['detect', 'train', '--config', file, '-o', folder / 'out', '--data-dir', folder / 'gone']

    @fuzz()
    @given(twisted(recipe).map(lambda r: yaml.safe_dump(r).encode()) | damaged(yaml.safe_dump(recipe).encode()))
    def run(content):
        file.write_bytes(content)
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code in (1, 2) and isinstance(result.exception, SystemExit), result.output
        if result.exit_code == 1:
            is_told(result.stderr)
        assert not (folder / 'out').exists()

    run()


def images():
    pixels = Image.fromarray(np.arange(12 * 16 * 3, dtype='uint8').reshape(12, 16, 3))
    for suffix in ('PNG', 'JPEG', 'GIF', 'BMP', 'TIFF', 'WEBP', 'PPM'):
        buffer = io.BytesIO()
        pixels.save(buffer, suffix)
        yield suffix, buffer.getvalue()


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('suffix, content', [*images()])
def test_photograph(suffix, content):
    @fuzz(0.3)
    @given(damaged(content))
    def run(data):
        with TemporaryDirectory() as folder:
            file = Path(folder, f'image.{suffix.lower()}')
            file.write_bytes(data)
            tell(lambda: read_image(file).convert('RGB'))

    run()


file_names = st.binary(min_size=1, max_size=12).filter(
    lambda name: not {*b'/\0'} & {*name} and name not in (b'.', b'..'))


@fuzz(0.3)
@given(st.lists(file_names, max_size=5))
def test_names_of_files(names):
    """In an image folder: `check` reads what is there, whatever its name."""
    with TemporaryDirectory() as folder:
        for split in ('train', 'val'):
            for class_name in ('a', 'b'):
                path = Path(folder, split, class_name)
                path.mkdir(parents=True)
                Image.new('RGB', (4, 4)).save(path / 'one.png')
                for name in names:
                    Path(path, os.fsdecode(name)).write_bytes(b'')
        tell(run_check, Path(folder))
