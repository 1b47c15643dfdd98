""" Block strings and builder for networks with sandglass blocks

Adds the block types `sg` and `gsg` to timm's EfficientNet-style builder. An architecture definition is a list of
stages, a stage a list of block strings, and timm's own types (ir, ds, dsa, er, cn, uir, mha, mqa) mix freely with them:

    sg_r3_k3_s2_e6_c192_se0.25

  * r - blocks in the row, k - depthwise kernel size (odd), s - stride of the first block (1 or 2), c - output channels,
  * e - reduction, the ratio of wide to narrow (6 if left out), se - squeeze-and-excitation ratio, gs - group size of
    the depthwise convolutions, n - activation (re, r6, hs, sw, mi), noskip - no shortcut,
  * id - identity tensor multiplier as a number or a fraction, `id0.5` or `id1/3`,
  * dwbefore, dwafter, dwboth, dwbottleneck - where the depthwise convolutions sit,
  * keepdw - keep both depthwise convolutions, without a shortcut, in the first block of a row,
  * keepc - do not scale channels below what is written, whatever the width multiplier,
  * nonlinear - an activation after the narrowing 1x1,
  * pg - groups of the 1x1 convolutions, in blocks that have both depthwise convolutions.

A `gsg` block, of the same tokens, is one with a ghost split. Its se is a ratio of the block's input.

All that is private in timm and needed here or in mobilenext.py is imported by this file, and by no other.
"""
import math
import re
import warnings
from functools import partial
from inspect import signature
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import torch.nn as nn

from ..version import TIMM_NEWEST, TIMM_OLDEST
from .sandglass import (
    DW_POSITIONS,
    GhostSandglassBlock,
    NarrowSandglassBlock,
    reduce_channels,
    REDUCE_CHS_FNS,
    SandglassBlock,
)

try:
    from timm.layers import create_aa, get_act_layer, get_attn, get_norm_act_layer, get_norm_layer
    from timm.models import is_model, model_entrypoint
    from timm.models import register_model as _register_model
    from timm.models._builder import pretrained_cfg_for_features
    from timm.models._efficientnet_blocks import SqueezeExcite
    from timm.models._efficientnet_builder import (
        _decode_block_str,
        _scale_stage_depth,
        efficientnet_init_weights,
        EfficientNetBuilder,
        resolve_bn_args,
        round_channels,
    )
    from timm.models._features import feature_take_indices
    if 'device' not in signature(EfficientNetBuilder).parameters:
        raise ImportError('its EfficientNetBuilder takes no device')
except ImportError as e:
    from timm import __version__ as timm_version
    raise ImportError(
        f'timm-mobilenext does not work with the installed timm {timm_version} ({e}).'
        f' Supported are timm {TIMM_OLDEST} to {TIMM_NEWEST}: pip install "timm=={TIMM_NEWEST}".'
    ) from None

__all__ = [
    'BlockStringError', 'decode_arch_def', 'is_multiplier', 'SandglassNetBuilder', 'FEATURE_LOCATIONS',
    'register_model', 'resolve_aa_layer', 'resolve_act_layer', 'resolve_norm_layer', 'resolve_reduce_chs_fn',
    'resolve_se_layer', 'efficientnet_init_weights', 'feature_take_indices', 'pretrained_cfg_for_features',
    'resolve_bn_args', 'round_channels', 'SqueezeExcite',
]

# 'bottleneck' and 'expansion' are timm's names for a block's output and its inner wide tensor, 'downsample' is ours
FEATURE_LOCATIONS = ('bottleneck', 'expansion', 'downsample')


class BlockStringError(ValueError):
    """ A block string that can't be decoded: names the string, the token at fault, and what is allowed there."""


_POSITIVE = (r'[1-9]\d{0,3}', 'a whole number from 1')
_RATIO = (r'\d{1,3}(\.\d{1,6})?', 'a number')
_KERNEL = (r'\d?[13579]', 'an odd number')
_KERNEL_OR_NONE = (r'\d?[13579]|0', 'an odd number, or 0 for none')
_KERNELS = (r'\d?[13579](\.\d?[13579])*', 'an odd number, or several with dots between')
_FRACTION = (r'(\d{1,3}(\.\d{1,9})?|[1-9]\d{0,3}/[1-9]\d{0,3})', 'a number in (0, 1] or a fraction, e.g. 0.5 or 1/3')

# key of a token -> (pattern of its value, what is allowed there); flags have no value
_VALUES: Dict[str, Tuple[str, str]] = dict(
    r=_POSITIVE, s=(r'[12]', '1 or 2'), c=_POSITIVE, e=_RATIO, se=_RATIO, gs=(r'\d{1,4}', 'a whole number'),
    n=(r're|r6|hs|sw|mi', 're, r6, hs, sw or mi'), k=_KERNELS, a=_KERNELS, p=_KERNELS, fc=_POSITIVE, cc=_POSITIVE,
    d=_POSITIVE, h=_POSITIVE, v=_POSITIVE, pg=_POSITIVE, id=_FRACTION,
    dw=('|'.join(DW_POSITIONS), ', '.join(DW_POSITIONS)),
)
# block type -> values of its kernel sizes, where timm takes less or more than several odd numbers
_TYPE_VALUES: Dict[str, Dict[str, Tuple[str, str]]] = dict(
    sg=dict(k=_KERNEL), gsg=dict(k=_KERNEL), cn=dict(k=_KERNEL), mha=dict(k=_KERNEL), mqa=dict(k=_KERNEL),
    uir=dict(a=_KERNEL_OR_NONE, k=_KERNEL_OR_NONE, p=_KERNEL_OR_NONE),
)
_COMMON = ('r', 'k', 's', 'c', 'n', 'gs', 'noskip', 'skip')
_FLAGS = ('noskip', 'skip', 'keepdw', 'keepc', 'nonlinear')
_SANDGLASS_BLOCKS = dict(sg=SandglassBlock, gsg=GhostSandglassBlock)
_SANDGLASS = (
    'r', 'k', 's', 'e', 'c', 'se', 'gs', 'pg', 'n', 'id', 'dw', 'noskip', 'keepdw', 'keepc', 'nonlinear')
# block type -> (tokens that it takes, those of them that it needs)
_TOKENS: Dict[str, Tuple[Tuple[str, ...], str]] = dict(
    sg=(_SANDGLASS, 'rksc'),
    gsg=(_SANDGLASS, 'rksc'),
    ir=((*_COMMON, 'e', 'se', 'a', 'p', 'cc', 'd'), 'rksec'),
    ds=((*_COMMON, 'e', 'se', 'p', 'd'), 'rksc'),
    dsa=((*_COMMON, 'e', 'se', 'p', 'd'), 'rksc'),
    er=((*_COMMON, 'e', 'se', 'p', 'fc'), 'rksec'),
    cn=((*_COMMON, 'e'), 'rksc'),
    uir=((*_COMMON, 'e', 'se', 'a', 'p'), 'rksec'),
    mha=((*_COMMON, 'd', 'h', 'v'), 'rkscdh'),
    mqa=((*_COMMON, 'd', 'h', 'v'), 'rkscdh'),
)


def _split_block_str(block_str: str) -> Tuple[str, Dict[str, str]]:
    """ Check a block string against the grammar and split it, into its type and a dict of token keys and values."""
    if not isinstance(block_str, str):
        raise BlockStringError(f'Block {block_str!r} is no string: expected one such as "sg_r3_k3_s2_e6_c192".')
    # errors stay on one line whatever the string holds
    shown = block_str if block_str.isprintable() else repr(block_str)[1:-1]
    block_type, *tokens = shown.split('_')
    if block_type not in _TOKENS:
        raise BlockStringError(
            f'Block string "{shown}": unknown block type "{block_type}", allowed are {", ".join(_TOKENS)}.')
    allowed, required = _TOKENS[block_type]
    options: Dict[str, str] = {}
    for token in tokens:
        # the letters are the key, but for the two keys with letters for a value
        letters = re.match('[a-z]*', token)[0]  # type: ignore[index]
        keys = (key for key in (letters, letters[:2], letters[:1]) if key in _VALUES or key in _FLAGS)
        key = next(keys, token)
        value = token[len(key):]
        if key not in allowed:
            raise BlockStringError(
                f'Block string "{shown}": unknown token "{token}", a block of type {block_type} takes'
                f' {", ".join(allowed)}.')
        pattern, expected = _TYPE_VALUES.get(block_type, {}).get(key) or _VALUES.get(key, ('', 'nothing'))
        if not re.fullmatch(pattern, value, flags=re.ASCII):
            raise BlockStringError(f'Block string "{shown}": token "{token}" needs {expected} after "{key}".')
        if key in options:
            raise BlockStringError(f'Block string "{shown}": token "{token}" repeats "{key}", allowed once.')
        options[key] = value
    missing = [key for key in required if key not in options]
    if missing:
        raise BlockStringError(
            f'Block string "{shown}": token "{missing[0]}" is missing, a block of type {block_type} needs'
            f' {", ".join(required)}.')
    return block_type, options


def _parse_number(value: str) -> float:
    numerator, _, denominator = value.partition('/')
    return float(numerator) / float(denominator or 1)


def _decode_sandglass_str(block_str: str, block_type: str, options: Dict[str, str]) -> Tuple[Dict[str, Any], int]:
    """ Decode a checked `sg` or `gsg` string, the counterpart of timm's `_decode_block_str` for other types."""
    # timm decodes what the grammars share, the activation among it; its exp_kernel_size and the like are left out
    shared, num_repeat = _decode_block_str('_'.join(['cn', *(f'{k}{options[k]}' for k in 'rkscn' if k in options)]))
    block_args = dict(
        block_type=block_type,
        out_chs=shared['out_chs'],
        stride=shared['stride'],
        act_layer=shared['act_layer'],
        dw_kernel_size=shared['kernel_size'],
        exp_ratio=float(options.get('e', 6.)),
        se_ratio=float(options.get('se', 0.)),
        keep_dw='keepdw' in options,
        keep_chs='keepc' in options,
    )
    if block_args['exp_ratio'] < 1:
        raise BlockStringError(f'Block string "{block_str}": token "e{options["e"]}" needs a number from 1 after "e".')
    # what is not written is left to the network's setting
    if 'gs' in options:
        block_args['group_size'] = int(options['gs'])
    if 'pg' in options:
        block_args['pw_groups'] = int(options['pg'])
    if 'id' in options:
        block_args['identity_multiplier'] = multiplier = _parse_number(options['id'])
        if not 0. < multiplier <= 1.:
            raise BlockStringError(
                f'Block string "{block_str}": token "id{options["id"]}" needs {_FRACTION[1]} after "id".')
    if 'dw' in options:
        block_args['dw_position'] = options['dw']
    if 'noskip' in options:
        block_args['noskip'] = True
    if 'nonlinear' in options:
        block_args['linear_bottleneck'] = False
    return block_args, num_repeat


def is_multiplier(value: Any) -> bool:
    """ Is it a finite number above 0?"""
    return isinstance(value, (int, float)) and 0 < value < math.inf


def decode_arch_def(
        arch_def: List[List[str]],
        depth_multiplier: Union[float, Sequence[float]] = 1.0,
        depth_trunc: str = 'ceil',
        fix_first_last: bool = False,
        group_size: Optional[int] = None,
        **sandglass_args: Any,
) -> List[List[Dict[str, Any]]]:
    """ Decode an architecture definition with `sg` and timm's own block strings into block arguments.

    Args:
        arch_def: List of stages, each a list of block strings.
        depth_multiplier: Network depth multiplier, or one for each stage, scales the repeats as timm does.
        depth_trunc: Truncation mode of the depth multiplier, 'ceil' or 'round'.
        fix_first_last: Leave the depth of the first and last stage.
        group_size: Group size of all blocks whose string does not set it.
        **sandglass_args: Arguments of all `sg` and `gsg` blocks whose string does not set them.

    Returns:
        List of stages, each a list of block arguments for `SandglassNetBuilder`.

    Raises:
        BlockStringError: If a string is not of the grammar.
        ValueError: If the definition is no list of lists, or another argument is impossible.
    """
    stages_ok = isinstance(arch_def, (list, tuple)) and len(arch_def) > 0
    if not stages_ok or not all(isinstance(stage, (list, tuple)) and len(stage) > 0 for stage in arch_def):
        raise ValueError(
            f'arch_def {arch_def!r} is no list of lists: expected stages of block strings, such as'
            ' [["sg_r1_k3_s2_e2_c96"], ["sg_r3_k3_s2_e6_c192"]].')
    per_stage = isinstance(depth_multiplier, (list, tuple))
    depths: Any = depth_multiplier if per_stage else (depth_multiplier,) * len(arch_def)
    if len(depths) != len(arch_def) or not all(is_multiplier(depth) for depth in depths):
        raise ValueError(
            f'depth_multiplier {depth_multiplier!r} is no finite number above 0, nor one for each of the'
            f' {len(arch_def)} stages: give 1.0 for the depth as written.')
    if group_size is not None and (not isinstance(group_size, int) or group_size < 0):
        raise ValueError(f'group_size {group_size!r} is no whole number from 0: give 1 for depthwise convolutions.')
    arch_args = []
    for stage_idx, (stage, depth) in enumerate(zip(arch_def, depths, strict=True)):
        stage_args, repeats = [], []
        for block_str in stage:
            block_type, options = _split_block_str(block_str)
            if block_type in _SANDGLASS_BLOCKS:
                block_args, num_repeat = _decode_sandglass_str(block_str, block_type, options)
                block_args = dict(sandglass_args, **block_args)
            else:
                block_args, num_repeat = _decode_block_str(block_str)
            if group_size is not None:
                block_args.setdefault('group_size', group_size)
            block_args['block_str'] = block_str
            stage_args.append(block_args)
            repeats.append(num_repeat)
        fixed = fix_first_last and stage_idx in (0, len(arch_def) - 1)
        stage_args = _scale_stage_depth(stage_args, repeats, 1.0 if fixed else depth, depth_trunc)
        for block_idx, block_args in enumerate(stage_args):
            if block_args['block_type'] in _SANDGLASS_BLOCKS:
                # the design, kept apart from the stride, which timm's builder turns into dilation at will
                block_args['downsample'] = block_idx == 0 and block_args['stride'] > 1
                block_args['keep_dw'] = block_idx == 0 and block_args['keep_dw']
        arch_args.append(stage_args)
    return arch_args


# what timm's blocks and ours raise where channels, group sizes and kernels do not go together
_BUILD_ERRORS = (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _output_feature_info(num_chs: Any, location: str) -> Dict[str, Any]:
    return dict(module='', num_chs=num_chs)


class SandglassNetBuilder(EfficientNetBuilder):
    """ timm's builder, for block arguments that may have sandglass blocks among them

    One more feature location: 'downsample' taps the wide tensor inside each block of stride 2, where it enters the
    strided depthwise convolution, in place of the block before; behind the last of them, the wide tensor inside the
    last block. These are the taps of the authors' SSDLite.
    """

    def __init__(
            self,
            feature_location: str = '',
            reduce_chs_fn: Callable = reduce_channels,
            narrow_skip: bool = False,
            **kwargs,
    ):
        if feature_location not in (*FEATURE_LOCATIONS, ''):
            raise ValueError(f'feature_location {feature_location!r} is none of {", ".join(FEATURE_LOCATIONS)}.')
        self.reduce_chs_fn = reduce_chs_fn
        self.narrow_skip = narrow_skip
        self.narrow_chs = 0  # of the block before, at its output's resolution
        self.tap_downsample = feature_location == 'downsample'
        super().__init__(feature_location='expansion' if self.tap_downsample else feature_location, **kwargs)

    def _make_block(self, ba: Dict[str, Any], block_idx: int, block_count: int) -> nn.Module:
        block_str = ba.pop('block_str', None)
        block_type, in_chs = ba['block_type'], self.in_chs
        try:
            if self.narrow_skip and block_type != 'sg':
                raise ValueError('narrow shortcuts run between blocks of type sg alone')
            make = self._make_sandglass if block_type in _SANDGLASS_BLOCKS else super()._make_block
            block = make(ba, block_idx, block_count)
            if any(not p.numel() for p in block.parameters()):
                raise ValueError('it leaves a layer without channels')
        except _BUILD_ERRORS as e:
            if block_str is None:
                raise
            raise BlockStringError(
                f'Block string "{block_str}" can\'t be built on {in_chs} channels: {_first_line(e)}') from e
        if block_type in ('mha', 'mqa'):
            # timm's own looks for a layer that the block does not have
            block.feature_info = partial(_output_feature_info, self.in_chs)
        return block

    def _make_sandglass(self, ba: Dict[str, Any], block_idx: int, block_count: int) -> nn.Module:
        block_cls: Any = _SANDGLASS_BLOCKS[ba.pop('block_type')]
        if 's2d' in ba:
            raise ValueError('a sandglass block has no form for the space-to-depth region of a block with "d"')
        out_chs = self.round_chs_fn(ba['out_chs'])
        if ba.pop('keep_chs', False):
            out_chs = max(out_chs, ba['out_chs'])
        ba['in_chs'] = self.in_chs
        ba['out_chs'] = out_chs
        ba['pad_type'] = self.pad_type
        # block act fn overrides the model default
        ba['act_layer'] = ba['act_layer'] if ba['act_layer'] is not None else self.act_layer
        ba['norm_layer'] = self.norm_layer
        ba['aa_layer'] = self.aa_layer
        ba['drop_path_rate'] = self.drop_path_rate * block_idx / block_count

        se_ratio = ba.pop('se_ratio', None)
        if se_ratio and self.se_layer is not None:
            if block_cls is GhostSandglassBlock:
                se_ratio = max(se_ratio * self.in_chs, 1) / out_chs
            elif not self.se_from_exp:
                # a ratio of the bottleneck, as of an inverted residual's input; one channel at least
                se_ratio = max(se_ratio / ba['exp_ratio'], 1 / out_chs)
            ba['se_layer'] = partial(self.se_layer, rd_ratio=se_ratio) if self.se_has_ratio else self.se_layer

        if self.narrow_skip:
            block_cls = NarrowSandglassBlock
            ba['narrow_chs'] = self.narrow_chs
        block = block_cls(reduce_chs_fn=self.reduce_chs_fn, **ba, **self.dd)
        # update args of next block
        self.in_chs = out_chs
        self.narrow_chs = getattr(block, 'narrow_chs', 0)
        return block

    def __call__(self, in_chs: int, model_block_args: List[List[Dict[str, Any]]]) -> List[Any]:
        block_strs = [f'"{ba.get("block_str")}"' for stage_args in model_block_args for ba in stage_args]
        try:
            stages = super().__call__(in_chs, model_block_args)
        except BlockStringError:
            raise
        except _BUILD_ERRORS as e:
            raise BlockStringError(
                f'Block strings {", ".join(block_strs)} can\'t be built one after the other: {_first_line(e)}') from e
        for feature in self.features:
            # a feature stands for the stage that ends there, its resolution changes with the next
            next_idx = feature['stage']
            if self.tap_downsample and next_idx < len(stages):
                block = stages[next_idx][0]
                if not isinstance(block, SandglassBlock):
                    raise ValueError(
                        f"feature_location 'downsample' needs sandglass blocks where the stride changes, but"
                        f" blocks.{next_idx}.0 is of type {type(block).__name__}.")
                info = block.feature_info('downsample')
                feature.update(info, module=f'blocks.{next_idx}.0.{info["module"]}')
            elif next_idx and getattr(stages[next_idx - 1][-1], 'is_strided_last', False):
                # what enters this block's second depthwise convolution is not of the resolution yet, its output is
                feature.update(stages[next_idx - 1][-1].feature_info('bottleneck'), module=f'blocks.{next_idx - 1}')
                feature.pop('hook_type', None)
        if self.narrow_skip:  # blocks of two inputs are no sequence
            return [nn.ModuleList(stage) for stage in stages]
        return stages


def resolve_act_layer(act_layer: Any) -> Any:
    """ Activation layer by name or class.

    Raises:
        ValueError: If timm has no activation of the name.
    """
    try:
        return get_act_layer(act_layer)
    except KeyError:
        raise ValueError(
            f'Unknown activation {act_layer!r}: expected a name that timm knows, such as relu6, silu or hard_swish, or'
            ' a module class.') from None


def resolve_norm_layer(norm_layer: Any, bn_args: Dict[str, Any]) -> Any:
    """ Norm layer by name or class, with its arguments bound, if timm has a norm + activation layer for it.

    Raises:
        ValueError: If it has none.
    """
    try:
        if bn_args:
            norm_layer = partial(get_norm_layer(norm_layer), **bn_args)
        get_norm_act_layer(norm_layer, nn.ReLU6)
    except (AssertionError, AttributeError, KeyError):
        raise ValueError(
            f'Unknown norm layer {norm_layer!r}: expected a name that timm knows, such as batchnorm2d, groupnorm or'
            ' layernorm2d, or a module class that timm has a norm + activation layer for.') from None
    return norm_layer


def resolve_aa_layer(aa_layer: Any) -> Any:
    """ Anti-aliasing layer by name or class.

    Raises:
        ValueError: If timm has no anti-aliasing layer of the name.
    """
    try:
        create_aa(aa_layer, channels=8, stride=2)
    except AssertionError:
        raise ValueError(
            f'Unknown anti-aliasing layer {aa_layer!r}: expected avg, blur or blurpc, or a module class.') from None
    return aa_layer


def resolve_reduce_chs_fn(reduce_chs_fn: Union[str, Callable]) -> Callable:
    """ Rule for the width of a bottleneck, by name or as a function.

    Raises:
        ValueError: If there is no rule of the name.
    """
    if callable(reduce_chs_fn):
        return reduce_chs_fn
    if reduce_chs_fn not in REDUCE_CHS_FNS:
        raise ValueError(
            f'reduce_chs_fn {reduce_chs_fn!r} is none of {", ".join(REDUCE_CHS_FNS)}, nor a function of input channels,'
            ' output channels and reduction.')
    return REDUCE_CHS_FNS[reduce_chs_fn]


def resolve_se_layer(se_layer: Any) -> Any:
    """ Squeeze-and-excitation or other attention layer by name or class.

    Raises:
        ValueError: If timm has no attention layer of the name.
    """
    try:
        return get_attn(se_layer)
    except AssertionError:
        raise ValueError(
            f'Unknown attention layer {se_layer!r}: expected a name that timm knows, such as se, ese, eca or cbam, or a'
            ' module class.') from None


def register_model(fn: Callable) -> Callable:
    """ timm's decorator, silent where a module registers a model of its own once more, as on a reload."""
    name = fn.__name__
    with warnings.catch_warnings():
        if is_model(name) and model_entrypoint(name).__module__ == fn.__module__:
            warnings.filterwarnings('ignore', message=f'Overwriting {name} ')
        return _register_model(fn)
