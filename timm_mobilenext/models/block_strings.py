""" Block strings of networks with sandglass blocks

Adds the block types `sg` and `gsg` to timm's. An architecture definition is a list of stages, and a stage is a list of
block strings. The types mix freely, and timm parses the strings of its own types. A string of ours:

    sg_r3_k3_s2_e6_c192_se0.25

  * r - blocks in the row, k - depthwise kernel size (odd), s - stride of a stage's first block (1 or 2), c - output
    channels,
  * e - reduction, the ratio of wide to narrow (6 if left out), gs - group size of the depthwise convolutions,
    n - activation (re, r6, hs, sw, mi), noskip - no shortcut,
  * se - attention and its ratio to the bottleneck, squeeze-and-excitation if the network says nothing else,
  * at - attention by timm's name, `atse`, `ateca`, `atcoord` and so on; without `se`, the ratio is the layer's own,
  * sefirst, selast - behind which depthwise convolution the attention sits,
  * id - identity tensor multiplier as a number or a fraction, `id0.5` or `id1/3`,
  * dwbefore, dwafter, dwboth, dwbottleneck - where the depthwise convolutions sit,
  * keepdw - keep both depthwise convolutions, without a shortcut, in the first block of a stage,
  * keepc - do not scale channels below what is written, whatever the width multiplier,
  * nonlinear - an activation after the narrowing 1x1,
  * pg - groups of the 1x1 convolutions, in blocks that have both depthwise convolutions.

A `gsg` block takes the same tokens and has a ghost split. Its se is a ratio of the block's input.
"""
import math
import re
from functools import cache
from numbers import Integral, Real
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from ..shared.errors import shown
from ._timm import decode_block_str, scale_stage_depth
from .sandglass import DW_POSITIONS, SE_POSITIONS

__all__ = ['BLOCK_TYPES', 'BlockStringError', 'decode_arch_def', 'has_attention', 'is_multiplier', 'is_whole']

BLOCK_TYPES = ('sg', 'gsg')

_POSITIVE = (r'[1-9]\d{0,3}', 'a whole number from 1')
_RATIO = (r'\d{1,3}(\.\d{1,6})?', 'a number')
_FRACTION = (r'(\d{1,3}(\.\d{1,9})?|[1-9]\d{0,3}/[1-9]\d{0,3})', 'a number in (0, 1] or a fraction, e.g. 0.5 or 1/3')
_NOTHING = ('', 'nothing')
# key of a token of ours -> (pattern of its value, what is allowed there)
_TOKENS: Dict[str, Tuple[str, str]] = dict(
    r=_POSITIVE, k=(r'\d?[13579]', 'an odd number'), s=(r'[12]', '1 or 2'), e=_RATIO, c=_POSITIVE, se=_RATIO,
    gs=(r'\d{1,4}', 'a whole number'), pg=_POSITIVE, n=(r're|r6|hs|sw|mi', 're, r6, hs, sw or mi'), id=_FRACTION,
    dw=('|'.join(DW_POSITIONS), ', '.join(DW_POSITIONS)),
    at=('[a-z]+', 'the name of an attention layer, e.g. se, eca or coord'), sefirst=_NOTHING, selast=_NOTHING,
    noskip=_NOTHING, keepdw=_NOTHING, keepc=_NOTHING, nonlinear=_NOTHING,
)
_REQUIRED = 'rksc'

_TIMM_TOKEN = re.compile(r'([a-z]+)(\d{1,4}(?:\.\d{1,6})*)?', re.ASCII)
_TIMM_NEEDS = 'r1_k3_s1_e1_c8_h1_d8'  # all that any type of timm needs
_TIMM_IGNORES = ('e', 'skip', 'noskip')  # timm writes these into its own strings where they change nothing


class BlockStringError(ValueError):
    """ A block string that cannot be decoded or built. It names the string, the token at fault, and what is allowed."""


def _decode(block_str: Any) -> Tuple[Dict[str, Any], int]:
    """ Block arguments of a string, and the number of blocks in its row."""
    if not isinstance(block_str, str):
        raise BlockStringError(
            f'Block {shown(repr(block_str))} is not a string: expected one such as "sg_r3_k3_s2_e6_c192".')
    # errors stay on one line whatever the string holds
    printable = block_str if block_str.isprintable() else repr(block_str)[1:-1]
    block_type, *tokens = printable.split('_')
    try:
        return (_decode_ours if block_type in BLOCK_TYPES else _decode_timms)(block_type, tokens)
    except BlockStringError as e:
        raise BlockStringError(f'Block string "{shown(printable)}": {e}') from None


def _decode_ours(block_type: str, tokens: List[str]) -> Tuple[Dict[str, Any], int]:
    """ Decode a `sg` or `gsg` string, the counterpart of timm's `_decode_block_str`."""
    options: Dict[str, str] = {}
    for token in tokens:
        letters = re.match('[a-z]*', token)[0]  # type: ignore[index]
        # the letters are the key, but for the two keys with letters for a value
        key = next((key for key in (letters, letters[:2], letters[:1]) if key in _TOKENS), '')
        pattern, expected = _TOKENS.get(key, _NOTHING)
        value = token[len(key):]
        is_valid = re.fullmatch(pattern, value, flags=re.ASCII)
        if not key or not is_valid and key != letters:
            hint = f'; after "{key}" it needs {expected}' if key else ''
            raise BlockStringError(
                f'unknown token "{shown(token)}", a block of type {block_type} takes {", ".join(_TOKENS)}{hint}.')
        if not is_valid:
            raise BlockStringError(f'token "{shown(token)}" needs {expected} after "{key}".')
        if key in options:
            raise BlockStringError(f'token "{token}" repeats "{key}", allowed once.')
        options[key] = value
    missing = [key for key in _REQUIRED if key not in options]
    if missing:
        raise BlockStringError(
            f'token "{missing[0]}" is missing, a block of type {block_type} needs {", ".join(_REQUIRED)}.')
    # timm decodes what the grammars share, the activation among it; its exp_kernel_size and the like are left out
    shared, num_repeat = decode_block_str('_'.join(['cn', *(f'{k}{options[k]}' for k in 'rkscn' if k in options)]))
    block_args = dict(
        block_type=block_type,
        out_chs=shared['out_chs'],
        stride=shared['stride'],
        act_layer=shared['act_layer'],
        dw_kernel_size=shared['kernel_size'],
        exp_ratio=float(options.get('e', 6.)),
        keep_dw='keepdw' in options,
        keep_chs='keepc' in options,
    )
    if block_args['exp_ratio'] < 1:
        raise BlockStringError(f'token "e{options["e"]}" needs a number from 1 after "e".')
    positions = [position for position in SE_POSITIONS if f'se{position}' in options]
    if len(positions) > 1:
        raise BlockStringError('tokens "sefirst" and "selast" contradict each other.')
    # what is not written is left to the network's setting
    if 'se' in options:
        block_args['se_ratio'] = float(options['se'])
    if 'at' in options:
        block_args['se_layer'] = options['at']
    if positions:
        block_args['se_position'] = positions[0]
    if 'gs' in options:
        block_args['group_size'] = int(options['gs'])
    if 'pg' in options:
        block_args['pw_groups'] = int(options['pg'])
    if 'id' in options:
        numerator, _, denominator = options['id'].partition('/')
        block_args['identity_multiplier'] = multiplier = float(numerator) / float(denominator or 1)
        if not 0. < multiplier <= 1.:
            raise BlockStringError(f'token "id{options["id"]}" needs {_FRACTION[1]} after "id".')
    if 'dw' in options:
        block_args['dw_position'] = options['dw']
    if 'noskip' in options:
        block_args['noskip'] = True
    if 'nonlinear' in options:
        block_args['linear_bottleneck'] = False
    return block_args, num_repeat


def _decode_timms(block_type: str, tokens: List[str]) -> Tuple[Dict[str, Any], int]:
    """ Let timm decode a string of its own types, and name the token that it does not take or would ignore."""
    try:
        decode_block_str(f'{block_type}_{_TIMM_NEEDS}')
    except AssertionError:
        raise BlockStringError(
            f'unknown block type "{shown(block_type)}", allowed are {", ".join(BLOCK_TYPES)}, ir and the other types of'
            ' timm.'
        ) from None
    except Exception:  # a type of a newer timm, which needs more
        pass
    keys: List[str] = []
    for token in tokens:
        match = _TIMM_TOKEN.fullmatch(token)
        key, value = match.groups(default='') if match else (token, '')
        if key in keys:
            raise BlockStringError(f'token "{token}" repeats "{key}", allowed once.')
        keys.append(key)
        if not match or not _is_read(block_type, key, bool(value)):
            raise BlockStringError(
                f'unknown token "{shown(token)}", a block of type {block_type} takes letters that timm reads and plain'
                ' numbers.')
        if key in ('k', 'a', 'p') and any(size != '0' and int(size) % 2 == 0 for size in value.split('.')):
            raise BlockStringError(f'token "{token}" needs an odd number, or 0 for none, after "{key}".')
        if key in ('r', 'c') and not int(float(value)):
            raise BlockStringError(f'token "{token}" needs a whole number from 1 after "{key}".')
    try:
        return decode_block_str('_'.join([block_type, *tokens]))
    except KeyError as e:
        raise BlockStringError(f'token "{e.args[0]}" is missing, a block of type {block_type} needs it.') from None
    except ValueError as e:
        raise BlockStringError(f'timm cannot read a number in it: {e}.') from None


@cache
def _is_read(block_type: str, key: str, has_value: bool) -> bool:
    """ Whether timm reads a token of a key in strings of a type, which it would ignore in silence otherwise."""
    if key in _TIMM_IGNORES:
        return True
    tokens = [f'{key}{value}' for value in '013'] if has_value else ['', key]
    try:
        outcomes = [decode_block_str('_'.join([block_type, _TIMM_NEEDS, token])) for token in tokens]
    except Exception:  # whatever it has against the value, it has read it
        return True
    return any(outcome != outcomes[0] for outcome in outcomes)


def is_multiplier(value: Any) -> bool:
    """ Whether a value is a finite number above 0."""
    return isinstance(value, Real) and 0 < value < math.inf  # type: ignore[operator]


def is_whole(value: Any, least: int = 0) -> bool:
    """ Whether a value is a whole number, Python's or numpy's, and not below another."""
    return isinstance(value, Integral) and int(value) >= least


def has_attention(block_args: Dict[str, Any]) -> bool:
    """ Whether a block, of ours or timm's, has squeeze-and-excitation or another attention."""
    return bool(block_args.get('se_ratio') or block_args.get('se_layer'))


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
        depth_multiplier: Network depth multiplier, or one for each stage. It scales the repeats as timm does.
        depth_trunc: Truncation mode of the depth multiplier, 'ceil' or 'round'.
        fix_first_last: Leave the depth of the first and last stage.
        group_size: Group size of all blocks whose string does not set it.
        **sandglass_args: Arguments of all `sg` and `gsg` blocks whose string does not set them.

    Returns:
        List of stages, each a list of block arguments for `SandglassNetBuilder`.

    Raises:
        BlockStringError: If a string does not follow the grammar, or has a token without an effect.
        ValueError: If the definition is not a list of lists, or another argument is impossible.
    """
    stages_ok = isinstance(arch_def, (list, tuple)) and len(arch_def) > 0
    if not stages_ok or not all(isinstance(stage, (list, tuple)) and len(stage) > 0 for stage in arch_def):
        raise ValueError(
            f'arch_def {shown(repr(arch_def))} is not a list of lists: expected stages of block strings, such as'
            ' [["sg_r1_k3_s2_e2_c96"], ["sg_r3_k3_s2_e6_c192"]].')
    per_stage = isinstance(depth_multiplier, (list, tuple))
    depths: Any = depth_multiplier if per_stage else (depth_multiplier,) * len(arch_def)
    if len(depths) != len(arch_def) or not all(is_multiplier(depth) for depth in depths):
        raise ValueError(
            f'depth_multiplier {depth_multiplier!r} is not a finite number above 0, nor one for each of the'
            f' {len(arch_def)} stages: give 1.0 for the depth as written.')
    if group_size is not None and not is_whole(group_size):
        raise ValueError(f'group_size {group_size!r} is not a whole number from 0: give 1 for depthwise convolutions.')
    arch_args = []
    for stage_idx, (stage, depth) in enumerate(zip(arch_def, depths, strict=True)):
        stage_args, repeats = [], []
        for row, block_str in enumerate(stage):
            block_args, num_repeat = _decode(block_str)
            if row > 0:  # timm's builder lets only the first block of a stage have a stride
                stride = block_args.get('stride', 1)
                token = f's{stride}' if stride > 1 else 'keepdw' if block_args.get('keep_dw') else ''
                if token:
                    raise BlockStringError(
                        f'Block string "{shown(block_str)}": token "{token}" has an effect in the first string of a'
                        ' stage alone: give this string a stage of its own.')
            if block_args['block_type'] in BLOCK_TYPES:
                string_args, block_args = block_args, dict(sandglass_args, **block_args)
                if not has_attention(block_args):
                    if 'se_position' in string_args:
                        raise BlockStringError(
                            f'Block string "{shown(block_str)}": "se{block_args["se_position"]}" places an attention'
                            ' that the block does not have: add "se" or "at".')
                    block_args.pop('se_position', None)
            if group_size is not None:
                block_args.setdefault('group_size', group_size)
            block_args['block_str'] = block_str
            stage_args.append(block_args)
            repeats.append(num_repeat)
        fixed = fix_first_last and stage_idx in (0, len(arch_def) - 1)
        stage_args = scale_stage_depth(stage_args, repeats, 1.0 if fixed else depth, depth_trunc)
        for block_idx, block_args in enumerate(stage_args):
            if block_args['block_type'] in BLOCK_TYPES:
                # the design, kept apart from the stride, which timm's builder turns into dilation at will
                block_args['downsample'] = block_idx == 0 and block_args['stride'] > 1
                block_args['keep_dw'] = block_idx == 0 and block_args['keep_dw']
        arch_args.append(stage_args)
    return arch_args
