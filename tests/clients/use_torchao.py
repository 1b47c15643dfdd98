"""PT2E: eight photographs calibrate the network, and int8 says what float32 said of them."""
import json
import sys
from pathlib import Path

import torch
import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer as x86
from PIL import Image
from torchao.quantization.pt2e import move_exported_model_to_eval
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

import timm

model = timm.create_model('mobilenext_050.cifar10', pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))
pixels = torch.stack([transform(Image.open(file)) for file in sorted(Path(sys.argv[1]).glob('*.jpg'))])
exported = torch.export.export(model, (pixels,)).module()
quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
prepared = prepare_pt2e(exported, quantizer)
prepared(pixels)
quantized = move_exported_model_to_eval(convert_pt2e(prepared))
with torch.no_grad():
    float32, int8 = model(pixels), quantized(pixels)
targets = [str(node.target) for node in quantized.graph.nodes]
print(json.dumps(dict(
    same=(float32.argmax(1) == int8.argmax(1)).sum().item(), of=len(pixels), differ=not torch.equal(float32, int8),
    correlation=torch.corrcoef(torch.stack([float32.flatten(), int8.flatten()]))[0, 1].item(),
    convolutions=sum('conv2d' in target for target in targets),
    quantized=sum('dequantize_per_channel' in target for target in targets))))
