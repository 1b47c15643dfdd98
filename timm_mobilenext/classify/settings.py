""" Settings of the demo, which are the options of its command"""
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Optional

import typer

__all__ = ['DemoSettings']

_Option = typer.Option


@dataclass
class DemoSettings:
    data_dir: Annotated[Optional[Path], _Option(
        metavar='DIR', help='Image folder with train/ and validation/ (or val/); handwritten digits if not given.',
    )] = None
    model: Annotated[str, _Option(metavar='MODEL', help='Any model of timm.')] = 'mobilenext_035'
    img_size: Annotated[int, _Option(min=8, help='Image size in pixels.')] = 64
    epochs: Annotated[int, _Option(min=1, help='Epochs to train.')] = 20
    batch_size: Annotated[int, _Option('--batch-size', '-b', min=2, help='Batch size.')] = 64
    output: Annotated[Path, _Option('--output', '-o', metavar='DIR', help='Folder to write to.')] = Path('demo')
    seed: Annotated[int, _Option(min=0, max=2 ** 32 - 1, help='Random seed.')] = 0
    # small images are not worth a process, and Ctrl-C then meets one process only
    workers: Annotated[int, _Option('--workers', '-j', min=0, help='Processes that read images.')] = 0
    device: Annotated[str, _Option(metavar='DEVICE', help='Device of torch, such as cpu or cuda.')] = 'cpu'
