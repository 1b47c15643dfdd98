"""Quantizes a model of timm to int8 for ONNX Runtime, calibrated on images, and says what that costs."""
import argparse
import sys
import tempfile
from pathlib import Path

try:
    import torch
    from onnxruntime import InferenceSession

    import timm
    from timm.data import create_transform, ImageDataset, resolve_data_config

    from timm_mobilenext.hub.onnx import check_onnx, export_onnx, find_images, prepare_images, quantize_onnx
except ImportError as error:
    sys.exit(f"{error}: pip install 'timm-mobilenext[onnx]'")

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument('model', help='name of a model, hf-hub: and a repository, or local-dir: and a folder')
parser.add_argument('calibration', type=Path, help='folder of images like those that the model will see')
parser.add_argument('validation', help='folder with a folder of images for each class')
parser.add_argument('-o', '--output', type=Path, required=True, help='file to write, .onnx')
args = parser.parse_args()
if args.output.exists():
    sys.exit(f'{args.output} exists: remove it, or give another --output')
model = timm.create_model(args.model, pretrained=True).eval()
try:
    check_onnx(args.calibration)
    validation = ImageDataset(args.validation, transform=create_transform(**resolve_data_config(model=model)))
except (AssertionError, RuntimeError) as error:  # a package is missing, or a folder has no images
    sys.exit(f'{error}' or f'{args.validation} must be a folder of images')

with tempfile.TemporaryDirectory() as folder:
    exported = Path(folder, 'exported.onnx')
    # `timm-mobilenext push --onnx` takes the same steps: torch.onnx.export, then onnxruntime.quantization with pairs of
    # QuantizeLinear and DequantizeLinear and a scale for each channel, on at most 256 images from all over the folder
    export_onnx(model, exported)
    quantize_onnx(exported, args.output, prepare_images(find_images(args.calibration), model))
    float32, int8 = (InferenceSession(path, providers=['CPUExecutionProvider']) for path in (exported, args.output))
    bytes_before, bytes_after = (path.stat().st_size for path in (exported, args.output))
answers = [
    (labels, *(torch.tensor(net.run(None, {'pixel_values': images.numpy()})[0]).argmax(1) for net in (float32, int8)))
    for images, labels in torch.utils.data.DataLoader(validation, batch_size=50)]
labels, before, after = map(torch.cat, zip(*answers, strict=True))
first, second, same = (
    f'{(one == other).double().mean():.2%}' for one, other in ((before, labels), (after, labels), (before, after)))
print(f'top-1      {first} before, {second} after, of {len(labels):,} images')
print(f'agreement  {same}')
print(f'bytes      {bytes_before:,} before, {bytes_after:,} after')
