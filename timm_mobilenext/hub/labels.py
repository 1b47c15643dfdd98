""" Names of classes, from a file"""
import json
from pathlib import Path
from typing import List, Optional

from ..shared.errors import shown, UserError
from ..shared.parsing import parse

__all__ = ['check_label_names', 'read_label_names']


def read_label_names(file: Path) -> List[str]:
    """ Read class names from a file: a JSON list, or a name in each line.

    Raises:
        UserError: If the file is not text, or does not name every class.
    """
    try:
        text = file.read_text(encoding='utf-8-sig')  # some editors write a byte order mark
        names = parse(json.loads, text) if file.suffix == '.json' else [
            line.strip() for line in text.strip().split('\n')]
    except ValueError as e:  # of UTF-8 or of JSON
        raise UserError(f'{file} cannot be read as class names, it is damaged: {shown(str(e))}.') from None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise UserError(f'{file} names no classes, or not all: give a JSON list of names, or a name in each line.')
    return names


def check_label_names(names: Optional[List[str]], num_classes: int) -> None:
    """ Raise a UserError if there are names, but not one for each class."""
    if names is not None and len(names) != num_classes:
        raise UserError(f'There are {len(names)} class names for {num_classes} classes: give one for each, in order.')
