"""What it takes to create an untrained network, beside timm's MobileNetV2.

    python -m benchmarks.creation                 # prints the table, writes benchmarks/creation.csv

Times are medians of the CPU, on one thread. The networks take turns, see rounds.py. A ratio is the median of those in
the same round.
"""
import argparse
import csv
import os
import statistics
from pathlib import Path

os.environ['OMP_NUM_THREADS'] = '1'

from torch import nn

import timm

from benchmarks.rounds import measure

PEER, OURS = 'mobilenetv2_100', 'mobilenext_100'


def build(name):
    return lambda: timm.create_model(name)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=60, help='rounds in which the networks take turns')
    parser.add_argument('--output', type=Path, default=Path(__file__).with_suffix('.csv'), help='CSV file to write')
    args = parser.parse_args()
    times = measure({name: (build, name) for name in (PEER, OURS)}, {}, args.rounds, 1)
    rows = []
    for name, seconds in times.items():
        convolutions = sum(isinstance(module, nn.Conv2d) for module in timm.create_model(name).modules())
        ratio = statistics.median(ours / peer for ours, peer in zip(seconds, times[PEER], strict=True))
        rows.append((name, convolutions, f'{1e3 * statistics.median(seconds):.1f}', f'{ratio:.2f}'))
    header = ('model', 'convolutions', 'median_ms', 'ratio')
    for row in (header, *rows):
        print('{:18}{:>14}{:>12}{:>8}'.format(*row))
    with args.output.open('w', newline='') as f:
        csv.writer(f, lineterminator='\n').writerows((header, *rows))


if __name__ == '__main__':
    main()
