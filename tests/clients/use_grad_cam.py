"""Grad-CAM on two photographs side by side: the heat of each one's class lies on it."""
import json
import sys

import torch
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import show_cam_on_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

import timm

model = timm.create_model('mobilenext_050.cifar10', pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))
pixels = torch.cat([transform(Image.open(file)) for file in sys.argv[1:]], 2)[None]
labels = model.pretrained_cfg['label_names']
with GradCAM(model=model, target_layers=[model.blocks[-1]]) as cam:
    heats = [cam(pixels, [ClassifierOutputTarget(labels.index(label))])[0] for label in ('cat', 'horse')]
image = pixels[0].permute(1, 2, 0).sub(pixels.min()).div(pixels.max() - pixels.min()).numpy()
Image.fromarray(show_cam_on_image(image, heats[0], use_rgb=True)).save('cat.png')
left, right = (heat[:, :64].sum() / heat.sum() for heat in heats)
print(json.dumps(dict(left=left.item(), right=1 - right.item())))
