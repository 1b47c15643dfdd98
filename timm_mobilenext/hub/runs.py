""" What timm's train.py leaves of a run: arguments, in the checkpoint and in args.yaml, and a log, summary.csv"""
import csv
import math
import re
from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any, Dict, Optional

import yaml

from ..shared.errors import shown, UserError
from ..shared.parsing import parse

__all__ = ['find_checkpoint', 'read_args', 'read_training', 'Training']

# the first that is there is taken: the best by the metric
_CHECKPOINTS = ('model_best.pth.tar', 'last.pth.tar')
# arguments by which a reader can repeat the training, and the argument that each depends on; paths stay private
_RECIPE: Dict[str, Optional[str]] = {
    **dict.fromkeys((
        'epochs', 'batch_size', 'grad_accum_steps', 'opt', 'opt_eps', 'momentum', 'lr', 'weight_decay', 'clip_grad',
        'layer_decay', 'sched', 'min_lr', 'warmup_epochs', 'warmup_lr', 'cooldown_epochs',
    )),
    **dict.fromkeys((
        'img_size', 'input_size', 'crop_pct', 'interpolation', 'train_crop_mode', 'no_aug', 'scale', 'ratio', 'hflip',
        'color_jitter', 'aa', 'aug_repeats', 'reprob',
    )),
    'remode': 'reprob', 'mixup': None, 'cutmix': None, 'smoothing': None, 'bce_loss': None, 'drop': None,
    'drop_path': None, 'model_ema': None, 'model_ema_decay': 'model_ema', 'model_ema_warmup': 'model_ema', 'amp': None,
    'amp_dtype': 'amp', 'pretrained': None, 'seed': None,
}
# a 0 that is not train.py's default
_ZERO_SAYS = {'smoothing', 'weight_decay', 'warmup_epochs', 'momentum', 'hflip', 'color_jitter', 'seed'}


@dataclass
class Training:
    """ What a model card says of a training."""
    dataset: str = ''
    dataset_id: str = 'unnamed'  # name in the card's metadata: on the Hub, if it is there
    is_on_hub: bool = False
    split: str = 'validation'
    recipe: Dict[str, Any] = field(default_factory=dict)
    accuracy: Dict[str, float] = field(default_factory=dict)  # in percent
    whose: str = ''  # which weights were measured, and who says so


def find_checkpoint(folder: Path) -> Path:
    """ Find the checkpoint in an output folder of train.py.

    Raises:
        UserError: If there is none.
    """
    for name in _CHECKPOINTS:
        if (folder / name).is_file():
            return folder / name
    raise UserError(
        f"{folder} is neither a Hub folder, with a config.json, nor an output folder of timm's train.py, with a"
        f' {_CHECKPOINTS[0]}.')


def read_args(checkpoint: Dict[str, Any], file: Path) -> Dict[str, Any]:
    """ Read the arguments of a training by timm.

    Returns:
        Arguments from the checkpoint or else from the args.yaml beside it, an empty dict if neither has any.

    Raises:
        UserError: If args.yaml is damaged.
    """
    if isinstance(checkpoint.get('args'), Namespace):
        return vars(checkpoint['args'])
    beside = file.with_name('args.yaml')
    if not beside.is_file():
        return {}
    try:
        args = parse(yaml.safe_load, beside.read_text(encoding='utf-8'))
    except (yaml.YAMLError, ValueError) as e:
        raise UserError(f'{beside} is damaged, it is not YAML: {shown(" ".join(str(e).split()))}.') from None
    return {str(key): value for key, value in args.items()} if isinstance(args, dict) else {}


def read_training(args: Dict[str, Any], checkpoint: Dict[str, Any], file: Path, kind: str) -> Optional[Training]:
    """ Collect what is known of a training by timm.

    Args:
        args: Its arguments.
        checkpoint: Its checkpoint.
        file: File of the checkpoint. summary.csv is beside it.
        kind: Weights that are taken from the checkpoint, 'EMA' or 'raw'.

    Returns:
        What is known, None if there are no arguments.
    """
    if not args:
        return None
    # only the last part of a path: the rest may say something of a user's machine
    folder = _last_part(args.get('data_dir') or args.get('data'))
    scheme, _, name = str(args.get('dataset') or '').partition('/')
    is_on_hub = scheme in ('hfds', 'hfids') and re.fullmatch(r'[\w.-]+(/[\w.-]+)?', name, re.ASCII) is not None
    name = name if is_on_hub else _last_part(name) or folder
    training = Training(
        dataset=name,
        # the Hub takes a word of ASCII here, and no other name
        dataset_id=name if is_on_hub else re.sub(r'\W+', '-', name.lower(), flags=re.ASCII).strip('-') or 'unnamed',
        is_on_hub=is_on_hub,
        split=str(args.get('val_split') or 'validation'),
        recipe={
            key: value for key, condition in _RECIPE.items()
            if (value := args.get(key)) is not None and value is not False and value != '' and not _is_long(value)
            and (value != 0 or key in _ZERO_SAYS) and (condition is None or args.get(condition))
        },
    )
    # with EMA, train.py logs the accuracy of the averaged weights
    measured = 'EMA' if args.get('model_ema') and not args.get('model_ema_force_cpu') else 'raw'
    row = find_row(file.with_name('summary.csv'), checkpoint, str(args.get('eval_metric') or 'top1'))
    if row and measured == kind:
        training.accuracy = {
            name: row[key] for key, name in (('eval_top1', 'Top-1'), ('eval_top5', 'Top-5'))
            if math.isfinite(row.get(key, math.nan))
        }
        training.whose = f"{kind} weights in epoch {checkpoint['epoch']}, in the training's log"
    return training


def find_row(file: Path, checkpoint: Dict[str, Any], metric: str) -> Dict[str, float]:
    """ Find a checkpoint's row of a log by epoch and metric. The row is empty if there is none."""
    epoch, value = checkpoint.get('epoch'), checkpoint.get('metric')
    if not isinstance(epoch, int) or not file.is_file():
        return {}
    with open(file, newline='', encoding='utf-8', errors='replace') as lines:
        rows = [{key: _number(cell) for key, cell in row.items() if key} for row in csv.DictReader(lines)]
    rows = [row for row in rows if row.get('epoch') == epoch]
    if isinstance(value, float):  # the log may be of another run, with another metric
        rows = [row for row in rows if math.isclose(row.get(f'eval_{metric}', math.nan), value, rel_tol=1e-6)]
    return rows[-1] if rows else {}


def _number(cell: Any) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError):
        return math.nan


def _last_part(path: Any) -> str:
    """ Last part of a path of any operating system."""
    return PureWindowsPath(str(path or '')).name


def _is_long(value: Any) -> bool:
    return len(str(value)) > 60 or '\n' in str(value) or '|' in str(value)
