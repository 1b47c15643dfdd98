""" The `analyze` commands, each importing its tool when it runs"""
from pathlib import Path
from typing import Annotated, List, Optional

import typer

__all__ = ['app']

app = typer.Typer(
    name='analyze',
    help="Measure the paper's arguments on any models of timm: gradients and information, block by block.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=dict(help_option_names=['-h', '--help']),
)
_Models = Annotated[List[str], typer.Option(
    '--models', metavar='MODEL...',
    help='Models of timm, with arguments after commas and another label before: none=mobilenext_050,noskip=True.')]
# an option of click takes one value, what follows it comes here
_More = Annotated[Optional[List[str]], typer.Argument(hidden=True)]
_Data = Annotated[Path, typer.Option(help='Image folder.')]
_Output = Annotated[Path, typer.Option('--output', '-o', help='Folder to write to; it must not exist.')]
_Checkpoint = Annotated[Optional[List[str]], typer.Option(
    metavar='MODEL=FILE', help='State of a training to measure besides; may be given often.')]
_Pretrained = Annotated[bool, typer.Option('--pretrained', help="Begin with timm's weights, not with initial ones.")]
_WeightInit = Annotated[str, typer.Option(
    help='Initial weights as each model draws them, or by one scheme for all: model, authors or timm.')]
_Split = Annotated[str, typer.Option(help='Split of the images.')]
_ImgSize = Annotated[Optional[int], typer.Option(min=8, help="Image size; of the first model's weights if not given.")]
_Seeds = Annotated[int, typer.Option(min=1, help='Seeds, of initial weights and of the choice of images.')]


@app.command('gradients')
def _gradients(
        models: _Models,
        data_dir: _Data,
        output: _Output,
        more: _More = None,
        checkpoint: _Checkpoint = None,
        pretrained: _Pretrained = False,
        weight_init: _WeightInit = 'model',
        split: _Split = 'train',
        img_size: _ImgSize = None,
        batch_size: Annotated[int, typer.Option(min=2, help='Images of a batch.')] = 32,
        batches: Annotated[int, typer.Option(min=2, help='Batches of each seed.')] = 8,
        seeds: _Seeds = 3,
) -> None:
    """Gradient norms at every block, gradient by weight, and gradient confusion."""
    from ..analysis.gradients import run_gradients

    run_gradients(
        [*models, *(more or ())],
        data_dir,
        output,
        checkpoints=checkpoint or (),
        pretrained=pretrained,
        weight_init=weight_init,
        split=split,
        img_size=img_size,
        batch_size=batch_size,
        num_batches=batches,
        seeds=seeds,
    )


@app.command('information')
def _information(
        models: _Models,
        data_dir: _Data,
        output: _Output,
        more: _More = None,
        checkpoint: _Checkpoint = None,
        pretrained: _Pretrained = False,
        weight_init: _WeightInit = 'model',
        split: _Split = 'validation',
        img_size: _ImgSize = None,
        samples: Annotated[int, typer.Option(min=1, help='Images of each seed.')] = 3000,
        dimensions: Annotated[int, typer.Option(min=1, help='Dimensions that are compared.')] = 16,
        seeds: _Seeds = 3,
) -> None:
    """Mutual information between input and output of every block, and what linear maps read from it."""
    from ..analysis.information import run_information

    run_information(
        [*models, *(more or ())],
        data_dir,
        output,
        checkpoints=checkpoint or (),
        pretrained=pretrained,
        weight_init=weight_init,
        split=split,
        img_size=img_size,
        samples=samples,
        dimensions=dimensions,
        seeds=seeds,
    )
