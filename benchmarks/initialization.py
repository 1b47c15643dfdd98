"""What the weight initialization is worth in a short training of mobilenext_035 on handwritten digits.

    python benchmarks/initialization.py           # prints the table, writes benchmarks/initialization.csv

The training is that of the demo, but shorter and smaller: 48 px, 8 epochs of AdamW. The figures are those of the raw
weights. 'timm + linear' is timm's scheme for the convolutions and the authors' for the linear layer.
"""
import argparse
import csv
import platform
import statistics
import tempfile
from pathlib import Path

import torch
from rich.console import Console

import timm
from timm.data import create_dataset
from timm.utils import random_seed

from timm_mobilenext.classify.demo import create_loaders, train, write_digits

SCHEMES = ('authors', 'timm + linear', 'timm')


def top1(folder, scheme, seed, epochs, img_size):
    """Raw top-1 in percent after the last epoch."""
    random_seed(seed)
    train_dataset = create_dataset('', str(folder), split='train', is_training=True)
    validation_dataset = create_dataset('', str(folder), split='validation')
    overlay = dict(input_size=(3, img_size, img_size), crop_pct=1.0)
    model = timm.create_model(
        'mobilenext_035', num_classes=10, weight_init=scheme.split()[0], pretrained_cfg_overlay=overlay)
    if scheme == 'timm + linear':
        torch.nn.init.normal_(model.get_classifier().weight, std=0.01)
    loaders = create_loaders(train_dataset, validation_dataset, model, batch_size=32, hflip=0.)
    _, history = train(model, *loaders, epochs, Console(quiet=True))
    return history[-1]['raw']


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seeds', type=int, default=5, help='seeds of each scheme')
    parser.add_argument('--epochs', type=int, default=8, help='epochs of each training')
    parser.add_argument('--img-size', type=int, default=48, help='size of the images in pixels')
    parser.add_argument('--output', type=Path, default=Path(__file__).with_suffix('.csv'), help='CSV file to write')
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    print(f'{platform.machine()}, torch {torch.__version__}, timm {timm.__version__}\n')
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, 'digits')
        write_digits(folder)
        for scheme in SCHEMES:
            results = [round(top1(folder, scheme, seed, args.epochs, args.img_size), 2) for seed in range(args.seeds)]
            rows += [(scheme, seed, f'{result:.2f}') for seed, result in enumerate(results)]
            print(
                f'{scheme:15} mean {statistics.mean(results):6.2f} %   each',
                *(f'{result:.2f}' for result in results), flush=True)
    with args.output.open('w', newline='') as f:
        csv.writer(f, lineterminator='\n').writerows((('scheme', 'seed', 'top1'), *rows))


if __name__ == '__main__':
    main()
