""" Files and folders that are there whole or not at all, whatever interrupts the writing"""
import ctypes
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Tuple

__all__ = ['replacing', 'tidy']


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """ A temporary beside path to write to, which takes its place at the end if all went well."""
    path = path.resolve()  # what a link leads to, not the link
    new, old = tidy(path)
    try:
        yield new
        if path.is_dir() and not new.is_dir():
            raise IsADirectoryError(f'{path} is a folder, which no file replaces: give another name.')
        if not path.is_dir():
            new.replace(path)
        elif not _exchange(new, path):  # no rename replaces a folder, so it is gone for a moment
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
    """ Name the temporaries beside path and remove them; the old one is put back if nothing came in its place."""
    path = path.resolve()
    new, old = (path.with_name(f'.{path.name}.{age}') for age in ('new', 'old'))
    if old.exists() and not path.exists():
        old.rename(path)
    for leftover in (new, old):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        leftover.unlink(missing_ok=True)
    return new, old
