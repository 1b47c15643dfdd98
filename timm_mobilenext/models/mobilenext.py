""" MobileNeXt

Networks of sandglass blocks: the paper's, which it compares with MobileNetV2, at five widths and with four identity
tensor multipliers; those with attention at three widths; and the authors' three in the manner of EfficientNet.

Paper: `Rethinking Bottleneck Structure for Efficient Mobile Network Design` - https://arxiv.org/abs/2007.02269
Attention: `Coordinate Attention for Efficient Mobile Network Design` - https://arxiv.org/abs/2103.02907

Architectures and weight initialization after the authors' `mobilenext/codebase/models/mnext.py` and
`efficient_mnext/model.py` beside it in https://github.com/zhoudaquan/rethinking_bottleneck_design
"""
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Union

import torch.nn as nn

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, create_model, generate_default_cfgs

from ..checkpoints.convert import checkpoint_filter_fn
from ..checkpoints.official import authors_url, weights_overlay
from ._timm import name_in_timm, pretrained_cfg_for_features, register_model, resolve_bn_args, round_channels
from .ablations import narrow_kwargs
from .attention import add_attention, coord_attn, own_se_ratio, se_args
from .block_strings import decode_arch_def, is_multiplier
from .layers import resolve_norm_layer
from .network import MobileNeXt, MobileNeXtFeatures
from .sandglass import check_identity_multiplier, DW_POSITIONS

__all__ = ['MobileNeXt', 'MobileNeXtFeatures', 'create_mobilenext']


def _create_mobilenext(variant: str, pretrained: bool = False, model_cls: Any = MobileNeXt, **kwargs: Any) -> Any:
    variant = name_in_timm(variant)
    features_mode = ''
    kwargs_filter: Any = None
    if kwargs.pop('features_only', False):
        if 'feature_cfg' in kwargs or 'feature_cls' in kwargs:
            features_mode = 'cfg'
            given = kwargs.get('feature_cfg', {})
            num_levels = 1 + sum(stage_args[0]['stride'] > 1 for stage_args in kwargs['block_args'])
            feature_args = dict(out_indices=tuple(range(num_levels)), flatten_sequential=not given.get('no_rewrite'))
            kwargs['feature_cfg'] = dict(feature_args, **given)
        else:
            features_mode = 'cls'
            kwargs_filter = ('num_classes', 'global_pool')
            model_cls = MobileNeXtFeatures
    pretrained_strict = kwargs.pop('pretrained_strict', True)
    if pretrained:
        wishes = {key: kwargs.get(key) for key in ('pretrained_cfg', 'cache_dir', 'num_classes', 'in_chans')}
        kwargs['pretrained_cfg_overlay'] = weights_overlay(
            variant, overlay=kwargs.get('pretrained_cfg_overlay'), **wishes)

    model = build_model_with_cfg(
        model_cls,
        variant,
        pretrained,
        features_only=features_mode == 'cfg',
        pretrained_strict=pretrained_strict and features_mode != 'cls',
        pretrained_filter_fn=partial(checkpoint_filter_fn, strict=pretrained_strict),
        kwargs_filter=kwargs_filter,
        **kwargs,
    )
    if features_mode == 'cls':
        model.pretrained_cfg = model.default_cfg = pretrained_cfg_for_features(model.pretrained_cfg)
    for m in (model, getattr(model, 'model', model)):  # the weights are loaded, and a cfg does not keep them
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
        se_layer: Any = None,
        se_ratio: Optional[float] = None,
        se_position: Optional[str] = None,
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
        se_layer: Attention layer, by timm's name or a class. Squeeze-and-excitation if None. It replaces that of the
            blocks with attention. If there are none, all sandglass blocks get it.
        se_ratio: Ratio of the attention to the bottleneck, in blocks whose string has none.
        se_position: Whether the attention sits behind the 'first' or the 'last' depthwise convolution.
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
        raise ValueError(f'dw_position {dw_position!r} is not one of {", ".join(DW_POSITIONS)}.')
    if narrow_skip:
        kwargs = narrow_kwargs(noskip, **kwargs)
    block_args = decode_arch_def(
        arch_def,
        depth_multiplier,
        group_size=group_size,
        identity_multiplier=check_identity_multiplier(identity_multiplier),
        dw_position=dw_position,
        linear_bottleneck=linear_bottleneck,
        linear_output=linear_output,
        noskip=noskip,
        pw_groups=pw_groups,
        **se_args(se_layer, se_ratio, se_position, dw_position),
    )
    add_attention(block_args, se_layer, se_ratio, se_position)
    model_kwargs = dict(
        block_args=block_args,
        se_layer=se_layer,
        round_chs_fn=partial(round_channels, multiplier=channel_multiplier),
        norm_layer=resolve_norm_layer(kwargs.pop('norm_layer', None) or nn.BatchNorm2d, resolve_bn_args(kwargs)),
        **kwargs,
    )
    return _create_mobilenext(variant, pretrained, **model_kwargs)


def _gen_mobilenext_se(variant: str, **kwargs: Any) -> Any:
    """ Creates a MobileNeXt model w/ squeeze-and-excitation behind the first depthwise convolutions.

    A ratio of 0.25 to the bottleneck is a reduction of 24, as the paper of Coordinate Attention has it. At width 1.0
    that makes 3.91M parameters, where the paper says 3.89M.
    """
    if kwargs.get('se_ratio') != 0:
        kwargs = dict(dict(se_ratio=own_se_ratio(0.25, kwargs.get('se_layer')), se_position='first'), **kwargs)
    return _gen_mobilenext(variant, **kwargs)


def _gen_mobilenext_ca(variant: str, **kwargs: Any) -> Any:
    """ Creates a MobileNeXt model w/ Coordinate Attention behind the first depthwise convolutions.

    The layer is timm's with its own ratio. That is a reduction of 24, and timm rounds the width to a multiple of 8. At
    width 1.0 the network has 4.10M parameters, where the paper says 4.09M. The layer of the paper's authors has biases
    and at least 8 channels, which makes 4.11M. timm's is nearer, and timm's users know it.
    """
    if kwargs.get('se_ratio') != 0:
        kwargs = dict(dict(se_position='first'), **kwargs)
        if kwargs.get('se_layer') is None:
            kwargs['se_layer'] = coord_attn()
    return _gen_mobilenext(variant, **kwargs)


def _gen_mobilenext_efficient(
        variant: str,
        own_type: str = 'sg',
        own_ratio: float = 0.25,
        /,
        arch_def: Optional[List[List[str]]] = None,
        block_type: Optional[str] = None,
        se_ratio: Optional[float] = None,
        **kwargs: Any,
) -> Any:
    """ Creates a MobileNeXt model in the manner of EfficientNet, or its feature extractor.

    Ref impl: https://github.com/zhoudaquan/rethinking_bottleneck_design/blob/main/mobilenext/codebase/models/efficient_mnext/model.py

    Args:
        own_type: Type of the blocks that is built in.
        own_ratio: Squeeze-and-excitation ratio that is built in.
        arch_def: Architecture definition in place of the authors', without what is built in.
        block_type: Type of the blocks, 'sg' or 'gsg'.
        se_ratio: Squeeze-and-excitation ratio of the blocks.
    """
    if arch_def is None:
        # stride, kernel size, reduction, channels and repeats of each stage; no shortcut at a reduction of 2
        arch_def = [
            [f'{block_type or own_type}_r{r}_k{k}_s{s}_e{e}_c{c}{"_noskip" if e == 2 else ""}']
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
        if se_ratio is None:
            se_ratio = own_se_ratio(own_ratio, kwargs.get('se_layer'))
    elif block_type is not None:
        raise ValueError(f'block_type {block_type!r} has no effect on an arch_def, which has its own: leave it out.')
    model_args = dict(
        arch_def=arch_def,
        se_ratio=se_ratio,
        reduce_chs_fn='even',
        act_layer='silu',
        pad_type='same',
        drop_rate=0.2,
        drop_path_rate=0.2,
        weight_init='torch',
    )
    if kwargs.get('norm_layer') is None:  # one of the user's has its own
        model_args.update(bn_eps=1e-3, bn_momentum=0.01)
    return _gen_mobilenext(variant, **dict(model_args, **kwargs))


def create_mobilenext(arch_def: Union[str, List[List[str]]], **kwargs: Any) -> nn.Module:
    """ Create a network from an architecture definition of one's own, or one of this package by its name.

    Same as `timm.create_model('mobilenext_100', arch_def=arch_def, **kwargs)` or `timm.create_model(name, **kwargs)`.
    It is the package's own network also where timm has another of that name.

    Args:
        arch_def: List of stages, each a list of `sg` and timm's block strings. The stem before them has stride 2. Or a
            name, which may have a tag.
        **kwargs: As for `timm.create_model`.

    Raises:
        ValueError: If there is no such network, or the definition cannot be built.
    """
    if not isinstance(arch_def, str):
        arch_def, kwargs = 'mobilenext_100', dict(kwargs, arch_def=arch_def)
    name, dot, tag = arch_def.partition('.')
    if name not in default_cfgs:
        raise ValueError(f'{arch_def!r} is not one of {", ".join(default_cfgs)}.')
    return create_model(name_in_timm(name) + dot + tag, **kwargs)


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
        # an image of CIFAR-10 shows its whole object, so a photograph is not cropped either
        num_classes=10, input_size=(3, 64, 64), pool_size=(2, 2), crop_pct=1.0, crop_mode='squash',
        label_names=('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck'),
        notes=(
            f"CIFAR-10 top-1 {top1}, top-5 {top5} by timm's validate.py",
            'The images to train and to measure on were a copy of CIFAR-10 as JPEG of quality 75, with colors at half'
            ' the resolution, and not the lossless original',
        ),
        **kwargs,
    )


def _untrained_cfg(top1: float, **kwargs: Any) -> Dict[str, Any]:
    """ No weights, with the accuracy that the authors report, in the paper or in their repository's README."""
    return _cfg(notes=(f'ImageNet-1k top-1 {top1} as the authors report',), **kwargs)


def _attention_cfg(top1: Optional[float] = None) -> Dict[str, Any]:
    """ No weights, with the accuracy that the paper of Coordinate Attention reports, at width 1.0 alone."""
    note = 'The paper of Coordinate Attention reports no accuracy at this width'
    if top1:
        note = f'ImageNet-1k top-1 {top1} as the paper of Coordinate Attention reports, 74.0 without attention'
    return _cfg(
        paper_ids=('arXiv:2007.02269', 'arXiv:2103.02907'),
        origin_url='https://github.com/houqb/CoordAttention',
        notes=(note,),
    )


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
    'mobilenext_050_se.untrained': _attention_cfg(),
    'mobilenext_075_se.untrained': _attention_cfg(),
    'mobilenext_100_se.untrained': _attention_cfg(top1=74.7),
    'mobilenext_050_ca.untrained': _attention_cfg(),
    'mobilenext_075_ca.untrained': _attention_cfg(),
    'mobilenext_100_ca.untrained': _attention_cfg(top1=75.2),
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
def mobilenext_050_se(pretrained: bool = False, **kwargs: Any) -> MobileNeXt:
    """ MobileNeXt w/ width 0.5, squeeze-and-excitation"""
    model_args = dict(channel_multiplier=0.5)
    return _gen_mobilenext_se('mobilenext_050_se', pretrained=pretrained, **dict(model_args, **kwargs))


@register_model
def mobilenext_075_se(pretrained: bool = False, **kwargs: Any) -> MobileNeXt:
    """ MobileNeXt w/ width 0.75, squeeze-and-excitation"""
    model_args = dict(channel_multiplier=0.75)
    return _gen_mobilenext_se('mobilenext_075_se', pretrained=pretrained, **dict(model_args, **kwargs))


@register_model
def mobilenext_100_se(pretrained: bool = False, **kwargs: Any) -> MobileNeXt:
    """ MobileNeXt w/ width 1.0, squeeze-and-excitation"""
    model_args = dict(channel_multiplier=1.0)
    return _gen_mobilenext_se('mobilenext_100_se', pretrained=pretrained, **dict(model_args, **kwargs))


@register_model
def mobilenext_050_ca(pretrained: bool = False, **kwargs: Any) -> MobileNeXt:
    """ MobileNeXt w/ width 0.5, Coordinate Attention"""
    model_args = dict(channel_multiplier=0.5)
    return _gen_mobilenext_ca('mobilenext_050_ca', pretrained=pretrained, **dict(model_args, **kwargs))


@register_model
def mobilenext_075_ca(pretrained: bool = False, **kwargs: Any) -> MobileNeXt:
    """ MobileNeXt w/ width 0.75, Coordinate Attention"""
    model_args = dict(channel_multiplier=0.75)
    return _gen_mobilenext_ca('mobilenext_075_ca', pretrained=pretrained, **dict(model_args, **kwargs))


@register_model
def mobilenext_100_ca(pretrained: bool = False, **kwargs: Any) -> MobileNeXt:
    """ MobileNeXt w/ width 1.0, Coordinate Attention"""
    model_args = dict(channel_multiplier=1.0)
    return _gen_mobilenext_ca('mobilenext_100_ca', pretrained=pretrained, **dict(model_args, **kwargs))


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
    model_args = dict(depth_multiplier=1.1)
    return _gen_mobilenext_efficient(
        'mobilenext_l_ghost', 'gsg', 0.125, pretrained=pretrained, **dict(model_args, **kwargs))
