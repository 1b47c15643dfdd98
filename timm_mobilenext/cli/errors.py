""" What ends a command, in a line or two: a user's mistake, or a bug of ours"""
import os
import sys
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, NoReturn

import typer

from ..shared.errors import first_line, shown, UserError

__all__ = ['ErrorGroup', 'plain_errors']

DEBUG = 'TIMM_MOBILENEXT_DEBUG'
ISSUES = 'https://github.com/timm-mobilenext/timm-mobilenext/issues'
BUG = 70  # exit code of an internal error, as in sysexits.h
# what our extras bring
EXTRAS = {'matplotlib': 'demo', 'sklearn': 'demo', 'pycocotools': 'detection', 'onnx': 'detection'}


@contextmanager
def plain_errors() -> Iterator[None]:
    """ End with a line or two and an exit code: 1 for what a user can mend, 130 for Ctrl-C, 70 for a bug.

    Usage errors are click's, with exit code 2. `TIMM_MOBILENEXT_DEBUG=1` shows the traceback of whatever it was.
    """
    try:
        yield
    except KeyboardInterrupt:
        end('Interrupted.', 130)
    except Exception as e:
        is_of_click = isinstance(e, typer.Abort) or hasattr(e, 'exit_code')  # typer brings a click of its own
        if is_of_click or os.environ.get(DEBUG, '0') not in ('', '0'):
            raise
        if isinstance(e, UserError):
            lines = [line for line in str(e).splitlines() if line.strip()] or [type(e).__name__]
            if lines[0].startswith('Caught ') and 'worker process' in lines[0]:  # torch's loader puts the reason last
                lines = [lines[-1].partition(': ')[2] or lines[-1]]
            end('\n'.join(['Error: ' + lines[0], *lines[1:2]]), 1)
        if isinstance(e, ModuleNotFoundError) and e.name in EXTRAS:
            end(f"Error: This needs {e.name}: pip install 'timm-mobilenext[{EXTRAS[e.name]}]'", 1)
        if isinstance(e, OSError):  # a full disk, a folder that cannot be written to
            end(f'Error: {first_line(e)}', 1)
        place = traceback.extract_tb(e.__traceback__)[-1]
        end(
            f'Bug: {type(e).__name__} in {Path(place.filename).name}, line {place.lineno}: {shown(first_line(e))}\n'
            f'This is a fault of timm-mobilenext. {DEBUG}=1 shows the traceback: please report it at {ISSUES}', BUG)


def end(message: str, code: int) -> NoReturn:
    typer.echo(message, err=True)
    sys.stdout.flush()
    raise typer.Exit(code) from None


class ErrorGroup(typer.core.TyperGroup):
    """ A group of commands whose errors are plain, those in the reading of their options among them"""

    def invoke(self, ctx: Any) -> Any:
        with plain_errors():
            return super().invoke(ctx)
