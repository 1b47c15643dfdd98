"""Block strings, and networks built from them."""
import inspect
import re

import pytest
import torch
from helpers import randomize, rel_error, reparameterize_model, TINY
from hypothesis import given, HealthCheck, settings
from hypothesis import strategies as st
from torch import nn

import timm
import timm.models.efficientnet
import timm.models.mobilenetv3

from timm_mobilenext import (
    BlockStringError,
    create_mobilenext,
    decode_arch_def,
    GhostSandglassBlock,
    SandglassBlock,
)
from timm_mobilenext.models import block_strings

quick = settings(deadline=None, max_examples=60, derandomize=True, suppress_health_check=list(HealthCheck))


def blocks_of(model):
    return [block for stage in model.blocks for block in stage]


def convs_of(block):
    return {name for name in ('dw1', 'pw1', 'pw2', 'dw2') if isinstance(getattr(block, f'conv_{name}'), nn.Conv2d)}


def skip_channels(block):
    """How many channels the shortcut covers, seen from the gradient under a silent branch."""
    nn.init.zeros_(block.conv_pw1.weight)
    x = torch.randn(2, block.conv_pw1.in_channels, 4, 4, requires_grad=True)
    block(x).sum().backward()
    covered = x.grad.ne(0).all(0).flatten(1).all(1)
    assert torch.equal(covered, torch.arange(len(covered)) < covered.sum())
    return int(covered.sum())


def build(block_str, stem='sg_r1_k3_s2_e2_c32', **kwargs):
    return blocks_of(create_mobilenext([[stem], [block_str]], num_classes=2, **kwargs))[1:]


# what each token does

def test_plain_string():
    blocks = build('sg_r3_k5_s2_e4_c64')
    assert len(blocks) == 3 and all(isinstance(block, SandglassBlock) for block in blocks)
    assert [convs_of(block) for block in blocks] == [{'pw1', 'pw2', 'dw2'}] + 2 * [{'dw1', 'pw1', 'pw2', 'dw2'}]
    assert [block.conv_dw2.stride for block in blocks] == [(2, 2), (1, 1), (1, 1)]
    assert all(block.conv_dw2.kernel_size == (5, 5) for block in blocks)
    assert [block.conv_pw1.out_channels for block in blocks] == [16, 16, 16]  # 8 is under 64 / 6, then 64 // 4
    assert [skip_channels(block) for block in blocks] == [0, 64, 64]


def test_reduction_is_6_if_left_out():
    assert build('sg_r1_k3_s1_c96')[0].conv_pw1.out_channels == build('sg_r1_k3_s1_e6_c96')[0].conv_pw1.out_channels


@pytest.mark.parametrize('token, convs', [
    ('dwboth', {'dw1', 'pw1', 'pw2', 'dw2'}), ('dwbefore', {'dw1', 'pw1', 'pw2'}), ('dwafter', {'pw1', 'pw2', 'dw2'}),
    ('dwbottleneck', {'dw1', 'pw1', 'pw2', 'dw2'}),
])
@pytest.mark.parametrize('network', [dict(), dict(dw_position='after'), dict(dw_position='bottleneck')])
def test_dw_token_beats_the_network(token, convs, network):
    block, = build(f'sg_r1_k3_s1_e2_c32_{token}', **network)
    assert convs_of(block) == convs
    if 'dw1' in convs:
        assert (block.conv_dw1.in_channels < 32) == (token == 'dwbottleneck')


@pytest.mark.parametrize('token, num_skip', [
    ('', 32), ('_id1', 32), ('_id0.5', 16), ('_id1/2', 16), ('_id1/3', 10), ('_id0.25', 8), ('_id1/6', 5),
    ('_noskip', 0),
])
@pytest.mark.parametrize('network', [dict(), dict(identity_multiplier=0.25)])
def test_id_token_beats_the_network(token, num_skip, network):
    block, = build('sg_r1_k3_s1_e2_c32' + token, **network)
    assert skip_channels(block) == (num_skip if token or not network else 8)


def test_noskip_of_the_network():
    assert [skip_channels(block) for block in build('sg_r2_k3_s1_e2_c32', noskip=True)] == [0, 0]


@pytest.mark.parametrize('token, network, groups', [
    ('', dict(), 32), ('_gs4', dict(), 8), ('', dict(group_size=8), 4), ('_gs4', dict(group_size=8), 8),
    ('_gs0', dict(group_size=8), 1), ('_gs1', dict(group_size=8), 32),
])
def test_group_size(token, network, groups):
    block, = build('sg_r1_k3_s1_e2_c32' + token, **network)
    assert (block.conv_dw1.groups, block.conv_pw1.groups, block.conv_dw2.groups) == (groups, 1, groups)


@pytest.mark.parametrize('token, act_layer', [
    ('', nn.ReLU6), ('_nre', nn.ReLU), ('_nr6', nn.ReLU6), ('_nhs', 'hard_swish'), ('_nsw', nn.SiLU), ('_nmi', 'mish'),
])
def test_activation(token, act_layer):
    for network in (dict(), dict(act_layer='gelu')):
        block, = build('sg_r1_k3_s1_e2_c32_se0.25' + token, **network)
        cls = timm.layers.get_act_layer('gelu' if network and not token else act_layer)
        assert isinstance(block.bn1.act, cls) and isinstance(block.bn3.act, cls) and isinstance(block.se.act1, cls)
        assert isinstance(block.bn2.act, nn.Identity)


@pytest.mark.parametrize('token, network', [('_nonlinear', dict()), ('', dict(linear_bottleneck=False))])
def test_nonlinear(token, network):
    block, = build('sg_r1_k3_s1_e2_c32' + token, **network)
    assert isinstance(block.bn2.act, nn.ReLU6)


def test_linear_output_reaches_every_block():
    arch_def = [['sg_r1_k3_s2_e6_c32'], ['gsg_r2_k3_s1_e6_c32'], ['sg_r1_k3_s1_e6_c64']]
    for linear, acts in ((False, [nn.ReLU6] * 4), (True, [nn.Identity] * 3 + [nn.ReLU6])):  # the last has none to lose
        network = create_mobilenext(arch_def, dw_position='before', linear_output=linear)
        assert [type(block.bn3.act) for stage in network.blocks for block in stage] == acts


@pytest.mark.parametrize('token, num', [('_se0.25', 5), ('_se0.5', 11), ('_se0.0001', 1), ('_se0', None), ('', None)])
def test_se_is_a_ratio_of_the_bottleneck(token, num):
    block, = build('sg_r1_k3_s1_e6_c128' + token)  # 128 / 6 * 0.25
    assert num == (block.se.conv_reduce.out_channels if num else None)
    assert num or isinstance(block.se, nn.Identity)


@pytest.mark.parametrize('se_layer', ['se', 'eca', 'ese', timm.layers.SEModule])
def test_se_layer_of_the_network(se_layer):
    block, = build('sg_r1_k3_s1_e6_c32_se0.25', se_layer=se_layer)
    assert isinstance(block.se, timm.layers.get_attn(se_layer))


def test_keepdw_is_for_the_first_block():
    first, second = build('sg_r2_k3_s1_e6_c64_keepdw')
    assert convs_of(first) == convs_of(second) == {'dw1', 'pw1', 'pw2', 'dw2'}
    assert (skip_channels(first), skip_channels(second)) == (0, 64)
    plain, _ = build('sg_r2_k3_s1_e6_c64')
    assert convs_of(plain) == {'pw1', 'pw2'}


@pytest.mark.parametrize('width, plain, kept', [(0.5, 64, 128), (1.0, 128, 128), (1.5, 192, 192)])
def test_keepc(width, plain, kept):
    assert build('sg_r1_k3_s1_c128', channel_multiplier=width)[0].conv_pw2.out_channels == plain
    assert build('sg_r1_k3_s1_c128_keepc', channel_multiplier=width)[0].conv_pw2.out_channels == kept


# multipliers and output stride, as in timm

@pytest.mark.parametrize('width, stem, chs', [
    # multiples of 8, at least 8, and no more than a tenth under what is asked for
    (0.35, 16, [16, 16, 24, 32]), (0.5, 16, [16, 24, 32, 48]), (1.0, 32, [32, 48, 64, 96]),
    (1.4, 48, [48, 64, 88, 136]), (0.01, 8, [8, 8, 8, 8]),
])
def test_width_multiplier(width, stem, chs):
    model = create_mobilenext(TINY, channel_multiplier=width)
    assert model.conv_stem.out_channels == stem
    assert [stage[-1].conv_pw2.out_channels for stage in model.blocks] == chs
    twin = create_mobilenext([[f'cn_r1_k1_s1_c{c}' for c in (32, 48, 64, 96)]], channel_multiplier=width)
    assert [block.conv.out_channels for block in twin.blocks[0]] == chs
    assert create_mobilenext(TINY, channel_multiplier=width, fix_stem=True).conv_stem.out_channels == 32


@pytest.mark.parametrize('depth, lengths', [
    (1.0, [3, 1, 3]), (1.1, [4, 2, 4]), (2.0, [6, 2, 6]), (0.5, [2, 1, 2]), ((2.0, 1.0, 1.0), [6, 1, 3]),
])
def test_depth_multiplier(depth, lengths):
    """As timm's own decoder scales the same definition, a tuple by stage included."""
    sg = [['sg_r3_k3_s2_e6_c16'], ['sg_r1_k3_s1_e6_c24'], ['sg_r1_k3_s1_e6_c24', 'sg_r2_k3_s1_e6_c24']]
    ir = [[block_str.replace('sg', 'ir') for block_str in stage] for stage in sg]
    assert [len(stage) for stage in timm.models._efficientnet_builder.decode_arch_def(ir, depth)] == lengths
    assert [len(stage) for stage in create_mobilenext(sg, depth_multiplier=depth).blocks] == lengths
    assert [len(stage) for stage in create_mobilenext(ir, depth_multiplier=depth).blocks] == lengths


@pytest.mark.parametrize('depth_trunc, fix, lengths', [('ceil', False, [4, 4]), ('round', False, [3, 3]), (
    'ceil', True, [3, 3])])
def test_decode_arch_def(depth_trunc, fix, lengths):
    arch_def = [['sg_r3_k3_s2_c16'], ['ir_r3_k3_s2_e4_c16']]
    stages = decode_arch_def(arch_def, 1.1, depth_trunc=depth_trunc, fix_first_last=fix, dw_position='after')
    assert [len(stage) for stage in stages] == lengths
    assert all(args['dw_position'] == 'after' for args in stages[0])
    assert all('dw_position' not in args for args in stages[1])


def test_depth_multiplier_keeps_the_rules_of_the_first_block():
    model = create_mobilenext([['sg_r1_k3_s2_e2_c32'], ['sg_r1_k3_s1_e6_c64_keepdw']], depth_multiplier=2.0)
    assert [skip_channels(block) for block in blocks_of(model)] == [0, 32, 0, 64]
    assert [block.conv_dw2.stride for block in blocks_of(model)] == [(2, 2), (1, 1), (1, 1), (1, 1)]


def test_drop_path_decays():
    blocks = blocks_of(create_mobilenext([['sg_r2_k3_s2_e2_c32'], ['sg_r2_k3_s2_e6_c32']], drop_path_rate=0.2))
    rates = [getattr(block.drop_path, 'drop_prob', 0.) for block in blocks]
    assert rates == pytest.approx([0., 0.05, 0.1, 0.15])


@pytest.mark.parametrize('kwargs', [dict(), dict(dw_position='before'), dict(dw_position='bottleneck')])
@pytest.mark.parametrize('output_stride, size, reductions', [
    (32, 2, [2, 4, 8, 16, 32]), (16, 4, [2, 4, 8, 16, 16]), (8, 8, [2, 4, 8, 8, 8]), (4, 16, [2, 4, 4, 4, 4]),
])
def test_output_stride(output_stride, size, reductions, kwargs):
    arch_def = [['sg_r1_k3_s2_e2_c32'], ['sg_r2_k3_s2_e6_c32'], ['sg_r2_k3_s2_e6_c64'], ['sg_r2_k3_s2_e6_c64']]
    plain = create_mobilenext(arch_def, **kwargs)
    model = create_mobilenext(arch_def, output_stride=output_stride, **kwargs)
    expected = {key: value.shape for key, value in plain.state_dict().items()}
    assert {key: value.shape for key, value in model.state_dict().items()} == expected
    x = torch.randn(2, 3, 64, 64)
    assert model.forward_features(x).shape[-1] == size
    assert [skip_channels(block) for block in blocks_of(model)] == [skip_channels(block) for block in blocks_of(plain)]
    for location in ('bottleneck', 'expansion', 'downsample'):
        features = create_mobilenext(
            arch_def, output_stride=output_stride, features_only=True, feature_location=location, **kwargs)
        assert features.feature_info.reduction() == reductions
        for feature, reduction, chs in zip(features(x), reductions, features.feature_info.channels(), strict=True):
            assert feature.shape == (2, chs, 64 // reduction, 64 // reduction)


def test_dilation_sees_the_same_pixels():
    """At output stride 16 every second pixel of the last stage is what it was at 32, as long as nothing is between."""
    arch_def = [['sg_r1_k3_s2_e2_c16'], ['sg_r2_k3_s2_e6_c32'], ['sg_r2_k3_s2_e6_c32']]
    plain = randomize(create_mobilenext(arch_def)).eval()
    dilated = create_mobilenext(arch_def, output_stride=8).eval()
    dilated.load_state_dict(plain.state_dict())
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(dilated.forward_features(x)[:, :, ::2, ::2], plain.forward_features(x))


# networks of one's own

def test_create_mobilenext_is_create_model():
    models = []
    for create in (lambda **kw: create_mobilenext(TINY, **kw),
                   lambda **kw: timm.create_model('mobilenext_100', arch_def=TINY, **kw)):
        torch.manual_seed(1)
        models.append(create(num_classes=7, drop_rate=0.1, channel_multiplier=0.5))
    ours, theirs = (model.state_dict() for model in models)
    assert list(ours) == list(theirs) and all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert type(models[0]) is type(models[1]) and models[0].drop_rate == models[1].drop_rate == 0.1


def test_arch_def_is_not_changed():
    arch_def = [['sg_r2_k3_s2_e2_c32_keepdw'], ['ir_r1_k3_s1_e4_c32']]
    create_mobilenext(arch_def)
    assert arch_def == [['sg_r2_k3_s2_e2_c32_keepdw'], ['ir_r1_k3_s1_e4_c32']]
    tuples = tuple(tuple(stage) for stage in arch_def)
    assert list(create_mobilenext(tuples).state_dict()) == list(create_mobilenext(arch_def).state_dict())


TIMM_STRINGS = {
    'ir': 'ir_r2_k3_s{s}_e4_c32_se0.25', 'ir-cc': 'ir_r1_k3_s{s}_e4_c32_cc2', 'ds': 'ds_r2_k3_s{s}_c32_se0.25',
    'dsa': 'dsa_r2_k3_s{s}_c32', 'er': 'er_r2_k3_s{s}_e4_c32', 'cn': 'cn_r2_k3_s{s}_c32_skip',
    'uir': 'uir_r2_a3_k5_s{s}_e4_c32', 'mha': 'mha_r2_k3_s{s}_h2_d16_c32', 'mqa': 'mqa_r2_k3_s{s}_h2_d16_v2_c32',
    's2d': 'ir_r1_k3_s1_e1_c8_d1',
}


def run(arch_def):
    model = create_mobilenext(arch_def, num_classes=4, drop_path_rate=0.1)
    assert randomize(model).eval()(torch.randn(1, 3, 64, 64)).isfinite().all()
    model.train()(torch.randn(2, 3, 64, 64)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('name', [name for name in TIMM_STRINGS if name != 's2d'])
def test_mixes_with_timms_blocks(name, stride):
    """Inside a stage, as a stage between sandglass blocks, and as the one that a feature is taken from."""
    block_str = TIMM_STRINGS[name].format(s=stride)
    sg, sg2 = 'sg_r1_k3_s1_e6_c32', 'sg_r1_k3_s2_e2_c32'
    run([[sg2], [sg, block_str.replace('_s2', '_s1'), sg], [block_str, sg]])


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('name', [name for name in TIMM_STRINGS if name != 's2d'])
def test_timms_blocks_may_end_a_stage(name, stride):
    block_str = TIMM_STRINGS[name].format(s=stride)
    run([['sg_r1_k3_s2_e2_c32'], [block_str], ['sg_r1_k3_s2_e2_c32']])
    run([['sg_r1_k3_s2_e2_c32'], [block_str]])
    features = create_mobilenext([['sg_r1_k3_s2_e2_c32'], [block_str]], features_only=True)
    assert features(torch.randn(1, 3, 32, 32))[-1].shape[1] == features.feature_info.channels()[-1] == 32


def test_all_in_one():
    stages = [[block_str.format(s=1)] for name, block_str in TIMM_STRINGS.items() if name not in ('s2d', 'mha', 'mqa')]
    run([['sg_r1_k3_s2_e2_c32'], *stages, ['mha_r1_k3_s1_h2_d16_c32', 'mqa_r1_k3_s1_h2_d16_c32', 'sg_r2_k3_s1_c64']])


def timms_own_strings():
    source = inspect.getsource(timm.models.efficientnet) + inspect.getsource(timm.models.mobilenetv3)
    return sorted(set(re.findall(r"'((?:ir|dsa?|er|cn|uir|mha|mqa)_r\d+_[^'{]*)'", source)))


def test_takes_every_string_that_timm_uses():
    strings = timms_own_strings()
    assert len(strings) > 200 and {s.split('_')[0] for s in strings} > {'ir', 'ds', 'er', 'cn', 'uir', 'mqa'}
    for block_str in strings:
        ours, = decode_arch_def([[block_str]])
        theirs, = timm.models._efficientnet_builder.decode_arch_def([[block_str]])
        for our_args, their_args in zip(ours, theirs, strict=True):
            assert {key: our_args[key] for key in their_args} == their_args


# bad strings: (string, what its message has to name)
BAD_STRINGS = [
    ('sg_r1_k3_s2_c32_x5', ['"x5"', 'takes', 'keepdw']),
    ('sg_r1_k3_s3_c32', ['"s3"', '1 or 2']),
    ('sg_r0_k3_s1_c32', ['"r0"', 'whole number from 1']),
    ('sg_r1_k4_s1_c32', ['"k4"', 'odd']),
    ('sg_r1_k3.5_s1_c32', ['"k3.5"', 'odd']),
    ('sg_r1_k3_s1_c0', ['"c0"', 'whole number from 1']),
    ('sg_r1_k3_s1_c32.5', ['"c32.5"', 'whole number']),
    ('sg_r1_k3_s1_c-8', ['"c-8"', 'whole number']),
    ('sg_r1_k3_s1_e0.5_c32', ['"e0.5"', 'from 1']),
    ('sg_r1_k3_s1_esix_c32', ['"esix"', 'number']),
    ('sg_r1_k3_s1_e_c32', ['"e"', 'number']),
    ('sg_r1_k3_s1_c32_id0', ['"id0"', '(0, 1]']),
    ('sg_r1_k3_s1_c32_id2', ['"id2"', '(0, 1]']),
    ('sg_r1_k3_s1_c32_id1/0', ['"id1/0"', '(0, 1]']),
    ('sg_r1_k3_s1_c32_idhalf', ['"idhalf"', '(0, 1]']),
    ('sg_r1_k3_s1_c32_dwmiddle', ['"dwmiddle"', 'both, before, after, bottleneck']),
    ('sg_r1_k3_s1_c32_nelu', ['"nelu"', 're, r6, hs, sw or mi']),
    ('sg_r1_k3_s1_c32_noskp', ['"noskp"', 're, r6, hs, sw or mi']),
    ('sg_r1_k3_s1_c32_keepdw1', ['"keepdw1"', 'nothing after "keepdw"']),
    ('sg_r1_k3_s1_c32_skip', ['"skip"', 'takes']),
    ('sg_r1_k3_s1_c32_r2', ['"r2"', 'once']),
    ('sg_r1_k3_s1_c32_noskip_noskip', ['"noskip"', 'once']),
    ('sg_k3_s1_c32', ['"r"', 'missing', 'needs']),
    ('sg_r1_k3_s1', ['"c"', 'missing']),
    ('sg', ['"r"', 'missing']),
    ('sg_r1_k3_s1_c32_', ['""', 'takes']),
    ('SG_r1_k3_s1_c32', ['"SG"', 'allowed are', 'sg, ir']),
    ('sandglass_r1_k3_s1_c32', ['"sandglass"', 'allowed are']),
    ('', ['""', 'allowed are']),
    (' sg_r1_k3_s1_c32', ['" sg"', 'allowed are']),
    ('sg_r\u0661_k3_s1_c32', ['"r\u0661"', 'whole number']),
    ('ir_r1_k3_s1_c32', ['"e"', 'missing']),
    ('ir_r1_k3_s1_e4_c32_id0.5', ['"id0.5"', 'type ir takes']),
    ('ds_r1_k3_s1_c32_dwafter', ['"dwafter"', 'type ds takes']),
    ('mqa_r1_k3_s1_d16_c32', ['"h"', 'missing']),
    ('uir_r1_k4_s1_e4_c32', ['"k4"', 'odd number, or 0']),
    # what only building finds
    ('sg_r1_k3_s1_c32_gs7', ['group_size 7', '32 channels']),
    ('sg_r1_k3_s1_c32_id0.001', ['identity_multiplier', '0.001', '1/32']),
    ('cn_r1_k3_s1_c32_gs7', ['32 channels']),
    ('mha_r1_k3_s1_h2_d16_c32_se0.5', ['"se0.5"', 'type mha takes']),
]


@pytest.mark.parametrize('block_str', ['{}', 'sg_r1_{}', 'sg_r1_k{}', 'ir_r1_{}', 'ir_r1_k{}_s1'])
def test_long_strings_are_cut(block_str):
    with pytest.raises(BlockStringError) as info:
        timm.create_model('mobilenext_035', arch_def=[[block_str.format('x' * 5000)]])
    assert len(str(info.value)) < 1000


@pytest.mark.parametrize('block_str, words', BAD_STRINGS)
def test_bad_string(block_str, words):
    with pytest.raises(BlockStringError) as info:
        create_mobilenext([['sg_r1_k3_s2_e2_c32'], [block_str]])
    message = str(info.value)
    assert len(message.splitlines()) == 1
    assert f'"{block_str}"' in message and all(word in message for word in words)
    assert isinstance(info.value, ValueError)


@pytest.mark.parametrize('block_str, token', [
    ('sg_r2_k3_s2_e6_c32', 's2'), ('gsg_r1_k3_s2_e6_c32', 's2'), ('ir_r1_k3_s2_e4_c32', 's2'),
    ('sg_r1_k3_s1_e6_c64_keepdw', 'keepdw'),
])
def test_tokens_of_a_stages_first_block(block_str, token):
    """In a later string of a stage they would have no effect."""
    create_mobilenext([['sg_r1_k3_s2_e2_c32'], [block_str]], num_classes=2)
    with pytest.raises(BlockStringError) as info:
        create_mobilenext([['sg_r1_k3_s2_e2_c32', block_str]], num_classes=2)
    message = str(info.value)
    assert f'"{block_str}"' in message and f'"{token}"' in message and 'stage of its own' in message
    assert len(message.splitlines()) == 1


def test_later_string_of_a_stage():
    arch_def = [['sg_r1_k3_s2_e2_c32'], ['sg_r2_k3_s2_e6_c48_noskip', 'sg_r2_k5_s1_e6_c48', 'ir_r1_k3_s1_e4_c48']]
    for output_stride in (32, 2):
        model = create_mobilenext(arch_def, num_classes=2, output_stride=output_stride)
        assert [getattr(block, 'has_skip', None) for block in model.blocks[1]] == [False, False, True, True, True]


@pytest.mark.parametrize('arch_def', [
    [['ir_r2_k3_s1_c32_e4_se0.0001']],                   # no channel left to squeeze-and-excitation
    [['er_r1_k3_s1_c32_e4_se0.0001']],
    [['ir_r1_k3_s2_e1_c32_d1']],                         # space to depth in a block with a stride
    [['ds_r1_k3_s1_c32_d1'], ['ds_r1_k3_s2_c32']],       # which ends in a block that has no reduction
    [['ir_r1_k3_s1_e1_c32_d1'], ['cn_r1_k3_s2_c32']],
    [['ir_r1_k3_s1_e1_c32_d1'], ['sg_r1_k3_s2_c32']],
    [['ir_r1_k3_s1_e1_c32_d1'], ['sg_r1_k3_s2_e2_c32']],
    [['uir_r1_k0_s2_e4_c32']],                           # no depthwise convolution to carry the stride
    [['mqa_r1_k3_s1_h2_d16_c32_gs4']],
])
def test_valid_tokens_that_do_not_go_together(arch_def):
    """They build and run, or the error is ours."""
    try:
        model = create_mobilenext(arch_def, num_classes=2)
    except BlockStringError as e:
        assert len(str(e).splitlines()) == 1
    else:
        model(torch.randn(2, 3, 64, 64))


def test_ghost_strings():
    """se is a ratio of a ghost block's input, pg of the 1x1 convolutions between two depthwise ones."""
    blocks = build('gsg_r2_k5_s2_e2_c64_se0.5_pg2')
    assert all(isinstance(block, GhostSandglassBlock) for block in blocks)
    assert [block.se.conv_reduce.out_channels for block in blocks] == [16, 32]
    assert [block.conv_pw1.in_channels for block in blocks] == [16, 32]
    assert all(block.conv_pw1.groups == block.conv_pw2.groups == 2 for block in blocks)


# any string at all

@st.composite
def sandglass_strings(draw):
    tokens = [
        f'r{draw(st.integers(1, 2))}', f'k{draw(st.sampled_from([1, 3, 5, 7]))}', f's{draw(st.integers(1, 2))}',
        f'c{draw(st.integers(1, 64))}',
    ]
    optional = dict(
        e=['1', '2', '2.5', '6', '12'], se=['0', '0.25', '0.001', '1'], gs=['0', '1'], n=['re', 'r6', 'hs', 'sw', 'mi'],
        id=['1', '1.0', '0.5', '0.25', '1/2', '1/3', '1/6', '3/4'], dw=['before', 'after', 'both', 'bottleneck'],
        pg=['1'], noskip=[''], keepdw=[''], keepc=[''], nonlinear=[''],
    )
    for key in draw(st.sets(st.sampled_from(sorted(optional)))):
        tokens.append(key + draw(st.sampled_from(optional[key])))
    return '_'.join(['sg', *draw(st.permutations(tokens))])


@st.composite
def timm_strings(draw):
    """Strings of timm's types with tokens that our grammar takes, sensible together or not."""
    block_type = draw(st.sampled_from(['ir', 'ds', 'dsa', 'er', 'cn', 'uir', 'mha', 'mqa', 'gsg']))
    kernel, stride, chs = draw(st.sampled_from([1, 3, 5])), draw(st.integers(1, 2)), draw(st.integers(1, 48))
    tokens = ['r1', f'k{kernel}', f's{stride}', f'c{chs}']
    if block_type in ('ir', 'er', 'uir'):
        tokens.append(draw(st.sampled_from(['e1', 'e4', 'e0.5'])))
    if block_type in ('mha', 'mqa'):
        tokens += [draw(st.sampled_from(['h1', 'h2'])), draw(st.sampled_from(['d4', 'd16']))]
    optional = ['se0.25', 'se0.001', 'gs4', 'gs1', 'nsw', 'noskip', 'skip', 'a3', 'p3', 'd1', 'v2', 'cc2', 'fc8']
    keys = [re.match('[a-z]+', token)[0] for token in tokens]
    extra = draw(st.lists(st.sampled_from(optional), max_size=3, unique_by=lambda token: re.match('[a-z]+', token)[0]))
    tokens += [token for token in extra if re.match('[a-z]+', token)[0] not in keys]
    return '_'.join([block_type, *tokens])


@st.composite
def mutated_strings(draw):
    """Strings a few edits away from valid ones."""
    chars = list(draw(st.one_of(sandglass_strings(), timm_strings())))
    for _ in range(draw(st.integers(1, 3))):
        position = draw(st.integers(0, len(chars)))
        edit = draw(st.sampled_from(['insert', 'delete', 'swap']))
        if edit == 'insert':
            chars.insert(position, draw(st.sampled_from(list('_0123456789./-+srkecnidwgap \n\r\u2028\u0663xE'))))
        elif edit == 'delete':
            del chars[position:position + 1]
        else:
            chars[position:position + 2] = chars[position:position + 2][::-1]
    return ''.join(chars)


def check(block_str, message):
    assert len(message.splitlines()) == 1
    assert block_str in message or repr(block_str)[1:-1] in message or ascii(block_str)[1:-1] in message


@quick
@given(st.lists(sandglass_strings(), min_size=1, max_size=3), st.sampled_from([1 / 6, 0.5, 1]))
def test_valid_strings_build_run_and_fold(strings, multiplier):
    model = create_mobilenext([[block_str] for block_str in strings], num_classes=3, identity_multiplier=multiplier)
    randomize(model).double().eval()
    image = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        logits = model(image)
        assert logits.shape == (1, 3) and logits.isfinite().all()
        assert rel_error(reparameterize_model(model)(image), logits) < 1e-9


def valid_or_block_string_error(block_str):
    try:
        (stage,) = decode_arch_def([[block_str]])
    except BlockStringError as e:
        check(block_str, str(e))
        return
    numbers = map(float, re.findall(r'\d+(?:\.\d+)?', block_str))
    if max(numbers) > 96:
        return  # fine, and too large to build here
    try:
        model = create_mobilenext([['sg_r1_k3_s2_e2_c16'], [block_str]], num_classes=3)
    except BlockStringError as e:
        check(block_str, str(e))
    else:
        assert model.eval()(torch.randn(1, 3, 32, 32)).shape == (1, 3)


@quick
@given(timm_strings())
def test_timms_strings_build_or_are_refused(block_str):
    valid_or_block_string_error(block_str)


@settings(quick, max_examples=200)
@given(st.one_of(mutated_strings(), st.text(max_size=20), st.text('sgirdc_ek0123456789./', max_size=24)))
def test_other_strings_are_valid_or_refused(block_str):
    valid_or_block_string_error(block_str)


@pytest.mark.parametrize('block', [None, 5, b'sg_r1_k3_s2_c32', ['sg_r1_k3_s2_c32'], dict(block_type='sg')])
def test_block_that_is_not_a_string(block):
    with pytest.raises(BlockStringError) as info:
        create_mobilenext([[block]])
    check(str(block), str(info.value))


class Broken(torch.nn.Module):
    """An attention layer of a user's, with a bug."""

    def __init__(self, channels, **kwargs):
        super().__init__()
        self.size = len(channels)


def test_fault_of_a_users_own_layer_keeps_its_traceback():
    with pytest.raises(TypeError, match="no len") as info:
        create_mobilenext([['sg_r1_k3_s2_e2_c32_se0.25']], se_layer=Broken)
    assert info.traceback[-1].frame.code.name == '__init__' and 'test_builder' in str(info.traceback[-1].path)


@pytest.fixture
def later_timm(monkeypatch):
    """timm with a block type `new`, and a token zz in all of its types."""
    decode = block_strings.decode_block_str

    def decode_later(block_str):
        block_type, *tokens = block_str.split('_')
        known = [token for token in tokens if not token.startswith('zz')]
        args, num_repeat = decode('_'.join(['ir' if block_type == 'new' else block_type, *known]))
        return dict(args, block_type=block_type, zz=[token for token in tokens if token not in known]), num_repeat

    monkeypatch.setattr(block_strings, 'decode_block_str', decode_later)
    block_strings._is_read.cache_clear()
    yield
    block_strings._is_read.cache_clear()


@pytest.mark.parametrize('block_type', ['new', 'ir'])
def test_type_and_token_of_a_later_timm(block_type, later_timm):
    """What timm reads, we take, though no line here knows of it."""
    ((args,),) = decode_arch_def([[f'{block_type}_r1_k3_s1_e4_c32_zz5']])
    assert (args['block_type'], args['zz'], args['out_chs']) == (block_type, ['zz5'], 32)
    with pytest.raises(BlockStringError, match='unknown token "yy5"'):
        decode_arch_def([[f'{block_type}_r1_k3_s1_e4_c32_yy5']])
