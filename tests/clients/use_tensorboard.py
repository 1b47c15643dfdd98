"""The graph of a network, its weights and an answer, written by torch and read as TensorBoard reads them."""
import json
import sys

import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

import timm

model = timm.create_model('mobilenext_050.cifar10', pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))
image = transform(Image.open(sys.argv[1]))[None]
with SummaryWriter('runs') as writer, torch.no_grad():
    writer.add_graph(model, image)
    writer.add_scalar('cat', model(image).softmax(1)[0, 3], 0)
    for name, weight in model.named_parameters():
        writer.add_histogram(name, weight, 0)
events = EventAccumulator('runs').Reload()
tags = events.Tags()
print(json.dumps(dict(
    cat=events.Scalars('cat')[0].value, histograms=len(tags['histograms']), weights=len(list(model.parameters())),
    convolutions=sum(node.op == 'aten::_convolution' for node in events.Graph().node))))
