""" Six feature maps of an image: two of a network of timm, four of extra blocks on top of it

The authors' `ssd/modeling/backbone/mobilenext.py` in https://github.com/Andrew-Qibin/ssdlite-pytorch-mobilenext
"""
from collections import OrderedDict
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

import torch
from torch import nn

import timm
from timm.layers import ConvNormAct
from timm.models import FeatureHooks, is_model_pretrained

from ..checkpoints.convert import check_state_dict, convert_state_dict, read_checkpoint, select_state_dict
from ..shared.errors import UserError

__all__ = ['check_backbone', 'SSDLiteBackbone']

STRIDES = (16, 32)
# output channels and ratio of the narrow width to the input, each at stride 2
EXTRAS = ((512, 0.2), (256, 0.25), (256, 0.5), (128, 0.5))
# what enters the strided depthwise convolution on the way from stride 16 to 32, and for MobileNeXt that of its last
# block; without the second, it is what the network gives at its end
_TAPS = {
    'mobilenext_': ('blocks.5.0.conv_dw2', 'blocks.7.0.conv_dw2'),
    'mobilenetv2_': ('blocks.5.0.conv_dw',),
}


def check_backbone(name: str) -> None:
    """ Raise a UserError if timm has no such model."""
    if not timm.is_model(name):
        raise UserError(f'timm has no model {name!r} to be a backbone: timm.list_models() lists them.')


def create_body(name: str, img_size: int, pretrained: bool = False, **kwargs: Any) -> Tuple[Any, Tuple[str, ...]]:
    """ Network of timm below a detector, and the modules whose input is tapped, none if it gives its features itself.

    Raises:
        UserError: If it has no maps of strides 16 and 32.
    """
    cfg: Any = timm.get_pretrained_cfg(name)
    if cfg is not None and cfg.fixed_input_size:
        kwargs['img_size'] = img_size
    for prefix, taps in _TAPS.items():
        if name.startswith(prefix):
            return timm.create_model(name, pretrained, num_classes=0, global_pool='', **kwargs), taps
    try:
        body: Any = timm.create_model(name, features_only=True, **kwargs)  # to see what it has, without weights
        strides = body.feature_info.reduction()
    except (AttributeError, AssertionError, RuntimeError, TypeError) as e:
        raise UserError(f'{name} gives no feature maps (features_only), which SSDLite needs: {e}') from None
    absent = [stride for stride in STRIDES if stride not in strides]
    if absent:
        has = ', '.join(map(str, sorted(set(strides))))
        raise UserError(f'{name} has no feature map of stride {absent[0]}, only {has}: SSDLite needs 16 and 32.')
    # the deepest of each
    indices = tuple(len(strides) - 1 - strides[::-1].index(stride) for stride in STRIDES)
    return timm.create_model(name, pretrained, features_only=True, out_indices=indices, **kwargs), ()


class SSDLiteBackbone(nn.Module):
    """ A network of timm with the authors' extra blocks

    MobileNeXt and MobileNetV2 are tapped as wide as they get: where 576 channels (at width 1.0) enter the strided
    depthwise convolution of stride 16 to 32, and at 1280 channels of stride 32. Of any other model of timm these are
    its features of stride 16 and 32.

    Shape:
        - input: (B, 3, H, W)
        - output: six maps by name, '0' to '5', of strides 16, 32, 64, ..., 512
    """

    def __init__(self, name: str, img_size: int):
        """
        Args:
            name: Model of timm.
            img_size: Size of images, for networks that are made for one.

        Raises:
            UserError: If timm has no such model, or if it has no feature maps of strides 16 and 32.
        """
        super().__init__()
        check_backbone(name)
        self.name = name
        self.img_size = img_size
        self.body, taps = create_body(name, img_size)
        self.is_channels_last = getattr(self.body, 'output_fmt', 'NCHW') == 'NHWC'  # some transformers
        self.hooks: Optional[FeatureHooks] = None
        if taps:
            self.hooks = FeatureHooks(
                [dict(module=tap, hook_type='forward_pre') for tap in taps], self.body.named_modules())

        with torch.no_grad():
            was_training = self.body.training
            self.body.eval()
            tapped, last = self._forward_body(torch.zeros(1, 3, img_size, img_size))
            self.body.train(was_training)
        self.out_channels = [x.shape[1] for x in tapped]
        in_chs = last.shape[1]
        extras: List[nn.Module] = []
        for out_chs, ratio in EXTRAS:
            mid_chs = int(in_chs * ratio)
            extras.append(nn.Sequential(
                ConvNormAct(in_chs, in_chs, 3, stride=2, groups=in_chs, act_layer=nn.ReLU6),
                ConvNormAct(in_chs, mid_chs, 1, apply_act=False),
                ConvNormAct(mid_chs, out_chs, 1, act_layer=nn.ReLU6),
            ))
            self.out_channels.append(out_chs)
            in_chs = out_chs
        self.extras = nn.ModuleList(extras)
        for m in self.extras.modules():
            if isinstance(m, nn.Conv2d):
                # as the authors', of all output channels in a depthwise convolution too
                fan_out = m.kernel_size[0] * m.kernel_size[1] * m.out_channels
                nn.init.normal_(m.weight, std=(2. / fan_out) ** 0.5)

    def load_pretrained(self, checkpoint_path: Optional[Union[str, Path]] = None) -> None:
        """ Load weights into the network of timm: those of a checkpoint, or timm's if there is none.

        Raises:
            UserError: If timm has none.
            UserError: If they can't be had, or are of another network.
        """
        overlay: Dict[str, Any] = {}
        if checkpoint_path:
            state_dict, _ = select_state_dict(read_checkpoint(checkpoint_path))
            model: Any = timm.create_model(self.name)
            state_dict = convert_state_dict(state_dict, model)
            # timm leaves the classifier out, and is not strict then
            heads = model.pretrained_cfg.get('classifier') or ()
            heads = (heads,) if isinstance(heads, str) else tuple(heads)
            is_head = tuple(f'{head}.' for head in heads)
            body = {key: value for key, value in state_dict.items() if not key.startswith(is_head)}
            check_state_dict(
                {**body, **{key: value for key, value in model.state_dict().items() if key.startswith(is_head)}}, model)
            overlay = dict(pretrained_cfg_overlay=dict(state_dict=body, num_classes=-1, source=''))
        elif not is_model_pretrained(self.name):
            raise UserError(f'{self.name} has no pretrained weights: give a checkpoint, or train without.')
        loaded, _ = create_body(self.name, self.img_size, pretrained=True, **overlay)
        self.body.load_state_dict(loaded.state_dict())

    def _forward_body(self, x: torch.Tensor) -> Tuple[List[torch.Tensor], torch.Tensor]:
        """ Maps of strides 16 and 32, and what the extra blocks go on with."""
        if self.hooks is None:
            features = list(self.body(x))
            if self.is_channels_last:
                features = [x.permute(0, 3, 1, 2) for x in features]
            return features, features[-1]
        x = self.body.forward_features(x)
        features = list(self.hooks.get_output(x.device).values())
        return features if len(features) == len(STRIDES) else [*features, x], x

    def forward(self, x: torch.Tensor) -> Dict[str, torch.Tensor]:
        features, x = self._forward_body(x)
        for block in self.extras:
            x = block(x)
            features.append(x)
        return OrderedDict((str(i), feature) for i, feature in enumerate(features))
