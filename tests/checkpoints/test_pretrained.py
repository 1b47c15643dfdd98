"""pretrained=True from the loopback: the authors' checkpoints, fetched, checked, read, converted, and every mishap."""
import argparse
import io
import pickle
import resource
import signal
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest
import torch
from authors import authors_checkpoint, is_golden, load_golden, OFFICIAL
from helpers import Evil, SHIPPED, timm_version
from safetensors.torch import save_file
from server import dropped, page, send, Server, status, truncated, whole

import timm
from timm.utils import freeze

from timm_mobilenext.checkpoints import official as downloads
from timm_mobilenext.checkpoints.convert import read_checkpoint
from timm_mobilenext.checkpoints.official import blob_id_of

FILE = '/74_02_full_id_tensor/model_best.pth.tar'


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(downloads, '_WAIT', 0)
    server = Server()
    yield server
    server.shutdown()


@pytest.fixture
def pin(server, monkeypatch):
    """Serve a content in one of the authors' directories, as the pinned one."""
    def pin(directory, content):
        server.files[f'/{directory}/model_best.pth.tar'] = content
        monkeypatch.setitem(downloads.BLOB_IDS, directory, blob_id_of(content))
        return dict(url=f'{server.url}/{directory}/model_best.pth.tar')
    return pin


@pytest.fixture
def official(pin):
    """mobilenext_100 on the server, and how to create it from there."""
    overlay = pin('74_02_full_id_tensor', authors_checkpoint('mobilenext_100'))

    def create(cache_dir, **kwargs):
        return timm.create_model(
            'mobilenext_100', pretrained=True, pretrained_cfg_overlay=overlay, cache_dir=cache_dir, **kwargs)
    return create


def cached(folder):
    """What a cache folder holds, without locks."""
    return sorted(file.name for file in Path(folder).glob('*') if file.suffix != '.lock')


def message_of(function, *args, **kwargs):
    with pytest.raises(RuntimeError) as info:
        function(*args, **kwargs)
    message = str(info.value)
    assert len(message.splitlines()) == 1 and message.endswith('.'), message
    return message


# what users ask for

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
    file, = cached(tmp_path)
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


def test_pins():
    assert downloads.BLOB_IDS == {
        '74_02_full_id_tensor': 'e0a567e52c86ab4a66863745162c758f3fd27d84',
        '74_09_i2rnetv3_half_id': '03f9b1b59f67ccd2191f7846ff9ad7e8647c753d',
        '76_05_3_94_model': 'ca388f33536dba371e82807553042a938e082e4c',
        '4_29M_76_6': '41e94c826600560a08675c9ffa7bf4d1df60fc69',
        '5_68M_76_8': '2a7772ab796a0b6598068e1755ce3378a0c10f1d',
    }
    # git hash-object of an empty file and of "hello\n"
    assert blob_id_of(b'') == 'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391'
    assert blob_id_of(b'hello\n') == 'ce013625030ba8dba906f756967f9e9ca394464a'


def test_listed():
    expected = sorted([f'{name}.official_in1k' for name in OFFICIAL] + [SHIPPED])
    assert timm.list_models('mobilenext_*', pretrained=True) == expected
    assert timm.list_pretrained('mobilenext_*') == expected


def test_shipped_weights_leave_the_model_as_it_was():
    """timm takes the first tag with weights for the default, and what is marked only after it."""
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
def test_no_weights_are_never_random_ones(name):
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


def test_default_cache_is_timms(official, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path))
    official(None)
    assert len(cached(tmp_path / 'checkpoints')) == 1


def test_second_time_from_the_cache(official, server, tmp_path):
    official(tmp_path)
    server.files.clear()
    assert is_golden(official(tmp_path)) and len(server.requests) == 1


def test_downloaded_file(tmp_path):
    """The authors' file, however it came here: an offline machine, for instance."""
    file = tmp_path / 'model_best.pth.tar'
    file.write_bytes(authors_checkpoint('mobilenext_100'))
    model = timm.create_model('mobilenext_100', pretrained=True, pretrained_cfg_overlay=dict(file=str(file)))
    assert is_golden(model)


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_file_of_other_classes_and_channels(tmp_path, suffix):
    """Nothing is drawn anew that is there."""
    source = timm.create_model('mobilenext_035', num_classes=10, in_chans=4)
    file = tmp_path / f'weights{suffix}'
    (save_file if suffix == '.safetensors' else torch.save)(source.state_dict(), file)

    def create(**kwargs):
        return timm.create_model('mobilenext_035', pretrained=True, pretrained_cfg_overlay=dict(file=file), **kwargs)

    model = create(num_classes=10, in_chans=4)
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in model.state_dict().items())
    assert 'num_classes=10' in message_of(create, in_chans=4)
    assert 'conv_stem' in message_of(create, num_classes=10)
    if timm_version() < (1, 0, 31):
        return  # adapts stems of three channels only
    other = create(num_classes=7, in_chans=3)
    assert other.classifier.weight.shape == (7, 1280) and other.conv_stem.weight.shape[1] == 3
    assert torch.equal(other.blocks[3][1].conv_pw1.weight, source.blocks[3][1].conv_pw1.weight)


@pytest.mark.parametrize('prefix', ['module.', '_orig_mod.', '_orig_mod.module.'])
def test_prefixes_of_wrappers(tmp_path, prefix):
    source = timm.create_model('mobilenext_035').state_dict()
    torch.save({prefix + key: value for key, value in source.items()}, tmp_path / 'weights.pth')
    overlay = dict(file=str(tmp_path / 'weights.pth'))
    model = timm.create_model('mobilenext_035', pretrained=True, pretrained_cfg_overlay=overlay)
    assert all(torch.equal(value, source[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize('name', ['missing.pth', 'missing.safetensors'])
def test_missing_file(tmp_path, name):
    overlay = dict(file=str(tmp_path / name))
    message = message_of(timm.create_model, 'mobilenext_035', pretrained=True, pretrained_cfg_overlay=overlay)
    assert name in message and 'No such file' in message


def test_weights_for_a_frozen_network():
    """timm.utils.freeze takes the counters of its norms away."""
    model = timm.create_model('mobilenext_035')
    state_dict = model.state_dict()
    freeze(model, ['blocks.0', 'bn1'])
    model.load_state_dict(state_dict)


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


def test_unused_norm_is_dropped_and_nothing_else():
    weights = dict(load_golden('efficient_b0').state_dict)
    assert '_bn1.weight' in weights
    model = timm.create_model('mobilenext_s')
    model.load_state_dict(weights)
    weights['_bn2.weight'] = weights['_bn1.weight']
    with pytest.raises(RuntimeError, match='_bn2.weight'):
        model.load_state_dict(weights)


# what goes wrong on the way

@pytest.mark.parametrize('failures, ranges', [
    ([dropped], [None, 'bytes=']),
    ([dropped, dropped], [None, 'bytes=', 'bytes=']),
    ([dropped, whole], [None, 'bytes=']),
    ([status(503, Retry_After='0')], [None, None]),
    ([status(429, Retry_After='0'), status(502)], [None, None, None]),
], ids=['dropped', 'dropped twice', 'no ranges', '503', '429, 502'])
def test_goes_on_after(failures, ranges, official, server, tmp_path):
    server.failures = failures
    assert is_golden(official(tmp_path))
    assert [asked[:6] if asked else None for asked in server.requests] == ranges
    assert len(cached(tmp_path)) == 1


@pytest.mark.parametrize('failures, words, left', [
    ([dropped] * 9, ['connection was lost', 'Try again'], ['.part']),
    ([status(404)], ['404', 'dict(file='], []),
    ([status(503, Retry_After='0')] * 9, ['503', 'Try again'], []),
    ([status(503, Retry_After='3600')], ['503', '3600 seconds'], []),
    ([page], ['a web page', 'is not used'], []),
    ([truncated], ['another file', 'is not used', 'expected'], []),
], ids=['dropped', '404', '503', '503 for an hour', 'web page', 'truncated'])
def test_is_told_and_repeated(failures, words, left, official, server, tmp_path):
    server.failures = failures
    message = message_of(official, tmp_path)
    assert all(word in message for word in [FILE, *words]), message
    assert [Path(name).suffix for name in cached(tmp_path)] == left
    server.failures = []
    assert is_golden(official(tmp_path)) and len(cached(tmp_path)) == 1


def test_as_long_as_the_server_says(official, server, tmp_path, monkeypatch):
    """And no longer the next time, when it says nothing."""
    waits = []
    monkeypatch.setattr(downloads, '_WAIT', 2)
    monkeypatch.setattr(downloads.time, 'sleep', waits.append)
    server.failures = [status(503, Retry_After='40'), status(503), status(503, Retry_After='0'), status(503)]
    assert is_golden(official(tmp_path)) and waits == [40, 4, 0, 16]


def test_wrong_digest(official, server, tmp_path):
    right = server.files[FILE]
    server.files[FILE] = right[:-1] + bytes([right[-1] ^ 1])
    message = message_of(official, tmp_path)
    assert 'another file' in message and blob_id_of(right) in message and blob_id_of(server.files[FILE]) in message
    assert cached(tmp_path) == []
    server.files[FILE] = right
    assert is_golden(official(tmp_path))


def test_damaged_cache_is_fetched_anew(official, server, tmp_path, caplog):
    official(tmp_path)
    file = tmp_path / cached(tmp_path)[0]
    file.write_bytes(file.read_bytes()[:-9])
    assert is_golden(official(tmp_path)) and len(server.requests) == 2
    assert 'is damaged' in caplog.text


@pytest.mark.parametrize('left', ['beginning', 'whole', 'of another file'])
def test_leftover_of_a_killed_download(left, official, server, tmp_path):
    """It is gone on from, and if that makes another file of it, it was to blame."""
    content = server.files[FILE]
    leftover = dict(beginning=content[:1000], whole=content).get(left, b'what another download left')
    (tmp_path / f'mobilenext-74_02_full_id_tensor-{blob_id_of(content)[:8]}.pth.tar.part').write_bytes(leftover)
    assert is_golden(official(tmp_path))
    assert [asked and asked.startswith('bytes=') for asked in server.requests] == {
        'beginning': [True], 'whole': [], 'of another file': [True, None]}[left]
    assert len(cached(tmp_path)) == 1


def test_leftover_longer_than_the_file(official, server, tmp_path):
    name = f'mobilenext-74_02_full_id_tensor-{blob_id_of(server.files[FILE])[:8]}.pth.tar.part'
    (tmp_path / name).write_bytes(server.files[FILE] + b'more')
    assert is_golden(official(tmp_path))


def test_offline(official, server, tmp_path):
    server.shutdown()
    server.server_close()
    message = message_of(official, tmp_path)
    assert 'no connection' in message and 'dict(file=' in message and cached(tmp_path) == []


def test_threads_at_once(official, server, tmp_path):
    models = []
    threads = [threading.Thread(target=lambda: models.append(official(tmp_path))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(models) == 3 and all(is_golden(model) for model in models)
    assert len(server.requests) == 1 and len(cached(tmp_path)) == 1


@pytest.mark.tools
def test_processes_at_once(official, server, tmp_path):
    """The second comes while the first is at it, waits, and takes what the first has brought."""
    first_is_here, go_on = threading.Event(), threading.Event()

    def hold(handler, content):
        first_is_here.set()
        go_on.wait(120)
        return False

    server.failures = [hold]
    arguments = [f'{server.url}{FILE}', tmp_path, blob_id_of(server.files[FILE])]
    command = [sys.executable, '-c', DOWNLOAD, *arguments]
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    assert first_is_here.wait(120)
    second = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert second.stdout.readline() == b'started\n'
    go_on.set()
    assert first.wait(120) == second.wait(120) == 0
    assert len(server.requests) == 1 and len(cached(tmp_path)) == 1
    assert is_golden(official(tmp_path))


def test_cache_that_can_not_be_written(official, tmp_path):
    (tmp_path / 'file').write_text('no folder')
    message = message_of(official, tmp_path / 'file' / 'cache')
    assert 'can not be written' in message and 'cache_dir' in message


def test_full_disk(official, tmp_path):
    """The system lets no file grow beyond a megabyte."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        message = message_of(official, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert 'can not be written' in message and 'free some space' in message
    assert cached(tmp_path) == []
    assert is_golden(official(tmp_path))


# what a file must not hold

@pytest.mark.parametrize('zipped', [False, True])
def test_pickle_that_wants_to_run_code(pin, tmp_path, zipped):
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


def create_from(pin, name, tmp_path, checkpoint):
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    overlay = pin('74_02_full_id_tensor', buffer.getvalue())
    return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, cache_dir=tmp_path, num_classes=5)


def test_another_networks_checkpoint(pin, tmp_path):
    weights = load_golden('mnext_w035').state_dict
    message = message_of(create_from, pin, 'mobilenext_100', tmp_path, weights)
    assert 'of another network' in message and 'of another shape' in message


@pytest.mark.parametrize('count', [1, 12])
def test_missing_and_extra_keys_are_named(pin, tmp_path, count):
    """timm loads weights for another number of classes without being strict: what is missing would stay random."""
    weights = dict(load_golden('mnext_w100').state_dict)
    missing = [key for key in weights if key.startswith('features.5') and key.endswith('weight')]
    missing += [key for key in weights if key.startswith('features.6') and key.endswith('weight')]
    for i, key in enumerate(missing[:count]):
        weights[f'extra.{i}'] = weights.pop(key)
    message = message_of(create_from, pin, 'mobilenext_100', tmp_path, weights)
    assert f'{count} of ' in message and 'extra.0' in message and 'missing: blocks.' in message
    assert ('and 2 more' in message) == (count == 12)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_are_no_numbers(pin, tmp_path, value):
    weights = {key: value.clone() for key, value in load_golden('mnext_w100').state_dict.items()}
    weights['features.3.conv.0.weight'][0] = value
    message = message_of(create_from, pin, 'mobilenext_100', tmp_path, weights)
    assert 'damaged' in message and 'features.3.conv.0.weight' in message


@pytest.mark.parametrize('checkpoint, words', [
    (dict(epoch=3, args=argparse.Namespace()), ['no weights', 'epoch, args']),
    ([torch.zeros(3)], ['holds a list', 'state dict']),
    (dict(state_dict={'a': torch.zeros(3), 'b': 'c'}), ['no plain tensor: b']),
], ids=['no weights', 'list', 'string'])
def test_something_else(pin, tmp_path, checkpoint, words):
    message = message_of(create_from, pin, 'mobilenext_100', tmp_path, checkpoint)
    assert all(word in message for word in words), message


DOWNLOAD = """
import sys
from timm_mobilenext.checkpoints import official
url, cache, blob_id = sys.argv[1:]
official.BLOB_IDS['74_02_full_id_tensor'] = blob_id
print('started', flush=True)
official.fetch(url, cache)
"""


@pytest.mark.tools
def test_killed_at_any_moment(official, server, tmp_path):
    """Ten kills, each at another byte: the cache holds nothing under the final name, or all."""
    content = server.files[FILE]
    blob_id = blob_id_of(content)
    paused, go_on = threading.Event(), threading.Event()

    def pause_at(position):
        def answer(handler, content):
            send(handler, content, share=position)
            paused.set()
            go_on.wait(60)
            return True
        return answer

    file = tmp_path / f'mobilenext-74_02_full_id_tensor-{blob_id[:8]}.pth.tar'
    for i in range(10):
        server.failures = [pause_at(i / 10)]
        paused.clear()
        go_on.clear()
        process = subprocess.Popen(
            [sys.executable, '-c', DOWNLOAD, f'{server.url}{FILE}', tmp_path, blob_id], stderr=subprocess.DEVNULL)
        assert paused.wait(120)
        process.kill()
        process.wait()
        go_on.set()
        assert not file.exists()
    assert is_golden(official(tmp_path))
    assert file.read_bytes() == content and cached(tmp_path) == [file.name]
