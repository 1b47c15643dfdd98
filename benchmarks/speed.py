"""Latency of one image on one thread: MobileNeXt, folded and not, beside timm's MobileNetV2, eager and in ONNX Runtime.

    python -m benchmarks.speed                    # prints the table, writes benchmarks/speed.csv

The candidates take turns, see rounds.py. The figure is the median over rounds. The ratio is the median of the ratios to
MobileNetV2 in the same round.
"""
import argparse
import contextlib
import csv
import io
import os
import platform
import statistics
import sys
import warnings
from pathlib import Path

os.environ['OMP_NUM_THREADS'] = '1'

import onnxruntime
import torch
from torch.nn.utils.fusion import fuse_conv_bn_weights

import timm
from timm.utils import reparameterize_model

from benchmarks.rounds import measure
from timm_mobilenext import SandglassBlock

REFERENCE = 'mobilenetv2_100'
# glibc then keeps what is freed, and no run pays for fresh pages
KEEP_MEMORY = {'MALLOC_TRIM_THRESHOLD_': '1000000000', 'MALLOC_MMAP_THRESHOLD_': '1000000000'}


class SliceAssignment(torch.nn.Module):
    """The authors' formulation of the shortcut (mnext.py): assign to a slice of the output, its end from the shape."""

    def __init__(self, block: SandglassBlock):
        super().__init__()
        self.identity_div = round(block.conv_pw2.out_channels / block.skip_chs)
        self.block = block
        block.has_skip = False

    def forward(self, x):
        out = self.block(x)
        channels = x.shape[1] // self.identity_div
        out[:, :channels, :, :] = out[:, :channels, :, :] + x[:, :channels, :, :]
        return out


def with_slice_assignment(name):
    model = timm.create_model(name).eval()
    for stage in model.blocks:
        for place, block in stage.named_children():
            if block.has_skip:
                stage._modules[place] = SliceAssignment(block)
    return model


def with_folded_bn(name):
    """timm's MobileNetV2 has no `reparameterize`: every norm that follows a convolution is folded here."""
    model = timm.create_model(name).eval()
    for parent in list(model.modules()):
        conv = None
        for place, child in parent.named_children():
            if isinstance(conv, torch.nn.Conv2d) and isinstance(child, torch.nn.BatchNorm2d):
                conv.weight, conv.bias = fuse_conv_bn_weights(
                    conv.weight, conv.bias, child.running_mean, child.running_var, child.eps, child.weight, child.bias)
                parent._modules[place] = child.act  # timm's norms have the activation in them
            conv = child
    return model


def with_reparameterized(name):
    return reparameterize_model(timm.create_model(name).eval())


def eager(create, name):
    model = create(name).eval().to(memory_format=torch.channels_last)
    x = torch.randn(1, 3, 224, 224).to(memory_format=torch.channels_last)

    def run():
        with torch.inference_mode():
            model(x)
    return run


def onnx_runtime(create, name, exporter):
    x = torch.randn(1, 3, 224, 224)
    with io.BytesIO() as buffer, warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter('ignore')  # the exporters' own deprecations
        torch.onnx.export(create(name).eval(), (x,), buffer, dynamo=exporter == 'torch.export')
        onnx = buffer.getvalue()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx, options, providers=['CPUExecutionProvider'])
    inputs = {session.get_inputs()[0].name: x.numpy()}
    return lambda: session.run(None, inputs)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=60, help='rounds in which the candidates take turns')
    parser.add_argument('--repeats', type=int, default=5, help='calls a round')
    parser.add_argument('--output', type=Path, default=Path(__file__).with_suffix('.csv'), help='CSV file to write')
    args = parser.parse_args()
    create = timm.create_model
    ours = ('mobilenext_100', 'mobilenext_100_id050', 'mobilenext_100_id033', 'mobilenext_100_id017')
    in_eager = {
        f'{REFERENCE}, as timm ships it': (eager, create, REFERENCE),
        f'{REFERENCE}, BN folded': (eager, with_folded_bn, REFERENCE),
        'mobilenext_100': (eager, create, 'mobilenext_100'),
        **{f'{name}, reparameterized': (eager, with_reparameterized, name) for name in ours},
    }
    engines = [
        ('eager, channels-last', in_eager, {}),
        ('eager, memory kept', in_eager, KEEP_MEMORY),
        *((f'ONNX Runtime, by {exporter}', {
            REFERENCE: (onnx_runtime, create, REFERENCE, exporter),
            **{name: (onnx_runtime, create, name, exporter) for name in ours},
            **{
                f"{name}, authors' shortcut": (onnx_runtime, with_slice_assignment, name, exporter)
                for name in ours
            },
        }, {}) for exporter in ('torch.export', 'TorchScript')),
    ]
    rows = []
    for engine, candidates, environment in engines:
        times = measure(candidates, environment, args.rounds, args.repeats)
        reference = next(iter(times.values()))
        for name, seconds in times.items():
            ratio = statistics.median(s / r for s, r in zip(seconds, reference, strict=True))
            spread = statistics.quantiles(seconds, n=20)
            rows.append((
                engine, name, f'{1e3 * statistics.median(seconds):.2f}', f'{1e3 * spread[0]:.2f}',
                f'{1e3 * spread[-1]:.2f}', f'{ratio:.2f}'))
    header = ('engine', 'model', 'median_ms', 'p5_ms', 'p95_ms', 'ratio_to_mobilenetv2_100')
    print(f'{platform.machine()}, 1 thread, batch 1, 224 px, {args.rounds} rounds of {args.repeats} calls;'
          f' torch {torch.__version__}, timm {timm.__version__}, onnxruntime {onnxruntime.__version__}\n')
    for row in (header, *rows):
        print('{:30}{:42}{:>10}{:>8}{:>8}  {}'.format(*row))
    with args.output.open('w', newline='') as f:
        csv.writer(f, lineterminator='\n').writerows((header, *rows))


if __name__ == '__main__':
    main()
