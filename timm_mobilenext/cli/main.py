""" The command line, one typer app

A command first checks what it can, then imports its tool. So help and most errors need nothing slow.
"""
import io
import sys
from pathlib import Path
from typing import Annotated, List, Optional

import typer

from ..classify.arguments import check_demo, check_predict
from ..classify.settings import DemoSettings
from ..hub.settings import ConvertSettings, PushSettings
from ..shared.names import check_model, split_repository
from ..shared.paths import check_output_folder, find_splits
from ..version import __version__
from .analyze import app as analyze_app
from .detect import app as detect_app
from .errors import ErrorGroup
from .options import Device, PlainCommand, settings_command

__all__ = ['app', 'main']

app = typer.Typer(
    name='timm-mobilenext',
    cls=ErrorGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help, in half the time
    context_settings=dict(help_option_names=['-h', '--help'], max_content_width=100),
)

app.add_typer(detect_app)
app.add_typer(analyze_app)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f'timm-mobilenext {__version__}')
        raise typer.Exit()


@app.callback()
def _options(
        version: Annotated[
            bool, typer.Option('--version', callback=_print_version, is_eager=True, help='Show the version and exit.'),
        ] = False,
) -> None:
    """MobileNeXt (sandglass block, ECCV 2020) for timm."""


@app.command()
def models() -> None:
    """List the MobileNeXt models: size, cost, accuracy, weights."""
    from ..classify.model_table import run_models

    run_models()


@settings_command(app, 'demo')
def _demo(settings: DemoSettings) -> None:
    """Train a small model from start to end.

    Trains on a small data set, saves the model for the Hub, loads it with timm alone, and draws how it went.
    """
    check_demo(settings.data_dir, settings.output)
    check_model(settings.model)
    from ..classify.demo import run_demo

    run_demo(settings)


@app.command(cls=PlainCommand)
def check(
        data_dir: Annotated[Path, typer.Argument(metavar='DATA_DIR', help='Folder with train/ and validation/.')],
        num_classes: Annotated[Optional[int], typer.Option(
            min=1, metavar='N', help='Number of classes that you expect.')] = None,
        batch_size: Annotated[Optional[int], typer.Option(
            '--batch-size', '-b', min=1, metavar='N', help='Images in a step of the training.')] = None,
) -> None:
    """Check an image folder before training.

    Finds empty classes and images that cannot be read.
    """
    find_splits(data_dir)
    from ..classify.image_folder import run_check

    run_check(data_dir, num_classes, batch_size)


@app.command(cls=PlainCommand)
def predict(
        images: Annotated[List[Path], typer.Argument(metavar='IMAGE...', help='Photographs.')],
        model: Annotated[str, typer.Option(
            metavar='MODEL',
            help='Any model of timm that has weights, local-dir:DIR for a Hub folder, or hf-hub:USER/NAME.',
        )] = 'mobilenext_050.cifar10',
        top_k: Annotated[int, typer.Option(
            '--topk', min=1, metavar='N', help='Number of classes to name for each image.')] = 3,
        output: Annotated[Optional[Path], typer.Option('--output', '-o', metavar='FILE', help='PNG to draw.')] = None,
        device: Device = 'cpu',
) -> None:
    """Name what is in photographs."""
    check_predict(images, output)
    from ..classify.predict import run_predict

    run_predict(images, model, top_k, output, device)


@settings_command(app, 'convert')
def _convert(settings: ConvertSettings) -> None:
    """Make a Hub folder of a checkpoint: one of the authors', or one of a training by timm."""
    from ..hub.convert import run_convert

    run_convert(settings)


@settings_command(app, 'push')
def _push(settings: PushSettings) -> None:
    """Push weights to the Hugging Face Hub, with config.json and a model card, in one commit."""
    split_repository(settings.repo_id)
    from ..hub.push import run_push

    run_push(settings)


@app.command(cls=PlainCommand)
def pull(
        repo_id: Annotated[str, typer.Argument(metavar='USER/NAME[@REVISION]', help='Repository.')],
        output: Annotated[Path, typer.Option('--output', '-o', metavar='DIR', help='Folder to write to.')],
) -> None:
    """Pull a model of timm from the Hugging Face Hub.

    Writes it to a folder if timm can load it.
    """
    split_repository(repo_id)
    check_output_folder(output)
    from ..hub.pull import run_pull

    run_pull(repo_id, output)


@app.command()
def cards(
        output: Annotated[Path, typer.Option('--output', '-o', metavar='DIR', help='Folder to write to.')] = (
            Path('hub_configs')),
) -> None:
    """Write config.json and model card of every MobileNeXt.

    They have the form that the Hub expects.
    """
    check_output_folder(output)
    from ..hub.cards import write_cards

    write_cards(output)


def main() -> None:
    """ Console entry point."""
    # names of files and of classes that the terminal cannot show, or that are not UTF-8, are no reason to stop
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors='backslashreplace')
    app(prog_name='timm-mobilenext')  # of `python -m` too: no shell completes the words of that

