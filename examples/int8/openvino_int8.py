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
    if file.exists():
        sys.exit(f'{file} exists: remove it, or give another --output')
model = timm.create_model(args.model, pretrained=True).eval()
config = resolve_data_config(model=model)
try:
    calibration, validation = (
        ImageDataset(folder, transform=create_transform(**config)) for folder in (args.calibration, args.validation))
except (AssertionError, RuntimeError) as error:  # timm found no folder, or no images
    sys.exit(f'{args.calibration} and {args.validation} must be folders of images. {error}'.strip())
some = range(0, len(calibration), -(-len(calibration) // 256))  # at most 256 images, from all over the folder

batch = torch.zeros(2, *config['input_size'])
exported = openvino.convert_model(torch.export.export(model, (batch,), dynamic_shapes=({0: torch.export.Dim.AUTO},)))
images = nncf.Dataset([calibration[index][0][None].numpy() for index in some])
openvino.save_model(nncf.quantize(exported, images, subset_size=len(some)), args.output)
with tempfile.TemporaryDirectory() as folder:
    openvino.save_model(exported, f'{folder}/exported.xml', compress_to_fp16=False)
    bytes_before = sum(file.stat().st_size for file in Path(folder).iterdir())
bytes_after = args.output.stat().st_size + weights.stat().st_size
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
