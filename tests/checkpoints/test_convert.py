"""The authors' keys made ours, weights loaded into models, and what does not fit."""
import pytest
import torch
from authors import is_golden, load_golden

import timm
from timm.utils import freeze

from timm_mobilenext.checkpoints.convert import classes_and_channels, fit_state_dict, load_into


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


@pytest.mark.parametrize('make, name, expected', [
    (lambda: load_golden('mnext_w035').state_dict, None, (1000, 3)),
    (lambda: load_golden('efficient_b0').state_dict, None, (1000, 3)),
    (lambda: timm.create_model('resnet10t', num_classes=4, in_chans=1).state_dict(), 'resnet10t', (4, 1)),
    (lambda: {'weight': torch.zeros(2)}, None, (0, None)),
    (lambda: {'conv_stem.weight': torch.zeros(16, 0, 3, 3), 'classifier.weight': torch.tensor(1.)}, None, (0, None)),
], ids=['mnext', 'efficient', 'resnet', 'nothing', 'strange'])
def test_classes_and_channels(make, name, expected):
    cfg = timm.get_pretrained_cfg(name).to_dict() if name else None
    assert classes_and_channels(make(), cfg) == expected
