"""Networks of equal cost, trained alike on 100 classes of Tiny ImageNet. experiments/README.md has the design.

    python -m experiments.tin100 plan headline     # what has been run, and what is next
    python -m experiments.tin100 run headline --timm pytorch-image-models --data-dir tin100

train.py runs on the installed timm, by `python -P`, which needs Python 3.11. A run that has ended leaves a row in
results/tin100/runs.csv and its epochs in results/tin100/epochs/. What is there is not repeated, so the same command
goes on after an interruption.
"""
import argparse
import math
import random
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import numpy as np

from experiments.runs import add_row, describe_machine, draw_network, read_rows, train, write_rows

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


@dataclass(frozen=True)
class Arm:
    """A network, the number of its runs, and the schemes that its pilots try."""
    model: str
    runs: int
    schemes: Tuple[str, ...] = ('authors',)


BOTH = 'authors', 'timm'
TABLES = dict(
    headline=[Arm('mobilenext_075', 8), Arm('mobilenetv2_075', 8)],
    attention=[Arm('mobilenext_050', 6), Arm('mobilenext_050_se', 6), Arm('mobilenext_050_ca', 6)],
    today=[
        Arm('mobilenetv2_050', 3),
        *(Arm(model, 3, BOTH) for model in ('mnasnet_050', 'semnasnet_050', 'lcnet_075', 'repghostnet_080')),
    ],
)


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
        epochs, split, interval = (PILOT_EPOCHS, 'tune', 3) if self.stage == 'pilot' else (EPOCHS, 'validation', 4)
        return [
            '--model', self.model, *RECIPE.split(), '--lr', f'{self.lr:g}', '--epochs', str(epochs),
            '--seed', str(self.seed), '--val-split', split, '--val-interval', str(interval),
        ]

    def row(self) -> Optional[Dict[str, str]]:
        """What is kept of it, if it has ended with these very arguments."""
        arguments = shlex.join(self.arguments)
        rows = read_rows(RESULTS / 'runs.csv')
        return next((row for row in rows if (row['name'], row['arguments']) == (self.name, arguments)), None)


def pilots(arm: Arm) -> List[Run]:
    return [Run('pilot', arm.model, scheme, lr, 0) for scheme in arm.schemes for lr in LEARNING_RATES]


def choose(arm: Arm) -> Optional[Tuple[str, float]]:
    """Scheme and learning rate by the pilots, or None while one of them is missing."""
    scores: Dict[str, List[float]] = {}
    for run in pilots(arm):
        row = run.row()
        if row is None:
            return None
        scores.setdefault(run.scheme, []).append(float(row['top1']))
    scheme = max(scores, key=lambda scheme: max(scores[scheme]))
    return scheme, peak(LEARNING_RATES, scores[scheme])


def peak(rates: Tuple[float, ...], scores: List[float]) -> float:
    """Where the least-squares parabola over the rates' logarithm peaks, to two digits; the best rate if it does not."""
    a, b, _ = np.polyfit(np.log(rates), scores, 2)
    rate = math.exp(-b / (2 * a)) if a < 0 else math.inf
    if not min(rates) <= rate <= max(rates):
        return rates[int(np.argmax(scores))]
    return float(f'{rate:.2g}')


def finals(arms: List[Arm]) -> List[Run]:
    """All runs of a table in an order drawn once, an earlier one repeated after every fifth."""
    chosen = {arm: choose(arm) for arm in arms}
    if None in chosen.values():
        return []
    order = random.Random(0)
    runs = [Run('final', arm.model, *chosen[arm], seed) for arm in arms for seed in range(1, arm.runs + 1)]
    order.shuffle(runs)
    planned: List[Run] = []
    repeated: set = set()
    for count, run in enumerate(runs, 1):
        planned.append(run)
        if count % 5 == 0:
            again = order.choice([earlier for earlier in runs[:count] if earlier not in repeated])
            repeated.add(again)
            planned.append(Run('final', again.model, again.scheme, again.lr, again.seed, repeat=1))
    return planned


def plan(table: str) -> List[Run]:
    arms = TABLES[table]
    return [run for arm in arms for run in pilots(arm)] + finals(arms)


def execute(run: Run, script: Path, data_dir: Path, output: Path) -> None:
    """Train, and keep the row once it has ended."""
    network = draw_network(run.scheme, run.seed, run.model, num_classes=NUM_CLASSES)
    training = train(script, data_dir, output / run.name, network, run.arguments)
    epochs = training.epochs()
    write_rows(RESULTS / 'epochs' / f'{run.name}.csv', epochs)
    last = epochs[-1]
    add_row(RESULTS / 'runs.csv', dict(
        name=run.name, stage=run.stage, model=run.model, scheme=run.scheme, lr=run.lr, seed=run.seed, repeat=run.repeat,
        **{key: last[key] for key in ('epoch', 'top1', 'loss', 'ema_top1', 'ema_loss')},
        minutes=round(training.cpu_minutes, 1), **describe_machine(), arguments=shlex.join(run.arguments)))
    print(f'{run.name:55} top-1 {last["top1"]:6.2f} %   {training.cpu_minutes:.1f} min of CPU', flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest='command', required=True)
    for command, text in dict(plan='list the runs of tables', run='train what has not been trained yet').items():
        parser_of_command = commands.add_parser(command, help=text)
        parser_of_command.add_argument('tables', nargs='+', choices=TABLES)
    parser_of_command.add_argument('--timm', type=Path, required=True, metavar='DIR', help='checkout of timm')
    parser_of_command.add_argument('--data-dir', type=Path, required=True, metavar='DIR', help='folder of tin100')
    parser_of_command.add_argument('--output', type=Path, default=Path('output'), metavar='DIR', help='for checkpoints')
    args = parser.parse_args()
    for table in args.tables:
        if args.command == 'plan':
            for run in plan(table):
                row = run.row()
                print(f'{run.name:55} {row["top1"] if row else "-"}')
            continue
        while waiting := [run for run in plan(table) if run.row() is None]:
            execute(waiting[0], args.timm / 'train.py', args.data_dir, args.output)


if __name__ == '__main__':
    main()
