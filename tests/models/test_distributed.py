"""Two processes train one network by DDP, with timm's loader and task, as train.py does on GPUs."""
import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from PIL import Image
from torch import nn

import timm
from timm.data import create_dataset, create_loader
from timm.layers import convert_sync_batchnorm, SyncBatchNormAct

pytestmark = [pytest.mark.tools, pytest.mark.slow]

COUNT, STEPS = 2, 3
# at 32 pixels half of the batch norms see four values, and gradients grow to 1e4, now and then to 1e29
SIZE = 64


def train(model, loader):
    """Train by timm's task, to the labels of the images in each batch."""
    from timm.task import ClassificationTask

    task = ClassificationTask(model, criterion=nn.CrossEntropyLoss(), verbose=False)
    task.prepare_distributed(device_ids=None, broadcast_buffers=True)
    module = task.get_trainable_module().train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    seen = []
    for images, targets in loader:
        task(images, targets)['loss'].backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(targets)
    return seen


def create(folder):
    dataset = create_dataset('', str(folder), split='train', is_training=True)
    return create_loader(
        dataset, (3, SIZE, SIZE), batch_size=4, is_training=True, no_aug=True, use_prefetcher=False, num_workers=0,
        persistent_workers=False, distributed=True)


def worker(rank, folder, output):
    dist.init_process_group('gloo', init_method=f'file://{output}/rendezvous', rank=rank, world_size=COUNT)
    torch.manual_seed(rank)  # DDP hands the first process's weights to all
    model = timm.create_model('mobilenext_035', num_classes=24, drop_path_rate=0.1)
    initial = model.conv_stem.weight.detach().clone()
    seen = train(model, create(folder))
    torch.save(dict(state_dict=model.state_dict(), initial=initial, seen=seen), f'{output}/{rank}.pt')
    dist.destroy_process_group()


@pytest.mark.timeout(300)
def test_two_processes_share_images_and_gradients(tmp_path):
    noise = np.random.RandomState(0)  # that of Pillow depends on what a process has drawn before
    for label in range(COUNT * STEPS * 4):  # a class for each image, by which it is known
        file = tmp_path / 'images' / 'train' / f'{label:02}' / 'image.png'
        file.parent.mkdir(parents=True)
        Image.fromarray(noise.randint(0, 256, (SIZE, SIZE, 3), dtype='uint8')).save(file)
    mp.spawn(worker, (tmp_path / 'images', tmp_path), nprocs=COUNT)
    first, second = (torch.load(tmp_path / f'{rank}.pt') for rank in range(COUNT))
    # every image was seen once, by one of them
    labels = torch.cat([*first['seen'], *second['seen']])
    assert labels.sort().values.tolist() == list(range(COUNT * STEPS * 4))
    # and both have learned the same of all, from the first one's start
    assert not torch.equal(first['initial'], second['initial'])
    for name, value in first['state_dict'].items():
        if 'running' not in name and 'num_batches' not in name:
            assert torch.equal(value, second['state_dict'][name]), name
            assert value.abs().max() < 10, name  # a training, no explosion
    assert not torch.equal(first['state_dict']['conv_stem.weight'], first['initial'])


def test_sync_batchnorm_replaces_every_norm():
    model = timm.create_model('mobilenext_035', num_classes=10)
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    state_dict = model.state_dict()
    converted = convert_sync_batchnorm(model)
    kinds = {name: type(module) for name, module in converted.named_modules() if name in norms}
    # timm's own class, which keeps the activation
    assert len(norms) > 50 and all(issubclass(kind, SyncBatchNormAct) for kind in kinds.values())
    assert kinds.keys() == norms
    assert converted.state_dict().keys() == state_dict.keys()
