"""The authors' golden outputs, the checkpoints behind them, and their formulation of the partial shortcut."""
import io
import json
import re
import zlib
from argparse import Namespace
from functools import lru_cache
from pathlib import Path
from typing import Dict, NamedTuple

import numpy as np
import torch
from helpers import rel_error
from safetensors import safe_open

# model -> the authors' directory, our golden file of the network, whether the accuracy is that of EMA weights
OFFICIAL = {
    'mobilenext_100': ('74_02_full_id_tensor', 'mnext_w100', False),
    'mobilenext_100_id050': ('74_09_i2rnetv3_half_id', 'mnext_w100_id2', False),
    'mobilenext_s': ('76_05_3_94_model', 'efficient_b0', True),
    'mobilenext_l': ('4_29M_76_6', 'efficient_b1_g2', True),
    'mobilenext_l_ghost': ('5_68M_76_8', 'efficient_ghost_b1', True),
}


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


def is_golden(model, golden_name='mnext_w100'):
    """Are a model's logits those of the authors' network, to rounding?"""
    golden = load_golden(golden_name)
    with torch.no_grad():
        logits = model.double().eval()(golden.image.double())
    return rel_error(logits, golden.outputs['logits']) < 1e-9


def authors_checkpoint(name, zipped=False):
    """A training checkpoint as timm of 2020 wrote them."""
    _, golden_name, ema = OFFICIAL[name]
    weights = load_golden(golden_name).state_dict
    raw = {key: value + 1 for key, value in weights.items()} if ema else weights
    checkpoint = dict(
        epoch=207,
        arch='i2rnetv3',
        state_dict={f'module.{key}': value for key, value in raw.items()},
        optimizer=dict(state={0: dict(momentum_buffer=torch.zeros(3))}, param_groups=[dict(lr=0.1, params=[0])]),
        args=Namespace(model='i2rnetv3', lr=0.1, mean=None, opt='sgd'),
        version=2,
        metric=74.022,
    )
    if ema:
        checkpoint['state_dict_ema'] = weights
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def add_shortcut(x: torch.Tensor, branch: torch.Tensor, divisor: int) -> torch.Tensor:
    """The authors' slice assignment: the first 1/divisor of the channels gets the shortcut."""
    branch = branch.clone()
    num = x.shape[1] // divisor
    branch[:, :num] = branch[:, :num] + x[:, :num]
    return branch
