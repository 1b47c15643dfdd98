""" Paths that a user gives, checked before anything slow is imported"""
from pathlib import Path
from typing import Dict, Iterable

from .errors import UserError

__all__ = [
    'check_file', 'check_folder', 'check_new_folder', 'check_not_hidden', 'check_output_folder', 'find_splits',
    'SPLITS',
]

# names of the two splits of an image folder, as timm knows them
SPLITS = {
    'train': ('train', 'training'),
    'validate': ('validation', 'val', 'valid', 'eval', 'evaluation'),
}


def check_file(file: Path, expected: str = 'the files of images') -> None:
    """ Raise a UserError if this is not a file.

    Args:
        file: Path that was given.
        expected: What to give instead, as the message says it.
    """
    if not file.exists():
        raise UserError(f'{file} is not there: give {expected}.')
    if file.is_dir():
        raise UserError(f'{file} is a folder: give {expected}.')


def check_folder(folder: Path, expected: str) -> None:
    """ Raise a UserError if this is not a folder.

    Args:
        folder: Path that was given.
        expected: What to give instead, as the message says it.
    """
    if not folder.is_dir():
        raise UserError(f'{folder} is not a folder: give {expected}.')


def check_not_hidden(folder: Path, images: Iterable[str]) -> None:
    """ Raise a UserError if images of a split are in a hidden folder, for timm takes it for a class like any other."""
    for place in dict.fromkeys(Path(image).parent for image in images):
        if any(part.startswith('.') for part in place.relative_to(folder).parts):
            raise UserError(f'{place} is a hidden folder with images, and timm would train on them: remove it.')


def check_output_folder(folder: Path) -> None:
    """ Raise a UserError if a file is where a folder will be written."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f'{folder} is a file: give a folder.')


def check_new_folder(folder: Path) -> None:
    """ Raise a UserError if a folder cannot be written, or is not empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f'{folder} exists: give another name, nothing is overwritten.')
    check_folder(folder.absolute().parent, 'an output folder in one that exists')


def find_splits(data_dir: Path) -> Dict[str, Path]:
    """ Folders of an image folder to `train` on and to `validate` on.

    Raises:
        UserError: If there is no such folder, or if it lacks one of the two.
    """
    check_folder(data_dir, 'one with train/ and validation/ (or val/)')
    folders = {}
    for task, names in SPLITS.items():
        folder = next((data_dir / name for name in names if (data_dir / name).is_dir()), None)
        if folder is None:
            raise UserError(
                f'{data_dir} has no {" or ".join(names[:2])} folder: make it, with a folder for each class.')
        folders[task] = folder
    return folders
