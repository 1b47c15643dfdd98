"""pretrained=True: the authors' checkpoints from the loopback, the weights in the package, and a user's own file."""

import pytest
import torch
from authors import authors_checkpoint, is_golden, load_golden, OFFICIAL
from helpers import SHIPPED, timm_version
from safetensors.torch import save_file

import timm


@pytest.mark.parametrize('name', OFFICIAL)
@pytest.mark.parametrize('zipped', [False, True])
def test_pretrained_is_golden(name, zipped, pin, tmp_path, caplog):
    directory, golden_name, ema = OFFICIAL[name]
    overlay = pin(directory, authors_checkpoint(name, zipped))
    with caplog.at_level('INFO'):
        model = timm.create_model(
            f'{name}.official_in1k', pretrained=True, pretrained_cfg_overlay=overlay, cache_dir=tmp_path)
    assert is_golden(model, golden_name)
    assert ('EMA weights' if ema else 'raw weights') in caplog.text
    assert 'state_dict' not in model.pretrained_cfg
    file, = (file.name for file in tmp_path.iterdir() if file.suffix != '.lock')
    assert directory in file


@pytest.mark.parametrize('name', OFFICIAL)
def test_cfg_says_where_weights_come_from(name):
    cfg = timm.get_pretrained_cfg(name)
    directory = OFFICIAL[name][0]
    assert cfg.tag == 'official_in1k' and cfg.license == 'bsd-3-clause-clear' and cfg.input_size == (3, 224, 224)
    assert cfg.url == (
        'https://raw.githubusercontent.com/zhoudaquan/rethinking_bottleneck_design/'
        f'195ee737952e2f8d729a14b51651748caf35794c/mobilenext/output/{directory}/model_best.pth.tar')
    assert cfg.notes[0].startswith('ImageNet-1k top-1 7') and 'top-5 9' in cfg.notes[0]


def test_listed():
    expected = sorted([f'{name}.official_in1k' for name in OFFICIAL] + [SHIPPED])
    assert timm.list_models('mobilenext_*', pretrained=True) == expected
    assert timm.list_pretrained('mobilenext_*') == expected


def test_shipped_weights_leave_the_model_as_it_was():
    """timm takes the first tag with weights as the default. A marked tag comes second."""
    model = timm.create_model('mobilenext_050')
    assert model.num_classes == 1000 and model.pretrained_cfg['input_size'] == (3, 224, 224)
    assert timm.get_pretrained_cfg('mobilenext_050').tag == 'untrained'


def test_shipped_weights_need_no_network_and_start_a_training_on_other_classes():
    shipped = timm.create_model(SHIPPED, pretrained=True)
    assert shipped.num_classes == 10 and shipped.pretrained_cfg['input_size'] == (3, 64, 64)
    assert shipped.pretrained_cfg['label_names'][2:4] == ('bird', 'cat')
    other = timm.create_model(SHIPPED, pretrained=True, num_classes=3)
    assert other.classifier.weight.shape == (3, 1280)
    assert torch.equal(other.blocks[6][2].conv_pw1.weight, shipped.blocks[6][2].conv_pw1.weight)
    features = timm.create_model(SHIPPED, pretrained=True, features_only=True)
    assert torch.equal(features.blocks[6][2].conv_pw1.weight, shipped.blocks[6][2].conv_pw1.weight)


@pytest.mark.parametrize('name', ['mobilenext_050', 'mobilenext_140', 'mobilenext_100_id033'])
def test_missing_weights_are_never_replaced_by_random_ones(name):
    with pytest.raises(RuntimeError, match='No pretrained weights exist'):
        timm.create_model(name, pretrained=True)


def test_adapts_to_classes_and_channels(official, tmp_path):
    weights = load_golden('mnext_w100').state_dict
    model = official(tmp_path, num_classes=5, in_chans=1)
    assert model.classifier.weight.shape == (5, 1280)
    torch.testing.assert_close(model.conv_stem.weight, weights['features.0.0.weight'].sum(1, keepdim=True))
    assert torch.equal(model.blocks[-1][-1].bn4.bias, weights['features.20.conv.9.bias'])


@pytest.mark.parametrize('kwargs', [
    dict(), dict(feature_location='downsample'),
    *(dict(feature_cls=cls) for cls in ('list', 'dict', 'hook', 'fx', 'getter')),
], ids=str)
def test_features(official, tmp_path, kwargs):
    model = official(tmp_path, features_only=True, **kwargs)
    weights = load_golden('mnext_w100').state_dict
    stem = next(value for key, value in model.state_dict().items() if key.endswith('conv_stem.weight'))
    assert torch.equal(stem, weights['features.0.0.weight'])
    assert not any('state_dict' in m.pretrained_cfg for m in model.modules() if hasattr(m, 'pretrained_cfg'))


def test_downloaded_file(tmp_path):
    """The authors' file, however it came here: an offline machine, for instance."""
    file = tmp_path / 'model_best.pth.tar'
    file.write_bytes(authors_checkpoint('mobilenext_100'))
    model = timm.create_model('mobilenext_100', pretrained=True, pretrained_cfg_overlay=dict(file=str(file)))
    assert is_golden(model)


@pytest.mark.parametrize('kwargs', [dict(), dict(num_classes=3), dict(features_only=True)], ids=str)
def test_weights_that_lack_some_of_the_networks(message_of, kwargs):
    """Where the user says so, and all the others have to fit."""
    weights = timm.create_model('mobilenext_050').state_dict()

    def create(weights, **kwargs):
        return timm.create_model(
            'mobilenext_050_se', pretrained=True, pretrained_cfg_overlay=dict(state_dict=dict(weights)), **kwargs)

    assert 'missing' in message_of(create, weights, **kwargs)
    model = create(weights, pretrained_strict=False, **kwargs)
    loaded = {key: value for key, value in model.state_dict().items() if 'classifier' not in key and '.se.' not in key}
    assert len(loaded) > 200 and all(torch.equal(value, weights[key]) for key, value in loaded.items())
    weights['bn1.weight'] = torch.ones(7)
    assert 'bn1.weight (7,)' in message_of(create, weights, pretrained_strict=False, **kwargs)


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_file_of_other_classes_and_channels(message_of, tmp_path, suffix):
    """Nothing is drawn anew that is there."""
    source = timm.create_model('mobilenext_035', num_classes=10, in_chans=4)
    file = tmp_path / f'weights{suffix}'
    (save_file if suffix == '.safetensors' else torch.save)(source.state_dict(), file)

    def create(**kwargs):
        return timm.create_model('mobilenext_035', pretrained=True, pretrained_cfg_overlay=dict(file=file), **kwargs)

    model = create(num_classes=10, in_chans=4)
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in model.state_dict().items())
    assert 'num_classes=10' in message_of(create, in_chans=4)
    with pytest.raises(RuntimeError, match='conv_stem'):  # timm's own words
        create(num_classes=10)
    if timm_version() < (1, 0, 31):
        return  # adapts stems of three channels only
    other = create(num_classes=7, in_chans=3)
    assert other.classifier.weight.shape == (7, 1280) and other.conv_stem.weight.shape[1] == 3
    assert torch.equal(other.blocks[3][1].conv_pw1.weight, source.blocks[3][1].conv_pw1.weight)
