""" Attention layers of sandglass blocks: which layer, its ratio, and the blocks that get it"""
import math
from functools import partial
from inspect import signature
from numbers import Real
from typing import Any, Callable, Dict, List, Optional

import torch.nn as nn

from timm.layers import get_attn

from ..shared.errors import first_line
from .block_strings import BLOCK_TYPES, has_attention
from .layers import resolve_layer

__all__ = [
    'add_attention', 'bind_se_layer', 'coord_attn', 'own_se_ratio', 'resolve_se_layer', 'se_args', 'takes_ratio',
]


def resolve_se_layer(se_layer: Any) -> Any:
    """ Squeeze-and-excitation or another attention layer, by name or class.

    Raises:
        ValueError: If timm has none of the name.
    """
    return resolve_layer(get_attn, se_layer, 'attention layer', 'se, ese, eca, coord or cbam')


def coord_attn() -> Any:
    """ Coordinate Attention of timm, with the activation of its paper (https://arxiv.org/abs/2103.02907).

    Raises:
        ValueError: If timm is older than the layer.
    """
    try:
        return partial(get_attn('coord'), act_layer=nn.Hardswish)
    except AssertionError:
        raise ValueError(
            'Coordinate Attention came with timm 1.0.23, and this one is older: pip install --upgrade timm.') from None


def takes_ratio(se_layer: Any) -> bool:
    """ Whether an attention layer takes a ratio of reduction, `rd_ratio`."""
    return 'rd_ratio' in signature(se_layer).parameters


def own_se_ratio(ratio: float, se_layer: Any) -> Optional[float]:
    """ A ratio that is built into a network, or None where the user's attention layer takes none."""
    return ratio if not se_layer or takes_ratio(resolve_se_layer(se_layer)) else None


def bind_se_layer(se_layer: Any, rd_ratio: Optional[float] = None) -> Callable[..., nn.Module]:
    """ Function that makes an attention layer, for a block.

    Args:
        se_layer: Class, or a `functools.partial` of one, whose arguments win over those of the block.
        rd_ratio: Ratio of reduction, the layer's own if None.

    Returns:
        Function of channels, activation, device and dtype. It hands on what the layer takes.
    """
    parameters = signature(se_layer).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    bound = getattr(se_layer, 'keywords', {})

    def _make(chs: int, **kwargs: Any) -> nn.Module:
        if rd_ratio is not None:
            kwargs['rd_ratio'] = rd_ratio
        kwargs = {k: v for k, v in kwargs.items() if k not in bound and (takes_all or k in parameters)}
        try:
            return se_layer(chs, **kwargs)
        except TypeError as e:
            if not getattr(se_layer, '__module__', '').startswith('timm.'):
                raise
            name = se_layer.__name__
            raise ValueError(f"timm's {name} cannot be made from a number of channels: {first_line(e)}") from e

    return _make


def se_args(se_layer: Any, se_ratio: Optional[float], se_position: Optional[str], dw_position: str) -> Dict[str, Any]:
    """ Those of a network's attention arguments that are defaults of its blocks.

    Raises:
        ValueError: If they contradict each other.
    """
    if se_layer is False:
        raise ValueError('se_layer False does not take attention out of a network: give se_ratio=0.')
    args: Dict[str, Any] = {}
    if se_ratio is not None:
        if isinstance(se_ratio, bool) or not isinstance(se_ratio, Real) or not 0 <= se_ratio < math.inf:
            raise ValueError(f'se_ratio {se_ratio!r} is not a number from 0: give e.g. 0.25, or 0 for no attention.')
        if se_layer is not None and (not se_ratio or not takes_ratio(resolve_se_layer(se_layer))):
            raise ValueError(f'se_ratio {se_ratio!r} does not go with se_layer {se_layer!r}: leave one out.')
        args['se_ratio'] = se_ratio
    if se_position is not None:
        if se_position == 'first' and dw_position == 'after':
            raise ValueError(
                "se_position 'first' needs a first depthwise convolution, which dw_position 'after' leaves out.")
        args['se_position'] = se_position
    return args


def add_attention(
        block_args: List[List[Dict[str, Any]]],
        se_layer: Any,
        se_ratio: Optional[float],
        se_position: Optional[str],
) -> None:
    """ Give a network's attention layer to all its sandglass blocks, in place, if none of its blocks has attention.

    Raises:
        ValueError: If there is no block for what was asked.
    """
    blocks = [ba for stage_args in block_args for ba in stage_args]
    if se_layer is not None and not any(map(has_attention, blocks)):
        for ba in blocks:
            if ba['block_type'] in BLOCK_TYPES:
                ba['se_layer'] = se_layer
                if se_position is not None:
                    ba['se_position'] = se_position
    if (se_layer is not None or se_ratio or se_position is not None) and not any(map(has_attention, blocks)):
        asked = dict(se_layer=se_layer, se_ratio=se_ratio, se_position=se_position)
        given = ', '.join(f'{key} {value!r}' for key, value in asked.items() if value is not None)
        raise ValueError(f'{given}: no block has attention. Give se_ratio=0.25, or se_layer and a sandglass block.')
