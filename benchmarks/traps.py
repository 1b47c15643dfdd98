"""What the traps of docs/deployment.md cost, each beside its way out, with the package's network and photographs.

    pip install 'timmx[onnx,openvino,executorch,ncnn]' sympy
    python -m benchmarks.traps                    # prints the table, writes benchmarks/traps.csv

timmx exports the networks. What a careless program gets is in the column `trap`, and in the next what a careful one
gets. Times are medians of the CPU, on one thread, see rounds.py. Those of int8 are of `mobilenext_100` with new
weights, calibrated on the photographs.
"""
import argparse
import csv
import hashlib
import io
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

os.environ['OMP_NUM_THREADS'] = '1'

import numpy as np
import torch
from PIL import Image

import timm
from timm.data import create_transform, resolve_data_config
from timm.models import save_for_hf

import timm_mobilenext
from benchmarks.rounds import measure
from benchmarks.runtimes import load_executorch, load_ncnn, load_ncnn_net, load_onnx, run_ncnn

PHOTOGRAPHS = sorted((Path(timm_mobilenext.__file__).parent / 'photographs').glob('*.jpg'))
SHIPPED, TIMED = 'mobilenext_050.cifar10', 'mobilenext_100'


def export(format, source, target, *options):
    """A file, or a folder, that timmx writes."""
    command = [sys.executable, '-m', 'timmx', 'export', format, source, '--pretrained', '--output', target, *options]
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return target


def prepare(name):
    """The photographs as a network takes them."""
    transform = create_transform(**resolve_data_config(model=timm.create_model(name)))
    return [transform(Image.open(file).convert('RGB'))[None].numpy() for file in PHOTOGRAPHS]


def read_cat():
    """The photograph of a cat as an app reads it: height, width, channels, from 0 to 1."""
    image = Image.open(next(file for file in PHOTOGRAPHS if file.stem == 'cat')).convert('RGB')
    return np.asarray(image.resize((64, 64), Image.Resampling.BICUBIC), np.float32) / 255


def describe(probabilities):
    names = timm.get_pretrained_cfg(SHIPPED).label_names
    return f'{names[probabilities.argmax()]} {probabilities.max():.1%}'


def largest(answers, expected):
    """The largest difference between the answers for all photographs."""
    return f'{np.abs(np.stack(answers) - np.stack(expected)).max():.2g}'


@torch.inference_mode()
def compute_logits(images):
    model = timm.create_model(SHIPPED, pretrained=True).eval()
    return [model(torch.from_numpy(image)).numpy() for image in images]


def openvino_precision(folder):
    import openvino

    images = prepare(SHIPPED)
    expected = [torch.from_numpy(logits).softmax(1).numpy() for logits in compute_logits(images)]
    file = export('openvino', SHIPPED, folder / 'network.xml', '--softmax')
    found = []
    for config in ({}, {'INFERENCE_PRECISION_HINT': 'f32'}):
        network = openvino.compile_model(file, 'CPU', config)
        found.append([network(image)[0] for image in images])
    classes = [sum(a.argmax() != b.argmax() for a, b in zip(answers, expected, strict=True)) for answers in found]
    yield 'OpenVINO, precision', 'difference of a probability', *(largest(answers, expected) for answers in found)
    yield 'OpenVINO, precision', 'photographs with another class', *classes


def half_weights(folder):
    files = [
        export('openvino', SHIPPED, folder / name / 'network.xml', *options).with_suffix('.bin')
        for name, options in (('half', ()), ('whole', ('--no-fp16',)))]
    yield 'OpenVINO, weights', 'bytes', *(file.stat().st_size for file in files)
    images = prepare(SHIPPED)
    expected = compute_logits(images)
    differences = []
    for name, options in (('ncnn_half', ()), ('ncnn_whole', ('--no-fp16',))):
        run = load_ncnn(export('ncnn', SHIPPED, folder / name, *options))
        differences.append(largest([run(image) for image in images], expected))
    yield 'ncnn, weights', 'difference of a logit', *differences


def strides_and_temporaries(folder):
    import ncnn

    transposed = read_cat().transpose(2, 0, 1)
    pixels = np.ascontiguousarray(transposed)
    run = load_executorch(export('executorch', SHIPPED, folder / 'network.pte', '--normalize', '--softmax'))
    yield 'ExecuTorch, not copied', 'cat', *(describe(run(image[None])) for image in (transposed, pixels))
    net = load_ncnn_net(export('ncnn', SHIPPED, folder / 'ncnn', '--normalize', '--softmax'))
    mats = ncnn.Mat(transposed), ncnn.Mat(pixels)
    yield 'ncnn, not copied', 'cat', *(describe(run_ncnn(net, mat)) for mat in mats)
    mats = ncnn.Mat(pixels.copy()), ncnn.Mat(pixels)  # nothing else refers to the copy
    yield 'ncnn, temporary', 'cat', *(describe(run_ncnn(net, mat)) for mat in mats)


def quantize(exported, file, images, **options):
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        remaining = iter(images)

        def get_next(self):
            return next(({'input': image} for image in self.remaining), None)

    prepared = file.with_suffix('.prepared.onnx')
    quant_pre_process(str(exported), str(prepared))
    with redirect_stdout(io.StringIO()):  # it tells how it calibrates
        quantize_static(str(prepared), str(file), Reader(), per_channel=True, **options)
    return file


def count_float_convolutions(file):
    """Convolutions that ONNX Runtime computes in float32, and all of them."""
    import onnx
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.optimized_model_filepath = str(file.with_suffix('.optimized.onnx'))
    InferenceSession(str(file), options, providers=['CPUExecutionProvider'])
    kinds = [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
    convolutions = [kind for kind in kinds if kind.endswith(('Conv', 'NhwcConv')) or kind == 'FusedConv']
    return f'{sum(not kind.startswith("QLinear") for kind in convolutions)} of {len(convolutions)}'


def build(file, image):
    run = load_onnx(str(file))
    return lambda: run(image)


def onnxruntime_int8(folder):
    from onnxruntime.quantization import CalibrationMethod, QuantType

    images = prepare(TIMED)
    torch.manual_seed(0)
    source = folder / 'source'
    save_for_hf(timm.create_model(TIMED), source, safe_serialization=True)
    exported = export('onnx', f'local-dir:{source}', folder / 'timed.onnx')
    files = [
        quantize(exported, folder / f'{kind.name}.onnx', images, activation_type=kind)
        for kind in (QuantType.QInt8, QuantType.QUInt8)]
    what = 'ONNX Runtime, activations'
    yield what, 'convolutions in float32', *map(count_float_convolutions, files)
    times = measure({str(file): (build, file, images[0]) for file in (exported, *files)}, {}, 60, 5)
    float32, *int8 = (f'{1e3 * statistics.median(seconds):.2f}' for seconds in times.values())
    yield what, 'ms', *int8
    yield what, 'ms in float32', float32, float32
    images = prepare(SHIPPED)
    exported = export('onnx', SHIPPED, folder / 'shipped.onnx')
    digests = [
        hashlib.sha256(quantize(
            exported, folder / f'{method.name}.onnx', images, activation_type=QuantType.QUInt8,
            calibrate_method=method).read_bytes()).hexdigest()
        for method in (CalibrationMethod.Entropy, CalibrationMethod.Percentile, CalibrationMethod.MinMax)]
    yield 'ONNX Runtime, Entropy', 'digest', *(digest[:12] for digest in (digests[0], digests[2]))
    yield 'ONNX Runtime, Percentile', 'digest', *(digest[:12] for digest in digests[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--output', type=Path, default=Path(__file__).with_suffix('.csv'), help='CSV file to write')
    args = parser.parse_args()
    torch.set_num_threads(1)
    header = ('what', 'figure', 'trap', 'way_out')
    form = '{:28}{:32}{:>16}{:>16}'
    print(form.format(*header))
    rows = []
    for look in (openvino_precision, half_weights, strides_and_temporaries, onnxruntime_int8):
        with tempfile.TemporaryDirectory() as folder:
            for row in look(Path(folder)):
                rows.append(row)
                print(form.format(*map(str, row)), flush=True)
    with args.output.open('w', newline='') as f:
        csv.writer(f, lineterminator='\n').writerows((header, *rows))


if __name__ == '__main__':
    main()
