""" Sandglass blocks of MobileNeXt

The inverted residual turned inside out: wide -> narrow -> wide. The shortcut and both depthwise convolutions sit on the
wide features. The bottleneck is two linear 1x1 convolutions.

Paper: `Rethinking Bottleneck Structure for Efficient Mobile Network Design` - https://arxiv.org/abs/2007.02269
Rules the paper leaves open follow the authors' `mobilenext/codebase/models/mnext.py` and `efficient_mnext/model.py`
beside it in https://github.com/zhoudaquan/rethinking_bottleneck_design
"""
import math
from numbers import Real
from typing import Any, Callable, Dict, Optional, Tuple

import torch
import torch.nn as nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from timm.layers import (
    Conv2dSame,
    create_aa,
    create_conv2d,
    DropPath,
    FrozenBatchNormAct2d,
    get_norm_act_layer,
    LayerType,
    make_divisible,
)

__all__ = [
    'SandglassBlock', 'GhostSandglassBlock', 'DW_POSITIONS', 'REDUCE_CHS_FNS', 'SE_POSITIONS',
    'check_identity_multiplier', 'fold_bn', 'reduce_channels', 'reduce_channels_even',
]

# where the depthwise convolutions sit, in words of the block's data flow
DW_POSITIONS = ('both', 'before', 'after', 'bottleneck')
# behind which of the depthwise convolutions the attention sits
SE_POSITIONS = ('first', 'last')


def check_identity_multiplier(multiplier: float) -> float:
    """ Identity tensor multiplier (paper section 3.2), the part of the channels that gets the shortcut.

    Returns:
        The multiplier, unchanged.

    Raises:
        ValueError: If it is not a number in (0, 1].
    """
    if isinstance(multiplier, bool) or not isinstance(multiplier, Real) or not 0. < multiplier <= 1.:
        raise ValueError(
            f'identity_multiplier {multiplier!r} is not a number in (0, 1]: give the part of the channels that gets the'
            ' shortcut, e.g. 0.5 (noskip=True for none).')
    return multiplier


def reduce_channels(in_chs: int, out_chs: int, exp_ratio: float) -> int:
    """ Width of the bottleneck, as in the authors' mnext.py: in // ratio, but no less than a sixth of the output."""
    mid_chs = int(in_chs // exp_ratio)
    if mid_chs < out_chs / 6:
        mid_chs = make_divisible(math.ceil(out_chs / 6), 16)
    return mid_chs


def reduce_channels_even(in_chs: int, out_chs: int, exp_ratio: float) -> int:
    """ Width of the bottleneck, as in the authors' efficient_mnext/model.py: in // ratio, made even."""
    return make_divisible(int(in_chs // exp_ratio), 2)


# by name too, as `--model-kwargs` of timm's train.py can say it
REDUCE_CHS_FNS: Dict[str, Callable[[int, int, float], int]] = dict(
    authors=reduce_channels, even=reduce_channels_even)


def _depthwise_groups(group_size: int, chs: int) -> int:
    """ Groups of a depthwise convolution, group_size 1 is depthwise, 0 a full convolution as everywhere in timm."""
    if not group_size:
        return 1
    if group_size < 0 or chs % group_size:
        raise ValueError(f'group_size {group_size} does not divide the {chs} channels of a sandglass block.')
    return chs // group_size


def fold_bn(conv: Any, norm: Any) -> nn.Module:
    """ Fold a batch norm's running statistics and affine parameters into the convolution before it, in place.

    Args:
        conv: Convolution whose weight and bias are replaced.
        norm: Layer behind it, folded if it is a batch norm with running statistics.

    Returns:
        What still runs after the convolution: the norm's activation, or the norm itself where it cannot be folded.
    """
    is_bn = isinstance(norm, (nn.modules.batchnorm._BatchNorm, FrozenBatchNormAct2d))
    # no subclass that makes its weight as it runs, such as StdConv2d
    if type(conv) not in (nn.Conv2d, Conv2dSame) or not is_bn or norm.running_mean is None:
        return norm
    conv.weight, conv.bias = fuse_conv_bn_weights(  # type: ignore[assignment]
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
    act = getattr(norm, 'act', nn.Identity()).train(norm.training)
    act._forward_hooks.update(norm._forward_hooks)  # feature taps move along
    return act


def _renew_buffers(block: Any, incompatible_keys: Any) -> None:
    block.init_non_persistent_buffers()


class SandglassBlock(nn.Module):
    """ Sandglass block, wide -> narrow -> wide

    Which of the two depthwise convolutions exist follows the authors' code:
      * channels and resolution kept: both,
      * stride 2: only the second one, which carries the stride; both at a reduction of 2,
      * channels changed at stride 1: none, two 1x1 convolutions only; both at a reduction of 2 or with `keep_dw`.
    Any other `dw_position` than 'both' moves those that exist, at least one and only one of them strided at stride 2.
    """
    # part of the channels that passes by the bottleneck where both depthwise convolutions exist
    bypass_ratio = 0.

    def __init__(
            self,
            in_chs: int,
            out_chs: int,
            dw_kernel_size: int = 3,
            stride: int = 1,
            dilation: int = 1,
            group_size: int = 1,
            pad_type: str = '',
            noskip: bool = False,
            exp_ratio: float = 6.0,
            identity_multiplier: float = 1.0,
            dw_position: str = 'both',
            keep_dw: bool = False,
            linear_bottleneck: bool = True,
            linear_output: bool = False,
            pw_groups: int = 1,
            reduce_chs_fn: Callable = reduce_channels,
            downsample: bool = False,
            act_layer: LayerType = nn.ReLU6,
            norm_layer: LayerType = nn.BatchNorm2d,
            aa_layer: Optional[LayerType] = None,
            se_layer: Optional[Callable[..., nn.Module]] = None,
            se_position: str = 'last',
            drop_path_rate: float = 0.,
            device=None,
            dtype=None,
    ):
        """
        Args:
            in_chs: Input channels (wide).
            out_chs: Output channels (wide).
            dw_kernel_size: Kernel size of the depthwise convolutions.
            stride: Stride, carried by the last depthwise convolution.
            dilation: Dilation of the depthwise convolutions.
            group_size: Group size of the depthwise convolutions, 1 is depthwise.
            pad_type: Padding type.
            noskip: No shortcut.
            exp_ratio: Ratio of the wide input to the narrow bottleneck, the paper's reduction.
            identity_multiplier: Part of the channels, in (0, 1], that the shortcut covers, from the first one on.
            dw_position: Where the depthwise convolutions sit: 'before' the reduction, 'after' the expansion, 'both',
                or in the 'bottleneck' (the authors' `i2rnet_low_id.py`).
            keep_dw: Keep both depthwise convolutions, and no shortcut (authors' `keep_3x3`, used in rows of one block
                that change channels at stride 1).
            linear_bottleneck: No activation after the narrowing 1x1.
            linear_output: No activation after the widening 1x1 where that ends the block, which `dw_position` 'before'
                and 'bottleneck' bring about. A depthwise convolution at the end has none either. No effect on other
                blocks. The authors' `i2rnet_low_id.py`, with both in the bottleneck, has an activation.
            pw_groups: Groups of the 1x1 convolutions, where both depthwise convolutions exist (authors' `group_1x1`).
            reduce_chs_fn: Function of input channels, output channels and reduction that gives the bottleneck's width.
            downsample: The block was designed with stride 2, which may have become a dilation since. The design decides
                which convolutions exist, and that the block has no shortcut.
            act_layer: Activation layer.
            norm_layer: Normalization layer.
            aa_layer: Anti-aliasing layer, takes over the stride.
            se_layer: Squeeze-and-excitation or another attention layer.
            se_position: Where it sits. 'last': behind the last depthwise convolution, on the output, as in
                EfficientNet. 'first': behind the first one, as in the paper of Coordinate Attention
                (https://arxiv.org/abs/2103.02907). A block without a first one has no attention then.
            drop_path_rate: Stochastic depth rate.

        Raises:
            ValueError: If the identity multiplier, a position, the reduction, or a number of groups is impossible.
        """
        dd = {'device': device, 'dtype': dtype}
        super().__init__()
        if dw_position not in DW_POSITIONS:
            raise ValueError(f'dw_position {dw_position!r} is not one of {", ".join(DW_POSITIONS)}.')
        if se_position not in SE_POSITIONS:
            raise ValueError(f'se_position {se_position!r} is not one of {", ".join(SE_POSITIONS)}.')
        if not exp_ratio >= 1:
            raise ValueError(f'exp_ratio {exp_ratio!r} of a sandglass block is not at least 1: it divides the width.')
        check_identity_multiplier(identity_multiplier)
        norm_act_layer = get_norm_act_layer(norm_layer, act_layer)
        downsample = downsample or stride > 1
        keeps_shape = in_chs == out_chs and not downsample
        mid_chs = reduce_chs_fn(in_chs, out_chs, exp_ratio)

        self.out_chs = out_chs
        self.has_skip = keeps_shape and not (noskip or keep_dw)
        # integer division: a float 1/3 must not lose a channel
        self.skip_chs = int(in_chs * identity_multiplier + 1e-6)
        if self.has_skip and not self.skip_chs:
            raise ValueError(
                f'identity_multiplier {identity_multiplier!r} leaves no channel of {in_chs} to the shortcut:'
                f' give at least 1/{in_chs}, or noskip=True for none.')

        both_dw = keeps_shape or keep_dw or exp_ratio == 2
        any_dw = both_dw or downsample
        bypass_chs = math.ceil(in_chs * self.bypass_ratio) if both_dw and dw_position == 'both' else 0
        self.bypass_chs = bypass_chs
        pw_chs = in_chs - bypass_chs, mid_chs, out_chs - bypass_chs
        if pw_chs[2] < 1:
            raise ValueError(f'{out_chs} output channels are none but the {bypass_chs} that pass by the bottleneck.')
        pw_groups = pw_groups if both_dw else 1
        if pw_groups < 1 or any(chs % pw_groups for chs in pw_chs):
            raise ValueError(f'pw_groups {pw_groups} does not divide {pw_chs}, the channels of the 1x1 convolutions.')
        self.dw_in_bottleneck = dw_position == 'bottleneck'
        has_dw2 = any_dw and dw_position != 'before'
        has_dw1 = both_dw and dw_position != 'after' or any_dw and not has_dw2
        # the expansion is of the input's resolution then, not of the output's
        self.is_strided_last = has_dw2 and stride > 1 and not self.dw_in_bottleneck
        # 'before' or 'bottleneck' took the depthwise convolution that would have ended the block
        is_pw_last = any_dw and (self.dw_in_bottleneck or not has_dw2)
        dw1_chs, dw2_chs = (mid_chs, mid_chs) if self.dw_in_bottleneck else (in_chs, out_chs)

        def _depthwise(chs: int, enable: bool, strided: bool, apply_act: bool) -> Tuple[Any, Any, Any]:
            if not enable:
                return nn.Identity(), nn.Identity(), nn.Identity()
            use_aa = aa_layer is not None and strided and stride > 1
            conv = create_conv2d(
                chs,
                chs,
                dw_kernel_size,
                stride=stride if strided and not use_aa else 1,
                dilation=dilation,
                groups=_depthwise_groups(group_size, chs),
                padding=pad_type,
                **dd,
            )
            norm = norm_act_layer(chs, inplace=True, apply_act=apply_act, **dd)
            aa = create_aa(aa_layer or '', channels=chs, stride=stride, enable=use_aa, **dd)
            return conv, norm, aa

        # Depthwise convolution before the reduction
        self.conv_dw1, self.bn1, self.aa1 = _depthwise(
            dw1_chs, has_dw1, strided=not has_dw2, apply_act=not self.dw_in_bottleneck)

        # Pointwise reduction, linear
        self.conv_pw1 = create_conv2d(in_chs - bypass_chs, mid_chs, 1, groups=pw_groups, padding=pad_type, **dd)
        self.bn2 = norm_act_layer(mid_chs, inplace=True, apply_act=not linear_bottleneck, **dd)

        # Pointwise expansion
        self.conv_pw2 = create_conv2d(mid_chs, out_chs - bypass_chs, 1, groups=pw_groups, padding=pad_type, **dd)
        self.bn3 = norm_act_layer(
            out_chs - bypass_chs, inplace=True, apply_act=not (linear_output and is_pw_last), **dd)

        # Depthwise convolution after the expansion, linear
        self.conv_dw2, self.bn4, self.aa2 = _depthwise(
            dw2_chs, has_dw2, strided=True, apply_act=self.dw_in_bottleneck)

        # Squeeze-and-excitation
        self.is_se_first = se_position == 'first'
        se_chs = (dw1_chs if has_dw1 else 0) if self.is_se_first else out_chs
        self.se = se_layer(se_chs, act_layer=act_layer, **dd) if se_layer and se_chs else nn.Identity()
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate else nn.Identity()

        # 1 where a channel gets the shortcut. Engines fuse a product and a sum, slices would break their layout.
        mask = None
        if self.has_skip and self.skip_chs < out_chs:
            mask = torch.empty(1, out_chs, 1, 1, **dd)
            self.register_load_state_dict_post_hook(_renew_buffers)
        self.register_buffer('skip_mask', mask, persistent=False)
        self.init_non_persistent_buffers()

    def feature_info(self, location: str) -> Dict[str, Any]:
        if location == 'expansion':  # wide tensor that enters the second depthwise convolution
            if self.dw_in_bottleneck:
                return dict(module='bn3', hook_type='forward', num_chs=self.out_chs)
            return dict(module='conv_dw2', hook_type='forward_pre', num_chs=self.out_chs)
        elif location == 'downsample':  # tensor that enters the strided depthwise convolution
            name = 'conv_dw1' if isinstance(self.conv_dw2, nn.Identity) else 'conv_dw2'
            conv = getattr(self, name)
            if isinstance(conv, nn.Identity):
                return self.feature_info('expansion')
            return dict(module=name, hook_type='forward_pre', num_chs=conv.in_channels)
        else:  # location == 'bottleneck', block output
            return dict(module='', num_chs=self.out_chs)

    def dw_before(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv_dw1(x)
        x = self.bn1(x)
        x = self.aa1(x)
        return self.se(x) if self.is_se_first else x

    def reduce(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv_pw1(x)
        return self.bn2(x)

    def expand(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv_pw2(x)
        return self.bn3(x)

    def dw_after(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv_dw2(x)
        x = self.bn4(x)
        return self.aa2(x)

    def bottleneck(self, x: torch.Tensor) -> torch.Tensor:
        return self.expand(self.reduce(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x
        if self.dw_in_bottleneck:
            x = self.expand(self.dw_after(self.dw_before(self.reduce(x))))
        else:
            x = self.dw_after(self.bottleneck(self.dw_before(x)))
        if not self.is_se_first:
            x = self.se(x)
        if self.has_skip:
            x = self.drop_path(x)
            if self.skip_mask is not None:
                x = x + shortcut * self.skip_mask.to(x.dtype)  # not addcmul, which pnnx lacks
            else:
                x = x + shortcut
        return x

    def init_non_persistent_buffers(self) -> None:
        """ Write the mask of a partial shortcut, which no state dict has. The name is timm's for such a method."""
        if self.skip_mask is not None:  # type: ignore[has-type]
            weight = self.conv_pw1.weight  # load_state_dict(assign=True) replaces weights, and not this mask
            mask = torch.zeros(1, self.out_chs, 1, 1, device=weight.device, dtype=weight.dtype)
            mask[:, :self.skip_chs] = 1.
            self.skip_mask = mask

    def reset_parameters(self) -> None:
        """ Reset what the block holds itself, which is the mask. Its layers have a method of their own."""
        self.init_non_persistent_buffers()

    def _apply(self, fn: Callable, recurse: bool = True) -> Any:
        super()._apply(fn, recurse)
        self.init_non_persistent_buffers()  # to_empty() has left it as it was in memory
        return self

    def reparameterize(self) -> None:
        """ Fold every batch norm into its convolution, in place, for inference."""
        self.bn1 = fold_bn(self.conv_dw1, self.bn1)
        self.bn2 = fold_bn(self.conv_pw1, self.bn2)
        self.bn3 = fold_bn(self.conv_pw2, self.bn3)
        self.bn4 = fold_bn(self.conv_dw2, self.bn4)


class GhostSandglassBlock(SandglassBlock):
    """ Sandglass block w/ ghost split

    Where both depthwise convolutions exist, only the first half of the channels goes through the bottleneck, and the
    other half is concatenated behind what comes out. Authors' `GhostI2RBlock` in `efficient_mnext/model.py`.
    """
    bypass_ratio = 0.5

    def bottleneck(self, x: torch.Tensor) -> torch.Tensor:
        if not self.bypass_chs:
            return self.expand(self.reduce(x))
        n = self.conv_pw1.in_channels
        return torch.cat([self.expand(self.reduce(x[:, :n])), x[:, n:]], dim=1)
