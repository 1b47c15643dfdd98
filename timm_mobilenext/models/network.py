""" The network of sandglass blocks, on timm's EfficientNet

Weight initialization after the authors' `mobilenext/codebase/models/mnext.py` and `efficient_mnext/model.py` beside it
in https://github.com/zhoudaquan/rethinking_bottleneck_design
"""
import math
import weakref
from copy import deepcopy
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, Union

import torch.nn as nn

from timm.layers import create_classifier, create_conv2d, get_norm_act_layer, LayerType
from timm.models import EfficientNet, EfficientNetFeatures, FeatureHooks, FeatureInfo

from ..checkpoints.convert import check_state_dict, convert_pre_hook, convert_state_dict
from ._timm import efficientnet_init_weights, round_channels, SqueezeExcite
from .attention import resolve_se_layer
from .block_strings import is_whole
from .builder import SandglassNetBuilder
from .layers import resolve_aa_layer, resolve_act_layer, resolve_reduce_chs_fn
from .moments import init_running_stats
from .sandglass import fold_bn

__all__ = ['MobileNeXt', 'MobileNeXtFeatures']

BlockArgs = List[List[Dict[str, Any]]]


def _init_weight_authors(m: nn.Module, n: str = '') -> None:
    """ Weight initialization of the authors

    Convolutions are drawn by their whole fan-out. Groups do not count, so the weights of a depthwise convolution are
    small. The linear layer is normal with a deviation of 0.01.
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
    """ Weight initialization of PyTorch: the layers have drawn it themselves."""


# None is timm's own scheme
_INIT_FNS: Dict[str, Optional[Callable]] = dict(authors=_init_weight_authors, timm=None, torch=_init_weight_torch)


class StemFold(nn.Identity):
    """ Child of a network that folds its stem, for timm's reparameterize_model, which visits the children alone

    It holds the network weakly, so that a deleted network leaves memory at once, and not when Python collects garbage.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network: Callable[[], Any] = weakref.ref(network)

    def reparameterize(self) -> None:
        network = self.network()
        if network is not None:  # somebody may have kept its children alone
            network._fold_stem()

    def __getstate__(self) -> Dict[str, Any]:  # to copy and pickle, which a weak reference cannot be
        return dict(vars(self), network=self.network())

    def __setstate__(self, state: Dict[str, Any]) -> None:
        network = state['network']
        super().__setstate__(dict(state, network=weakref.ref(network) if network is not None else lambda: None))


class MobileNeXtTrunk(nn.Module):
    """ Stem and stages of blocks, shared by the classifier and the feature extractor"""
    builder_cls: Any = SandglassNetBuilder
    stages_cls: Any = nn.Sequential

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
            output_stride: Output stride of network. It is designed for 32; less turns strides into dilation.
            pad_type: Padding type.
            act_layer: Activation layer, ReLU6 if None.
            norm_layer: Normalization layer, BatchNorm2d if None.
            aa_layer: Anti-aliasing layer.
            se_layer: Squeeze-and-excitation or another attention layer, of blocks that have attention.
            round_chs_fn: Channel rounding function.
            reduce_chs_fn: Rule for the width of a bottleneck. 'authors' is that of MobileNetV2-style networks and keeps
                at least a sixth of the output. 'even' is that of EfficientNet-style networks. Or a function of input
                channels, output channels and reduction.
            drop_rate: Dropout rate for classifier.
            drop_path_rate: Drop path rate for stochastic depth.
            feature_location: Where the features of each resolution are taken. 'bottleneck': the output of its last
                block. 'expansion': the wide tensor that enters the second depthwise convolution of that block.
                'downsample': the wide tensor that enters the strided depthwise convolution of the next block; behind
                the last block, as 'expansion'.
            weight_init: Weight initialization. 'authors': the authors' scheme for MobileNetV2-style networks. 'timm':
                timm's for EfficientNet-style networks. 'torch': the layers' own, as the authors' EfficientNet-style
                networks have it.

        Raises:
            ValueError: If an argument is impossible.
        """
        nn.Module.__init__(self)
        dd = {'device': device, 'dtype': dtype}
        if not is_whole(in_chans, 1):
            raise ValueError(
                f'in_chans {in_chans!r} is not a whole number from 1: give the channels of the input image.')
        if output_stride not in (2, 4, 8, 16, 32):
            raise ValueError(f'output_stride {output_stride!r} is not one of 2, 4, 8, 16, 32.')
        if weight_init not in _INIT_FNS:
            raise ValueError(f'weight_init {weight_init!r} is not one of {", ".join(_INIT_FNS)}.')
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
        builder = self.builder_cls(
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
            **dd,
        )
        self.blocks: Any = self.stages_cls(*builder(stem_size, block_args))
        self.feature_info: Any = builder.features
        self.num_features: Any = builder.in_chs

        self.stem_fold = StemFold(self)
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

    def init_weights(self, needs_reset: bool = True) -> None:
        """ Draw all weights anew, and set all statistics as images would leave them. After `to_empty()` too.

        Args:
            needs_reset: Call `reset_parameters()` of all layers first, which new layers have done themselves.
        """
        if needs_reset:
            for m in self.modules():
                if m is not self and hasattr(m, 'reset_parameters'):
                    m.reset_parameters()  # type: ignore[operator]
        efficientnet_init_weights(self, _INIT_FNS[self.weight_init])
        init_running_stats(self)


class MobileNeXt(MobileNeXtTrunk, EfficientNet):
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
        # a classifier's features are block outputs, whatever the location, so it is not an argument
        super().__init__(block_args, feature_location='bottleneck', device=device, dtype=dtype, **trunk_args)
        self.stage_ends = [f['stage'] for f in self.feature_info]
        self.conv_head = self.bn2 = nn.Identity()  # timm's have a head convolution here
        self._create_head(num_classes, global_pool, device=device, dtype=dtype)

        self.init_weights(needs_reset=False)

    def _create_head(self, num_classes: int, global_pool: str, **dd: Any) -> None:
        """ Pooling + Head, without a head convolution."""
        if not is_whole(num_classes):
            raise ValueError(f'num_classes {num_classes!r} is not a whole number from 0: give 0 for no classifier.')
        try:
            self.global_pool, self.classifier = create_classifier(
                self.num_features, num_classes, pool_type=global_pool, **dd)
        except AssertionError:
            raise ValueError(
                f'global_pool {global_pool!r} is not one of avg, max, avgmax, catavgmax, or "" for no pooling.'
            ) from None
        self.num_classes = num_classes
        self.head_hidden_size = self.num_features * self.global_pool.feat_mult()

    def reset_classifier(self, num_classes: int, global_pool: Optional[str] = None) -> None:
        """ Reset the classifier head, initialized as in a new model.

        Args:
            num_classes: Number of classes for new classifier, 0 for none.
            global_pool: Global pooling type, current pooling is kept if None.
        """
        if global_pool is None:
            global_pool = self.global_pool.pool_type
        weight = next(self.parameters())
        self._create_head(num_classes, global_pool, device=weight.device, dtype=weight.dtype)
        efficientnet_init_weights(self.classifier, _INIT_FNS[self.weight_init])
        self.global_pool.train(self.training)
        self.classifier.train(self.training)

    def prune_intermediate_layers(self, *args: Any, **kwargs: Any) -> List[int]:
        """ Prune layers not required for specified intermediates, as timm's `EfficientNet` does.

        Before timm 1.0.31 that leaves the number of features as it was.
        """
        kept = super().prune_intermediate_layers(*args, **kwargs)
        last: Any = self.blocks[-1][-1] if len(self.blocks) else None
        num_features = last.feature_info('bottleneck')['num_chs'] if last else self.conv_stem.out_channels
        if num_features != self.num_features:
            self.num_features = num_features
            self.reset_classifier(0, '')
        return kept


class MobileNeXtFeatures(MobileNeXtTrunk, EfficientNetFeatures):
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

        self.init_weights(needs_reset=False)

        # Register feature extraction hooks with FeatureHooks helper
        self.feature_hooks = None
        if feature_location in ('expansion', 'downsample'):
            self.feature_hooks = FeatureHooks(self.feature_info.get_dicts(), self.named_modules())
