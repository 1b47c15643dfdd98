""" Options that several commands have, and dataclasses as the options of a command"""
import dataclasses
import inspect
import re
from pathlib import Path
from typing import Annotated, Any, Callable, get_args, get_type_hints, Optional

import typer

from ..shared.errors import shown, UserError
from ..shared.parsing import parse

__all__ = ['Device', 'PlainCommand', 'settings_command']

Device = Annotated[str, typer.Option(metavar='DEVICE', help='Device of torch, such as cpu or cuda.')]
METAVARS = {'Path': 'PATH', 'int': 'N', 'float': 'X', 'str': 'NAME'}  # type of an option -> its value in the help


class PlainCommand(typer.core.TyperCommand):
    """ A command whose help calls an argument by its name alone, IMAGE..., without typer's braces and types"""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        for param in self.params:
            if param.param_type_name == 'argument':
                name = param.metavar if param.required else f'[{param.metavar}]'
                plain: Any = param
                plain.get_usage_pieces = lambda ctx, name=name: [name]
                plain.display_type_rich = lambda ctx: None


def settings_command(app: typer.Typer, name: str, recipe: bool = False) -> Callable:
    """ Decorator of a function of one dataclass: makes it a command whose options are the dataclass's fields.

    Args:
        app: App that gets the command.
        name: Name of the command.
        recipe: Add the option `--config`, a YAML file of these settings. Options given beside it win.
    """

    def decorate(function: Callable[[Any], None]) -> Callable[[Any], None]:
        hint, = [value for key, value in get_type_hints(function).items() if key != 'return']

        def command(**settings: Any) -> None:
            settings.pop('config', None)
            function(hint(**settings))

        hints = get_type_hints(hint, include_extras=True)
        for annotation in hints.values():
            name_value(annotation)
        fields = [(field.name, default_of(field)) for field in dataclasses.fields(hint)]
        if recipe:
            hints['config'] = Annotated[Optional[Path], typer.Option(
                '--config', metavar='FILE', exists=True, dir_okay=False, is_eager=True,
                callback=recipe_reader(hint),
                help='Recipe: YAML file of these settings. Options given beside it win.')]
            fields.insert(0, ('config', None))
        keyword = inspect.Parameter.KEYWORD_ONLY
        command.__signature__ = inspect.Signature([  # type: ignore[attr-defined]
            inspect.Parameter(key, keyword, default=default, annotation=hints[key]) for key, default in fields])
        command.__annotations__ = hints
        command.__doc__ = function.__doc__
        app.command(name, cls=PlainCommand)(command)
        return function

    return decorate


def name_value(annotation: Any) -> None:
    """ Name the value of an option in its help, by its type, unless the option does so."""
    value, option = get_args(annotation)[:2]
    found = re.search('|'.join(METAVARS), str(value))
    option.metavar = option.metavar or (METAVARS[found[0]] if found else None)


def default_of(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default


def recipe_reader(settings: Any) -> Callable:
    """ Callback of an option that makes the settings of a YAML file the defaults of its command."""
    known = {field.name for field in dataclasses.fields(settings)}

    def read(context: typer.Context, file: Optional[Path]) -> Optional[Path]:
        if file is None:
            return None
        import yaml

        try:
            values = parse(yaml.safe_load, file.read_text(encoding='utf-8'))
        except (yaml.YAMLError, ValueError) as e:
            raise UserError(f'{file} is not YAML: {shown(" ".join(str(e).split()))}') from None
        if not isinstance(values, dict):
            raise UserError(f'{file} does not hold settings: give lines such as "lr: 0.01".')
        command = ' '.join(context.command_path.split()[1:])
        for key in values:
            if key not in known:
                raise UserError(
                    f'{file} has a setting {shown(str(key))!r}, which {command} does not know: remove it.')
        context.default_map = {**(context.default_map or {}), **values}
        return file

    return read
