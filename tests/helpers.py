"""What several test files need."""
import math
import os

import torch
from torch import nn

import timm

try:
    from timm.models import reparameterize_model
except ImportError:  # timm before 1.0.31
    from timm.utils import reparameterize_model

__all__ = ['Evil', 'MODELS', 'NORMS', 'randomize', 'rel_error', 'reparameterize_model', 'timm_version', 'TINY']

MODELS = [
    'mobilenext_035', 'mobilenext_050', 'mobilenext_075', 'mobilenext_100', 'mobilenext_140', 'mobilenext_100_id050',
    'mobilenext_100_id033', 'mobilenext_100_id017', 'mobilenext_s', 'mobilenext_l', 'mobilenext_l_ghost',
]
# every kind of sandglass block: two and one and no depthwise convolution, with and without a shortcut, SE
TINY = [
    ['sg_r1_k3_s2_e2_c32'],
    ['sg_r1_k3_s1_e6_c48_keepdw'],
    ['sg_r2_k3_s2_e6_c64_se0.25'],
    ['sg_r2_k5_s1_e4_c96'],
]
NORMS = (nn.modules.batchnorm._BatchNorm, timm.layers.FrozenBatchNormAct2d)


def timm_version() -> tuple:
    return tuple(int(part) for part in timm.__version__.split('.')[:3])


@torch.no_grad()
def randomize(model: nn.Module) -> nn.Module:
    """Weights and statistics under which every layer is felt in the output, which fresh ones are not."""
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.weight.normal_(0, 1 / math.sqrt(module.weight[0].numel()))
            if module.bias is not None:
                module.bias.normal_(0, 0.1)
        elif getattr(module, 'running_mean', None) is not None:
            if module.weight is not None:
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.3)
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 1.5)
    return model


def rel_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference, relative to the largest value."""
    assert actual.shape == expected.shape
    return ((actual.double() - expected.double()).abs().max() / expected.double().abs().max()).item()


class Evil:
    """What executes a command when it is unpickled: touch of the marker."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f'touch {self.marker}',)
