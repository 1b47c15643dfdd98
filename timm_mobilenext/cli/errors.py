""" What ends a command, in a line: a user's mistake, or a bug of ours"""
import errno
import os
import re
import traceback
from pathlib import Path
from typing import Any, Optional, Tuple

import typer

from ..shared.errors import first_line, shown, UserError
from ..version import blame_timm

__all__ = ['ErrorGroup']

DEBUG = 'TIMM_MOBILENEXT_DEBUG'
MENDABLE, BUG, INTERRUPTED = 1, 70, 130  # exit codes: 70 as in sysexits.h, 130 as a shell has it
PACKAGE = Path(__file__).parents[1]
EXTRAS = {
    'detection': ('matplotlib', 'onnx', 'pycocotools'),
    'demo': ('matplotlib', 'sklearn'),
    'onnx': ('onnx', 'onnxruntime', 'onnxscript'),
}
# libraries that ask servers: what they raise comes from the network, or from what was asked for
NETWORK = ('httpx', 'httpx2', 'huggingface_hub', 'requests', 'urllib', 'urllib3')
# what the system says of a wrong call, not of a user's disk or network
WRONG_CALLS = (errno.EBADF, errno.EFAULT, errno.EINVAL)
# words of safetensors and of torch where the system refused a file or memory
SYSTEM = '(os error ', "can't allocate memory"
MAX_LINE = 1000  # characters


class ErrorGroup(typer.core.TyperGroup):
    """ A group of commands that ends with a line and an exit code instead of a traceback

    The exit code is 1 for what a user can mend, 70 for a bug, and 130 for Ctrl-C. A wrong usage is left to click, which
    ends with 2. `TIMM_MOBILENEXT_DEBUG=1` shows the traceback too.
    """

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (Exception, KeyboardInterrupt) as e:
            # click ends these itself; typer brings a click of its own, and only the exit code tells its errors
            if isinstance(e, (BrokenPipeError, typer.Abort)) or hasattr(e, 'exit_code'):
                raise
            if os.environ.get(DEBUG, '0') not in ('', '0'):
                traceback.print_exc()
            message, code = explain(e, ctx.invoked_subcommand)
            typer.echo(message, err=True)
            raise typer.Exit(code) from None


def explain(error: BaseException, command: Optional[str] = None) -> Tuple[str, int]:
    """ What to say of an error that ends a command, and the exit code."""
    if isinstance(error, KeyboardInterrupt):
        return 'Interrupted.', INTERRUPTED
    reason = find_mendable(error, command)
    if reason:
        return f'Error: {reason}', MENDABLE
    reason = cut(shown(first_line(error))).rstrip('.')
    return (
        f'Bug in timm-mobilenext: {type(error).__name__} in {find_place(error)}: {reason}.'
        f' {DEBUG}=1 shows the traceback; please report it {find_address()}.', BUG)


def find_mendable(error: BaseException, command: Optional[str]) -> Optional[str]:
    """ What a user can mend, in two lines at most; None if the error is a bug of ours."""
    text = first_line(error)
    library = type(error).__module__.partition('.')[0]
    if isinstance(error, UserError):
        text = str(error)
        if text.startswith('Caught UserError in'):  # a worker process of torch's loader, which puts a traceback first
            text = text.rpartition('UserError: ')[2]
        return '\n'.join([cut(line) for line in text.splitlines() if line.strip()][:2]) or 'UserError'
    if reason := blame_timm(error):
        return cut(reason)
    if isinstance(error, ModuleNotFoundError):
        names = EXTRAS if command == 'detect' else reversed(EXTRAS)
        extra = next((name for name in names if error.name in EXTRAS[name]), None)
        return extra and f"This needs {error.name}: pip install 'timm-mobilenext[{extra}]'"
    if isinstance(error, MemoryError) or type(error).__name__ == 'OutOfMemoryError':
        return 'There is not enough memory: give a smaller model, smaller images, or fewer of them at a time.'
    if library in NETWORK:
        return cut(f'{library} failed, {type(error).__name__}: {hide_token(text)}')
    if isinstance(error, (ConnectionError, TimeoutError)) or any(words in text for words in SYSTEM):
        return cut(text)
    if isinstance(error, OSError) and error.errno and error.errno not in WRONG_CALLS:  # a full disk, no permission
        return cut(': '.join(str(part) for part in (error.filename, error.strerror) if part))
    return None


def cut(line: str) -> str:
    """ A line of a message, cut where it repeats something very long."""
    return shown(re.sub(r'\S{201,}', lambda match: shown(match[0]), line), MAX_LINE)


def hide_token(text: str) -> str:
    token = os.environ.get('HF_TOKEN')
    return re.sub(r'hf_\w+', '<token>', text.replace(token, '<token>') if token else text)


def find_place(error: BaseException) -> str:
    """ The last file and line of our code that an error came through, or where it arose if it met none of ours."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames[1:] if Path(frame.filename).is_relative_to(PACKAGE)]  # the first is of this file
    frame = (ours or frames)[-1]
    file = Path(frame.filename)
    return f'{file.relative_to(PACKAGE.parent) if ours else file.name}, line {frame.lineno}'


def find_address() -> str:
    """ Where bugs are reported: the package's metadata says it."""
    from importlib.metadata import metadata, PackageNotFoundError

    try:
        urls = dict(url.split(', ', 1) for url in metadata('timm-mobilenext').get_all('Project-URL') or ())
    except PackageNotFoundError:  # a checkout that was not installed
        urls = {}
    return f'at {urls["Issues"]}' if 'Issues' in urls else 'to the authors of timm-mobilenext'
