"""Does the sandglass earn its place? mobilenext_075 against mobilenetv2_075 on an image folder, by timm's own train.py.

    python -m experiments.training run --timm pytorch-image-models --data-dir cifar10    # both stages, all runs
    python -m experiments.training report                                                # results/training/README.md

The two networks differ by 0.6 % in MACs and get the same recipe. Pilots of two epochs try each network with weights by
the authors' scheme and by timm's, at two learning rates. The better scheme is tried at a third rate. The best pilot of
each network is then trained with three other seeds. Initial weights are drawn here and passed to train.py by
--initial-checkpoint, so that both networks can have either scheme.

train.py runs on the installed timm, by `python -P`, which needs Python 3.11. A run that has ended leaves two files in
results/training: the CSV that timm wrote, and JSON with the command. Runs that are there are not repeated, so the same
command goes on after an interruption.
"""
import argparse
import shlex
import statistics
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

from rich.console import Console

import timm

from experiments.report import (
    break_options,
    describe_costs,
    describe_data_sets,
    describe_machines,
    describe_pairs,
    draw_comparison,
    make_table,
    mean_and_deviation,
)
from experiments.runs import (
    describe_data,
    draw_network,
    EPOCHS,
    find_script,
    IMG_SIZE,
    KeptRun,
    make_arguments,
    RECIPE,
    run_side_by_side,
    train,
)
from timm_mobilenext.classify.image_folder import check_image_folder
from timm_mobilenext.shared.files import replacing

ROOT = Path(__file__).parent.parent
MODELS = ('mobilenext_075', 'mobilenetv2_075')
SCHEMES = ('authors', 'timm')
LEARNING_RATES = (0.1, 0.4)
BEYOND = 'authors', 1.0  # the better scheme at a higher rate, for 0.4 was better than 0.1
PILOT_SEED, SEEDS = 0, (1, 2, 3)
PILOT_EPOCHS = 2


@dataclass(frozen=True)
class Run(KeptRun):
    stage: str
    model: str
    scheme: str
    lr: float
    seed: int

    results = ROOT / 'results' / 'training'
    recipe = RECIPE

    @property
    def name(self) -> str:
        return f'{self.stage}-{self.model}-{self.scheme}-lr{self.lr:g}-seed{self.seed}'

    @property
    def epochs(self) -> int:
        return PILOT_EPOCHS if self.stage == 'pilot' else EPOCHS

    def top1(self) -> float:
        """Top-1 in percent after the last epoch."""
        return self.read()[-1]['eval_top1']


PILOTS = [
    *(Run('pilot', model, scheme, lr, PILOT_SEED) for lr in LEARNING_RATES for scheme in SCHEMES for model in MODELS),
    *(Run('pilot', model, *BEYOND, PILOT_SEED) for model in MODELS),
]


def finals() -> List[Run]:
    """Three seeds of what was best for each network in the pilots."""
    best = [max((run for run in PILOTS if run.model == model), key=Run.top1) for model in MODELS]
    return [Run('final', run.model, run.scheme, run.lr, seed) for seed in SEEDS for run in best]


def execute(run: Run, script: Path, data_dir: Path, data: Dict[str, int], output: Path) -> None:
    """Train, and keep timm's log once the training has ended."""
    arguments = make_arguments(run.model, data['classes'], run.lr, run.epochs, run.seed)
    network = draw_network(run.scheme, run.seed, run.model, num_classes=data['classes'])
    training = train(script, data_dir, output / run.name, network, arguments)
    run.keep(
        training.summary,
        data=describe_data(data_dir, data),
        arguments=shlex.join(arguments),
        initial_weights=f'drawn by the {run.scheme} scheme',
        minutes=round(training.minutes, 1),
    )
    print(f'{run.name:55} top-1 {run.top1():6.2f} %   {training.minutes:.1f} min', flush=True)


def run_all(args: argparse.Namespace) -> None:
    """Train the runs of the stages that have not been trained yet."""
    script = find_script(args.timm)
    data = check_image_folder(args.data_dir, Console())
    for stage in args.stages:
        runs = [run for run in (PILOTS if stage == 'pilot' else finals()) if not run.is_done]
        run_side_by_side(args.jobs, [partial(execute, run, script, args.data_dir, data, args.output) for run in runs])


def runs_done() -> Tuple[List[Run], List[Run]]:
    """Pilots and finals that have ended. There are no finals before the last pilot."""
    pilots = [run for run in PILOTS if run.is_done]
    return pilots, [run for run in finals() if run.is_done] if len(pilots) == len(PILOTS) else []


def report() -> None:
    """Write tables and a picture of what has been trained, and of nothing else."""
    pilots, trained = runs_done()
    if not pilots:
        raise SystemExit(f'{Run.results} holds no runs: train some first.')
    if trained:
        logs = {
            model: {run.seed: [(row['epoch'] + 1, row['eval_top1']) for row in run.read()]
                    for run in trained if run.model == model}
            for model in MODELS}
        with replacing(Run.results / 'comparison.png') as new:
            draw_comparison(new, logs, 'top-1', 'points of top-1')
    text = describe(pilots, trained)
    with replacing(Run.results / 'README.md') as new:
        new.write_text(text, encoding='utf-8')
    print(text)


def describe(pilots: List[Run], trained: List[Run]) -> str:
    """The report on runs that have ended, in Markdown."""
    about = [run.facts() for run in trained or pilots]
    return README.format(
        pictures='![Top-1 by epoch, after the last one, and its difference](comparison.png)\n\n' if trained else '',
        recipe=break_options(RECIPE),
        data=describe_data_sets(about),
        machine=describe_machines(about),
        networks=make_table(NETWORKS, [
            (f'`{model}`', *describe_costs(timm.create_model(model, num_classes=10, device='meta'), IMG_SIZE)[:2])
            for model in MODELS]),
        finals=make_table(FINALS, summarize(trained)) if trained else 'No run has ended yet.',
        difference=describe_pairs(f'`{MODELS[0]}` less `{MODELS[1]}`', 'points', *(
            {run.seed: run.top1() for run in trained if run.model == model} for model in MODELS)),
        pilots=make_table(PILOTED, [
            (run.model, run.scheme, f'{run.lr:g}', f'{run.top1():.2f}', f"{run.facts()['minutes']:.0f}")
            for run in pilots]),
    )


def summarize(trained: List[Run]) -> Iterator[Tuple]:
    """A row of the table of finals for each network."""
    for model in MODELS:
        runs = [run for run in trained if run.model == model]
        if runs:
            top1 = [run.top1() for run in runs]
            minutes = statistics.mean(run.facts()['minutes'] for run in runs)
            yield (
                f'`{model}`', runs[0].scheme, f'{runs[0].lr:g}', len(runs), mean_and_deviation(top1),
                ', '.join(f'{value:.2f}' for value in top1), f'{minutes:.0f}')


NETWORKS = 'network', 'parameters', f'MACs at {IMG_SIZE} px'
FINALS = 'network', 'weights drawn by', 'learning rate', 'seeds', 'top-1, mean and deviation', 'each', 'minutes a run'
PILOTED = 'network', 'weights drawn by', 'learning rate', 'top-1', 'minutes'
README = f"""# MobileNeXt and MobileNetV2, trained alike

{{pictures}}`python -m experiments.training run` trained these networks at {IMG_SIZE} px, and
`python -m experiments.training report` made this page. Each `.csv` is a log of timm's train.py. The `.json` beside it
has the command.

Data: {{data}}

{{networks}}

## {EPOCHS} epochs

{{finals}}

{{difference}}

## Pilots of {PILOT_EPOCHS} epochs

{{pilots}}

Both networks had all of these pilots, with seed {PILOT_SEED}. The longer runs took the best setting of
each, with other seeds.

## Recipe

```
train.py {{recipe}}
```

Machine: {{machine}}.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest='command', required=True)
    run = commands.add_parser('run', help='train the runs that have not been trained yet')
    run.add_argument('--timm', type=Path, required=True, metavar='DIR', help='checkout of timm')
    run.add_argument(
        '--data-dir', type=Path, required=True, metavar='DIR', help='image folder with train/ and validation/')
    run.add_argument(
        '--stages', nargs='+', choices=('pilot', 'final'), default=('pilot', 'final'), help='pilots, finals or both')
    run.add_argument('--jobs', type=int, default=2, help='runs side by side')
    run.add_argument(
        '--output', type=Path, default=ROOT / 'output' / 'training', metavar='DIR', help='folder for checkpoints')
    commands.add_parser('report', help='write tables and a picture of the runs that have ended')
    args = parser.parse_args()
    if args.command == 'run':
        run_all(args)
    report()


if __name__ == '__main__':
    main()
