""" Six feature maps of an image: two from a network of timm, four from extra blocks on top of it

After the authors' `ssd/modeling/backbone/mobilenext.py`: https://github.com/Andrew-Qibin/ssdlite-pytorch-mobilenext
"""
from collections import OrderedDict
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

import torch
from torch import nn

import timm
from timm.layers import ConvNormAct
from timm.models import FeatureHooks, is_model_pretrained

from ..checkpoints.convert import fit_state_dict
from ..checkpoints.read import read_checkpoint, select_state_dict
from ..shared.errors import first_line, UserError
from ..shared.names import check_model, create_empty, refused_size

__all__ = ['SSDLiteBackbone']

STRIDES = (16, 32)
# output channels and ratio of the narrow width to the input, each at stride 2
EXTRAS = ((512, 0.2), (256, 0.25), (256, 0.5), (128, 0.5))
# Modules whose input is a feature map. The first is the strided depthwise convolution between strides 16 and 32; the
# second, in MobileNeXt, is the one in the last block. A network with one tap gives its own output as the second map.
_TAPS = {
    'mobilenext_': ('blocks.5.0.conv_dw2', 'blocks.7.0.conv_dw2'),
    'mobilenetv2_': ('blocks.5.0.conv_dw',),
}


def create_body(name: str, img_size: int, pretrained: bool = False, **kwargs: Any) -> Tuple[Any, Tuple[str, ...]]:
    """ Create the network of timm that is below a detector.

    Args:
        name: Model of timm.
        img_size: Size of images in pixels, for networks that are made for one size.
        pretrained: Load pretrained weights.
        **kwargs: More arguments of `timm.create_model`.

    Returns:
        The network, and the names of the modules to tap. Without taps, the network returns its feature maps.

    Raises:
        UserError: If the network has no feature maps of strides 16 and 32.
    """
    cfg: Any = timm.get_pretrained_cfg(name)
    if cfg is not None and cfg.fixed_input_size:
        kwargs['img_size'] = img_size
    for prefix, taps in _TAPS.items():
        if name.startswith(prefix):
            return timm.create_model(name, pretrained, num_classes=0, global_pool='', **kwargs), taps
    strides = find_strides(name, **kwargs)
    absent = [stride for stride in STRIDES if stride not in strides]
    if absent:
        present = ', '.join(map(str, sorted(set(strides))))
        raise UserError(f'{name} has no feature map of stride {absent[0]}, only {present}: SSDLite needs 16 and 32.')
    # the deepest of each
    indices = tuple(len(strides) - 1 - strides[::-1].index(stride) for stride in STRIDES)
    return timm.create_model(name, pretrained, features_only=True, out_indices=indices, **kwargs), ()


def find_strides(name: str, **kwargs: Any) -> List[int]:
    """ Strides of the feature maps of a network of timm, from its first layer to its last.

    Raises:
        UserError: If it gives no feature maps.
    """
    try:
        return create_empty(name, features_only=True, **kwargs).feature_info.reduction()
    except (AttributeError, AssertionError, RuntimeError, TypeError, ValueError) as e:
        raise UserError(
            f'{name} gives no feature maps (features_only), which SSDLite needs: {first_line(e)}') from None


def read_body(name: str, checkpoint_path: Union[str, Path]) -> Dict[str, torch.Tensor]:
    """ Read a checkpoint of a classifier, of timm's or the authors' keys, and leave its classifier out.

    Raises:
        UserError: If the file cannot be read, or if its weights are another network's.
    """
    state_dict, _ = select_state_dict(read_checkpoint(checkpoint_path))
    return fit_state_dict(state_dict, create_empty(name), head=False)


class SSDLiteBackbone(nn.Module):
    """ A network of timm with the authors' extra blocks

    MobileNeXt and MobileNetV2 are tapped where they are widest. At stride 16 this is the input of the depthwise
    convolution with stride 2: 576 channels at width 1.0. At stride 32 it is the last 1280 channels. Any other model of
    timm gives its own feature maps of strides 16 and 32.

    Shape:
        - input: (B, 3, H, W)
        - output: six maps by name, '0' to '5', of strides 16, 32, 64, ..., 512
    """

    def __init__(
            self,
            name: str,
            img_size: int,
            pretrained: bool = False,
            checkpoint_path: Optional[Union[str, Path]] = None,
    ):
        """
        Args:
            name: Model of timm.
            img_size: Size of images in pixels.
            pretrained: Load timm's weights.
            checkpoint_path: Load a checkpoint of the model, with any number of classes.

        Raises:
            UserError: If timm does not have this model, if it has no feature maps of strides 16 and 32, if it does not
                take images of this size, or if its weights cannot be loaded.
        """
        super().__init__()
        check_model(name)
        self.name = name
        self.img_size = img_size
        overlay: Dict[str, Any] = {}
        if checkpoint_path:
            # timm loads these as it loads its own, and renames what feature extraction renames
            state_dict = read_body(name, checkpoint_path)
            overlay = dict(pretrained_cfg_overlay=dict(state_dict=state_dict, num_classes=-1, source=''))
        elif pretrained and not is_model_pretrained(name):
            raise UserError(f'{name} has no pretrained weights: give a checkpoint, or train without.')
        self.body, taps = create_body(name, img_size, bool(pretrained or checkpoint_path), **overlay)
        for cfg in (self.body.pretrained_cfg, self.body.default_cfg):
            cfg.pop('state_dict', None)  # each copy of the detector would copy them
        self.is_channels_last = getattr(self.body, 'output_fmt', 'NCHW') == 'NHWC'  # some transformers
        self.hooks: Optional[FeatureHooks] = None
        if taps:
            self.hooks = FeatureHooks(
                [dict(module=tap, hook_type='forward_pre') for tap in taps], self.body.named_modules())
        channels, in_chs, size = self._measure_maps()
        self.extras = _create_extras(in_chs, size)
        self.out_channels = [*channels, *(out_chs for out_chs, _ in EXTRAS)]

    @torch.no_grad()
    def _measure_maps(self) -> Tuple[List[int], int, int]:
        """ Channels of the maps of strides 16 and 32, and channels and size of the input of the extra blocks."""
        was_training = self.body.training
        self.body.eval()
        try:
            maps, last = self._forward_body(torch.zeros(1, 3, self.img_size, self.img_size))
        except (AssertionError, IndexError, RuntimeError, ValueError) as e:
            raise UserError(f'{self.name} does not take images {refused_size(self.name, self.img_size, e)}') from e
        self.body.train(was_training)
        return [x.shape[1] for x in maps], last.shape[1], last.shape[-1]

    def _forward_body(self, x: torch.Tensor) -> Tuple[List[torch.Tensor], torch.Tensor]:
        """ Maps of strides 16 and 32, and the input of the extra blocks."""
        if self.hooks is None:
            maps = list(self.body(x))
            if self.is_channels_last:
                maps = [x.permute(0, 3, 1, 2) for x in maps]
            return maps, maps[-1]
        x = self.body.forward_features(x)
        maps = list(self.hooks.get_output(x.device).values())
        return maps if len(maps) == len(STRIDES) else [*maps, x], x

    def forward(self, x: torch.Tensor) -> Dict[str, torch.Tensor]:
        maps, x = self._forward_body(x)
        for block in self.extras:
            x = block(x)
            maps.append(x)
        return OrderedDict((str(i), x) for i, x in enumerate(maps))


def _create_extras(in_chs: int, size: int) -> nn.ModuleList:
    """ The authors' four extra blocks, with their initial weights, for maps of this size."""
    extras = nn.ModuleList()
    for out_chs, ratio in EXTRAS:
        mid_chs = int(in_chs * ratio)
        # on one pixel both strides are the same, but torch's bfloat16 on a CPU leaves gradients of stride 2 unwritten
        stride = 2 if size > 1 else 1
        extras.append(nn.Sequential(
            ConvNormAct(in_chs, in_chs, 3, stride=stride, groups=in_chs, act_layer=nn.ReLU6),
            ConvNormAct(in_chs, mid_chs, 1, apply_act=False),
            ConvNormAct(mid_chs, out_chs, 1, act_layer=nn.ReLU6),
        ))
        in_chs, size = out_chs, (size + 1) // 2
    for module in extras.modules():
        if isinstance(module, nn.Conv2d):
            # the authors count all output channels, of a depthwise convolution too
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
            nn.init.normal_(module.weight, std=(2. / fan_out) ** 0.5)
    return extras
