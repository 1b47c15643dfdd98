"""The sandglass block by itself, in each setting of the paper's ablations."""
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from helpers import NORMS, randomize, rel_error
from torch import nn

import timm
from timm.layers import BlurPool2d, convert_sync_batchnorm, freeze_batch_norm_2d, SEModule

from timm_mobilenext import create_mobilenext, GhostSandglassBlock, SandglassBlock
from timm_mobilenext.models.sandglass import reduce_channels_even

# shape of the block -> its arguments
SHAPES = dict(
    same=dict(in_chs=32, out_chs=32),
    down=dict(in_chs=32, out_chs=64, stride=2),
    down_same=dict(in_chs=32, out_chs=32, stride=2),
    down_e2=dict(in_chs=32, out_chs=64, stride=2, exp_ratio=2),
    change=dict(in_chs=32, out_chs=64),
    change_e2=dict(in_chs=32, out_chs=64, exp_ratio=2),
    keep_dw=dict(in_chs=32, out_chs=64, keep_dw=True),
    keep_dw_same=dict(in_chs=32, out_chs=32, keep_dw=True),
)
# dw_position -> shape -> convolutions in the order that data flows, * is the strided one
LAYOUTS = dict(
    both=dict(
        same='dw1 pw1 pw2 dw2', down='pw1 pw2 dw2*', down_same='pw1 pw2 dw2*', down_e2='dw1 pw1 pw2 dw2*',
        change='pw1 pw2', change_e2='dw1 pw1 pw2 dw2', keep_dw='dw1 pw1 pw2 dw2', keep_dw_same='dw1 pw1 pw2 dw2',
    ),
    before=dict(
        same='dw1 pw1 pw2', down='dw1* pw1 pw2', down_same='dw1* pw1 pw2', down_e2='dw1* pw1 pw2',
        change='pw1 pw2', change_e2='dw1 pw1 pw2', keep_dw='dw1 pw1 pw2', keep_dw_same='dw1 pw1 pw2',
    ),
    after=dict(
        same='pw1 pw2 dw2', down='pw1 pw2 dw2*', down_same='pw1 pw2 dw2*', down_e2='pw1 pw2 dw2*',
        change='pw1 pw2', change_e2='pw1 pw2 dw2', keep_dw='pw1 pw2 dw2', keep_dw_same='pw1 pw2 dw2',
    ),
    bottleneck=dict(
        same='pw1 dw1 dw2 pw2', down='pw1 dw2* pw2', down_same='pw1 dw2* pw2', down_e2='pw1 dw1 dw2* pw2',
        change='pw1 pw2', change_e2='pw1 dw1 dw2 pw2', keep_dw='pw1 dw1 dw2 pw2', keep_dw_same='pw1 dw1 dw2 pw2',
    ),
)
ALL = [(position, shape) for position in LAYOUTS for shape in SHAPES]
NORM_OF = dict(dw1='bn1', pw1='bn2', pw2='bn3', dw2='bn4')
# narrow width: 32 // 6 = 5 is under 32 / 6, so it becomes 6 and that 16; 64 / 6 gives 11, 16; reduction 2 halves
NARROW = 16

every_block = pytest.mark.parametrize('position, shape', ALL)


def make(position='both', shape='same', **kwargs):
    return SandglassBlock(**{**SHAPES[shape], 'dw_position': position, **kwargs})


def record(block, layer_type, x):
    """Run a block, return (name, module, input, output) of its layers of a type as data flows."""
    calls = []
    handles = [
        module.register_forward_hook(
            lambda m, args, out, name=name: calls.append((name, m, args[0].detach().clone(), out.detach().clone())))
        for name, module in block.named_modules() if isinstance(module, layer_type)
    ]
    block(x)
    for handle in handles:
        handle.remove()
    return calls


@every_block
def test_which_convolutions_in_which_order(position, shape):
    block = make(position, shape)
    calls = record(block, nn.Conv2d, torch.randn(2, 32, 8, 8))
    flow = [name.removeprefix('conv_') + '*' * (conv.stride == (2, 2)) for name, conv, _, _ in calls]
    assert ' '.join(flow) == LAYOUTS[position][shape]
    for name, conv, x, _ in calls:
        if 'dw' in name:
            assert conv.kernel_size == (3, 3) and conv.groups == conv.in_channels == conv.out_channels
            wide = 32 if name == 'conv_dw1' else block_out(shape)
            assert x.shape[1] == (NARROW if position == 'bottleneck' else wide)
        else:
            assert conv.kernel_size == conv.stride == (1, 1) and conv.groups == 1
        assert conv.bias is None


def block_out(shape):
    return SHAPES[shape]['out_chs']


@every_block
def test_shapes(position, shape):
    stride = SHAPES[shape].get('stride', 1)
    for size in (8, 7):
        out = make(position, shape)(torch.randn(2, 32, size, size))
        assert out.shape == (2, block_out(shape), -(-size // stride), -(-size // stride))


@every_block
def test_state_dict_names(position, shape):
    convs = LAYOUTS[position][shape].replace('*', '').split()
    layers = {f'conv_{conv}' for conv in convs} | {NORM_OF[conv] for conv in convs}
    block = make(position, shape, se_layer=SEModule, drop_path_rate=0.1)
    assert {key.split('.')[0] for key in block.state_dict()} == layers | {'se'}
    # registered in the order that the authors' checkpoints list them
    assert [key for key in block.state_dict() if key.startswith('conv_')] == [
        f'conv_{conv}.weight' for conv in sorted(convs, key=['dw1', 'pw1', 'pw2', 'dw2'].index)]


@pytest.mark.parametrize('linear', [True, False])
@pytest.mark.parametrize('linear_output', [True, False])
@every_block
def test_activations(position, shape, linear, linear_output):
    """ReLU6 after the first depthwise and the widening 1x1, in the bottleneck after the last depthwise of it."""
    block = randomize(make(position, shape, linear_bottleneck=linear, linear_output=linear_output)).eval()
    activated = {
        name for name, _, _, out in record(block, NORMS, 5 * torch.randn(4, 32, 8, 8))
        if out.min() >= 0 and out.max() <= 6
    }
    convs = LAYOUTS[position][shape].replace('*', '').split()
    present = {NORM_OF[conv] for conv in convs}
    expected = {'bn3', 'bn4'} if position == 'bottleneck' else {'bn1', 'bn3'}
    if linear_output and convs[-1] == 'pw2' and len(convs) > 2:
        expected -= {'bn3'}
    assert activated == (expected | (set() if linear else {'bn2'})) & present


@pytest.mark.parametrize('kwargs, num_skip', [
    (dict(), 32), (dict(identity_multiplier=0.5), 16), (dict(identity_multiplier=1 / 3), 10),
    (dict(identity_multiplier=1 / 6), 5), (dict(identity_multiplier=1), 32), (dict(noskip=True), 0),
])
@every_block
def test_where_the_shortcut_goes(position, shape, kwargs, num_skip):
    """With a silent branch the gradient that reaches the input came over the shortcut alone."""
    block = make(position, shape, **kwargs)
    nn.init.zeros_(block.conv_pw1.weight)  # the narrowing 1x1 is on every way through the branch
    x = torch.randn(2, 32, 8, 8, requires_grad=True)
    out = block(x)
    gradient = torch.randn_like(out)
    out.backward(gradient)
    expected = torch.zeros_like(x)
    if shape == 'same':
        expected[:, :num_skip] = gradient[:, :num_skip]
        torch.testing.assert_close(out, torch.cat([x[:, :num_skip], torch.zeros_like(x[:, num_skip:])], 1))
    assert torch.equal(x.grad, expected)


def test_no_shortcut_changes_nothing_else():
    with_skip, without = make().eval(), make(noskip=True).eval()
    without.load_state_dict(with_skip.state_dict())
    x = torch.randn(2, 32, 8, 8)
    torch.testing.assert_close(with_skip(x), without(x) + x)


@pytest.mark.parametrize('in_chs, out_chs, exp_ratio, narrow', [
    (32, 96, 2, 16),       # in // reduction
    (96, 144, 6, 32),      # 16 is under 144 / 6 = 24, which rounds to 32
    (144, 192, 6, 32),     # 24 is under 32
    (192, 192, 6, 32),
    (960, 1280, 6, 208),   # 160 is under 214 = ceil(1280 / 6), which rounds to 208
    (64, 64, 3, 21),       # integer division
    (32, 64, 6, 16),
])
def test_narrow_width(in_chs, out_chs, exp_ratio, narrow):
    block = SandglassBlock(in_chs, out_chs, exp_ratio=exp_ratio)
    assert block.conv_pw1.out_channels == block.conv_pw2.in_channels == narrow


@pytest.mark.parametrize('position, rate, convs', [('both', 1.0, 'dw2'), ('before', 1.0, 'dw1')])
def test_drop_path(position, rate, convs):
    x = torch.randn(64, 32, 4, 4)
    dropped = make(position, drop_path_rate=rate)
    assert torch.equal(dropped(x), x)
    assert not torch.equal(dropped.eval()(x), x)

    half = make(position, drop_path_rate=0.5, norm_layer='groupnorm1')
    kept = half.eval()(x) - x
    actual = half.train()(x) - x
    is_dropped = actual.flatten(1).abs().amax(1) == 0
    assert 16 < is_dropped.sum() < 48
    torch.testing.assert_close(actual[~is_dropped], 2 * kept[~is_dropped], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize('position', LAYOUTS)
def test_drop_path_under_a_partial_shortcut(position):
    block = make(position, drop_path_rate=1.0, identity_multiplier=0.5)
    x = torch.randn(2, 32, 4, 4)
    assert torch.equal(block(x), torch.cat([x[:, :16], torch.zeros(2, 16, 4, 4)], 1))


def test_partial_shortcut_is_slices_put_together():
    """Bit by bit, in each precision."""
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        block = randomize(make(identity_multiplier=1 / 3)).to(dtype).eval()
        without = make(noskip=True).to(dtype).eval()
        without.load_state_dict(block.state_dict())
        x = torch.randn(2, 32, 8, 8, dtype=dtype)
        y = without(x)
        expected = torch.cat([y[:, :10] + x[:, :10], y[:, 10:]], dim=1)
        assert torch.equal(block(x), expected) and block(x).dtype == dtype


@pytest.mark.parametrize('way', ['to_empty', 'assign', 'nested_assign', 'reinit'])
def test_partial_shortcut_of_a_block_from_the_meta_device(way):
    trained = randomize(make(identity_multiplier=0.5)).eval()
    block = make(identity_multiplier=0.5, device='meta').eval()
    if way == 'assign':
        block.load_state_dict(trained.state_dict(), assign=True)
    elif way == 'nested_assign':
        nn.Sequential(block).load_state_dict(nn.Sequential(trained).state_dict(), assign=True)
    else:  # without load_state_dict, which writes the mask too
        block.to_empty(device='cpu')
        for value, theirs in zip(block.state_dict().values(), trained.state_dict().values(), strict=True):
            value.copy_(theirs)
    if way == 'reinit':
        block.skip_mask.fill_(torch.nan)
        block.init_non_persistent_buffers()
    x = torch.randn(2, 32, 8, 8)
    assert torch.equal(block(x), trained(x))


@pytest.mark.parametrize('aa_layer', ['blur', 'avg', BlurPool2d])
@pytest.mark.parametrize('shape', ['down', 'down_e2', 'same'])
@pytest.mark.parametrize('position', LAYOUTS)
def test_aa_layer(position, shape, aa_layer):
    block = make(position, shape, aa_layer=aa_layer)
    calls = record(block, (nn.Conv2d, BlurPool2d, nn.AvgPool2d), torch.randn(2, 32, 8, 8))
    assert all(m.stride == (1, 1) for _, m, _, _ in calls if isinstance(m, nn.Conv2d))
    strided = [name for name, m, x, out in calls if x.shape[-1] == 2 * out.shape[-1]]
    assert strided == ([] if shape == 'same' else ['aa1' if position == 'before' else 'aa2'])


@pytest.mark.parametrize('group_size, groups', [(1, 32), (2, 16), (8, 4), (32, 1), (0, 1)])
@pytest.mark.parametrize('position', ['both', 'before', 'after'])
def test_group_size(position, group_size, groups):
    block = make(position, group_size=group_size)
    convs = record(block, nn.Conv2d, torch.randn(2, 32, 4, 4))
    assert {m.groups for name, m, _, _ in convs if 'dw' in name} == {groups}


@every_block
def test_se_on_the_wide_output(position, shape):
    block = make(position, shape, se_layer=SEModule)
    x = torch.randn(2, 32, 8, 8)
    (_, _, before, after), = record(block, SEModule, x)
    assert before.shape[1] == block_out(shape)
    if shape == 'same':
        torch.testing.assert_close(block.eval()(x), record(block, SEModule, x)[0][3] + x)
    else:
        torch.testing.assert_close(block.eval()(x), record(block, SEModule, x)[0][3])


@pytest.mark.parametrize('location', ['bottleneck', 'expansion', 'downsample'])
@every_block
def test_feature_info(position, shape, location):
    block = make(position, shape)
    info = block.feature_info(location)
    tapped = []
    module = block.get_submodule(info['module'])
    if info.get('hook_type') == 'forward_pre':
        module.register_forward_pre_hook(lambda m, args: tapped.append(args[0].clone()))
    else:
        module.register_forward_hook(lambda m, args, out: tapped.append(out.clone()))
    out = block(torch.randn(2, 32, 8, 8))
    assert tapped[0].shape[1] == info['num_chs']
    if location == 'bottleneck':
        assert torch.equal(tapped[0], out)
    elif location == 'expansion':
        assert info['num_chs'] == block_out(shape)  # wide, and past the widening 1x1
        assert tapped[0].min() >= 0
    elif '*' in LAYOUTS[position][shape]:
        (strided,) = [m for m in block.modules() if isinstance(m, nn.Conv2d) and m.stride == (2, 2)]
        assert module is strided and tapped[0].shape[-1] == 8


@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16])
@every_block
def test_dtype(position, shape, dtype):
    block = make(position, shape, dtype=dtype, se_layer=SEModule, drop_path_rate=0.1, identity_multiplier=0.5)
    assert {p.dtype for p in block.parameters()} == {dtype}
    assert block(torch.randn(2, 32, 8, 8, dtype=dtype)).dtype == dtype


@every_block
def test_meta_device(position, shape):
    block = make(position, shape, device='meta', se_layer=SEModule, aa_layer='blur')
    assert all(t.is_meta for t in block.state_dict().values())
    assert block(torch.randn(2, 32, 8, 8, device='meta')).shape[1] == block_out(shape)


@pytest.mark.parametrize('dilation', [2, 4])
@pytest.mark.parametrize('kernel_size', [3, 5])
@pytest.mark.parametrize('position', LAYOUTS)
def test_dilation(position, kernel_size, dilation):
    block = make(position, dilation=dilation, dw_kernel_size=kernel_size)
    calls = record(block, nn.Conv2d, torch.randn(2, 32, 9, 9))
    for name, conv, _, out in calls:
        assert conv.dilation == ((dilation, dilation) if 'dw' in name else (1, 1))
        assert conv.kernel_size == ((kernel_size, kernel_size) if 'dw' in name else (1, 1))
        assert out.shape[-2:] == (9, 9)


@pytest.mark.parametrize('position', LAYOUTS)
@pytest.mark.parametrize('shape', ['down', 'down_same', 'down_e2'])
def test_stride_turned_into_dilation_keeps_the_design(position, shape):
    """output_stride: which convolutions exist, and that there is no shortcut, follow the stride as written."""
    as_written = make(position, shape)
    dilated = make(position, shape, stride=1, dilation=2, downsample=True)
    dilated.load_state_dict(as_written.state_dict())
    nn.init.zeros_(dilated.bn2.weight)
    x = torch.randn(2, 32, 8, 8, requires_grad=True)
    out = dilated(x)
    assert out.shape == (2, block_out(shape), 8, 8)
    out.sum().backward()
    assert x.grad.eq(0).all()


@pytest.mark.parametrize('pad_type, size', [('same', 4), ('', 4), ('valid', 3)])
@pytest.mark.parametrize('position', LAYOUTS)
def test_pad_type(position, pad_type, size):
    assert make(position, 'down', pad_type=pad_type)(torch.randn(1, 32, 8, 8)).shape[-1] == size


def test_same_padding_is_tensorflows():
    """At an even size the right and the bottom get the padding, so the first output sees pixels 0 to 2."""
    block = make('before', 'down', pad_type='same').eval()
    x = torch.randn(1, 32, 8, 8)
    expected = F.conv2d(F.pad(x, (0, 1, 0, 1)), block.conv_dw1.weight, stride=2, groups=32)
    torch.testing.assert_close(block.conv_dw1(x), expected)


@pytest.mark.parametrize('act_layer, norm_layer', [
    ('silu', 'batchnorm2d'), (nn.Hardswish, nn.BatchNorm2d), (nn.ReLU6, 'layernorm2d'), (nn.GELU, 'groupnorm1'),
])
@every_block
def test_layers_by_name_and_class(position, shape, act_layer, norm_layer):
    out = make(position, shape, act_layer=act_layer, norm_layer=norm_layer)(torch.randn(2, 32, 8, 8))
    assert out.isfinite().all()


REPARAMETERIZED = [
    dict(), dict(linear_bottleneck=False), dict(linear_output=True), dict(noskip=True),
    dict(identity_multiplier=1 / 3), dict(dilation=2),
    dict(pad_type='same'), dict(aa_layer='blur'), dict(group_size=8), dict(se_layer=SEModule), dict(dw_kernel_size=5),
    dict(act_layer='silu'), dict(norm_layer=partial(nn.BatchNorm2d, affine=False)),
]


@pytest.mark.parametrize('kwargs', REPARAMETERIZED, ids=lambda kwargs: '-'.join(kwargs) or 'default')
@every_block
def test_reparameterize(position, shape, kwargs):
    block = randomize(make(position, shape, **kwargs)).eval()
    x = torch.randn(2, 32, 9, 9)
    with torch.no_grad():
        expected = block(x)
        block.reparameterize()
        assert not any(isinstance(m, NORMS) for m in block.modules())
        assert all(m.bias is not None for name, m in block.named_modules() if name.startswith('conv_')
                   and isinstance(m, nn.Conv2d))
        assert rel_error(block(x), expected) < 1e-4
        block.reparameterize()  # nothing left to fold
        assert rel_error(block(x), expected) < 1e-4


@every_block
def test_reparameterize_leaves_what_it_cannot_fold(position, shape):
    block = randomize(make(position, shape)).eval()
    block.bn2 = nn.GroupNorm(1, NARROW)
    block.conv_pw2 = nn.Sequential(block.conv_pw2, nn.ReLU())
    x = torch.randn(2, 32, 8, 8)
    with torch.no_grad():
        expected = block(x)
        block.reparameterize()
        assert rel_error(block(x), expected) < 1e-4


@pytest.mark.parametrize('convert', [convert_sync_batchnorm, freeze_batch_norm_2d])
def test_reparameterize_converted_norms(convert):
    block = randomize(convert(make())).eval()
    x = torch.randn(2, 32, 8, 8)
    with torch.no_grad():
        expected = block(x)
        block.reparameterize()
        assert not any(isinstance(m, NORMS) for m in block.modules())
        assert rel_error(block(x), expected) < 1e-4


@pytest.mark.parametrize('kwargs', [dict(norm_layer='groupnorm1'), dict(norm_layer='layernorm2d')])
def test_reparameterize_with_other_norms(kwargs):
    block = make(**kwargs).eval()
    x = torch.randn(2, 32, 8, 8)
    expected = block(x)
    block.reparameterize()
    assert torch.equal(block(x), expected)


def test_reparameterize_keeps_taps():
    """A hook on a norm that is folded away stays where the tensor now is."""
    block = randomize(make()).eval()
    tapped = []
    block.bn3.register_forward_hook(lambda m, args, out: tapped.append(out.clone()))
    x = torch.randn(2, 32, 8, 8)
    with torch.no_grad():
        block(x)
        block.reparameterize()
        block(x)
    assert rel_error(tapped[1], tapped[0]) < 1e-4


@pytest.mark.parametrize('shape', SHAPES)
def test_ghost_split(shape):
    """Where both depthwise convolutions are, the second half of the channels meets nothing between them."""
    block = randomize(GhostSandglassBlock(**SHAPES[shape])).eval()
    is_split = shape in ('same', 'down_e2', 'change_e2', 'keep_dw', 'keep_dw_same')
    x = torch.randn(2, 32, 8, 8)
    calls = {name: (given, out) for name, _, given, out in record(block, (nn.Conv2d, *NORMS), x)}
    assert calls['conv_pw1'][0].shape[1] == (16 if is_split else 32)
    assert calls['conv_pw2'][1].shape[1] == block_out(shape) - (16 if is_split else 0)
    if is_split:
        assert torch.equal(calls['conv_pw1'][0], calls['bn1'][1][:, :16])
        assert torch.equal(calls['conv_dw2'][0], torch.cat([calls['bn3'][1], calls['bn1'][1][:, 16:]], 1))
    assert block(x).shape[1] == block.feature_info('bottleneck')['num_chs'] == block_out(shape)
    assert block.feature_info('expansion')['num_chs'] == block_out(shape)


@pytest.mark.parametrize('shape', ['same', 'down', 'change_e2'])
def test_ghost_block_exports_and_folds(shape):
    block = randomize(GhostSandglassBlock(**SHAPES[shape], se_layer=SEModule)).eval()
    x = torch.randn(2, 32, 8, 8)
    with torch.no_grad():
        expected = block(x)
        torch.testing.assert_close(torch.jit.script(block)(x), expected)
        torch.testing.assert_close(torch.jit.trace(block, x)(x), expected)
        torch.testing.assert_close(torch.fx.symbolic_trace(block)(x), expected)
        torch.testing.assert_close(torch.export.export(block, (x,)).module()(x), expected)
        block.reparameterize()
        assert not any(isinstance(m, NORMS) for m in block.modules())
        assert rel_error(block(x), expected) < 1e-4


def test_ghost_split_that_leaves_nothing_to_the_bottleneck():
    with pytest.raises(ValueError, match='16 output channels are none but the 16 that pass by'):
        GhostSandglassBlock(32, 16, keep_dw=True)


@pytest.mark.parametrize('shape', SHAPES)
def test_pw_groups(shape):
    """Where both depthwise convolutions are, as in the authors' networks."""
    groups = 2 if shape in ('same', 'down_e2', 'change_e2', 'keep_dw', 'keep_dw_same') else 1
    block = make(shape=shape, pw_groups=2)
    assert (block.conv_pw1.groups, block.conv_pw2.groups) == (groups, groups)
    assert block(torch.randn(2, 32, 8, 8)).shape[1] == block_out(shape)


@pytest.mark.parametrize('pw_groups', [0, -1, 3])
def test_impossible_pw_groups(pw_groups):
    with pytest.raises(ValueError, match=f'pw_groups {pw_groups} does not divide'):
        make(pw_groups=pw_groups)


@pytest.mark.parametrize('in_chs, out_chs, exp_ratio, narrow', [
    (96, 144, 6, 16), (144, 192, 6, 24), (32, 96, 2, 16), (40, 40, 6, 6), (56, 56, 6, 10), (24, 1280, 6, 4),
])
def test_narrow_width_made_even(in_chs, out_chs, exp_ratio, narrow):
    block = SandglassBlock(in_chs, out_chs, exp_ratio=exp_ratio, reduce_chs_fn=reduce_channels_even)
    assert block.conv_pw1.out_channels == block.conv_pw2.in_channels == narrow


@pytest.mark.parametrize('position', LAYOUTS)
@pytest.mark.parametrize('shape', ['same', 'down', 'change'])
def test_scripts_and_traces(position, shape):
    block = make(position, shape, identity_multiplier=1 / 3, drop_path_rate=0.1, se_layer=SEModule).eval()
    x = torch.randn(2, 32, 8, 8)
    torch.testing.assert_close(torch.jit.script(block)(x), block(x))
    torch.testing.assert_close(torch.jit.trace(block, x)(x), block(x))
    torch.testing.assert_close(torch.fx.symbolic_trace(block)(x), block(x))


@pytest.mark.parametrize('kwargs', [
    dict(), dict(dw_position='before'), dict(dw_position='after'), dict(dw_position='bottleneck'),
    dict(linear_bottleneck=False), dict(noskip=True), dict(identity_multiplier=1 / 2), dict(identity_multiplier=1 / 6),
    dict(dw_position='before', linear_output=True),
], ids=str)
def test_mobilenext_100_trains(kwargs):
    """The loss on one batch, plain images against striped ones, falls and every parameter takes part."""
    model = timm.create_model('mobilenext_100', num_classes=2, **kwargs)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    labels = torch.arange(8) % 2
    images = torch.randn(8, 3, 64, 64)
    images[labels == 1, :, ::2] += 6
    losses = []
    for _ in range(12):  # without shortcuts the first few are a matter of how a machine rounds
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize('kwargs, expected', [
    (dict(dw_position='before'), 'dw1 pw1 pw2'),
    (dict(dw_position='after'), 'pw1 pw2 dw2'),
    (dict(dw_position='bottleneck'), 'pw1 dw1 dw2 pw2'),
    (dict(), 'dw1 pw1 pw2 dw2'),
])
def test_network_switch_reaches_every_block(kwargs, expected):
    model = create_mobilenext([['sg_r3_k3_s2_e2_c32'], ['sg_r2_k3_s1_e6_c32']], **kwargs)
    for block in (model.blocks[0][1], model.blocks[0][2], model.blocks[1][0], model.blocks[1][1]):
        convs = record(block, nn.Conv2d, torch.randn(2, 32, 8, 8))
        assert ' '.join(name.removeprefix('conv_') for name, _, _, _ in convs) == expected
