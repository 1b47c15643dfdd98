""" Files and folders that are there whole or not at all, whatever interrupts the writing"""
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Tuple

__all__ = ['replacing', 'tidy']


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """ A temporary beside path to write to, which takes its place at the end if all went well."""
    path = path.resolve()  # what a link leads to, not the link
    new, old = tidy(path)
    try:
        yield new
        if path.is_dir():  # which no rename replaces
            path.rename(old)
        new.replace(path)
    finally:
        tidy(path)


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
