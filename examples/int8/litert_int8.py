"""Quantizes a model of timm to int8 for LiteRT, calibrated on images, and says what that costs."""
import argparse
import sys
import tempfile
from pathlib import Path

try:
    import litert_torch
    import torch
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import qtyping, recipe
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.quantizer import Quantizer

    import timm
    from timm.data import create_transform, ImageDataset, resolve_data_config
except ImportError as error:
    sys.exit(f'{error}: pip install timm litert-torch ai-edge-litert ai-edge-quantizer')

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument('model', help='name of a model, hf-hub: and a repository, or local-dir: and a folder')
parser.add_argument('calibration', help='folder of images like those that the model will see')
parser.add_argument('validation', help='folder with a folder of images for each class')
parser.add_argument('-o', '--output', type=Path, required=True, help='file to write, .tflite')
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

with tempfile.TemporaryDirectory(dir=args.output.absolute().parent) as folder:  # what is interrupted leaves no half
    exported, quantized = Path(folder, 'exported.tflite'), Path(folder, 'int8.tflite')
    litert_torch.convert(model, (calibration[0][0][None],)).export(str(exported))
    quantizer = Quantizer(exported, recipe.static_wi8_ai8())
    for end in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):  # these stay float32
        quantizer.update_quantization_recipe('.*', end, algorithm_key=AlgorithmName.NO_QUANTIZE)
    images = [{'args_0': calibration[index][0][None].numpy()} for index in some]
    quantizer.quantize(quantizer.calibrate({'serving_default': images})).export_model(quantized)
    float32, int8 = (Interpreter(str(path)).get_signature_runner() for path in (exported, quantized))
    bytes_before, bytes_after = (path.stat().st_size for path in (exported, quantized))
    quantized.rename(args.output)
answers = [
    (labels, *(torch.from_numpy(runner(args_0=images.numpy())['output_0']).argmax(1) for runner in (float32, int8)))
    for images, labels in torch.utils.data.DataLoader(validation)]
labels, before, after = map(torch.cat, zip(*answers, strict=True))
first, second, same = (
    f'{(one == other).double().mean():.2%}' for one, other in ((before, labels), (after, labels), (before, after)))
print(f'top-1      {first} before, {second} after, of {len(labels):,} images')
print(f'agreement  {same}')
print(f'bytes      {bytes_before:,} before, {bytes_after:,} after')
