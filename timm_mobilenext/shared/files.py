""" Files and folders that are there as a whole or not at all, whatever interrupts the writing"""
import ctypes
import os
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Iterator, Tuple

from .errors import UserError

try:
    import fcntl
except ImportError:  # Windows, where nothing keeps two processes apart
    fcntl = None  # type: ignore[assignment]

__all__ = ['replacing', 'tidy']


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """ Give a temporary path to write to, and put it in the place of `path` if all went well.

    If another process does so with the same path, this waits until that has ended.

    Raises:
        UserError: If a file was written where a folder is.
    """
    path = path.resolve()  # the target of a link, not the link
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path):
        new, old = _tidy(path)
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
            _tidy(path)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """ Hold a lock beside a path, for which others wait. The system takes it from a process that is killed."""
    lock = _beside(path, 'lock')
    while fcntl:
        with open(lock, 'w') as file:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_still(lock, file.fileno()):  # the one that was waited for has removed it
                continue
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return
    yield


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(f'.{path.name}.{kind}')


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


def tidy(path: Path) -> None:
    """ Remove what a killed process left beside a path. The old content is put back if nothing took its place."""
    path = path.resolve()
    if any(os.path.lexists(_beside(path, kind)) for kind in ('new', 'old', 'lock')):
        with _alone(path):
            _tidy(path)


def _tidy(path: Path) -> Tuple[Path, Path]:
    """ Tidy for one who holds the lock. Returns the names of the temporaries: of the new content and of the old."""
    new, old = _beside(path, 'new'), _beside(path, 'old')
    if old.exists() and not path.exists():
        old.rename(path)
    for leftover in (new, old):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        leftover.unlink(missing_ok=True)
    return new, old
