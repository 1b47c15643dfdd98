"""Integrated gradients: they sum to what they explain, and what they find matters more than what they do not."""
import json
import sys

import torch
from captum.attr import IntegratedGradients, LayerAttribution, LayerGradCam
from PIL import Image

import timm

model = timm.create_model('mobilenext_050.cifar10', pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))
pixels = transform(Image.open(sys.argv[1]))[None]
cat = model.pretrained_cfg['label_names'].index('cat')
found, error = IntegratedGradients(model).attribute(pixels, target=cat, n_steps=64, return_convergence_delta=True)
with torch.no_grad():
    explained = (model(pixels) - model(torch.zeros_like(pixels)))[0, cat]
    order = found.abs().sum(1).flatten().argsort(descending=True)
    quarter = len(order) // 4
    logits = []
    for removed in (order[:quarter], order[-quarter:]):
        blurred = pixels.clone().flatten(2)
        blurred[:, :, removed] = blurred.mean(2, keepdim=True)
        logits.append(model(blurred.view_as(pixels))[0, cat].item())
heat = LayerAttribution.interpolate(LayerGradCam(model, model.blocks[-1]).attribute(pixels, cat), (64, 64))
print(json.dumps(dict(
    explained=explained.item(), sum=found.sum().item(), error=error.item(), without_most=logits[0],
    without_least=logits[1], heat=list(heat.shape))))
