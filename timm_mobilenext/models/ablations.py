""" The paper's ablation of the shortcut: the same layers, joined where they are narrow (`narrow_skip=True`)"""
from typing import Any, Dict, List, Optional, Tuple, Union

import torch
import torch.nn as nn
from torch.utils.checkpoint import checkpoint

from ._timm import feature_take_indices
from .builder import SandglassNetBuilder
from .network import MobileNeXt
from .sandglass import SandglassBlock

__all__ = ['narrow_kwargs', 'NarrowMobileNeXt', 'NarrowNetBuilder', 'NarrowSandglassBlock', 'NarrowStages']


class NarrowSandglassBlock(SandglassBlock):
    """ Sandglass block w/ narrow shortcut

    The shortcut joins the narrow tensors of successive blocks, from one reduction to the next, where their shapes are
    the same. Cut there, the same layers in the same order are inverted residuals: expansion, depthwise convolutions,
    reduction. This is the paper's ablation of shortcuts on low-dimensional features.
    """

    def __init__(
            self,
            in_chs: int,
            out_chs: int,
            narrow_chs: int = 0,
            stride: int = 1,
            noskip: bool = False,
            identity_multiplier: float = 1.0,
            dw_position: str = 'both',
            downsample: bool = False,
            **kwargs: Any,
    ):
        """
        Args:
            in_chs: Input channels (wide).
            out_chs: Output channels (wide).
            narrow_chs: Channels of the narrow tensor of the block before. 0 where its resolution is another.
            stride: Stride.
            noskip: No shortcut.
            identity_multiplier: Of the wide shortcut alone, 1 here.
            dw_position: Where the depthwise convolutions sit.
            downsample: The block was designed with stride 2, though the stride has become a dilation since.
            **kwargs: Arguments of `SandglassBlock`.

        Raises:
            ValueError: If an identity multiplier is given, or an argument of `SandglassBlock` is impossible.
        """
        downsample = downsample or stride > 1
        super().__init__(
            in_chs,
            out_chs,
            stride=stride,
            noskip=True,
            dw_position=dw_position,
            downsample=downsample,
            **kwargs,
        )
        if identity_multiplier != 1.0:
            raise ValueError(
                f'identity_multiplier {identity_multiplier!r} is of the wide shortcut: leave it out with narrow_skip.')
        mid_chs = self.conv_pw1.out_channels
        downsample_first = downsample and dw_position == 'before'
        self.has_skip = mid_chs == narrow_chs and not (noskip or downsample_first)
        # what the next block is given
        self.narrow_chs = 0 if downsample and not downsample_first else mid_chs

    def forward(  # type: ignore[override]
            self,
            x: torch.Tensor,
            narrow: Optional[torch.Tensor] = None,
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """ Wide tensor and the narrow tensor of the block before, to the same two of this block."""
        x = self.reduce(x if self.dw_in_bottleneck else self.dw_before(x))
        if self.has_skip:
            assert narrow is not None, 'a block with a narrow shortcut needs the narrow tensor of the block before'
            x = self.drop_path(x) + narrow
        narrow = x
        if self.dw_in_bottleneck:
            x = self.expand(self.dw_after(self.dw_before(x)))
        else:
            x = self.dw_after(self.expand(x))
        if not self.is_se_first:
            x = self.se(x)
        return x, narrow


class NarrowStages(nn.Sequential):
    """ Stages of `NarrowSandglassBlock`, which hand on their narrow tensors, also from stage to stage"""

    def forward_stages(self, x: torch.Tensor, grad_checkpointing: bool = False) -> List[torch.Tensor]:
        """ Output of each stage."""
        outputs = []
        narrow: Optional[torch.Tensor] = None
        for stage in self:
            for block in stage:  # type: ignore[attr-defined]
                if grad_checkpointing and not torch.jit.is_scripting():
                    x, narrow = checkpoint(block, x, narrow, use_reentrant=False)
                else:
                    x, narrow = block(x, narrow)
            outputs.append(x)
        return outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.forward_stages(x)[-1]


class NarrowNetBuilder(SandglassNetBuilder):
    """ Builder of stages of `NarrowSandglassBlock`"""
    sandglass_blocks = dict(sg=NarrowSandglassBlock)
    narrow_chs = 0  # of the block before, at its output's resolution

    def _make(self, ba: Dict[str, Any], block_idx: int, block_count: int) -> nn.Module:
        if ba['block_type'] not in self.sandglass_blocks:
            raise ValueError('narrow shortcuts run between blocks of type sg alone')
        block: Any = super()._make(dict(ba, narrow_chs=self.narrow_chs), block_idx, block_count)
        self.narrow_chs = block.narrow_chs
        return block

    def __call__(self, *args: Any) -> List[Any]:
        # an nn.Sequential cannot run blocks of two inputs
        return [nn.ModuleList(stage) for stage in super().__call__(*args)]


class NarrowMobileNeXt(MobileNeXt):
    """ MobileNeXt w/ shortcuts between the narrow tensors of successive blocks"""
    builder_cls = NarrowNetBuilder
    stages_cls = NarrowStages

    def as_sequential(self) -> nn.Sequential:
        """ Convert model to sequential for feature extraction."""
        stem, tail = [self.conv_stem, self.bn1], [self.global_pool, nn.Dropout(self.drop_rate), self.classifier]
        return nn.Sequential(*stem, self.blocks, *tail)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """ Forward pass through feature extraction layers."""
        x = self.conv_stem(x)
        x = self.bn1(x)
        if self.grad_checkpointing and not torch.jit.is_scripting():
            x = self.blocks.forward_stages(x, True)[-1]
        else:
            x = self.blocks(x)
        return x

    def forward_intermediates(
            self,
            x: torch.Tensor,
            indices: Optional[Union[int, List[int]]] = None,
            norm: bool = False,
            stop_early: bool = False,
            output_fmt: str = 'NCHW',
            intermediates_only: bool = False,
            extra_blocks: bool = False,
    ) -> Union[List[torch.Tensor], Tuple[torch.Tensor, List[torch.Tensor]]]:
        """ Forward features that returns intermediates, as timm's `EfficientNet` does."""
        assert output_fmt in ('NCHW',), 'Output shape must be NCHW.'
        ends = list(range(len(self.blocks) + 1)) if extra_blocks else self.stage_ends
        taken, last = feature_take_indices(len(ends), indices)
        x = self.conv_stem(x)
        x = self.bn1(x)
        if torch.jit.is_scripting() or not stop_early:  # TorchScript cannot slice blocks
            stages = self.blocks.forward_stages(x, self.grad_checkpointing)
        else:
            stages = self.blocks[:ends[last]].forward_stages(x, self.grad_checkpointing)
        outputs = [x] + stages
        intermediates = [outputs[ends[i]] for i in taken]
        if intermediates_only:
            return intermediates
        return outputs[-1], intermediates


def narrow_kwargs(noskip: bool = False, **kwargs: Any) -> Dict[str, Any]:
    """ Arguments of a network with narrow shortcuts; raise a ValueError if they ask for what it does not have."""
    if noskip:
        raise ValueError('noskip=True and narrow_skip=True contradict each other: leave one out.')
    kwargs['model_cls'] = NarrowMobileNeXt
    if kwargs.get('features_only'):
        feature_cfg = kwargs['feature_cfg'] = dict(kwargs.get('feature_cfg', {}))
        for key, only in (('feature_cls', 'getter'), ('feature_location', 'bottleneck')):
            for given in (kwargs, feature_cfg):
                value = given.pop(key, only)
                if value != only:
                    raise ValueError(
                        f'{key} {value!r} does not go with narrow_skip=True: give {only!r}, or leave it out.')
        feature_cfg['feature_cls'] = 'getter'
    return kwargs
