"""The registered models under timm's whole model contract."""
import gc
import math
import pickle
import weakref
from copy import deepcopy
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import MODELS, randomize, rel_error, timm_version, TINY
from torch import nn

import timm
from timm.models import save_for_hf
from timm.optim import create_optimizer_v2

from timm_mobilenext import create_mobilenext, MobileNeXt, MobileNeXtFeatures

CHANNELS = {
    'mobilenext_035': [16, 48, 64, 136, 1280], 'mobilenext_050': [16, 72, 96, 192, 1280],
    'mobilenext_075': [24, 112, 144, 288, 1280], 'mobilenext_100': [32, 144, 192, 384, 1280],
    'mobilenext_140': [48, 200, 272, 536, 1792],
    **{f'mobilenext_100_id{part}': [32, 144, 192, 384, 1280] for part in ('050', '033', '017')},
    **{f'mobilenext_{size}': [96, 144, 192, 384, 1280] for size in ('s', 'l', 'l_ghost')},
}
CHANNELS.update({
    f'mobilenext_{width}_{kind}': CHANNELS[f'mobilenext_{width}']
    for width in ('050', '075', '100') for kind in ('se', 'ca')
})
create = partial(timm.create_model, 'mobilenext_035')


def images(batch=2, chans=3, size=64, **kwargs):
    return torch.randn(batch, chans, size, size, **kwargs)


def norms(model):
    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


@pytest.fixture(scope='module')
def model():
    """Not to be changed."""
    torch.manual_seed(0)
    return randomize(create(num_classes=10)).eval()


# every model

def test_registered():
    assert timm.list_models('mobilenext_*') == sorted(CHANNELS)


@pytest.mark.parametrize('name', MODELS)
def test_every_model(name):
    model = timm.create_model(name, num_classes=7).eval()
    assert type(model) is MobileNeXt
    assert model(images()).shape == (2, 7)
    assert model.num_features == model.head_hidden_size == CHANNELS[name][-1]
    assert model.feature_info and [info['num_chs'] for info in model.feature_info] == CHANNELS[name]
    cfg = model.pretrained_cfg
    assert cfg['architecture'] == name and cfg['input_size'] == (3, 224, 224) and cfg['pool_size'] == (7, 7)
    assert model.get_submodule(cfg['first_conv']) is model.conv_stem
    assert model.get_submodule(cfg['classifier']) is model.get_classifier()
    assert timm.data.resolve_model_data_config(model)['crop_pct'] == 0.875


@pytest.mark.parametrize('name', MODELS)
def test_every_model_features(name):
    model = timm.create_model(name, features_only=True).eval()
    assert type(model) is MobileNeXtFeatures
    assert model.feature_info.channels() == CHANNELS[name]
    assert model.feature_info.reduction() == [2, 4, 8, 16, 32]
    assert [x.shape[1:] for x in model(images())] == [
        (chs, 64 // r, 64 // r) for chs, r in zip(CHANNELS[name], (2, 4, 8, 16, 32), strict=True)]
    assert 'num_classes' not in model.pretrained_cfg and 'classifier' not in model.pretrained_cfg


def test_no_weights_yet():
    with pytest.raises(RuntimeError, match='No pretrained weights exist'):
        create(pretrained=True)


# create_model's arguments

@pytest.mark.parametrize('chans', [1, 3, 4])
def test_in_chans(chans):
    model = create(in_chans=chans)
    assert model.conv_stem.in_channels == model.in_chans == chans
    assert model(images(chans=chans)).shape == (2, 1000)
    features = create(in_chans=chans, features_only=True)
    assert features(images(chans=chans))[-1].shape == (2, 1280, 2, 2)


def test_numbers_of_numpy():
    """As `labels.max() + 1` is one."""
    model = create(
        num_classes=np.int64(5), in_chans=np.int32(1), group_size=np.int64(8), channel_multiplier=np.float32(0.5),
        depth_multiplier=np.int64(2), identity_multiplier=np.float32(0.5), se_ratio=np.float32(0.25))
    plain = create(
        num_classes=5, in_chans=1, group_size=8, channel_multiplier=0.5, depth_multiplier=2, identity_multiplier=0.5,
        se_ratio=0.25)
    model.load_state_dict(plain.state_dict())
    x = images(chans=1)
    assert torch.equal(model.eval()(x), plain.eval()(x))
    model.reset_classifier(np.int64(3))
    assert model(x).shape == (2, 3)


@pytest.mark.parametrize('pool, shape', [
    ('avg', (2, 1280)), ('max', (2, 1280)), ('avgmax', (2, 1280)), ('catavgmax', (2, 2560)), ('fast', (2, 1280)),
    ('', (2, 1280, 2, 2)),
])
def test_global_pool_without_classifier(pool, shape):
    model = create(num_classes=0, global_pool=pool)
    assert isinstance(model.get_classifier(), nn.Identity) and model.num_classes == 0
    x = images()
    assert model(x).shape == shape
    assert model.forward_head(model.forward_features(x), pre_logits=True).shape == shape
    assert model.num_features == 1280 and model.head_hidden_size == shape[1]


@pytest.mark.parametrize('pool', ['avg', 'max', 'avgmax', 'catavgmax'])
def test_global_pool_with_classifier(pool):
    model = create(num_classes=5, global_pool=pool)
    assert model.classifier.in_features == model.head_hidden_size == (2560 if pool == 'catavgmax' else 1280)
    assert model(images()).shape == (2, 5)


def test_head_is_pool_dropout_linear(model):
    x = images()
    features = model.forward_features(x)
    assert features.shape == (2, 1280, 2, 2)
    pooled = model.forward_head(features, pre_logits=True)
    torch.testing.assert_close(pooled, features.mean((2, 3)))
    torch.testing.assert_close(model(x), F.linear(pooled, model.classifier.weight, model.classifier.bias))
    torch.testing.assert_close(model.forward_head(features), model(x))


def test_drop_rate():
    model = create(drop_rate=0.5, num_classes=0)
    features = model.forward_features(images(8)) + 1
    share = model.forward_head(features, pre_logits=True).eq(0).float().mean()
    assert 0.45 < share < 0.55
    assert model.eval().forward_head(features, pre_logits=True).ne(0).all()
    dropouts = [m for m in model.as_sequential() if isinstance(m, nn.Dropout)]
    assert [m.p for m in dropouts] == [0.5]


def test_drop_path_rate():
    blocks = [block for stage in create(drop_path_rate=0.2).blocks for block in stage]
    rates = [getattr(block.drop_path, 'drop_prob', 0.) for block in blocks]
    assert rates == pytest.approx([0.2 * i / 20 for i in range(20)])


@pytest.mark.parametrize('output_stride', [32, 16, 8])
def test_output_stride(output_stride):
    plain, model = create(), create(output_stride=output_stride)
    shapes = {key: value.shape for key, value in plain.state_dict().items()}
    assert {key: value.shape for key, value in model.state_dict().items()} == shapes
    assert model.forward_features(images()).shape == (2, 1280, 64 // output_stride, 64 // output_stride)
    features = create(output_stride=output_stride, features_only=True)
    assert features.feature_info.reduction() == [min(r, output_stride) for r in (2, 4, 8, 16, 32)]
    for x, reduction in zip(features(images()), features.feature_info.reduction(), strict=True):
        assert x.shape[-1] == 64 // reduction


def test_pad_type():
    model = create(pad_type='same').eval()
    x = images(size=65)
    assert model.forward_features(x).shape[-1] == 3
    padded = F.conv2d(F.pad(x, (1, 1, 1, 1)), model.conv_stem.weight, stride=2)  # at an odd size both sides get one
    torch.testing.assert_close(model.conv_stem(x), padded)
    even = F.conv2d(F.pad(x[..., 1:, 1:], (0, 1, 0, 1)), model.conv_stem.weight, stride=2)
    torch.testing.assert_close(model.conv_stem(x[..., 1:, 1:]), even)


@pytest.mark.parametrize('kwargs', [dict(bn_eps=1e-3), dict(bn_momentum=0.01), dict(bn_eps=1e-3, bn_momentum=0.01)])
@pytest.mark.parametrize('norm_layer', [None, 'batchnorm2d', nn.BatchNorm2d])
def test_bn_args(norm_layer, kwargs):
    layers = norms(create(norm_layer=norm_layer, **kwargs))
    assert {m.eps for m in layers} == {kwargs.get('bn_eps', 1e-5)}
    assert {m.momentum for m in layers} == {kwargs.get('bn_momentum', 0.1)}


@pytest.mark.parametrize('act_layer, cls', [
    (None, nn.ReLU6), ('silu', nn.SiLU), (nn.SiLU, nn.SiLU), ('relu', nn.ReLU), (nn.Hardswish, nn.Hardswish),
    ('gelu', timm.layers.get_act_layer('gelu')),
])
def test_act_layer(act_layer, cls):
    model = create(act_layer=act_layer)
    acts = {type(m.act) for m in norms(model)}
    assert acts == {cls, nn.Identity}
    assert model(images()).isfinite().all()


@pytest.mark.parametrize('norm_layer', [
    'groupnorm1', 'layernorm2d', timm.layers.GroupNorm1, timm.layers.LayerNorm2d, partial(nn.BatchNorm2d, eps=1e-4),
    timm.layers.BatchNormAct2d,
])
def test_norm_layer(norm_layer):
    model = create(norm_layer=norm_layer)
    assert model(images()).isfinite().all()
    assert bool(norms(model)) == ('BatchNorm' in str(norm_layer))
    if isinstance(norm_layer, partial):
        assert {m.eps for m in norms(model)} == {1e-4}


def test_norm_layer_of_the_efficient_networks():
    """Their eps and momentum are those of their own batch norm."""
    create = partial(timm.create_model, 'mobilenext_s', device='meta')
    assert not norms(create(norm_layer='layernorm2d'))
    norm_layer = partial(nn.BatchNorm2d, eps=1e-4)
    assert {(m.eps, m.momentum) for m in norms(create(norm_layer=norm_layer))} == {(1e-4, 0.1)}
    assert {(m.eps, m.momentum) for m in norms(create(norm_layer=norm_layer, bn_momentum=0.3))} == {(1e-4, 0.3)}


@pytest.mark.parametrize('aa_layer', ['blur', timm.layers.BlurPool2d, nn.AvgPool2d])
def test_aa_layer(aa_layer):
    model = create(aa_layer=aa_layer)
    strided = [name for name, m in model.named_modules() if isinstance(m, nn.Conv2d) and m.stride == (2, 2)]
    assert strided == ['conv_stem']  # as in timm's EfficientNet
    assert model.forward_features(images()).shape[-1] == 2


def test_se_layer():
    arch_def = [['sg_r1_k3_s2_e2_c32_se0.25'], ['sg_r2_k3_s2_e6_c64']]
    model = create_mobilenext(arch_def, se_layer='eca')
    assert [type(m).__name__ for m in model.modules() if 'Eca' in type(m).__name__] == ['EcaModule']


@pytest.mark.parametrize('flags', [dict(scriptable=True), dict(exportable=True), dict(no_jit=True)])
@pytest.mark.parametrize('act_layer', [None, 'hard_swish', 'mish'])
def test_layer_config_flags(flags, act_layer):
    plain, model = create(act_layer=act_layer).eval(), create(act_layer=act_layer, **flags).eval()
    model.load_state_dict(plain.state_dict())
    x = images()
    torch.testing.assert_close(model(x), plain(x))


@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize('features_only', [False, True])
def test_dtype(dtype, features_only):
    model = create(dtype=dtype, features_only=features_only)
    assert {p.dtype for p in model.parameters()} == {dtype}
    if not features_only:
        model.reset_classifier(3)
        assert model.classifier.weight.dtype == dtype


@pytest.mark.parametrize('kwargs', [
    dict(), dict(features_only=True), dict(features_only=True, feature_location='downsample'), dict(aa_layer='blur')])
def test_meta_device(kwargs):
    model = create(device='meta', **kwargs)
    assert all(t.is_meta for t in [*model.parameters(), *model.buffers()])
    out = model(images(device='meta'))
    assert (out[-1] if isinstance(out, list) else out).is_meta


@pytest.mark.parametrize('kwargs', [
    dict(), dict(features_only=True), dict(features_only=True, feature_cls='hook'), dict(arch_def=TINY)])
def test_unknown_argument(kwargs):
    with pytest.raises(TypeError, match='unheard_of'):
        create(unheard_of=1, **kwargs)


def test_pretrained_cfg_overlay():
    model = create(pretrained_cfg_overlay=dict(input_size=(1, 96, 96), num_classes=3, mean=(0.5,), std=(0.5,)))
    assert model.num_classes == 3 and model.conv_stem.in_channels == 1
    assert timm.data.resolve_model_data_config(model)['input_size'] == (1, 96, 96)


def test_kwargs_are_not_changed():
    kwargs = dict(feature_cfg=dict(), features_only=True, feature_cls='list', norm_layer='batchnorm2d', bn_eps=1e-3)
    create(**kwargs)
    assert kwargs == dict(
        feature_cfg=dict(), features_only=True, feature_cls='list', norm_layer='batchnorm2d', bn_eps=1e-3)


# features

@pytest.mark.parametrize('feature_cls', [None, 'list', 'dict', 'hook', 'fx', 'getter'])
@pytest.mark.parametrize('out_indices', [None, (0, 1, 2, 3, 4), (1, 3), (4,), (-2, -1), 2])
def test_feature_classes(model, feature_cls, out_indices):
    kwargs = dict(out_indices=out_indices) if out_indices is not None else {}
    if feature_cls:
        kwargs['feature_cls'] = feature_cls
    features = create(features_only=True, **kwargs).eval()
    source = list(model.state_dict().values())
    target = features.state_dict()  # other names, the same order, up to where the extractor stops
    features.load_state_dict(dict(zip(target, source, strict=False)))
    indices = {None: range(5), 2: [3, 4], (-2, -1): [3, 4]}.get(out_indices, out_indices)
    x = images()
    with torch.no_grad():
        expected = model.forward_intermediates(x, intermediates_only=True)
        actual = features(x)
    actual = list(actual.values()) if isinstance(actual, dict) else actual
    assert len(actual) == len(indices) == len(features.feature_info.channels())
    for feature, index, chs in zip(actual, indices, features.feature_info.channels(), strict=True):
        torch.testing.assert_close(feature, expected[index])
        assert chs == feature.shape[1] == CHANNELS['mobilenext_035'][index]


@pytest.mark.parametrize('kwargs', [
    dict(), dict(feature_cls='list'), dict(feature_cls='hook'), dict(feature_cls='getter'), dict(narrow_skip=True)],
    ids=str)
@pytest.mark.parametrize('strides, reductions', [
    ((2, 2), [2, 4, 8]), ((1, 2), [2, 4]), ((2, 1), [2, 4]), ((2,) * 5, [2, 4, 8, 16, 32, 32])])
def test_all_levels_of_an_architecture_of_ones_own(strides, reductions, kwargs):
    arch_def = [[f'sg_r1_k3_s{stride}_e6_c32'] for stride in strides]
    features = create_mobilenext(arch_def, features_only=True, **kwargs)
    assert features.feature_info.reduction() == reductions
    assert [64 // x.shape[-1] for x in features(images(1))] == reductions


@pytest.mark.parametrize('feature_cfg', [
    dict(feature_cls='list', flatten_sequential=True), dict(feature_cls='hook', no_rewrite=True),
    dict(feature_cls='hook', flatten_sequential=False), dict(feature_cls='dict', out_indices=(1, 3)),
], ids=str)
def test_feature_cfg_of_the_user_wins(feature_cfg):
    features = create(features_only=True, feature_cfg=feature_cfg).eval()
    indices = feature_cfg.get('out_indices', range(5))
    assert features.feature_info.channels() == [CHANNELS['mobilenext_035'][i] for i in indices]
    assert len(features(images())) == len(indices)
    is_whole = feature_cfg.get('no_rewrite') or feature_cfg.get('flatten_sequential') is False
    assert hasattr(features, 'body') == bool(is_whole)


def test_feature_graph_with_same_padding():
    features = create(features_only=True, feature_cls='fx', pad_type='same')
    assert [x.shape[-1] for x in features(images(size=65))] == [33, 17, 9, 5, 3]


@pytest.mark.parametrize('location, channels', [
    ('bottleneck', [32, 144, 192, 384, 1280]),
    ('expansion', [32, 144, 192, 384, 1280]),
    ('downsample', [96, 192, 288, 576, 1280]),
])
@pytest.mark.parametrize('out_indices', [None, (3, 4), (0,), (2, -1)])
@pytest.mark.parametrize('output_stride', [32, 8])
def test_feature_locations(location, channels, out_indices, output_stride):
    features = timm.create_model(
        'mobilenext_100', features_only=True, feature_location=location, out_indices=out_indices,
        output_stride=output_stride).eval()
    indices = range(5) if out_indices is None else [i % 5 for i in out_indices]
    reductions = [min(r, output_stride) for r in (2, 4, 8, 16, 32)]
    assert features.feature_info.channels() == [channels[i] for i in indices]
    assert features.feature_info.reduction() == [reductions[i] for i in indices]
    for _ in range(2):  # nothing is left over from the call before
        out = features(images(1))
        assert [x.shape[1:] for x in out] == [
            (channels[i], 64 // reductions[i], 64 // reductions[i]) for i in indices]


def test_downsample_is_what_enters_the_strided_convolution():
    features = timm.create_model('mobilenext_100', features_only=True, feature_location='downsample').eval()
    assert features.feature_info.module_name()[3] == 'blocks.5.0.conv_dw2'
    entered = []
    for stage_idx in (0, 2, 3, 5, 7):
        features.blocks[stage_idx][0].conv_dw2.register_forward_hook(lambda m, args, out: entered.append(args[0]))
    out = features(images())
    assert all(torch.equal(a, b) for a, b in zip(out, entered, strict=True))
    assert [features.blocks[i][0].conv_dw2.stride for i in (0, 2, 3, 5)] == 4 * [(2, 2)]


def test_features_state_dict_is_the_classifiers(model):
    features = create(features_only=True)
    names = [name for name in model.state_dict() if not name.startswith('classifier')]
    assert list(features.state_dict()) == names


@pytest.mark.parametrize('location', ['bottleneck', 'expansion', 'downsample'])
def test_features_copy_and_pickle(location):
    features = create(features_only=True, feature_location=location).eval()
    x = images()
    expected = features(x)
    for copy in (deepcopy(features), pickle.loads(pickle.dumps(features))):
        with torch.no_grad():
            for p in copy.parameters():
                p.mul_(2)  # the copy has its own weights and its own taps
        assert not any(torch.equal(a, b) for a, b in zip(copy(x), expected, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(features(x), expected, strict=True))


# forward_intermediates and what goes with it

@pytest.mark.parametrize('indices, expected', [
    (None, [0, 1, 2, 3, 4]), (2, [3, 4]), ([0], [0]), ([1, 3], [1, 3]), ([-1], [4]), ([0, -2], [0, 3]),
])
def test_forward_intermediates(model, indices, expected):
    x = images()
    with torch.no_grad():
        final, intermediates = model.forward_intermediates(x, indices)
        torch.testing.assert_close(final, model.forward_features(x))
        every = model.forward_intermediates(x, intermediates_only=True)
        assert [f.shape[1] for f in every] == CHANNELS['mobilenext_035']
        for stop_early in (False, True):
            only = model.forward_intermediates(x, indices, intermediates_only=True, stop_early=stop_early)
            for actual in (intermediates, only):
                assert len(actual) == len(expected)
                assert all(torch.equal(f, every[i]) for f, i in zip(actual, expected, strict=True))
        last, _ = model.forward_intermediates(x, indices, stop_early=True)
        torch.testing.assert_close(last, every[max(expected)])


def test_forward_intermediates_extra_blocks(model):
    x = images()
    with torch.no_grad():
        every = model.forward_intermediates(x, intermediates_only=True, extra_blocks=True)
        assert len(every) == 9  # the stem and 8 stages
        y = model.bn1(model.conv_stem(x))
        for stage, feature in zip([nn.Identity(), *model.blocks], every, strict=True):
            y = stage(y)
            torch.testing.assert_close(feature, y)
        picked = model.forward_intermediates(x, [2, -1], intermediates_only=True, extra_blocks=True, stop_early=True)
    assert torch.equal(picked[0], every[2]) and torch.equal(picked[1], every[8])


@pytest.mark.parametrize('indices', [7, [5], [-6], 0])
def test_forward_intermediates_out_of_range(model, indices):
    with pytest.raises((AssertionError, ValueError, IndexError)):
        model.forward_intermediates(images(1), indices)


@pytest.mark.parametrize('prune_head', [True, False])
@pytest.mark.parametrize('extra_blocks', [True, False])
@pytest.mark.parametrize('indices, last', [(1, -1), ([0], 0), ([1, 2], 2), ([0, 3], 3), ([-1], -1), (2, -1)])
def test_prune_intermediate_layers(model, indices, last, extra_blocks, prune_head):
    pruned = deepcopy(model)
    x = images()
    take = partial(MobileNeXt.forward_intermediates, x=x, intermediates_only=True, extra_blocks=extra_blocks)
    with torch.no_grad():
        before = take(model, indices=indices)
        kept = pruned.prune_intermediate_layers(indices, prune_head=prune_head, extra_blocks=extra_blocks)
        assert len(kept) == len(before)
        assert len(pruned.blocks) == (8 if last == -1 else last if extra_blocks else [0, 2, 3, 5][last])
        if isinstance(pruned.get_classifier(), nn.Identity):
            assert pruned(x).shape[1] == pruned.num_features == before[-1].shape[1]
        else:
            assert not prune_head and last == -1
            torch.testing.assert_close(pruned(x), model(x))
        if last == -1:  # timm counts negative ones from what is left
            after = take(pruned, indices=indices)
        elif extra_blocks:
            after = take(pruned, indices=kept)
        else:
            return
        assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


def test_prune_then_new_classifier(model):
    """What is left is a backbone of its own, with a head of the right width."""
    pruned = deepcopy(model)
    pruned.prune_intermediate_layers([2])
    pruned.reset_classifier(6, 'avg')
    assert pruned(images()).shape == (2, 6)
    assert pruned.classifier.in_features == 64


@pytest.mark.parametrize('pool', ['avg', 'max', 'catavgmax'])
def test_reset_classifier_keeps_pooling(pool):
    model = create(num_classes=10, global_pool=pool)
    model.reset_classifier(4)
    assert model.global_pool.pool_type == pool and model.num_classes == 4
    assert model(images()).shape == (2, 4) and model.get_classifier() is model.classifier
    model.reset_classifier(0)
    assert model(images()).shape == (2, model.head_hidden_size)
    model.reset_classifier(3, 'avg')
    assert model.global_pool.pool_type == 'avg' and model(images()).shape == (2, 3)
    assert model.head_hidden_size == 1280


def test_reset_classifier_behind_another_stem():
    model = create(num_classes=10, dtype=torch.float64)
    model.conv_stem = nn.Sequential(nn.Conv2d(4, 3, 1, dtype=torch.float64), model.conv_stem)
    model.reset_classifier(4)
    assert model(images(chans=4, dtype=torch.float64)).shape == (2, 4)


def test_reset_classifier_keeps_mode():
    model = create().eval()
    model.reset_classifier(4)
    assert not any(m.training for m in model.modules())


@pytest.mark.parametrize('features_only', [False, True])
def test_grad_checkpointing(features_only):
    plain = randomize(create(features_only=features_only, num_classes=5)).double()
    checkpointed = deepcopy(plain)
    checkpointed.set_grad_checkpointing()
    x = images(dtype=torch.float64)
    saved = []
    for model in (plain, checkpointed):
        packed = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, packed=packed: packed.append(None) or t, lambda t: t):
            out = model(x)
        saved.append(len(packed))
        (sum(f.square().mean() for f in out) if features_only else out.square().sum()).backward()
    assert saved[1] < saved[0] / 4
    for (name, p), q in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
        if p.grad is not None:
            torch.testing.assert_close(q.grad, p.grad, msg=name)
    checkpointed.set_grad_checkpointing(False)
    assert not checkpointed.grad_checkpointing


def test_grad_checkpointing_forward_intermediates(model):
    checkpointed = deepcopy(model)
    checkpointed.set_grad_checkpointing()
    x = images()
    for a, b in zip(checkpointed.forward_intermediates(x)[1], model.forward_intermediates(x)[1], strict=True):
        torch.testing.assert_close(a, b)


def test_layer_decay():
    model = create(num_classes=10)
    groups = create_optimizer_v2(model, 'sgd', lr=0.1, weight_decay=1e-4, layer_decay=0.8).param_groups
    scales = {id(p): group['lr_scale'] for group in groups for p in group['params']}
    assert len(scales) == sum(len(group['params']) for group in groups) == len(list(model.parameters()))
    by_layer = [scales[id(model.conv_stem.weight)]]
    assert scales[id(model.bn1.weight)] == by_layer[0]
    for stage in model.blocks:
        for block in stage:
            values = {scales[id(p)] for p in block.parameters()}
            assert len(values) == 1  # a block is a layer
            by_layer += values
    by_layer.append(scales[id(model.classifier.weight)])
    assert by_layer == pytest.approx([0.8 ** (21 - i) for i in range(22)])


def test_coarse_groups_are_stages():
    model = create()
    groups = timm.models.group_parameters(model, model.group_matcher(coarse=True))
    assert len(groups) == 10  # stem, 8 stages, head
    assert sorted(name for names in groups.values() for name in names) == sorted(n for n, _ in model.named_parameters())


def test_as_sequential(model):
    x = images()
    torch.testing.assert_close(model.as_sequential()(x), model(x))


def test_no_weight_decay_on_norms_and_biases():
    model = create()
    groups = create_optimizer_v2(model, 'sgd', lr=0.1, weight_decay=1e-4).param_groups
    free = {id(p) for group in groups if group['weight_decay'] == 0 for p in group['params']}
    assert free == {id(p) for p in model.parameters() if p.ndim == 1}


# weight initialization

def init_report(model, scheme):
    """ name -> (measured, due) deviation of the weights of each convolution and linear layer that has enough of them"""
    report = {}
    for name, m in model.named_modules():
        if isinstance(m, nn.Conv2d):
            fan_out = m.kernel_size[0] * m.kernel_size[1] * m.out_channels
            due = math.sqrt(2 / (fan_out if scheme == 'authors' else fan_out // m.groups))
        elif isinstance(m, nn.Linear):
            due = 0.01 if scheme == 'authors' else 1 / math.sqrt(3 * m.out_features)
        else:
            continue
        assert m.bias is None or m.bias.eq(0).all(), name
        if m.weight.numel() >= 1000:
            report[name] = m.weight.std().item(), due
    return report


@pytest.mark.parametrize('rule, widths', [
    ('authors', [32, 32]), ('even', [16, 22]), (lambda in_chs, out_chs, exp_ratio: 5, [5, 5])])
def test_reduce_chs_fn(rule, widths):
    arch_def = [['sg_r1_k3_s2_e2_c144'], ['sg_r2_k3_s2_e9_c192']]
    model = timm.create_model('mobilenext_100', arch_def=arch_def, reduce_chs_fn=rule, device='meta')
    assert [block.conv_pw1.out_channels for block in model.blocks[1]] == widths


@pytest.mark.parametrize('name', ['mobilenext_s', 'mobilenext_l', 'mobilenext_l_ghost'])
def test_efficient_networks(name):
    """What the authors built into them, and PyTorch's own initialization."""
    model = timm.create_model(name)
    assert model.drop_rate == 0.2
    blocks = [block for stage in model.blocks for block in stage]
    for i, block in enumerate(blocks):
        assert getattr(block.drop_path, 'drop_prob', 0) == pytest.approx(0.2 * i / len(blocks))
    assert all(m.eps == 1e-3 and m.momentum == 0.01 for m in norms(model))
    # TF's padding is asymmetric at a stride
    assert type(model.conv_stem).__name__ == 'Conv2dSame'
    for conv in [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.weight.numel() > 2000]:
        bound = 1 / math.sqrt(conv.weight[0].numel())
        assert 0.9 * bound < conv.weight.abs().max() <= bound
    torch.manual_seed(0)
    model.reset_classifier(50)
    torch.manual_seed(0)
    assert torch.equal(model.classifier.weight, nn.Linear(1280, 50).weight)
    changed = timm.create_model(name, drop_rate=0.1, drop_path_rate=0., act_layer='relu', bn_eps=1e-5)
    assert changed.drop_rate == 0.1 and isinstance(changed.bn1.act, nn.ReLU) and changed.bn1.eps == 1e-5
    assert not any('DropPath' in type(m).__name__ for m in changed.modules())


def check_init(model, scheme):
    report = init_report(model, scheme)
    assert len(report) > 40
    for name, (measured, due) in report.items():
        assert measured == pytest.approx(due, rel=0.12), name
    for m in norms(model):
        assert m.weight.eq(1).all() and m.bias.eq(0).all()
        assert m.running_var.gt(0).all() and m.running_var.ne(1).all() and m.num_batches_tracked == 0


@pytest.mark.parametrize('features_only', [False, True])
@pytest.mark.parametrize('kwargs, scheme', [
    (dict(), 'authors'), (dict(weight_init='authors'), 'authors'), (dict(weight_init='timm'), 'timm'),
])
def test_weight_init(kwargs, scheme, features_only):
    check_init(timm.create_model('mobilenext_100', features_only=features_only, **kwargs), scheme)


def test_schemes_differ_where_it_matters():
    authors, efficient = create(), create(weight_init='timm')
    ratio = efficient.blocks[6][1].conv_dw1.weight.std() / authors.blocks[6][1].conv_dw1.weight.std()
    assert ratio.item() == pytest.approx(math.sqrt(authors.blocks[6][1].conv_dw1.out_channels), rel=0.1)
    assert authors.classifier.weight.abs().max() > 0.03 > efficient.classifier.weight.abs().max() * 0.9


@pytest.mark.parametrize('scheme', ['authors', 'timm'])
def test_reset_classifier_draws_by_the_scheme(scheme):
    model = create(weight_init=scheme)
    rest = {key: value.clone() for key, value in model.state_dict().items() if 'classifier' not in key}
    model.reset_classifier(50)
    assert model.classifier.weight.std().item() == pytest.approx(init_report(model, scheme)['classifier'][1], rel=0.05)
    assert model.classifier.bias.eq(0).all()
    assert all(torch.equal(value, rest[key]) for key, value in model.state_dict().items() if key in rest)


@pytest.mark.parametrize('scheme', ['authors', 'timm'])
def test_new_num_classes_draws_by_the_scheme(scheme, tmp_path):
    torch.save(create(num_classes=1000).state_dict(), tmp_path / 'weights.pth')
    model = create(
        pretrained=True, num_classes=50, weight_init=scheme,
        pretrained_cfg_overlay=dict(file=str(tmp_path / 'weights.pth')))
    due = 0.01 if scheme == 'authors' else 1 / math.sqrt(3 * 50)
    assert model.classifier.weight.std().item() == pytest.approx(due, rel=0.05)


def materialize(**kwargs):
    """From the meta device, with storage as it may be found."""
    model = timm.create_model(device='meta', **kwargs).to_empty(device='cpu')
    with torch.no_grad():
        for t in [*model.parameters(), *model.buffers()]:
            t.fill_(float('nan') if t.is_floating_point() else 77)
    model.init_weights()
    return model


@pytest.mark.parametrize('features_only', [False, True])
@pytest.mark.parametrize('scheme', ['authors', 'timm'])
def test_init_weights_after_meta_device(scheme, features_only):
    model = materialize(model_name='mobilenext_100', weight_init=scheme, features_only=features_only)
    check_init(model, scheme)


@pytest.mark.parametrize('kwargs', [
    dict(aa_layer='blur'), dict(norm_layer='groupnorm1'), dict(norm_layer='layernorm2d'), dict(arch_def=TINY),
    dict(arch_def=[['ir_r1_k3_s2_e4_c32_se0.25', 'ds_r1_k3_s1_c32', 'er_r1_k3_s1_e4_c32', 'cn_r1_k3_s1_c32']]),
    dict(arch_def=[['mqa_r1_k3_s1_h2_d16_v2_c32', 'mha_r1_k3_s1_h2_d16_c32', 'uir_r1_k3_s1_e4_c32']]),
    dict(arch_def=[['ir_r1_k3_s2_e4_c32_cc4']]),
], ids=str)
def test_init_weights_fills_everything(kwargs):
    if 'aa_layer' in kwargs and not hasattr(timm.layers.BlurPool2d, 'reset_parameters'):
        pytest.skip("this timm's BlurPool2d cannot refill its buffer")
    model = materialize(model_name='mobilenext_035', **kwargs)
    fresh = timm.create_model('mobilenext_035', **kwargs)
    assert all(t.isfinite().all() for t in model.state_dict().values())
    for (name, ours), theirs in zip(model.named_buffers(), fresh.buffers(), strict=True):
        if 'running' in name:  # of other weights
            torch.testing.assert_close(ours.mean(), theirs.mean(), rtol=0.5, atol=0.5)
        else:
            assert torch.equal(ours, theirs), name
    for (name, ours), theirs in zip(model.named_parameters(), fresh.named_parameters(), strict=True):
        if ours.numel() > 200:
            assert ours.std().item() == pytest.approx(theirs[1].std().item(), rel=0.3, abs=1e-6), name
    assert model(images()).isfinite().all()


def test_init_weights_is_drawn_from_the_seed():
    state_dicts = []
    for model in (create(), randomize(create(drop_rate=0.1))):
        torch.manual_seed(3)
        model.init_weights()
        state_dicts.append(model.state_dict())
    assert all(torch.equal(value, state_dicts[1][key]) for key, value in state_dicts[0].items())


# saved and loaded by timm alone

@pytest.mark.skipif(timm_version() < (1, 0, 30), reason='timm before 1.0.30 does not record _model_args')
@pytest.mark.parametrize('name, kwargs', [
    ('mobilenext_035', dict(num_classes=5)),
    ('mobilenext_100_id033', dict(num_classes=5, in_chans=1)),
    ('mobilenext_035', dict(num_classes=5, identity_multiplier=0.5, linear_bottleneck=False)),
    ('mobilenext_035', dict(num_classes=5, dw_position='before', linear_output=True)),
    ('mobilenext_100', dict(num_classes=5, arch_def=TINY, channel_multiplier=0.5, identity_multiplier=1 / 3)),
    ('mobilenext_035', dict(num_classes=0, global_pool='catavgmax', noskip=True, act_layer='silu')),
])
def test_saved_folder(name, kwargs, tmp_path):
    model = randomize(timm.create_model(name, **kwargs)).eval()
    save_for_hf(model, tmp_path, safe_serialization=True)
    loaded = timm.create_model(f'local-dir:{tmp_path}', pretrained=True).eval()
    x = images(chans=kwargs.get('in_chans', 3))
    with torch.no_grad():
        assert torch.equal(loaded(x), model(x))
    assert loaded.pretrained_cfg['architecture'] == name


@pytest.mark.parametrize('name', ['mobilenext_035', 'mobilenext_100_id033'])
def test_saved_folder_of_a_registered_model(name, tmp_path):
    """On every supported timm."""
    model = randomize(timm.create_model(name, num_classes=5)).eval()
    save_for_hf(model, tmp_path, safe_serialization=True)
    loaded = timm.create_model(f'local-dir:{tmp_path}', pretrained=True).eval()
    x = images()
    with torch.no_grad():
        assert torch.equal(loaded(x), model(x))


@pytest.mark.skipif(timm_version() < (1, 0, 30), reason='timm before 1.0.30 does not record _model_args')
def test_saved_folder_to_other_classes_and_features(tmp_path):
    model = create(num_classes=5, identity_multiplier=0.5)
    save_for_hf(model, tmp_path, safe_serialization=True)
    tuned = timm.create_model(f'local-dir:{tmp_path}', pretrained=True, num_classes=3)
    assert tuned.classifier.out_features == 3 and torch.equal(tuned.conv_stem.weight, model.conv_stem.weight)
    features = timm.create_model(f'local-dir:{tmp_path}', pretrained=True, features_only=True)
    assert torch.equal(features.blocks[7][0].conv_dw2.weight, model.blocks[7][0].conv_dw2.weight)


def test_load_state_dict_not_strict(model):
    """Weights that fit are loaded, and the others are reported, as for every module."""
    fresh = create(num_classes=10)
    state_dict = {key: value for key, value in model.state_dict().items() if not key.startswith('classifier')}
    result = fresh.load_state_dict({**state_dict, 'extra': torch.zeros(1)}, strict=False)
    assert set(result.missing_keys) == {'classifier.weight', 'classifier.bias'} and result.unexpected_keys == ['extra']
    assert torch.equal(fresh.conv_stem.weight, model.conv_stem.weight)


@pytest.mark.parametrize('kwargs', [
    dict(), dict(narrow_skip=True), dict(features_only=True, feature_location='expansion')], ids=str)
def test_memory_is_free_at_once(kwargs):
    model = create(device='meta', **kwargs)
    copies = [deepcopy(model), pickle.loads(pickle.dumps(model))]
    gone = [weakref.ref(part) for network in (model, *copies) for part in (network, network.conv_stem)]
    gc.disable()
    try:
        del model, copies
        assert [part() for part in gone] == [None] * 6
    finally:
        gc.enable()


def test_copy_and_pickle(model):
    x = images()
    for copy in (deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(copy(x), model(x))
        copy.conv_stem.weight.data.zero_()
        assert not torch.equal(copy(x), model(x))


def test_ema(model):
    source = deepcopy(model).train()
    ema = timm.utils.ModelEmaV3(source, decay=0.5)
    source(images())
    ema.update(source)
    assert rel_error(ema.module.bn1.running_mean, (model.bn1.running_mean + source.bn1.running_mean) / 2) < 1e-5
