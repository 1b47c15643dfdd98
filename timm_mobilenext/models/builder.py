""" Builder of networks with sandglass blocks, timm's own with two more types of blocks"""
from functools import partial
from typing import Any, Callable, Dict, List

import torch.nn as nn

from ..shared.errors import first_line
from ._timm import EfficientNetBuilder
from .attention import bind_se_layer, resolve_se_layer, takes_ratio
from .block_strings import BlockStringError
from .sandglass import GhostSandglassBlock, reduce_channels, SandglassBlock

__all__ = ['FEATURE_LOCATIONS', 'SandglassNetBuilder']

# 'bottleneck' and 'expansion' are timm's names for a block's output and its inner wide tensor, 'downsample' is ours
FEATURE_LOCATIONS = ('bottleneck', 'expansion', 'downsample')

# what blocks raise where channels, group sizes and kernels do not go together; anything else is somebody's bug
_BUILD_ERRORS = (AssertionError, ValueError)


def _output_feature_info(num_chs: Any, location: str) -> Dict[str, Any]:
    return dict(module='', num_chs=num_chs)


class SandglassNetBuilder(EfficientNetBuilder):
    """ timm's builder, for block arguments that may have sandglass blocks among them

    One more feature location: 'downsample' taps the wide tensor inside each block of stride 2, where it enters the
    strided depthwise convolution, in place of the block before; behind the last of them, the wide tensor inside the
    last block. These are the taps of the authors' SSDLite.
    """

    sandglass_blocks: Dict[str, Any] = dict(sg=SandglassBlock, gsg=GhostSandglassBlock)

    def __init__(
            self,
            feature_location: str = '',
            reduce_chs_fn: Callable = reduce_channels,
            **kwargs,
    ):
        if feature_location not in (*FEATURE_LOCATIONS, ''):
            raise ValueError(f'feature_location {feature_location!r} is not one of {", ".join(FEATURE_LOCATIONS)}.')
        self.reduce_chs_fn = reduce_chs_fn
        self.tap_downsample = feature_location == 'downsample'
        super().__init__(feature_location='expansion' if self.tap_downsample else feature_location, **kwargs)

    def _make_block(self, ba: Dict[str, Any], block_idx: int, block_count: int) -> nn.Module:
        block_str = ba.pop('block_str', None)
        block_type, in_chs = ba['block_type'], self.in_chs
        try:
            block: Any = self._make(ba, block_idx, block_count)
            if any(not p.numel() for p in block.parameters()):
                raise ValueError('it leaves a layer without channels')
        except _BUILD_ERRORS as e:
            if block_str is None:
                raise
            raise BlockStringError(
                f'Block string "{block_str}" cannot be built on {in_chs} channels: {first_line(e)}') from e
        if block_type in ('mha', 'mqa'):
            # timm's own looks for a layer that the block does not have
            block.feature_info = partial(_output_feature_info, self.in_chs)
        return block

    def _make(self, ba: Dict[str, Any], block_idx: int, block_count: int) -> nn.Module:
        if ba['block_type'] not in self.sandglass_blocks:
            return super()._make_block(ba, block_idx, block_count)
        block_cls: Any = self.sandglass_blocks[ba.pop('block_type')]
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

        se_ratio, se_name = ba.pop('se_ratio', None), ba.pop('se_layer', None)
        if se_ratio or se_name:
            se_layer = resolve_se_layer(se_name) if se_name else self.se_layer
            if se_name and se_ratio and not takes_ratio(se_layer):
                raise ValueError(f'attention layer {se_name!r} takes no ratio: leave "se" out')
            rd_ratio = self._rd_ratio(block_cls, ba, se_ratio) if se_ratio and takes_ratio(se_layer) else None
            ba['se_layer'] = bind_se_layer(se_layer, rd_ratio)

        block = block_cls(reduce_chs_fn=self.reduce_chs_fn, **ba, **self.dd)
        # update args of next block
        self.in_chs = out_chs
        return block

    def _rd_ratio(self, block_cls: Any, ba: Dict[str, Any], se_ratio: float) -> float:
        """ Ratio of the channels that the attention sees, of which it leaves one at least."""
        is_first = ba.get('se_position') == 'first'
        chs = ba['in_chs'] if is_first else ba['out_chs']
        if is_first and ba.get('dw_position') == 'bottleneck':
            chs = self.reduce_chs_fn(ba['in_chs'], ba['out_chs'], ba['exp_ratio'])
        elif block_cls is GhostSandglassBlock:
            return max(se_ratio * ba['in_chs'], 1) / chs
        elif not self.se_from_exp:
            # a ratio of the bottleneck, as of an inverted residual's input
            se_ratio /= ba['exp_ratio']
        return max(se_ratio, 1 / chs)

    def __call__(self, in_chs: int, model_block_args: List[List[Dict[str, Any]]]) -> List[Any]:
        block_strs = [f'"{ba.get("block_str")}"' for stage_args in model_block_args for ba in stage_args]
        try:
            stages = super().__call__(in_chs, model_block_args)
        except BlockStringError:
            raise
        except (*_BUILD_ERRORS, KeyError) as e:
            if isinstance(e, KeyError) and e.args != ('exp_ratio',):
                raise
            reason = first_line(e) if not isinstance(e, KeyError) else (
                'the block that ends the space-to-depth region of a block with "d" needs a reduction, "e".')
            raise BlockStringError(
                f'Block strings {", ".join(block_strs)} cannot be built one after the other: {reason}') from e
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
        return stages
