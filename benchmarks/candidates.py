"""Which networks of timm belong in imagenet.csv? Those of its results that no other network beats.

    git clone --depth 1 https://github.com/huggingface/pytorch-image-models
    python -m benchmarks.candidates --timm pytorch-image-models

It reads results/results-imagenet.csv. A row counts if it is of 224 px, and if its weights were trained on ImageNet-1k
alone and their tag names no teacher. The network has at least the top-1 of our smallest one, and at most the parameters
and MACs below. One network beats another if it is no worse in parameters, MACs and top-1, as docs/choose.md shows them.
MACs are those of convolutions and linear layers: attention costs more. The script prints what is missing, and what
differs from timm's results. If there is any, it exits with 1.
"""
import argparse
import csv
import re
from pathlib import Path

import timm
from timm.utils.model import reparameterize_model

import timm_mobilenext  # noqa: F401  registers our networks, which are candidates, too
from timm_mobilenext.shared.counts import count

HERE = Path(__file__).parent
SIZE = 3, 224, 224
MOST_PARAMETERS, MOST_MACS = 6.2, 600  # in millions
MORE_DATA_OR_TEACHER = re.compile(r'dist|ssld|jft|in\d\dk')


def read_results(timm_folder):
    """Networks of timm's results within the rule: the best top-1 of each, and its tag."""
    best = {}
    with (timm_folder / 'results' / 'results-imagenet.csv').open() as f:
        for row in csv.DictReader(f):
            name, _, tag = row['model'].partition('.')
            if row['img_size'] != '224' or MORE_DATA_OR_TEACHER.search(row['model']) or 'in1k' not in tag:
                continue
            if float(row['param_count'].replace(',', '')) <= 3 * MOST_PARAMETERS:  # folding can take more than half
                best[name] = max(best.get(name, (0., '')), (float(row['top1']), tag))
    return best


def count_exported(name):
    """Million parameters and million MACs of a network without the branches that timm can fold."""
    counts = count(reparameterize_model(timm.create_model(name).eval()), SIZE)
    return round(counts['params'] / 1e6, 2), round(counts['macs'] / 1e6)


def beats(one, other):
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--timm', type=Path, required=True, metavar='DIR', help='checkout of timm')
    args = parser.parse_args()
    results = read_results(args.timm)
    with (HERE / 'imagenet.csv').open() as f:
        listed = {row['network']: (float(row['top1']), row['weights']) for row in csv.DictReader(f)}
    top1 = {name: (listed.get(name) or results[name])[0] for name in {*results, *listed}}
    least = min(top1[name] for name in top1 if name.startswith('mobilenext'))
    costs = {name: count_exported(name) for name in sorted(top1) if top1[name] >= least}
    points = {
        name: (params, macs, -top1[name]) for name, (params, macs) in costs.items()
        if params <= MOST_PARAMETERS and macs <= MOST_MACS}
    problems = []
    for name, (params, macs, error) in points.items():
        winners = (f'beaten by {other}' for other in points if beats(points[other], points[name]))
        state = 'listed' if name in listed else next(winners, 'missing')
        print(f'{name:32} {params:6.2f}M {macs:5}M {-error:7.2f} %   {state}')
        if state == 'missing':
            problems.append(f'{name} is missing: no network beats it')
        expected = results.get(name)
        if state == 'listed' and expected and listed[name] != (round(expected[0], 2), expected[1]):
            problems.append(f'{name} is listed with {listed[name]}: timm has {expected}')
    print(*problems, f'{len(points)} networks, {len(problems)} problems', sep='\n')
    raise SystemExit(bool(problems))


if __name__ == '__main__':
    main()
