"""Channels are pruned through every block, by magnitude, and training brings the accuracy on white cells back."""
import json
import sys

import torch
import torch_pruning as tp
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

import timm

torch.manual_seed(0)
model = timm.create_model('mobilenext_050.cifar10', pretrained=True, num_classes=2)
transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))
sets = {split: ImageFolder(f'{sys.argv[1]}/{split}', transform) for split in ('train', 'validation')}


def train(epochs):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.train()
    for _ in range(epochs):
        for images, labels in DataLoader(sets['train'], 32, shuffle=True):
            loss = torch.nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@torch.no_grad()
def measure():
    model.eval()
    images, labels = next(iter(DataLoader(sets['validation'], 256)))
    return (model(images).argmax(1) == labels).float().mean().item()


image = torch.rand(1, 3, 64, 64)
train(2)
accuracies = [measure()]
before = tp.utils.count_ops_and_params(model, image)
importance = tp.importance.GroupMagnitudeImportance()
tp.pruner.MagnitudePruner(model, image, importance, pruning_ratio=0.4, ignored_layers=[model.classifier]).step()
after = tp.utils.count_ops_and_params(model, image)
accuracies.append(measure())
train(3)
accuracies.append(measure())
print(json.dumps(dict(macs=[before[0], after[0]], parameters=[before[1], after[1]], accuracies=accuracies)))
