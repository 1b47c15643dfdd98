"""Networks of equal cost, trained alike on 100 classes of Tiny ImageNet. experiments/README.md has the design.

    python -m experiments.tin100 plan headline     # what has been run, and what is next
    python -m experiments.tin100 run headline --timm pytorch-image-models --data-dir tin100
    python -m experiments.tin100 report            # results/tin100/README.md, from the rows alone

train.py runs on the installed timm, by `python -P`, which needs Python 3.11. A run that has ended leaves a row in
results/tin100/runs.csv and its epochs in results/tin100/epochs/. Runs that are there are not repeated, so the same
command goes on after an interruption.
"""
import argparse
import math
import random
import shlex
import statistics
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import timm

from experiments.report import break_options, describe_costs, describe_machines, make_table, mean_and_deviation
from experiments.runs import (
    add_row,
    describe_machine,
    describe_place,
    draw_network,
    find_row,
    find_script,
    read_rows,
    Row,
    train,
    write_rows,
)
from experiments.statistics import Effect, holm, LEVEL, peak, pool, smallest_effect, unpaired_effect
from timm_mobilenext.shared.files import replacing

RESULTS = Path(__file__).parent.parent / 'results' / 'tin100'
NUM_CLASSES, IMG_SIZE = 100, 64
LEARNING_RATES = 0.1, 0.2, 0.4, 0.8
PILOT_EPOCHS, EPOCHS = 6, 16
RECIPE = (
    f'--num-classes {NUM_CLASSES} --img-size {IMG_SIZE} --crop-pct 1.0 --batch-size 128'
    ' --opt sgd --momentum 0.9 --weight-decay 1e-4 --sched cosine --sched-on-updates --warmup-epochs 1 --warmup-lr 1e-3'
    ' --scale 0.5 1.0 --color-jitter 0 --smoothing 0.1 --model-ema --model-ema-decay 0.998'
    ' --device cpu --channels-last --workers 1 --log-interval 100 --checkpoint-hist 1'
)
FINAL_RECIPE = '--model-ema-warmup'


# networks that have no name in timm: the network that they are made of, and what is changed
CHANGED: Mapping[str, Tuple[str, Dict[str, Any]]] = dict(
    narrow_050=('mobilenext_050', dict(narrow_skip=True)),
    # without the first add at stride 16 and at stride 32: each stage has as many adds as with narrow shortcuts
    wide_050_10=('mobilenext_050', dict(arch_def=[
        ['sg_r1_k3_s2_e2_c96'],
        ['sg_r1_k3_s1_e6_c144_keepdw'],
        ['sg_r3_k3_s2_e6_c192'],
        ['sg_r2_k3_s2_e6_c288_noskip', 'sg_r1_k3_s1_e6_c288'],
        ['sg_r4_k3_s1_e6_c384'],
        ['sg_r2_k3_s2_e6_c576_noskip', 'sg_r2_k3_s1_e6_c576'],
        ['sg_r3_k3_s1_e6_c960'],
        ['sg_r1_k3_s1_e6_c1280_keepdw_keepc'],
    ])),
)


@dataclass(frozen=True)
class Arm:
    """A network by timm's name or of `CHANGED`, the number of its runs, and the schemes that its pilots try."""
    model: str
    runs: int
    schemes: Tuple[str, ...] = ('authors',)


@dataclass(frozen=True)
class Table:
    """Arms that are trained together, and the claims about them.

    Args:
        arms: What is trained.
        claims: Pairs of networks. The difference of each pair is tested, the first less the second.
        beside: Networks of another table that this one compares with.
    """
    arms: Sequence[Arm]
    claims: Sequence[Tuple[str, str]]
    beside: Tuple[str, ...] = ()

    @property
    def models(self) -> List[str]:
        return [*self.beside, *(arm.model for arm in self.arms)]


BOTH = 'authors', 'timm'
PEERS = 'mnasnet_050', 'semnasnet_050', 'lcnet_075', 'repghostnet_080'
TABLES = dict(
    headline=Table(
        [Arm('mobilenext_075', 8), Arm('mobilenetv2_075', 8)],
        [('mobilenext_075', 'mobilenetv2_075')]),
    attention=Table(
        [Arm('mobilenext_050', 6), Arm('mobilenext_050_se', 6), Arm('mobilenext_050_ca', 6)],
        [('mobilenext_050_se', 'mobilenext_050'), ('mobilenext_050_ca', 'mobilenext_050')]),
    today=Table(
        [Arm('mobilenetv2_050', 3), *(Arm(model, 3, BOTH) for model in PEERS)],
        [('mobilenext_050', model) for model in ('mobilenetv2_050', *PEERS)],
        beside=('mobilenext_050',)),
    shortcut=Table(
        [Arm('narrow_050', 6), Arm('wide_050_10', 6)],
        [('narrow_050', 'mobilenext_050'), ('wide_050_10', 'mobilenext_050'), ('narrow_050', 'wide_050_10')],
        beside=('mobilenext_050',)),
)


RUNS = {arm.model: arm.runs for table in TABLES.values() for arm in table.arms}
Ended = Mapping[str, List[Row]]  # final rows of each network, without repeats


def find_network(model: str) -> Tuple[str, Dict[str, Any]]:
    """The name of a network in timm, and the arguments that change it."""
    return CHANGED.get(model, (model, {}))


@dataclass(frozen=True)
class Run:
    stage: str  # pilot or final
    model: str
    scheme: str
    lr: float
    seed: int
    repeat: int = 0

    @property
    def name(self) -> str:
        repeat = '-repeat' * bool(self.repeat)
        return f'{self.stage}-{self.model}-{self.scheme}-lr{self.lr:g}-seed{self.seed}{repeat}'

    @property
    def arguments(self) -> List[str]:
        is_pilot = self.stage == 'pilot'
        epochs, split, interval = (PILOT_EPOCHS, 'tune', 3) if is_pilot else (EPOCHS, 'validation', 4)
        name, kwargs = find_network(self.model)
        changes = ['--model-kwargs', *(f'{key}={value}' for key, value in kwargs.items())] if kwargs else []
        return [
            '--model', name, *changes, *RECIPE.split(), '--lr', f'{self.lr:g}', '--epochs', str(epochs),
            '--seed', str(self.seed), '--val-split', split, '--val-interval', str(interval),
            *([] if is_pilot else [FINAL_RECIPE]),  # without it, the average is blind: experiments/README.md
        ]

    def find(self, rows: List[Row]) -> Optional[Row]:
        """Its row, if it has ended with these very arguments."""
        return find_row(rows, self.name, self.arguments)


def pilots(arm: Arm) -> List[Run]:
    return [Run('pilot', arm.model, scheme, lr, 0) for scheme in arm.schemes for lr in LEARNING_RATES]


def choose(arm: Arm, rows: List[Row]) -> Optional[Tuple[str, float]]:
    """Scheme and learning rate by the pilots, or None while a pilot is missing."""
    scores: Dict[str, List[float]] = {}
    for run in pilots(arm):
        row = run.find(rows)
        if row is None:
            return None
        scores.setdefault(run.scheme, []).append(float(row['top1']))
    scheme = max(scores, key=lambda scheme: max(scores[scheme]))
    return scheme, peak(LEARNING_RATES, scores[scheme])


def finals(arms: Sequence[Arm], rows: List[Row]) -> List[Run]:
    """All runs of a table in an order drawn once, an earlier one repeated after every fifth.

    There are none before the last pilot of the table has ended.
    """
    runs: List[Run] = []
    for arm in arms:
        choice = choose(arm, rows)
        if choice is None:
            return []
        runs += [Run('final', arm.model, *choice, seed) for seed in range(1, arm.runs + 1)]
    order = random.Random(0)
    order.shuffle(runs)
    planned: List[Run] = []
    repeated: set = set()
    for number, run in enumerate(runs, 1):
        planned.append(run)
        if number % 5 == 0:
            again = order.choice([earlier for earlier in runs[:number] if earlier not in repeated])
            repeated.add(again)
            planned.append(Run('final', again.model, again.scheme, again.lr, again.seed, repeat=1))
    return planned


def plan(name: str, rows: List[Row]) -> List[Run]:
    """All runs of a table in their order, as far as the rows decide them: pilots first."""
    arms = TABLES[name].arms
    return [run for arm in arms for run in pilots(arm)] + finals(arms, rows)


def execute(run: Run, script: Path, data_dir: Path, output: Path, results: Path) -> None:
    """Train, and keep the row once the training has ended."""
    name, kwargs = find_network(run.model)
    network = draw_network(run.scheme, run.seed, name, num_classes=NUM_CLASSES, **kwargs)
    training = train(script, data_dir, output / run.name, network, run.arguments)
    epochs = training.epochs()
    write_rows(results / 'epochs' / f'{run.name}.csv', epochs)
    last = epochs[-1]
    add_row(results / 'runs.csv', dict(
        name=run.name, stage=run.stage, model=run.model, scheme=run.scheme, lr=run.lr, seed=run.seed, repeat=run.repeat,
        **{key: last[key] for key in ('epoch', 'top1', 'loss', 'ema_top1', 'ema_loss')},
        minutes=round(training.cpu_minutes, 1), **describe_machine(), arguments=shlex.join(run.arguments)))
    print(f'{run.name:55} top-1 {last["top1"]:6.2f} %   {training.cpu_minutes:.1f} min of CPU', flush=True)


def train_table(name: str, script: Path, data_dir: Path, output: Path, results: Path) -> None:
    """Train the runs of a table that have not ended, one after the other."""
    while True:
        rows = read_rows(results / 'runs.csv')
        waiting = [run for run in plan(name, rows) if run.find(rows) is None]
        if not waiting:
            return
        execute(waiting[0], script, data_dir, output, results)


def print_plan(name: str, rows: List[Row]) -> None:
    """Print the runs of a table, each with its top-1 if it has ended."""
    for run in plan(name, rows):
        row = run.find(rows)
        print(f'{run.name:55} {row["top1"] if row else "-"}')


NETWORKS = 'network', 'parameters', 'MACs', 'activations'
PILOTED = 'network', 'weights drawn by', *(f'top-1 at {lr:g}' for lr in LEARNING_RATES), 'rate taken'
FINALS = (
    'network', 'weights drawn by', 'learning rate', 'runs', 'top-1', 'loss', 'top-1 of averaged weights',
    'CPU minutes a run')
CLAIMS = (
    'the first less the second', 'top-1, points', '95% interval', 'p by Holm', 'verdict', 'smallest effect', 'loss',
    '95% interval')
REPEATS = 'network', 'seed', 'top-1', 'repeated', 'difference', 'machine of the repeat'
REPORT = f"""# Tiny ImageNet, {NUM_CLASSES} classes

Made by `python -m experiments.tin100 report` from [runs.csv](runs.csv). The [design](../../experiments/README.md) was
written before the first run, and says what these tables can decide.

- Parameters, MACs and activations are those of one image of {IMG_SIZE} px.
- Pilots have {PILOT_EPOCHS} epochs and are scored on `tune`. Runs have {EPOCHS} epochs and are scored on `validation`,
  after the last one. Top-1 is in percent, and ± is the deviation of a run.
- Intervals are Student's t of unpaired runs, with the variance pooled over the arms of a table.
- p-values are two-sided, by Holm's correction over the claims of a table. A verdict is at {LEVEL:.0%}, on top-1 alone.
- The smallest effect, in points of top-1, is one that the table would have shown with a power of 80%. Its level is that
  of Holm's first step, {LEVEL:.0%} divided by the number of claims.

{{tables}}

## Recipe

```
train.py {break_options(RECIPE)}
```

Runs have `{FINAL_RECIPE}` too, for the averaged weights, which decide nothing.

Machine: {{machine}}.{{strangers}}
"""


def report(results: Path) -> None:
    """Write tables of the runs that have ended, from their rows alone."""
    rows = read_rows(results / 'runs.csv')
    if not rows:
        raise SystemExit(f'{results} holds no runs: train some first.')
    text = describe(rows)
    with replacing(results / 'README.md') as new:
        new.write_text(text, encoding='utf-8')
    print(text)


def describe(rows: List[Row]) -> str:
    """The report on rows, in Markdown."""
    planned = [run for name in TABLES for run in plan(name, rows)]
    strangers = [f'`{row["name"]}`' for row in rows if not any(run.find([row]) for run in planned)]
    ended: Dict[str, List[Row]] = {}
    for run in planned:
        row = run.find(rows)
        if row and (run.stage, run.repeat) == ('final', 0):
            ended.setdefault(run.model, []).append(row)
    return REPORT.format(
        tables='\n\n'.join(
            describe_table(name, rows, ended) for name, table in TABLES.items()
            if any(run.find(rows) for run in plan(name, rows))),
        machine=describe_machines(rows),
        strangers=f'\n\nLeft out, as the plan has no such run: {", ".join(strangers)}.' if strangers else '',
    )


def describe_table(name: str, rows: List[Row], ended: Ended) -> str:
    """A table of the design: what its networks cost, their pilots, their runs, the claims and the repeats."""
    table = TABLES[name]
    known = [model for model in table.models if any(row['model'] == model for row in rows)]
    trained = [model for model in table.models if model in ended]
    repeats = find_repeats(table, rows)
    parts = [
        f'## {name}', make_table(NETWORKS, map(describe_network, known)),
        '### Pilots', make_table(PILOTED, describe_pilots(table, rows))]
    if trained:
        parts += ['### Runs', make_table(FINALS, (describe_runs(model, ended[model]) for model in trained))]
        if len({row['machine'] for model in trained for row in ended[model]}) > 1:
            parts.append('These runs are of more than one kind of machine, so their minutes do not compare.')
        parts += ['### Claims', make_table(CLAIMS, judge(table, ended))]
    if repeats:
        parts += ['### Repeats with the same seed', make_table(REPEATS, map(describe_repeat, repeats))]
        for where in ('the same', 'another'):
            those = [repeat for repeat in repeats if describe_place(repeat) == where]
            if those:
                parts.append(
                    f'With the same seed on {where} kind of machine, the deviation of a run is'
                    f' {deviation_of_repeats(those):.2f} points.')
    return '\n\n'.join(parts)


@cache
def describe_network(model: str) -> Tuple:
    """A network, and what it costs."""
    name, kwargs = find_network(model)
    network = timm.create_model(name, num_classes=NUM_CLASSES, device='meta', **kwargs)
    return f'`{model}`', *describe_costs(network, IMG_SIZE)


def describe_pilots(table: Table, rows: List[Row]) -> Iterator[Tuple]:
    """A row for each network and scheme, with the rate where the scheme was taken."""
    for arm in table.arms:
        choice = choose(arm, rows)
        for scheme in arm.schemes:
            found = [run.find(rows) for run in pilots(arm) if run.scheme == scheme]
            rate = 'pilots are missing' if choice is None else f'{choice[1]:g}' if choice[0] == scheme else '-'
            yield f'`{arm.model}`', scheme, *(f'{float(row["top1"]):.2f}' if row else '-' for row in found), rate


def describe_runs(model: str, ended: List[Row]) -> Tuple:
    """What the runs of a network came to."""
    top1, loss, ema_top1, minutes = (
        [float(row[key]) for row in ended] for key in ('top1', 'loss', 'ema_top1', 'minutes'))
    return (
        f'`{model}`', ended[0]['scheme'], ended[0]['lr'], f'{len(ended)} of {RUNS[model]}', mean_and_deviation(top1),
        f'{statistics.mean(loss):.3f}', mean_and_deviation(ema_top1), f'{statistics.mean(minutes):.0f}')


def compare(table: Table, ended: Ended, key: str) -> Dict[Tuple[str, str], Effect]:
    """The effect of each claim whose networks have runs, once there are enough runs for an interval."""
    values = {model: [float(row[key]) for row in ended[model]] for model in table.models if model in ended}
    pooled = pool(values.values())
    return {
        (first, second): unpaired_effect(values[first], values[second], pooled) for first, second in table.claims
        if pooled and first in values and second in values}


def judge(table: Table, ended: Ended) -> Iterator[Tuple]:
    """A row for each claim. There is no verdict before all runs of the table have ended."""
    top1, loss = (compare(table, ended, key) for key in ('top1', 'loss'))
    number, planned = (sum(numbers) for numbers in zip(
        *((len(ended.get(model, ())), RUNS[model]) for model in table.models), strict=True))
    corrected = holm({claim: effect.p for claim, effect in top1.items()}) if number == planned else {}
    for claim in table.claims:
        first, second = claim
        what = f'`{first}` less `{second}`'
        if claim not in top1:
            yield what, *['-'] * 3, 'too few runs have ended', *['-'] * 3
            continue
        effect, p, smallest, verdict = top1[claim], '-', '-', f'not decided, {number} of {planned} runs have ended'
        if corrected:
            p = f'{corrected[claim]:.3f}' if corrected[claim] >= 0.001 else '< 0.001'
            smallest = f'{smallest_effect(effect.error, effect.freedom, LEVEL / len(table.claims)):.2f}'
            verdict = 'no difference is shown' if corrected[claim] >= LEVEL else (
                f'**`{first if effect.mean > 0 else second}` is better**')
        yield (
            what, f'{effect.mean:+.2f}', f'{effect.low:+.2f} to {effect.high:+.2f}', p, verdict, smallest,
            f'{loss[claim].mean:+.3f}', f'{loss[claim].low:+.3f} to {loss[claim].high:+.3f}')


def find_repeats(table: Table, rows: List[Row]) -> List[Tuple[Row, Row]]:
    """Rows of runs and of their repeats, where both have ended."""
    repeats = []
    for run in finals(table.arms, rows):
        first, second = replace(run, repeat=0).find(rows), run.find(rows)
        if run.repeat and first and second:
            repeats.append((first, second))
    return repeats


def describe_repeat(repeat: Tuple[Row, Row]) -> Tuple:
    """A run and its repeat, side by side."""
    first, second = (float(row['top1']) for row in repeat)
    return (
        f'`{repeat[0]["model"]}`', repeat[0]['seed'], f'{first:.2f}', f'{second:.2f}', f'{second - first:+.2f}',
        describe_place(repeat))


def deviation_of_repeats(repeats: List[Tuple[Row, Row]]) -> float:
    """The deviation of a run's top-1 when nothing but the machine changes."""
    squares = [(float(second['top1']) - float(first['top1'])) ** 2 for first, second in repeats]
    return math.sqrt(statistics.mean(squares) / 2)  # a difference has the variance of both runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest='command', required=True)
    plan_command = commands.add_parser('plan', help='list the runs of tables, and what has ended')
    run_command = commands.add_parser('run', help='train the runs of tables that have not been trained yet')
    report_command = commands.add_parser('report', help='write tables of the runs that have ended')
    for command in (plan_command, run_command):
        command.add_argument('tables', nargs='+', choices=TABLES, help='tables of the design, in their order')
    run_command.add_argument('--timm', type=Path, required=True, metavar='DIR', help='checkout of timm')
    run_command.add_argument('--data-dir', type=Path, required=True, metavar='DIR', help='folder of tin100')
    run_command.add_argument(
        '--output', type=Path, default=Path('output'), metavar='DIR', help='folder for checkpoints')
    for command in (plan_command, run_command, report_command):
        command.add_argument('--results', type=Path, default=RESULTS, metavar='DIR', help='folder of the rows')
    args = parser.parse_args()
    if args.command == 'report':
        report(args.results)
        return
    for name in args.tables:
        if args.command == 'plan':
            print_plan(name, read_rows(args.results / 'runs.csv'))
        else:
            train_table(name, find_script(args.timm), args.data_dir, args.output, args.results)


if __name__ == '__main__':
    main()
