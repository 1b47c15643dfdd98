"""Quantizes a model of timm to int8 for ExecuTorch, calibrated on images, and says what that costs."""
import argparse
import sys
from pathlib import Path

try:
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as xnnpack
    from executorch.exir import to_edge_transform_and_lower
    from executorch.runtime import Runtime
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    import timm
    from timm.data import create_transform, ImageDataset, resolve_data_config
except ImportError as error:
    sys.exit(f'{error}: pip install timm executorch torchao')

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument('model', help='name of a model, hf-hub: and a repository, or local-dir: and a folder')
parser.add_argument('calibration', help='folder of images like those that the model will see')
parser.add_argument('validation', help='folder with a folder of images for each class')
parser.add_argument('-o', '--output', type=Path, required=True, help='file to write, .pte')
args = parser.parse_args()
if args.output.exists():
    sys.exit(f'{args.output} exists: remove it, or give another --output')
model = timm.create_model(args.model, pretrained=True).eval()
config = resolve_data_config(model=model)
try:
    calibration, validation = (
        ImageDataset(folder, transform=create_transform(**config)) for folder in (args.calibration, args.validation))
except (AssertionError, RuntimeError) as error:  # timm found no folder, or no images
    sys.exit(f'{args.calibration} and {args.validation} must be folders of images. {error}'.strip())
some = range(0, len(calibration), -(-len(calibration) // 256))  # at most 256 images, from all over the folder


def lower(network):
    program = to_edge_transform_and_lower(torch.export.export(network, (image,)), partitioner=[XnnpackPartitioner()])
    return program.to_executorch().buffer


image = calibration[0][0][None]
quantizer = xnnpack.XNNPACKQuantizer().set_global(xnnpack.get_symmetric_quantization_config(is_per_channel=True))
prepared = prepare_pt2e(torch.export.export(model, (image,)).module(), quantizer)
with torch.no_grad():
    for index in some:
        prepared(calibration[index][0][None])
programs = lower(model), lower(convert_pt2e(prepared))
args.output.write_bytes(programs[1])
float32, int8 = (Runtime.get().load_program(program).load_method('forward') for program in programs)
bytes_before, bytes_after = map(len, programs)
answers = [
    (labels, *(method.execute([images])[0].argmax(1) for method in (float32, int8)))
    for images, labels in torch.utils.data.DataLoader(validation)]
labels, before, after = map(torch.cat, zip(*answers, strict=True))
first, second, same = (
    f'{(one == other).double().mean():.2%}' for one, other in ((before, labels), (after, labels), (before, after)))
print(f'top-1      {first} before, {second} after, of {len(labels):,} images')
print(f'agreement  {same}')
print(f'bytes      {bytes_before:,} before, {bytes_after:,} after')
