""" MobileNeXt

Paper: `Rethinking Bottleneck Structure for Efficient Mobile Network Design` - https://arxiv.org/abs/2007.02269

Architectures after the official impl at https://github.com/zhoudaquan/rethinking_bottleneck_design, `mnext.py` for the
paper's models and `efficient_mnext/model.py` for those in the manner of EfficientNet.
"""
import math
from functools import partial
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

import torch
import torch.nn as nn
import torch.nn.functional as F

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import create_classifier, create_conv2d, DropPath, get_norm_act_layer, LayerType, make_divisible

from ._builder import build_model_with_cfg
from ._efficientnet_blocks import SqueezeExcite
from ._efficientnet_builder import round_channels
from ._features import feature_take_indices
from ._manipulate import checkpoint_seq
from ._registry import generate_default_cfgs, register_model

__all__ = ['MobileNeXt']


def _reduce_chs(in_chs: int, out_chs: int, exp_ratio: float) -> int:
    mid_chs = int(in_chs // exp_ratio)
    return mid_chs if mid_chs >= out_chs / 6 else make_divisible(math.ceil(out_chs / 6), 16)


def _reduce_chs_even(in_chs: int, out_chs: int, exp_ratio: float) -> int:
    return make_divisible(int(in_chs // exp_ratio), 2)


class SandglassBlock(nn.Module):
    """ Sandglass block, wide -> narrow -> wide, w/ the shortcut and the depthwise convs on the wide features.

    Both depthwise convs exist if the shape is kept, only the second if the block is strided, none if just the channels
    change, unless at a reduction of 2 or w/ keep_dw. W/ ghost, half of the channels pass by where both exist.
    """

    def __init__(
            self,
            in_chs: int,
            out_chs: int,
            kernel_size: int = 3,
            stride: int = 1,
            dilation: int = 1,
            downsample: bool = False,
            exp_ratio: float = 6.,
            identity_multiplier: float = 1.,
            keep_dw: bool = False,
            noskip: bool = False,
            ghost: bool = False,
            pw_groups: int = 1,
            se_ratio: float = 0.,
            reduce_chs_fn: Callable = _reduce_chs,
            pad_type: str = '',
            act_layer: LayerType = nn.ReLU6,
            norm_layer: LayerType = nn.BatchNorm2d,
            drop_path_rate: float = 0.,
            device=None,
            dtype=None,
    ):
        dd = {'device': device, 'dtype': dtype}
        super().__init__()
        norm_act_layer = get_norm_act_layer(norm_layer, act_layer)
        conv_args = dict(padding=pad_type, **dd)
        keeps_shape = in_chs == out_chs and not downsample
        both_dw = keeps_shape or keep_dw or exp_ratio == 2
        mid_chs = reduce_chs_fn(in_chs, out_chs, exp_ratio)
        pass_chs = math.ceil(in_chs / 2) if ghost and both_dw else 0
        pw_groups = pw_groups if both_dw else 1
        dw_args = dict(kernel_size=kernel_size, dilation=dilation, **conv_args)
        self.pw_chs = in_chs - pass_chs
        self.has_pass = pass_chs > 0
        self.has_skip = keeps_shape and not (noskip or keep_dw)
        self.skip_chs = int(in_chs * identity_multiplier + 1e-6)
        self.partial_skip = self.skip_chs < in_chs

        # Depthwise, wide
        self.conv_dw1 = create_conv2d(in_chs, in_chs, groups=in_chs, **dw_args) if both_dw else nn.Identity()
        self.bn1 = norm_act_layer(in_chs, inplace=True, **dd) if both_dw else nn.Identity()

        # Pointwise reduction, linear
        self.conv_pw1 = create_conv2d(self.pw_chs, mid_chs, 1, groups=pw_groups, **conv_args)
        self.bn2 = norm_act_layer(mid_chs, apply_act=False, **dd)

        # Pointwise expansion
        self.conv_pw2 = create_conv2d(mid_chs, out_chs - pass_chs, 1, groups=pw_groups, **conv_args)
        self.bn3 = norm_act_layer(out_chs - pass_chs, inplace=True, **dd)

        # Depthwise, wide, linear
        has_dw2 = both_dw or downsample
        self.conv_dw2 = create_conv2d(
            out_chs, out_chs, stride=stride, groups=out_chs, **dw_args) if has_dw2 else nn.Identity()
        self.bn4 = norm_act_layer(out_chs, apply_act=False, **dd) if has_dw2 else nn.Identity()

        # Squeeze-and-excitation, reduced from the input w/ ghost, from the bottleneck otherwise
        rd_channels = max(1, round(in_chs * se_ratio if ghost else out_chs * se_ratio / exp_ratio))
        self.se = SqueezeExcite(
            out_chs, rd_channels=rd_channels, act_layer=act_layer, **dd) if se_ratio else nn.Identity()
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x
        x = self.bn1(self.conv_dw1(x))
        passed = x
        x = self.bn2(self.conv_pw1(x[:, :self.pw_chs] if self.has_pass else x))
        x = self.bn3(self.conv_pw2(x))
        if self.has_pass:
            x = torch.cat([x, passed[:, self.pw_chs:]], dim=1)
        x = self.se(self.bn4(self.conv_dw2(x)))
        if self.has_skip:
            x = self.drop_path(x)
            if self.partial_skip:
                x = torch.cat([x[:, :self.skip_chs] + shortcut[:, :self.skip_chs], x[:, self.skip_chs:]], dim=1)
            else:
                x = x + shortcut
        return x


class MobileNeXt(nn.Module):
    """ MobileNeXt

    Paper: `Rethinking Bottleneck Structure for Efficient Mobile Network Design` - https://arxiv.org/abs/2007.02269
    """

    def __init__(
            self,
            depths: Tuple[int, ...] = (1, 1, 3, 3, 4, 4, 3, 1),
            channels: Tuple[int, ...] = (96, 144, 192, 288, 384, 576, 960, 1280),
            strides: Tuple[int, ...] = (2, 1, 2, 2, 1, 2, 1, 1),
            kernel_sizes: Tuple[int, ...] = (3,) * 8,
            exp_ratios: Tuple[int, ...] = (2, 6, 6, 6, 6, 6, 6, 6),
            keep_dw: Tuple[int, ...] = (1, 7),
            noskip: Tuple[int, ...] = (),
            stem_size: int = 32,
            width_multiplier: float = 1.,
            identity_multiplier: float = 1.,
            ghost: bool = False,
            pw_groups: int = 1,
            se_ratio: float = 0.,
            reduce_chs_fn: Callable = _reduce_chs,
            num_classes: int = 1000,
            in_chans: int = 3,
            output_stride: int = 32,
            global_pool: str = 'avg',
            pad_type: str = '',
            act_layer: LayerType = nn.ReLU6,
            norm_layer: LayerType = nn.BatchNorm2d,
            drop_rate: float = 0.,
            drop_path_rate: float = 0.,
            device=None,
            dtype=None,
    ):
        """
        Args:
            depths, channels, strides, kernel_sizes, exp_ratios: Of each stage.
            keep_dw: Stages whose first block keeps both depthwise convs, w/o a shortcut, where its channels change.
            noskip: Stages w/o shortcuts.
            width_multiplier: Multiplier to the channels, the last stage does not get narrower.
            identity_multiplier: Part of the channels that the shortcut covers.
            ghost: Half of the channels pass by the bottleneck.
            pw_groups: Groups of the pointwise convs in blocks w/ both depthwise convs.
            reduce_chs_fn: Bottleneck channels from in_chs, out_chs, exp_ratio.
        """
        super().__init__()
        dd = {'device': device, 'dtype': dtype}
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.grad_checkpointing = False

        # Stem
        prev_chs = round_channels(stem_size, width_multiplier)
        self.conv_stem = create_conv2d(in_chans, prev_chs, 3, stride=2, padding=pad_type, **dd)
        self.bn1 = get_norm_act_layer(norm_layer, act_layer)(prev_chs, inplace=True, **dd)
        self.feature_info = [dict(num_chs=prev_chs, reduction=2, module='bn1')] if strides[0] > 1 else []
        self.stage_ends = [0] if strides[0] > 1 else []

        # Stages
        stages = []
        curr_stride, dilation, block_idx = 2, 1, 0
        for i, depth in enumerate(depths):
            out_chs = round_channels(channels[i], width_multiplier)
            if i + 1 == len(depths):
                out_chs = max(out_chs, channels[i])
            stride, next_dilation = strides[i], dilation
            if curr_stride * stride > output_stride:
                stride, next_dilation = 1, dilation * stride
            curr_stride *= stride
            blocks = []
            for j in range(depth):
                blocks.append(SandglassBlock(
                    prev_chs,
                    out_chs,
                    kernel_size=kernel_sizes[i],
                    stride=stride if j == 0 else 1,
                    dilation=dilation if j == 0 else next_dilation,
                    downsample=j == 0 and strides[i] > 1,
                    exp_ratio=exp_ratios[i],
                    identity_multiplier=identity_multiplier,
                    keep_dw=j == 0 and i in keep_dw,
                    noskip=i in noskip,
                    ghost=ghost,
                    pw_groups=pw_groups,
                    se_ratio=se_ratio,
                    reduce_chs_fn=reduce_chs_fn,
                    pad_type=pad_type,
                    act_layer=act_layer,
                    norm_layer=norm_layer,
                    drop_path_rate=drop_path_rate * block_idx / sum(depths),
                    **dd,
                ))
                prev_chs = out_chs
                block_idx += 1
            dilation = next_dilation
            stages.append(nn.Sequential(*blocks))
            if i + 1 == len(depths) or strides[i + 1] > 1:
                self.feature_info.append(dict(num_chs=prev_chs, reduction=curr_stride, module=f'blocks.{i}'))
                self.stage_ends.append(i + 1)
        self.blocks = nn.Sequential(*stages)

        # Head
        self.num_features = prev_chs
        self.global_pool, self.classifier = create_classifier(prev_chs, num_classes, pool_type=global_pool, **dd)
        self.head_hidden_size = prev_chs * self.global_pool.feat_mult()

        self.apply(self._init_weights)

    def _init_weights(self, m: nn.Module) -> None:
        if isinstance(m, nn.Conv2d):  # the whole fan-out, also of a depthwise conv
            nn.init.normal_(m.weight, 0, math.sqrt(2. / (m.kernel_size[0] * m.kernel_size[1] * m.out_channels)))
            if m.bias is not None:
                nn.init.zeros_(m.bias)
        elif isinstance(m, nn.Linear):
            nn.init.normal_(m.weight, 0, 0.01)
            nn.init.zeros_(m.bias)

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> Dict[str, Any]:
        return dict(stem=r'^conv_stem|bn1', blocks=r'^blocks\.(\d+)' if coarse else r'^blocks\.(\d+)\.(\d+)')

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.grad_checkpointing = enable

    @torch.jit.ignore
    def get_classifier(self) -> nn.Module:
        return self.classifier

    def reset_classifier(self, num_classes: int, global_pool: Optional[str] = None) -> None:
        self.num_classes = num_classes
        weight = next(self.parameters())
        self.global_pool, self.classifier = create_classifier(
            self.num_features,
            num_classes,
            pool_type=self.global_pool.pool_type if global_pool is None else global_pool,
            device=weight.device,
            dtype=weight.dtype,
        )
        self.head_hidden_size = self.num_features * self.global_pool.feat_mult()
        self.global_pool.train(self.training)
        self.classifier.train(self.training)

    def forward_intermediates(
            self,
            x: torch.Tensor,
            indices: Optional[Union[int, List[int]]] = None,
            norm: bool = False,
            stop_early: bool = False,
            output_fmt: str = 'NCHW',
            intermediates_only: bool = False,
    ) -> Union[List[torch.Tensor], Tuple[torch.Tensor, List[torch.Tensor]]]:
        """ Forward features that returns intermediates.

        Args:
            x: Input image tensor
            indices: Take last n features if int, all if None, select matching indices if sequence
            norm: Apply norm layer to compatible intermediates
            stop_early: Stop iterating over blocks when last desired intermediate hit
            output_fmt: Shape of intermediate feature outputs
            intermediates_only: Only return intermediate features
        """
        assert output_fmt in ('NCHW',), 'Output shape must be NCHW.'
        intermediates = []
        take_indices, max_index = feature_take_indices(len(self.stage_ends), indices)
        take_indices = [self.stage_ends[i] for i in take_indices]

        x = self.bn1(self.conv_stem(x))
        if 0 in take_indices:
            intermediates.append(x)
        if torch.jit.is_scripting() or not stop_early:  # can't slice blocks in torchscript
            blocks = self.blocks
        else:
            blocks = self.blocks[:self.stage_ends[max_index]]
        for feat_idx, blk in enumerate(blocks, start=1):
            if self.grad_checkpointing and not torch.jit.is_scripting():
                x = checkpoint_seq(blk, x)
            else:
                x = blk(x)
            if feat_idx in take_indices:
                intermediates.append(x)

        return intermediates if intermediates_only else (x, intermediates)

    def prune_intermediate_layers(
            self,
            indices: Union[int, List[int]] = 1,
            prune_norm: bool = False,
            prune_head: bool = True,
    ) -> List[int]:
        """ Prune layers not required for specified intermediates."""
        take_indices, max_index = feature_take_indices(len(self.stage_ends), indices)
        self.blocks = self.blocks[:self.stage_ends[max_index]]  # truncate blocks w/ stem as idx 0
        if prune_head:
            self.num_features = self.feature_info[max_index]['num_chs']
            self.reset_classifier(0, '')
        return take_indices

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bn1(self.conv_stem(x))
        if self.grad_checkpointing and not torch.jit.is_scripting():
            x = checkpoint_seq(self.blocks, x, flatten=True)
        else:
            x = self.blocks(x)
        return x

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        x = self.global_pool(x)
        if self.drop_rate > 0.:
            x = F.dropout(x, p=self.drop_rate, training=self.training)
        return x if pre_logits else self.classifier(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.forward_features(x)
        x = self.forward_head(x)
        return x


def checkpoint_filter_fn(state_dict: Dict[str, Any], model: nn.Module) -> Dict[str, torch.Tensor]:
    """ Remap official checkpoints, whose layers have the order of ours and other names."""
    state_dict = state_dict.get('state_dict_ema', state_dict.get('state_dict', state_dict))
    state_dict = {k.removeprefix('module.'): v for k, v in state_dict.items()}
    if 'conv_stem.weight' in state_dict:
        return state_dict
    values = [v for k, v in state_dict.items() if not k.startswith('_bn1.')]  # of no use in the official forward
    return dict(zip(model.state_dict(), values, strict=True))


def _cfg(url: str = '', **kwargs: Any) -> Dict[str, Any]:
    return {
        'url': url, 'num_classes': 1000, 'input_size': (3, 224, 224), 'pool_size': (7, 7),
        'crop_pct': 0.875, 'interpolation': 'bicubic',
        'mean': IMAGENET_DEFAULT_MEAN, 'std': IMAGENET_DEFAULT_STD,
        'first_conv': 'conv_stem', 'classifier': 'classifier',
        'paper_ids': 'arXiv:2007.02269',
        'paper_name': 'Rethinking Bottleneck Structure for Efficient Mobile Network Design',
        'origin_url': 'https://github.com/zhoudaquan/rethinking_bottleneck_design', 'license': 'bsd-3-clause-clear',
        **kwargs
    }


default_cfgs = generate_default_cfgs({
    'mobilenext_035.untrained': _cfg(),
    'mobilenext_050.untrained': _cfg(),
    'mobilenext_075.untrained': _cfg(),
    'mobilenext_100.official_in1k': _cfg(hf_hub_id='timm/'),
    'mobilenext_140.untrained': _cfg(),
    'mobilenext_100_id050.official_in1k': _cfg(hf_hub_id='timm/'),
    'mobilenext_100_id033.untrained': _cfg(),
    'mobilenext_100_id017.untrained': _cfg(),
    'mobilenext_s.official_in1k': _cfg(hf_hub_id='timm/'),
    'mobilenext_l.official_in1k': _cfg(hf_hub_id='timm/'),
    'mobilenext_l_ghost.official_in1k': _cfg(hf_hub_id='timm/'),
})


def _create_mobilenext(variant: str, pretrained: bool = False, **kwargs: Any) -> MobileNeXt:
    return build_model_with_cfg(
        MobileNeXt, variant, pretrained,
        pretrained_filter_fn=checkpoint_filter_fn,
        feature_cfg=dict(out_indices=(0, 1, 2, 3, 4), flatten_sequential=True),
        **kwargs,
    )


def _create_mobilenext_efficient(variant: str, pretrained: bool = False, **kwargs: Any) -> MobileNeXt:
    model_args = dict(
        strides=(1, 2, 2, 2, 1, 2, 1, 1), kernel_sizes=(3, 3, 5, 3, 5, 5, 3, 3), keep_dw=(), noskip=(0,), se_ratio=0.25,
        reduce_chs_fn=_reduce_chs_even, pad_type='same', act_layer='silu', drop_rate=0.2, drop_path_rate=0.2,
        norm_layer=partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01))
    return _create_mobilenext(variant, pretrained, **dict(model_args, **kwargs))


@register_model
def mobilenext_035(pretrained: bool = False, **kwargs: Any) -> MobileNeXt:
    model_args = dict(width_multiplier=0.35)
    return _create_mobilenext('mobilenext_035', pretrained, **dict(model_args, **kwargs))


@register_model
def mobilenext_050(pretrained: bool = False, **kwargs: Any) -> MobileNeXt:
    model_args = dict(width_multiplier=0.5)
    return _create_mobilenext('mobilenext_050', pretrained, **dict(model_args, **kwargs))


@register_model
def mobilenext_075(pretrained: bool = False, **kwargs: Any) -> MobileNeXt:
    model_args = dict(width_multiplier=0.75)
    return _create_mobilenext('mobilenext_075', pretrained, **dict(model_args, **kwargs))


@register_model
def mobilenext_100(pretrained: bool = False, **kwargs: Any) -> MobileNeXt:
    return _create_mobilenext('mobilenext_100', pretrained, **kwargs)


@register_model
def mobilenext_140(pretrained: bool = False, **kwargs: Any) -> MobileNeXt:
    model_args = dict(width_multiplier=1.4)
    return _create_mobilenext('mobilenext_140', pretrained, **dict(model_args, **kwargs))


@register_model
def mobilenext_100_id050(pretrained: bool = False, **kwargs: Any) -> MobileNeXt:
    model_args = dict(identity_multiplier=1 / 2)
    return _create_mobilenext('mobilenext_100_id050', pretrained, **dict(model_args, **kwargs))


@register_model
def mobilenext_100_id033(pretrained: bool = False, **kwargs: Any) -> MobileNeXt:
    model_args = dict(identity_multiplier=1 / 3)
    return _create_mobilenext('mobilenext_100_id033', pretrained, **dict(model_args, **kwargs))


@register_model
def mobilenext_100_id017(pretrained: bool = False, **kwargs: Any) -> MobileNeXt:
    model_args = dict(identity_multiplier=1 / 6)
    return _create_mobilenext('mobilenext_100_id017', pretrained, **dict(model_args, **kwargs))


@register_model
def mobilenext_s(pretrained: bool = False, **kwargs: Any) -> MobileNeXt:
    return _create_mobilenext_efficient('mobilenext_s', pretrained, **kwargs)


@register_model
def mobilenext_l(pretrained: bool = False, **kwargs: Any) -> MobileNeXt:
    model_args = dict(depths=(2, 2, 4, 4, 5, 5, 4, 2), pw_groups=2)
    return _create_mobilenext_efficient('mobilenext_l', pretrained, **dict(model_args, **kwargs))


@register_model
def mobilenext_l_ghost(pretrained: bool = False, **kwargs: Any) -> MobileNeXt:
    model_args = dict(depths=(2, 2, 4, 4, 5, 5, 4, 2), ghost=True, se_ratio=0.125)
    return _create_mobilenext_efficient('mobilenext_l_ghost', pretrained, **dict(model_args, **kwargs))
