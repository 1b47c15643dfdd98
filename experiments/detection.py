"""Does the sandglass find boxes better? SSDLite on mobilenext_075 against mobilenetv2_075, on blood cells (BCCD).

    python -m experiments.detection run --data-dir BCCD --classifiers output/training    # both stages, all runs
    python -m experiments.detection report --data-dir BCCD                               # results/detection/README.md

The two detectors differ by 0.5 % in MACs and get the same recipe, head and boxes. Short pilots, trained on BCCD's
train list and measured on its val list, choose each network's learning rate. The finals are trained on trainval and
measured on test: three seeds that start from the classifiers of experiments/training.py, seed by seed, and one from
scratch, of weights drawn by the authors' scheme.

Every run is `timm-mobilenext detect train` in a process of its own, and leaves its metrics.csv, a JSON file with its
command, and its detections in results/detection once it has ended. What is there is not repeated.
"""
import argparse
import copy
import csv
import gzip
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

import timm
from timm.utils import random_seed

from experiments.training import describe_machine, describe_pairs, ENV, SEEDS, table
from experiments.training import finals as classifiers
from timm_mobilenext.analysis.subjects import draw_weights
from timm_mobilenext.classify.plots import FAINT, INK, RIGHT, WRONG
from timm_mobilenext.detection import create_ssdlite
from timm_mobilenext.detection.data import DetectionSplit, load_split
from timm_mobilenext.detection.evaluate import coco_figures, create_evaluation, read_detections
from timm_mobilenext.detection.predict import draw_boxes
from timm_mobilenext.shared.files import replacing
from timm_mobilenext.shared.images import read_image

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / 'results' / 'detection'
MODELS = ('mobilenext_075', 'mobilenetv2_075')
COLORS = dict(zip(MODELS, (RIGHT, WRONG), strict=True))
LEARNING_RATES = (0.01, 0.04, 0.1, 0.3)  # up to what is worse, or no better, for both
PILOT_SEED, SCRATCH_SEED = 1, 1  # and the seeds of the classifiers
PILOT_EPOCHS, EPOCHS = 30, 120
IMG_SIZE = 224
SPLITS = dict(pilot=('train', 'val'), final=('trainval', 'test'))
RECIPE = (
    f'--preset voc --img-size {IMG_SIZE} --batch-size 16 --opt momentum --momentum 0.9 --weight-decay 5e-4'
    ' --sched cosine --warmup-epochs 2 --warmup-lr 1e-4 --clip-grad 10 --cache --channels-last --val-interval 10'
)
RESAMPLES = 1000
DRAWING = threading.Lock()  # torch's generator is the same for all runs side by side


@dataclass(frozen=True)
class Run:
    stage: str
    model: str
    start: str  # 'cifar10' or 'scratch'
    lr: float
    seed: int

    @property
    def name(self) -> str:
        return f'{self.stage}-{self.model}-{self.start}-lr{self.lr:g}-seed{self.seed}'

    @property
    def is_done(self) -> bool:
        return (RESULTS / f'{self.name}.json').is_file() and RECIPE in self.facts()['arguments']

    def facts(self) -> dict:
        return json.loads((RESULTS / f'{self.name}.json').read_text())

    def read(self) -> List[Dict[str, float]]:
        """What was measured after each epoch, NaN where nothing was."""
        with open(RESULTS / f'{self.name}.csv', newline='') as lines:
            return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(lines)]

    def last(self) -> Dict[str, float]:
        """Losses of the last epoch, and AP after it."""
        return self.read()[-1]

    def detections(self, split: DetectionSplit) -> list:
        """Detections of the last weights, in COCO's format."""
        text = gzip.decompress((RESULTS / f'{self.name}.detections.json.gz').read_bytes()).decode()
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


def initial_weights(run: Run, folder: Path, classifier_dir: Path) -> Path:
    """Checkpoint that a run starts from."""
    if run.start == 'scratch':
        with DRAWING:
            random_seed(run.seed)
            model = timm.create_model(run.model, num_classes=10)
            draw_weights(model, 'authors')
        torch.save(model.state_dict(), folder / 'initial.pth')
        return folder / 'initial.pth'
    name = next(c.name for c in classifiers() if c.model == run.model and c.seed == run.seed)
    file = classifier_dir / name / 'train' / 'last.pth.tar'
    if not file.is_file():
        raise SystemExit(f'{file} is not there: train the classifiers first, by experiments/training.py.')
    return file


def train(run: Run, data_dir: Path, classifier_dir: Path, output: Path) -> None:
    """Train in a process of its own, and keep what it measured once it has ended."""
    folder = output / run.name
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was cut off
    folder.mkdir(parents=True)
    train_split, val_split = SPLITS[run.stage]
    arguments = [
        '--backbone', run.model, *RECIPE.split(), '--lr', f'{run.lr:g}', '--seed', str(run.seed),
        '--epochs', str(PILOT_EPOCHS if run.stage == 'pilot' else EPOCHS), '--train-split', train_split,
        '--val-split', val_split,
    ]
    command = [sys.executable, '-m', 'timm_mobilenext', 'detect']
    started = time.perf_counter()
    with open(folder / 'log', 'w') as log:
        def call(*more: str) -> None:
            subprocess.run([*command, *more], env={**os.environ, **ENV}, stdout=log, stderr=log, check=True)

        initial = initial_weights(run, folder, classifier_dir)
        call('train', '--data-dir', str(data_dir), *arguments, '--initial-checkpoint', str(initial),
             '-o', str(folder / 'train'))
        minutes = (time.perf_counter() - started) / 60
        found = folder / 'found.json'
        call('eval', str(folder / 'train' / 'last'), '--data-dir', str(data_dir), '--split', val_split,
             '-o', str(found))
    split = load_split(data_dir, val_split)
    numbers = {sample.image_id: i for i, sample in enumerate(split.samples)}
    labels = {category_id: label for label, category_id in enumerate(split.category_ids, 1)}
    rows = [
        [numbers[d['image_id']], labels[d['category_id']], *(round(n, 1) for n in d['bbox']), round(d['score'], 4)]
        for d in read_detections(found, split)]
    RESULTS.mkdir(parents=True, exist_ok=True)
    with replacing(RESULTS / f'{run.name}.csv') as new:
        shutil.copyfile(folder / 'train' / 'metrics.csv', new)
    if run.stage == 'final':
        with replacing(RESULTS / f'{run.name}.detections.json.gz') as new:
            new.write_bytes(gzip.compress(json.dumps(rows, separators=(',', ':')).encode(), mtime=0))
    facts = dict(
        arguments=' '.join(arguments),
        initial_weights=initial.parts[-3] if run.start == 'cifar10' else "drawn by the authors' scheme",
        minutes=round(minutes, 1),
        **describe_machine(),
    )
    with replacing(RESULTS / f'{run.name}.json') as new:
        new.write_text(json.dumps(facts, indent=2) + '\n')
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


def spread(values: List[float]) -> str:
    percent = [100 * value for value in values]
    return f'{statistics.mean(percent):.2f}' + (f' ± {statistics.stdev(percent):.2f}' if len(percent) > 1 else '')


def summarize(runs: List[Run], split: DetectionSplit):
    for start in ('cifar10', 'scratch'):
        for model in MODELS:
            group = [run for run in runs if (run.model, run.start) == (model, start)]
            if group:
                rows = [run.last() for run in group]
                yield (f'`{model}`', start, f'{group[0].lr:g}', len(group), spread([row['AP'] for row in rows]),
                       spread([row['AP50'] for row in rows]),
                       *(spread([row[f'AP {name}'] for row in rows]) for name in split.class_names),
                       f"{statistics.mean(run.facts()['minutes'] for run in group):.0f}")


def draw_comparison(file: Path, runs: List[Run]) -> None:
    """AP by epoch, and after the last one, of each network and seed, from the classifiers."""
    figure = Figure(figsize=(10, 4.2), dpi=150)
    curves, bars = figure.subplots(1, 2, width_ratios=(3, 2))
    for place, model in enumerate(MODELS):
        color = COLORS[model]
        logs = [[(row['epoch'], 100 * row['AP']) for row in run.read() if math.isfinite(row['AP'])]
                for run in runs if run.model == model and run.start == 'cifar10']
        if not logs:
            continue
        for log in logs:
            curves.plot(*zip(*log, strict=True), color=color, lw=1, alpha=0.35)
        means = [statistics.mean(ap for _, ap in points) for points in zip(*logs, strict=True)]
        curves.plot([epoch for epoch, _ in logs[0]], means, color=color, lw=2.5, label=model)
        bars.barh(place, means[-1], color=color, alpha=0.35, height=0.6)
        bars.plot([log[-1][1] for log in logs], [place] * len(logs), 'o', color=color, ms=5)
        bars.text(means[-1] / 2, place, f'{model}\n{means[-1]:.2f} %', color=INK, ha='center', va='center')
    curves.set_title('AP on the test list by epoch, each seed and the mean', loc='left', fontsize=11)
    curves.set_xlabel('epoch')
    curves.legend(frameon=False, loc='lower right')
    bars.set_title('after the last epoch, mean and each seed', loc='left', fontsize=11)
    bars.set(yticks=[], xlim=(0, None), xlabel='AP in percent', ylim=(1.5, -0.5))
    for axes in (curves, bars):
        axes.grid(axis='y' if axes is curves else 'x', color=FAINT, alpha=0.3)
        axes.spines[['top', 'right']].set_visible(False)
    figure.tight_layout()
    figure.savefig(file, format='png')


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

{{pictures}}Made by `python -m experiments.detection report --data-dir BCCD` of what
`python -m experiments.detection run` trained, at {IMG_SIZE} px. Each `.csv` is what `timm-mobilenext detect train`
measured, the `.json` beside it has the command, and `.detections.json.gz` what the last weights find in the test
photographs.

Data: BCCD, 364 photographs of blood cells with boxes of three classes, by its own lists: 292 to train on (trainval), 72
to measure by (test). Images are resized to {IMG_SIZE} px once.

{{networks}}

## {EPOCHS} epochs

{{finals}}

{{difference}}

## Pilots of {PILOT_EPOCHS} epochs

{{pilots}}

Trained on `train` and measured on `val`; what was best for each network went on, with all of trainval.

## Recipe

```
timm-mobilenext detect train {{recipe}}
```

Machine: {{machine}}.

This is {IMG_SIZE} px, three classes of round things that look alike from photograph to photograph, and backbones that
have seen 50,000 small images. What it says of COCO's 80 classes, and of backbones trained on ImageNet, is little.
"""


def report(data_dir: Path) -> None:
    """Write tables and pictures of what has been trained, and of nothing else."""
    done = [run for run in PILOTS if run.is_done]
    if not done:
        raise SystemExit(f'{RESULTS} holds no runs: train some first.')
    trained = [run for run in finals() if run.is_done] if len(done) == len(PILOTS) else []
    pictures, told = '', 'No run has ended yet.'
    split = load_split(data_dir, SPLITS['final'][1])
    matched = [run for run in trained if run.start == 'cifar10']
    if matched:
        for run in trained:  # the stored detections are the ones that were measured
            assert abs(coco_figures(split, run.detections(split))[0]['AP'] - run.last()['AP']) < 2e-3, run.name
        with replacing(RESULTS / 'comparison.png') as new:
            draw_comparison(new, trained)
        pictures = '![AP by epoch and after the last one](comparison.png)\n\n'
        told = difference(matched)
        if {run.model for run in matched} == set(MODELS):
            told += '\n\n' + describe_bootstrap(matched, split)
            with replacing(RESULTS / 'photographs.jpg') as new:
                draw_photographs(new, matched, split)
            told += '\n\n![Test photographs: the truth, and what each network finds](photographs.jpg)'
    networks = []
    for model in MODELS:
        counts = create_ssdlite(model, len(split.class_names), 'voc', img_size=IMG_SIZE).count()
        networks.append((f'`{model}`', f'{counts["params"]:,.0f}', f'{counts["macs"] / 1e6:.1f}M'))
    headings = ('backbone', 'from', 'learning rate', 'seeds', 'AP', 'AP50', *(f'AP {n}' for n in split.class_names),
                'minutes a run')
    with replacing(RESULTS / 'README.md') as new:
        new.write_text(README.format(
            pictures=pictures,
            networks='\n'.join(table(('detector on', 'parameters', f'MACs at {IMG_SIZE} px'), networks)),
            finals='\n'.join(table(headings, summarize(trained, split))) if trained else 'No run has ended yet.',
            difference=told,
            pilots='\n'.join(table(('backbone', 'learning rate', 'AP', 'minutes'), [
                (f'`{run.model}`', f'{run.lr:g}', f'{100 * run.last()["AP"]:.2f}', f"{run.facts()['minutes']:.0f}")
                for run in done])),
            recipe=RECIPE.replace(' --', ' \\\n    --'),
            machine='; '.join(sorted({'{machine}, torch {torch}, timm {timm}'.format(**r.facts()) for r in done})),
        ), encoding='utf-8')
    print((RESULTS / 'README.md').read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest='command', required=True)
    run = commands.add_parser('run', help='train what has not been trained yet')
    run.add_argument('--data-dir', type=Path, required=True, help='BCCD, in the folders of Pascal VOC')
    run.add_argument('--classifiers', type=Path, required=True, help='output folder of experiments/training.py')
    run.add_argument('--stages', nargs='+', choices=('pilot', 'final'), default=('pilot', 'final'))
    run.add_argument('--jobs', type=int, default=2, help='runs side by side')
    run.add_argument('--output', type=Path, default=ROOT / 'output' / 'detection', help='folder for detectors')
    told = commands.add_parser('report', help='tables and pictures of what has been trained')
    told.add_argument('--data-dir', type=Path, required=True, help='BCCD, in the folders of Pascal VOC')
    args = parser.parse_args()
    if args.command == 'run':
        for stage in args.stages:
            runs = [run for run in (PILOTS if stage == 'pilot' else finals()) if not run.is_done]
            with ThreadPoolExecutor(args.jobs) as pool:
                for job in [pool.submit(train, run, args.data_dir, args.classifiers, args.output) for run in runs]:
                    job.result()
    report(args.data_dir)


if __name__ == '__main__':
    main()
