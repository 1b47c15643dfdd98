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
    sys.exit(f"{error}: pip install '.[onnx]' in a checkout of timm-mobilenext")

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument('model', help='name of a model, hf-hub: and a repository, or local-dir: and a folder')
parser.add_argument('calibration', type=Path, help='folder of images like those that the model will see')
parser.add_argument('validation', help='folder with a folder of images for each class')
parser.add_argument('-o', '--output', type=Path, required=True, help='file to write, .onnx')
args = parser.parse_args()
if args.output.exists() or not args.output.absolute().parent.is_dir():
    sys.exit(f'{args.output} exists, or its folder does not: give another --output')
try:
    check_onnx(args.calibration)  # whether its packages are there, and the images
    model = timm.create_model(args.model, pretrained=True).eval()
    validation = ImageDataset(args.validation, transform=create_transform(**resolve_data_config(model=model)))
except (AssertionError, OSError, RuntimeError, ValueError) as error:  # of timm and of the Hub
    needs = f'{args.model} must have weights, {args.calibration} and {args.validation} must be folders of images'
    sys.exit(f'{needs}. {error}'.strip())

with tempfile.TemporaryDirectory(dir=args.output.absolute().parent) as folder:  # what is interrupted leaves no half
    exported, quantized = Path(folder, 'exported.onnx'), Path(folder, 'int8.onnx')
    # `timm-mobilenext push --onnx` takes the same steps: torch.onnx.export, then onnxruntime.quantization with pairs of
    # QuantizeLinear and DequantizeLinear and a scale for each channel, on at most 256 images from all over the folder
    export_onnx(model, exported)
    quantize_onnx(exported, quantized, prepare_images(find_images(args.calibration), model))
    float32, int8 = (InferenceSession(path, providers=['CPUExecutionProvider']) for path in (exported, quantized))
    bytes_before, bytes_after = (path.stat().st_size for path in (exported, quantized))
    quantized.rename(args.output)
answers = [
    (labels, *(torch.tensor(net.run(None, {'pixel_values': images.numpy()})[0]).argmax(1) for net in (float32, int8)))
    for images, labels in torch.utils.data.DataLoader(validation, batch_size=50)]
labels, before, after = map(torch.cat, zip(*answers, strict=True))
first, second, same = (
    f'{(one == other).double().mean():.2%}' for one, other in ((before, labels), (after, labels), (before, after)))
print(f'top-1      {first} before, {second} after, of {len(labels):,} images')
print(f'agreement  {same}')
print(f'bytes      {bytes_before:,} before, {bytes_after:,} after')
