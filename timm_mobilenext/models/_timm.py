""" All that is private in timm and needed here: when a new timm moves a name, this file changes and no other"""
import sys
import warnings
from functools import partial, wraps
from inspect import signature
from typing import Any, Callable, Dict

from timm.models import is_model, model_entrypoint
from timm.models import register_model as _register_model
from timm.models._builder import pretrained_cfg_for_features
from timm.models._efficientnet_blocks import SqueezeExcite
from timm.models._efficientnet_builder import _decode_block_str as decode_block_str
from timm.models._efficientnet_builder import _scale_stage_depth as scale_stage_depth
from timm.models._efficientnet_builder import (
    efficientnet_init_weights,
    EfficientNetBuilder,
    resolve_bn_args,
    round_channels,
)
from timm.models._features import feature_take_indices

if 'device' not in signature(EfficientNetBuilder).parameters:
    raise ImportError('its EfficientNetBuilder takes no device', name='timm')

__all__ = [
    'decode_block_str', 'efficientnet_init_weights', 'EfficientNetBuilder', 'feature_take_indices', 'name_in_timm',
    'pretrained_cfg_for_features', 'register_model', 'resolve_bn_args', 'round_channels', 'scale_stage_depth',
    'SqueezeExcite',
]


_entrypoints: Dict[str, Callable] = {}  # of our models, by their first names


def register_model(fn: Callable) -> Callable:
    """ timm's decorator, which leaves a name to a model of timm's own that has it.

    It is silent where a module registers a model of its own once more, as on a reload.
    """
    name = fn.__name__
    _entrypoints[name] = fn
    if is_model(name) and not _is_ours(name):
        name_in_timm(name)
        return fn
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message=f'Overwriting {name} ')
        return _register_model(fn)


def name_in_timm(name: str) -> str:
    """ Name by which timm knows a model of ours: its first, or a second where timm has a model of its own by that."""
    if _is_ours(name):
        return name
    second = f'{name}_plugin'
    if not is_model(second):
        if not any(is_model(f'{other}_plugin') for other in _entrypoints):  # one warning for all
            warnings.warn(
                f'timm has a {name} of its own, which keeps the name; that of timm-mobilenext is {second}'
                ' (timm.list_models("*_plugin") lists all such names)', stacklevel=2)
        fn = _entrypoints[name]
        entrypoint: Any = wraps(fn)(partial(fn))
        entrypoint.__name__ = second
        module: Any = sys.modules[fn.__module__]
        module.default_cfgs[second] = module.default_cfgs[name]
        setattr(module, second, entrypoint)
        _entrypoints[second] = _register_model(entrypoint)
    return second


def _is_ours(name: str) -> bool:
    return model_entrypoint(name).__module__ == _entrypoints[name].__module__
