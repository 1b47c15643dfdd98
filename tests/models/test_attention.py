"""Attention: which layer, where it sits, and what asks for it."""
from functools import partial

import pytest
import torch
from helpers import COORD, HAS_COORD, randomize, reparameterize_model
from torch import nn

import timm
from timm.layers import SEModule

from timm_mobilenext import BlockStringError, create_mobilenext, SandglassBlock

FIRST = [['sg_r1_k3_s2_e2_c32'], ['sg_r2_k3_s1_e6_c96_se0.25_sefirst']]


def attention(model):
    """Name and layer of each attention of a network."""
    return {name: m for name, m in model.named_modules() if name.endswith('.se') and not isinstance(m, nn.Identity)}


def blocks(model):
    return [block for stage in model.blocks for block in stage]


@pytest.mark.parametrize('shape, has_first', [
    (dict(out_chs=32), True), (dict(out_chs=64, keep_dw=True), True), (dict(out_chs=64, stride=2, exp_ratio=2), True),
    (dict(out_chs=64, stride=2), False), (dict(out_chs=64), False),
    (dict(out_chs=32, dw_position='after'), False), (dict(out_chs=64, stride=2, dw_position='before'), True),
    (dict(out_chs=32, dw_position='bottleneck'), True),
])
def test_behind_the_first_depthwise_convolution(shape, has_first):
    block = SandglassBlock(32, se_layer=SEModule, se_position='first', **shape).eval()
    if not has_first:
        assert isinstance(block.se, nn.Identity)
        return
    calls = []
    block.bn1.register_forward_hook(lambda m, args, out: calls.append(out.clone()))
    block.se.register_forward_hook(lambda m, args, out: calls.append(args[0].clone()))
    block(torch.randn(2, 32, 8, 8))
    assert len(calls) == 2 and torch.equal(*calls)
    assert block.se.fc1.in_channels == block.conv_dw1.out_channels


def test_behind_the_last_depthwise_convolution():
    block = SandglassBlock(32, 64, stride=2, se_layer=SEModule).eval()
    x = torch.randn(2, 32, 8, 8)
    bare = SandglassBlock(32, 64, stride=2).eval()
    bare.load_state_dict({k: v for k, v in block.state_dict().items() if not k.startswith('se.')})
    torch.testing.assert_close(block(x), block.se(bare(x)))


def test_impossible_position():
    with pytest.raises(ValueError, match="se_position 'middle' is not one of first, last"):
        SandglassBlock(32, 32, se_layer=SEModule, se_position='middle')


# the networks

@pytest.mark.parametrize('name, num_params', [
    ('mobilenext_100_se', 3.89e6), pytest.param('mobilenext_100_ca', 4.09e6, marks=COORD)])
def test_parameters_of_the_paper(name, num_params):
    model = timm.create_model(name)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(num_params, abs=0.03e6)
    assert len(attention(model)) == 15
    for block in blocks(model):
        assert isinstance(block.se, nn.Identity) == isinstance(block.conv_dw1, nn.Identity)


@COORD
def test_coordinate_attention_of_the_paper():
    for layer in attention(timm.create_model('mobilenext_050_ca')).values():
        assert type(layer).__name__ == 'CoordAttn' and isinstance(layer.act, nn.Hardswish)


@pytest.mark.skipif(HAS_COORD, reason='this timm has Coordinate Attention')
def test_coordinate_attention_of_an_older_timm():
    with pytest.raises(ValueError, match='Coordinate Attention came with timm 1.0.23'):
        timm.create_model('mobilenext_050_ca')


def test_squeeze_and_excitation_reduces_by_24():
    layers = attention(timm.create_model('mobilenext_100_se'))
    assert [layer.conv_reduce.out_channels for layer in layers.values()][-1] == 960 // 24


@pytest.mark.parametrize('name', ['mobilenext_050_se', 'mobilenext_050_ca'])
def test_a_ratio_of_0_takes_attention_out(name):
    assert not attention(timm.create_model(name, se_ratio=0))


@pytest.mark.parametrize('name', ['mobilenext_050_se', 'mobilenext_s', 'mobilenext_l_ghost'])
def test_a_layer_without_a_ratio_takes_none(name):
    layers = attention(timm.create_model(name, se_layer='ese', device='meta'))
    assert list(layers) == list(attention(timm.create_model(name, device='meta')))
    assert {type(layer).__name__ for layer in layers.values()} == {'EffectiveSEModule'}
    with pytest.raises(ValueError, match="se_ratio 0.5 does not go with se_layer 'ese': leave one out"):
        timm.create_model(name, se_layer='ese', se_ratio=0.5)


@pytest.mark.parametrize('name', ['mobilenext_100', 'mobilenext_s', 'mobilenext_l_ghost'])
def test_ratio_with_an_architecture_of_ones_own(name):
    arch_def = [['sg_r1_k3_s2_e2_c96'], ['sg_r1_k3_s1_e6_c96']]
    create = partial(timm.create_model, name, arch_def=arch_def, depth_multiplier=1.0)
    assert not attention(create())
    assert [layer.conv_reduce.out_channels for layer in attention(create(se_ratio=1 / 12)).values()] == [4, 1]


def test_ratio_is_any_number():
    layers = attention(timm.create_model('mobilenext_s', se_ratio=1 / 12, device='meta'))
    assert [layer.conv_reduce.out_channels for layer in layers.values()][-1] == round(1280 / 6 / 12)


# arguments of a network

@pytest.mark.parametrize('kwargs', [
    dict(se_layer='eca'), dict(se_layer='ese'), dict(se_layer='se', se_ratio=0.5), dict(se_layer=SEModule),
    dict(se_layer=partial(SEModule, rd_divisor=1)), dict(se_ratio=0.25), dict(se_ratio=0.25, se_position='first'),
    dict(se_layer='cbam', se_position='first'), dict(se_layer='gc', dw_position='bottleneck', se_position='first'),
    dict(se_ratio=0.25, narrow_skip=True, se_position='first'),
], ids=str)
def test_arguments_build_attention(kwargs):
    model = randomize(timm.create_model('mobilenext_035', **kwargs)).eval()
    is_first = kwargs.get('se_position') == 'first'
    assert len(attention(model)) == sum(
        not is_first or not isinstance(block.conv_dw1, nn.Identity) for block in blocks(model))
    x = torch.randn(2, 3, 64, 64)
    out = model(x)
    for layer in attention(model).values():
        layer.forward = lambda x: 0.5 * x
    assert not torch.allclose(model(x), out)


def test_the_layer_replaces_those_that_are_there():
    model = timm.create_model('mobilenext_100', arch_def=FIRST, se_layer='eca')
    assert {name: type(layer).__name__ for name, layer in attention(model).items()} == {
        'blocks.1.1.se': 'EcaModule'}


def test_a_layer_takes_the_activation_unless_it_has_its_own():
    class Recorder(nn.Identity):
        def __init__(self, chs, act_layer=None):
            super().__init__()
            self.act_layer = act_layer

    for se_layer, act in ((Recorder, nn.SiLU), (partial(Recorder, act_layer=nn.Mish), nn.Mish)):
        model = create_mobilenext([['sg_r1_k3_s2_e2_c32_se0.25']], se_layer=se_layer, act_layer='silu')
        assert model.blocks[0][0].se.act_layer is act


@pytest.mark.parametrize('kwargs, message', [
    (dict(se_layer='eca', se_ratio=0), 'se_ratio 0 does not go with se_layer'),
    (dict(se_layer='ela' if HAS_COORD else 'ese', se_ratio=0.25), 'leave one out'),
    (dict(se_position='first'), "se_position 'first': no block has attention"),
    (dict(se_layer=False), 'give se_ratio=0'),
    (dict(se_ratio=-1), 'is not a number from 0'),
    (dict(se_ratio='a quarter'), 'is not a number from 0'),
    (dict(se_ratio=0.25, se_position='middle'), 'is not one of first, last'),
    (dict(se_ratio=0.25, se_position='first', dw_position='after'), 'needs a first depthwise convolution'),
    (dict(se_layer='bottleneck'), 'feature size'),
    (dict(se_layer='foo'), "Unknown attention layer 'foo'"),
    (dict(se_layer='eca', arch_def=[['ir_r1_k3_s2_e4_c32']]), "se_layer 'eca': no block has attention"),
    (dict(model_name='mobilenext_s', block_type='gsg', arch_def=FIRST), "block_type 'gsg' .* leave it out"),
], ids=str)
def test_no_argument_is_ignored(kwargs, message):
    with pytest.raises(ValueError, match=message):
        timm.create_model(**dict(dict(model_name='mobilenext_035'), **kwargs))


def test_a_bug_of_a_layer_of_ones_own_is_shown():
    class Broken(nn.Module):
        def __init__(self, chs):
            super().__init__()
            len(chs)

    with pytest.raises(TypeError, match='has no len'):
        timm.create_model('mobilenext_035', se_layer=Broken)


# block strings

@pytest.mark.parametrize('tokens, layer, position', [
    ('se0.25', 'SqueezeExcite', 'last'), ('se0.25_sefirst', 'SqueezeExcite', 'first'), ('ateca', 'EcaModule', 'last'),
    ('atse_sefirst', 'SEModule', 'first'), ('atse_se0.5_selast', 'SEModule', 'last'),
    pytest.param('atcoord_sefirst', 'CoordAttn', 'first', marks=COORD),
])
def test_block_strings(tokens, layer, position):
    model = create_mobilenext([['sg_r1_k3_s2_e2_c32'], [f'sg_r2_k3_s1_e6_c96_{tokens}']])
    block = model.blocks[1][1]
    assert type(block.se).__name__ == layer and block.is_se_first == (position == 'first')
    assert isinstance(model.blocks[0][0].se, nn.Identity)


@pytest.mark.parametrize('tokens, message', [
    ('ateca_se0.25', None), ('atceca_se0.25', 'takes no ratio'), ('sefirst', 'places an attention'),
    ('se0.25_sefirst_selast', 'contradict'), ('atfoo', "Unknown attention layer 'foo'"), ('at', 'needs the name'),
])
def test_impossible_block_strings(tokens, message):
    arch_def = [[f'sg_r1_k3_s1_e6_c32_{tokens}']]
    if message is None:
        create_mobilenext(arch_def)
        return
    with pytest.raises(BlockStringError, match=message):
        create_mobilenext(arch_def)


@pytest.mark.parametrize('position', ['first', 'last'])
@pytest.mark.parametrize('layer, size', [
    *((name, 40) for name in 'se ese eca ecam ceca gc gca cbam lcbam sk splat nl lambda'.split()),
    *(pytest.param(name, 40, marks=COORD) for name in 'coord scoord ela strip'.split()),
    # which cut their feature maps into blocks of 8 and 7 parts
    ('halo', 32), ('bat', 28),
], ids=str)
def test_layers_of_timm_script(layer, size, position):
    arch_def = [['sg_r1_k3_s2_e2_c16'], ['sg_r2_k3_s1_e2_c32_keepdw']]
    model = randomize(create_mobilenext(
        arch_def, se_layer=layer, se_position=position, stem_size=16, num_classes=3)).eval()
    assert len(attention(model)) == 3
    x = torch.randn(2, 3, size, 2 * size)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(model)(x), model(x))


# everything that holds for the family

@pytest.mark.parametrize('name', ['mobilenext_050_se', pytest.param('mobilenext_050_ca', marks=COORD)])
def test_fold_script_channels_last_checkpointing(name):
    model = randomize(timm.create_model(name)).eval()
    x = torch.randn(2, 3, 64, 96)
    out = model(x)
    torch.testing.assert_close(torch.jit.script(model)(x), out)
    torch.testing.assert_close(
        model.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last)),
        out, rtol=1e-3, atol=1e-4)
    gradients = []
    for is_checkpointed in (False, True):
        model.zero_grad()
        model.set_grad_checkpointing(is_checkpointed)
        model(x).sum().backward()
        gradients.append(model.conv_stem.weight.grad.clone())
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)
    model.set_grad_checkpointing(False)
    torch.testing.assert_close(reparameterize_model(model)(x), out, rtol=1e-3, atol=1e-4)
