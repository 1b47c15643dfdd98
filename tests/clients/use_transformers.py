"""TimmWrapper classifies by model, processor and pipeline, trains and is saved; TimmBackbone gives feature maps."""
import json
import sys

import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline, TimmBackbone, TimmBackboneConfig

import timm

folder, image = sys.argv[1], Image.open(sys.argv[2])
source = timm.create_model('mobilenext_050.cifar10', pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_data_config(model=source))
processor = AutoImageProcessor.from_pretrained(folder)
names = dict(enumerate(source.pretrained_cfg['label_names']))
model = AutoModelForImageClassification.from_pretrained(folder, id2label=names)
inputs = processor(image, return_tensors='pt')
with torch.no_grad():
    logits, expected = model(**inputs).logits, source(transform(image)[None])
answer, *_ = pipeline('image-classification', model=model, image_processor=processor)(image)

model.train()
loss = model(**inputs, labels=torch.tensor([3])).loss
loss.backward()
gradients = sum(p.grad is not None for p in model.parameters()) / sum(1 for _ in model.parameters())
model.save_pretrained('again')
with torch.no_grad():
    trained = model.eval()(**inputs).logits
    again = AutoModelForImageClassification.from_pretrained('again')(**inputs).logits

backbone = TimmBackbone(TimmBackboneConfig(backbone='mobilenext_050.cifar10', out_indices=[2, 3, 4])).eval()
with torch.no_grad():
    maps = backbone(torch.rand(1, 3, 64, 64)).feature_maps
print(json.dumps(dict(
    error=(logits - expected).abs().max().item(), error_again=(trained - again).abs().max().item(), answer=answer,
    gradients=gradients, channels=backbone.channels, maps=[list(map.shape) for map in maps])))
