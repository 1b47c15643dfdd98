"""Its command line exports with weights, and the file gives the network's answer."""
import json
import subprocess
import sys

import torch
from PIL import Image

import timm

export = 'timmx export torch-export mobilenext_050.cifar10 --pretrained --softmax --verify --output network.pt2'
subprocess.run(export.split(), check=True)
model = timm.create_model('mobilenext_050.cifar10', pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))
exported = torch.export.load('network.pt2').module()
answer = exported(transform(Image.open(sys.argv[1]))[None])[0]
print(json.dumps(dict(label=model.pretrained_cfg['label_names'][answer.argmax()], score=answer.max().item())))
