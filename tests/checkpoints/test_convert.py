"""The authors' keys made ours, weights loaded into models, and what does not fit."""
from functools import lru_cache

import pytest
import torch
from authors import is_golden, load_golden

import timm
from timm.utils import freeze

from timm_mobilenext.checkpoints.convert import classes_and_channels, fit_state_dict, load_into, measure
from timm_mobilenext.shared.names import create_empty

# the smallest model of each family of timm whose smallest has 32 million parameters at most
FAMILIES = """
    cait_xxs24_224 coat_tiny convit_tiny convmixer_768_32 cpubone_nano crossvit_tiny_240 cs3darknet_focus_s
    csatv2 cspnext_tiny davit_tiny deit_tiny_patch16_224 densenet121 dla46x_c dpn48b edgenext_xx_small
    efficientformer_l1 efficientformerv2_s0 efficientvim_m1 efficientvit_b0 efficientvit_m0
    ese_vovnet19b_slim_dw fasternet_t0 fastvit_t8 focalnet_tiny_srf gcvit_xxtiny ghostnet_050 gmlp_ti16_224
    halonet_h1 hardcorenas_b hgnetv2_b0 hiera_tiny_224 hrnet_w18_small iformer_t inception_next_atto
    inception_v3 lcnetv2_small legacy_seresnet18 legacy_xception levit_128s lowformer_b0 mobilenetv3_small_050
    mobilevit_xxs mvitv2_tiny nest_tiny nextvit_small pit_ti_224 poolformerv2_s12 pvt_v2_b0 rdnet_tiny
    regnetx_002 repghostnet_050 repvit_m1 res2next50 resnest14d resnetv2_18 rexnet_100 sam2_hiera_tiny
    selecsls42 sequencer2d_s shvit_s1 skresnet18 starnet_s050 swiftformer_xs swin_tiny_patch4_window7_224
    swinv2_cr_tiny_224 swinv2_tiny_window16_256 test_byobnet test_coatnet test_convnext test_efficientnet
    test_mambaout test_nfnet test_resnet test_vit test_vit_relpos tiny_vit_5m_224 tnt_s_legacy_patch16_224
    tresnet_m twins_svt_small visformer_tiny vit_tiny_patch16_dinov3_qkvb vit_tiny_r_s16_p8_224
    vitamin_small_224 volo_d1_224 xception41p xcit_nano_12_p8_224
""".split()


def test_another_networks_checkpoint(message_of, create_from):
    weights = load_golden('mnext_w035').state_dict
    message = message_of(create_from, 'mobilenext_100', weights)
    assert 'of another network' in message and 'of another shape' in message


@pytest.mark.parametrize('count', [1, 12])
def test_missing_and_extra_keys_are_named(message_of, create_from, count):
    """timm is not strict with weights for other classes. Missing weights would stay random."""
    weights = dict(load_golden('mnext_w100').state_dict)
    missing = [key for key in weights if key.startswith('features.5') and key.endswith('weight')]
    missing += [key for key in weights if key.startswith('features.6') and key.endswith('weight')]
    for i, key in enumerate(missing[:count]):
        weights[f'extra.{i}'] = weights.pop(key)
    message = message_of(create_from, 'mobilenext_100', weights)
    assert f'{count} of ' in message and 'extra.0' in message and 'missing: blocks.' in message
    assert ('and 2 more' in message) == (count == 12)


def test_weights_for_a_frozen_network():
    """timm.utils.freeze takes the counters of its norms away."""
    model = timm.create_model('mobilenext_035')
    state_dict = model.state_dict()
    freeze(model, ['blocks.0', 'bn1'])
    model.load_state_dict(state_dict)


def test_unused_norm_is_dropped_and_nothing_else():
    weights = dict(load_golden('efficient_b0').state_dict)
    assert '_bn1.weight' in weights
    model = timm.create_model('mobilenext_s')
    model.load_state_dict(weights)
    weights['_bn2.weight'] = weights['_bn1.weight']
    with pytest.raises(RuntimeError, match='_bn2.weight'):
        model.load_state_dict(weights)


def test_load_into_a_model_takes_the_authors_keys():
    model = timm.create_model('mobilenext_035')
    load_into(model, load_golden('mnext_w035').state_dict)
    assert is_golden(model.eval(), 'mnext_w035')


def test_load_into_any_model_of_timm(message_of):
    source, model = (timm.create_model('resnet10t', num_classes=4) for _ in range(2))
    load_into(model, source.state_dict())
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in model.state_dict().items())
    message = message_of(load_into, timm.create_model('resnet10t', num_classes=5), source.state_dict())
    assert 'a classifier of 4 classes, this ResNet one of 5' in message and 'num_classes=4' in message
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert 'another network' in message_of(load_into, model, {**source.state_dict(), 'extra': torch.zeros(1)})
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize('num_classes', [1000, 3, 0])
def test_fit_without_the_head_on_the_meta_device(num_classes, message_of):
    """A backbone takes a checkpoint with any classes. Every other tensor is checked."""
    model = timm.create_model('mobilenext_035', device='meta')
    weights = timm.create_model('mobilenext_035', num_classes=num_classes).state_dict()
    fitted = fit_state_dict(weights, model, head=False)
    assert set(fitted) == {key for key in weights if not key.startswith('classifier.')}
    assert all(fitted[key] is weights[key] for key in fitted)
    del weights['conv_stem.weight']
    assert 'missing: conv_stem.weight' in message_of(fit_state_dict, weights, model, head=False)


@pytest.mark.parametrize('make, expected', [
    (lambda: load_golden('mnext_w035').state_dict, (1000, 3)),
    (lambda: load_golden('efficient_b0').state_dict, (1000, 3)),
    (lambda: {f'model.{key}': value for key, value in load_golden('mnext_w035').state_dict.items()}, (1000, 3)),
    (lambda: {'weight': torch.zeros(2)}, (0, None)),
    (lambda: {'conv_stem.weight': torch.zeros(16, 0, 3, 3), 'classifier.weight': torch.tensor(1.)}, (0, None)),
], ids=['mnext', 'efficient', 'prefix', 'nothing', 'strange'])
def test_classes_and_channels(make, expected):
    assert classes_and_channels(make()) == expected


def create_with(name):
    return lru_cache(lambda n: create_empty(name, num_classes=n, in_chans=n))


@pytest.mark.tools
@pytest.mark.parametrize('name', FAMILIES)
def test_classes_and_channels_of_every_family_of_timm(name):
    if not timm.is_model(name):
        pytest.skip(f'this timm has no {name}')
    create = create_with(name)
    blind = name == 'csatv2'  # it turns images to frequencies of three channels, whatever they have
    assert measure(create(4).state_dict(), create) == (4, None if blind else 4)


@pytest.mark.tools
@pytest.mark.parametrize('name, kwargs', [
    ('tresnet_m', {}),  # its stem takes patches of 4 x 4 pixels
    ('resnet10t', {}),
    ('resnet18', dict(stem_type='deep')),  # its configuration names another stem
    ('mobilenext_035', {}),
], ids=str)
@pytest.mark.parametrize('num_classes, in_chans', [(7, 1), (0, 5)])
def test_classes_and_channels_that_no_model_has(name, kwargs, num_classes, in_chans):
    weights = create_empty(name, num_classes=num_classes, in_chans=in_chans, **kwargs).state_dict()
    weights = {f'model.net.{key}': value for key, value in weights.items()}
    found = measure(weights, lambda n: create_empty(name, num_classes=n, in_chans=n, **kwargs))
    assert found == (num_classes, in_chans)


@pytest.mark.parametrize('make', [
    lambda weights: weights,
    lambda weights: {f'model.{key}': value for key, value in weights.items()},
    lambda weights: {f'net.module.{key}': value for key, value in weights.items()} | {'n_averaged': torch.tensor(3)},
    lambda weights: weights | {'total_ops': torch.zeros(1), 'features.1.total_params': torch.zeros(1)},
], ids=['plain', 'Lightning', 'averaged', 'profiled'])
def test_a_model_loads_what_others_put_around_its_weights(make):
    model = timm.create_model('mobilenext_035')
    model.load_state_dict(make(load_golden('mnext_w035').state_dict))
    assert is_golden(model.eval(), 'mnext_w035')


def test_checkpoint_for_a_feature_extractor_names_the_way_that_works(message_of, tmp_path):
    source, file = timm.create_model('mobilenext_035', num_classes=7), tmp_path / 'weights.pth'
    torch.save(source.state_dict(), file)
    message = message_of(timm.create_model, 'mobilenext_035', features_only=True, checkpoint_path=str(file))
    assert 'pretrained=True, pretrained_cfg_overlay=dict(file=' in message and 'num_classes=7' not in message
    model = timm.create_model(
        'mobilenext_035', features_only=True, pretrained=True, pretrained_cfg_overlay=dict(file=str(file)))
    assert torch.equal(model.conv_stem.weight, source.conv_stem.weight)
