"""Logits of untrained networks in eval mode, with the statistics that they start with and with mean 0 and variance 1.

    python -m benchmarks.untrained                # prints the table, writes benchmarks/untrained.csv

The deviation is that of all logits of the package's eight photographs, at 224 px. An untrained network with a
deviation near 0 answers with rounding errors.
"""
import argparse
import csv
from pathlib import Path

import torch
from PIL import Image

import timm
from timm.data import create_transform, resolve_data_config

import timm_mobilenext

PHOTOGRAPHS = sorted((Path(timm_mobilenext.__file__).parent / 'photographs').glob('*.jpg'))
DTYPES = dict(float32=torch.float32, bfloat16=torch.bfloat16, float16=torch.float16)


def deviation(model, x, dtype=torch.float32):
    with torch.inference_mode():
        return model.to(dtype)(x.to(dtype)).float().std().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--output', type=Path, default=Path(__file__).with_suffix('.csv'), help='CSV file to write')
    args = parser.parse_args()
    header = ('model', 'zero_and_one', *DTYPES)
    print('{:24}{:>14}{:>10}{:>10}{:>10}'.format(*header))
    rows = []
    for name in [*timm.list_models(module='mobilenext'), 'mobilenetv2_100']:
        torch.manual_seed(0)
        model = timm.create_model(name).eval()
        transform = create_transform(**resolve_data_config(model=model))
        x = torch.stack([transform(Image.open(file).convert('RGB')) for file in PHOTOGRAPHS])
        figures = []
        for dtype in DTYPES.values():
            torch.manual_seed(0)
            figures.append(deviation(timm.create_model(name).eval(), x, dtype))
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.reset_running_stats()
        rows.append((name, f'{deviation(model, x):.1e}', *(f'{figure:.3f}' for figure in figures)))
        print('{:24}{:>14}{:>10}{:>10}{:>10}'.format(*rows[-1]), flush=True)
    with args.output.open('w', newline='') as f:
        csv.writer(f, lineterminator='\n').writerows((header, *rows))


if __name__ == '__main__':
    main()
