""" Checkpoints of the authors: their key names made ours, and what does not fit told in one line"""
import re
from typing import Any, Dict, List

import torch
import torch.nn as nn

__all__ = ['convert_state_dict', 'checkpoint_filter_fn', 'check_state_dict', 'convert_pre_hook']

# a block's layers with parameters in the order of the authors' `conv` sequence, for their three kinds of blocks
_BLOCK_LAYERS = {
    8: ('conv_dw1', 'bn1', 'conv_pw1', 'bn2', 'conv_pw2', 'bn3', 'conv_dw2', 'bn4'),
    6: ('conv_pw1', 'bn2', 'conv_pw2', 'bn3', 'conv_dw2', 'bn4'),
    4: ('conv_pw1', 'bn2', 'conv_pw2', 'bn3'),
}
_AUTHORS_BLOCK = re.compile(r'features\.(\d+)\.conv\.(\d+)\.(.+)')
_NAMED_AT_MOST = 10


def convert_state_dict(state_dict: Dict[str, torch.Tensor], model: nn.Module) -> Dict[str, torch.Tensor]:
    """ Rename the keys of the authors' MobileNetV2-style networks (mnext.py) to those of `MobileNeXt`.

    Args:
        state_dict: State dict with keys such as `features.1.conv.0.weight`, perhaps prefixed by `module.`.
        model: Network with the stages that the blocks are counted off to.

    Returns:
        State dict with our keys. One that is not of the authors' format comes back as it is, and so does any key that
        is not part of their network.
    """
    stripped = {key.removeprefix('module.'): value for key, value in state_dict.items()}
    if not any(_AUTHORS_BLOCK.match(key) for key in stripped):
        return state_dict

    layer_indices: Dict[int, List[int]] = {}
    for key in stripped:
        if match := _AUTHORS_BLOCK.match(key):
            indices = layer_indices.setdefault(int(match[1]), [])
            if int(match[2]) not in indices:
                indices.append(int(match[2]))
    stages: Any = model.blocks
    block_names = [f'blocks.{i}.{j}' for i, stage in enumerate(stages) for j in range(len(stage))]

    renames = {'features.0.0': 'conv_stem', 'features.0.1': 'bn1', 'classifier.1': 'classifier'}
    for (block_idx, indices), block_name in zip(sorted(layer_indices.items()), block_names, strict=False):
        for layer_idx, layer_name in zip(sorted(indices), _BLOCK_LAYERS.get(len(indices), ()), strict=False):
            renames[f'features.{block_idx}.conv.{layer_idx}'] = f'{block_name}.{layer_name}'

    converted = {}
    for key, value in stripped.items():
        layer, _, name = key.rpartition('.')
        converted[f'{renames[layer]}.{name}' if layer in renames else key] = value
    return converted


def checkpoint_filter_fn(state_dict: Dict[str, Any], model: nn.Module) -> Dict[str, torch.Tensor]:
    """ What timm calls on pretrained weights before they are adapted to the model's classes and input channels."""
    return convert_state_dict(state_dict.get('state_dict', state_dict), model)


def _named(keys: List[str]) -> str:
    more = len(keys) - _NAMED_AT_MOST
    return ', '.join(keys[:_NAMED_AT_MOST]) + (f' and {more} more' if more > 0 else '')


def check_state_dict(state_dict: Dict[str, torch.Tensor], model: nn.Module, strict: bool = True) -> None:
    """ Say in one line what of a state dict, in our keys, does not fit a model.

    Raises:
        RuntimeError: If a shape differs or, when strict, a key is missing or too many.
    """
    expected = model.state_dict()
    shapes = [
        f'{key} {tuple(value.shape)} instead of {tuple(expected[key].shape)}'
        for key, value in state_dict.items()
        if key in expected and value.shape != expected[key].shape
    ]
    missing = [key for key in expected if key not in state_dict and not key.endswith('num_batches_tracked')]
    unexpected = [key for key in state_dict if key not in expected]
    if not strict:
        missing, unexpected = [], []
    misfits = [*shapes, *missing, *unexpected]
    if not misfits:
        return

    name = type(model).__name__
    if all(misfit.startswith('classifier.') for misfit in misfits):
        given, wanted = (len(keys.get('classifier.bias', ())) for keys in (state_dict, expected))
        raise RuntimeError(
            f'The checkpoint has a classifier of {given} classes, this {name} one of {wanted}: create the model with'
            f' num_classes={given}.')
    found = [
        f'{what}: {_named(keys)}'
        for what, keys in (('missing', missing), ('unexpected', unexpected), ('of another shape', shapes))
        if keys
    ]
    raise RuntimeError(
        f'The checkpoint is of another network than this {name} ({len(missing)} of {len(expected)} tensors missing,'
        f' {len(unexpected)} unexpected, {len(shapes)} of another shape): create the model that it was saved from.'
        f' {"; ".join(found)}.')


def convert_pre_hook(model: nn.Module, state_dict: Dict[str, torch.Tensor], prefix: str, *args: Any) -> None:
    """ Pre-hook of `load_state_dict`, by which it takes the authors' keys, in a network inside another one too."""
    given = {key[len(prefix):]: value for key, value in state_dict.items() if key.startswith(prefix)}
    converted = convert_state_dict(given, model)
    if converted is not given:
        for key in given:
            del state_dict[prefix + key]
        state_dict.update({prefix + key: value for key, value in converted.items()})
