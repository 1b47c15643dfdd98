"""Does the sandglass earn its place? mobilenext_075 against mobilenetv2_075 on an image folder, by timm's own train.py.

    python -m experiments.training run --timm pytorch-image-models --data-dir cifar10    # both stages, all runs
    python -m experiments.training report                                                # results/training/README.md

The two networks differ by 0.6 % in MACs and get the same recipe. Pilots of two epochs try each of them with weights
drawn by either scheme, the authors' or timm's, at two learning rates, and with the better scheme's at a third; the best
of each is then trained with three other seeds. Initial weights are drawn here and handed to train.py by
--initial-checkpoint, so that both networks can have either scheme.

train.py runs on the installed timm, by `python -P`, which needs Python 3.11. Every run leaves the CSV that timm wrote
and a JSON file with its command in results/training, once it has ended. What is there is not repeated, so the same
command goes on after an interruption.
"""
import argparse
import csv
import json
import math
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import as_completed, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import torch
from matplotlib.figure import Figure
from rich.console import Console
from scipy import stats
from torch import nn

import timm
from timm.utils import random_seed

from timm_mobilenext.analysis.subjects import draw_weights
from timm_mobilenext.classify.image_folder import check_image_folder
from timm_mobilenext.classify.plots import FAINT, INK, RIGHT, WRONG
from timm_mobilenext.hub.cards import count
from timm_mobilenext.shared.files import replacing

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / 'results' / 'training'
MODELS = ('mobilenext_075', 'mobilenetv2_075')
SCHEMES = ('authors', 'timm')
LEARNING_RATES = (0.1, 0.4)
BEYOND = 'authors', 1.0  # the better scheme at a higher rate, for 0.4 was better than 0.1
PILOT_SEED, SEEDS = 0, (1, 2, 3)
PILOT_EPOCHS, EPOCHS = 2, 8
IMG_SIZE = 64
RECIPE = (
    f'--img-size {IMG_SIZE} --crop-pct 1.0 --batch-size 128 --opt sgd --momentum 0.9 --weight-decay 1e-4'
    ' --sched cosine --sched-on-updates --warmup-epochs 1 --warmup-lr 1e-3'
    ' --scale 0.5 1.0 --color-jitter 0 --smoothing 0.1'
    ' --device cpu --channels-last --workers 1 --log-interval 100'
)
DRAWING = threading.Lock()  # torch's generator is the same for all runs side by side
# a thread a run, and glibc keeps what is freed, which takes 2/5 off a step
ENV = dict(
    OMP_NUM_THREADS='1', MALLOC_MMAP_MAX_='0', MALLOC_TRIM_THRESHOLD_='100000000000', MALLOC_TOP_PAD_='500000000')


@dataclass(frozen=True)
class Run:
    stage: str
    model: str
    scheme: str
    lr: float
    seed: int

    @property
    def name(self) -> str:
        return f'{self.stage}-{self.model}-{self.scheme}-lr{self.lr:g}-seed{self.seed}'

    @property
    def epochs(self) -> int:
        return PILOT_EPOCHS if self.stage == 'pilot' else EPOCHS

    @property
    def is_done(self) -> bool:
        return (RESULTS / f'{self.name}.json').is_file() and RECIPE in self.facts()['arguments']

    def read(self) -> List[Dict[str, float]]:
        """What timm logged of each epoch."""
        with open(RESULTS / f'{self.name}.csv', newline='') as lines:
            return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(lines)]

    def top1(self) -> float:
        """Top-1 in percent after the last epoch."""
        return self.read()[-1]['eval_top1']

    def facts(self) -> dict:
        return json.loads((RESULTS / f'{self.name}.json').read_text())


PILOTS = [
    *(Run('pilot', model, scheme, lr, PILOT_SEED) for lr in LEARNING_RATES for scheme in SCHEMES for model in MODELS),
    *(Run('pilot', model, *BEYOND, PILOT_SEED) for model in MODELS),
]


def finals() -> List[Run]:
    """Three seeds of what was best for each network in the pilots."""
    best = [max((run for run in PILOTS if run.model == model), key=Run.top1) for model in MODELS]
    return [Run('final', run.model, run.scheme, run.lr, seed) for seed in SEEDS for run in best]


def arguments_of(
        model: str, num_classes: int, lr: float, epochs: int, seed: int, keep: int = 1,
        **model_kwargs: Any) -> List[str]:
    """Arguments of train.py that say what is trained, and how many of its checkpoints are kept."""
    arguments = [
        '--model', model, '--num-classes', str(num_classes), *RECIPE.split(), '--checkpoint-hist', str(keep),
        '--lr', f'{lr:g}', '--epochs', str(epochs), '--seed', str(seed),
    ]
    if model_kwargs:
        arguments += ['--model-kwargs', *(f'{key}={value}' for key, value in model_kwargs.items())]
    return arguments


def train_by_timm(
        script: Path, data_dir: Path, folder: Path, create: Callable[[], nn.Module], scheme: str, seed: int,
        arguments: List[str]) -> float:
    """Train by timm's script, in a process of its own, from weights drawn here by a scheme.

    Returns:
        Minutes that it took. Logs and checkpoints are in the folder.
    """
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was cut off
    folder.mkdir(parents=True)
    with DRAWING:
        random_seed(seed)
        network = create()
        draw_weights(network, scheme)
    torch.save(network.state_dict(), folder / 'initial.pth')
    started = time.perf_counter()
    with open(folder / 'train.log', 'w') as log:
        code = subprocess.run(
            [
                sys.executable, '-P', str(script), '--data-dir', str(data_dir), *arguments,
                '--initial-checkpoint', str(folder / 'initial.pth'), '--output', str(folder), '--experiment', 'train',
            ],
            env={**os.environ, **ENV}, stdout=log, stderr=subprocess.STDOUT).returncode
    if code:
        raise SystemExit(f'train.py ended with {code}: {folder / "train.log"} says why.')
    return (time.perf_counter() - started) / 60


def run_side_by_side(jobs: int, calls: List[Callable[[], None]]) -> None:
    """Run all, some at a time, and begin no more of them once one has failed or someone interrupts."""
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for future in as_completed([pool.submit(call) for call in calls]):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def find_script(checkout: Path) -> Path:
    script = checkout / 'train.py'
    if not script.is_file():
        raise SystemExit(f'{script} is not there: --timm takes a checkout of timm, whose wheel lacks train.py.')
    return script


def describe_data(data_dir: Path, data: Dict[str, int]) -> str:
    return '{}, {classes} classes, {train:,} images to train, {validate:,} to validate'.format(data_dir.name, **data)


def describe_machine() -> Dict[str, str]:
    return dict(
        machine=f'{platform.machine()}, 1 thread of {os.cpu_count()}', torch=torch.__version__, timm=timm.__version__)


def train(run: Run, script: Path, data_dir: Path, data: Dict[str, int], output: Path) -> None:
    """Train, and keep timm's log once it has ended."""
    folder = output / run.name
    arguments = arguments_of(run.model, data['classes'], run.lr, run.epochs, run.seed)
    create = partial(timm.create_model, run.model, num_classes=data['classes'])
    minutes = train_by_timm(script, data_dir, folder, create, run.scheme, run.seed, arguments)
    RESULTS.mkdir(parents=True, exist_ok=True)
    with replacing(RESULTS / f'{run.name}.csv') as new:
        shutil.copyfile(folder / 'train' / 'summary.csv', new)
    facts = dict(
        data=describe_data(data_dir, data),
        arguments=shlex.join(arguments),
        initial_weights=f"drawn by the {run.scheme} scheme",
        minutes=round(minutes, 1),
        **describe_machine(),
    )
    with replacing(RESULTS / f'{run.name}.json') as new:
        new.write_text(json.dumps(facts, indent=2) + '\n')
    print(f'{run.name:55} top-1 {run.top1():6.2f} %   {minutes:.1f} min', flush=True)


def run_all(args: argparse.Namespace) -> None:
    script = find_script(args.timm)
    data = check_image_folder(args.data_dir, Console())
    for stage in args.stages:
        runs = [run for run in (PILOTS if stage == 'pilot' else finals()) if not run.is_done]
        run_side_by_side(args.jobs, [partial(train, run, script, args.data_dir, data, args.output) for run in runs])


def report() -> None:
    """Write tables and pictures of what has been trained, and of nothing else."""
    done = [run for run in PILOTS if run.is_done]
    trained = [run for run in finals() if run.is_done] if len(done) == len(PILOTS) else []
    if not done:
        raise SystemExit(f'{RESULTS} holds no runs: train some first.')
    about = trained or done
    pictures = '![Top-1 by epoch and after the last one](comparison.png)\n\n' if trained else ''
    if trained:
        with replacing(RESULTS / 'comparison.png') as new:
            draw(new, trained)
    with replacing(RESULTS / 'README.md') as new:
        new.write_text(README.format(
            pictures=pictures,
            recipe=RECIPE.replace(' --', ' \\\n    --'),
            data='; '.join(sorted({run.facts()['data'] for run in about})),
            machine='; '.join(sorted({'{machine}, torch {torch}, timm {timm}'.format(**run.facts()) for run in about})),
            networks='\n'.join(table(NETWORKS, [describe(name) for name in MODELS])),
            finals='\n'.join(table(FINALS, summarize(trained))) if trained else 'No run has ended yet.',
            difference=difference(trained),
            pilots='\n'.join(table(PILOTED, [
                (run.model, run.scheme, f'{run.lr:g}', f'{run.top1():.2f}', f"{run.facts()['minutes']:.0f}")
                for run in done])),
        ), encoding='utf-8')
    print((RESULTS / 'README.md').read_text())


NETWORKS = 'network', 'parameters', f'MACs at {IMG_SIZE} px'
FINALS = 'network', 'weights drawn by', 'learning rate', 'seeds', 'top-1, mean and deviation', 'each', 'minutes a run'
PILOTED = 'network', 'weights drawn by', 'learning rate', 'top-1', 'minutes'
README = f"""# MobileNeXt and MobileNetV2, trained alike

{{pictures}}Made by `python -m experiments.training report` of what `python -m experiments.training run` trained, at
{IMG_SIZE} px. Each `.csv` is what timm's train.py logged, the `.json` beside it has the command.

Data: {{data}}.

{{networks}}

## {EPOCHS} epochs

{{finals}}

{{difference}}

## Pilots of {PILOT_EPOCHS} epochs

{{pilots}}

Both networks had all of these, with seed {PILOT_SEED}; what was best for each went on, with other seeds.

## Recipe

```
train.py {{recipe}}
```

Machine: {{machine}}.
"""


def table(headings, rows) -> List[str]:
    return [f'| {" | ".join(map(str, row))} |' for row in (headings, ['---'] * len(headings), *rows)]


def describe(name: str):
    counts = count(timm.create_model(
        name, num_classes=10, pretrained_cfg_overlay=dict(input_size=(3, IMG_SIZE, IMG_SIZE)), device='meta'))
    return f'`{name}`', f'{counts["params"]:,}', f'{counts["macs"] / 1e6:.2f}M'


def summarize(trained: List[Run]):
    for model in MODELS:
        runs = [run for run in trained if run.model == model]
        if runs:
            top1 = [run.top1() for run in runs]
            spread = f' ± {statistics.stdev(top1):.2f}' if len(runs) > 1 else ''
            minutes = statistics.mean(run.facts()['minutes'] for run in runs)
            yield (
                f'`{model}`', runs[0].scheme, f'{runs[0].lr:g}', len(runs), f'{statistics.mean(top1):.2f}{spread}',
                ', '.join(f'{value:.2f}' for value in top1), f'{minutes:.0f}')


def difference(trained: List[Run]) -> str:
    """The difference of the networks over paired seeds, with its interval."""
    ours, theirs = ({run.seed: run.top1() for run in trained if run.model == model} for model in MODELS)
    return describe_pairs(f'`{MODELS[0]}` less `{MODELS[1]}`', 'points', ours, theirs)


def describe_pairs(what: str, unit: str, ours: Dict[int, float], theirs: Dict[int, float]) -> str:
    """The mean of paired differences, by seed, with its interval."""
    effect = paired(ours, theirs)
    if effect is None:
        return 'Too few pairs of runs have ended to tell a difference.'
    return (
        f'{what}: {effect.mean:+.2f} {unit} in the mean of {effect.pairs} seeds, 95 % interval'
        f' {effect.low:+.2f} to {effect.high:+.2f} (Student\'s t of the paired differences).')


@dataclass(frozen=True)
class Effect:
    mean: float
    low: float
    high: float
    pairs: int


def paired(ours: Dict[Any, float], theirs: Dict[Any, float]) -> Optional[Effect]:
    """The mean of paired differences and its 95 % interval by Student's t, None of fewer than two pairs."""
    pairs = [ours[key] - theirs[key] for key in ours if key in theirs]
    return effect_of([pairs]) if len(pairs) > 1 else None


def effect_of(strata: List[List[float]]) -> Effect:
    """The mean over strata of the mean of paired differences, and its 95 % interval.

    By Student's t, of the variance within strata, such as widths of a network: seeds are repeats, widths are not.
    """
    freedom = sum(len(each) - 1 for each in strata)
    variance = sum((len(each) - 1) * statistics.variance(each) for each in strata) / freedom
    error = math.sqrt(variance * sum(1 / len(each) for each in strata)) / len(strata)
    mean = statistics.mean(statistics.mean(each) for each in strata)
    half = stats.t.ppf(0.975, freedom) * error
    return Effect(mean, mean - half, mean + half, sum(map(len, strata)))


def draw(file: Path, trained: List[Run]) -> None:
    """Top-1 by epoch, and after the last one, of each network and seed."""
    figure = Figure(figsize=(10, 4.2), dpi=150)
    curves, bars = figure.subplots(1, 2, width_ratios=(3, 2))
    for place, (model, color) in enumerate(zip(MODELS, (RIGHT, WRONG), strict=True)):
        runs = [run for run in trained if run.model == model]
        if not runs:
            continue
        logs = [[row['eval_top1'] for row in run.read()] for run in runs]
        means = [statistics.mean(values) for values in zip(*logs, strict=True)]
        for log in logs:
            curves.plot(range(1, EPOCHS + 1), log, color=color, lw=1, alpha=0.35)
        curves.plot(range(1, EPOCHS + 1), means, color=color, lw=2.5, label=model)
        bars.barh(place, means[-1], color=color, alpha=0.35, height=0.6)
        bars.plot([log[-1] for log in logs], [place] * len(logs), 'o', color=color, ms=5)
        bars.text(means[-1] / 2, place, f'{model}\n{means[-1]:.2f} %', color=INK, ha='center', va='center')
    curves.set_title('top-1 by epoch, each seed and the mean', loc='left', fontsize=11)
    curves.set_xlabel('epoch')
    curves.legend(frameon=False, loc='lower right')
    bars.set_title('after the last epoch, mean and each seed', loc='left', fontsize=11)
    bars.set(yticks=[], xlim=(0, 100), xlabel='top-1 in percent', ylim=(1.5, -0.5))
    for axes in (curves, bars):
        axes.grid(axis='y' if axes is curves else 'x', color=FAINT, alpha=0.3)
        axes.spines[['top', 'right']].set_visible(False)
    figure.tight_layout()
    figure.savefig(file, format='png')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest='command', required=True)
    run = commands.add_parser('run', help='train what has not been trained yet')
    run.add_argument('--timm', type=Path, required=True, help='checkout of timm')
    run.add_argument('--data-dir', type=Path, required=True, help='image folder with train/ and validation/')
    run.add_argument('--stages', nargs='+', choices=('pilot', 'final'), default=('pilot', 'final'))
    run.add_argument('--jobs', type=int, default=2, help='runs side by side')
    run.add_argument('--output', type=Path, default=ROOT / 'output' / 'training', help='folder for checkpoints')
    commands.add_parser('report', help='tables and pictures of what has been trained')
    args = parser.parse_args()
    if args.command == 'run':
        run_all(args)
    report()


if __name__ == '__main__':
    main()
