"""Makes docs/api.md of the docstrings: python docs/api.py"""
import importlib
import inspect
from pathlib import Path
from typing import Any

from timm.models import is_model

FOLDER = Path(__file__).parent
MOST = 8  # arguments that a row shows
HEAD = '''# Public names

One line each, made of the docstrings by `python docs/api.py`. `help(name)` tells the arguments. What is not here serves
these names and the commands, and may change with any release. `timm-mobilenext --help` lists the commands.
'''
# module -> heading, and what to say of it
MODULES = {
    'timm_mobilenext': ('Blocks and networks', '[models.md](models.md) shows how they are used.'),
    'timm_mobilenext.detection': ('Detectors', '[detection.md](detection.md) shows how they are used.'),
    'timm_mobilenext.models.mobilenext': (
        'Networks by name', '`timm.create_model` takes these names, and needs no import.'),
}


def list_arguments(value: Any) -> str:
    """The arguments of a function or a class in brackets: all of them if they are few, else those that it needs."""
    if isinstance(value, type) and issubclass(value, Exception):
        return ''
    parameters = list(inspect.signature(value).parameters.values())
    if len(parameters) > MOST:
        parameters = [p for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
        return f'({", ".join([*(p.name for p in parameters), "..."])})'
    return f'({", ".join(str(p.replace(annotation=p.empty, default=p.empty)) for p in parameters)})'


def describe(name: str, value: Any) -> str:
    """A row of the table: the name, the first line of its docstring, and its file."""
    if isinstance(value, str):
        return f'| `{name}` | Version of this package | [version.py](../timm_mobilenext/version.py) |'
    arguments = '' if is_model(name) else list_arguments(value)
    summary = value.__doc__.strip().partition('\n')[0].rstrip('.').replace('w/', 'with')
    file = Path(inspect.getsourcefile(value) or '').relative_to(FOLDER.parent)
    return f'| `{name}{arguments}` | {summary} | [{file.name}](../{file}) |'


def make_page() -> str:
    """The whole page. A name is said once, where it comes first."""
    page, said = HEAD, set()
    for module_name, (heading, about) in MODULES.items():
        module = importlib.import_module(module_name)
        names = [name for name in module.__all__ if name not in said]
        said.update(names)
        rows = '\n'.join(describe(name, getattr(module, name)) for name in names)
        page += f'\n## {heading}\n\n`{module_name}`. {about}\n\n| name | what it is | file |\n|---|---|---|\n{rows}\n'
    return page


if __name__ == '__main__':
    (FOLDER / 'api.md').write_text(make_page(), encoding='utf-8')
