"""Average precision of the boxes that `timm-mobilenext detect predict` wrote, and top-1 of a classifier."""
import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import torch
from PIL import Image
from torchmetrics.classification import MulticlassAccuracy
from torchmetrics.detection import MeanAveragePrecision

import timm

cells, found, names = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()), sys.argv[3].split(',')
classes = ['Platelets', 'RBC', 'WBC']
sides = 'xmin', 'ymin', 'xmax', 'ymax'
measured = MeanAveragePrecision()
for photograph in found:
    name = Path(photograph['file']).stem
    if name in names:
        boxes = photograph['boxes']
        truth = list(ElementTree.parse(cells / 'Annotations' / f'{name}.xml').iter('object'))
        measured.update([dict(
            boxes=torch.tensor([box['box'] for box in boxes]), scores=torch.tensor([box['score'] for box in boxes]),
            labels=torch.tensor([classes.index(box['class']) for box in boxes]),
        )], [dict(
            boxes=torch.tensor([[float(cell.findtext(f'bndbox/{side}')) for side in sides] for cell in truth]),
            labels=torch.tensor([classes.index(cell.findtext('name')) for cell in truth]),
        )])

model = timm.create_model('mobilenext_050.cifar10', pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))
labels = dict(cat='cat', dog='dog', duck='bird', horses='horse', kitten='cat', macaw='bird', moose='deer', owl='bird')
top1 = MulticlassAccuracy(10, average='micro')
for name, label in labels.items():
    with torch.no_grad():
        logits = model(transform(Image.open(Path(sys.argv[4], f'{name}.jpg')))[None])
    top1.update(logits, torch.tensor([model.pretrained_cfg['label_names'].index(label)]))
ap = measured.compute()
print(json.dumps(dict(ap=ap['map'].item(), ap50=ap['map_50'].item(), top1=top1.compute().item())))
