"""An untrained network in eval mode: alive, and neither its weights nor its training know of it."""
import pytest
import torch
from helpers import COORD, MODELS
from torch import nn

import timm

from timm_mobilenext.models import network

SMALL = [['sg_r1_k3_s2_e2_c32'], ['sg_r2_k3_s2_e6_c64_id0.5'], ['sg_r2_k3_s2_e6_c96_se0.25']]


def smooth_images(size=64):
    """Noise of four sizes, normalized, as photographs have it."""
    layers = [torch.nn.functional.interpolate(torch.randn(8, 3, n, n), size=size, mode='bilinear') for n in (4, 8, 32)]
    x = sum(layers) + torch.randn(8, 3, size, size)
    return x / x.std()


def deviation(model, x):
    with torch.inference_mode():
        return model.eval()(x).float().std().item()


def is_alive(model, x=None):
    return 0.04 < deviation(model, smooth_images() if x is None else x) < 5


@pytest.mark.parametrize('name', MODELS)
def test_models(name):
    model = timm.create_model(name)
    assert is_alive(model) and is_alive(model, torch.randn(8, 3, 64, 64))


@pytest.mark.parametrize('kwargs', [
    dict(weight_init='timm'), dict(weight_init='torch'), dict(act_layer='silu'), dict(dw_position='bottleneck'),
    dict(dw_position='before'), dict(dw_position='after'), dict(narrow_skip=True), dict(noskip=True), dict(pw_groups=2),
    dict(linear_bottleneck=False), dict(aa_layer='blur'), dict(norm_layer='groupnorm1'), dict(channel_multiplier=0.2),
    dict(in_chans=1), dict(identity_multiplier=0.5), dict(output_stride=8), dict(drop_path_rate=0.5),
], ids=str)
def test_arguments(kwargs):
    x = smooth_images()[:, :kwargs.get('in_chans', 3)]
    assert is_alive(timm.create_model('mobilenext_035', **kwargs), x)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    model = timm.create_model('mobilenext_100')
    due = deviation(model, smooth_images())
    assert deviation(model.to(dtype), smooth_images().to(dtype)) == pytest.approx(due, rel=0.2)


def test_statistics_are_those_of_images():
    """Of the first layers, whose input is known."""
    model = timm.create_model('mobilenext_100').train()
    bn1, bn2 = model.bn1, model.blocks[0][0].bn1
    mean, var = bn2.running_mean.clone(), bn2.running_var.clone()
    stem_var = bn1.running_var.clone()
    bn1.momentum = bn2.momentum = 1.
    model(torch.randn(8, 3, 64, 64))
    assert (stem_var / bn1.running_var).mean().item() == pytest.approx(1, abs=0.2)
    assert (var / bn2.running_var).mean().item() == pytest.approx(1, abs=0.2)
    torch.testing.assert_close(mean, bn2.running_mean, rtol=0.2, atol=0.1 * mean.std().item())


def test_weights_and_training_stay(monkeypatch):
    """Bit by bit, with the random numbers that follow."""
    results = []
    for is_blind in (False, True):
        if is_blind:
            monkeypatch.setattr(network, 'init_running_stats', lambda model: None)
        torch.manual_seed(0)
        model = timm.create_model('mobilenext_100', arch_def=SMALL, num_classes=5, drop_path_rate=0.2).train()
        logits = model(torch.randn(4, 3, 32, 32))
        logits.square().sum().backward()
        results.append([logits, *model.parameters(), *(p.grad for p in model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_training_forgets_them(monkeypatch):
    state_dicts = []
    for is_blind in (False, True):
        if is_blind:
            monkeypatch.setattr(network, 'init_running_stats', lambda model: None)
        torch.manual_seed(0)
        model = timm.create_model('mobilenext_100', arch_def=SMALL, num_classes=5).train()
        for _ in range(100):
            model(torch.randn(4, 3, 32, 32))
        state_dicts.append(model.state_dict())
    for key, value in state_dicts[0].items():
        torch.testing.assert_close(value, state_dicts[1][key], rtol=1e-3, atol=1e-4)


def test_layers_run_as_before():
    model = timm.create_model('mobilenext_100', arch_def=SMALL)
    assert not any('forward' in vars(module) for module in model.modules())


@pytest.mark.parametrize('name', ['mobilenext_100_id050', pytest.param('mobilenext_050_ca', marks=COORD)])
def test_weights_on_meta_and_buffers_on_the_cpu(name, monkeypatch):
    """As accelerate's init_empty_weights() makes them."""
    whole = timm.create_model(name).eval()
    register = nn.Module.register_parameter

    def register_on_meta(module, key, param):
        register(module, key, param if param is None else nn.Parameter(param.to('meta')))

    with monkeypatch.context() as patch:
        patch.setattr(nn.Module, 'register_parameter', register_on_meta)
        model = timm.create_model(name).eval()
    assert all(p.is_meta for p in model.parameters()) and not model.bn1.running_mean.is_meta
    model.load_state_dict(whole.state_dict(), assign=True)
    x = smooth_images(32)
    assert torch.equal(model(x), whole(x))


def test_activation_with_a_weight_on_the_meta_device():
    assert timm.create_model('mobilenext_035', act_layer='prelu', device='meta').conv_stem.weight.is_meta


def test_after_to_empty():
    model = timm.create_model('mobilenext_100_id050', device='meta').to_empty(device='cpu')
    model.init_weights()
    assert is_alive(model)
