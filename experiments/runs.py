"""Runs: timm's train.py is started from drawn weights, and what a run came to is kept once it has ended."""
import csv
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import threading
from concurrent.futures import as_completed, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Callable, ClassVar, Dict, List, Optional, Sequence, Tuple

import torch
from torch import nn

import timm
from timm.utils import random_seed

from timm_mobilenext.analysis.subjects import draw_weights
from timm_mobilenext.shared.files import replacing

# one thread a run; and glibc keeps freed memory, which makes a step 2/5 shorter
ENVIRONMENT = dict(
    OMP_NUM_THREADS='1', MALLOC_MMAP_MAX_='0', MALLOC_TRIM_THRESHOLD_='100000000000', MALLOC_TOP_PAD_='500000000')
# the recipe on CIFAR-10, of training.py and ablations.py
IMG_SIZE, EPOCHS = 64, 8
RECIPE = (
    f'--img-size {IMG_SIZE} --crop-pct 1.0 --batch-size 128 --opt sgd --momentum 0.9 --weight-decay 1e-4'
    ' --sched cosine --sched-on-updates --warmup-epochs 1 --warmup-lr 1e-3'
    ' --scale 0.5 1.0 --color-jitter 0 --smoothing 0.1'
    ' --device cpu --channels-last --workers 1 --log-interval 100'
)
# the last line that train.py logs of a validation has its means in brackets
EPOCH = re.compile(r'Train: (\d+) \[')
VALIDATION = re.compile(r'Test( \(EMA\))?: \[ *(\d+)/\2\].*Loss: +\S+ \( *(\S+)\).*Acc@1: +\S+ \( *(\S+)\)')
Row = Dict[str, str]
_drawing = threading.Lock()  # runs side by side share torch's generator
_adding = threading.Lock()


def make_arguments(
        model: str, num_classes: int, lr: float, epochs: int, seed: int, keep: int = 1,
        **model_kwargs: Any) -> List[str]:
    """Arguments of train.py by the recipe on CIFAR-10.

    Args:
        model: Name of the network.
        num_classes: Number of classes.
        lr: Learning rate.
        epochs: Number of epochs.
        seed: Seed of the training.
        keep: How many checkpoints are kept.
        **model_kwargs: Arguments of the network.
    """
    arguments = [
        '--model', model, '--num-classes', str(num_classes), *RECIPE.split(), '--checkpoint-hist', str(keep),
        '--lr', f'{lr:g}', '--epochs', str(epochs), '--seed', str(seed),
    ]
    if model_kwargs:
        arguments += ['--model-kwargs', *(f'{key}={value}' for key, value in model_kwargs.items())]
    return arguments


def find_script(checkout: Path) -> Path:
    """train.py in a checkout of timm; SystemExit if it is not there."""
    script = checkout / 'train.py'
    if not script.is_file():
        raise SystemExit(f'{script} is not there: --timm takes a checkout of timm, as its wheel has no train.py.')
    return script


def draw_network(scheme: str, seed: int, model: str, **kwargs: Any) -> nn.Module:
    """Create a network and draw its weights. A seed gives the same weights, whatever runs beside it.

    Args:
        scheme: 'authors' or 'timm', of `draw_weights`.
        seed: Seed of the draw.
        model: Name of the network.
        **kwargs: Arguments of `timm.create_model`.
    """
    with _drawing:
        random_seed(seed)
        network = timm.create_model(model, **kwargs)
        draw_weights(network, scheme)
    return network


@dataclass(frozen=True)
class Training:
    """A training that has ended, by train.py if nothing else is said.

    Args:
        folder: Folder of its log, and of its checkpoints in `train/`.
        minutes: Minutes by the clock.
        cpu_minutes: Minutes of CPU time, which a pause does not lengthen.
    """
    folder: Path
    minutes: float
    cpu_minutes: float

    @property
    def summary(self) -> Path:
        """timm's own CSV of the epochs. With averaged weights, it has the figures of these alone."""
        return self.folder / 'train' / 'summary.csv'

    def epochs(self) -> List[Dict[str, float]]:
        """Figures of the validated epochs by `read_log`, which has those of averaged weights beside the others."""
        return read_log((self.folder / 'train.log').read_text())


def train(script: Path, data_dir: Path, folder: Path, network: nn.Module, arguments: Sequence[str]) -> Training:
    """Train a network by timm's script, in a process of its own, from the weights that it has.

    Args:
        script: timm's train.py.
        data_dir: Image folder.
        folder: Folder for the log and the checkpoints. It is made anew.
        network: Network that has the weights to begin with.
        arguments: Other arguments of the script.

    Raises:
        SystemExit: The script failed. The message names its log.
    """
    make_folder(folder)
    torch.save(network.state_dict(), folder / 'initial.pth')
    return start(folder, [
        '-P', str(script), '--data-dir', str(data_dir), *arguments, '--initial-checkpoint', str(folder / 'initial.pth'),
        '--output', str(folder), '--experiment', 'train'])


def make_folder(folder: Path) -> None:
    """Make a run's folder anew, without what a run that was cut off left in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def start(folder: Path, arguments: Sequence[str], **environment: str) -> Training:
    """Run Python on one thread in a process of its own, until it ends. train.log gets what it prints.

    Args:
        folder: Folder for the log.
        arguments: Arguments of Python.
        **environment: Variables that the process has beside those of this one.

    Raises:
        SystemExit: It failed. The message names the log.
    """
    started = perf_counter()
    with open(folder / 'train.log', 'w') as log, subprocess.Popen(
            [sys.executable, *arguments], env={**os.environ, **ENVIRONMENT, **environment}, stdout=log,
            stderr=subprocess.STDOUT) as process:
        try:
            _, status, usage = os.wait4(process.pid, 0)  # has the CPU time of this process and its loaders alone
        except BaseException:
            process.kill()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f'The training ended with {process.returncode}: {folder / "train.log"} says why.')
    return Training(folder, (perf_counter() - started) / 60, (usage.ru_utime + usage.ru_stime) / 60)


def run_side_by_side(jobs: int, calls: Sequence[Callable[[], None]]) -> None:
    """Make all calls, some at a time. None begins after one has failed, or after an interrupt."""
    stopped = threading.Event()

    def begin(call: Callable[[], None]) -> None:
        if not stopped.is_set():
            try:
                call()
            except BaseException:
                stopped.set()
                raise

    with ThreadPoolExecutor(jobs) as pool:
        try:
            for future in as_completed([pool.submit(begin, call) for call in calls]):
                future.result()
        finally:
            stopped.set()


def read_log(text: str) -> List[Dict[str, float]]:
    """Read what train.py logged of each validated epoch.

    Returns:
        A record for each: `epoch` from 1, `loss`, and `top1` in percent; `ema_loss` and `ema_top1` of averaged weights
        where there are any.
    """
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


def describe_processor() -> str:
    """The processor's name where the system tells it, else its architecture."""
    with suppress(OSError):  # Python's own function has no name on Linux
        name = re.search(r'^model name\s*:\s*(.+)$', Path('/proc/cpuinfo').read_text(encoding='utf-8'), re.MULTILINE)
        if name:
            return name[1]
    return platform.processor() or platform.machine()


def describe_machine() -> Dict[str, str]:
    """The machine, and the versions of torch and timm."""
    return dict(
        machine=f'{describe_processor()}, 1 thread of {os.cpu_count()}', torch=torch.__version__, timm=timm.__version__)


def describe_data(data_dir: Path, counts: Dict[str, int]) -> str:
    """The name of an image folder, and what `check_image_folder` counted in it."""
    return '{}, {classes} classes, {train:,} images to train, {validate:,} to validate'.format(data_dir.name, **counts)


def read_rows(file: Path) -> List[Row]:
    """Rows of a CSV file, none if it is not there."""
    if not file.is_file():
        return []
    with open(file, newline='') as lines:
        return list(csv.DictReader(lines))


def find_row(rows: Sequence[Row], name: str, arguments: Sequence[str]) -> Optional[Row]:
    """The row of a run, if it has ended with these very arguments."""
    return next((row for row in rows if (row['name'], row['arguments']) == (name, shlex.join(arguments))), None)


def describe_place(repeat: Tuple[Row, Row]) -> str:
    """Whether a run and its repeat ran on the same kind of machine or on another, as the rows name it."""
    first, second = repeat
    return 'the same' if first['machine'] == second['machine'] else 'another'


def write_rows(file: Path, rows: Sequence[Dict[str, Any]]) -> None:
    """Write a CSV file with the columns of its first row, the whole file or nothing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as new, open(new, 'w', newline='') as lines:
        writer = csv.DictWriter(lines, list(rows[0]), lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)


def add_row(file: Path, row: Dict[str, Any]) -> None:
    """Add a row to a CSV file, the whole row or nothing. Threads may add at the same time."""
    with _adding:
        write_rows(file, [*read_rows(file), row])


class KeptRun:
    """A run that leaves two files under its name in a folder once it has ended: a CSV of its epochs, and JSON.

    A class of it says the folder, the recipe, and how a run is named.
    """
    results: ClassVar[Path]
    recipe: ClassVar[str]

    @property
    def name(self) -> str:
        raise NotImplementedError

    @property
    def is_done(self) -> bool:
        """Whether it has ended, by the recipe of now."""
        return (self.results / f'{self.name}.json').is_file() and self.recipe in self.facts()['arguments']

    def keep(self, epochs: Path, **facts: Any) -> None:
        """Keep a CSV of its epochs, and facts with the machine's beside them; `arguments` must be among the facts."""
        self.results.mkdir(parents=True, exist_ok=True)
        with replacing(self.results / f'{self.name}.csv') as new:
            shutil.copyfile(epochs, new)
        with replacing(self.results / f'{self.name}.json') as new:
            new.write_text(json.dumps({**facts, **describe_machine()}, indent=2) + '\n')

    def read(self) -> List[Dict[str, float]]:
        """What was measured of each epoch, NaN where nothing was."""
        rows = read_rows(self.results / f'{self.name}.csv')
        return [{key: float(value) for key, value in row.items()} for row in rows]

    def facts(self) -> Dict[str, Any]:
        """What is kept beside: arguments, minutes, and the machine."""
        return json.loads((self.results / f'{self.name}.json').read_text())
