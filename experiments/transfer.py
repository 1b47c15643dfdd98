"""Do MobileNeXt's features serve other tasks better than MobileNetV2's? experiments/README.md has the design.

    pip install '.[demo]' segmentation-models-pytorch torchmetrics
    python -m experiments.transfer run signs --timm pytorch-image-models --data-dir sign-digits --pretrained output
    python -m experiments.transfer run scenes --data-dir camvid --pretrained output
    python -m experiments.transfer report       # results/transfer/README.md, from the rows alone
    python -m experiments.transfer draw --data-dir camvid --output output/transfer    # results/transfer/scenes.png

`--pretrained` is the folder in which `tin100.py` trained the networks of its table `headline`. Each training is
fine-tuned once, so runs of a network are as independent as the trainings. A run that has ended leaves a row in
results/transfer/TASK.csv. Runs that are there are not repeated, and those whose training is missing wait for it.
"""
import argparse
import json
import shlex
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np

import timm

from experiments.report import describe_costs, describe_machines, make_table, mean_and_deviation, save
from experiments.runs import (
    add_row,
    describe_machine,
    draw_network,
    find_row,
    find_script,
    make_folder,
    read_rows,
    Row,
    start,
    train,
    Training,
)
from experiments.scenes import draw_scenes
from experiments.statistics import LEVEL, peak, pool, smallest_effect, unpaired_effect
from timm_mobilenext.checkpoints.read import read_checkpoint, select_state_dict
from timm_mobilenext.shared.files import replacing

RESULTS = Path(__file__).parent.parent / 'results' / 'transfer'
HEADLINE = RESULTS.parent / 'tin100' / 'runs.csv'
MODELS = 'mobilenext_075', 'mobilenetv2_075'
PILOT_SEED = 2
TUNE = 5  # every class of the signs lends the last of this many parts of its photographs to choose the rate on
SIGNS_RECIPE = (
    '--num-classes 10 --img-size 64 --crop-pct 1.0 --batch-size 64 --opt sgd --momentum 0.9 --weight-decay 1e-4'
    ' --sched cosine --sched-on-updates --warmup-epochs 1 --warmup-lr 1e-4 --scale 0.5 1.0 --color-jitter 0'
    ' --smoothing 0.1 --device cpu --channels-last --workers 1 --log-interval 100 --checkpoint-hist 1'
)
SCENES_RECIPE = '--batch-size 8'


@dataclass(frozen=True)
class Task:
    """What the networks are fine-tuned on.

    Args:
        title: Heading of the report.
        about: What it says of the data and the network.
        measure: What is measured, in percent.
        recipe: Arguments of every training.
        rates: Learning rates of the pilots.
        pilot_epochs: Epochs of a pilot.
        epochs: Epochs of a run.
        runs: Runs of each network.
        splits: Where pilots are scored, and where runs are.
    """
    title: str
    about: str
    measure: str
    recipe: str
    rates: Tuple[float, ...]
    pilot_epochs: int
    epochs: int
    runs: int
    splits: Tuple[str, str]


TASKS = dict(
    signs=Task(
        'Signs', 'Photographs of hands that show the digits 0 to 9, at 64 px. Most hands of `validation` are in no'
        ' other split. All of the network is trained, with a new classifier.',
        'top-1', SIGNS_RECIPE, (0.01, 0.03, 0.1, 0.3), 10, 20, 8, ('tune', 'validation')),
    scenes=Task(
        'Scenes', 'CamVid, road scenes of 320x240 px with 11 classes of pixels. The networks are encoders of'
        ' DeepLabV3+, made by segmentation_models.pytorch.',
        'mean IoU', SCENES_RECIPE, (5e-4, 1e-3, 2e-3, 4e-3), 8, 24, 3, ('val', 'test')),
)


@dataclass(frozen=True)
class Run:
    """A fine-tuning, from the headline's training of the same seed."""
    task: str
    stage: str  # pilot or final
    model: str
    lr: float
    seed: int

    @property
    def name(self) -> str:
        return f'{self.stage}-{self.model}-lr{self.lr:g}-seed{self.seed}'

    @property
    def arguments(self) -> List[str]:
        task = TASKS[self.task]
        epochs, split = (task.pilot_epochs, task.splits[0]) if self.stage == 'pilot' else (task.epochs, task.splits[1])
        return [
            '--model', self.model, *task.recipe.split(), '--lr', f'{self.lr:g}', '--epochs', str(epochs),
            '--seed', str(self.seed), '--val-split', split]

    def find(self, rows: List[Row]) -> Optional[Row]:
        """Its row, if it has ended with these very arguments."""
        return find_row(rows, self.name, self.arguments)


def pilots(task: str, model: str) -> List[Run]:
    return [Run(task, 'pilot', model, lr, PILOT_SEED) for lr in TASKS[task].rates]


def choose_rate(task: str, model: str, rows: List[Row]) -> Optional[float]:
    """The learning rate by the pilots, or None while one is missing."""
    found = [run.find(rows) for run in pilots(task, model)]
    return peak(TASKS[task].rates, [float(row['score']) for row in found if row]) if all(found) else None


def plan(task: str, rows: List[Row]) -> List[Run]:
    """All runs, as far as the rows decide them: pilots first, then the networks in turns."""
    runs = [run for model in MODELS for run in pilots(task, model)]
    rates = {model: choose_rate(task, model, rows) for model in MODELS}
    return runs + [
        Run(task, 'final', model, rate, seed) for seed in range(1, TASKS[task].runs + 1)
        for model, rate in rates.items() if rate and None not in rates.values()]


def find_checkpoint(pretrained: Path, model: str, seed: int) -> Optional[Path]:
    """The last weights of the headline's training, None before it has ended."""
    for file in pretrained.glob(f'final-{model}-*-seed{seed}/train/last.pth.tar'):
        checkpoint = read_checkpoint(file)
        if checkpoint['epoch'] + 1 == checkpoint['args'].epochs:
            return file
    return None


def split_signs(data_dir: Path, folder: Path) -> None:
    """Link the signs into a folder, with a split `tune` of the last photographs of each class of `train`."""
    for split in ('train', 'validation'):
        for classes in sorted((data_dir / split).iterdir()):
            files = sorted(classes.iterdir(), key=lambda file: (len(file.name), file.name))  # by the camera's number
            kept = len(files) - len(files) // TUNE if split == 'train' else len(files)
            for number, file in enumerate(files):
                link = folder / (split if number < kept else 'tune') / classes.name / file.name
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(file.resolve())


def train_signs(
        run: Run, checkpoint: Path, script: Path, data_dir: Path, folder: Path) -> Tuple[Training, Dict[str, Any]]:
    """Fine-tune a classifier by timm's train.py."""
    make_folder(folder)
    split_signs(data_dir, folder / 'signs')
    weights, _ = select_state_dict(read_checkpoint(checkpoint), ema=False)
    network = draw_network('authors', run.seed, run.model, num_classes=10)
    body = {key: value for key, value in weights.items() if not key.startswith('classifier.')}
    missing = network.load_state_dict(body, strict=False).missing_keys
    assert missing == ['classifier.weight', 'classifier.bias'], missing
    training = train(script, folder / 'signs', folder / 'run', network, run.arguments)
    last = training.epochs()[-1]
    return training, dict(score=last['top1'], loss=last['loss'])


def train_scenes(run: Run, checkpoint: Path, data_dir: Path, folder: Path) -> Tuple[Training, Dict[str, Any]]:
    """Train a segmentation network by segmentation.py."""
    make_folder(folder)
    training = start(folder, [
        '-m', 'experiments.segmentation', '--data-dir', str(data_dir), *run.arguments, '--checkpoint', str(checkpoint),
        '--output', str(folder)])
    metrics = json.loads((folder / 'metrics.json').read_text())
    overlaps = {name: round(value, 2) for name, value in metrics.pop('iou').items()}
    return training, dict(
        score=round(metrics.pop('miou'), 2), loss=round(metrics.pop('loss'), 4),
        **{key: int(value) for key, value in metrics.items()}, **overlaps)


def train_task(args: argparse.Namespace) -> None:
    """Train the runs of a task that have not ended and whose training is there, one after the other."""
    file = args.results / f'{args.task}.csv'
    while True:
        rows = read_rows(file)
        waiting = [run for run in plan(args.task, rows) if run.find(rows) is None]
        found = ((run, find_checkpoint(args.pretrained, run.model, run.seed)) for run in waiting)
        run, checkpoint = next((pair for pair in found if pair[1]), (None, None))
        if run is None or checkpoint is None:
            print(f'{len(waiting)} runs wait for their training.' if waiting else 'All runs have ended.')
            return
        folder = args.output / args.task / run.name
        if args.task == 'signs':
            training, figures = train_signs(run, checkpoint, find_script(args.timm), args.data_dir, folder)
        else:
            training, figures = train_scenes(run, checkpoint, args.data_dir, folder)
        add_row(file, dict(
            name=run.name, stage=run.stage, model=run.model, lr=run.lr, seed=run.seed, **figures,
            minutes=round(training.cpu_minutes, 1), **describe_machine(), arguments=shlex.join(run.arguments)))
        print(f'{run.name:45} {TASKS[args.task].measure} {figures["score"]:6.2f} %   {training.cpu_minutes:.1f} min')


NETWORKS = 'network', 'parameters', 'MACs', 'activations'
REPORT = """# Transfer

Made by `python -m experiments.transfer report` from the rows in the CSV files. The networks are those of
[Tiny ImageNet](../tin100/README.md), with equal MACs as classifiers. Each of their trainings is fine-tuned once. The
[design](../../experiments/README.md#transfer) was written before the first run.

- ± is the deviation of a run. Intervals are Student's t of unpaired runs, with the variance pooled over both networks.
- The smallest effect is one that the planned runs would have shown with a power of 80 %.

{tasks}
"""


def report(results: Path) -> None:
    """Write tables of the runs that have ended, from their rows alone."""
    rows = {task: read_rows(results / f'{task}.csv') for task in TASKS}
    if not any(rows.values()):
        raise SystemExit(f'{results} holds no runs: train some first.')
    text = REPORT.format(
        tasks='\n\n'.join(describe_task(task, rows[task], results) for task in TASKS if rows[task]))
    with replacing(results / 'README.md') as new:
        new.write_text(text, encoding='utf-8')
    print(text)


def find_finals(task: str, rows: List[Row]) -> Dict[str, List[Row]]:
    """Rows of the runs of each network that have ended."""
    ended: Dict[str, List[Row]] = {model: [] for model in MODELS}
    for run in plan(task, rows):
        row = run.find(rows)
        if row and run.stage == 'final':
            ended[run.model].append(row)
    return ended


def describe_task(name: str, rows: List[Row], results: Path) -> str:
    """A task: its networks, the pilots, the runs and the difference."""
    task, ended = TASKS[name], find_finals(name, rows)
    pilot_headings = 'network', *(f'{task.measure} at {rate:g}' for rate in task.rates), 'rate taken'
    parts = [
        f'## {task.title}', task.about, make_table(NETWORKS, (describe_network(name, model, rows) for model in MODELS)),
        f'Pilots of {task.pilot_epochs} epochs, scored on `{task.splits[0]}`:',
        make_table(pilot_headings, describe_pilots(name, rows))]
    if all(ended.values()):
        headings = 'network', 'runs', f'{task.measure}, percent', 'loss', 'CPU minutes a run'
        parts += [
            f'Runs of {task.epochs} epochs, scored on `{task.splits[1]}`:',
            make_table(headings, (describe_runs(model, ended[model], task.runs) for model in MODELS)),
            describe_difference(task, ended)]
    if name == 'scenes':
        parts += describe_scenes(ended, results)
    return '\n\n'.join([*parts, f'Machine of the fine-tunings: {describe_machines(rows)}.'])


def describe_scenes(ended: Dict[str, List[Row]], results: Path) -> Iterator[str]:
    """What the signs do not have: each class, a picture, and the trainings that were done again."""
    if all(ended.values()):
        yield make_table(('IoU, percent', *MODELS, 'difference'), describe_classes(ended))
    if (results / 'scenes.png').is_file():
        yield '![Eight scenes: the truth, and what both networks say](scenes.png)'
        yield (
            'Every 29th scene of `test`, by the first run of each network. White pixels have no class. The photographs'
            ' are not here, for CamVid is for research alone.')
    again = read_rows(results / 'pretrained' / 'runs.csv')
    if again:
        yield (
            "The weights of the headline's runs were not kept. So some were trained again, with the same seeds and"
            f' arguments. Machine of these trainings: {describe_machines(again)}.')
        headings = 'network', 'seed', 'top-1 on Tiny ImageNet', 'top-1 of the first training'
        yield make_table(headings, describe_trainings(again))


def describe_network(task: str, model: str, rows: List[Row]) -> Tuple:
    """A network, and what it costs: of the segmentation the whole network, as it was counted beside its training."""
    if task == 'signs':
        return f'`{model}`', *describe_costs(timm.create_model(model, num_classes=10, device='meta'), 64)
    row = next((row for row in rows if row['model'] == model), None)
    if row is None:
        return f'`{model}`', '-', '-', '-'
    return (
        f'DeepLabV3+ on `{model}`', f'{int(row["params"]):,}',
        *(f'{int(row[key]) / 1e6:.1f}M' for key in ('macs', 'activations')))


def describe_pilots(task: str, rows: List[Row]) -> Iterator[Tuple]:
    rates = TASKS[task].rates
    edges = {min(rates): ', the lowest tried', max(rates): ', the highest tried'}
    for model in MODELS:
        rate = choose_rate(task, model, rows)
        scores = [run.find(rows) for run in pilots(task, model)]
        taken = 'pilots are missing' if rate is None else f'{rate:g}'
        edge = edges.get(rate, '') if rate else ''
        yield f'`{model}`', *(f'{float(row["score"]):.2f}' if row else '-' for row in scores), taken + edge


def describe_runs(model: str, ended: List[Row], planned: int) -> Tuple:
    score, loss, minutes = ([float(row[key]) for row in ended] for key in ('score', 'loss', 'minutes'))
    return (
        f'`{model}`', f'{len(ended)} of {planned}', mean_and_deviation(score), f'{statistics.mean(loss):.3f}',
        f'{statistics.mean(minutes):.0f}')


def describe_difference(task: Task, ended: Dict[str, List[Row]]) -> str:
    """A sentence on the difference. There is no verdict before all runs have ended."""
    ours, theirs = ([float(row['score']) for row in ended[model]] for model in MODELS)
    pooled = pool([ours, theirs])
    what = f'`{MODELS[0]}` less `{MODELS[1]}`'
    if pooled is None:
        return f'{what}: too few runs have ended to tell a difference.'
    effect = unpaired_effect(ours, theirs, pooled)
    interval = f'95 % interval {effect.low:+.2f} to {effect.high:+.2f}'
    text = f'{what}: {effect.mean:+.2f} points of {task.measure}, {interval}.'
    if len(ours) + len(theirs) < 2 * task.runs:
        return f'{text} Not decided: {len(ours) + len(theirs)} of {2 * task.runs} runs have ended.'
    verdict = 'No difference is shown' if effect.p >= LEVEL else (
        f'**`{MODELS[effect.mean < 0]}` is better**')
    smallest = smallest_effect(effect.error, effect.freedom)
    return f'{text} {verdict}, p = {effect.p:.3f}. The smallest effect is {smallest:.2f} points.'


def describe_classes(ended: Dict[str, List[Row]]) -> Iterator[Tuple]:
    """The intersection over union of each class, in the mean of the runs."""
    keys = list(ended[MODELS[0]][0])
    for name in keys[keys.index('activations') + 1:keys.index('minutes')]:
        ours, theirs = (statistics.mean(float(row[name]) for row in ended[model]) for model in MODELS)
        yield name.replace('_', ' '), f'{ours:.1f}', f'{theirs:.1f}', f'{ours - theirs:+.1f}'


def describe_trainings(again: List[Row]) -> Iterator[Tuple]:
    """The trainings that were done again, beside the runs of the headline with the same names."""
    first = {row['name']: row for row in read_rows(HEADLINE)}
    for row in again:
        yield (
            f'`{row["model"]}`', row['seed'], *(f'{float(run["top1"]):.2f}' for run in (row, first[row['name']])))


def draw(data_dir: Path, output: Path, results: Path) -> None:
    """Draw the truth, and the masks of the first run of each network."""
    ended = find_finals('scenes', read_rows(results / 'scenes.csv'))
    found = {model: np.load(output / 'scenes' / rows[0]['name'] / 'masks.npz') for model, rows in ended.items() if rows}
    if len(found) < len(MODELS):
        raise SystemExit('Both networks need a run that has ended: train them first.')
    figure = draw_scenes(data_dir, found[MODELS[0]]['names'], {model: file['masks'] for model, file in found.items()})
    with replacing(results / 'scenes.png') as new:
        save(figure, new)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest='command', required=True)
    run_command = commands.add_parser('run', help='train the runs of a task that have not been trained yet')
    run_command.add_argument('task', choices=TASKS, help='what to fine-tune on')
    run_command.add_argument('--timm', type=Path, metavar='DIR', help='checkout of timm, for the signs')
    run_command.add_argument(
        '--pretrained', type=Path, required=True, metavar='DIR', help="folder of the headline's trainings")
    report_command = commands.add_parser('report', help='write tables of the runs that have ended')
    draw_command = commands.add_parser('draw', help='draw what the segmentation networks say of eight scenes')
    for command in (run_command, draw_command):
        command.add_argument('--data-dir', type=Path, required=True, metavar='DIR', help='folder of the data')
        command.add_argument(
            '--output', type=Path, default=Path('output/transfer'), metavar='DIR', help='folder of the trainings')
    for command in (run_command, report_command, draw_command):
        command.add_argument('--results', type=Path, default=RESULTS, metavar='DIR', help='folder of the rows')
    args = parser.parse_args()
    if args.command == 'report':
        report(args.results)
    elif args.command == 'draw':
        draw(args.data_dir, args.output, args.results)
    elif args.task == 'signs' and args.timm is None:
        parser.error("signs are trained by timm's train.py: name its checkout with --timm")
    else:
        train_task(args)


if __name__ == '__main__':
    main()
