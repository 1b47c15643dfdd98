""" MobileNeXt

The networks of sandglass blocks that the paper sets against MobileNetV2, at five widths and with four identity tensor
multipliers, and the authors' three in the manner of EfficientNet.

Paper: `Rethinking Bottleneck Structure for Efficient Mobile Network Design` - https://arxiv.org/abs/2007.02269

Architectures and weight initialization after the authors' `mobilenext/codebase/models/mnext.py` and
`efficient_mnext/model.py` beside it in https://github.com/zhoudaquan/rethinking_bottleneck_design
"""
import math
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import torch
import torch.nn as nn
import torch.nn.functional as F

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import create_classifier, create_conv2d, get_norm_act_layer, LayerType
from timm.models import (
    build_model_with_cfg,
    checkpoint,
    checkpoint_seq,
    create_model,
    FeatureHooks,
    FeatureInfo,
    generate_default_cfgs,
)

from ..checkpoints.convert import (
    check_state_dict,
    checkpoint_filter_fn,
    convert_pre_hook,
    convert_state_dict,
    weights_overlay,
)
from ..checkpoints.official import authors_url
from .builder import (
    decode_arch_def,
    efficientnet_init_weights,
    feature_take_indices,
    is_multiplier,
    pretrained_cfg_for_features,
    register_model,
    resolve_aa_layer,
    resolve_act_layer,
    resolve_bn_args,
    resolve_norm_layer,
    resolve_reduce_chs_fn,
    resolve_se_layer,
    round_channels,
    SandglassNetBuilder,
    SqueezeExcite,
)
from .sandglass import check_identity_multiplier, DW_POSITIONS, fold_bn, NarrowStages

__all__ = ['MobileNeXt', 'MobileNeXtFeatures', 'create_mobilenext']

BlockArgs = List[List[Dict[str, Any]]]


def _init_weight_authors(m: nn.Module, n: str = '') -> None:
    """ Weight initialization of the authors

    Convolutions by their whole fan-out, groups not counted, which makes a depthwise convolution's weights small; the
    linear layer normal with a deviation of 0.01.
    """
    if isinstance(m, nn.Conv2d):
        fan_out = m.kernel_size[0] * m.kernel_size[1] * m.out_channels
        nn.init.normal_(m.weight, 0, math.sqrt(2.0 / fan_out))
        if m.bias is not None:
            nn.init.zeros_(m.bias)
    elif isinstance(m, nn.BatchNorm2d):
        nn.init.ones_(m.weight)
        nn.init.zeros_(m.bias)
    elif isinstance(m, nn.Linear):
        nn.init.normal_(m.weight, 0, 0.01)
        nn.init.zeros_(m.bias)


def _init_weight_torch(m: nn.Module, n: str = '') -> None:
    """ Weight initialization of PyTorch, which the layers have been made with."""


# None is timm's own scheme
_INIT_FNS: Dict[str, Optional[Callable]] = dict(authors=_init_weight_authors, timm=None, torch=_init_weight_torch)


class MobileNeXtTrunk(nn.Module):
    """ Stem and stages of blocks, shared by the classifier and the feature extractor"""

    def __init__(
            self,
            block_args: BlockArgs,
            in_chans: int = 3,
            stem_size: int = 32,
            fix_stem: bool = False,
            output_stride: int = 32,
            pad_type: str = '',
            act_layer: Optional[LayerType] = None,
            norm_layer: Optional[LayerType] = None,
            aa_layer: Optional[LayerType] = None,
            se_layer: Optional[LayerType] = None,
            round_chs_fn: Callable = round_channels,
            reduce_chs_fn: Union[str, Callable] = 'authors',
            drop_rate: float = 0.,
            drop_path_rate: float = 0.,
            feature_location: str = 'bottleneck',
            narrow_skip: bool = False,
            weight_init: str = 'authors',
            device=None,
            dtype=None,
    ):
        """
        Args:
            block_args: Arguments for building blocks.
            in_chans: Number of input channels.
            stem_size: Number of output channels in stem.
            fix_stem: If True, don't scale stem channels.
            output_stride: Output stride of network, 32 as designed; less turns strides into dilation.
            pad_type: Padding type.
            act_layer: Activation layer, ReLU6 if None.
            norm_layer: Normalization layer, BatchNorm2d if None.
            aa_layer: Anti-aliasing layer.
            se_layer: Squeeze-and-excitation layer.
            round_chs_fn: Channel rounding function.
            reduce_chs_fn: Width of a bottleneck, of the widths in and out and the reduction: the rule of the 'authors'
                for MobileNetV2-style networks, which keeps a sixth of the output at least, the 'even' one of
                EfficientNet-style ones, which does not, or a function.
            drop_rate: Dropout rate for classifier.
            drop_path_rate: Drop path rate for stochastic depth.
            feature_location: 'bottleneck' for the output of the last block of each resolution, 'expansion' for the
                wide tensor that enters that block's second depthwise convolution, 'downsample' for the one that enters
                the strided depthwise convolution of the block after (of the last block, as 'expansion').
            narrow_skip: Shortcuts between the narrow tensors of successive blocks where these have the same shape, in
                place of those between wide ones.
            weight_init: Weight initialization, the 'authors' scheme for MobileNetV2-style networks, that of 'timm' for
                EfficientNet-style ones, or the layers' own of 'torch', the authors' for EfficientNet-style ones.

        Raises:
            ValueError: If an argument is impossible.
        """
        super().__init__()
        dd = {'device': device, 'dtype': dtype}
        if not isinstance(in_chans, int) or in_chans < 1:
            raise ValueError(f'in_chans {in_chans!r} is no whole number from 1: give the channels of the input image.')
        if output_stride not in (2, 4, 8, 16, 32):
            raise ValueError(f'output_stride {output_stride!r} is none of 2, 4, 8, 16, 32.')
        if weight_init not in _INIT_FNS:
            raise ValueError(f'weight_init {weight_init!r} is none of {", ".join(_INIT_FNS)}.')
        act_layer = resolve_act_layer(act_layer or nn.ReLU6)
        norm_layer = norm_layer or nn.BatchNorm2d
        norm_act_layer = get_norm_act_layer(norm_layer, act_layer)
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.weight_init = weight_init
        self.grad_checkpointing = False

        # Stem
        if not fix_stem:
            stem_size = round_chs_fn(stem_size)
        self.conv_stem = create_conv2d(in_chans, stem_size, 3, stride=2, padding=pad_type, **dd)
        self.bn1 = norm_act_layer(stem_size, inplace=True, **dd)

        # Stages of blocks
        builder = SandglassNetBuilder(
            output_stride=output_stride,
            pad_type=pad_type,
            round_chs_fn=round_chs_fn,
            reduce_chs_fn=resolve_reduce_chs_fn(reduce_chs_fn),
            act_layer=act_layer,
            norm_layer=norm_layer,
            aa_layer=resolve_aa_layer(aa_layer),
            se_layer=resolve_se_layer(se_layer or SqueezeExcite),
            drop_path_rate=drop_path_rate,
            feature_location=feature_location,
            narrow_skip=narrow_skip,
            **dd,
        )
        self.narrow_skip = narrow_skip
        self.blocks: Any = (NarrowStages if narrow_skip else nn.Sequential)(*builder(stem_size, block_args))
        self.feature_info: Any = builder.features
        self.num_features: Any = builder.in_chs

        # timm's reparameterize_model visits children and never the network itself: this child calls on it for the stem
        self.stem_fold = nn.Identity()
        self.stem_fold.reparameterize = self._fold_stem  # type: ignore[assignment]
        self.register_load_state_dict_pre_hook(convert_pre_hook)

    def _fold_stem(self) -> None:
        conv_stem = deepcopy(self.conv_stem)  # this network's alone, whoever else may have taken the convolution
        self.bn1 = fold_bn(conv_stem, self.bn1)
        self.conv_stem = conv_stem

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """ Load a state dict of ours or of the authors' network, and say in one line what does not fit.

        Raises:
            RuntimeError: If a shape differs or, when strict, a key is missing or too many.
        """
        check_state_dict(convert_state_dict(dict(state_dict), self), self, strict)
        return super().load_state_dict(state_dict, strict=strict, assign=assign)

    def init_weights(self) -> None:
        """ Draw all weights anew and reset all statistics, after `to_empty()` too."""
        for m in self.modules():
            if m is not self and hasattr(m, 'reset_parameters'):
                m.reset_parameters()  # type: ignore[operator]
        efficientnet_init_weights(self, _INIT_FNS[self.weight_init])

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """ Enable or disable gradient checkpointing."""
        self.grad_checkpointing = enable


class MobileNeXt(MobileNeXtTrunk):
    """ MobileNeXt model architecture.

    Reference: https://arxiv.org/abs/2007.02269
    """

    def __init__(
            self,
            block_args: BlockArgs,
            num_classes: int = 1000,
            global_pool: str = 'avg',
            device=None,
            dtype=None,
            **trunk_args: Any,
    ):
        """
        Args:
            block_args: Arguments for building blocks.
            num_classes: Number of classifier classes, 0 for none.
            global_pool: Global pooling type.
            **trunk_args: Arguments of `MobileNeXtTrunk`.

        Raises:
            ValueError: If an argument is impossible.
        """
        # features of the classifier are block outputs, so feature_location is no argument of it
        super().__init__(block_args, feature_location='bottleneck', device=device, dtype=dtype, **trunk_args)
        self.stage_ends = [f['stage'] for f in self.feature_info]
        self._create_head(num_classes, global_pool, device=device, dtype=dtype)

        self.init_weights()

    def _create_head(self, num_classes: int, global_pool: str, **dd: Any) -> None:
        """ Pooling + Head, there is no head convolution."""
        if not isinstance(num_classes, int) or num_classes < 0:
            raise ValueError(f'num_classes {num_classes!r} is no whole number from 0: give 0 for no classifier.')
        try:
            self.global_pool, self.classifier = create_classifier(
                self.num_features, num_classes, pool_type=global_pool, **dd)
        except AssertionError:
            raise ValueError(
                f'global_pool {global_pool!r} is none of avg, max, avgmax, catavgmax, or "" for no pooling.') from None
        self.num_classes = num_classes
        self.head_hidden_size = self.num_features * self.global_pool.feat_mult()

    def as_sequential(self) -> nn.Sequential:
        """ Convert model to sequential for feature extraction."""
        layers = [self.conv_stem, self.bn1]
        layers.extend([self.blocks] if self.narrow_skip else self.blocks)
        layers.extend([self.global_pool, nn.Dropout(self.drop_rate), self.classifier])
        return nn.Sequential(*layers)

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> Dict[str, Any]:
        """ Create regex patterns for parameter groups."""
        return dict(
            stem=r'^conv_stem|bn1',
            blocks=[(r'^blocks\.(\d+)' if coarse else r'^blocks\.(\d+)\.(\d+)', None)],
        )

    @torch.jit.ignore
    def get_classifier(self) -> nn.Module:
        """ Get the classifier module."""
        return self.classifier

    def reset_classifier(self, num_classes: int, global_pool: Optional[str] = None) -> None:
        """ Reset the classifier head, initialized as in a new model.

        Args:
            num_classes: Number of classes for new classifier, 0 for none.
            global_pool: Global pooling type, current pooling is kept if None.
        """
        if global_pool is None:
            global_pool = self.global_pool.pool_type
        weight = self.conv_stem.weight
        self._create_head(num_classes, global_pool, device=weight.device, dtype=weight.dtype)
        efficientnet_init_weights(self.classifier, _INIT_FNS[self.weight_init])
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
            extra_blocks: bool = False,
    ) -> Union[List[torch.Tensor], Tuple[torch.Tensor, List[torch.Tensor]]]:
        """ Forward features that returns intermediates.

        Args:
            x: Input image tensor (B, C, H, W).
            indices: Take last n blocks if int, all if None, select matching indices if sequence.
            norm: Apply norm layer to compatible intermediates, none is.
            stop_early: Stop iterating over blocks when last desired intermediate hit.
            output_fmt: Shape of intermediate feature outputs, 'NCHW'.
            intermediates_only: Only return intermediate features.
            extra_blocks: Include outputs of all stages, does not align with feature_info.

        Returns:
            List of intermediate features or tuple of (final features, intermediates).
        """
        assert output_fmt in ('NCHW',), 'Output shape must be NCHW.'
        intermediates = []
        if extra_blocks:
            take_indices, max_index = feature_take_indices(len(self.blocks) + 1, indices)
        else:
            take_indices, max_index = feature_take_indices(len(self.stage_ends), indices)
            take_indices = [self.stage_ends[i] for i in take_indices]
            max_index = self.stage_ends[max_index]
        # forward pass
        x = self.conv_stem(x)
        x = self.bn1(x)
        if 0 in take_indices:  # stem is index 0
            intermediates.append(x)

        blocks = self.blocks[:max_index] if stop_early else self.blocks
        outputs = self._forward_stages(blocks, x)
        intermediates.extend(output for feat_idx, output in enumerate(outputs, start=1) if feat_idx in take_indices)
        x = outputs[-1] if outputs else x

        return intermediates if intermediates_only else (x, intermediates)

    def prune_intermediate_layers(
            self,
            indices: Union[int, List[int]] = 1,
            prune_norm: bool = False,
            prune_head: bool = True,
            extra_blocks: bool = False,
    ) -> List[int]:
        """ Prune layers not required for specified intermediates.

        Args:
            indices: Indices of intermediate layers to keep.
            prune_norm: Whether to prune normalization layers, there is none after the blocks.
            prune_head: Whether to prune the classifier head.
            extra_blocks: Include all stages in indexing.

        Returns:
            List of indices that were kept.
        """
        if extra_blocks:
            take_indices, max_index = feature_take_indices(len(self.blocks) + 1, indices)
        else:
            take_indices, max_index = feature_take_indices(len(self.stage_ends), indices)
            max_index = self.stage_ends[max_index]
        prune_end = max_index < len(self.blocks)
        self.blocks = self.blocks[:max_index]  # truncate blocks w/ stem as idx 0
        if prune_end:
            # features now end at the last kept tap, the head is sized for the final features so it goes too
            last: Any = self.blocks[-1] if max_index else None
            self.num_features = last[-1].feature_info('bottleneck')['num_chs'] if last else self.conv_stem.out_channels
        if prune_head or prune_end:
            self.reset_classifier(0, '')
        return take_indices

    def _forward_stages(self, stages: Any, x: torch.Tensor) -> List[torch.Tensor]:
        """ Output of each stage."""
        if self.narrow_skip:
            return stages.forward_stages(x, self.grad_checkpointing)
        outputs = []
        for stage in stages:
            x = checkpoint_seq(stage, x) if self.grad_checkpointing else stage(x)
            outputs.append(x)
        return outputs

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """ Forward pass through feature extraction layers, (B, C, H, W) to (B, num_features, H / 32, W / 32)."""
        x = self.conv_stem(x)
        x = self.bn1(x)
        if self.grad_checkpointing and not torch.jit.is_scripting():
            x = self._forward_stages(self.blocks, x)[-1]
        else:
            x = self.blocks(x)
        return x

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """ Forward pass through classifier head, to logits (B, num_classes) or pooled features."""
        x = self.global_pool(x)
        if self.drop_rate > 0.:
            x = F.dropout(x, p=self.drop_rate, training=self.training)
        return x if pre_logits else self.classifier(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.forward_features(x)
        x = self.forward_head(x)
        return x


class MobileNeXtFeatures(MobileNeXtTrunk):
    """ MobileNeXt feature extractor, the counterpart of timm's `EfficientNetFeatures`

    State dict keys are those of the classifier.
    """

    def __init__(
            self,
            block_args: BlockArgs,
            out_indices: Optional[Tuple[int, ...]] = None,
            feature_location: str = 'bottleneck',
            **trunk_args: Any,
    ):
        """
        Args:
            block_args: Arguments for building blocks.
            out_indices: Indices of the features to return, all if None.
            feature_location: Where features are taken, 'bottleneck', 'expansion' or 'downsample'.
            **trunk_args: Arguments of `MobileNeXtTrunk`.

        Raises:
            ValueError: If an argument is impossible.
        """
        super().__init__(block_args, feature_location=feature_location, **trunk_args)
        if out_indices is None:
            out_indices = tuple(range(len(self.feature_info)))
        self.feature_info = FeatureInfo(self.feature_info, out_indices)
        self._stage_out_idx = {f['stage']: f['index'] for f in self.feature_info.get_dicts()}

        self.init_weights()

        # Register feature extraction hooks with FeatureHooks helper
        self.feature_hooks = None
        if feature_location in ('expansion', 'downsample'):
            self.feature_hooks = FeatureHooks(self.feature_info.get_dicts(), self.named_modules())

    def forward(self, x: torch.Tensor) -> List[torch.Tensor]:
        x = self.conv_stem(x)
        x = self.bn1(x)
        if self.feature_hooks is None:
            features = []
            if 0 in self._stage_out_idx:
                features.append(x)  # add stem out
            for i, b in enumerate(self.blocks):
                if self.grad_checkpointing and not torch.jit.is_scripting():
                    x = checkpoint(b, x)
                else:
                    x = b(x)
                if i + 1 in self._stage_out_idx:
                    features.append(x)
            return features
        else:
            self.blocks(x)
            out = self.feature_hooks.get_output(x.device)
            return list(out.values())


def _check_narrow_features(feature_cls: str = 'getter', feature_location: str = 'bottleneck', **_: Any) -> None:
    """ Raise a ValueError if features are asked for that blocks which hand on two tensors can not give."""
    for key, value, only in (
            ('feature_cls', feature_cls, 'getter'), ('feature_location', feature_location, 'bottleneck')):
        if value != only:
            raise ValueError(f'{key} {value!r} does not go with narrow_skip=True: give {only!r}, or leave it out.')


def _create_mobilenext(variant: str, pretrained: bool = False, **kwargs: Any) -> Any:
    model_cls: Any = MobileNeXt
    features_mode = ''
    kwargs_filter: Any = None
    narrow_skip = kwargs.get('narrow_skip', False)
    if kwargs.pop('features_only', False):
        if narrow_skip:
            features_mode = 'cfg'
            _check_narrow_features(**{**kwargs, **kwargs.get('feature_cfg', {})})
            kwargs['feature_cfg'] = dict(kwargs.get('feature_cfg', {}), feature_cls='getter')
        elif 'feature_cfg' in kwargs or 'feature_cls' in kwargs:
            features_mode = 'cfg'
            kwargs['feature_cfg'] = dict(flatten_sequential=True, **kwargs.get('feature_cfg', {}))
        else:
            features_mode = 'cls'
            kwargs_filter = ('num_classes', 'global_pool')
            model_cls = MobileNeXtFeatures
    pretrained_strict = kwargs.pop('pretrained_strict', True)
    if pretrained:
        told = ('pretrained_cfg', 'cache_dir', 'num_classes', 'in_chans')
        kwargs['pretrained_cfg_overlay'] = weights_overlay(
            variant, overlay=kwargs.get('pretrained_cfg_overlay'), **{key: kwargs.get(key) for key in told})

    model = build_model_with_cfg(
        model_cls,
        variant,
        pretrained,
        features_only=features_mode == 'cfg',
        pretrained_strict=pretrained_strict and features_mode != 'cls',
        pretrained_filter_fn=checkpoint_filter_fn,
        kwargs_filter=kwargs_filter,
        **kwargs,
    )
    if features_mode == 'cls':
        model.pretrained_cfg = model.default_cfg = pretrained_cfg_for_features(model.pretrained_cfg)
    for m in (model, getattr(model, 'model', model)):  # weights are loaded, and a cfg is no place for them
        m.pretrained_cfg.pop('state_dict', None)
    return model


def _gen_mobilenext(
        variant: str,
        channel_multiplier: float = 1.0,
        depth_multiplier: Union[float, Sequence[float]] = 1.0,
        arch_def: Optional[List[List[str]]] = None,
        group_size: Optional[int] = None,
        identity_multiplier: float = 1.0,
        dw_position: str = 'both',
        linear_bottleneck: bool = True,
        linear_output: bool = False,
        noskip: bool = False,
        narrow_skip: bool = False,
        pw_groups: int = 1,
        pretrained: bool = False,
        **kwargs: Any,
) -> Any:
    """ Creates a MobileNeXt model, or its feature extractor.

    Ref impl: https://github.com/zhoudaquan/rethinking_bottleneck_design/blob/main/mobilenext/codebase/models/mnext.py
    Paper: https://arxiv.org/abs/2007.02269

    Args:
        channel_multiplier: Multiplier to number of channels per layer.
        depth_multiplier: Multiplier to number of repeats per stage, or one for each stage.
        arch_def: Architecture definition in place of the paper's.
        group_size: Group size of depthwise convolutions.
        identity_multiplier: Part of the channels that gets the shortcut.
        dw_position: Where the depthwise convolutions sit.
        linear_bottleneck: No activation after the narrowing 1x1.
        linear_output: No activation after the widening 1x1 where `dw_position` 'before' or 'bottleneck' ends a block.
        noskip: No shortcuts.
        narrow_skip: Shortcuts between the narrow tensors of successive blocks, in place of those between wide ones.
        pw_groups: Groups of the 1x1 convolutions in blocks with both depthwise convolutions.
    """
    if arch_def is None:
        arch_def = [
            # stage 0, 112x112 in
            ['sg_r1_k3_s2_e2_c96'],
            # stage 1, 56x56 in
            ['sg_r1_k3_s1_e6_c144_keepdw'],
            # stage 2, 56x56 in
            ['sg_r3_k3_s2_e6_c192'],
            # stage 3, 28x28 in
            ['sg_r3_k3_s2_e6_c288'],
            # stage 4, 14x14 in
            ['sg_r4_k3_s1_e6_c384'],
            # stage 5, 14x14 in
            ['sg_r4_k3_s2_e6_c576'],
            # stage 6, 7x7 in
            ['sg_r3_k3_s1_e6_c960'],
            # stage 7, 7x7 in
            ['sg_r1_k3_s1_e6_c1280_keepdw_keepc'],
        ]
    if not is_multiplier(channel_multiplier):
        raise ValueError(
            f'channel_multiplier {channel_multiplier!r} leaves no channels: give a finite number above 0, 1.0 for the'
            ' width as written.')
    if dw_position not in DW_POSITIONS:
        raise ValueError(f'dw_position {dw_position!r} is none of {", ".join(DW_POSITIONS)}.')
    if narrow_skip:
        if noskip:
            raise ValueError('noskip=True and narrow_skip=True contradict each other: leave one out.')
        kwargs['narrow_skip'] = True
    model_kwargs = dict(
        block_args=decode_arch_def(
            arch_def,
            depth_multiplier,
            group_size=group_size,
            identity_multiplier=check_identity_multiplier(identity_multiplier),
            dw_position=dw_position,
            linear_bottleneck=linear_bottleneck,
            linear_output=linear_output,
            noskip=noskip,
            pw_groups=pw_groups,
        ),
        round_chs_fn=partial(round_channels, multiplier=channel_multiplier),
        norm_layer=resolve_norm_layer(kwargs.pop('norm_layer', None) or nn.BatchNorm2d, resolve_bn_args(kwargs)),
        **kwargs,
    )
    return _create_mobilenext(variant, pretrained, **model_kwargs)


def _gen_mobilenext_efficient(variant: str, block_type: str = 'sg', se_ratio: float = 0.25, **kwargs: Any) -> Any:
    """ Creates a MobileNeXt model in the manner of EfficientNet, or its feature extractor.

    Ref impl: https://github.com/zhoudaquan/rethinking_bottleneck_design/blob/main/mobilenext/codebase/models/efficient_mnext/model.py

    Args:
        block_type: Type of the blocks, 'sg' or 'gsg'.
        se_ratio: Squeeze-and-excitation ratio of the blocks.
    """
    # stride, kernel size, reduction, channels and repeats of each stage; no shortcut at a reduction of 2
    arch_def = [
        [f'{block_type}_r{r}_k{k}_s{s}_e{e}_c{c}_se{se_ratio}{"_noskip" if e == 2 else ""}']
        for e, k, c, r, s in (
            (2, 3, 96, 1, 1),  # stage 0, 112x112 in
            (6, 3, 144, 1, 2),  # stage 1, 112x112 in
            (6, 5, 192, 3, 2),  # stage 2, 56x56 in
            (6, 3, 288, 3, 2),  # stage 3, 28x28 in
            (6, 5, 384, 4, 1),  # stage 4, 14x14 in
            (6, 5, 576, 4, 2),  # stage 5, 14x14 in
            (6, 3, 960, 3, 1),  # stage 6, 7x7 in
            (6, 3, 1280, 1, 1),  # stage 7, 7x7 in
        )
    ]
    model_args = dict(
        arch_def=arch_def,
        reduce_chs_fn='even',
        act_layer='silu',
        pad_type='same',
        bn_eps=1e-3,
        bn_momentum=0.01,
        drop_rate=0.2,
        drop_path_rate=0.2,
        weight_init='torch',
    )
    return _gen_mobilenext(variant, **dict(model_args, **kwargs))


def create_mobilenext(arch_def: List[List[str]], **kwargs: Any) -> nn.Module:
    """ Create a network from an architecture definition of one's own, of `sg` and timm's block strings.

    Same as `timm.create_model('mobilenext_100', arch_def=arch_def, **kwargs)`.

    Args:
        arch_def: List of stages, each a list of block strings; the stem before them has stride 2.
        **kwargs: As for `timm.create_model`.

    Raises:
        ValueError: If the definition can't be built.
    """
    return create_model('mobilenext_100', arch_def=arch_def, **kwargs)


def _cfg(url: str = '', **kwargs: Any) -> Dict[str, Any]:
    return {
        'url': url, 'num_classes': 1000, 'input_size': (3, 224, 224), 'pool_size': (7, 7),
        'crop_pct': 0.875, 'interpolation': 'bicubic',
        'mean': IMAGENET_DEFAULT_MEAN, 'std': IMAGENET_DEFAULT_STD,
        'first_conv': 'conv_stem', 'classifier': 'classifier',
        'paper_ids': 'arXiv:2007.02269',
        'paper_name': 'Rethinking Bottleneck Structure for Efficient Mobile Network Design',
        'origin_url': 'https://github.com/zhoudaquan/rethinking_bottleneck_design', 'license': 'apache-2.0',
        **kwargs
    }


def _official_cfg(directory: str, top1: float, top5: float, **kwargs: Any) -> Dict[str, Any]:
    """ Weights of the authors, with the accuracy in the summary.csv beside them."""
    return _cfg(
        url=authors_url(directory),
        license='bsd-3-clause-clear',
        notes=(f"ImageNet-1k top-1 {top1}, top-5 {top5} in the authors' log",),
        **kwargs,
    )


def _cifar10_cfg(file: str, top1: float, top5: float, **kwargs: Any) -> Dict[str, Any]:
    """ Weights of ours that come with the package, with the accuracy that timm's validate.py measured."""
    return _cfg(
        file=str(Path(__file__).parents[1] / 'weights' / file),
        # an image of CIFAR-10 is all of its object, so none of a photograph is cut off
        num_classes=10, input_size=(3, 64, 64), pool_size=(2, 2), crop_pct=1.0, crop_mode='squash',
        label_names=('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck'),
        notes=(f"CIFAR-10 top-1 {top1}, top-5 {top5} by timm's validate.py",),
        **kwargs,
    )


def _untrained_cfg(top1: float, **kwargs: Any) -> Dict[str, Any]:
    """ No weights, with the accuracy that the authors report, in the paper or in their repository's README."""
    return _cfg(notes=(f'ImageNet-1k top-1 {top1} as the authors report',), **kwargs)


default_cfgs = generate_default_cfgs({
    'mobilenext_035.untrained': _untrained_cfg(top1=64.7),
    # in this order: timm takes the first tag with weights for the default even where another before it is marked
    'mobilenext_050.cifar10': _cifar10_cfg('mobilenext_050.cifar10.safetensors', top1=81.12, top5=98.75),
    'mobilenext_050.untrained*': _untrained_cfg(top1=67.7),
    'mobilenext_075.untrained': _untrained_cfg(top1=72.0),
    'mobilenext_100.official_in1k': _official_cfg('74_02_full_id_tensor', top1=74.022, top5=91.646),
    'mobilenext_140.untrained': _untrained_cfg(top1=76.1),
    'mobilenext_100_id050.official_in1k': _official_cfg('74_09_i2rnetv3_half_id', top1=74.092, top5=91.812),
    'mobilenext_100_id033.untrained': _untrained_cfg(top1=73.91),
    'mobilenext_100_id017.untrained': _untrained_cfg(top1=73.68),
    'mobilenext_s.official_in1k': _official_cfg('76_05_3_94_model', top1=76.056, top5=92.744),
    'mobilenext_l.official_in1k': _official_cfg('4_29M_76_6', top1=76.586, top5=92.934),
    'mobilenext_l_ghost.official_in1k': _official_cfg('5_68M_76_8', top1=76.788, top5=93.178),
})


@register_model
def mobilenext_035(pretrained: bool = False, **kwargs: Any) -> MobileNeXt:
    """ MobileNeXt w/ width 0.35"""
    model_args = dict(channel_multiplier=0.35)
    return _gen_mobilenext('mobilenext_035', pretrained=pretrained, **dict(model_args, **kwargs))


@register_model
def mobilenext_050(pretrained: bool = False, **kwargs: Any) -> MobileNeXt:
    """ MobileNeXt w/ width 0.5"""
    model_args = dict(channel_multiplier=0.5)
    return _gen_mobilenext('mobilenext_050', pretrained=pretrained, **dict(model_args, **kwargs))


@register_model
def mobilenext_075(pretrained: bool = False, **kwargs: Any) -> MobileNeXt:
    """ MobileNeXt w/ width 0.75"""
    model_args = dict(channel_multiplier=0.75)
    return _gen_mobilenext('mobilenext_075', pretrained=pretrained, **dict(model_args, **kwargs))


@register_model
def mobilenext_100(pretrained: bool = False, **kwargs: Any) -> MobileNeXt:
    """ MobileNeXt w/ width 1.0"""
    model_args = dict(channel_multiplier=1.0)
    return _gen_mobilenext('mobilenext_100', pretrained=pretrained, **dict(model_args, **kwargs))


@register_model
def mobilenext_140(pretrained: bool = False, **kwargs: Any) -> MobileNeXt:
    """ MobileNeXt w/ width 1.4"""
    model_args = dict(channel_multiplier=1.4)
    return _gen_mobilenext('mobilenext_140', pretrained=pretrained, **dict(model_args, **kwargs))


@register_model
def mobilenext_100_id050(pretrained: bool = False, **kwargs: Any) -> MobileNeXt:
    """ MobileNeXt w/ shortcuts on 1/2 of the channels"""
    model_args = dict(identity_multiplier=1 / 2)
    return _gen_mobilenext('mobilenext_100_id050', pretrained=pretrained, **dict(model_args, **kwargs))


@register_model
def mobilenext_100_id033(pretrained: bool = False, **kwargs: Any) -> MobileNeXt:
    """ MobileNeXt w/ shortcuts on 1/3 of the channels"""
    model_args = dict(identity_multiplier=1 / 3)
    return _gen_mobilenext('mobilenext_100_id033', pretrained=pretrained, **dict(model_args, **kwargs))


@register_model
def mobilenext_100_id017(pretrained: bool = False, **kwargs: Any) -> MobileNeXt:
    """ MobileNeXt w/ shortcuts on 1/6 of the channels"""
    model_args = dict(identity_multiplier=1 / 6)
    return _gen_mobilenext('mobilenext_100_id017', pretrained=pretrained, **dict(model_args, **kwargs))


@register_model
def mobilenext_s(pretrained: bool = False, **kwargs: Any) -> MobileNeXt:
    """ MobileNeXt in the manner of EfficientNet-B0"""
    return _gen_mobilenext_efficient('mobilenext_s', pretrained=pretrained, **kwargs)


@register_model
def mobilenext_l(pretrained: bool = False, **kwargs: Any) -> MobileNeXt:
    """ MobileNeXt in the manner of EfficientNet-B1, 1x1 convolutions in 2 groups"""
    model_args = dict(depth_multiplier=1.1, pw_groups=2)
    return _gen_mobilenext_efficient('mobilenext_l', pretrained=pretrained, **dict(model_args, **kwargs))


@register_model
def mobilenext_l_ghost(pretrained: bool = False, **kwargs: Any) -> MobileNeXt:
    """ MobileNeXt in the manner of EfficientNet-B1, w/ ghost split"""
    model_args = dict(depth_multiplier=1.1, block_type='gsg', se_ratio=0.125)
    return _gen_mobilenext_efficient('mobilenext_l_ghost', pretrained=pretrained, **dict(model_args, **kwargs))
