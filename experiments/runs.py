"""Runs of timm's train.py: started from drawn weights, and kept as a row once they have ended."""
import csv
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List

import torch
from torch import nn

import timm

from timm_mobilenext.shared.files import replacing

# a thread a run, and glibc keeps what is freed, which takes 2/5 off a step
ENVIRONMENT = dict(
    OMP_NUM_THREADS='1', MALLOC_MMAP_MAX_='0', MALLOC_TRIM_THRESHOLD_='100000000000', MALLOC_TOP_PAD_='500000000')
# the last line that train.py logs of a validation has its means in brackets
EPOCH = re.compile(r'Train: (\d+) \[')
VALIDATION = re.compile(r'Test( \(EMA\))?: \[ *(\d+)/\2\].*Loss: +\S+ \( *(\S+)\).*Acc@1: +\S+ \( *(\S+)\)')


@dataclass(frozen=True)
class Outcome:
    """What a training came to: a record for each validated epoch, and minutes of CPU time."""
    epochs: List[Dict[str, float]]
    minutes: float


def train(script: Path, folder: Path, network: nn.Module, arguments: List[str]) -> Outcome:
    """Train a network by timm's script, in a process of its own, from the weights that it has.

    Args:
        script: timm's train.py.
        folder: Folder for logs and checkpoints, made anew.
        network: Network whose weights the training begins with.
        arguments: Arguments of the script, without those about the folder and the initial weights.

    Raises:
        SystemExit: The script failed; the message names its log.
    """
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was cut off
    folder.mkdir(parents=True)
    initial = folder / 'initial.pth'
    torch.save(network.state_dict(), initial)
    before = cpu_seconds()
    with open(folder / 'train.log', 'w') as log:
        code = subprocess.run(
            [
                sys.executable, '-P', str(script), *arguments, '--initial-checkpoint', str(initial),
                '--output', str(folder), '--experiment', 'train',
            ],
            env={**os.environ, **ENVIRONMENT}, stdout=log, stderr=subprocess.STDOUT).returncode
    if code:
        raise SystemExit(f'train.py ended with {code}: {folder / "train.log"} says why.')
    return Outcome(read_log((folder / 'train.log').read_text()), (cpu_seconds() - before) / 60)


def cpu_seconds() -> float:
    """CPU time of all processes that have ended, which a pause does not lengthen."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def read_log(text: str) -> List[Dict[str, float]]:
    """Loss and top-1 in percent of each validated epoch, and those of the averaged weights where there are any."""
    records: Dict[int, Dict[str, float]] = {}
    epoch = -1
    for line in text.splitlines():
        if found := EPOCH.search(line):
            epoch = int(found[1])
        elif found := VALIDATION.search(line):
            prefix = 'ema_' if found[1] else ''
            record = records.setdefault(epoch, dict(epoch=epoch + 1))
            record.update({f'{prefix}loss': float(found[3]), f'{prefix}top1': float(found[4])})
    return list(records.values())


def describe_machine() -> Dict[str, str]:
    return dict(
        machine=f'{platform.machine()}, 1 thread of {os.cpu_count()}', torch=torch.__version__, timm=timm.__version__)


def read_rows(file: Path) -> List[Dict[str, str]]:
    if not file.is_file():
        return []
    with open(file, newline='') as lines:
        return list(csv.DictReader(lines))


def add_row(file: Path, row: Dict[str, Any]) -> None:
    """Add a row, so that the file holds all of it or nothing of it."""
    write_rows(file, [*read_rows(file), row])


def write_rows(file: Path, rows: List[Dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as new, open(new, 'w', newline='') as lines:
        writer = csv.DictWriter(lines, list(rows[0]), lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)
