""" Photographs, read as people see them"""
from pathlib import Path
from typing import Dict

import numpy as np
from PIL import Image, ImageOps

from .errors import UserError

__all__ = ['check_all_read', 'read_image']

_MAX_LISTED = 5  # files that a message lists


def read_image(file: Path, turn: bool = True) -> Image.Image:
    """ Read an image.

    Args:
        file: File of the image.
        turn: Turn it as its camera was held.

    Raises:
        UserError: If the file is not an image, or is damaged.
    """
    try:
        with Image.open(file) as opened:
            opened.load()
            image: Image.Image = ImageOps.exif_transpose(opened) if turn else opened
        if image.mode.startswith('I'):  # of 16 bits, PIL would cut off all above 255
            image = Image.fromarray((np.asarray(image).astype(float) / 257).round().clip(0, 255).astype('uint8'))
        if image.mode == 'F':
            raise UserError('pixels of floating point')
        return image
    except Exception as e:  # bytes that are not an image lead to errors of every kind
        raise UserError(f'{file} cannot be read as an image ({type(e).__name__}): repair it or leave it out.') from e


def check_all_read(bad: Dict[Path, UserError], count: int) -> None:
    """ Raise a UserError if some of so many images could not be read. Call it when the others are done."""
    if len(bad) == 1:
        raise next(iter(bad.values()))
    if bad:
        files = ', '.join(str(file) for file in list(bad)[:_MAX_LISTED])
        more = f' and {len(bad) - _MAX_LISTED} more' if len(bad) > _MAX_LISTED else ''
        raise UserError(f'{len(bad)} of {count} images cannot be read: {files}{more}. Repair them or leave them out.')
