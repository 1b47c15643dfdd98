"""Bad input: one line that says what was given, what was expected, and what to do."""
import pytest
import torch
from helpers import TINY
from torch import nn

import timm

from timm_mobilenext import create_mobilenext, SandglassBlock

nan, inf = float('nan'), float('inf')
SG = 'sg_r2_k3_s2_e6_c32'


def message_of(error, function, *args, **kwargs):
    with pytest.raises(error) as info:
        function(*args, **kwargs)
    message = str(info.value)
    assert len(message.splitlines()) == 1 and message.endswith('.')
    return message


# (arguments of create_model, what the message has to say)
BAD_ARGUMENTS = [
    *[(dict(identity_multiplier=value), ['identity_multiplier', repr(value), '(0, 1]', 'noskip=True'])
      for value in (0, -0.5, 1.5, nan, inf, True, 'half', (1, 2))],
    (dict(identity_multiplier=1e-4), ['identity_multiplier', '0.0001', 'no channel', 'at least 1/', 'noskip=True']),
    *[(dict(channel_multiplier=value), ['channel_multiplier', repr(value), 'above 0'])
      for value in (0, -1, nan, inf, 'wide')],
    *[(dict(depth_multiplier=value), ['depth_multiplier', repr(value), 'above 0'])
      for value in (0, -1, nan, inf, 'deep')],
    *[(dict(in_chans=value), ['in_chans', repr(value), 'whole number from 1']) for value in (0, -3, 1.5, '3')],
    *[(dict(num_classes=value), ['num_classes', repr(value), 'whole number from 0']) for value in (-1, 1.5, '10')],
    *[(dict(output_stride=value), ['output_stride', repr(value), '8, 16, 32']) for value in (7, 0, -8, 64, '8')],
    *[(dict(dw_position=value), ['dw_position', repr(value), 'both, before, after, bottleneck'])
      for value in ('middle', 'Both', 3)],
    *[(dict(group_size=value), ['group_size', repr(value)]) for value in (7, -1)],
    *[(dict(norm_layer=value, **kwargs), ['norm', 'batchnorm', 'groupnorm', 'expected'])
      for value in ('batchnrm', 'batchnorm3000', nn.ReLU) for kwargs in (dict(), dict(bn_eps=1e-3))],
    (dict(se_layer='sse'), ["'sse'", 'eca', 'expected']),
    (dict(act_layer='relu7'), ["'relu7'", 'relu6', 'expected']),
    (dict(reduce_chs_fn='odd'), ['reduce_chs_fn', "'odd'", 'authors, even', 'function']),
    (dict(weight_init='xavier'), ['weight_init', "'xavier'", 'authors, timm']),
    *[(dict(arch_def=value), ['arch_def', repr(value), 'list of lists', '[["sg_'])
      for value in ('sg_r1_k3_s2_c32', [SG], [[SG], SG], [], [[]], [[SG], []], {'a': [SG]}, {SG}, 5)],
    (dict(arch_def=[[SG, None]]), ['None', 'not a string', '"sg_']),
    (dict(arch_def=[[[SG]]]), [SG, 'not a string', '"sg_']),
    (dict(arch_def=[['sg_r2_k3_s2_e6_cc32']]), ['"sg_r2_k3_s2_e6_cc32"', '"cc32"', 'keepdw']),
]


@pytest.mark.parametrize('features_only', [False, True])
@pytest.mark.parametrize('kwargs, words', BAD_ARGUMENTS, ids=lambda value: str(value)[:50])
def test_bad_argument(kwargs, words, features_only):
    if features_only and 'num_classes' in kwargs:
        pytest.skip('a feature extractor has no classes')
    message = message_of(ValueError, timm.create_model, 'mobilenext_035', features_only=features_only, **kwargs)
    assert all(word in message for word in words)


@pytest.mark.parametrize('kwargs', [dict(dw_position='middle'), dict(aa_layer='blurry'), dict(group_size=-1)])
def test_network_argument_is_not_blamed_on_a_string(kwargs):
    """The user who set an argument never saw the paper's block strings."""
    assert 'Block string' not in message_of(ValueError, timm.create_model, 'mobilenext_035', **kwargs)


def test_bad_global_pool():
    message = message_of(ValueError, timm.create_model, 'mobilenext_035', global_pool='median')
    assert "'median'" in message and 'avg, max' in message


@pytest.mark.parametrize('value', [-1, 2.5, None, '3'])
def test_bad_reset_classifier(value):
    model = create_mobilenext(TINY, num_classes=4)
    message = message_of(ValueError, model.reset_classifier, value)
    assert 'num_classes' in message and repr(value) in message
    assert model.num_classes == 4 and model(torch.randn(2, 3, 32, 32)).shape == (2, 4)


def test_bad_feature_location():
    message = message_of(
        ValueError, timm.create_model, 'mobilenext_035', features_only=True, feature_location='inside')
    assert "'inside'" in message and 'bottleneck, expansion, downsample' in message


def test_downsample_location_of_other_blocks():
    arch_def = [['sg_r1_k3_s2_e2_c32'], ['ir_r1_k3_s2_e4_c32']]
    message = message_of(
        ValueError, create_mobilenext, arch_def, features_only=True, feature_location='downsample')
    assert 'downsample' in message and 'blocks.1.0' in message and 'InvertedResidual' in message


@pytest.mark.parametrize('kwargs, words', [
    (dict(dw_position='middle'), ['dw_position', "'middle'", 'both, before, after, bottleneck']),
    (dict(exp_ratio=0.5), ['exp_ratio', '0.5', 'at least 1']),
    (dict(exp_ratio=0), ['exp_ratio', '0', 'at least 1']),
    (dict(exp_ratio=nan), ['exp_ratio', 'nan', 'at least 1']),
    (dict(identity_multiplier=0), ['identity_multiplier', '0', '(0, 1]']),
    (dict(identity_multiplier=0.01), ['identity_multiplier', '0.01', '32']),
    (dict(group_size=5), ['group_size 5', '32']),
    (dict(group_size=-2), ['group_size -2', '32']),
])
def test_bad_block_argument(kwargs, words):
    message = message_of(ValueError, SandglassBlock, 32, 32, **kwargs)
    assert all(word in message for word in words)


# checkpoints

def load_plain(name, path, **kwargs):
    timm.create_model(name, **kwargs).load_state_dict(torch.load(path))


def load_checkpoint_path(name, path, **kwargs):
    timm.create_model(name, checkpoint_path=str(path), **kwargs)


def load_pretrained(name, path, **kwargs):
    timm.create_model(name, pretrained=True, pretrained_cfg_overlay=dict(file=str(path)), **kwargs)


every_loader = pytest.mark.parametrize('load', [load_plain, load_checkpoint_path, load_pretrained])


def saved(path, name, **kwargs):
    torch.save(timm.create_model(name, **kwargs).state_dict(), path)
    return path


@every_loader
@pytest.mark.parametrize('source', ['mobilenext_050', 'mobilenetv2_035', 'resnet10t'])
def test_checkpoint_of_another_network(load, source, tmp_path):
    path = saved(tmp_path / 'weights.pth', source)
    message = message_of(RuntimeError, load, 'mobilenext_035', path)
    assert 'another network' in message and 'MobileNeXt' in message and 'create the model' in message
    assert len(message) < 2000


@every_loader
@pytest.mark.parametrize('kwargs', [
    dict(dw_position='before'), dict(arch_def=TINY), dict(depth_multiplier=2.0), dict(channel_multiplier=0.5)])
def test_checkpoint_of_another_variant(load, kwargs, tmp_path):
    path = saved(tmp_path / 'weights.pth', 'mobilenext_035', **kwargs)
    assert 'another network' in message_of(RuntimeError, load, 'mobilenext_035', path)


@every_loader
def test_checkpoint_of_other_classes(load, tmp_path):
    path = saved(tmp_path / 'weights.pth', 'mobilenext_035', num_classes=10)
    # timm takes the classes that pretrained weights have from the model's configuration, 1000
    message = message_of(RuntimeError, load, 'mobilenext_035', path)
    assert '10 classes' in message and '1000' in message and 'num_classes=10' in message


@pytest.mark.parametrize('load', [load_plain, load_checkpoint_path])
def test_checkpoint_with_a_classifier_into_a_model_without(load, tmp_path):
    path = saved(tmp_path / 'weights.pth', 'mobilenext_035', num_classes=10)
    message = message_of(RuntimeError, load, 'mobilenext_035', path, num_classes=0)
    assert 'classifier' in message and 'num_classes=10' in message


@pytest.mark.parametrize('load', [load_plain, load_checkpoint_path])
def test_checkpoint_without_a_classifier(load, tmp_path):
    path = saved(tmp_path / 'weights.pth', 'mobilenext_035', num_classes=0)
    message = message_of(RuntimeError, load, 'mobilenext_035', path)
    assert 'classifier' in message and 'num_classes=0' in message


def test_checkpoint_of_other_channels(tmp_path):
    path = saved(tmp_path / 'weights.pth', 'mobilenext_035', in_chans=1)
    message = message_of(RuntimeError, load_plain, 'mobilenext_035', path)
    assert 'conv_stem.weight' in message and '(16, 1, 3, 3)' in message and '(16, 3, 3, 3)' in message


def test_failed_load_leaves_the_model_as_it_was(tmp_path):
    model, other = timm.create_model('mobilenext_035'), timm.create_model('mobilenext_035', num_classes=10)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    given = other.state_dict()
    keys = list(given)
    message_of(RuntimeError, model.load_state_dict, given)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert list(given) == keys
