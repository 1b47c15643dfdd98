"""The authors' five files from the loopback: fetched, checked, cached, and everything that can go wrong on the way."""
import resource
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from authors import is_golden
from helpers import OFFLINE
from processes import start_python
from server import dropped, page, send, status, truncated, whole

from timm_mobilenext.checkpoints import official as downloads
from timm_mobilenext.checkpoints.official import blob_id_of

FILE = '/74_02_full_id_tensor/model_best.pth.tar'


def cached(folder):
    """What a cache folder holds, without locks."""
    return sorted(file.name for file in Path(folder).glob('*') if file.suffix != '.lock')


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


def test_default_cache_is_timms(official, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path))
    official(None)
    assert len(cached(tmp_path / 'checkpoints')) == 1


def test_second_time_from_the_cache(official, server, tmp_path):
    official(tmp_path)
    server.files.clear()
    assert is_golden(official(tmp_path)) and len(server.requests) == 1


@pytest.mark.parametrize('failures, ranges', [
    ([dropped], [None, 'bytes=']),
    ([dropped, dropped], [None, 'bytes=', 'bytes=']),
    ([dropped, whole], [None, 'bytes=']),
    ([status(503, Retry_After='0')], [None, None]),
    ([status(429, Retry_After='0'), status(502)], [None, None, None]),
], ids=['dropped', 'dropped twice', 'no ranges', '503', '429, 502'])
def test_download_continues_after(failures, ranges, official, server, tmp_path):
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
def test_fault_is_reported_and_a_repeat_works(message_of, failures, words, left, official, server, tmp_path):
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


def test_wrong_digest(message_of, official, server, tmp_path):
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


def test_offline(message_of, official, server, tmp_path):
    server.shutdown()
    server.server_close()
    message = message_of(official, tmp_path)
    assert 'no connection' in message and cached(tmp_path) == []
    assert 'dict(file=' in message and '--pretrained-path to train.py' in message


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
    cache = tmp_path / 'cache'
    arguments = [f'{server.url}{FILE}', cache, blob_id_of(server.files[FILE])]
    first = start_python(OFFLINE, DOWNLOAD, arguments, tmp_path / 'first')
    assert first_is_here.wait(120)
    second = start_python(OFFLINE, DOWNLOAD, arguments, tmp_path / 'second')
    log = tmp_path / 'second.stdout'
    while not (log.exists() and log.read_text() == 'started\n'):
        assert second.is_alive()
        time.sleep(0.001)
    go_on.set()
    for process in (first, second):
        process.join(120)
        assert process.exitcode == 0
    assert len(server.requests) == 1 and len(cached(cache)) == 1
    assert is_golden(official(cache))


def test_cache_that_cannot_be_written(message_of, official, tmp_path):
    (tmp_path / 'file').write_text('no folder')
    message = message_of(official, tmp_path / 'file' / 'cache')
    assert 'cannot be written' in message and 'cache_dir' in message


def test_full_disk(message_of, official, tmp_path):
    """The system lets no file grow beyond a megabyte."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        message = message_of(official, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert 'cannot be written' in message and 'free some space' in message
    assert cached(tmp_path) == []
    assert is_golden(official(tmp_path))


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

    cache = tmp_path / 'cache'
    file = cache / f'mobilenext-74_02_full_id_tensor-{blob_id[:8]}.pth.tar'
    for i in range(10):
        server.failures = [pause_at(i / 10)]
        paused.clear()
        go_on.clear()
        process = start_python(OFFLINE, DOWNLOAD, [f'{server.url}{FILE}', cache, blob_id], tmp_path / 'log')
        assert paused.wait(120)
        process.kill()
        process.join()
        go_on.set()
        assert not file.exists()
    assert is_golden(official(cache))
    assert file.read_bytes() == content and cached(cache) == [file.name]
