"""What a user would choose: light networks of timm beside ours, in the engines of servers and browsers.

    pip install '.[onnx,demo]' openvino
    python -m benchmarks.peers         # writes benchmarks/peers.csv and docs/choose-*.png, prints the page's table
    python -m benchmarks.peers add     # only networks that have no row yet
    python -m benchmarks.peers draw    # picture and table again, from the rows

imagenet.csv has the top-1 of each network on ImageNet at 224 px and the weights that have it: of ours by the authors,
of the others the best that timm publishes of weights trained on ImageNet-1k without a teacher, by its
results-imagenet.csv. The weights here are new, for they do not change the time. Branches that timm can fold are folded.
One thread takes one image. The networks take turns, see rounds.py. Ratios are medians of those to `mobilenetv2_100` in
the same round, of the CPU's time. Networks that are added are measured beside `mobilenetv2_100`. Their milliseconds are
its milliseconds in the rows that are there, times the ratio.
"""
import argparse
import csv
import itertools
import math
import platform
import statistics
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks.rounds import measure
from benchmarks.runtimes import load_onnx, load_openvino
from timm_mobilenext.shared.files import replacing
from timm_mobilenext.shared.style import FAINT, INK, NETWORKS

HERE = Path(__file__).parent
DOCS = HERE.parent / 'docs'
REFERENCE = 'mobilenetv2_100'
SIZE = 3, 224, 224
SIDES = (-6, 'right'), (7, 'left')  # of a point, in points of type: where its name stands, and how it is aligned
VARIANTS = '_id017', '_id033', '_id050', '_ols'  # beside their networks, and not named in the pictures
ENGINES = dict(onnx=(load_onnx, 'float32'), onnx_int8=(load_onnx, 'int8'), openvino=(load_openvino, 'float32'))
HEADER = (
    'network', 'top1', 'weights', 'params', 'macs', 'activations',
    *(f'{engine}_{figure}' for engine in ENGINES for figure in ('ms', 'ratio', 'lower_quartile', 'upper_quartile')))


def write(name, folder):
    """Export a network, and quantize it. Returns its parameters, MACs and activations."""
    import timm  # not above: each timed process would import it, too
    from timm.utils.model import reparameterize_model

    from timm_mobilenext.hub.onnx import export_onnx, quantize_onnx
    from timm_mobilenext.shared.counts import count

    model = reparameterize_model(timm.create_model(name).eval())
    model.pretrained_cfg = {**model.pretrained_cfg, 'input_size': SIZE}
    folder.mkdir()
    export_onnx(model, folder / 'float32.onnx')
    quantize_onnx(folder / 'float32.onnx', folder / 'int8.onnx', [torch.randn(1, *SIZE) for _ in range(2)])
    counts = count(model, SIZE)
    return [int(counts[key]) for key in ('params', 'macs', 'activations')]


def build(load, file):
    run = load(file)
    image = torch.randn(1, *SIZE).numpy()
    return lambda: run(image)


def describe(times, name, reference_ms):
    """Milliseconds, by those of the reference if they are given, and the quartiles of the ratio."""
    ratios = [seconds / reference for seconds, reference in zip(times[name], times[REFERENCE], strict=True)]
    lower, median, upper = statistics.quantiles(ratios, n=4)
    milliseconds = reference_ms * median if reference_ms else 1e3 * statistics.median(times[name])
    return f'{milliseconds:.2f}', f'{median:.3f}', f'{lower:.3f}', f'{upper:.3f}'


def read(file):
    with file.open() as f:
        return list(csv.DictReader(f))


def run(rounds, repeats, output, kept):
    """Measure all networks but those with a row that is kept, and write a row for each."""
    published = read(HERE / 'imagenet.csv')
    names = [row['network'] for row in published if row['network'] not in kept or row['network'] == REFERENCE]
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            figures[name] = write(name, Path(folder, name))
        print('written, the timing begins', file=sys.stderr, flush=True)
        for engine, (load, precision) in ENGINES.items():
            files = {name: Path(folder, name, f'{precision}.onnx') for name in names}
            times = measure({name: (build, load, file) for name, file in files.items()}, {}, rounds, repeats)
            reference_ms = float(kept[REFERENCE][f'{engine}_ms']) if kept else None
            for name in names:
                figures[name] += describe(times, name, reference_ms)
    rows = [
        kept[row['network']].values() if row['network'] in kept else (*row.values(), *figures[row['network']])
        for row in published]
    with replacing(output) as new, new.open('w', newline='') as f:
        csv.writer(f, lineterminator='\n').writerows((HEADER, *rows))


def tabulate(rows):
    """The table of docs/choose.md: the networks by their time."""
    headings = 'network', 'parameters', 'MACs', 'ms', 'time', 'int8', 'OpenVINO', 'top-1', 'weights'
    cells = (
        (f'`{row["network"]}`', f'{int(row["params"]) / 1e6:.2f}M', f'{int(row["macs"]) / 1e6:.0f}M', row['onnx_ms'],
         *(f'{float(row[f"{engine}_ratio"]):.2f}' for engine in ENGINES), f'{float(row["top1"]):.2f}', row['weights'])
        for row in sorted(rows, key=lambda row: float(row['onnx_ratio'])))
    return '\n'.join(f'| {" | ".join(row)} |' for row in (headings, ['---'] * len(headings), *cells))


def find_front(points):
    """Those of (cost, top-1, name) that no other beats at the same cost or a lower one, by cost."""
    front = []
    for point in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or point[1] > front[-1][1]:
            front.append(point)
    return front


def label(axes, place, text, color, sides, taken, written, others):
    """Write a name beside a point. It hides no other name if it can, and few dots. A far one gets a line."""
    found, (x0, y0) = [], axes.transData.transform(place)
    for y, (x, side) in itertools.product((4, -10, -3, 13, -19, 22, -28, 31, -37), sides):
        at = dict(xytext=(x, y), textcoords='offset points', ha=side, fontsize=9, color=color)
        name = axes.annotate(text, place, **at)
        box = name.get_window_extent()
        name.remove()
        is_inside = axes.bbox.x0 < box.x0 and box.x1 < axes.figure.bbox.x1
        is_nearest = distance(box, x0, y0) < min(distance(box, *other) for other in others if other != (x0, y0))
        hidden = box.count_overlaps(taken) + (not is_nearest)
        hidden += len(taken) * (box.count_overlaps(written) + (not is_inside))
        found.append((hidden, len(found), box, at))
    _, _, box, at = min(found)
    written.append(box)
    leader = dict(arrowstyle='-', color=color, lw=0.6, shrinkB=4) if abs(at['xytext'][1]) > 10 else None
    axes.annotate(text, place, arrowprops=leader, **at)


def distance(box, x, y):
    """From a point to a box, in pixels."""
    return math.hypot(max(box.x0 - x, 0, x - box.x1), max(box.y0 - y, 0, y - box.y1))


def draw(rows):
    """Top-1 over time, MACs and parameters, a picture with the front of each."""
    from matplotlib.figure import Figure

    panels = dict(
        time=('onnx_ms', 'milliseconds an image, ONNX Runtime, float32, one thread', 1),
        MACs=('macs', 'million MACs an image of 224 px', 1e6),
        parameters=('params', 'million parameters', 1e6))
    for what, (key, unit, scale) in panels.items():
        figure = Figure(figsize=(8.8, 6.4), dpi=200, layout='constrained')
        draw_front(figure, [(float(row[key]) / scale, float(row['top1']), row['network']) for row in rows], what, unit)
        with replacing(DOCS / f'choose-{what.lower()}.png') as new:
            figure.savefig(new, format='png')


def draw_front(figure, points, what, unit):
    """Points of (cost, top-1, name), and their front."""
    from matplotlib.transforms import Bbox

    ours, theirs = NETWORKS[:2]
    axes, front = figure.subplots(), find_front(points)
    number = sum(name.startswith('mobilenext') for *_, name in front)
    title = f'Top-1 on ImageNet over {what}: {number or "none"} of ours on the front'
    axes.set_title(title, loc='left', fontsize=12, color=INK)
    axes.set(xlabel=unit, ylabel='top-1 in percent')
    axes.set_xscale('log', base=2)
    axes.xaxis.set_major_formatter('{x:g}')
    axes.set_xlim(min(points)[0] / 1.3, max(points)[0] * 1.55)  # names need room
    corners = [(place[0], before[1]) for before, place in itertools.pairwise(front)]
    line = [point for pair in zip(front, corners, strict=False) for point in pair] + front[-1:]
    axes.plot(*zip(*(point[:2] for point in line), strict=True), color=FAINT, lw=2, zorder=1)
    names, dots = [], []
    for point in sorted(points, key=lambda point: (point not in front, point)):
        *place, name = point
        color = ours if name.startswith('mobilenext') else theirs if name.startswith('mobilenetv2') else FAINT
        dots += axes.plot(*place, 'o', color=color, ms=7 if point in front else 5, zorder=2)
        if not name.endswith(VARIANTS) and (point in front or color != FAINT):
            names.append((place, name, INK if color == FAINT else color, SIDES if point in front else SIDES[::-1]))
    axes.grid(color=FAINT, alpha=0.3)
    axes.spines[['top', 'right']].set_visible(False)
    figure.draw_without_rendering()  # from here on, the axes stay where they are
    taken = [dot.get_window_extent() for dot in dots]
    taken += [Bbox(axes.transData.transform([start[:2], end[:2]])) for start, end in itertools.pairwise(line)]
    others = [tuple(axes.transData.transform(point[:2])) for point in points]
    written = []
    for name in names:
        label(axes, *name, taken, written, others)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('step', nargs='?', choices=('add', 'draw'), help='what to do, default all')
    parser.add_argument('--rounds', type=int, default=60, help='rounds in which the networks take turns')
    parser.add_argument('--repeats', type=int, default=5, help='calls a round')
    parser.add_argument('--output', type=Path, default=HERE / 'peers.csv', help='CSV file to write, or to draw')
    args = parser.parse_args()
    if args.step != 'draw':
        torch.set_num_threads(1)
        versions = (f'{name} {version(name)}' for name in ('torch', 'timm', 'onnxruntime', 'openvino'))
        print(platform.machine(), *versions, f'{args.rounds} rounds', sep=', ')
        kept = {row['network']: row for row in read(args.output)} if args.step == 'add' else {}
        run(args.rounds, args.repeats, args.output, kept)
    rows = read(args.output)
    print(tabulate(rows))
    draw(rows)


if __name__ == '__main__':
    main()
