"""Train a network of timm as the encoder of a segmentation network, on the road scenes of CamVid.

    pip install . segmentation-models-pytorch torchmetrics
    python -m experiments.segmentation --model mobilenext_075 --checkpoint last.pth.tar --data-dir camvid --lr 2e-3 \\
        --output output/scenes

segmentation_models.pytorch makes the encoder of timm's network, by its name and with nothing of ours, and the network
around it: DeepLabV3+, with the encoder at stride 16. Training sees random crops, the validation whole images.
metrics.json has the intersection over union of each class by torchmetrics after the last epoch, and masks.npz what was
predicted.
"""
import argparse
import json
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn, Tensor
from torch.utils.data import DataLoader, Dataset
from torchmetrics.classification import MulticlassJaccardIndex
from torchvision import tv_tensors
from torchvision.transforms import v2

import timm
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import random_seed

from timm_mobilenext.checkpoints.read import read_checkpoint, select_state_dict
from timm_mobilenext.shared.counts import count
from timm_mobilenext.shared.files import replacing

SIZE, CROP_SIZE = (240, 320), (192, 256)
VOID = 11  # pixels of no class
DECODER_CHANNELS, OUTPUT_STRIDE = 128, 16


class Scenes(Dataset):
    """Images of a split, each with its mask of classes: uint8 of 3 x H x W, and of H x W.

    Args:
        data_dir: Folder of `images/SPLIT/*.jpg`, `masks/SPLIT/*.png` and `classes.txt`.
        split: train, val or test.
        transform: Takes an image and a mask.
    """

    def __init__(self, data_dir: Path, split: str, transform: v2.Transform) -> None:
        files = sorted((data_dir / 'images' / split).glob('*.jpg'))
        self.names = [file.stem for file in files]
        self.images = [np.asarray(Image.open(file)) for file in files]
        self.masks = [np.asarray(Image.open(data_dir / 'masks' / split / f'{name}.png')) for name in self.names]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Tuple[Tensor, Tensor]:
        image = torch.from_numpy(self.images[index].copy()).permute(2, 0, 1)
        return self.transform(tv_tensors.Image(image), tv_tensors.Mask(self.masks[index].copy()))


def create_network(model: str, num_classes: int) -> nn.Module:
    """DeepLabV3+ around a network of timm, with new weights."""
    return smp.create_model(
        'deeplabv3plus', encoder_name=f'tu-{model}', encoder_weights=None, encoder_output_stride=OUTPUT_STRIDE,
        decoder_channels=DECODER_CHANNELS, classes=num_classes)


def load_encoder(network: nn.Module, checkpoint: Path) -> None:
    """Load a classifier's checkpoint by timm's train.py into the encoder, which lacks the classifier's end.

    Raises:
        SystemExit: The checkpoint is not one of the encoder.
    """
    weights, _ = select_state_dict(read_checkpoint(checkpoint), ema=False)  # of the last epoch, not averaged
    own = network.encoder.model.state_dict()
    for key, value in own.items():
        if key not in weights or weights[key].shape != value.shape:
            raise SystemExit(f'{checkpoint} is not a checkpoint of this encoder, whose {key} is {tuple(value.shape)}.')
    network.encoder.model.load_state_dict({key: weights[key] for key in own})


def evaluate(network: nn.Module, loader: DataLoader, num_classes: int) -> Tuple[List[float], float, np.ndarray]:
    """Intersection over union of each class in percent, the loss, and the predicted classes of all pixels."""
    overlap = MulticlassJaccardIndex(num_classes, average=None, ignore_index=VOID)
    losses, predictions = [], []
    network.eval()
    with torch.inference_mode():
        for images, masks in loader:
            logits = network(images.contiguous(memory_format=torch.channels_last))
            losses.append(F.cross_entropy(logits, masks, ignore_index=VOID).item())
            predictions.append(logits.argmax(1).byte())
            overlap.update(predictions[-1], masks)
    return [100 * value for value in overlap.compute().tolist()], float(np.mean(losses)), torch.cat(predictions).numpy()


def train_epoch(network: nn.Module, loader: DataLoader, optimizer: Any, scheduler: Any, epoch: int) -> float:
    """Train for an epoch. Returns the mean loss."""
    losses = []
    network.train()
    for step, (images, masks) in enumerate(loader):
        loss = F.cross_entropy(network(images.contiguous(memory_format=torch.channels_last)), masks, ignore_index=VOID)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        scheduler.step_update(epoch * len(loader) + step + 1)
    return float(np.mean(losses))


def run(args: argparse.Namespace) -> None:
    """Train, evaluate, and keep what came out."""
    torch.set_num_threads(1)
    random_seed(args.seed)
    classes = (args.data_dir / 'classes.txt').read_text().split()
    cfg = timm.get_pretrained_cfg(args.model)
    normalize = v2.Compose([
        v2.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64}, scale=True),
        v2.Normalize(cfg.mean, cfg.std), v2.ToPureTensor()])
    augment = v2.Compose([
        v2.ScaleJitter(SIZE, (0.8, 1.6)), v2.RandomCrop(CROP_SIZE, pad_if_needed=True, fill={tv_tensors.Mask: VOID}),
        v2.RandomHorizontalFlip(), normalize])
    train_set, val_set = Scenes(args.data_dir, 'train', augment), Scenes(args.data_dir, args.val_split, normalize)
    train_loader = DataLoader(train_set, args.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, args.batch_size)

    network = create_network(args.model, len(classes))
    if args.checkpoint:
        load_encoder(network, args.checkpoint)
    network = network.to(memory_format=torch.channels_last)
    optimizer = create_optimizer_v2(network, 'adamw', lr=args.lr, weight_decay=1e-2)
    scheduler = CosineLRScheduler(
        optimizer, t_initial=args.epochs * len(train_loader), warmup_t=len(train_loader), warmup_lr_init=1e-5,
        t_in_epochs=False)
    scheduler.step_update(0)
    for epoch in range(args.epochs):
        loss = train_epoch(network, train_loader, optimizer, scheduler, epoch)
        print(f'epoch {epoch + 1:3}   loss {loss:.4f}', flush=True)

    overlaps, loss, predictions = evaluate(network, val_loader, len(classes))
    args.output.mkdir(parents=True, exist_ok=True)
    with replacing(args.output / 'masks.npz') as new, new.open('wb') as file:
        np.savez_compressed(file, names=val_set.names, masks=predictions)
    metrics: Dict[str, Any] = dict(miou=np.mean(overlaps), loss=loss, iou=dict(zip(classes, overlaps, strict=True)))
    metrics.update(count(network, (3, *SIZE)))
    with replacing(args.output / 'metrics.json') as new:
        new.write_text(json.dumps(metrics, indent=2) + '\n')
    print(f'mean IoU {metrics["miou"]:.2f} %, loss {loss:.4f}')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--model', required=True, help="timm's name of the encoder")
    parser.add_argument('--checkpoint', type=Path, help="classifier's checkpoint to start from")
    parser.add_argument('--data-dir', type=Path, required=True, metavar='DIR', help='folder of camvid')
    parser.add_argument('--val-split', default='val', choices=('val', 'test'), help='split to evaluate on')
    parser.add_argument('--epochs', type=int, default=30, help='passes over the images')
    parser.add_argument('--batch-size', type=int, default=8, help='images a step')
    parser.add_argument('--lr', type=float, required=True, help='learning rate')
    parser.add_argument('--seed', type=int, default=0, help='seed of weights, crops and order')
    parser.add_argument('--output', type=Path, required=True, metavar='DIR', help='folder for what came out')
    run(parser.parse_args())


if __name__ == '__main__':
    main()
