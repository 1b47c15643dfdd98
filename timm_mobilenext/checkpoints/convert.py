""" Checkpoints of the authors: read without trust, their key names made ours, and what does not fit told in one line"""
import io
import logging
import pickle
import re
import threading
from argparse import Namespace
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

import torch
import torch.nn as nn
from safetensors.torch import load as load_safetensors

from timm.models import resolve_pretrained_cfg

from ..shared.errors import UserError
from .official import blob_id_of, BLOB_IDS, fetch, find_directory

__all__ = [
    'convert_state_dict', 'checkpoint_filter_fn', 'check_state_dict', 'convert_pre_hook', 'read_checkpoint',
    'select_state_dict', 'weights_overlay', 'classes_and_channels', 'check_finite',
    'blob_id_of', 'BLOB_IDS', 'find_directory',  # the pins, for tools
]

_logger = logging.getLogger(__name__)
_READING = threading.Lock()

# the authors' three kinds of blocks by the last index of their sequence: index of a layer with parameters -> our name
_BLOCK_SEQUENCES = {
    9: {0: 'conv_dw1', 1: 'bn1', 3: 'conv_pw1', 4: 'bn2', 5: 'conv_pw2', 6: 'bn3', 8: 'conv_dw2', 9: 'bn4'},
    6: {0: 'conv_pw1', 1: 'bn2', 2: 'conv_pw2', 3: 'bn3', 5: 'conv_dw2', 6: 'bn4'},
    3: {0: 'conv_pw1', 1: 'bn2', 2: 'conv_pw2', 3: 'bn3'},
}
# mnext.py counts the layers of a block, efficient_mnext/model.py counts them or, with the ghost split, names them
_BLOCK_LAYER = re.compile(r'(?:features\.(\d+)\.conv|_blocks\.(\d+)(?:\.features)?)\.(\w+)')
_BLOCK_NAMES = {
    'dwise_conv1': 'conv_dw1', 'project_layer': 'conv_pw1', 'expand_layer': 'conv_pw2', 'dwise_conv2': 'conv_dw2',
    **{bn: bn for bn in ('bn1', 'bn2', 'bn3', 'bn4')}, '_se_reduce': 'se.conv_reduce', '_se_expand': 'se.conv_expand',
}
_NETWORK_NAMES = {
    'features.0.0': 'conv_stem', 'features.0.1': 'bn1', 'classifier.1': 'classifier',
    '_conv_stem': 'conv_stem', '_bn0': 'bn1', '_fc': 'classifier',
}
_STEMS = ('conv_stem.weight', 'features.0.0.weight', '_conv_stem.weight')
_CLASSIFIERS = ('classifier.weight', 'classifier.1.weight', '_fc.weight')
_UNUSED = '_bn1'  # of efficient_mnext/model.py, which its forward pass never meets
_NAMED_AT_MOST = 10


def convert_state_dict(state_dict: Dict[str, torch.Tensor], model: nn.Module) -> Dict[str, torch.Tensor]:
    """ Rename the keys of the authors' networks (mnext.py and efficient_mnext/model.py) to those of `MobileNeXt`.

    Args:
        state_dict: State dict with keys such as `features.1.conv.0.weight` or `_blocks.0.features.0.weight`, perhaps
            prefixed by `module.`.
        model: Network with the stages that the blocks are counted off to.

    Returns:
        State dict with our keys. One that is not of the authors' format comes back as it is, and so does any key that
        is not part of their network.
    """
    layers = {key: key.removeprefix('module.').rpartition('.')[0] for key in state_dict}
    blocks: Dict[int, Dict[str, str]] = {}
    for layer in layers.values():
        if match := _BLOCK_LAYER.fullmatch(layer):
            blocks.setdefault(int(match[1] or match[2]), {})[match[3]] = layer
    stages: Any = getattr(model, 'blocks', None)
    if not blocks or stages is None:
        return state_dict

    ours = [f'blocks.{i}.{j}' for i, stage in enumerate(stages) for j in range(len(stage))]
    renames = dict(_NETWORK_NAMES)
    for (_, block_layers), block in zip(sorted(blocks.items()), ours, strict=False):
        last = max((int(name) for name in block_layers if name.isdecimal()), default=0)
        names = {**_BLOCK_NAMES, **{str(i): name for i, name in _BLOCK_SEQUENCES.get(last, {}).items()}}
        for name, layer in block_layers.items():
            if name in names:
                renames[layer] = f'{block}.{names[name]}'
    return {
        f'{renames.get(layer, layer)}.{key.rpartition(".")[2]}'.lstrip('.'): state_dict[key]
        for key, layer in layers.items() if layer != _UNUSED
    }


def checkpoint_filter_fn(state_dict: Dict[str, Any], model: nn.Module) -> Dict[str, torch.Tensor]:
    """ What timm calls on pretrained weights before they are adapted to the model's classes and input channels.

    Raises:
        UserError: If a tensor but those of the classifier and the stem, which timm adapts, does not fit.
    """
    converted = convert_state_dict(state_dict.get('state_dict', state_dict), model)
    # timm loads what it has adapted without being strict, and what is missing would stay random in silence
    expected = model.state_dict()
    body = {key: value for key, value in converted.items() if not key.startswith('classifier.')}
    body.update({key: value for key, value in expected.items() if key.startswith('classifier.')})
    stem = body.get('conv_stem.weight')
    if stem is not None:
        body['conv_stem.weight'] = expected['conv_stem.weight']
        if stem.shape == expected['conv_stem.weight'].shape:
            # an older timm takes every stem for one of three channels, and leaves out what it can't adapt
            expected['conv_stem.weight'].copy_(stem)
    check_state_dict(body, model)
    return converted


def read_checkpoint(file: Union[str, Path], content: Optional[bytes] = None) -> Dict[str, Any]:
    """ Read a checkpoint of PyTorch's format or safetensors that may have been written by anyone.

    Nothing in it is executed: tensors, plain Python values and `argparse.Namespace`, where timm keeps the arguments of
    a training, are all that is read.

    Args:
        file: The file, or only its name if there is
        content: what is in it.

    Returns:
        State dict, or dict that holds one or two and what a training script put beside them.

    Raises:
        UserError: If the file can't be read, holds anything else, or no tensors.
    """
    try:
        if str(file).endswith('.safetensors'):
            return load_safetensors(content if content is not None else Path(file).read_bytes())
        source: Any = str(file) if content is None else io.BytesIO(content)
        # torch keeps what is safe for all threads at once
        with _READING, torch.serialization.safe_globals([Namespace]):
            checkpoint = torch.load(source, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as e:
        # torch's message goes on with ways to execute it all the same
        found = re.search(r'GLOBAL ([\w.]+)', str(e)) or re.search(r'(?:Unsupported|Trying to) (.+)', str(e))
        what = f'it holds {found[1]}' if found else 'it is no PyTorch checkpoint or a damaged one'
        raise UserError(
            f'{file} is refused, {what}: only tensors, plain values and argparse.Namespace are read, nothing is'
            ' executed.') from None
    except Exception as e:  # what bytes that are no checkpoint lead to is anyone's guess
        reason = (str(e).splitlines() or [type(e).__name__])[0].rstrip('.')
        raise UserError(f'{file} can not be read as a checkpoint: {reason}.') from None
    if not isinstance(checkpoint, dict):
        kind = type(checkpoint).__name__
        raise UserError(f'{file} holds a {kind}: expected a state dict or a training checkpoint.')
    return checkpoint


def select_state_dict(checkpoint: Dict[str, Any], ema: Optional[bool] = None) -> Tuple[Dict[str, torch.Tensor], str]:
    """ Weights in a checkpoint.

    Args:
        checkpoint: What `read_checkpoint` returns.
        ema: Averaged weights or raw ones; the averaged ones where there are any if None, as timm does.

    Returns:
        State dict without the prefixes of torch's wrappers, and what it is, 'EMA' or 'raw'.

    Raises:
        UserError: If there are no such weights, or if some are no finite numbers.
    """
    averaged = checkpoint.get('state_dict_ema') or checkpoint.get('model_ema')
    raw = checkpoint.get('state_dict') or checkpoint.get('model') or checkpoint
    if ema and not averaged:
        raise UserError('The checkpoint has no EMA weights (state_dict_ema): take the raw ones.')
    kind = 'raw' if not averaged or ema is False else 'EMA'
    state_dict = averaged if kind == 'EMA' else raw
    if not isinstance(state_dict, dict) or not any(isinstance(value, torch.Tensor) for value in state_dict.values()):
        raise UserError(f'The checkpoint holds no weights, only {_named([str(key) for key in checkpoint])}.')
    strange = [
        str(key) for key, value in state_dict.items()
        if not (isinstance(key, str) and isinstance(value, torch.Tensor) and value.layout == torch.strided)
    ]
    if strange:
        raise UserError(f'The state dict holds what is no plain tensor: {_named(strange)}.')
    check_finite(state_dict)
    return {re.sub(r'^(module\.|_orig_mod\.)+', '', key): value for key, value in state_dict.items()}, kind


def check_finite(state_dict: Dict[str, torch.Tensor]) -> None:
    """ Raise a UserError that names weights which are no finite numbers."""
    broken = [key for key, value in state_dict.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise UserError(f'The weights are damaged, NaN or infinite in {_named(broken)}: take another checkpoint.')


def classes_and_channels(state_dict: Dict[str, torch.Tensor]) -> Tuple[int, Optional[int]]:
    """ Classes, 0 without a classifier, and input channels of a network, of the authors' keys or ours."""
    classifier = next((state_dict[key] for key in _CLASSIFIERS if key in state_dict), None)
    stem = next((state_dict[key] for key in _STEMS if key in state_dict), None)
    return (
        len(classifier) if classifier is not None and classifier.ndim else 0,
        stem.shape[1] if stem is not None and stem.ndim == 4 else None,
    )


def weights_overlay(
        variant: str,
        pretrained_cfg: Any = None,
        overlay: Optional[Dict[str, Any]] = None,
        cache_dir: Optional[Union[str, Path]] = None,
        num_classes: Optional[int] = None,
        in_chans: Optional[int] = None,
) -> Dict[str, Any]:
    """ Overlay of a pretrained_cfg in which the authors' checkpoint has become a state dict that timm takes.

    timm can fetch or read no such file itself: they hold an `argparse.Namespace`, are pinned by git's digest, and all
    have one name.

    Args:
        variant: Name of the model.
        pretrained_cfg: Tag or dict, as `build_model_with_cfg` takes it.
        overlay: Overlay as the user gave it, with a `file` or `url` of their own perhaps.
        cache_dir: Folder for downloads.
        num_classes: Classes that the user asks for.
        in_chans: Input channels that the user asks for.

    Returns:
        The overlay, with the weights if they come from an authors' address or a file, as it was otherwise. Where the
        user asks for classes or input channels, it tells how many a file has: timm takes those of the model's cfg to be
        the file's, and would draw a classifier anew that fits.

    Raises:
        UserError: If the weights can't be had.
    """
    overlay = dict(overlay or {})
    cfg: Any = resolve_pretrained_cfg(variant, pretrained_cfg, overlay)
    if cfg.state_dict or cfg.hf_hub_id or cfg.source in ('hf-hub', 'local-dir'):
        return overlay
    if cfg.file:
        overlay['state_dict'], kind = select_state_dict(read_checkpoint(cfg.file))
        file_classes, file_chans = classes_and_channels(overlay['state_dict'])
        if num_classes is not None and file_classes:
            overlay.setdefault('num_classes', file_classes)
        if in_chans is not None and file_chans:
            overlay.setdefault('input_size', (file_chans, *cfg.input_size[1:]))
    elif find_directory(cfg.url):
        overlay['state_dict'], kind = select_state_dict(read_checkpoint(cfg.url, fetch(cfg.url, cache_dir)))
    else:
        return overlay
    _logger.info(f'Loading the {kind} weights of {cfg.file or cfg.url}')
    return overlay


def _named(keys: List[str]) -> str:
    more = len(keys) - _NAMED_AT_MOST
    return ', '.join(keys[:_NAMED_AT_MOST]) + (f' and {more} more' if more > 0 else '')


def check_state_dict(state_dict: Dict[str, torch.Tensor], model: nn.Module, strict: bool = True) -> None:
    """ Say in one line what of a state dict, in our keys, does not fit a model.

    Raises:
        UserError: If a shape differs or, when strict, a key is missing or too many.
    """
    expected = model.state_dict()
    shapes = [
        f'{key} {tuple(value.shape)} instead of {tuple(expected[key].shape)}'
        for key, value in state_dict.items()
        if key in expected and value.shape != expected[key].shape
    ]
    # of a batch norm, and not of a frozen one
    missing = [key for key in expected if key not in state_dict and not key.endswith('num_batches_tracked')]
    unexpected = [key for key in state_dict if key not in expected and not key.endswith('num_batches_tracked')]
    if not strict:
        missing, unexpected = [], []
    misfits = [*shapes, *missing, *unexpected]
    if not misfits:
        return

    name = type(model).__name__
    if all(misfit.startswith('classifier.') for misfit in misfits):
        given, wanted = (len(keys.get('classifier.bias', ())) for keys in (state_dict, expected))
        raise UserError(
            f'The checkpoint has a classifier of {given} classes, this {name} one of {wanted}: create the model with'
            f' num_classes={given}.')
    found = [
        f'{what}: {_named(keys)}'
        for what, keys in (('missing', missing), ('unexpected', unexpected), ('of another shape', shapes))
        if keys
    ]
    raise UserError(
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
