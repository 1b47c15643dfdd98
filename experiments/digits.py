"""The two tables of docs/training.md on scikit-learn's handwritten digits.

    python -m experiments.digits demo                                     # the demo by seed
    python -m experiments.digits fine-tune --timm pytorch-image-models    # the wheel's network by what is trained
    python -m experiments.digits report                                   # prints both tables from the rows

A run that has ended leaves a row in results/digits/. Runs that are there are not repeated.
"""
import argparse
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List, Tuple

from experiments.report import make_table, mean_and_deviation
from experiments.runs import (
    add_row,
    describe_machine,
    find_row,
    find_script,
    make_folder,
    read_rows,
    Row,
    start,
    Training,
)
from timm_mobilenext.classify.demo import write_digits

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / 'results' / 'digits'
PAGE = ROOT / 'docs' / 'training.md'
DEMO_SEEDS = range(4)
DEMO_TOP1 = re.compile(r'^top-1 +raw (\S+) %, EMA (\S+) %', re.MULTILINE)
DEMO = 'seed', 'raw top-1', 'EMA top-1'
SEEDS = range(3)
RECIPE = (
    '--num-classes 10 --img-size 64 --crop-pct 1.0 --batch-size 64 --epochs 3 --warmup-epochs 1 --opt adamw'
    ' --weight-decay 0.05 --train-crop-mode rkrr --scale 0.8 1.25 --hflip 0 --color-jitter 0 --workers 1 --device cpu'
    ' --channels-last'
)
WHEEL = '--model mobilenext_050.cifar10 --pretrained'
FROZEN = '--model frozen_body --pretrained --device-modules frozen'
FINE_TUNED = 'started from', '`--lr`', 'trained', 'top-1 of 364 scans'


@dataclass(frozen=True)
class Start:
    """What a training starts from, what it trains, and the arguments that make it so."""
    name: str
    weights: str
    trained: str
    lr: str
    arguments: str


STARTS = (
    Start('random', 'random weights', 'all', '2e-3', '--model mobilenext_050'),
    Start('all', "the wheel's weights", 'all', '2e-3', WHEEL),
    Start('all', "the wheel's weights", 'all', '5e-4', WHEEL),
    Start('all', "the wheel's weights", 'all', '1e-4', WHEEL),
    Start('slower', "the wheel's weights", 'all, early blocks slower: `--layer-decay 0.8`', '2e-3',
          f'{WHEEL} --layer-decay 0.8'),
    Start('last', "the wheel's weights",
          'the classifier and the last six blocks: `--layer-decay 0.5 --layer-decay-no-opt-scale 0.01`', '2e-3',
          f'{WHEEL} --layer-decay 0.5 --layer-decay-no-opt-scale 0.01'),
    Start('classifier', "the wheel's weights", f'the classifier: `{FROZEN}`', '1e-2', FROZEN),
)


def keep(file: str, name: str, arguments: List[str], training: Training, **figures: float) -> None:
    """Add the row of a run that has ended."""
    minutes = round(training.cpu_minutes, 2)
    add_row(RESULTS / file, dict(
        name=name, **figures, minutes=minutes, **describe_machine(), arguments=shlex.join(arguments)))
    print(f'{name:20}', *(f'{key} {value:6.2f}' for key, value in figures.items()), f'{minutes} min of CPU', flush=True)


def run_demo(output: Path) -> None:
    """Run the demo with each seed that has no row."""
    rows = read_rows(RESULTS / 'demo.csv')
    for seed in DEMO_SEEDS:
        name, arguments = f'seed{seed}', ['demo', '--seed', str(seed)]
        if find_row(rows, name, arguments):
            continue
        folder = output / name
        make_folder(folder)
        training = start(folder, ['-m', 'timm_mobilenext', *arguments, '--output', str(folder / 'demo')])
        found = DEMO_TOP1.search((folder / 'train.log').read_text())
        assert found, 'the demo printed no top-1'
        keep('demo.csv', name, arguments, training, raw=float(found[1]), ema=float(found[2]))


def plan(begun: Start) -> Iterator[Tuple[str, List[str]]]:
    """Names and arguments of the fine-tunings from a start, one for each seed."""
    for seed in SEEDS:
        arguments = [*RECIPE.split(), *begun.arguments.split(), '--lr', begun.lr, '--seed', str(seed)]
        yield f'{begun.name}-lr{begun.lr}-seed{seed}', arguments


def fine_tune(script: Path, output: Path) -> None:
    """Run train.py with each start and seed that has no row."""
    data_dir = output / 'digits'
    write_digits(data_dir)
    frozen = re.search(r'```python\n(# frozen\.py.*?)```', PAGE.read_text(encoding='utf-8'), re.DOTALL)
    assert frozen, f'{PAGE} has no frozen.py'
    (output / 'frozen.py').write_text(frozen[1])
    paths = os.pathsep.join(filter(None, (str(output.resolve()), os.environ.get('PYTHONPATH'))))
    rows = read_rows(RESULTS / 'fine_tuning.csv')
    for name, arguments in (run for begun in STARTS for run in plan(begun)):
        if not find_row(rows, name, arguments):
            folder = output / name
            make_folder(folder)
            training = start(folder, [
                '-P', str(script), '--data-dir', str(data_dir), *arguments, '--output', str(folder)], PYTHONPATH=paths)
            keep('fine_tuning.csv', name, arguments, training, top1=training.epochs()[-1]['top1'])


def make_tables(demo: List[Row], fine_tuning: List[Row]) -> List[str]:
    """Both tables of the page, in Markdown."""
    seeds = [(row['name'].removeprefix('seed'), f'{row["raw"]} %', f'{row["ema"]} %') for row in demo]
    starts = []
    for begun in STARTS:
        found = [find_row(fine_tuning, *run) for run in plan(begun)]
        top1 = [float(row['top1']) for row in found if row]
        if top1:
            starts.append((begun.weights, begun.lr, begun.trained, f'{mean_and_deviation(top1)} %'))
    return [make_table(DEMO, seeds), make_table(FINE_TUNED, starts)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest='command', required=True)
    for name, about in (('demo', 'run the demo by seed'), ('fine-tune', 'fine-tune by train.py')):
        command = commands.add_parser(name, help=about)
        command.add_argument('--output', type=Path, default=Path('output/digits'), help='folder for what is trained')
        if name == 'fine-tune':
            command.add_argument('--timm', type=Path, required=True, help='checkout of timm')
    commands.add_parser('report', help='print both tables')
    args = parser.parse_args()
    if args.command == 'demo':
        run_demo(args.output)
    elif args.command == 'fine-tune':
        fine_tune(find_script(args.timm), args.output)
    else:
        print(*make_tables(*(read_rows(RESULTS / f'{name}.csv') for name in ('demo', 'fine_tuning'))), sep='\n\n')


if __name__ == '__main__':
    main()
