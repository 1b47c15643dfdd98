"""timm's scripts as a user runs them: each a process of its own, in a checkout of timm that TIMM_REPO names."""
import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import torch

__all__ = ['BASE', 'RUN', 'SKIP', 'TIMM_REPO', 'command', 'epochs_of', 'load', 'run', 'train']

TIMM_REPO = Path(os.environ.get('TIMM_REPO', '')).resolve() if os.environ.get('TIMM_REPO') else None
SKIP = None
if TIMM_REPO is None:
    SKIP = "timm's scripts are not in its wheel: TIMM_REPO=/path/to/pytorch-image-models make test-scripts runs them"
elif sys.version_info < (3, 11):
    SKIP = 'python -P, which gives the scripts the installed timm, needs Python 3.11'
RUN: Dict[str, Any] = dict(text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
BASE = (
    '--model mobilenext_035 --num-classes 10 --img-size 48 --crop-pct 1.0 --batch-size 32 --opt adamw --lr 3e-3'
    ' --weight-decay 0.05 --warmup-epochs 1 --train-crop-mode rkrr --scale 0.8 1.25 --hflip 0 --color-jitter 0'
    ' --workers 1 --device cpu --log-interval 10 --seed 0').split()


def command(script: str, *arguments: Any, own_timm: bool = False) -> List[str]:
    """A script on the installed timm, or with `own_timm` on that of the checkout."""
    return [sys.executable, *([] if own_timm else ['-P']), str(TIMM_REPO / script), *map(str, arguments)]


def environment(**more: Any) -> Dict[str, str]:
    """No network, one thread, and this folder's spy.py for --device-modules."""
    return {
        **os.environ, 'HF_HUB_OFFLINE': '1', 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(Path(__file__).parent),
        **{key: str(value) for key, value in more.items()},
    }


def run(script: str, *arguments: Any, code: int = 0, own_timm: bool = False, cwd: Any = None, **env: Any) -> str:
    """Run a script, to what it printed."""
    done = subprocess.run(
        command(script, *arguments, own_timm=own_timm), env=environment(**env), cwd=cwd, timeout=900, **RUN)
    assert done.returncode == code, done.stdout
    return done.stdout


def train(output: Path, data_dir: Path, *arguments: Any, epochs: int = 1, spy: bool = False, **how: Any) -> Any:
    """Run train.py to what it printed, or to what the spy saw."""
    if spy:
        arguments, how = (*arguments, '--device-modules', 'spy'), dict(how, SPY=output.with_suffix('.json'))
    printed = run(
        'train.py', '--data-dir', data_dir, *BASE, '--epochs', epochs, '--output', output.parent,
        '--experiment', output.name, *arguments, **how)
    return json.loads(output.with_suffix('.json').read_text()) if spy else printed


def epochs_of(output: Path) -> List[Dict[str, float]]:
    """The rows of a training's log. A resumed one has a second header in it."""
    rows = csv.DictReader((output / 'summary.csv').read_text().splitlines())
    return [{key: float(value) for key, value in row.items()} for row in rows if row['epoch'] != 'epoch']


def load(file: Path) -> Dict[str, Any]:
    """A checkpoint of train.py, which is the test's own."""
    return torch.load(file, map_location='cpu', weights_only=False)
