"""Our networks against the outputs of the authors' own code."""
import pytest
import torch
from authors import add_shortcut, load_golden
from helpers import MODELS, rel_error
from torch import nn

import timm

from timm_mobilenext import SandglassBlock

NETWORKS = {
    'mnext_w100': 'mobilenext_100',
    'mnext_w035': 'mobilenext_035',
    'mnext_w100_id2': 'mobilenext_100_id050',
    'efficient_b0': 'mobilenext_s',
    'efficient_b1_g2': 'mobilenext_l',
    'efficient_ghost_b1': 'mobilenext_l_ghost',
}
# the authors' `_bn1`, which their forward pass never meets
UNUSED = ('_bn1.weight', '_bn1.bias', '_bn1.running_mean', '_bn1.running_var', '_bn1.num_batches_tracked')
# REFERENCE.md: parameters, MACs in millions
COUNTS = {
    'mobilenext_035': (1_913_976, 75.1),
    'mobilenext_050': (2_152_304, 103.3),
    'mobilenext_075': (2_766_168, 207.9),
    'mobilenext_100': (3_535_416, 311.3),
    'mobilenext_140': (6_126_168, 588.3),
    'mobilenext_100_id050': (3_535_416, 311.3),
    'mobilenext_100_id033': (3_535_416, 311.3),
    'mobilenext_100_id017': (3_535_416, 311.3),
    # MACs as counted here, the authors tell none
    'mobilenext_s': (3_934_451, 330.2),
    'mobilenext_l': (4_284_938, 415.1),
    'mobilenext_l_ghost': (5_681_180, 422.9),
    # as counted here; at width 1.0 the paper of Coordinate Attention says 3.89M and 4.09M, 300M and 330M
    'mobilenext_050_se': (2_248_672, 103.3),
    'mobilenext_075_se': (2_980_320, 208.1),
    'mobilenext_100_se': (3_913_752, 311.7),
    'mobilenext_050_ca': (2_324_720, 105.3),
    'mobilenext_075_ca': (3_097_272, 211.9),
    'mobilenext_100_ca': (4_101_272, 317.9),
}


def load_plain(name, state_dict, folder):
    model = timm.create_model(name)
    model.load_state_dict(state_dict)
    return model


def load_data_parallel(name, state_dict, folder):
    return load_plain(name, {f'module.{key}': value for key, value in state_dict.items()}, folder)


def load_checkpoint_path(name, state_dict, folder):
    torch.save(state_dict, folder / 'weights.pth')
    return timm.create_model(name, checkpoint_path=str(folder / 'weights.pth'))


def load_training_checkpoint(name, state_dict, folder):
    return load_checkpoint_path(name, {'epoch': 1, 'arch': 'mnext', 'state_dict': state_dict}, folder)


def load_pretrained(name, state_dict, folder):
    torch.save(state_dict, folder / 'weights.pth')
    overlay = dict(file=str(folder / 'weights.pth'))
    return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)


LOADERS = [load_plain, load_data_parallel, load_checkpoint_path, load_training_checkpoint, load_pretrained]


@pytest.mark.parametrize('golden_name', NETWORKS)
def test_logits_and_every_block(golden_name):
    golden = load_golden(golden_name)
    model = load_plain(NETWORKS[golden_name], golden.state_dict, None).double().eval()
    unused = sum(golden.state_dict[key].numel() for key in UNUSED[:2] if key in golden.state_dict)
    assert sum(p.numel() for p in model.parameters()) == golden.num_params - unused
    mean_std = []
    stem = [model.bn1] if golden_name.startswith('mnext') else []
    for layer in [*stem, *(block for stage in model.blocks for block in stage)]:
        layer.register_forward_hook(lambda m, args, out: mean_std.append(torch.stack([out.mean(), out.std()])))
    with torch.no_grad():
        logits = model(golden.image.double())

    assert rel_error(logits, golden.outputs['logits']) < 1e-9
    expected = golden.outputs['block_mean_std']
    assert len(mean_std) == len(expected)
    for actual_block, expected_block in zip(mean_std, expected, strict=True):
        assert rel_error(actual_block, expected_block) < 1e-9


@pytest.mark.parametrize('golden_name', NETWORKS)
def test_logits_float32(golden_name):
    golden = load_golden(golden_name)
    model = load_plain(NETWORKS[golden_name], golden.state_dict, None).eval()
    with torch.no_grad():
        logits = model(golden.image)
    assert rel_error(logits, golden.outputs['logits']) < 1e-3


@pytest.mark.parametrize('load', LOADERS)
@pytest.mark.parametrize('golden_name', NETWORKS)
def test_every_way_of_loading(golden_name, load, tmp_path):
    golden = load_golden(golden_name)
    expected = load_plain(NETWORKS[golden_name], golden.state_dict, None).state_dict()
    state_dict = load(NETWORKS[golden_name], golden.state_dict, tmp_path).state_dict()
    assert list(state_dict) == list(expected)
    assert all(torch.equal(state_dict[key], expected[key]) for key in expected)
    # nothing was left as it was drawn, nothing was loaded twice
    source = sorted(value.double().sum().item() for key, value in golden.state_dict.items() if key not in UNUSED)
    assert sorted(value.double().sum().item() for value in state_dict.values()) == source


def test_loads_into_a_part_of_another_network():
    golden = load_golden('mnext_w035')
    detector = nn.ModuleDict(dict(backbone=timm.create_model('mobilenext_035'), head=nn.Linear(2, 2)))
    state_dict = {f'backbone.{key}': value for key, value in golden.state_dict.items()}
    detector.load_state_dict({**state_dict, **{f'head.{k}': v for k, v in detector['head'].state_dict().items()}})
    expected = load_plain('mobilenext_035', golden.state_dict, None).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in detector['backbone'].state_dict().items())


def test_adapts_to_classes_and_channels(tmp_path):
    golden = load_golden('mnext_w035')
    torch.save(golden.state_dict, tmp_path / 'weights.pth')
    model = timm.create_model(
        'mobilenext_035', pretrained=True, num_classes=5, in_chans=1,
        pretrained_cfg_overlay=dict(file=str(tmp_path / 'weights.pth')))
    assert model.classifier.weight.shape == (5, 1280)
    torch.testing.assert_close(
        model.conv_stem.weight, golden.state_dict['features.0.0.weight'].sum(1, keepdim=True))
    assert torch.equal(model.blocks[-1][-1].bn4.bias, golden.state_dict['features.20.conv.9.bias'])


@pytest.mark.parametrize('kwargs', [dict(), dict(feature_cls='list'), dict(feature_location='downsample')])
def test_features_load_a_classifier_checkpoint(kwargs, tmp_path):
    golden = load_golden('mnext_w035')
    torch.save(golden.state_dict, tmp_path / 'weights.pth')
    model = timm.create_model(
        'mobilenext_035', pretrained=True, features_only=True,
        pretrained_cfg_overlay=dict(file=str(tmp_path / 'weights.pth')), **kwargs)
    assert torch.equal(model.conv_stem.weight, golden.state_dict['features.0.0.weight'])


@pytest.mark.parametrize('name', MODELS)
def test_parameters_and_macs(name):
    model = timm.create_model(name, device='meta')
    macs = 0

    def count(module, args, out):
        nonlocal macs
        macs += out[0].numel() * module.weight[0].numel()

    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(count)
    model(torch.zeros(1, 3, 224, 224, device='meta'))
    assert (sum(p.numel() for p in model.parameters()), round(macs / 1e6, 1)) == COUNTS[name]


@pytest.mark.parametrize('divisor', [1, 2, 3, 5, 6, 7])
@pytest.mark.parametrize('chs', [8, 96, 100, 144, 960])
def test_identity_multiplier_of_a_block(chs, divisor):
    block = SandglassBlock(chs, chs, identity_multiplier=1 / divisor).eval()
    branch = SandglassBlock(chs, chs, noskip=True).eval()
    branch.load_state_dict(block.state_dict())
    x = torch.randn(2, chs, 5, 5)
    torch.testing.assert_close(block(x), add_shortcut(x, branch(x), divisor), rtol=0, atol=0)


@pytest.mark.parametrize('multiplier, chs, num_skip', [(0.29, 100, 29), (0.57, 100, 57), (1 / 49, 98, 2), (0.3, 8, 2)])
def test_identity_multiplier_in_decimals(multiplier, chs, num_skip):
    """0.29 * 100 is 28.999999999999996 in floats."""
    block = SandglassBlock(chs, chs, exp_ratio=2, identity_multiplier=multiplier)
    nn.init.zeros_(block.conv_pw1.weight)
    x = torch.rand(1, chs, 3, 3) + 1
    assert (block(x) != 0).all(3).all(2).sum() == num_skip


@pytest.mark.parametrize('name, divisor', [
    ('mobilenext_100', 1), ('mobilenext_100_id050', 2), ('mobilenext_100_id033', 3), ('mobilenext_100_id017', 6),
])
def test_identity_multiplier_of_a_network(name, divisor):
    golden = load_golden('mnext_w100')
    model = load_plain(name, golden.state_dict, None).eval()
    branches = timm.create_model('mobilenext_100', noskip=True).eval()
    branches.load_state_dict(golden.state_dict)
    image = golden.image[:, :, :64, :64]
    with torch.no_grad():
        x = branches.bn1(branches.conv_stem(image))
        for stage in branches.blocks:
            for block_idx, block in enumerate(stage):
                # the first block of a stage changes channels, the others have shortcuts
                x = add_shortcut(x, block(x), divisor) if block_idx else block(x)
        torch.testing.assert_close(model.forward_features(image), x)


def test_ssdlite_taps():
    golden = load_golden('ssdlite_backbone')
    backbone = timm.create_model(
        'mobilenext_100', features_only=True, feature_location='downsample', out_indices=(3, 4))
    assert backbone.feature_info.channels() == [576, 1280]
    assert backbone.feature_info.reduction() == [16, 32]
    backbone.load_state_dict({k: v for k, v in golden.state_dict.items() if k.startswith('features.')})
    with torch.no_grad():
        maps = backbone.double().eval()(golden.image.double())
    assert [tuple(x.shape) for x in maps] == [(1, 576, 20, 20), (1, 1280, 10, 10)]
    for i, x in enumerate(maps):
        assert rel_error(x.mean((0, 2, 3)), golden.outputs[f'map{i}_channel_mean']) < 1e-9
        std = x.transpose(0, 1).flatten(1).std(1, correction=0)
        assert rel_error(std, golden.outputs[f'map{i}_channel_std']) < 1e-9
