"""The paper's ablations of the sandglass block on an image folder, by timm's own train.py.

    python -m experiments.ablations run --timm pytorch-image-models --data-dir cifar10    # all runs, in order of weight
    python -m experiments.ablations run ... --only wide narrow                            # or some
    python -m experiments.ablations time                                                  # a step of each, side by side
    python -m experiments.ablations report                                                # tables and picture

All arms have the recipe of experiments/training.py, 8 epochs, and weights drawn by the authors' scheme. The learning
rate is 0.4, which was best there for both networks (of 0.1, 0.4 and 1, at width 0.75). The width is 0.35 if nothing
else is said. Arms are compared seed by seed.

Where depthwise convolutions are placed elsewhere, the width makes MACs equal to a percent, and an arm of width 0.35
stands beside, unmatched. A block that would have ended with a depthwise convolution ends linear, as the paper's blocks
do, if nothing else is said.

A rate that suits one arm need not suit another, so arms that may want a lower one are trained at 0.1 too.

Each run adds a row to results/why/ablations.csv once it has ended. Runs that are there are not repeated. Rows are
refused if the run would have other arguments now.
"""
import argparse
import os
import random
import re
import shlex
import statistics
import sys
import textwrap
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from time import perf_counter
from typing import Any, Dict, Iterator, List, Optional, Tuple

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from rich.console import Console

import timm

from experiments.report import (
    describe_costs,
    describe_data_sets,
    describe_machines,
    dress,
    make_table,
    mean_and_deviation,
    NARROW,
    NONE,
    OURS,
    plot_effect,
    save,
    THEIRS,
)
from experiments.runs import (
    add_row,
    describe_data,
    describe_machine,
    draw_network,
    ENVIRONMENT,
    EPOCHS,
    find_script,
    IMG_SIZE,
    make_arguments,
    read_rows,
    Row,
    run_side_by_side,
    train,
    write_rows,
)
from experiments.statistics import differences, stratified_effect
from timm_mobilenext.classify.image_folder import check_image_folder
from timm_mobilenext.shared.files import replacing
from timm_mobilenext.shared.style import INK

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / 'results' / 'why'
MODEL, LEARNING_RATE, SCHEME = 'mobilenext_035', 0.4, 'authors'
BATCH, CLASSES, WARM_UP, STEPS = 128, 10, 3, 20  # of `time`
ROWS = ((2, 96, 1, 2), (6, 144, 1, 1), (6, 192, 3, 2), (6, 288, 3, 2), (6, 384, 4, 1), (6, 576, 4, 2), (6, 960, 3, 1))


def sandglasses(reduction: int) -> List[List[str]]:
    """The paper's network at another reduction."""
    rows = [f'sg_r{r}_k3_s{s}_e{2 if e == 2 else reduction}_c{c}' for e, c, r, s in ROWS]
    rows[1] += '_keepdw'
    return [[row] for row in [*rows, f'sg_r1_k3_s1_e{reduction}_c1280_keepdw_keepc']]


def strided_last() -> List[List[str]]:
    """The paper's network, blocks of stride 2 with one depthwise convolution after the expansion in any case."""
    stages = []
    for e, c, r, s in ROWS:
        rows = [f'sg_r1_k3_s2_e{e}_c{c}_dwafter'] if s == 2 else []
        if r > len(rows):
            rows.append(f'sg_r{r - len(rows)}_k3_s1_e{e}_c{c}')
        stages.append(rows)
    stages[1][0] += '_keepdw'
    return [*stages, ['sg_r1_k3_s1_e6_c1280_keepdw_keepc']]


def inverted_residuals(width: float) -> List[List[str]]:
    """MobileNetV2's block in the rows of the paper's network, as wide inside, and its convolution to 1280 channels."""
    return [[f'ir_r{r}_k3_s{s}_e{e}_c{c // 6}'] for e, c, r, s in ROWS] + [[f'cn_r1_k1_s1_c{round(1280 / width)}']]


@dataclass(frozen=True)
class Arm:
    about: str
    seeds: int = 1
    lr: float = LEARNING_RATE
    model_kwargs: Dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return self.about if self.lr == LEARNING_RATE else f'{self.about}, learning rate {self.lr:g}'


def _arm(about: str, seeds: int = 1, lr: float = LEARNING_RATE, **model_kwargs: Any) -> Arm:
    return Arm(about, seeds, lr, model_kwargs)


ARMS = {
    # three seeds more than at width 0.5, for one of the first three ended 2.5 points lower when it was trained again
    'wide': _arm('shortcut on wide tensors, both depthwise: the paper\'s', 6),
    'narrow': _arm('shortcut on narrow tensors', 6, narrow_skip=True),
    'none': _arm('no shortcut', 3, noskip=True),
    'wide-050': _arm('shortcut on wide tensors', 3, channel_multiplier=0.5),
    'narrow-050': _arm('shortcut on narrow tensors', 3, channel_multiplier=0.5, narrow_skip=True),
    'none-050': _arm('no shortcut', 3, channel_multiplier=0.5, noskip=True),
    # linear at the end and strided after the expansion, as with one depthwise convolution there
    'before': _arm(
        'depthwise before the reduction alone', 6, channel_multiplier=0.385, dw_position='before', linear_output=True,
        arch_def=strided_last()),
    'after': _arm('depthwise after the expansion alone', 6, channel_multiplier=0.38, dw_position='after'),
    'bottleneck': _arm(
        'both depthwise in the bottleneck', channel_multiplier=0.46, dw_position='bottleneck', linear_output=True),
    'before-035': _arm(
        'depthwise before the reduction alone, unmatched', dw_position='before', linear_output=True,
        arch_def=strided_last()),
    'after-035': _arm('depthwise after the expansion alone, unmatched', dw_position='after'),
    'bottleneck-035': _arm(
        'both depthwise in the bottleneck, unmatched', dw_position='bottleneck', linear_output=True),
    'before-strided': _arm(
        'depthwise before the reduction alone, strided ones too', channel_multiplier=0.505, dw_position='before',
        linear_output=True),
    'before-strided-relu6': _arm(
        'depthwise before the reduction alone, strided ones too, ReLU6 at the end', channel_multiplier=0.505,
        dw_position='before'),
    'bottleneck-relu6': _arm(
        'both depthwise in the bottleneck, ReLU6 at the end', channel_multiplier=0.46,
        dw_position='bottleneck'),
    'nonlinear': _arm('ReLU6 in the bottleneck', linear_bottleneck=False),
    'identity-1/2': _arm('shortcut on 1/2 of the channels', identity_multiplier=1 / 2),
    'identity-1/3': _arm('shortcut on 1/3 of the channels', identity_multiplier=1 / 3),
    'identity-1/6': _arm('shortcut on 1/6 of the channels', identity_multiplier=1 / 6),
    'reduction-3': _arm('reduction 3, no least width', arch_def=sandglasses(3), reduce_chs_fn='even'),
    'reduction-6': _arm('reduction 6, no least width', arch_def=sandglasses(6), reduce_chs_fn='even'),
    'reduction-9': _arm('reduction 9, no least width', arch_def=sandglasses(9), reduce_chs_fn='even'),
    # no width comes nearer to the MACs of the first
    'inverted': _arm(
        'MobileNetV2\'s block in the same rows', channel_multiplier=0.555, arch_def=inverted_residuals(0.555)),
    'wide-lr0.1': _arm('shortcut on wide tensors', 3, lr=0.1),
    'narrow-lr0.1': _arm('shortcut on narrow tensors', 3, lr=0.1, narrow_skip=True),
    'inverted-lr0.1': _arm(
        'MobileNetV2\'s block in the same rows', lr=0.1, channel_multiplier=0.555, arch_def=inverted_residuals(0.555)),
}
# in order of what they are worth
TABLES = {
    'The shortcut': ('wide', 'narrow', 'none', 'wide-050', 'narrow-050', 'none-050'),
    'The depthwise convolutions': (
        'wide', 'before', 'after', 'bottleneck', 'before-035', 'after-035', 'bottleneck-035', 'before-strided',
        'before-strided-relu6', 'bottleneck-relu6'),
    'To look around': (
        'wide', 'nonlinear', 'identity-1/2', 'identity-1/3', 'identity-1/6', 'reduction-3', 'reduction-6',
        'reduction-9', 'inverted'),
    'At a lower learning rate': ('wide-lr0.1', 'narrow-lr0.1', 'inverted-lr0.1'),
}
# what is claimed, in points where a figure is given; of two arms, or of pairs of them at several widths
CLAIMS = (
    ('a wide shortcut rather than a narrow one', 1.5, (('wide', 'narrow'), ('wide-050', 'narrow-050'))),
    ('the same at width 0.35', 1.5, (('wide', 'narrow'),)),
    ('the same at width 0.5', 1.5, (('wide-050', 'narrow-050'),)),
    ('a wide shortcut rather than none', None, (('wide', 'none'), ('wide-050', 'none-050'))),
    ('a depthwise convolution before the reduction rather than after the expansion, at equal MACs', 0.6,
     (('before', 'after'),)),
    ('the same at equal width', 0.6, (('before-035', 'after-035'),)),
    ('depthwise convolutions on wide tensors rather than in the bottleneck', None, (('wide', 'bottleneck'),)),
    ('a strided convolution after the expansion, where the others are before the reduction, rather than before it too',
     None, (('before', 'before-strided'),)),
    ('blocks that end linear rather than with ReLU6, depthwise before the reduction, strided ones too', None,
     (('before-strided', 'before-strided-relu6'),)),
    ('blocks that end linear rather than with ReLU6, depthwise in the bottleneck', None,
     (('bottleneck', 'bottleneck-relu6'),)),
    ('a linear bottleneck rather than one with ReLU6', None, (('wide', 'nonlinear'),)),
    ('a shortcut on half of the channels rather than on all', 0.07, (('identity-1/2', 'wide'),)),
    ('a sandglass rather than an inverted residual', None, (('wide', 'inverted'),)),
    ('a wide shortcut rather than a narrow one, at learning rate 0.1', 1.5, (('wide-lr0.1', 'narrow-lr0.1'),)),
    ('a sandglass rather than an inverted residual, at learning rate 0.1', None, (('wide-lr0.1', 'inverted-lr0.1'),)),
)
COLORS = dict(wide=OURS, narrow=NARROW, none=NONE, inverted=THEIRS)  # of arms, others in ink
LEAST_SEEDS = 3  # of each pair, for a verdict, even where fewer are planned
Pair = Tuple[str, str]


@dataclass(frozen=True)
class Run:
    arm: str
    seed: int

    def arguments(self, num_classes: int) -> List[str]:
        # all checkpoints are kept, for the instruments
        arm = ARMS[self.arm]
        return make_arguments(MODEL, num_classes, arm.lr, EPOCHS, self.seed, keep=EPOCHS + 1, **arm.model_kwargs)


# table by table, and seed by seed, so that a cut leaves something to compare
RUNS = list(dict.fromkeys(
    Run(arm, seed) for arms in TABLES.values() for seed in range(1, max(ARMS[arm].seeds for arm in arms) + 1)
    for arm in arms if seed <= ARMS[arm].seeds))


def execute(run: Run, script: Path, data_dir: Path, data: Dict[str, int], output: Path, file: Path) -> None:
    """Train, and add a row once the training has ended."""
    arguments = run.arguments(data['classes'])
    network = draw_network(SCHEME, run.seed, MODEL, num_classes=data['classes'], **ARMS[run.arm].model_kwargs)
    training = train(script, data_dir, output / f'{run.arm.replace("/", "-")}-seed{run.seed}', network, arguments)
    epochs = read_rows(training.summary)
    last = epochs[-1]
    add_row(file, dict(
        arm=run.arm,
        seed=run.seed,
        top1=last['eval_top1'],
        top5=last['eval_top5'],
        train_loss=last['train_loss'],
        eval_loss=last['eval_loss'],
        top1_by_epoch=' '.join(epoch['eval_top1'] for epoch in epochs),
        minutes=round(training.minutes, 1),
        arguments=shlex.join(arguments),
        initial_weights=f'drawn by the {SCHEME} scheme',
        data=describe_data(data_dir, data),
        **describe_machine(),
    ))
    late = ', more than the 90 a run should take' if training.minutes > 90 else ''
    top1 = float(last['eval_top1'])
    print(f'{run.arm:14} seed {run.seed}  top-1 {top1:6.2f} %   {training.minutes:.1f} min{late}', flush=True)


def check_rows(file: Path, rows: List[Row]) -> None:
    """Refuse rows of several data sets, and of runs that this script does not describe."""
    for row in rows:
        run = Run(row['arm'], int(row['seed']))
        if row['data'] != rows[0]['data']:
            raise SystemExit(f'{file} holds runs on {row["data"]} and on {rows[0]["data"]}: keep them apart.')
        if run not in RUNS or shlex.join(run.arguments(classes_of(row))) != row['arguments']:
            raise SystemExit(
                f'{file} holds a run of {run.arm}, seed {run.seed}, with other arguments than it would have now: give'
                ' another --results.')


def classes_of(row: Row) -> int:
    return int(re.search(r'--num-classes (\d+)', row['arguments'])[1])  # type: ignore[index]


def run_all(args: argparse.Namespace) -> None:
    """Train the runs that have no row yet."""
    script = find_script(args.timm)
    file = args.results / 'ablations.csv'
    data = check_image_folder(args.data_dir, Console())
    rows = read_rows(file)
    check_rows(file, rows)
    if rows and rows[0]['data'] != describe_data(args.data_dir, data):
        raise SystemExit(f'{file} holds runs on {rows[0]["data"]}: give another --results.')
    done = {Run(row['arm'], int(row['seed'])) for row in rows}
    run_side_by_side(args.jobs, [
        partial(execute, run, script, args.data_dir, data, args.output, file)
        for run in RUNS if run.arm in args.only and run not in done])


def time_all(results: Path) -> None:
    """Time training steps of all arms in turn, so that a machine whose speed swings does so for all of them."""
    if ENVIRONMENT.items() - os.environ.items():  # start again in that of the runs
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **ENVIRONMENT})
    x = torch.randn(BATCH, 3, IMG_SIZE, IMG_SIZE).to(memory_format=torch.channels_last)
    targets = torch.randint(CLASSES, (BATCH,))
    seconds: Dict[str, List[float]] = {arm: [] for arm in ARMS}
    networks = {
        arm: timm.create_model(MODEL, num_classes=CLASSES, **ARMS[arm].model_kwargs).to(
            memory_format=torch.channels_last)
        for arm in ARMS}
    optimizers = {
        arm: torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
        for arm, network in networks.items()}
    for turn in range(WARM_UP + STEPS):
        # in another order each time, for memory that the one before has left is faster or slower
        for arm in random.Random(turn).sample(list(networks), len(networks)):
            network = networks[arm]
            started = perf_counter()
            F.cross_entropy(network(x), targets).backward()
            optimizers[arm].step()
            optimizers[arm].zero_grad()
            if turn >= WARM_UP:
                seconds[arm].append(perf_counter() - started)
    write_rows(results / 'seconds.csv', [
        dict(
            arm=arm, seconds_a_step=f'{statistics.median(steps):.4f}', fastest=f'{min(steps):.4f}',
            slowest=f'{max(steps):.4f}', steps=STEPS, **describe_machine())
        for arm, steps in seconds.items()])


@cache
def describe(arm: str, num_classes: int) -> Tuple[str, ...]:
    """Width, parameters, MACs, shortcut adds and how many numbers these add."""
    kwargs = ARMS[arm].model_kwargs
    model: Any = timm.create_model(MODEL, num_classes=num_classes, device='meta', **kwargs)
    costs = describe_costs(model, IMG_SIZE)[:2]
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
    return f'{kwargs.get("channel_multiplier", 0.35):g}', *costs, str(len(added)), f'{sum(added):,}'


def top1_by_seed(rows: List[Row], arm: str) -> Dict[int, float]:
    """Top-1 in percent of an arm's runs, in the order of their seeds."""
    return dict(sorted((int(row['seed']), float(row['top1'])) for row in rows if row['arm'] == arm))


def summarize(rows: List[Row], arms: Tuple[str, ...], seconds: Dict[str, float]) -> Iterator[Tuple]:
    """A row of a table for each arm."""
    for arm in arms:
        top1 = list(top1_by_seed(rows, arm).values())
        yield (
            ARMS[arm].label, *describe(arm, classes_of(rows[0])), len(top1),
            mean_and_deviation(top1) if top1 else 'not run yet', ', '.join(f'{value:.2f}' for value in top1),
            f'{seconds[arm]:.3f}' if arm in seconds else 'not timed yet')


def compare(rows: List[Row], pairs: Tuple[Pair, ...]) -> List[List[float]]:
    """For each pair of arms: the first's top-1 less the second's, by seeds that both have."""
    return [differences(*(top1_by_seed(rows, arm) for arm in pair)) for pair in pairs]


def lacking(pairs: Tuple[Pair, ...], strata: List[List[float]]) -> List[int]:
    """Seeds that a verdict needs, of pairs that have fewer. It needs all planned, so that no one stops at a whim."""
    needed = [max(LEAST_SEEDS, min(ARMS[arm].seeds for arm in pair)) for pair in pairs]
    return [seeds for seeds, stratum in zip(needed, strata, strict=True) if len(stratum) < seeds]


def judge(rows: List[Row], what: str, points: Optional[float], pairs: Tuple[Pair, ...]) -> str:
    """One sentence for a claim: the effect over paired seeds, its interval, and what they say."""
    claimed = '' if points is None else f' (claimed: {points:+g} points)'
    claim = f'- {what[0].upper()}{what[1:]}{claimed}: '
    strata = compare(rows, pairs)
    if not all(strata):
        return claim + ('not run yet.' if not any(strata) else 'not run at all widths yet.')
    costs = [describe(arm, classes_of(rows[0]))[1:3] for arm in pairs[0]]
    cost = '' if costs[0] == costs[1] else (
        ' The first has {} parameters and {} MACs, the second {} and {}.'.format(*costs[0], *costs[1]))
    if seeds := lacking(pairs, strata):
        points_by_seed = ', '.join(f'{difference:+.2f}' for stratum in strata for difference in stratum)
        return f'{claim}not decided, fewer than {seeds[0]} seeds: {points_by_seed} points.{cost}'
    effect = stratified_effect(strata)
    verdict = 'seen' if effect.low > 0 else 'not seen, the reverse is' if effect.high < 0 else 'not decided'
    inside = '' if points is None else (
        ', the claimed figure outside of it' if not effect.low <= points <= effect.high
        else ', which holds the claimed figure' + (', and 0 too' if effect.low <= 0 else ''))
    runs = f'{sum(map(len, strata))} paired runs'
    # one width may have more seeds than the other, and counts no more for it
    base = runs if len(strata) == 1 else f'{len(strata)} widths, {runs} in all'
    return (
        f'{claim}**{verdict}** at this scale and learning rate. {effect.mean:+.2f} points in the mean of {base}, 95 %'
        f' interval {effect.low:+.2f} to {effect.high:+.2f}{inside}.{cost}')


HEADINGS = (
    'arm', 'width', 'parameters', f'MACs at {IMG_SIZE} px', 'adds', 'numbers added', 'seeds',
    'top-1, mean and deviation', 'each', 'seconds a step')
REPORT = f"""# Ablations

![What each claim came to, and top-1 of each arm](ablations.png)

`python -m experiments.ablations run` trained these networks, and `python -m experiments.ablations report` made this
page.

- Each run has {EPOCHS} epochs at {IMG_SIZE} px. The learning rate is {LEARNING_RATE}, unless the row has another.
  Weights are drawn by the {SCHEME} scheme.
- The network is `{MODEL}`, with the arguments of `--model-kwargs` in [ablations.csv](ablations.csv).
- An add counts once for each image, and the numbers added are the elements of its tensor.
- The seconds are medians of training steps of {BATCH} random images, on one thread, all arms in turn.
  `python -m experiments.ablations time` wrote them to [seconds.csv](seconds.csv).
- The learning rate was the best of three for the paper's network and for MobileNetV2 at width 0.75. It was not chosen
  for each arm.

Data: {{data}}

{{claims}}

A claim is seen if all planned seeds have ended, at least three of each pair, and its whole interval is above 0.
[docs/why.md](../../docs/why.md) says who claims it. Intervals are Student's t of paired differences. The variance is
that within widths, and is taken as equal at both.

Where there is no difference, one interval in twenty excludes 0 by chance. Claims share runs, so a lucky run counts in
several. A seed fixes the initial weights and the order of images. On another machine, it gives another run.

{{tables}}

Machine: {{machine}}.
"""


def report(results: Path) -> None:
    """Write tables and a picture of what has been trained, and of nothing else."""
    rows = read_rows(results / 'ablations.csv')
    if not rows:
        raise SystemExit(f'{results} holds no runs: train some first.')
    check_rows(results / 'ablations.csv', rows)
    seconds = {row['arm']: float(row['seconds_a_step']) for row in read_rows(results / 'seconds.csv')}
    tables = [f'## {name}\n\n{make_table(HEADINGS, summarize(rows, arms, seconds))}' for name, arms in TABLES.items()]
    text = REPORT.format(
        data=describe_data_sets(rows),
        claims='\n'.join(judge(rows, *claim) for claim in CLAIMS),
        tables='\n\n'.join(tables),
        machine=describe_machines(rows),
    )
    with replacing(results / 'ablations.png') as new:
        draw(new, rows)
    with replacing(results / 'ablations.md') as new:
        new.write_text(text, encoding='utf-8')
    print(text)


def draw(file: Path, rows: List[Row]) -> None:
    """What each claim came to where there is an interval; and top-1 of each arm, a panel for each table."""
    claims = [claim for claim in CLAIMS if not lacking(claim[2], compare(rows, claim[2]))]
    trained = {row['arm'] for row in rows}
    panels = {name: [arm for arm in arms if arm in trained] for name, arms in TABLES.items()}
    panels = {name: arms for name, arms in panels.items() if arms}
    heights = [len(claims) + 2, *(len(arms) + 1 for arms in panels.values())]
    figure = Figure(figsize=(10, 0.5 + 0.33 * sum(heights)), dpi=150, layout='constrained')
    claim_axes, *arm_axes = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    draw_claims(claim_axes, rows, claims)
    for axes, (name, arms) in zip(arm_axes, panels.items(), strict=True):
        axes.sharex(arm_axes[-1])
        axes.tick_params(labelbottom=axes is arm_axes[-1])
        draw_arms(axes, rows, name, arms)
    for axes in (claim_axes, *arm_axes):
        dress(axes)
    arm_axes[-1].set_xlabel('top-1 in percent, each seed and the mean', fontsize=9, color=INK)
    save(figure, file)


def draw_claims(axes: Any, rows: List[Row], claims: List[Tuple]) -> None:
    """The interval of each claim, and the claimed figure."""
    for place, (_, points, pairs) in enumerate(claims):
        effect = stratified_effect(compare(rows, pairs))
        plot_effect(axes, place, effect, OURS)
        if points is not None:
            axes.plot(points, place, 'D', color=INK, mfc='white', ms=7)
    axes.axvline(0, color=INK, lw=1)
    axes.set_yticks(range(len(claims)), [textwrap.fill(what, 62) for what, *_ in claims], fontsize=8, color=INK)
    axes.set_ylim(len(claims) - 0.4, -0.6)
    axes.set_title('The first less the second (hollow: as claimed)', loc='left', fontsize=10, color=INK)
    axes.set_xlabel('points of top-1, mean and 95 % interval over pairs of runs', fontsize=9, color=INK)


def draw_arms(axes: Any, rows: List[Row], name: str, arms: List[str]) -> None:
    """Top-1 of each arm of a table, by seed and in the mean."""
    labels = []
    for place, arm in enumerate(arms):
        top1 = list(top1_by_seed(rows, arm).values())
        color = COLORS.get(arm.partition('-')[0], INK)
        axes.plot(top1, [place] * len(top1), 'o', color=color, alpha=0.6, ms=6)
        axes.plot([statistics.mean(top1)] * 2, [place - 0.35, place + 0.35], color=color, lw=2)
        width, _, macs, *_ = describe(arm, classes_of(rows[0]))
        labels.append(f'{ARMS[arm].about}, width {width}, {macs} MACs')
    axes.set_yticks(range(len(arms)), labels, fontsize=8, color=INK)
    axes.set_ylim(len(arms) - 0.4, -0.6)
    axes.set_title(name, loc='left', fontsize=10, color=INK)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest='command', required=True)
    run = commands.add_parser('run', help='train the runs that have not been trained yet')
    run.add_argument('--timm', type=Path, required=True, metavar='DIR', help='checkout of timm')
    run.add_argument(
        '--data-dir', type=Path, required=True, metavar='DIR', help='image folder with train/ and validation/')
    run.add_argument(
        '--only', nargs='+', choices=list(ARMS), default=list(ARMS), metavar='ARM',
        help=f'only some arms, of {", ".join(ARMS)}')
    run.add_argument('--jobs', type=int, default=2, help='runs side by side')
    run.add_argument(
        '--output', type=Path, default=ROOT / 'output' / 'ablations', metavar='DIR', help='folder for checkpoints')
    time_command = commands.add_parser('time', help='time training steps, on an idle machine; takes a few minutes')
    report_command = commands.add_parser('report', help='write tables and a picture of the runs that have ended')
    for command in (run, time_command, report_command):
        command.add_argument(
            '--results', type=Path, default=RESULTS, metavar='DIR', help='folder of the rows and tables')
    args = parser.parse_args()
    if args.command == 'time':
        time_all(args.results)
        return
    if args.command == 'run':
        run_all(args)
    report(args.results)


if __name__ == '__main__':
    main()
