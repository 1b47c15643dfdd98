"""What `make test-wheel` runs where nothing but the wheel is installed: timm alone, with no import of ours."""
import sys
from pathlib import Path

import torch
from PIL import Image

import timm

assert 'site-packages' in (where := sys.modules['timm_mobilenext'].__file__), where
photographs = Path(where).parent / 'photographs'
model = timm.create_model('mobilenext_050.cifar10', pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))
with torch.inference_mode():
    best = model(transform(Image.open(photographs / 'moose.jpg').convert('RGB'))[None]).argmax().item()
assert model.pretrained_cfg['label_names'][best] == 'deer', best
maps = timm.create_model('mobilenext_100', features_only=True, out_indices=(2, 3, 4)).eval()(torch.zeros(1, 3, 64, 64))
assert [tuple(x.shape[1:]) for x in maps] == [(192, 8, 8), (384, 4, 4), (1280, 2, 2)], [x.shape for x in maps]
print(f'Python {sys.version.split()[0]}, timm {timm.__version__}, torch {torch.__version__}: used')
