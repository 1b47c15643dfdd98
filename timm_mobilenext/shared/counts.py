""" Parameters, MACs and activations of a network"""
import copy
from typing import Any, Dict, Optional, Sequence

import torch
from torch import nn

__all__ = ['count']


def count(model: Any, input_size: Optional[Sequence[int]] = None, device: str = 'meta') -> Dict[str, float]:
    """ Count what a network has, and what it needs for one image in its convolutions and linear layers.

    Args:
        model: Network, which is not changed.
        input_size: Channels, height and width of the image, the network's own if None.
        device: Device to run it on. 'meta' computes shapes only.

    Returns:
        Numbers of `params`, of `macs` (multiplications with addition), and of `activations` (outputs of the layers).
    """
    model = copy.deepcopy(model).to(device).float().eval()  # a half of a CPU lacks some kernels
    counts: Dict[str, float] = dict(params=sum(p.numel() for p in model.parameters()), macs=0, activations=0)

    def add(module: Any, args: Any, out: torch.Tensor) -> None:
        counts['macs'] += out.numel() * module.weight[0].numel()
        counts['activations'] += out.numel()

    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(add)
    with torch.inference_mode():
        model(torch.zeros(1, *(input_size or model.pretrained_cfg['input_size']), device=device))
    return counts
