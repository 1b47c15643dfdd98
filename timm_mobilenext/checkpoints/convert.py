""" State dicts: the authors' keys renamed to ours, weights loaded into a model, and what does not fit in one line"""
import re
from typing import Any, Callable, Dict, Optional, Tuple

import torch
import torch.nn as nn

from ..shared.errors import shown, UserError
from .read import COUNTERS, list_keys

__all__ = [
    'check_state_dict', 'checkpoint_filter_fn', 'classes_and_channels', 'convert_pre_hook', 'convert_state_dict',
    'fit_state_dict', 'load_into', 'measure',
]

# the authors' three kinds of blocks by the last index of their sequence: index of a layer with parameters -> our name
_BLOCK_SEQUENCES = {
    9: {0: 'conv_dw1', 1: 'bn1', 3: 'conv_pw1', 4: 'bn2', 5: 'conv_pw2', 6: 'bn3', 8: 'conv_dw2', 9: 'bn4'},
    6: {0: 'conv_pw1', 1: 'bn2', 2: 'conv_pw2', 3: 'bn3', 5: 'conv_dw2', 6: 'bn4'},
    3: {0: 'conv_pw1', 1: 'bn2', 2: 'conv_pw2', 3: 'bn3'},
}
# mnext.py numbers the layers of a block; efficient_mnext/model.py numbers them or, with the ghost split, names them
_BLOCK_LAYER = re.compile(r'(?:features\.(\d+)\.conv|_blocks\.(\d+)(?:\.features)?)\.(\w+)')
_BLOCK_NAMES = {
    'dwise_conv1': 'conv_dw1', 'project_layer': 'conv_pw1', 'expand_layer': 'conv_pw2', 'dwise_conv2': 'conv_dw2',
    **{bn: bn for bn in ('bn1', 'bn2', 'bn3', 'bn4')}, '_se_reduce': 'se.conv_reduce', '_se_expand': 'se.conv_expand',
}
_NETWORK_NAMES = {
    'features.0.0': 'conv_stem', 'features.0.1': 'bn1', 'classifier.1': 'classifier',
    '_conv_stem': 'conv_stem', '_bn0': 'bn1', '_fc': 'classifier',
}
_STEMS: Tuple[str, ...] = 'conv_stem', 'features.0.0', '_conv_stem'
_CLASSIFIERS: Tuple[str, ...] = 'classifier', 'classifier.1', '_fc'
_UNUSED = '_bn1'  # efficient_mnext/model.py has it, but its forward pass never uses it


def convert_state_dict(state_dict: Dict[str, torch.Tensor], model: nn.Module) -> Dict[str, torch.Tensor]:
    """ Rename the keys of the authors' networks (mnext.py and efficient_mnext/model.py) to those of `MobileNeXt`.

    Args:
        state_dict: State dict with keys such as `features.1.conv.0.weight` or `_blocks.0.features.0.weight`, or with
            the keys of any model of timm. All may have a common prefix, such as `module.` or Lightning's `model.`.
        model: Network whose stages tell which block the authors' numbers mean.

    Returns:
        State dict with our keys, without prefix and counters. A state dict in another format is returned as it is. So
        is a key that is not part of the authors' network.
    """
    state_dict = _without_prefix(state_dict, model)
    layers = {key: key.rpartition('.')[0] for key in state_dict}
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


def _without_prefix(state_dict: Dict[str, torch.Tensor], model: nn.Module) -> Dict[str, torch.Tensor]:
    """ Leave out what all keys begin with, if keys of the model or of the authors' networks are behind it.

    Counters of wrappers and profilers are left out too.
    """
    own = model.state_dict()
    kept = {key: value for key, value in state_dict.items() if key in own or key.rpartition('.')[2] not in COUNTERS}
    state_dict = kept if len(kept) < len(state_dict) else state_dict
    prefix = ''
    while not any(
            key[len(prefix):] in own or layer in _NETWORK_NAMES or _BLOCK_LAYER.fullmatch(layer)
            for key in state_dict for layer in [key[len(prefix):].rpartition('.')[0]]):
        prefix += next(iter(state_dict), '')[len(prefix):].partition('.')[0] + '.'
        if not state_dict or not all(key.startswith(prefix) for key in state_dict):
            return state_dict
    return {key[len(prefix):]: value for key, value in state_dict.items()} if prefix else state_dict


def convert_pre_hook(model: nn.Module, state_dict: Dict[str, torch.Tensor], prefix: str, *args: Any) -> None:
    """ Pre-hook of `load_state_dict` for the authors' keys. It also works in a network that is part of another one."""
    given = {key[len(prefix):]: value for key, value in state_dict.items() if key.startswith(prefix)}
    converted = convert_state_dict(given, model)
    if converted is not given:
        for key in given:
            del state_dict[prefix + key]
        state_dict.update({prefix + key: value for key, value in converted.items()})


def checkpoint_filter_fn(
        state_dict: Dict[str, Any],
        model: nn.Module,
        strict: bool = True,
) -> Dict[str, torch.Tensor]:
    """ Convert pretrained weights. timm calls this before it adapts them to the model's classes and input channels.

    Raises:
        UserError: If a shape differs or, when strict, a tensor is missing or too many. The classifier and the stem may
            differ, since timm adapts them.
    """
    converted = convert_state_dict(state_dict.get('state_dict', state_dict), model)
    # timm does not load adapted weights strictly, so that a missing tensor would stay random without a word
    expected = model.state_dict()
    body = {key: value for key, value in converted.items() if not key.startswith('classifier.')}
    body.update({key: value for key, value in expected.items() if key.startswith('classifier.')})
    stem = body.get('conv_stem.weight')
    if stem is not None:
        body['conv_stem.weight'] = expected['conv_stem.weight']
        if stem.shape == expected['conv_stem.weight'].shape:
            # an older timm assumes that every stem has three channels, and leaves out what it cannot adapt
            expected['conv_stem.weight'].copy_(stem)
    check_state_dict(body, model, strict)
    return converted


def classes_and_channels(state_dict: Dict[str, torch.Tensor]) -> Tuple[int, Optional[int]]:
    """ Count the classes and the input channels of a MobileNeXt by its weights.

    Args:
        state_dict: Its state dict, with the authors' keys or ours, and with any prefix.

    Returns:
        Classes, 0 without a classifier, and input channels, None without a stem.
    """
    classifier, stem = (
        next((value for key, value in state_dict.items() if f'.{key}'.endswith(ends)), None)
        for ends in (tuple(f'.{name}.weight' for name in names) for names in (_CLASSIFIERS, _STEMS)))
    return (
        len(classifier) if classifier is not None and classifier.ndim else 0,
        stem.shape[1] or None if stem is not None and stem.ndim == 4 else None,
    )


def measure(state_dict: Dict[str, torch.Tensor], create: Callable[[int], nn.Module]) -> Tuple[int, Optional[int]]:
    """ Count the classes and the input channels of any network of timm by its weights.

    Whatever a configuration says of layers, the tensors that change with these two numbers tell them.

    Args:
        state_dict: Its state dict.
        create: Creates the network, for which the meta device is enough, with so many classes and input channels.

    Returns:
        Classes, 0 without a classifier, and input channels, None if no tensor tells them.
    """
    models = create(3), create(4)
    three, four = (model.state_dict() for model in models)
    found: Dict[int, int] = {}  # dimension of outputs or inputs -> number
    for key, value in convert_state_dict(state_dict, models[0]).items():
        if key in three and value.ndim == three[key].ndim:
            for dim, (a, b) in enumerate(zip(three[key].shape, four[key].shape, strict=True)):
                if a != b:
                    found[dim] = 3 + (value.shape[dim] - a) // (b - a)
    in_chans = found.get(1, 0)
    return found.get(0, 0), in_chans if in_chans > 0 else None


def _names(names: Any) -> Tuple[str, ...]:
    """ Names of layers in a pretrained_cfg, which has one, several or none."""
    return (names,) if isinstance(names, str) else tuple(names or ())


def _head_prefixes(model: nn.Module) -> Tuple[str, ...]:
    """ What the keys of a model's classifier begin with."""
    cfg: Any = getattr(model, 'pretrained_cfg', None) or {}
    return tuple(f'{name}.' for name in _names(cfg.get('classifier', 'classifier')))


def load_into(model: nn.Module, state_dict: Dict[str, torch.Tensor]) -> None:
    """ Load a checkpoint's weights into any model of timm, all of them or none.

    Args:
        model: The model.
        state_dict: State dict with the model's keys. For a MobileNeXt, the authors' keys will do too.

    Raises:
        UserError: If the weights do not fit the model.
    """
    model.load_state_dict(fit_state_dict(state_dict, model))


def fit_state_dict(
        state_dict: Dict[str, torch.Tensor],
        model: nn.Module,
        head: bool = True,
) -> Dict[str, torch.Tensor]:
    """ Check that a checkpoint's weights fit a model, which stays as it is and may be on the meta device.

    Args:
        state_dict: State dict with the model's keys. For a MobileNeXt, the authors' keys will do too.
        model: Any model of timm.
        head: Whether the classifier has to fit. If False, the returned state dict has none.

    Returns:
        State dict with the model's keys.

    Raises:
        UserError: If the weights do not fit the model.
    """
    state_dict = convert_state_dict(state_dict, model)
    if head:
        check_state_dict(state_dict, model)
        return state_dict
    prefixes = _head_prefixes(model)
    body = {key: value for key, value in state_dict.items() if not key.startswith(prefixes)}
    own_head = {key: value for key, value in model.state_dict().items() if key.startswith(prefixes)}
    check_state_dict({**body, **own_head}, model)
    return body


def check_state_dict(state_dict: Dict[str, torch.Tensor], model: nn.Module, strict: bool = True) -> None:
    """ Check that a state dict with the model's keys fits it.

    Raises:
        UserError: If a shape differs or, when strict, if a key is missing or unexpected. It names them in one line.
    """
    expected = model.state_dict()
    shapes = [
        f'{shown(key)} {tuple(value.shape)} instead of {tuple(expected[key].shape)}'
        for key, value in state_dict.items()
        if key in expected and value.shape != expected[key].shape
    ]
    # a frozen batch norm does not count its batches
    missing = [key for key in expected if key not in state_dict and not key.endswith('num_batches_tracked')]
    unexpected = [key for key in state_dict if key not in expected and not key.endswith('num_batches_tracked')]
    if not strict:
        missing, unexpected = [], []
    misfits = [*shapes, *missing, *unexpected]
    if not misfits:
        return

    name = type(model).__name__
    prefixes = _head_prefixes(model)
    if all(misfit.startswith(prefixes) for misfit in misfits):
        given, wanted = (len(keys.get(f'{prefixes[0]}bias', ())) for keys in (state_dict, expected))
        if not hasattr(model, 'num_classes'):
            raise UserError(
                f'The checkpoint has a classifier of {given} classes, and {name} gives features and has none: leave'
                ' checkpoint_path out, and give pretrained=True, pretrained_cfg_overlay=dict(file=...).')
        raise UserError(
            f'The checkpoint has a classifier of {given} classes, this {name} one of {wanted}: create the model with'
            f' num_classes={given}.')
    found = [
        f'{kind}: {list_keys(keys)}'
        for kind, keys in (('missing', missing), ('unexpected', unexpected), ('of another shape', shapes))
        if keys
    ]
    raise UserError(
        f'The checkpoint is of another network than this {name} ({len(missing)} of {len(expected)} tensors missing,'
        f' {len(unexpected)} unexpected, {len(shapes)} of another shape): create the model that it was saved from.'
        f' {"; ".join(found)}.')
