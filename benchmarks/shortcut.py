"""Forms of the partial shortcut, in the engines that run networks on phones and servers, float32 and int8.

    pip install '.[onnx]' openvino nncf executorch torchao
    python -m benchmarks.shortcut                 # prints the table, writes benchmarks/shortcut.csv

One thread, one image of 224 px. The weights are those of a new network, for they do not change the time, and neither
does what int8 was calibrated on. The candidates take turns, see rounds.py. The ratios are medians of those to
`mobilenext_100`'s full shortcut in the same round, of the CPU's time.
"""
import argparse
import csv
import os
import platform
import statistics
import tempfile
from pathlib import Path

os.environ['OMP_NUM_THREADS'] = '1'

import torch

import timm

from benchmarks.rounds import measure
from benchmarks.runtimes import load_onnx, load_openvino

FULL, PARTIAL, V2 = 'mobilenext_100', 'mobilenext_100_id050', 'mobilenetv2_100'
SHAPE = (1, 3, 224, 224)


class Concatenation(torch.nn.Module):
    """The shortcut as it was before: slices of a block's output and input, and a concatenation."""

    def __init__(self, block):
        super().__init__()
        self.num_chs = block.skip_chs
        self.block = block
        block.has_skip = False

    def forward(self, x):
        out, n = self.block(x), self.num_chs
        return torch.cat([out[:, :n] + x[:, :n], out[:, n:]], dim=1)


def create(name, is_concatenated=False):
    model = timm.create_model(name).eval()
    for stage in model.blocks if is_concatenated else ():
        for place, block in stage.named_children():
            if block.has_skip:
                stage._modules[place] = Concatenation(block)
    return model


def eager(*network):
    model = create(*network).to(memory_format=torch.channels_last)
    x = torch.randn(SHAPE).to(memory_format=torch.channels_last)

    def run():
        with torch.inference_mode():
            model(x)
    return run


def onnx_runtime(is_int8, *network):
    from timm_mobilenext.hub.onnx import export_onnx, quantize_onnx

    with tempfile.TemporaryDirectory() as folder:
        file, int8 = Path(folder, 'float32.onnx'), Path(folder, 'int8.onnx')
        export_onnx(create(*network), file)
        if is_int8:
            quantize_onnx(file, int8, [torch.randn(SHAPE) for _ in range(4)])
        session = load_onnx(int8 if is_int8 else file)
    x = torch.randn(SHAPE).numpy()
    return lambda: session(x)


def openvino(is_int8, *network):
    import openvino

    model = openvino.convert_model(create(*network), example_input=torch.randn(SHAPE), input=SHAPE)
    if is_int8:
        import nncf
        model = nncf.quantize(model, nncf.Dataset([torch.randn(SHAPE).numpy() for _ in range(4)]))
    compiled = load_openvino(model)
    x = torch.randn(SHAPE).numpy()
    return lambda: compiled(x)


def executorch(is_int8, *network):
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        get_symmetric_quantization_config,
        XNNPACKQuantizer,
    )
    from executorch.exir import to_edge_transform_and_lower
    from executorch.runtime import Runtime
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    inputs = (torch.randn(SHAPE),)
    model = create(*network)
    if is_int8:
        quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
        model = prepare_pt2e(torch.export.export(model, inputs).module(), quantizer)
        for _ in range(4):
            model(torch.randn(SHAPE))
        model = convert_pt2e(model)
    lowered = to_edge_transform_and_lower(torch.export.export(model, inputs), partitioner=[XnnpackPartitioner()])
    buffer = lowered.to_executorch().buffer
    program = Runtime.get().load_program(buffer)
    method = program.load_method('forward')

    def run(kept=(buffer, program)):  # the method does not keep what it reads
        method.execute(inputs)
    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=60, help='rounds in which the candidates take turns')
    parser.add_argument('--repeats', type=int, default=5, help='calls a round')
    parser.add_argument('--output', type=Path, default=Path(__file__).with_suffix('.csv'), help='CSV file to write')
    args = parser.parse_args()
    engines = {
        'eager, channels-last': (eager,),
        'ONNX Runtime': (onnx_runtime, False), 'ONNX Runtime, int8': (onnx_runtime, True),
        'OpenVINO': (openvino, False), 'OpenVINO, int8': (openvino, True),
        'ExecuTorch': (executorch, False), 'ExecuTorch, int8': (executorch, True),
    }
    networks = {V2: (V2,), 'full': (FULL,), 'mask': (PARTIAL,), 'concatenation': (PARTIAL, True)}
    header = ('engine', 'shortcut', 'median_ms', 'ratio_to_full', 'lower_quartile', 'upper_quartile')
    print(f'{platform.machine()}, torch {torch.__version__}, timm {timm.__version__}, {args.rounds} rounds')
    print('{:24}{:18}{:>10}{:>15}{:>16}{:>16}'.format(*header), flush=True)
    rows = []
    for engine, build in engines.items():
        times = measure({name: (*build, *network) for name, network in networks.items()}, {}, args.rounds, args.repeats)
        for name, seconds in times.items():
            ratios = [s / r for s, r in zip(seconds, times['full'], strict=True)]
            quartiles = statistics.quantiles(ratios, n=4)
            figures = (quartiles[1], quartiles[0], quartiles[2])
            rows.append((engine, name, f'{1e3 * statistics.median(seconds):.2f}', *(f'{f:.3f}' for f in figures)))
            print('{:24}{:18}{:>10}{:>15}{:>16}{:>16}'.format(*rows[-1]), flush=True)
    with args.output.open('w', newline='') as f:
        csv.writer(f, lineterminator='\n').writerows((header, *rows))


if __name__ == '__main__':
    main()
