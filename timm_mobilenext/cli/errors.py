""" What a tool found wrong, told in a line or two"""
from contextlib import contextmanager
from typing import Iterator

import typer

__all__ = ['check_model', 'plain_errors']

# what our extras bring
_EXTRAS = {'matplotlib': 'demo', 'sklearn': 'demo', 'pycocotools': 'detection', 'onnx': 'detection'}


@contextmanager
def plain_errors() -> Iterator[None]:
    """ Tell what a tool found wrong in a line or two, without a traceback, and exit."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo('Interrupted.', err=True)
        raise typer.Exit(130) from None
    except ModuleNotFoundError as e:
        extra = _EXTRAS.get(e.name or '')
        if extra is None:
            raise
        typer.echo(f"Error: This needs {e.name}: pip install 'timm-mobilenext[{extra}]'", err=True)
        raise typer.Exit(1) from None
    except (ValueError, OSError, RuntimeError) as e:
        lines = [line for line in str(e).splitlines() if line.strip()] or [type(e).__name__]
        if lines[0].startswith('Caught ') and 'worker process' in lines[0]:  # of torch's loader, the reason at its end
            lines = [lines[-1].partition(': ')[2] or lines[-1]]
        typer.echo('\n'.join(['Error: ' + lines[0], *lines[1:2]]), err=True)
        raise typer.Exit(1) from None


def check_model(model: str) -> None:
    """ Raise a ValueError that names near misses if timm has no such model."""
    import timm

    if not timm.is_model(model):
        from difflib import get_close_matches

        near = get_close_matches(model, timm.list_models(), n=3)
        hint = f'did you mean {" or ".join(near)}?' if near else 'timm.list_models() lists them.'
        raise ValueError(f'timm has no model {model!r}: {hint}')
