""" Settings of a detector's training, by the names of timm's train.py where it has them

One dataclass is the command's options, the keys of a recipe, and what a training keeps of itself.
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
        Optional[Path], _Option(help='Folder of the data set, COCO or Pascal VOC format; a dozen photographs of blood'
                                     ' cells that come with the package if not given.'),
    ] = None
    train_split: Annotated[str, _Option(help='JSON file of COCO format, or lists of VOC: trainval, or'
                                             ' VOC2007/trainval+VOC2012/trainval.')] = 'train'
    val_split: Annotated[str, _Option(help='Split to measure by, likewise.')] = 'val'
    backbone: Annotated[str, _Option(help='Any model of timm with feature maps of strides 16 and 32.')] = (
        'mobilenext_100')
    preset: Annotated[str, _Option(help='coco (focal loss) or voc (MultiBox loss with hard negatives).')] = 'voc'
    img_size: Annotated[int, _Option(min=32, help='Image size.')] = 320
    pretrained: Annotated[bool, _Option(help="Start from timm's weights of the backbone.")] = False
    initial_checkpoint: Annotated[
        Optional[Path], _Option(help='Start from a checkpoint of the backbone, with whatever classes.')] = None
    epochs: Annotated[int, _Option(min=1, help='Epochs to train.')] = 100
    batch_size: Annotated[int, _Option('--batch-size', '-b', min=2, help='Batch size of each process.')] = 24
    opt: Annotated[str, _Option(help='Optimizer of timm.')] = 'sgd'
    momentum: Annotated[float, _Option(help='Momentum.')] = 0.9
    weight_decay: Annotated[float, _Option(help='Weight decay.')] = 5e-4
    lr: Annotated[float, _Option(help='Learning rate.')] = 1e-3
    sched: Annotated[str, _Option(help='Schedule of timm.')] = 'cosine'
    decay_epochs: Annotated[float, _Option(help='Epochs from one step of a step schedule to the next.')] = 30.
    decay_milestones: Annotated[Optional[List[int]], _Option(help='Epochs of a multistep schedule.')] = None
    decay_rate: Annotated[float, _Option(help='Factor of a step or multistep schedule.')] = 0.1
    warmup_epochs: Annotated[int, _Option(min=0, help='Epochs of warm-up.')] = 0
    warmup_lr: Annotated[float, _Option(help='Learning rate that the warm-up starts from.')] = 1e-5
    min_lr: Annotated[float, _Option(help='Least learning rate.')] = 0.
    clip_grad: Annotated[Optional[float], _Option(help='Norm that gradients are clipped to.')] = None
    no_aug: Annotated[bool, _Option('--no-aug', help='No augmentation.')] = False
    model_ema: Annotated[bool, _Option(help='Average the weights, and measure and keep these.')] = False
    model_ema_decay: Annotated[float, _Option(help='Decay of the average.')] = 0.9998
    model_ema_warmup: Annotated[bool, _Option(help='Less decay at the start.')] = False
    sync_bn: Annotated[bool, _Option(help='Batch norm over all GPUs.')] = False
    channels_last: Annotated[bool, _Option(help='Channels-last memory, which is faster on most CPUs and GPUs.')] = False
    amp: Annotated[bool, _Option(help='Mixed precision.')] = False
    amp_dtype: Annotated[str, _Option(help='Of mixed precision, bfloat16 or float16.')] = 'bfloat16'
    seed: Annotated[int, _Option(min=0, help='Random seed.')] = 42
    val_interval: Annotated[int, _Option(min=1, help='Epochs from one measurement to the next.')] = 1
    cache: Annotated[
        bool, _Option(help='Read each image once, resize it, and keep it in memory.')] = False
    workers: Annotated[int, _Option('--workers', '-j', min=0, help='Processes that read images.')] = 0
    device: Annotated[str, _Option(help='Device of torch.')] = 'cpu'
    resume: Annotated[bool, _Option('--resume', help='Go on with the training in the output folder.')] = False
