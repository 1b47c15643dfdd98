"""Parameters and MACs of a network."""
import json

import torch
from thop import profile
from torch import nn

import timm

found = {}
for name in ('mobilenext_100', 'mobilenetv2_100'):
    model = timm.create_model(name).eval()
    macs, counted = profile(model, (torch.rand(1, 3, 224, 224),), verbose=False)
    norms = [norm for norm in model.modules() if isinstance(norm, nn.BatchNorm2d)]
    found[name] = dict(
        macs=macs, counted=counted, parameters=sum(p.numel() for p in model.parameters()),
        of_batch_norms=sum(p.numel() for norm in norms for p in norm.parameters()))
print(json.dumps(found))
