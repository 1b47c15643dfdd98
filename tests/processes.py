"""Commands and scripts in processes of their own, started from one that has imported torch, most of a start's work.

They read their environment as a user's do: nothing that looks at it, neither timm nor huggingface_hub, is imported
before it is set.
"""
import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import Dict, List

__all__ = ['start_cli', 'start_python']

_CONTEXT = multiprocessing.get_context('forkserver')
_CONTEXT.set_forkserver_preload(['torchvision.models.feature_extraction', 'safetensors.torch', 'typer', 'rich.console'])


def start_cli(env: Dict[str, str], arguments: List[str], output: Path):
    """Start a command that writes stdout and stderr to `output` with these suffixes: a multiprocessing.Process."""
    return start_python(env, 'from timm_mobilenext.cli.main import main; main()', arguments, output)


def start_python(env: Dict[str, str], code: str, arguments: List[str], output: Path):
    """Start a script in the same way."""
    process = _CONTEXT.Process(target=_run, args=(env, code, arguments, str(output)))
    process.start()
    return process


def _run(env: Dict[str, str], code: str, arguments: List[str], output: str) -> None:
    os.environ.clear()
    os.environ.update(env)
    assert not {'timm', 'huggingface_hub'} & set(sys.modules)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores Ctrl-C
    for number, name in ((1, 'stdout'), (2, 'stderr')):
        file = os.open(f'{output}.{name}', os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    sys.stdout.reconfigure(line_buffering=True)  # what a test waits for is there at once
    sys.argv = ['timm-mobilenext', *map(str, arguments)]
    exec(code, {'__name__': '__main__'})
