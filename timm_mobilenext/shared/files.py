""" Files and folders that are there as a whole or not at all, whatever interrupts the writing"""
import ctypes
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Tuple

from .errors import UserError

__all__ = ['replacing', 'tidy']


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """ Give a temporary path to write to, and put it in the place of `path` if all went well.

    Raises:
        UserError: If a file was written where a folder is.
    """
    path = path.resolve()  # the target of a link, not the link
    new, old = tidy(path)
    try:
        yield new
        if path.is_dir() and not new.is_dir():
            raise UserError(f'{path} is a folder, and a file cannot replace it: give another name.')
        if not path.is_dir():
            new.replace(path)
        elif not _exchange(new, path):  # a rename cannot replace a folder, so it is gone for a moment
            path.rename(old)
            new.rename(path)
    finally:
        tidy(path)


def _exchange(a: Path, b: Path) -> bool:
    """ Exchange two files or folders in one step, if the system and the file system can: Linux, macOS."""
    libc: Any = ctypes.CDLL(None) if os.name == 'posix' else None
    arguments = os.fsencode(a), os.fsencode(b)
    if hasattr(libc, 'renameat2'):
        at_fdcwd, rename_exchange = -100, 2
        return libc.renameat2(at_fdcwd, arguments[0], at_fdcwd, arguments[1], rename_exchange) == 0
    if hasattr(libc, 'renamex_np'):
        rename_swap = 2
        return libc.renamex_np(*arguments, rename_swap) == 0
    return False


def tidy(path: Path) -> Tuple[Path, Path]:
    """ Remove the temporaries beside a path. The old content is put back if nothing took its place.

    Returns:
        Names of the temporaries: of the new content and of the old.
    """
    path = path.resolve()
    new, old = (path.with_name(f'.{path.name}.{age}') for age in ('new', 'old'))
    if old.exists() and not path.exists():
        old.rename(path)
    for leftover in (new, old):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        leftover.unlink(missing_ok=True)
    return new, old
