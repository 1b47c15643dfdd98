"""The authors' golden outputs, the weights behind them, and their formulation of the partial shortcut."""
import json
import re
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Dict, NamedTuple

import numpy as np
import torch
from safetensors import safe_open


class Golden(NamedTuple):
    outputs: Dict[str, torch.Tensor]
    state_dict: Dict[str, torch.Tensor]
    image: torch.Tensor
    num_params: int


def _draw(key: str, shape: list, norm_weight: tuple) -> torch.Tensor:
    random = np.random.RandomState(zlib.crc32(key.encode()))
    leaf = key.rpartition('.')[-1]
    if leaf == 'num_batches_tracked':
        return torch.zeros(shape, dtype=torch.int64)
    if leaf == 'running_var':
        values = random.uniform(0.5, 1.5, shape)
    elif leaf in ('running_mean', 'bias'):
        values = random.normal(0, 0.1, shape)
    elif len(shape) == 1:
        values = random.uniform(*norm_weight, shape)
    elif len(shape) == 4:
        values = random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
    else:
        values = random.normal(0, 0.05, shape)
    return torch.from_numpy(values.astype(np.float32))


@lru_cache
def load_golden(name: str) -> Golden:
    """Rebuild what tests/golden/README.md describes."""
    with safe_open(Path(__file__).parent / 'golden' / f'{name}.safetensors', 'pt') as file:
        metadata = file.metadata()
        outputs = {key: file.get_tensor(key) for key in file.keys()}
    norm_weight = tuple(map(float, re.findall(r'[\d.]+', metadata['norm_weight'])))
    shape = tuple(map(int, re.search(r'normal\(0, 1, \(([\d, ]+)\)\)', metadata['input'])[1].split(',')))
    image = np.random.RandomState(0).normal(0, 1, shape).astype(np.float32)
    state_dict = {key: _draw(key, shape, norm_weight) for key, shape in json.loads(metadata['state_dict'])}
    return Golden(outputs, state_dict, torch.from_numpy(image), int(metadata['params']))


def add_shortcut(x: torch.Tensor, branch: torch.Tensor, divisor: int) -> torch.Tensor:
    """The authors' slice assignment: the first 1/divisor of the channels gets the shortcut."""
    branch = branch.clone()
    num = x.shape[1] // divisor
    branch[:, :num] = branch[:, :num] + x[:, :num]
    return branch
