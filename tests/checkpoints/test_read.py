"""Files that anyone may have written: parts are read, parts are refused, and nothing is executed."""
import argparse
import gzip
import io
import pickle
import threading
import zipfile

import numpy as np
import pytest
import torch
from authors import load_golden
from helpers import Evil
from safetensors.torch import save_file

import timm

from timm_mobilenext.checkpoints.read import read_checkpoint, select_state_dict


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


def weights():
    return {'a.weight': torch.zeros(3)}


@pytest.mark.parametrize('checkpoint', [
    dict(model_state_dict=weights(), optimizer_state_dict=dict(state={}, param_groups=[]), loss=torch.tensor(0.3)),
    dict(net=weights(), acc=93.0),
    dict(model='resnet18', weights=weights()),
    dict(state_dict=weights(), best=np.float64(0.3), epoch=np.int64(3), done=np.bool_(True)),
], ids=['tutorial', 'net', 'name', 'numpy'])
def test_weights_wherever_a_training_put_them(tmp_path, checkpoint):
    torch.save(checkpoint, tmp_path / 'weights.pth')
    state_dict, kind = select_state_dict(read_checkpoint(tmp_path / 'weights.pth'))
    assert list(state_dict) == ['a.weight'] and kind == 'raw'


@pytest.mark.parametrize('checkpoint, words', [
    (dict(generator=weights(), critic=weights()), ['several state dicts, generator, critic', 'save the right one']),
    ({'a.weight_orig': torch.zeros(3), 'a.weight_mask': torch.ones(3)}, ['pruning', 'a.weight_orig', 'prune.remove']),
    ({'a.parametrizations.weight.original0': torch.zeros(3)}, ['parametrization', 'remove_parametrizations']),
    ({'a.zero_point': torch.zeros(3)}, ['quantization', 'from before it']),
    ({'a.lora_A.weight': torch.zeros(3)}, ['LoRA', 'merge']),
], ids=['several', 'pruned', 'parametrized', 'quantized', 'LoRA'])
def test_weights_that_have_to_be_told_apart_or_made_whole(message_of, checkpoint, words):
    message = message_of(select_state_dict, checkpoint)
    assert all(word in message for word in words), message


def test_counters_of_a_profiler_are_named(caplog):
    select_state_dict({**weights(), 'a.total_ops': torch.zeros(1), 'total_params': torch.zeros(1)})
    assert 'counters of a profiler' in caplog.text and 'a.total_ops, total_params' in caplog.text


def page(file):
    file.write_text('  <!DOCTYPE html><title>Virus scan warning</title>')


def pointer(file):
    file.write_text('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n')


def script(file):
    torch.jit.save(torch.jit.trace(torch.nn.Linear(1, 1), torch.zeros(1, 1)), file)


def module(file):
    torch.save(dict(model=timm.create_model('mobilenext_035'), epoch=3), file)


def archive(file):
    with zipfile.ZipFile(file, 'w') as zipped:
        zipped.writestr('weights.pth', b'')


@pytest.mark.parametrize('make, words', [
    (page, ['a web page', 'download that once more']),
    (pointer, ['a pointer of Git LFS', 'git lfs pull']),
    (script, ['a TorchScript archive', 'save the state_dict()']),
    (module, ['a whole pickled network', 'mobilenext', 'Save its state_dict() alone']),
    (archive, ['a zip archive', 'unpack']),
    (lambda file: file.write_bytes(b''), ['empty', 'once more']),
    (lambda file: file.write_bytes(gzip.compress(b'weights')), ['a compressed archive', 'unpack']),
    (lambda file: file.write_bytes(b'three years of work'), ['is not a checkpoint', 'torch.save or safetensors']),
    (lambda file: torch.save(dict(a=np.zeros(3)), file), ['numpy', 'Save its state_dict() alone']),
], ids=['page', 'pointer', 'script', 'module', 'zip', 'empty', 'gzip', 'text', 'array'])
@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.filterwarnings('ignore:.torch.jit:FutureWarning')
def test_what_is_no_checkpoint_is_called_by_its_name(message_of, tmp_path, make, words, suffix):
    file = tmp_path / f'model{suffix}'
    make(file)
    message = message_of(read_checkpoint, file)
    assert all(word in message for word in [file.name, *words]), message
    assert 'operand' not in message and 'weights_only' not in message


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize('save', [torch.save, save_file])
def test_content_tells_the_format(tmp_path, save, suffix):
    save(weights(), tmp_path / f'weights{suffix}')
    assert list(read_checkpoint(tmp_path / f'weights{suffix}')) == ['a.weight']


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
