"""Does the sandglass find boxes better? SSDLite on mobilenext_075 against mobilenetv2_075, on blood cells (BCCD).

    python -m experiments.detection run --data-dir BCCD --classifiers output/training    # both stages, all runs
    python -m experiments.detection report --data-dir BCCD                               # results/detection/README.md

The two detectors differ by 0.5 % in MACs and get the same recipe, head and boxes. Short pilots choose each network's
learning rate: they are trained on BCCD's train list and measured on its val list. The finals are trained on trainval
and measured on test. Three seeds start from the classifiers of experiments/training.py, seed by seed. One starts from
scratch, with weights drawn by the authors' scheme.

Every run is `timm-mobilenext detect train` in a process of its own. A run that has ended leaves its metrics.csv, JSON
with its command, and its detections in results/detection. Runs that are there are not repeated.
"""
import argparse
import copy
import gzip
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Dict, Iterator, List, Sequence, Tuple

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from experiments.report import (
    break_options,
    describe_machines,
    describe_pairs,
    draw_comparison,
    make_table,
    mean_and_deviation,
)
from experiments.runs import draw_network, ENVIRONMENT, KeptRun, run_side_by_side
from timm_mobilenext.detection import create_ssdlite
from timm_mobilenext.detection.data import DetectionSplit, load_split
from timm_mobilenext.detection.evaluate import coco_figures, create_evaluation, read_detections
from timm_mobilenext.detection.predict import draw_boxes
from timm_mobilenext.shared.files import replacing
from timm_mobilenext.shared.images import read_image
from timm_mobilenext.shared.style import INK

ROOT = Path(__file__).parent.parent
MODELS = ('mobilenext_075', 'mobilenetv2_075')
LEARNING_RATES = (0.01, 0.04, 0.1, 0.3)  # up to a rate that is worse, or no better, for both
PILOT_SEED, SCRATCH_SEED = 1, 1
SEEDS = 1, 2, 3  # and those of the classifiers
PILOT_EPOCHS, EPOCHS = 30, 120
IMG_SIZE = 224
SPLITS = dict(pilot=('train', 'val'), final=('trainval', 'test'))
RECIPE = (
    f'--preset voc --img-size {IMG_SIZE} --batch-size 16 --opt momentum --momentum 0.9 --weight-decay 5e-4'
    ' --sched cosine --warmup-epochs 2 --warmup-lr 1e-4 --clip-grad 10 --cache --channels-last --val-interval 10'
)
RESAMPLES = 1000


@dataclass(frozen=True)
class Run(KeptRun):
    stage: str
    model: str
    start: str  # 'cifar10' or 'scratch'
    lr: float
    seed: int

    results = ROOT / 'results' / 'detection'
    recipe = RECIPE

    @property
    def name(self) -> str:
        return f'{self.stage}-{self.model}-{self.start}-lr{self.lr:g}-seed{self.seed}'

    @property
    def arguments(self) -> List[str]:
        train_split, val_split = SPLITS[self.stage]
        return [
            '--backbone', self.model, *RECIPE.split(), '--lr', f'{self.lr:g}', '--seed', str(self.seed),
            '--epochs', str(PILOT_EPOCHS if self.stage == 'pilot' else EPOCHS), '--train-split', train_split,
            '--val-split', val_split,
        ]

    def last(self) -> Dict[str, float]:
        """Losses of the last epoch, and AP after it."""
        return self.read()[-1]

    def keep_detections(self, found: Path, split: DetectionSplit) -> None:
        """Keep a file of detections, in few bytes: images and classes as numbers, boxes to a tenth of a pixel."""
        numbers = {sample.image_id: i for i, sample in enumerate(split.samples)}
        labels = {category_id: label for label, category_id in enumerate(split.category_ids, 1)}
        rows = [
            [numbers[d['image_id']], labels[d['category_id']], *(round(n, 1) for n in d['bbox']), round(d['score'], 4)]
            for d in read_detections(found, split)]
        self.results.mkdir(parents=True, exist_ok=True)
        with replacing(self.results / f'{self.name}.detections.json.gz') as new:
            new.write_bytes(gzip.compress(json.dumps(rows, separators=(',', ':')).encode(), mtime=0))

    def detections(self, split: DetectionSplit) -> list:
        """Detections of the last weights, in COCO's format."""
        text = gzip.decompress((self.results / f'{self.name}.detections.json.gz').read_bytes()).decode()
        return [
            dict(image_id=split.samples[int(index)].image_id, category_id=split.category_ids[int(label) - 1],
                 bbox=box, score=score)
            for index, label, *box, score in json.loads(text)
        ]


PILOTS = [Run('pilot', model, 'cifar10', lr, PILOT_SEED) for lr in LEARNING_RATES for model in MODELS]


def finals() -> List[Run]:
    """Seeds of what was best for each network in the pilots."""
    rates = {
        model: max((run for run in PILOTS if run.model == model), key=lambda run: run.last()['AP']).lr
        for model in MODELS}
    starts = [*(('cifar10', seed) for seed in SEEDS), ('scratch', SCRATCH_SEED)]
    return [Run('final', model, start, rates[model], seed) for start, seed in starts for model in MODELS]


def find_classifier(run: Run, classifiers: Path) -> Path:
    """Checkpoint of the classifier that a run starts from.

    Raises:
        SystemExit: The folder has none for this network and seed, or several.
    """
    files = sorted(classifiers.glob(f'final-{run.model}-*-seed{run.seed}/train/last.pth.tar'))
    if len(files) != 1:
        found = ' and '.join(file.parts[-3] for file in files) or 'none'
        raise SystemExit(
            f'{classifiers} must have one final classifier {run.model} with seed {run.seed}, and has {found}:'
            ' `python -m experiments.training run` trains them.')
    return files[0]


def execute(run: Run, data_dir: Path, classifiers: Path, output: Path) -> None:
    """Train in a process of its own, and keep what was measured once the training has ended."""
    folder = output / run.name
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was cut off
    folder.mkdir(parents=True)
    if run.start == 'scratch':
        initial, origin = folder / 'initial.pth', "drawn by the authors' scheme"
        torch.save(draw_network('authors', run.seed, run.model, num_classes=10).state_dict(), initial)
    else:
        initial = find_classifier(run, classifiers)
        origin = initial.parts[-3]
    val_split, found = SPLITS[run.stage][1], folder / 'found.json'
    with open(folder / 'log', 'w') as log:
        def detect(*arguments: str) -> None:
            subprocess.run(
                [sys.executable, '-m', 'timm_mobilenext', 'detect', *arguments], env={**os.environ, **ENVIRONMENT},
                stdout=log, stderr=log, check=True)

        started = perf_counter()
        detect('train', '--data-dir', str(data_dir), *run.arguments, '--initial-checkpoint', str(initial),
               '-o', str(folder / 'train'))
        minutes = (perf_counter() - started) / 60
        detect('eval', str(folder / 'train' / 'last'), '--data-dir', str(data_dir), '--split', val_split,
               '-o', str(found))
    if run.stage == 'final':
        run.keep_detections(found, load_split(data_dir, val_split))
    run.keep(
        folder / 'train' / 'metrics.csv', arguments=' '.join(run.arguments), initial_weights=origin,
        minutes=round(minutes, 1))
    print(f'{run.name:50} AP {100 * run.last()["AP"]:6.2f} %   {minutes:.1f} min', flush=True)


def resample(split: DetectionSplit, detections: list, chosen: np.ndarray) -> np.ndarray:
    """AP on each of many choices (rows) of images, by pycocotools, which matches boxes image by image."""
    evaluation = create_evaluation(split, detections)
    evaluation.params.areaRng, evaluation.params.areaRngLbl = evaluation.params.areaRng[:1], ['all']
    evaluation.params.maxDets = [100]
    # in the order of the split, where pycocotools would sort
    evaluation.params.imgIds = [sample.image_id for sample in split.samples]
    with open(os.devnull, 'w') as nothing:
        stdout, sys.stdout = sys.stdout, nothing
        try:
            evaluation.evaluate()
            ids = list(evaluation.params.imgIds)  # as evaluate() ordered them
            places = [ids.index(sample.image_id) for sample in split.samples]
            by_class = np.array(evaluation.evalImgs, dtype=object).reshape(-1, len(ids))
            aps = []
            for images in chosen:
                evaluation.evalImgs = list(by_class[:, [places[i] for i in images]].reshape(-1))
                evaluation.params.imgIds = list(range(len(images)))
                evaluation._paramsEval = copy.deepcopy(evaluation.params)
                evaluation.accumulate()
                precision = evaluation.eval['precision']
                aps.append(precision[precision > -1].mean())
        finally:
            sys.stdout = stdout
    return np.array(aps)


def describe_bootstrap(runs: List[Run], split: DetectionSplit) -> str:
    """The difference of the networks over choices of test images, the seeds averaged."""
    chosen = np.random.default_rng(0).integers(len(split.samples), size=(RESAMPLES, len(split.samples)))
    means = [
        np.mean([resample(split, run.detections(split), chosen) for run in runs if run.model == model], axis=0)
        for model in MODELS]
    low, high = 100 * np.quantile(means[0] - means[1], (0.025, 0.975))
    return (f'Over {RESAMPLES} choices of {len(split.samples)} test images with repetition, the seeds averaged, the'
            f' difference of AP lies between {low:+.2f} and {high:+.2f} points in 95 % of them.')


def difference(runs: List[Run]) -> str:
    """The difference of the networks over paired seeds, with its interval."""
    ours, theirs = ({run.seed: 100 * run.last()['AP'] for run in runs if run.model == model} for model in MODELS)
    return describe_pairs(
        f'`{MODELS[0]}` less `{MODELS[1]}`, from the classifiers', 'points of AP', ours, theirs)


def summarize(runs: List[Run], measures: Sequence[str]) -> Iterator[Tuple]:
    """A row of the table of finals for each start and network."""
    for start in ('cifar10', 'scratch'):
        for model in MODELS:
            group = [run for run in runs if (run.model, run.start) == (model, start)]
            if group:
                rows = [run.last() for run in group]
                yield (
                    f'`{model}`', start, f'{group[0].lr:g}', len(group),
                    *(mean_and_deviation([100 * row[measure] for row in rows]) for measure in measures),
                    f"{statistics.mean(run.facts()['minutes'] for run in group):.0f}")


def draw_photographs(file: Path, runs: List[Run], split: DetectionSplit, num: int = 8) -> None:
    """Test photographs, evenly through the list: the truth, and what the first seed of each network finds."""
    first = [next(run for run in runs if run.model == model and run.start == 'cifar10') for model in MODELS]
    names = dict(zip(split.category_ids, split.class_names, strict=True))
    found = [run.detections(split) for run in first]
    figure = Figure(figsize=(9, 2.3 * num + 0.3), dpi=150)
    axes = figure.subplots(num, 3, gridspec_kw=dict(hspace=0.03, wspace=0.03))
    for row, index in enumerate(np.linspace(0, len(split.samples) - 1, num).astype(int)):
        sample = split.samples[index]
        image = read_image(sample.file, sample.is_turned).convert('RGB')
        truth = [{'class': split.class_names[label - 1], 'box': box}
                 for box, label in zip(sample.boxes, sample.labels, strict=True)]
        columns = [truth]
        for detections in found:
            columns.append([
                {'class': names[d['category_id']], 'score': d['score'],
                 'box': [*d['bbox'][:2], d['bbox'][0] + d['bbox'][2], d['bbox'][1] + d['bbox'][3]]}
                for d in sorted(detections, key=lambda d: -d['score'])
                if d['image_id'] == sample.image_id and d['score'] >= 0.5])
        for axis, boxes, title in zip(axes[row], columns, ('truth', *MODELS), strict=True):
            axis.imshow(draw_boxes(image, boxes, split.class_names).resize((480, 360), Image.Resampling.LANCZOS))
            axis.axis('off')
            if row == 0:
                axis.set_title(title, color=INK, fontsize=11)
    figure.savefig(file, format='jpeg', bbox_inches='tight', pil_kwargs=dict(quality=80))


README = f"""# SSDLite on MobileNeXt and on MobileNetV2, trained alike

{{pictures}}`python -m experiments.detection run` trained these detectors at {IMG_SIZE} px, and
`python -m experiments.detection report --data-dir BCCD` made this page. Each `.csv` has the figures that
`timm-mobilenext detect train` measured, and the `.json` beside it has the command. `.detections.json.gz` has the boxes
that the last weights find in the test photographs.

Data: BCCD, 364 photographs of blood cells with boxes of three classes. Its own lists divide them: 292 to train on
(trainval), 72 to measure on (test). Images are resized to {IMG_SIZE} px once.

{{networks}}

## {EPOCHS} epochs

{{finals}}

{{difference}}

## Pilots of {PILOT_EPOCHS} epochs

{{pilots}}

The pilots were trained on `train` and measured on `val`. The longer runs took the best rate of each network, and were
trained on all of trainval.

## Recipe

```
timm-mobilenext detect train {{recipe}}
```

Machine: {{machine}}.

These are images of {IMG_SIZE} px, and three classes of round things that look alike in all photographs. The backbones
have seen 50,000 small images, a copy of CIFAR-10 as JPEG of quality 75. So the results say little about COCO's 80
classes, and about backbones trained on ImageNet.
"""


def report(data_dir: Path) -> None:
    """Write tables and pictures of what has been trained, and of nothing else."""
    pilots = [run for run in PILOTS if run.is_done]
    if not pilots:
        raise SystemExit(f'{Run.results} holds no runs: train some first.')
    trained = [run for run in finals() if run.is_done] if len(pilots) == len(PILOTS) else []
    split = load_split(data_dir, SPLITS['final'][1])
    pictures, comparison = draw_and_compare(trained, split)
    networks = []
    for model in MODELS:
        counts = create_ssdlite(model, len(split.class_names), 'voc', img_size=IMG_SIZE).count()
        networks.append((f'`{model}`', f'{counts["params"]:,.0f}', f'{counts["macs"] / 1e6:.1f}M'))
    measures = ('AP', 'AP50', *(f'AP {name}' for name in split.class_names))
    headings = ('backbone', 'from', 'learning rate', 'seeds', *measures, 'minutes a run')
    text = README.format(
        pictures=pictures,
        networks=make_table(('detector on', 'parameters', f'MACs at {IMG_SIZE} px'), networks),
        finals=make_table(headings, summarize(trained, measures)) if trained else 'No run has ended yet.',
        difference=comparison,
        pilots=make_table(('backbone', 'learning rate', 'AP', 'minutes'), [
            (f'`{run.model}`', f'{run.lr:g}', f'{100 * run.last()["AP"]:.2f}', f"{run.facts()['minutes']:.0f}")
            for run in pilots]),
        recipe=break_options(RECIPE),
        machine=describe_machines(run.facts() for run in pilots),
    )
    with replacing(Run.results / 'README.md') as new:
        new.write_text(text, encoding='utf-8')
    print(text)


def draw_and_compare(trained: List[Run], split: DetectionSplit) -> Tuple[str, str]:
    """Draw the pictures of the runs that start from classifiers. Returns links to them, and the comparison in words."""
    matched = [run for run in trained if run.start == 'cifar10']
    if not matched:
        return '', 'No run has ended yet.'
    for run in trained:  # the stored detections are the ones that were measured
        assert abs(coco_figures(split, run.detections(split))[0]['AP'] - run.last()['AP']) < 2e-3, run.name
    logs = {
        model: {run.seed: [(row['epoch'], 100 * row['AP']) for row in run.read() if math.isfinite(row['AP'])]
                for run in matched if run.model == model}
        for model in MODELS}
    with replacing(Run.results / 'comparison.png') as new:
        draw_comparison(new, logs, 'AP on the test list', 'points of AP')
    sentences = [difference(matched)]
    if all(logs.values()):
        with replacing(Run.results / 'photographs.jpg') as new:
            draw_photographs(new, matched, split)
        sentences += [
            describe_bootstrap(matched, split),
            '![Test photographs: the truth, and what each network finds](photographs.jpg)']
    return '![AP by epoch, after the last one, and its difference](comparison.png)\n\n', '\n\n'.join(sentences)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest='command', required=True)
    run = commands.add_parser('run', help='train the runs that have not been trained yet')
    report_command = commands.add_parser('report', help='write tables and pictures of the runs that have ended')
    for command in (run, report_command):
        command.add_argument(
            '--data-dir', type=Path, required=True, metavar='DIR', help='BCCD, in the folders of Pascal VOC')
    run.add_argument(
        '--classifiers', type=Path, required=True, metavar='DIR', help='output folder of experiments/training.py')
    run.add_argument(
        '--stages', nargs='+', choices=('pilot', 'final'), default=('pilot', 'final'), help='pilots, finals or both')
    run.add_argument('--jobs', type=int, default=2, help='runs side by side')
    run.add_argument(
        '--output', type=Path, default=ROOT / 'output' / 'detection', metavar='DIR', help='folder for detectors')
    args = parser.parse_args()
    if args.command == 'run':
        for stage in args.stages:
            runs = [run for run in (PILOTS if stage == 'pilot' else finals()) if not run.is_done]
            run_side_by_side(
                args.jobs, [partial(execute, run, args.data_dir, args.classifiers, args.output) for run in runs])
    report(args.data_dir)


if __name__ == '__main__':
    main()
