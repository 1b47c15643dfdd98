"""The paper's ablations of the sandglass block on an image folder, by timm's own train.py.

    python benchmarks/ablations.py run --timm pytorch-image-models --data-dir cifar10    # all runs, in order of weight
    python benchmarks/ablations.py run ... --only wide narrow                            # or some
    python benchmarks/ablations.py report                                                # tables and picture

One recipe, that of benchmarks/training.py at the learning rate that was best there, weights drawn by the authors'
scheme, 8 epochs, width 0.35 if nothing else is said. Arms are compared seed by seed. MACs are equal where the arms are
meant to be compared; where only another width makes them so, it is given, and the arm at the same width stands beside.

Each run appends a row to results/why/ablations.csv once it has ended. What is there is not repeated.
"""
import argparse
import csv
import math
import os
import platform
import re
import statistics
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import torch
from matplotlib.figure import Figure
from rich.console import Console
from scipy import stats
from training import describe_data, EPOCHS, find_script, IMG_SIZE, RECIPE, table, train_by_timm

import timm

from timm_mobilenext.cards import count
from timm_mobilenext.files import replacing
from timm_mobilenext.image_folder import check_image_folder
from timm_mobilenext.plots import FAINT, INK, RIGHT, WRONG

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / 'results' / 'why'
MODEL, LEARNING_RATE, SCHEME = 'mobilenext_035', 0.4, 'authors'
ROWS = ((2, 96, 1, 2), (6, 144, 1, 1), (6, 192, 3, 2), (6, 288, 3, 2), (6, 384, 4, 1), (6, 576, 4, 2), (6, 960, 3, 1))


def sandglasses(reduction: int) -> List[List[str]]:
    """The paper's network at another reduction."""
    rows = [f'sg_r{r}_k3_s{s}_e{2 if e == 2 else reduction}_c{c}' for e, c, r, s in ROWS]
    rows[1] += '_keepdw'
    return [[row] for row in [*rows, f'sg_r1_k3_s1_e{reduction}_c1280_keepdw_keepc']]


def inverted_residuals(width: float) -> List[List[str]]:
    """MobileNetV2's block in the rows of the paper's network, as wide inside, and its convolution to 1280 channels."""
    return [[f'ir_r{r}_k3_s{s}_e{e}_c{c // 6}'] for e, c, r, s in ROWS] + [[f'cn_r1_k1_s1_c{round(1280 / width)}']]


# in order of what they are worth, with the number of seeds
ARMS: Dict[str, Tuple[int, Dict[str, Any]]] = {
    # the shortcut
    'wide': (3, {}),
    'narrow': (3, dict(narrow_skip=True)),
    'none': (3, dict(noskip=True)),
    'wide-050': (3, dict(channel_multiplier=0.5)),
    'narrow-050': (3, dict(channel_multiplier=0.5, narrow_skip=True)),
    'none-050': (3, dict(channel_multiplier=0.5, noskip=True)),
    # depthwise convolutions, at the MACs of the first arm
    'before': (6, dict(channel_multiplier=0.505, dw_position='before')),
    'after': (6, dict(channel_multiplier=0.38, dw_position='after')),
    'bottleneck': (1, dict(channel_multiplier=0.46, dw_position='bottleneck')),
    'before-035': (1, dict(dw_position='before')),
    'after-035': (1, dict(dw_position='after')),
    # to look around
    'nonlinear': (1, dict(linear_bottleneck=False)),
    'identity-1/2': (1, dict(identity_multiplier=1 / 2)),
    'identity-1/3': (1, dict(identity_multiplier=1 / 3)),
    'identity-1/6': (1, dict(identity_multiplier=1 / 6)),
    'reduction-3': (1, dict(arch_def=sandglasses(3), reduce_chs_fn='even')),
    'reduction-6': (1, dict(arch_def=sandglasses(6), reduce_chs_fn='even')),
    'reduction-9': (1, dict(arch_def=sandglasses(9), reduce_chs_fn='even')),
    'inverted': (1, dict(channel_multiplier=0.555, arch_def=inverted_residuals(0.555))),
}
ABOUT = {
    'wide': 'shortcut on wide tensors, both depthwise convolutions: the paper\'s network',
    'narrow': 'shortcut on narrow tensors',
    'none': 'no shortcut',
    'wide-050': 'shortcut on wide tensors',
    'narrow-050': 'shortcut on narrow tensors',
    'none-050': 'no shortcut',
    'before': 'depthwise before the reduction alone',
    'after': 'depthwise after the expansion alone',
    'bottleneck': 'both depthwise in the bottleneck',
    'before-035': 'depthwise before the reduction alone, same width',
    'after-035': 'depthwise after the expansion alone, same width',
    'nonlinear': 'ReLU6 in the bottleneck',
    'identity-1/2': 'shortcut on 1/2 of the channels',
    'identity-1/3': 'shortcut on 1/3 of the channels',
    'identity-1/6': 'shortcut on 1/6 of the channels',
    'reduction-3': 'reduction 3, no least width',
    'reduction-6': 'reduction 6, no least width',
    'reduction-9': 'reduction 9, no least width',
    'inverted': 'MobileNetV2\'s block in the same rows',
}
TABLES = {
    'The shortcut': ('wide', 'narrow', 'none', 'wide-050', 'narrow-050', 'none-050'),
    'The depthwise convolutions': ('wide', 'before', 'after', 'bottleneck', 'before-035', 'after-035'),
    'To look around': (
        'wide', 'nonlinear', 'identity-1/2', 'identity-1/3', 'identity-1/6', 'reduction-3', 'reduction-6',
        'reduction-9', 'inverted'),
}
# what the paper says of two arms, in points
CLAIMS = (
    ('wide', 'narrow', 1.5, 'a wide shortcut rather than a narrow one, width 0.35'),
    ('wide-050', 'narrow-050', 1.5, 'a wide shortcut rather than a narrow one, width 0.5'),
    ('before', 'after', 0.6, 'a depthwise convolution before the reduction rather than after the expansion'),
)
APPENDING = threading.Lock()


@dataclass(frozen=True)
class Run:
    arm: str
    seed: int

    @property
    def model_kwargs(self) -> Dict[str, Any]:
        return ARMS[self.arm][1]


# the first seeds of all arms of a table come before its second ones, so that a cut leaves something to compare
RUNS = [
    *(Run(arm, seed) for seed in (1, 2, 3) for arm in TABLES['The shortcut']),
    *(Run(arm, seed) for seed in range(1, 7) for arm in ('before', 'after')),
    *(Run(arm, 1) for arm in ARMS if ARMS[arm][0] == 1),
]
COLUMNS = (
    'arm', 'seed', 'top1', 'top5', 'train_loss', 'eval_loss', 'top1_by_epoch', 'seconds_a_step', 'minutes', 'arguments',
    'initial_weights', 'data', 'machine', 'torch', 'timm')


def read_rows(file: Path) -> List[Dict[str, str]]:
    if not file.is_file():
        return []
    with open(file, newline='') as lines:
        return list(csv.DictReader(lines))


def append_row(file: Path, row: Dict[str, Any]) -> None:
    with APPENDING:
        rows = [*read_rows(file), row]
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as new, open(new, 'w', newline='') as lines:
            writer = csv.DictWriter(lines, COLUMNS, lineterminator='\n')
            writer.writeheader()
            writer.writerows(rows)


def train(run: Run, script: Path, data_dir: Path, data: Dict[str, int], output: Path, file: Path) -> None:
    """Train, and append a row once it has ended."""
    folder = output / f'{run.arm.replace("/", "-")}-seed{run.seed}'
    arguments, minutes = train_by_timm(
        script, data_dir, data['classes'], folder, MODEL, SCHEME, LEARNING_RATE, EPOCHS, run.seed, **run.model_kwargs)
    with open(folder / 'train' / 'summary.csv', newline='') as lines:
        epochs = list(csv.DictReader(lines))
    # of each epoch timm prints the mean in brackets
    means = re.findall(r'Time: [\d.]+s, +[\d.]+/s +\(([\d.]+)s', (folder / 'train.log').read_text())
    last = epochs[-1]
    append_row(file, dict(
        arm=run.arm,
        seed=run.seed,
        top1=last['eval_top1'],
        top5=last['eval_top5'],
        train_loss=last['train_loss'],
        eval_loss=last['eval_loss'],
        top1_by_epoch=' '.join(epoch['eval_top1'] for epoch in epochs),
        seconds_a_step=means[-1],
        minutes=round(minutes, 1),
        arguments=arguments,
        initial_weights=f'drawn by the {SCHEME} scheme',
        data=describe_data(data_dir, data),
        machine=f'{platform.machine()}, 1 thread of {os.cpu_count()}',
        torch=torch.__version__,
        timm=timm.__version__,
    ))
    print(f'{run.arm:14} seed {run.seed}  top-1 {float(last["eval_top1"]):6.2f} %   {minutes:.1f} min', flush=True)


def run_all(args: argparse.Namespace) -> None:
    script = find_script(args.timm)
    file = args.results / 'ablations.csv'
    data = check_image_folder(args.data_dir, Console())
    told = describe_data(args.data_dir, data)
    rows = read_rows(file)
    for row in rows:
        if row['data'] != told or RECIPE not in row['arguments']:
            raise SystemExit(f'{file} holds runs on {row["data"]}, or of another recipe: give another --results.')
    done = {Run(row['arm'], int(row['seed'])) for row in rows}
    runs = [run for run in RUNS if run.arm in args.only and run not in done]
    with ThreadPoolExecutor(args.jobs) as pool:
        for job in [pool.submit(train, run, script, args.data_dir, data, args.output, file) for run in runs]:
            job.result()


@cache
def describe(arm: str) -> Tuple[str, str, str, str, str]:
    """Width, parameters, MACs, shortcut adds and how many numbers these add."""
    kwargs = ARMS[arm][1]
    overlay = dict(input_size=(3, IMG_SIZE, IMG_SIZE))
    model: Any = timm.create_model(MODEL, num_classes=10, pretrained_cfg_overlay=overlay, device='meta', **kwargs)
    counts = count(model)
    added: List[int] = []

    def tap(block: Any, inputs: Tuple[Any, ...], output: Any) -> None:
        if block.has_skip:
            x = output[1] if isinstance(output, tuple) else output
            added.append(x[0, :getattr(block, 'skip_chs', x.shape[1])].numel())

    for stage in model.blocks:
        for block in stage:
            if hasattr(block, 'has_skip'):
                block.register_forward_hook(tap)
    model.eval()(torch.zeros(1, 3, IMG_SIZE, IMG_SIZE, device='meta'))
    return (
        f'{kwargs.get("channel_multiplier", 0.35):g}', f'{counts["params"]:,}', f'{counts["macs"] / 1e6:.2f}M',
        str(len(added)), f'{sum(added):,}')


def summarize(rows: List[Dict[str, str]], arms: Tuple[str, ...]):
    for arm in arms:
        width, params, macs, adds, numbers = describe(arm)
        own = [row for row in rows if row['arm'] == arm]
        top1 = [float(row['top1']) for row in sorted(own, key=lambda row: int(row['seed']))]
        spread = f' ± {statistics.stdev(top1):.2f}' if len(top1) > 1 else ''
        told = f'{statistics.mean(top1):.2f}{spread}' if top1 else 'not run'
        each = ', '.join(f'{value:.2f}' for value in top1)
        seconds = f'{statistics.median(float(row["seconds_a_step"]) for row in own):.2f}' if own else ''
        yield ABOUT[arm], width, params, macs, adds, numbers, len(top1), told, each, seconds


def judge(rows: List[Dict[str, str]], ours: str, theirs: str, points: float, what: str) -> str:
    """One sentence for a claim: the effect over paired seeds, its interval, and what they say."""
    values: Dict[str, Dict[str, float]] = {arm: {} for arm in (ours, theirs)}
    for row in rows:
        if row['arm'] in values:
            values[row['arm']][row['seed']] = float(row['top1'])
    pairs = [values[ours][seed] - values[theirs][seed] for seed in sorted(values[ours]) if seed in values[theirs]]
    said = f'- {what[0].upper()}{what[1:]}, {points:+g} points in the paper: '
    if len(pairs) < 2:
        return f'{said}too few pairs of runs have ended.'
    mean = statistics.mean(pairs)
    half = stats.t.ppf(0.975, len(pairs) - 1) * statistics.stdev(pairs) / math.sqrt(len(pairs))
    verdict = 'seen' if mean - half > 0 else 'not seen, the reverse is' if mean + half < 0 else 'not decided'
    inside = 'inside' if mean - half <= points <= mean + half else 'outside'
    return (
        f'{said}**{verdict}** at this scale. {mean:+.2f} in the mean of {len(pairs)} paired seeds, 95 % interval'
        f' {mean - half:+.2f} to {mean + half:+.2f}; the paper\'s figure is {inside} of it.')


HEADINGS = (
    'arm', 'width', 'parameters', f'MACs at {IMG_SIZE} px', 'adds', 'numbers added', 'seeds',
    'top-1, mean and deviation', 'each', 'seconds a step')
REPORT = f"""# Ablations

![Top-1 of each arm](ablations.png)

Made by `python benchmarks/ablations.py report` of what `python benchmarks/ablations.py run` trained: {EPOCHS} epochs at
{IMG_SIZE} px, `{MODEL}` with the arguments of `--model-kwargs` in [ablations.csv](ablations.csv), learning rate
{LEARNING_RATE}, weights drawn by the {SCHEME} scheme. An add counts once for each image, whatever its tensor; the
numbers added are its elements. A step is a batch of 128, and was timed with another run beside it.

Data: {{data}}.

{{claims}}

Intervals are Student's t of the paired differences.

{{tables}}

Machine: {{machine}}.
"""


def report(results: Path) -> None:
    """Write tables and a picture of what has been trained, and of nothing else."""
    rows = read_rows(results / 'ablations.csv')
    if not rows:
        raise SystemExit(f'{results} holds no runs: train some first.')
    tables = [
        '\n'.join([f'## {name}', '', *table(HEADINGS, summarize(rows, arms))]) for name, arms in TABLES.items()]
    with replacing(results / 'ablations.png') as new:
        draw(new, rows)
    with replacing(results / 'ablations.md') as new:
        new.write_text(REPORT.format(
            data='; '.join(sorted({row['data'] for row in rows})),
            claims='\n'.join(judge(rows, *claim) for claim in CLAIMS),
            tables='\n\n'.join(tables),
            machine='; '.join(sorted({'{machine}, torch {torch}, timm {timm}'.format(**row) for row in rows})),
        ), encoding='utf-8')
    print((results / 'ablations.md').read_text())


def draw(file: Path, rows: List[Dict[str, str]]) -> None:
    """Top-1 of each arm, table by table: the mean as a bar from the least, each seed as a point."""
    trained = {row['arm'] for row in rows}
    shown: List[Optional[str]] = []
    for arms in TABLES.values():
        shown += [*(arm for arm in arms if arm in trained), None]
    figure = Figure(figsize=(10, 1.2 + 0.34 * len(shown)), dpi=150, layout='constrained')
    axes = figure.subplots()
    least = min(float(row['top1']) for row in rows)
    for place, arm in enumerate(shown):
        if arm is None:
            continue
        top1 = [float(row['top1']) for row in rows if row['arm'] == arm]
        color = RIGHT if arm.startswith('wide') else WRONG
        axes.barh(place, statistics.mean(top1), color=color, alpha=0.3, height=0.7)
        axes.plot(top1, [place] * len(top1), 'o', color=color, ms=4)
    axes.set_yticks(
        [place for place, arm in enumerate(shown) if arm],
        [f'{ABOUT[arm]}, {describe(arm)[2]} MACs' for arm in shown if arm], fontsize=8, color=INK)
    axes.set(xlim=(max(math.floor(least) - 2, 0), None), ylim=(len(shown) - 1.4, -0.6))
    axes.set_xlabel('top-1 in percent, mean and each seed', fontsize=9, color=INK)
    axes.set_title('Ablations of the sandglass block', loc='left', fontsize=11, color=INK)
    axes.grid(axis='x', color=FAINT, alpha=0.3)
    axes.spines[['top', 'right']].set_visible(False)
    figure.savefig(file, format='png')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest='command', required=True)
    run = commands.add_parser('run', help='train what has not been trained yet')
    run.add_argument('--timm', type=Path, required=True, help='checkout of timm')
    run.add_argument('--data-dir', type=Path, required=True, help='image folder with train/ and validation/')
    run.add_argument('--only', nargs='+', choices=list(ARMS), default=list(ARMS), metavar='ARM',
                     help=f'some of {", ".join(ARMS)}')
    run.add_argument('--jobs', type=int, default=2, help='runs side by side')
    run.add_argument('--output', type=Path, default=ROOT / 'output' / 'ablations', help='folder for checkpoints')
    told = commands.add_parser('report', help='tables and picture of what has been trained')
    for command in (run, told):
        command.add_argument('--results', type=Path, default=RESULTS, help='folder of the rows and tables')
    args = parser.parse_args()
    if args.command == 'run':
        run_all(args)
    report(args.results)


if __name__ == '__main__':
    main()
