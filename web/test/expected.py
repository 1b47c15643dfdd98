"""Writes what the page has to give, as PyTorch, PIL and ONNX Runtime give it: python expected.py PAGE FOLDER."""
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from PIL import Image, ImageOps

import timm
from timm.data import create_transform, resolve_data_config

page, folder = map(Path, sys.argv[1:])
folder.mkdir(parents=True, exist_ok=True)
expected = {'logits': {}, 'boxes': {}, 'resized': []}

# a photograph that was taken with the camera turned, and a large one: the page reads them as it reads the samples
exif = Image.Exif()
exif[0x0112] = 6
with Image.open(page / 'photographs/dog.jpg') as image:
    image.save(folder / 'turned.jpg', exif=exif, quality=95)
    image.resize((6000, 4500)).save(folder / 'large.jpg', quality=90)
Image.new('1', (30000, 30000)).save(folder / 'huge.png')
dog = (page / 'photographs/dog.jpg').read_bytes()
(folder / 'damaged.jpg').write_bytes(dog[:300] + bytes(len(dog) - 300))
(folder / 'cut.jpg').write_bytes(dog[:len(dog) // 2])
(folder / 'notes.txt').write_text('no photograph')
(folder / 'empty.jpg').write_bytes(b'')

model = timm.create_model('mobilenext_050.cifar10', pretrained=True).eval()
transform = create_transform(**resolve_data_config(model=model))
files = [*sorted(page.glob('photographs/*.jpg')), folder / 'turned.jpg', folder / 'large.jpg']
with torch.inference_mode():
    for file in files:
        image = ImageOps.exif_transpose(Image.open(file)).convert('RGB')
        expected['logits'][file.name] = model(transform(image)[None])[0].tolist()
        image.putalpha(255)
        if file.parent != folder:
            (folder / f'{file.name}.rgba').write_bytes(image.tobytes())

settings = json.loads((page / 'detector.json').read_text(encoding='utf-8'))
session = onnxruntime.InferenceSession(page / 'detector.onnx')
for sample in settings['samples']:
    image = Image.open(page / sample['file']).convert('RGB')
    pixels = np.asarray(image.resize((settings['size'],) * 2, Image.Resampling.BILINEAR), np.float32) / 255
    boxes, scores, labels = session.run(None, {'image': pixels.transpose(2, 0, 1)[None].copy()})
    boxes = boxes * np.tile(image.size, 2) / settings['size']
    expected['boxes'][sample['name']] = [
        {'name': settings['classes'][label - 1], 'score': float(score), 'box': box.tolist()}
        for box, score, label in zip(boxes, scores, labels, strict=True)]

random = np.random.default_rng(0)
for width, height, size in ((320, 213, 64), (64, 64, 64), (20, 7, 64), (1, 1, 8), (64, 300, 64), (1001, 17, 5)):
    image = Image.fromarray(random.integers(0, 2, (height, width, 3), np.uint8) * 255)  # extremes: sums overshoot
    for interpolation in ('bicubic', 'bilinear'):
        resized = image.resize((size, size), getattr(Image.Resampling, interpolation.upper()))
        expected['resized'].append({
            'width': width, 'height': height, 'size': size, 'interpolation': interpolation,
            'pixels': image.tobytes().hex(), 'result': resized.tobytes().hex()})
(folder / 'expected.json').write_text(json.dumps(expected), encoding='utf-8')
