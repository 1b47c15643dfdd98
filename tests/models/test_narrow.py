"""The narrow shortcut: same layers, same order, other adds."""
import copy
import io

import pytest
import torch
from helpers import randomize, rel_error, reparameterize_model, TINY
from torch import nn

import timm

from timm_mobilenext.shared.counts import count

LAYERS = 'conv_dw1', 'bn1', 'aa1', 'conv_pw1', 'bn2', 'conv_pw2', 'bn3', 'conv_dw2', 'bn4', 'aa2', 'se'
BOTTLENECK_LAYERS = 'conv_pw1', 'bn2', 'conv_dw1', 'bn1', 'conv_dw2', 'bn4', 'aa2', 'conv_pw2', 'bn3', 'se'


def create(width='035', **kwargs):
    torch.manual_seed(0)
    return randomize(timm.create_model(f'mobilenext_{width}', num_classes=10, **kwargs)).eval()


def adds(model):
    return sum(block.has_skip for stage in model.blocks for block in stage)


def regroup(model, x, layers):
    """The wide network's layers one after the other, narrow tensors of equal shape added: the definition itself."""
    x = model.bn1(model.conv_stem(x))
    narrow = torch.empty(0)
    count = 0
    for stage in model.blocks:
        for block in stage:
            for layer in layers:
                x = getattr(block, layer)(x)
                if layer == 'bn2':
                    if x.shape == narrow.shape:
                        x = x + narrow
                        count += 1
                    narrow = x
    return model.forward_head(x), count


@pytest.mark.parametrize('width, wide, narrow', [
    ('035', 12, 11), ('050', 12, 10), ('075', 12, 9), ('100', 12, 10), ('140', 12, 9)])
def test_only_the_adds_differ(width, wide, narrow):
    models = [
        timm.create_model(f'mobilenext_{width}', num_classes=10, device='meta', **kwargs)
        for kwargs in ({}, dict(narrow_skip=True), dict(noskip=True))]
    assert [adds(model) for model in models] == [wide, narrow, 0]
    shapes = [{key: value.shape for key, value in model.state_dict().items()} for model in models]
    assert shapes[0] == shapes[1] == shapes[2]
    assert count(models[0]) == count(models[1]) == count(models[2])


@pytest.mark.parametrize('kwargs', [
    {},
    dict(width='050'),
    dict(width='100'),
    dict(dw_position='before'),
    dict(dw_position='after'),
    dict(dw_position='bottleneck'),
    dict(linear_bottleneck=False),
    dict(dw_position='before', linear_output=True),
    dict(arch_def=TINY),
], ids=str)
def test_is_the_regrouped_network(kwargs):
    wide = create(**kwargs, dtype=torch.float64)
    narrow = create(**kwargs, narrow_skip=True, dtype=torch.float64)
    narrow.load_state_dict(wide.state_dict())
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    layers = BOTTLENECK_LAYERS if kwargs.get('dw_position') == 'bottleneck' else LAYERS
    expected, count = regroup(wide, x, layers)
    assert count == adds(narrow) > 0
    assert rel_error(narrow(x), expected) < 1e-12
    assert rel_error(narrow(x), wide(x)) > 1e-3


def test_weights_are_drawn_as_for_the_wide_network():
    models = []
    for kwargs in ({}, dict(narrow_skip=True)):
        torch.manual_seed(3)
        models.append(timm.create_model('mobilenext_035', **kwargs).state_dict())
    assert all(torch.equal(models[0][key], models[1][key]) for key in models[0] if 'running' not in key)


def test_dilation_keeps_the_adds():
    assert adds(create(narrow_skip=True, output_stride=8)) == adds(create(narrow_skip=True))


def test_block_without_skip():
    arch_def = [['sg_r1_k3_s2_e2_c32'], ['sg_r3_k3_s2_e6_c96_noskip'], ['sg_r3_k3_s2_e6_c192']]
    model = create(arch_def=arch_def, channel_multiplier=1.0, narrow_skip=True)
    assert [[block.has_skip for block in stage] for stage in model.blocks] == [
        [False], [False, False, False], [False, False, True]]


def test_drop_path_drops_the_branch():
    model = create(narrow_skip=True, drop_path_rate=0.5)
    block = model.blocks[4][2]
    assert isinstance(block.drop_path, timm.layers.DropPath)
    block.drop_path.forward = torch.zeros_like
    x, narrow = torch.randn(2, block.conv_dw1.in_channels, 4, 4), torch.randn(2, block.conv_pw1.out_channels, 4, 4)
    assert torch.equal(block(x, narrow)[1], narrow)


def test_intermediates_and_features():
    model, x = create(narrow_skip=True), torch.randn(2, 3, 64, 64)
    final, taken = model.forward_intermediates(x)
    assert torch.equal(model.forward_head(final), model(x))
    features = timm.create_model('mobilenext_035', features_only=True, narrow_skip=True, out_indices=(1, 3)).eval()
    features.load_state_dict(
        {f'model.{key}': value for key, value in model.state_dict().items()}, strict=False)
    assert features.feature_info.channels() == [48, 136]
    for found, expected in zip(features(x), (taken[1], taken[3]), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize('kwargs', [
    dict(feature_location='bottleneck', feature_cls='getter'), dict(feature_cfg=dict(feature_location='bottleneck'))])
def test_feature_arguments_that_go_with_it(kwargs):
    features = timm.create_model('mobilenext_035', features_only=True, narrow_skip=True, out_indices=(1, 3), **kwargs)
    assert features.feature_info.channels() == [48, 136]


def test_grad_checkpointing():
    model, x = create(narrow_skip=True), torch.randn(2, 3, 64, 64)
    gradients = []
    for enable in (False, True):
        model.zero_grad()
        model.set_grad_checkpointing(enable)
        model(x).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@torch.no_grad()
def test_fold_script_copy_sequential():
    model, x = create(narrow_skip=True), torch.randn(2, 3, 64, 64)
    expected = model(x)
    assert torch.equal(model.as_sequential()(x), expected)
    assert torch.equal(torch.jit.script(model)(x), expected)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), expected)
    folded = reparameterize_model(copy.deepcopy(model))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert rel_error(folded(x), expected) < 1e-4


def test_export():
    model, x = create(narrow_skip=True), torch.randn(2, 3, 64, 64)
    assert torch.equal(torch.export.export(model, (x,)).module()(x), model(x))


@pytest.mark.parametrize('kwargs, message', [
    (dict(noskip=True), 'noskip=True and narrow_skip=True contradict each other: leave one out.'),
    (dict(identity_multiplier=0.5), 'identity_multiplier 0.5 is of the wide shortcut: leave it out with narrow_skip.'),
    (dict(arch_def=[['sg_r1_k3_s2_e2_c32'], ['ir_r1_k3_s2_e6_c32']]),
     'narrow shortcuts run between blocks of type sg alone'),
    (dict(arch_def=[['gsg_r2_k3_s2_e6_c96']]), 'narrow shortcuts run between blocks of type sg alone'),
    (dict(features_only=True, feature_location='expansion'),
     "feature_location 'expansion' does not go with narrow_skip=True: give 'bottleneck', or leave it out."),
    (dict(features_only=True, feature_cfg=dict(feature_cls='hook')),
     "feature_cls 'hook' does not go with narrow_skip=True: give 'getter', or leave it out."),
    (dict(features_only=True, feature_cls='list'),
     "feature_cls 'list' does not go with narrow_skip=True: give 'getter', or leave it out."),
])
def test_bad_input(kwargs, message):
    with pytest.raises(ValueError) as e:
        timm.create_model('mobilenext_035', narrow_skip=True, **kwargs)
    assert message in str(e.value)
    assert len(str(e.value).splitlines()) == 1
