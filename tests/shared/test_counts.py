""" Parameters, MACs and activations, counted by hand on a small network"""
import pytest
import torch
from torch import nn

from timm_mobilenext.shared.counts import count

pytestmark = pytest.mark.tools


def test_counts_of_a_small_network():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),  # 216 parameters, 8 x 4 x 4 outputs of 27 MACs
        nn.BatchNorm2d(8),  # 16 parameters
        nn.Conv2d(8, 8, 3, padding=1, groups=8),  # 80 parameters, 128 outputs of 9 MACs
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),  # 45 parameters, 5 outputs of 8 MACs
    )
    model.train()
    expected = dict(params=216 + 16 + 80 + 45, macs=128 * 27 + 128 * 9 + 5 * 8, activations=128 + 128 + 5)
    assert count(model, (3, 8, 8)) == count(model, (3, 8, 8), 'cpu') == expected
    assert model.training and next(model.parameters()).device == torch.device('cpu')  # it counts on a copy


def test_a_network_of_16_bits_counts_alike():
    """A CPU convolves floats alone where there are biases, as in squeeze-and-excitation."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    assert count(model.half(), (3, 8, 8), 'cpu') == count(model.float(), (3, 8, 8), 'cpu')
    assert count(model.half(), (3, 8, 8)) == count(model.float(), (3, 8, 8))
