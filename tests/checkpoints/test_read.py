"""Files that anyone may have written: parts are read, parts are refused, and nothing is executed."""
import argparse
import io
import pickle
import threading
import zipfile

import pytest
import torch
from authors import load_golden
from helpers import Evil

import timm

from timm_mobilenext.checkpoints.read import read_checkpoint


@pytest.mark.parametrize('zipped', [False, True])
def test_pickle_that_wants_to_run_code(message_of, pin, tmp_path, zipped):
    marker = tmp_path / 'executed'
    buffer = io.BytesIO()
    torch.save(dict(state_dict={}, args=Evil(marker)), buffer, _use_new_zipfile_serialization=zipped)
    if zipped:
        # it would run if it were unpickled
        with zipfile.ZipFile(io.BytesIO(buffer.getvalue())) as archive:
            pickle.loads(archive.read(next(name for name in archive.namelist() if name.endswith('data.pkl'))))
        assert marker.exists()
        marker.unlink()
    overlay = pin('74_02_full_id_tensor', buffer.getvalue())
    message = message_of(
        timm.create_model, 'mobilenext_100', pretrained=True, pretrained_cfg_overlay=overlay, cache_dir=tmp_path)
    assert 'is refused' in message and 'system' in message and 'nothing is executed' in message
    assert not marker.exists()


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_are_not_numbers(message_of, create_from, value):
    weights = {key: value.clone() for key, value in load_golden('mnext_w100').state_dict.items()}
    weights['features.3.conv.0.weight'][0] = value
    message = message_of(create_from, 'mobilenext_100', weights)
    assert 'damaged' in message and 'features.3.conv.0.weight' in message


@pytest.mark.parametrize('checkpoint, words', [
    (dict(epoch=3, args=argparse.Namespace()), ['no weights', 'epoch, args']),
    ([torch.zeros(3)], ['holds a list', 'state dict']),
    (dict(state_dict={'a': torch.zeros(3), 'b': 'c'}), ['not plain tensors: b']),
], ids=['no weights', 'list', 'string'])
def test_something_else(message_of, create_from, checkpoint, words):
    message = message_of(create_from, 'mobilenext_100', checkpoint)
    assert all(word in message for word in words), message


@pytest.mark.parametrize('name', ['missing.pth', 'missing.safetensors'])
def test_missing_file(message_of, tmp_path, name):
    overlay = dict(file=str(tmp_path / name))
    message = message_of(timm.create_model, 'mobilenext_035', pretrained=True, pretrained_cfg_overlay=overlay)
    assert name in message and 'No such file' in message


@pytest.mark.parametrize('prefix', ['module.', '_orig_mod.', '_orig_mod.module.'])
def test_prefixes_of_wrappers(tmp_path, prefix):
    source = timm.create_model('mobilenext_035').state_dict()
    torch.save({prefix + key: value for key, value in source.items()}, tmp_path / 'weights.pth')
    overlay = dict(file=str(tmp_path / 'weights.pth'))
    model = timm.create_model('mobilenext_035', pretrained=True, pretrained_cfg_overlay=overlay)
    assert all(torch.equal(value, source[key]) for key, value in model.state_dict().items())


def test_read_by_many_threads(tmp_path):
    torch.save(dict(args=argparse.Namespace(lr=0.1)), tmp_path / 'checkpoint.pth')
    failures = []

    def read():
        for _ in range(100):
            try:
                read_checkpoint(tmp_path / 'checkpoint.pth')
            except RuntimeError as e:
                failures.append(e)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
