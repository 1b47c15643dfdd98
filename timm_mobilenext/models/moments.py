""" Batch norm statistics of a new network, in closed form from the weights just drawn

In eval mode a batch norm divides by its running statistics, which start at mean 0 and variance 1 whatever the weights.
The authors' depthwise weights are small, so such a network would answer with rounding errors. Here the statistics start
as those of normalized images, so that an untrained network can be exported, compared and averaged.
"""
from functools import partial
from typing import Any, Callable, Dict, List

import torch
import torch.nn as nn

__all__ = ['init_running_stats']

# Assumptions about images. An activation without a ceiling would let a wrong scale grow from block to block, and these
# two keep it small: tails are heavier than a normal distribution's, and neighbouring pixels are alike.
PIXEL_CORRELATION = 0.25
MEAN_GATE = 0.5  # of an attention layer, the sigmoid of 0


class _Moments:
    """ Forward functions of layers that take the mean and the variance of each channel, in place of images

    A tensor of shape (2, channels, 1, 1) holds both. What a network does without weights is right for such a tensor
    too: sums at shortcuts, slices, concatenations, masks. Channels are taken as independent.
    """

    def __init__(self, device: torch.device):
        # a Laplace distribution of variance 1, at equal steps of its probability
        p = (torch.arange(1000, device=device) + 0.5) / 1000 - 0.5
        self.inputs = -p.sign() * torch.log1p(-2 * p.abs()) / 2 ** 0.5
        self.outputs: Dict[type, torch.Tensor] = {}

    def conv(self, conv: Any, x: torch.Tensor) -> torch.Tensor:
        weight = conv.weight.to(x.dtype).flatten(2).unflatten(0, (conv.groups, -1))  # groups, outputs, inputs, kernel
        squares = weight.square()
        if weight.shape[3] > 1:
            weight, squares = weight.sum(3, keepdim=True), squares.sum(3, keepdim=True)
            squares = torch.lerp(squares, weight.square(), PIXEL_CORRELATION)
        mean, var = x.view(2, conv.groups, -1, 1)
        mean = weight[..., 0] @ mean
        if conv.bias is not None:
            mean = mean + conv.bias.view_as(mean)
        return torch.stack([mean, squares[..., 0] @ var]).view(2, -1, 1, 1)

    def norm(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.running_mean is not None:
            norm.running_mean.copy_(x[0].flatten())
            # timm's CondConv2d runs as it is and may leave a negative variance
            norm.running_var.copy_(x[1].flatten().abs())  # type: ignore[union-attr]
        act = getattr(norm, 'act', None)
        if type(act) not in self.outputs:
            y = act(self.inputs.clone()) if act is not None else self.inputs
            self.outputs[type(act)] = torch.stack([y.mean(), y.var()]).view(2, 1, 1, 1)
        return self.outputs[type(act)].expand_as(x)

    def attention(self, attention: Any, x: torch.Tensor) -> torch.Tensor:
        if hasattr(attention, 'conv1') and hasattr(attention, 'bn1'):  # Coordinate Attention
            self.norm(attention.bn1, self.conv(attention.conv1, x))
        return torch.cat([x[:1] * MEAN_GATE, x[1:] * MEAN_GATE ** 2])

    def same(self, module: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return x


@torch.no_grad()
def init_running_stats(model: Any) -> None:
    """ Set the running statistics of all batch norms as normalized images would leave them.

    Weights stay as they are. So does training, because a batch norm in train mode does not read its statistics.
    Weights on the meta device tell nothing, and leave the statistics as they are.

    Args:
        model: Network of a stem, `conv_stem` and `bn1`, and of `blocks`.
    """
    device = model.conv_stem.weight.device
    if device.type == 'meta':
        return
    moments = _Moments(device)
    layers: List[nn.Module] = []

    def _replace_forward(parent: nn.Module) -> None:
        for name, module in parent.named_children():
            forward: Callable
            if name == 'se' and not isinstance(module, nn.Identity):
                forward = moments.attention
            elif isinstance(module, nn.Conv2d):
                forward = moments.conv
            elif hasattr(module, 'eps'):
                forward = moments.norm
            elif module._modules:
                _replace_forward(module)
                continue
            elif module._parameters:  # of a block of timm's, runs as it is
                continue
            else:  # drop path, anti-aliasing
                forward = moments.same
            vars(module)['forward'] = partial(forward, module)
            layers.append(module)

    try:
        _replace_forward(model)
        x = torch.zeros(2, model.conv_stem.in_channels, 1, 1, device=device)
        x[1] = 1.
        model.blocks(model.bn1(model.conv_stem(x)))
    finally:
        for layer in layers:
            del vars(layer)['forward']
