"""Two processes train one network, each on its half of the tiles."""
import json
import subprocess
import sys

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

import timm


def train(tiles):
    accelerator = Accelerator(cpu=True)
    torch.manual_seed(accelerator.process_index)  # every process would begin elsewhere, were they not made alike
    model = timm.create_model('mobilenext_050.cifar10', pretrained=True, num_classes=2)
    transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))
    sets = [ImageFolder(f'{tiles}/{split}', transform) for split in ('train', 'validation')]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model, optimizer, loader, validation = accelerator.prepare(
        model, optimizer, DataLoader(sets[0], 16, shuffle=True), DataLoader(sets[1], 16))
    for _ in range(2):
        for images, labels in loader:
            loss = torch.nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
    model.eval()
    with torch.no_grad():
        right = [accelerator.gather_for_metrics(model(images).argmax(1) == labels) for images, labels in validation]
    sums = accelerator.gather(torch.stack([p.double().sum() for p in model.parameters()]).sum()[None])
    if accelerator.is_main_process:
        right = torch.cat(right)
        accelerator.save_model(model, 'saved')
        network = timm.create_model('mobilenext_050', num_classes=2, checkpoint_path='saved/model.safetensors')
        saved = sum(p.double().sum() for p in network.parameters()).item()
        print(json.dumps(dict(
            processes=accelerator.num_processes, kind=type(model).__name__, measured=len(right),
            accuracy=right.float().mean().item(), sums=sums.tolist(), saved=saved)))


if len(sys.argv) == 2:
    # `accelerate launch` starts one process without a GPU
    launch = f'{sys.executable} -m torch.distributed.run --standalone --nproc-per-node 2'
    subprocess.run([*launch.split(), __file__, sys.argv[1], 'train'], check=True)
else:
    train(sys.argv[1])
