""" Settings of the instruments: each dataclass is the options of a command, and what args.json keeps of a call"""
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, List, Optional

import typer

from ..shared.paths import check_folder, check_new_folder

__all__ = ['AnalysisSettings', 'check_paths', 'GradientSettings', 'InformationSettings']

_Option = typer.Option


@dataclass
class AnalysisSettings:
    """ Networks, their weights, and the images that they are measured on."""
    models: Annotated[List[str], _Option(
        '--models', metavar='MODEL...', help='Models of timm. Arguments follow after commas, and a label of your own'
                                             ' may come first: none=mobilenext_050,noskip=True.')]
    data_dir: Annotated[Path, _Option(metavar='DIR', help='Image folder.')]
    output: Annotated[Path, _Option('--output', '-o', metavar='DIR', help='Folder to write to. It must not exist.')]
    checkpoints: Annotated[List[str], _Option(
        '--checkpoint', metavar='MODEL=FILE', help='Measure the weights of this checkpoint too. May be given several'
                                                   ' times.')] = field(default_factory=list)
    pretrained: Annotated[bool, _Option(help="Begin with timm's weights instead of initial ones.")] = False
    weight_init: Annotated[str, _Option(
        metavar='SCHEME', help='Initial weights: model, as each model draws them, or one scheme for all, authors or'
                               ' timm.')] = 'model'
    split: Annotated[str, _Option(metavar='SPLIT', help='Split of the images.')] = 'train'
    img_size: Annotated[Optional[int], _Option(
        min=8, help="Image size in pixels. If not given, that of the first model's weights.")] = None
    seeds: Annotated[int, _Option(min=1, help='Number of seeds, for initial weights and the choice of images.')] = 3
    device: Annotated[str, _Option(metavar='DEVICE', help='Device of torch, such as cpu or cuda.')] = 'cpu'


@dataclass
class GradientSettings(AnalysisSettings):
    batch_size: Annotated[int, _Option('--batch-size', '-b', min=2, help='Images of a batch.')] = 32
    batches: Annotated[int, _Option(min=2, help='Batches of each seed.')] = 8


@dataclass
class InformationSettings(AnalysisSettings):
    split: Annotated[str, _Option(metavar='SPLIT', help='Split of the images.')] = 'validation'
    samples: Annotated[int, _Option(min=1, help='Images of each seed.')] = 3000
    dimensions: Annotated[int, _Option(min=1, help='Dimensions of input and output that are compared.')] = 16
    batch_size: Annotated[int, _Option(
        '--batch-size', '-b', min=1, help='Images that a network gets at a time.')] = 100


def check_paths(settings: AnalysisSettings) -> None:
    """ Raise a UserError if there are no images, or if the output would replace something."""
    check_new_folder(settings.output)
    check_folder(settings.data_dir, 'an image folder')
