""" The command line, one typer app

A tool is imported when its command runs, so that `--help` and `--version` need nothing slow from here.
"""
from pathlib import Path
from typing import Annotated, List, Optional

import typer

from ..classify.arguments import check_predict
from ..shared.names import check_model
from ..version import __version__
from .analyze import app as analyze_app
from .detect import app as detect_app
from .errors import ErrorGroup
from .options import Device

__all__ = ['app', 'main']

app = typer.Typer(
    name='timm-mobilenext',
    cls=ErrorGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings=dict(help_option_names=['-h', '--help']),
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
def demo(
        data_dir: Annotated[
            Optional[Path],
            typer.Option(help='Image folder with train/ and validation/ (or val/); handwritten digits if not given.'),
        ] = None,
        model: Annotated[str, typer.Option(help='Any model of timm.')] = 'mobilenext_035',
        img_size: Annotated[int, typer.Option(min=8, help='Image size.')] = 64,
        epochs: Annotated[int, typer.Option(min=1, help='Epochs to train.')] = 20,
        batch_size: Annotated[int, typer.Option(min=2, help='Batch size.')] = 64,
        output: Annotated[Path, typer.Option(help='Folder to write to.')] = Path('demo'),
        seed: Annotated[int, typer.Option(min=0, max=2 ** 32 - 1, help='Random seed.')] = 0,
) -> None:
    """Train a model on a small data set, save it for the Hub, load it with timm alone, and draw how it went."""
    check_model(model)
    from ..classify.demo import run_demo

    run_demo(
        data_dir=data_dir,
        model_name=model,
        img_size=img_size,
        epochs=epochs,
        batch_size=batch_size,
        output=output,
        seed=seed,
    )


@app.command()
def check(
        data_dir: Annotated[Path, typer.Argument(metavar='DATA_DIR', help='Folder with train/ and validation/.')],
        num_classes: Annotated[Optional[int], typer.Option(min=1, help='Classes that there should be.')] = None,
) -> None:
    """Check an image folder before training: empty classes, images that can't be read."""
    from ..classify.image_folder import run_check

    run_check(data_dir, num_classes)


@app.command()
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


@app.command()
def convert(
        checkpoint: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help='Checkpoint, .pth.tar or .pth.')],
        output: Annotated[Path, typer.Option('--output', '-o', help='Folder to write to.')],
        model: Annotated[Optional[str], typer.Option(help='Model that it is of; found out if not given.')] = None,
        ema: Annotated[
            Optional[bool],
            typer.Option('--ema/--no-ema', help='Averaged weights or raw ones; averaged where there are any.'),
        ] = None,
        half: Annotated[bool, typer.Option('--half', help='Save in 16 bits.')] = False,
) -> None:
    """Make a Hub folder of the authors' checkpoints, or of timm's training checkpoints of MobileNeXt models."""
    if model is not None:
        check_model(model)
    from ..hub.convert import run_convert

    run_convert(checkpoint, output, model_name=model, ema=ema, half=half)


@app.command()
def push(
        source: Annotated[
            Path,
            typer.Argument(
                exists=True,
                metavar='CHECKPOINT_OR_DIR',
                help="Checkpoint, .pth.tar, .pth or .safetensors; output folder of timm's train.py; or Hub folder.",
            ),
        ],
        repo_id: Annotated[str, typer.Argument(metavar='USER/NAME', help='Repository, created if there is none.')],
        model: Annotated[Optional[str], typer.Option(help='Model that it is of; found out if not given.')] = None,
        ema: Annotated[
            Optional[bool],
            typer.Option('--ema/--no-ema', help='Averaged weights or raw ones; averaged where there are any.'),
        ] = None,
        label_names: Annotated[
            Optional[Path],
            typer.Option(exists=True, dir_okay=False, help='Class names, one in each line or a JSON list.'),
        ] = None,
        license: Annotated[Optional[str], typer.Option(help='Licence of the weights, as the Hub spells it.')] = None,
        pickle: Annotated[bool, typer.Option('--pickle', help='Push pytorch_model.bin too.')] = False,
        private: Annotated[bool, typer.Option('--private', help='Create a private repository.')] = False,
        revision: Annotated[Optional[str], typer.Option(help='Branch; made if there is none.')] = None,
        create_pr: Annotated[bool, typer.Option('--create-pr', help='Open a pull request.')] = False,
        overwrite_card: Annotated[
            bool, typer.Option('--overwrite-card', help='Replace a README.md that is on the Hub.'),
        ] = False,
        dry_run: Annotated[bool, typer.Option('--dry-run', help='Check and show everything, push nothing.')] = False,
) -> None:
    """Push weights to the Hugging Face Hub, with config.json and a model card, in one commit."""
    if model is not None:
        check_model(model)
    from ..hub.push import run_push

    run_push(
        source,
        repo_id,
        model_name=model,
        ema=ema,
        label_names=label_names,
        license=license,
        pickle=pickle,
        private=private,
        revision=revision,
        create_pr=create_pr,
        overwrite_card=overwrite_card,
        dry_run=dry_run,
    )


@app.command()
def pull(
        repo_id: Annotated[str, typer.Argument(metavar='USER/NAME[@REVISION]', help='Repository.')],
        output: Annotated[Path, typer.Option('--output', '-o', help='Folder to write to.')],
) -> None:
    """Pull a model of timm from the Hugging Face Hub to a folder, and check that timm loads it."""
    from ..hub.push import run_pull

    run_pull(repo_id, output)


@app.command()
def cards(
        output: Annotated[Path, typer.Option('--output', '-o', help='Folder to write to.')] = Path('hub_configs'),
) -> None:
    """Write config.json and model card of every MobileNeXt model, as the Hub takes them."""
    from ..hub.cards import write_cards

    write_cards(output)


def main() -> None:
    """ Console entry point."""
    app()

