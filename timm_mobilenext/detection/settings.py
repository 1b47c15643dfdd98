""" Settings of a detector's training, with the names of timm's train.py where it has them

One dataclass is the command's options, the keys of a recipe, and what a training stores about itself.
"""
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, List, Optional

import typer

__all__ = ['TrainSettings']

_Option = typer.Option


@dataclass
class TrainSettings:
    output: Annotated[Path, _Option('--output', '-o', help='Folder to write to.')]
    data_dir: Annotated[
        Optional[Path], _Option(help='Folder of the data set, in the format of COCO or Pascal VOC. Without it, a dozen'
                                     ' photographs of blood cells that come with the package.'),
    ] = None
    train_split: Annotated[str, _Option(help='Split to train on: a JSON file in COCO format, or lists of VOC such as'
                                             ' trainval or VOC2007/trainval+VOC2012/trainval.')] = 'train'
    val_split: Annotated[str, _Option(help='Split to measure on, given in the same way.')] = 'val'
    backbone: Annotated[str, _Option(help='Any model of timm with feature maps of strides 16 and 32.')] = (
        'mobilenext_100')
    preset: Annotated[str, _Option(help='coco (focal loss) or voc (MultiBox loss with hard negatives).')] = 'voc'
    img_size: Annotated[int, _Option(min=32, help='Image size in pixels.')] = 320
    pretrained: Annotated[bool, _Option(help="Start from timm's weights of the backbone.")] = False
    initial_checkpoint: Annotated[
        Optional[Path], _Option(help='Start from a checkpoint of the backbone, with any number of classes.')] = None
    epochs: Annotated[int, _Option(min=1, help='Epochs to train.')] = 100
    batch_size: Annotated[int, _Option('--batch-size', '-b', min=2, help='Batch size of each process.')] = 24
    opt: Annotated[str, _Option(help='Optimizer of timm.')] = 'sgd'
    momentum: Annotated[float, _Option(help='Momentum.')] = 0.9
    weight_decay: Annotated[float, _Option(help='Weight decay.')] = 5e-4
    lr: Annotated[float, _Option(help='Learning rate.')] = 1e-3
    sched: Annotated[str, _Option(help='Schedule of timm.')] = 'cosine'
    decay_epochs: Annotated[float, _Option(help='Epochs between two steps of a step schedule.')] = 30.
    decay_milestones: Annotated[
        Optional[List[int]], _Option(help='Epoch of a step of a multistep schedule. May be given several times.'),
    ] = None
    decay_rate: Annotated[float, _Option(help='Factor of each step of a step or multistep schedule.')] = 0.1
    warmup_epochs: Annotated[int, _Option(min=0, help='Epochs of warm-up.')] = 0
    warmup_lr: Annotated[float, _Option(help='Learning rate at the start of the warm-up.')] = 1e-5
    min_lr: Annotated[float, _Option(help='Lowest learning rate of the schedule.')] = 0.
    clip_grad: Annotated[Optional[float], _Option(help='Clip the gradient to this norm.')] = None
    no_aug: Annotated[bool, _Option('--no-aug', help='Train without augmentation.')] = False
    model_ema: Annotated[bool, _Option(help='Average the weights. The average is what is measured and kept.')] = False
    model_ema_decay: Annotated[float, _Option(help='Decay of the average.')] = 0.9998
    model_ema_warmup: Annotated[bool, _Option(help='Use a smaller decay at the start.')] = False
    sync_bn: Annotated[bool, _Option(help='Compute batch norm over all GPUs.')] = False
    channels_last: Annotated[
        bool, _Option(help='Use channels-last memory, which is faster on most CPUs and GPUs.')] = False
    amp: Annotated[bool, _Option(help='Use mixed precision.')] = False
    amp_dtype: Annotated[str, _Option(help='Number format of mixed precision: bfloat16 or float16.')] = 'bfloat16'
    seed: Annotated[int, _Option(min=0, max=4_000_000_000, help='Random seed.')] = 42
    val_interval: Annotated[int, _Option(min=1, help='Epochs between two measurements.')] = 1
    cache: Annotated[bool, _Option(help='Read each image once, resize it, and keep it in memory.')] = False
    workers: Annotated[int, _Option('--workers', '-j', min=0, help='Processes that read images.')] = 0
    device: Annotated[str, _Option(help='Device of torch, such as cpu or cuda.')] = 'cpu'
    resume: Annotated[bool, _Option('--resume', help='Continue the training in the output folder.')] = False
