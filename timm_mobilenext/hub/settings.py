""" Settings of push and convert: each is a dataclass whose fields are the command's options"""
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Optional

import typer

__all__ = ['ConvertSettings', 'PushSettings']

_Argument, _Option = typer.Argument, typer.Option
_Model = Annotated[Optional[str], _Option(
    metavar='MODEL', help='Model of timm that the checkpoint is of; found out if not given.')]
_Ema = Annotated[Optional[bool], _Option(
    '--ema/--no-ema', help='Take averaged weights or raw ones; averaged ones, where there are any, if not given.')]
_LabelNames = Annotated[Optional[Path], _Option(
    exists=True, dir_okay=False, metavar='FILE', help='Class names: one in each line, or a JSON list.')]


@dataclass
class ConvertSettings:
    checkpoint: Annotated[Path, _Argument(
        exists=True, dir_okay=False, metavar='CHECKPOINT', help='Checkpoint: .pth.tar, .pth or .safetensors.')]
    output: Annotated[Path, _Option('--output', '-o', metavar='DIR', help='Folder to write to.')]
    model: _Model = None
    ema: _Ema = None
    label_names: _LabelNames = None
    half: Annotated[bool, _Option('--half', help='Save the weights in 16 bits.')] = False


@dataclass
class PushSettings:
    source: Annotated[Path, _Argument(
        exists=True, metavar='CHECKPOINT_OR_DIR',
        help="Checkpoint (.pth.tar, .pth or .safetensors), output folder of timm's train.py, or Hub folder.")]
    repo_id: Annotated[str, _Argument(
        metavar='USER/NAME', help='Repository; it is created if it does not exist.')]
    model: _Model = None
    ema: _Ema = None
    label_names: _LabelNames = None
    license: Annotated[Optional[str], _Option(
        metavar='LICENSE', help='Licence of the weights, as the Hub spells it, such as apache-2.0.')] = None
    pickle: Annotated[bool, _Option('--pickle', help='Push pytorch_model.bin too.')] = False
    onnx: Annotated[Optional[Path], _Option(
        exists=True, file_okay=False, metavar='DIR',
        help='Push ONNX files too, in float32, float16 and int8, which is calibrated on the images of this folder.',
    )] = None
    private: Annotated[bool, _Option('--private', help='Create a private repository.')] = False
    revision: Annotated[Optional[str], _Option(
        metavar='BRANCH', help='Branch to push to; it is created if it does not exist.')] = None
    create_pr: Annotated[bool, _Option('--create-pr', help='Open a pull request.')] = False
    overwrite_card: Annotated[bool, _Option(
        '--overwrite-card', help='Replace the README.md on the Hub; it is kept if not given.')] = False
    dry_run: Annotated[bool, _Option('--dry-run', help='Check and show everything, but push nothing.')] = False
