"""Quantizes a model of timm to int8 for ExecuTorch, calibrated on images, and says what that costs."""
import argparse
import sys
import tempfile
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
if args.output.exists() or not args.output.absolute().parent.is_dir():
    sys.exit(f'{args.output} exists, or its folder does not: give another --output')
try:
    model = timm.create_model(args.model, pretrained=True).eval()
    config = resolve_data_config(model=model)
    calibration, validation = (
        ImageDataset(folder, transform=create_transform(**config)) for folder in (args.calibration, args.validation))
except (AssertionError, OSError, RuntimeError, ValueError) as error:  # of timm and of the Hub
    needs = f'{args.model} must have weights, {args.calibration} and {args.validation} must be folders of images'
    sys.exit(f'{needs}. {error}'.strip())
some = range(0, len(calibration), -(-len(calibration) // 256))  # at most 256 images, from all over the folder

image = calibration[0][0][None]
quantizer = xnnpack.XNNPACKQuantizer().set_global(xnnpack.get_symmetric_quantization_config(is_per_channel=True))
prepared = prepare_pt2e(torch.export.export(model, (image,)).module(), quantizer)
with torch.no_grad():
    for index in some:
        prepared(calibration[index][0][None])
exported = [torch.export.export(network, (image,)) for network in (model, convert_pt2e(prepared))]
programs = [
    to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch().buffer
    for program in exported]
with tempfile.TemporaryDirectory(dir=args.output.absolute().parent) as folder:  # what is interrupted leaves no half
    Path(folder, 'int8').write_bytes(programs[1])
    Path(folder, 'int8').rename(args.output)
float32, int8 = (Runtime.get().load_program(program).load_method('forward') for program in programs)
answers = [
    (labels, *(method.execute([images])[0].argmax(1) for method in (float32, int8)))
    for images, labels in torch.utils.data.DataLoader(validation)]
labels, before, after = map(torch.cat, zip(*answers, strict=True))
first, second, same = (
    f'{(one == other).double().mean():.2%}' for one, other in ((before, labels), (after, labels), (before, after)))
print(f'top-1      {first} before, {second} after, of {len(labels):,} images')
print(f'agreement  {same}')
print(f'bytes      {len(programs[0]):,} before, {len(programs[1]):,} after')
