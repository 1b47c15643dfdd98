"""Quantizes a model of timm to int8 for ONNX Runtime, calibrated on images, and says what that costs."""
import argparse
import sys
import tempfile
from pathlib import Path

try:
    import torch
    from onnxruntime import InferenceSession
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    import timm
    from timm.data import create_transform, ImageDataset, resolve_data_config
except ImportError as error:
    sys.exit(f'{error}: pip install timm onnx onnxruntime onnxscript sympy')

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument('model', help='name of a model, hf-hub: and a repository, or local-dir: and a folder')
parser.add_argument('calibration', help='folder of images like those that the model will see')
parser.add_argument('validation', help='folder with a folder of images for each class')
parser.add_argument('-o', '--output', type=Path, required=True, help='file to write, .onnx')
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


class Images(CalibrationDataReader):
    remaining = iter(some)

    def get_next(self):
        return next(({'input': calibration[index][0][None].numpy()} for index in self.remaining), None)


with tempfile.TemporaryDirectory() as folder:
    exported, prepared = f'{folder}/exported.onnx', f'{folder}/prepared.onnx'
    torch.onnx.export(
        model, (torch.zeros(2, *config['input_size']),), exported, input_names=['input'], output_names=['logits'],
        dynamic_shapes=({0: 'batch'},), external_data=False, verbose=False)
    quant_pre_process(exported, prepared)
    quantize_static(prepared, args.output, Images(), quant_format=QuantFormat.QDQ, per_channel=True)
    float32, int8 = (InferenceSession(path, providers=['CPUExecutionProvider']) for path in (exported, args.output))
    bytes_before, bytes_after = (Path(path).stat().st_size for path in (exported, args.output))
answers = [
    (labels, *(torch.tensor(session.run(None, {'input': images.numpy()})[0]).argmax(1) for session in (float32, int8)))
    for images, labels in torch.utils.data.DataLoader(validation, batch_size=50)]
labels, before, after = map(torch.cat, zip(*answers, strict=True))
first, second, same = (
    f'{(one == other).double().mean():.2%}' for one, other in ((before, labels), (after, labels), (before, after)))
print(f'top-1      {first} before, {second} after, of {len(labels):,} images')
print(f'agreement  {same}')
print(f'bytes      {bytes_before:,} before, {bytes_after:,} after')
