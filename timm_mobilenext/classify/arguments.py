""" Arguments of the commands, checked before anything slow is imported"""
from pathlib import Path
from typing import Optional, Sequence

from ..shared.errors import UserError
from ..shared.paths import check_file, check_output_folder, find_splits

__all__ = ['check_demo', 'check_predict', 'MARKER']

MARKER = '.timm-mobilenext-demo'  # file that says that a folder is a demo's
_DRAWN_AT_MOST = 100  # images in a picture


def check_demo(data_dir: Optional[Path], output: Path) -> None:
    """ Raise a UserError if the demo cannot read its data, or would write among files that are not its own."""
    if data_dir is not None:
        find_splits(data_dir)
    check_output_folder(output)
    if output.exists() and any(output.iterdir()) and not (output / MARKER).exists():
        raise UserError(f'{output} is not empty and not from this demo: give another --output.')


def check_predict(files: Sequence[Path], output: Optional[Path]) -> None:
    """ Raise a UserError if an image is not there, or if the picture of all cannot be drawn."""
    for file in files:
        check_file(file)
    if output is None:
        return
    if output.suffix.lower() != '.png':
        raise UserError(f'{output} is not a PNG: give a name that ends in .png.')
    if output.is_dir():
        raise UserError(f'{output} is a folder: give the name of a PNG.')
    if not output.absolute().parent.is_dir():
        raise UserError(f'{output.parent} is not a folder: make it, or write elsewhere.')
    if output.resolve() in [file.resolve() for file in files]:
        raise UserError(f'{output} is one of the images: give the picture another name.')
    if len(files) > _DRAWN_AT_MOST:
        raise UserError(
            f'A picture takes {_DRAWN_AT_MOST} images at most, here are {len(files)}: give fewer, or no --output.')
