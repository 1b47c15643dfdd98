"""What a user would choose: light networks of timm beside ours, in the engines of servers and browsers.

    pip install 'timm-mobilenext[onnx]' openvino matplotlib
    python -m benchmarks.peers                  # prints the table, writes benchmarks/peers.csv and docs/choose.png
    python -m benchmarks.peers draw             # the picture again, from benchmarks/peers.csv

imagenet.csv has the top-1 of each network on ImageNet at 224 px and the weights that have it: of ours by the authors,
of the others the best that timm publishes of weights trained on ImageNet-1k, by its results-imagenet.csv. The weights
here are new, for they do not change the time. Branches that timm can fold are folded. One thread takes one image. The
networks take turns, see rounds.py. Ratios are medians of those to `mobilenetv2_100` in the same round, of the CPU's
time.
"""
import argparse
import csv
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
from timm_mobilenext.shared.style import FAINT, INK, RIGHT, WRONG

HERE = Path(__file__).parent
PICTURE = HERE.parent / 'docs' / 'choose.png'
REFERENCE = 'mobilenetv2_100'
SIZE = 3, 224, 224
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


def describe(times, name):
    """Median milliseconds, and the quartiles of the ratio."""
    ratios = [seconds / reference for seconds, reference in zip(times[name], times[REFERENCE], strict=True)]
    lower, median, upper = statistics.quantiles(ratios, n=4)
    return f'{1e3 * statistics.median(times[name]):.2f}', f'{median:.3f}', f'{lower:.3f}', f'{upper:.3f}'


def run(rounds, repeats, output):
    """Measure all networks, and write a row for each."""
    with (HERE / 'imagenet.csv').open() as f:
        published = list(csv.DictReader(f))
    names = [row['network'] for row in published]
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            figures[name] = write(name, Path(folder, name))
        print('written, the timing begins', file=sys.stderr, flush=True)
        for load, precision in ENGINES.values():
            files = {name: Path(folder, name, f'{precision}.onnx') for name in names}
            times = measure({name: (build, load, file) for name, file in files.items()}, {}, rounds, repeats)
            for name in names:
                figures[name] += describe(times, name)
    rows = [(*row.values(), *figures[row['network']]) for row in published]
    with replacing(output) as new, new.open('w', newline='') as f:
        csv.writer(f, lineterminator='\n').writerows((HEADER, *rows))


def find_front(points):
    """Those of (cost, top-1, name) that no other beats at the same cost or a lower one, by cost."""
    front = []
    for point in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or point[1] > front[-1][1]:
            front.append(point)
    return front


def draw(rows, file):
    """Top-1 over time and over MACs, with the front."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.8, 9.2), dpi=150)
    panels = {
        'onnx_ms': 'milliseconds an image, ONNX Runtime, float32, one thread',
        'macs': 'million MACs an image of 224 px',
    }
    for axes, (key, label) in zip(figure.subplots(2, 1), panels.items(), strict=True):
        scale = 1e6 if key == 'macs' else 1
        points = [(float(row[key]) / scale, float(row['top1']), row['network']) for row in rows]
        front = find_front(points)
        axes.plot(*zip(*((cost, top1) for cost, top1, _ in front), strict=True), color=FAINT, lw=1.5, zorder=1)
        for cost, top1, name in points:
            color = RIGHT if name.startswith('mobilenext') else WRONG if name.startswith('mobilenetv2') else FAINT
            axes.plot(cost, top1, 'o', color=color, ms=6 if color != FAINT else 4, zorder=2)
            if (cost, top1, name) in front or color != FAINT and '_id' not in name:
                is_front = (cost, top1, name) in front
                axes.annotate(
                    name, (cost, top1), xytext=(-6, 2) if is_front else (6, -8), textcoords='offset points',
                    ha='right' if is_front else 'left', fontsize=7.5, color=INK if color == FAINT else color)
        axes.set_title(f'top-1 on ImageNet, over {label.split(",")[0]}', loc='left', fontsize=11, color=INK)
        axes.set(xlabel=label, ylabel='top-1 in percent')
        axes.grid(color=FAINT, alpha=0.3)
        axes.spines[['top', 'right']].set_visible(False)
    figure.tight_layout()
    with replacing(file) as new:
        figure.savefig(new, format='png')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('step', nargs='?', choices=('draw',), help='what to do, default all')
    parser.add_argument('--rounds', type=int, default=60, help='rounds in which the networks take turns')
    parser.add_argument('--repeats', type=int, default=5, help='calls a round')
    parser.add_argument('--output', type=Path, default=HERE / 'peers.csv', help='CSV file to write, or to draw')
    args = parser.parse_args()
    if args.step != 'draw':
        torch.set_num_threads(1)
        versions = (f'{name} {version(name)}' for name in ('torch', 'timm', 'onnxruntime', 'openvino'))
        print(platform.machine(), *versions, f'{args.rounds} rounds', sep=', ')
        run(args.rounds, args.repeats, args.output)
    with args.output.open() as f:
        rows = list(csv.DictReader(f))
    for row in rows:
        print('{network:36}{top1:>7}{params:>10}{macs:>11}{onnx_ms:>8}{onnx_ratio:>7}{onnx_int8_ratio:>7}'
              '{openvino_ratio:>7}'.format(**row))
    draw(rows, PICTURE)


if __name__ == '__main__':
    main()
