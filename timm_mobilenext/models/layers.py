""" Layers by name or class, with an error that says what timm knows"""
from functools import partial
from typing import Any, Callable, Dict, Union

import torch.nn as nn

from timm.layers import create_aa, get_act_layer, get_norm_act_layer, get_norm_layer

from .sandglass import REDUCE_CHS_FNS

__all__ = ['resolve_aa_layer', 'resolve_act_layer', 'resolve_layer', 'resolve_norm_layer', 'resolve_reduce_chs_fn']


def resolve_layer(get: Callable, layer: Any, kind: str, names: str, classes: str = 'a module class') -> Any:
    """ What timm's function gives for a layer; raise a ValueError if it does not know the layer."""
    try:
        return get(layer)
    except (AssertionError, AttributeError, KeyError):
        raise ValueError(
            f'Unknown {kind} {layer!r}: expected a name that timm knows, such as {names}, or {classes}.') from None


def resolve_act_layer(act_layer: Any) -> Any:
    """ Activation layer by name or class; raise a ValueError if timm has none of the name."""
    return resolve_layer(get_act_layer, act_layer, 'activation', 'relu6, silu or hard_swish')


def resolve_aa_layer(aa_layer: Any) -> Any:
    """ Anti-aliasing layer, by name or class, for `create_aa`; raise a ValueError if timm has none of the name."""
    resolve_layer(partial(create_aa, channels=8, stride=2), aa_layer, 'anti-aliasing layer', 'avg, blur or blurpc')
    return aa_layer


def resolve_norm_layer(norm_layer: Any, bn_args: Dict[str, Any]) -> Any:
    """ Norm layer by name or class, with its arguments bound.

    Raises:
        ValueError: If timm has no norm + activation layer for it.
    """

    def bind(layer: Any) -> Any:
        layer = partial(get_norm_layer(layer), **bn_args) if bn_args else layer
        get_norm_act_layer(layer, nn.ReLU6)
        return layer

    return resolve_layer(
        bind, norm_layer, 'norm layer', 'batchnorm2d, groupnorm or layernorm2d',
        'a module class that timm has a norm + activation layer for')


def resolve_reduce_chs_fn(reduce_chs_fn: Union[str, Callable]) -> Callable:
    """ Rule for the width of a bottleneck, by name or as a function; raise a ValueError if there is no such rule."""
    if callable(reduce_chs_fn):
        return reduce_chs_fn
    if reduce_chs_fn not in REDUCE_CHS_FNS:
        raise ValueError(
            f'reduce_chs_fn {reduce_chs_fn!r} is not one of {", ".join(REDUCE_CHS_FNS)}, nor a function of input'
            ' channels, output channels and reduction.')
    return REDUCE_CHS_FNS[reduce_chs_fn]
