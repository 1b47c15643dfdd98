"""timm-mobilenext check: it reports faults of an image folder before a training."""
import shutil

import pytest
from PIL import Image
from typer.testing import CliRunner

from timm_mobilenext.cli.main import app

pytestmark = pytest.mark.tools


@pytest.fixture
def folder(tmp_path):
    """Three classes, three images each to train and two to validate."""
    for split, count in (('train', 3), ('validation', 2)):
        for name in ('one', 'two', 'zero'):
            (tmp_path / 'images' / split / name).mkdir(parents=True)
            for i in range(count):
                image = Image.effect_noise((16, 16), 40 + i)
                image.save(tmp_path / 'images' / split / name / f'{i}.png')
    return tmp_path / 'images'


def check(*arguments, code=0, noted=False):
    result = CliRunner().invoke(app, ['check', *map(str, arguments)])
    assert result.exit_code == code, result.output
    *notes, line = result.output.splitlines()
    assert code == 0 or not notes
    return '\n'.join(notes) if noted else line


@pytest.mark.parametrize('name', ['validation', 'val', 'evaluation'])
def test_good_folder_is_counted(folder, name):
    (folder / 'validation').rename(folder / name)
    (folder / 'train' / '.ipynb_checkpoints').mkdir()  # no class
    assert '3 classes, 9 images to train, 6 to validate, all can be read' in check(folder, '--num-classes', 3)


def test_files_that_timm_passes_over_are_counted(folder):
    for i, suffix in enumerate(('.webp', '.WEBP', '.bmp', '.tif')):
        Image.new('RGB', (9, 9)).save(folder / 'train' / 'one' / f'more{i}{suffix}')
    (folder / 'train' / '.DS_Store').touch()
    (folder / 'train' / 'LICENSE').touch()
    assert 'passes over 5 files, 1 .bmp, 1 .tif, 2 .webp, 1 without a suffix' in check(folder, noted=True)
    assert '9 images to train' in check(folder)


def test_folders_that_are_one_class_to_timm_are_told(folder):
    for split in ('train', 'validation'):
        for name in ('one', 'two'):
            (folder / split / name / 'sub').mkdir()
            for file in (folder / split / name).glob('*.png'):
                file.rename(file.parent / 'sub' / file.name)
    notes = check(folder, noted=True).splitlines()
    assert len(notes) == 2 and all('one/sub and two/sub are one class to timm, sub' in note for note in notes)
    assert '2 classes' in check(folder)


def break_folder(folder, how):
    if how == 'no folder':
        shutil.rmtree(folder)
    elif how == 'no split':
        shutil.rmtree(folder / 'validation')
    elif how == 'no classes':
        for file in (folder / 'train').glob('*/*'):
            file.rename(folder / 'train' / f'{file.parent.name}{file.name}')
        for empty in (folder / 'train').glob('*/'):
            empty.rmdir()
    elif how == 'no images':
        for file in (folder / 'train').glob('*/*'):
            file.unlink()
    elif how == 'one class':
        for split in folder.iterdir():
            for name in ('one', 'two'):
                shutil.rmtree(split / name)
    elif how == 'empty class':
        for file in (folder / 'validation' / 'one').iterdir():
            file.unlink()
    elif how == 'missing class':
        shutil.rmtree(folder / 'train' / 'two')
    elif how.startswith('hidden'):
        for split in folder.iterdir():
            place = split if how == 'hidden class' else split / 'one'
            shutil.copytree(split / 'one', place / '.ipynb_checkpoints')
    elif how == 'class of webp':
        for file in (folder / 'train' / 'one').iterdir():
            file.rename(file.with_suffix('.webp'))
    elif how == 'corrupt image':
        (folder / 'train' / 'one' / '0.png').write_bytes(b'\x89PNG no more')
    elif how == 'half an image':
        file = folder / 'validation' / 'two' / '1.png'
        file.write_bytes(file.read_bytes()[:-30])


@pytest.mark.parametrize('how, words', [
    ('no folder', ['is not a folder', 'train/']),
    ('no split', ['no validation or val folder']),
    ('no classes', ['images outside of class folders']),
    ('no images', ['train has no images']),
    ('one class', ['one class, zero', 'two or more']),
    ('empty class', ['validation', 'no images of class one']),
    ('missing class', ['train', 'no images of class two']),
    ('hidden class', ['.ipynb_checkpoints is a hidden folder with images', 'remove it']),
    ('hidden folder in a class', ['one/.ipynb_checkpoints is a hidden folder with images', 'remove it']),
    ('class of webp', ['no images of class one that timm reads (.png, .jpg, .jpeg)']),
    ('corrupt image', ['0.png', 'cannot be read as an image']),
    ('half an image', ['1.png', 'cannot be read as an image']),
])
def test_bad_folder_is_reported_in_one_line(folder, how, words):
    break_folder(folder, how)
    error = check(folder, code=1)
    assert error.startswith('Error: ') and all(word in error for word in words), error


def test_unexpected_number_of_classes_is_reported(folder):
    assert 'has 3 classes, not 10: give --num-classes 3' in check(folder, '--num-classes', 10, code=1)


def test_folder_too_small_for_a_batch_is_reported(folder):
    """train.py leaves the last, smaller batch out, and says nothing."""
    assert '9 images to train' in check(folder, '--batch-size', 9)
    assert 'too few for a batch of 10' in check(folder, '-b', 10, code=1)
