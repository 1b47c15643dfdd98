"""Checkpoints, safetensors and config.json that are damaged, strange or hostile: read, or refused in a line."""
import argparse
import io
import json
from collections import OrderedDict
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from helpers import Evil, randomize
from hypothesis import given
from hypothesis import strategies as st
from oracle import damaged, fuzz, is_whole_or_gone, STRANGE, tell, twisted
from safetensors.torch import save

import timm
from timm.models import save_for_hf

from timm_mobilenext.hub.convert import run_convert
from timm_mobilenext.hub.folders import load_hub_folder
from timm_mobilenext.hub.settings import ConvertSettings


def saved(checkpoint, **kwargs) -> bytes:
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer, **kwargs)
    return buffer.getvalue()


def convert(content: bytes, suffix: str = '.pth') -> str:
    """What a user reads of a conversion, after which nothing is half written."""
    with TemporaryDirectory() as folder:
        file, output = Path(folder, f'file{suffix}'), Path(folder, 'out')
        file.write_bytes(content)
        message = tell(run_convert, ConvertSettings(file, output))
        is_whole_or_gone(output)
        assert bool(message) != output.exists()
    return message


TINY = dict(
    arch='mobilenext_035', epoch=3, metric=1.5, args=argparse.Namespace(model='mobilenext_035', img_size=64),
    state_dict=OrderedDict({'conv_stem.weight': torch.ones(2, 3, 3, 3), 'bn1.num_batches_tracked': torch.tensor(1)}))


@fuzz()
@given(damaged(saved(TINY)) | damaged(saved(TINY, _use_new_zipfile_serialization=False)))
def test_damaged_checkpoint(content):
    convert(content)


@fuzz()
@given(damaged(save(dict(TINY['state_dict']), metadata={'format': 'pt'})))
def test_damaged_safetensors(content):
    convert(content, '.safetensors')


def test_nothing_is_executed(tmp_path):
    marker = tmp_path / 'executed'
    values = st.one_of(
        STRANGE, st.just(Evil(marker)), st.just(torch.ones(2, 2)), st.just(torch.ones(2).half()),
        st.just(torch.eye(2).to_sparse()), st.just(argparse.Namespace(model='mobilenext_035')))
    keys = st.sampled_from([
        'state_dict', 'state_dict_ema', 'model', 'args', 'arch', 'epoch', 'metric', 'conv_stem.weight'])
    structures = st.recursive(values, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        keys | st.text(max_size=3) | st.integers(0, 3), inner, max_size=4), max_leaves=8)

    @fuzz()
    @given(structures)
    def run(checkpoint):
        convert(saved(checkpoint))
        assert not marker.exists()

    run()


@pytest.fixture(scope='module')
def weights():
    return randomize(timm.create_model('mobilenext_035', num_classes=3)).state_dict()


def test_arguments_beside_sound_weights(weights):
    """They come from train.py, and say how the network was made."""
    args = dict(
        model='mobilenext_035', img_size=64, input_size=[3, 64, 64], mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5],
        interpolation='bicubic', crop_pct=0.9, crop_mode='center', gp='avg', bn_eps=1e-5, bn_momentum=0.1,
        model_kwargs=dict(act_layer='relu6', drop_rate=0.1))

    @fuzz(0.1)
    @given(twisted(dict(arch='mobilenext_035', epoch=3, metric=1.5, args=args)))
    def run(told):
        if isinstance(told.get('args'), dict):
            told['args'] = argparse.Namespace(**told['args'])
        convert(saved(dict(told, state_dict=weights)))

    run()


def test_config_of_a_hub_folder(tmp_path):
    model = timm.create_model('mobilenext_035', num_classes=3)
    save_for_hf(model, str(tmp_path), model_config=dict(label_names=['a', 'b', 'c']), safe_serialization=True)
    file = tmp_path / 'config.json'
    content = file.read_bytes()

    @fuzz(0.2)
    @given(twisted(json.loads(content)).map(lambda config: json.dumps(config).encode()) | damaged(content))
    def run(config):
        file.write_bytes(config)
        tell(load_hub_folder, tmp_path)

    run()
