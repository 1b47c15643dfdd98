"""Feature maps by name, a pyramid on them, and Faster R-CNN on the pyramid, which learns to find cells."""
import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import torch
from torch import nn
from torchvision.io import decode_image
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names
from torchvision.ops import FeaturePyramidNetwork

import timm

cells = Path(sys.argv[1])
sides = 'xmin', 'ymin', 'xmax', 'ymax'


class Backbone(nn.Module):
    out_channels = 32

    def __init__(self):
        super().__init__()
        network = timm.create_model('mobilenext_050.cifar10', pretrained=True)
        self.body = create_feature_extractor(network, {'blocks.4': '0', 'blocks.7': '1'})
        self.fpn = FeaturePyramidNetwork([192, 1280], self.out_channels)

    def forward(self, images):
        return self.fpn(self.body(images))


def read(name):
    boxes = ElementTree.parse(cells / 'Annotations' / f'{name}.xml').iter('bndbox')
    boxes = torch.tensor([[float(box.findtext(side)) for side in sides] for box in boxes])
    return decode_image(cells / 'JPEGImages' / f'{name}.jpg', mode='RGB') / 255, dict(
        boxes=boxes, labels=torch.ones(len(boxes), dtype=torch.long))


torch.manual_seed(0)
network = timm.create_model('mobilenext_050.cifar10', pretrained=True).eval()
nodes = get_graph_node_names(network)[1]
maps = create_feature_extractor(network, ['blocks.2', 'blocks.4', 'classifier'])(torch.rand(1, 3, 64, 64))
anchors = AnchorGenerator(((32,), (64,)), ((1.0,),) * 2)
model = FasterRCNN(
    Backbone(), 2, rpn_anchor_generator=anchors, min_size=192, max_size=256, rpn_batch_size_per_image=64,
    box_batch_size_per_image=64)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
data = [read(name) for name in (cells / 'ImageSets' / 'Main' / 'train.txt').read_text().split()]
losses = []
for _ in range(10):
    for part in torch.randperm(len(data)).split(4):
        images, targets = zip(*(data[i] for i in part), strict=True)
        loss = sum(model(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
with torch.no_grad():
    found, = model.eval()([data[0][0]])
print(json.dumps(dict(
    maps={name: list(map.shape) for name, map in maps.items()}, nodes=len(nodes), first=losses[0], last=losses[-1],
    best=found['scores'][:5].tolist())))
