"""Every decoder on a MobileNeXt, every depth and stride of the encoder, and white blood cells in photographs."""
import json
import sys
from pathlib import Path

import segmentation_models_pytorch as smp
import torch
from torchvision.io import decode_image
from torchvision.transforms.functional import resize

folder = Path(sys.argv[1])
shapes = {}
for name in ('Unet', 'UnetPlusPlus', 'MAnet', 'Linknet', 'FPN', 'PSPNet', 'DeepLabV3', 'DeepLabV3Plus', 'PAN',
             'UPerNet', 'Segformer', 'DPT'):
    options = {'decoder_readout': 'ignore'} if name == 'DPT' else {}  # there is no class token
    model = smp.create_model(name, 'tu-mobilenext_035', encoder_weights=None, classes=2, **options).train()
    out = model(torch.rand(2, 3, 128, 128))
    out.mean().backward()
    shapes[name] = [*out.shape, sum(p.grad is not None for p in model.encoder.parameters()) > 0]
depths = {}
for depth in range(1, 6):
    encoder = smp.encoders.get_encoder('tu-mobilenext_035', weights=None, depth=depth)
    depths[depth] = [[map.shape[1], 64 // map.shape[2]] for map in encoder(torch.rand(1, 3, 64, 64))[1:]]
strides = {}
for stride in (8, 16, 32):
    encoder = smp.encoders.get_encoder('tu-mobilenext_035', weights=None, output_stride=stride)
    strides[stride] = 64 // encoder(torch.rand(1, 3, 64, 64))[-1].shape[2]


def read(split):
    files = sorted((folder / split / 'images').iterdir())
    images = torch.stack([resize(decode_image(file, mode='RGB'), [128, 128]) for file in files])
    masks = [decode_image(folder / split / 'masks' / f'{file.stem}.png') for file in files]
    return images / 255, torch.stack([resize(mask, [128, 128]) for mask in masks]) > 127


@torch.no_grad()
def measure(model):
    predicted = model.eval()(images).sigmoid()
    stats = smp.metrics.get_stats(predicted, masks.long(), mode='binary', threshold=0.5)
    return smp.metrics.iou_score(*stats, reduction='micro').item()


torch.manual_seed(0)
images, masks = read('train')
model = smp.FPN('tu-mobilenext_050.cifar10', encoder_weights=True, classes=1)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
compute_loss = smp.losses.DiceLoss('binary')
for _ in range(20):
    for part in torch.randperm(len(images)).split(4):
        loss = compute_loss(model(images[part]), masks[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
images, masks = read('validation')
print(json.dumps(dict(
    shapes=shapes, depths=depths, strides=strides, iou=measure(model), iou_of_all=masks.float().mean().item())))
