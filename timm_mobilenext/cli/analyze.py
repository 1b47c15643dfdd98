""" The `analyze` commands: each checks the paths that it was given, then imports its tool"""
from typing import Any, List, Sequence

import typer

from ..analysis.settings import check_paths, GradientSettings, InformationSettings
from .options import settings_command

__all__ = ['app']

_MODELS = '--models'


def repeat_models(arguments: Sequence[str]) -> List[str]:
    """ Arguments with `--models a b` as `--models a --models b`, because an option of click takes one value."""
    repeated: List[str] = []
    takes_more = False
    for argument in arguments:
        if argument.startswith('-'):
            takes_more = argument.partition('=')[0] == _MODELS
        elif takes_more and repeated[-1] != _MODELS:
            repeated.append(_MODELS)
        repeated.append(argument)
    return repeated


class AnalyzeGroup(typer.core.TyperGroup):
    """ A group of commands whose option `--models` takes all the words up to the next option"""

    def parse_args(self, ctx: Any, args: List[str]) -> List[str]:
        return super().parse_args(ctx, repeat_models(args))


app = typer.Typer(
    name='analyze',
    cls=AnalyzeGroup,
    help="Measure the paper's arguments on any models of timm: gradients and information, block by block.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=dict(help_option_names=['-h', '--help']),
)


@settings_command(app, 'gradients')
def _gradients(settings: GradientSettings) -> None:
    """Measure gradient norms at every block, gradient by weight, and gradient confusion."""
    check_paths(settings)
    from ..analysis.gradients import run_gradients

    run_gradients(settings)


@settings_command(app, 'information')
def _information(settings: InformationSettings) -> None:
    """Measure mutual information between input and output of every block, and what linear maps read from it."""
    check_paths(settings)
    from ..analysis.information import run_information

    run_information(settings)
