""" All that is private in timm and needed here: when a new timm moves a name, this file changes and no other"""
import warnings
from inspect import signature
from typing import Callable

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
    'decode_block_str', 'efficientnet_init_weights', 'EfficientNetBuilder', 'feature_take_indices',
    'pretrained_cfg_for_features', 'register_model', 'resolve_bn_args', 'round_channels', 'scale_stage_depth',
    'SqueezeExcite',
]


def register_model(fn: Callable) -> Callable:
    """ timm's decorator, silent where a module registers a model of its own once more, as on a reload."""
    name = fn.__name__
    with warnings.catch_warnings():
        if is_model(name) and model_entrypoint(name).__module__ == fn.__module__:
            warnings.filterwarnings('ignore', message=f'Overwriting {name} ')
        return _register_model(fn)
