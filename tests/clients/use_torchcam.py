"""Class activation maps by two methods, on two photographs side by side: the heat of each one's class lies on it."""
import json
import sys

import torch
from PIL import Image
from torchcam.methods import GradCAM, LayerCAM

import timm

model = timm.create_model('mobilenext_050.cifar10', pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))
pixels = torch.cat([transform(Image.open(file)) for file in sys.argv[1:]], 2)[None]
labels = model.pretrained_cfg['label_names']
shares = {}
for method in (GradCAM, LayerCAM):
    with method(model, 'blocks.7') as cam:
        left, right = (cam(labels.index(label), model(pixels))[0][0] for label in ('cat', 'horse'))
    half = left.shape[1] // 2
    shares[method.__name__] = [(left[:, :half].sum() / left.sum()).item(), (right[:, half:].sum() / right.sum()).item()]
print(json.dumps(shares))
