"""Quantizes a model of timm to int8 for OpenVINO, calibrated on images, and says what that costs."""
import argparse
import sys
import tempfile
from pathlib import Path

try:
    import nncf
    import openvino
    import torch

    import timm
    from timm.data import create_transform, ImageDataset, resolve_data_config
except ImportError as error:
    sys.exit(f'{error}: pip install timm openvino nncf')

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument('model', help='name of a model, hf-hub: and a repository, or local-dir: and a folder')
parser.add_argument('calibration', help='folder of images like those that the model will see')
parser.add_argument('validation', help='folder with a folder of images for each class')
parser.add_argument(
    '-o', '--output', type=Path, required=True, help='file to write, .xml; its weights go to a .bin beside it')
args = parser.parse_args()
weights = args.output.with_suffix('.bin')
for file in (args.output, weights):
    if file.exists() or not file.absolute().parent.is_dir():
        sys.exit(f'{file} exists, or its folder does not: give another --output')
try:
    model = timm.create_model(args.model, pretrained=True).eval()
    config = resolve_data_config(model=model)
    calibration, validation = (
        ImageDataset(folder, transform=create_transform(**config)) for folder in (args.calibration, args.validation))
except (AssertionError, OSError, RuntimeError, ValueError) as error:  # of timm and of the Hub
    needs = f'{args.model} must have weights, {args.calibration} and {args.validation} must be folders of images'
    sys.exit(f'{needs}. {error}'.strip())
some = range(0, len(calibration), -(-len(calibration) // 256))  # at most 256 images, from all over the folder

batch = torch.zeros(2, *config['input_size'])
exported = openvino.convert_model(torch.export.export(model, (batch,), dynamic_shapes=({0: torch.export.Dim.AUTO},)))
images = nncf.Dataset([calibration[index][0][None].numpy() for index in some])
quantized = nncf.quantize(exported, images, subset_size=len(some))
with tempfile.TemporaryDirectory(dir=args.output.absolute().parent) as folder:  # what is interrupted leaves no half
    openvino.save_model(exported, f'{folder}/exported.xml', compress_to_fp16=False)
    openvino.save_model(quantized, f'{folder}/int8.xml')
    bytes_before, bytes_after = (
        sum(file.stat().st_size for file in Path(folder).glob(f'{name}.*')) for name in ('exported', 'int8'))
    Path(folder, 'int8.bin').rename(weights)
    Path(folder, 'int8.xml').rename(args.output)
precision = {'INFERENCE_PRECISION_HINT': 'f32'}  # where the processor can, OpenVINO computes in bfloat16 by default
float32, int8 = (openvino.compile_model(network, 'CPU', precision) for network in (exported, args.output))
answers = [
    (labels, *(torch.from_numpy(network(images.numpy())[0]).argmax(1) for network in (float32, int8)))
    for images, labels in torch.utils.data.DataLoader(validation, batch_size=50)]
labels, before, after = map(torch.cat, zip(*answers, strict=True))
first, second, same = (
    f'{(one == other).double().mean():.2%}' for one, other in ((before, labels), (after, labels), (before, after)))
print(f'top-1      {first} before, {second} after, of {len(labels):,} images')
print(f'agreement  {same}')
print(f'bytes      {bytes_before:,} before, {bytes_after:,} after')
