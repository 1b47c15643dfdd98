""" A file or a folder is there as a whole or not at all"""
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from timm_mobilenext.shared import files
from timm_mobilenext.shared.errors import UserError
from timm_mobilenext.shared.files import replacing, tidy

pytestmark = pytest.mark.tools

LOCKS = pytest.mark.skipif(not files.fcntl, reason='Windows has no such lock')


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize('is_there', [False, True])
def test_file_takes_its_place_at_the_end(tmp_path, is_there):
    file = tmp_path / 'file'
    if is_there:
        file.write_text('old')
    with replacing(file) as new:
        new.write_text('new')
        assert file.exists() == is_there and (not is_there or file.read_text() == 'old')
    assert file.read_text() == 'new' and names(tmp_path) == ['file']


@pytest.mark.parametrize('is_there', [False, True])
def test_folder_takes_its_place_at_the_end(tmp_path, is_there):
    folder = tmp_path / 'folder'
    if is_there:
        folder.mkdir()
        (folder / 'old').touch()
    with replacing(folder) as new:
        new.mkdir()
        (new / 'new').touch()
        assert folder.exists() == is_there
    assert names(folder) == ['new'] and names(tmp_path) == ['folder']


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt])
def test_error_leaves_the_old(tmp_path, error):
    (tmp_path / 'file').write_text('old')
    with pytest.raises(error):
        with replacing(tmp_path / 'file') as new:
            new.write_text('half')
            raise error
    assert (tmp_path / 'file').read_text() == 'old' and names(tmp_path) == ['file']


def test_file_does_not_replace_a_folder(tmp_path):
    (tmp_path / 'folder').mkdir()
    with pytest.raises(UserError, match='folder is a folder'):
        with replacing(tmp_path / 'folder') as new:
            new.write_text('')
    assert (tmp_path / 'folder').is_dir() and names(tmp_path) == ['folder']


def test_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / 'target').write_text('old')
    (tmp_path / 'link').symlink_to('target')
    with replacing(tmp_path / 'link') as new:
        new.write_text('new')
    assert (tmp_path / 'link').is_symlink() and (tmp_path / 'target').read_text() == 'new'


def test_what_a_killed_process_left(tmp_path):
    (tmp_path / '.folder.old').mkdir()
    (tmp_path / '.folder.old' / 'weights').touch()
    (tmp_path / '.folder.new').mkdir()
    (tmp_path / '.folder.lock').touch()
    tidy(tmp_path / 'folder')
    assert names(tmp_path) == ['folder'] and names(tmp_path / 'folder') == ['weights']


def test_targets_within_each_other(tmp_path):
    with replacing(tmp_path / 'folder') as folder:
        folder.mkdir()
        with replacing(tmp_path / 'file') as file, replacing(folder / 'file') as inner:
            file.write_text('beside')
            inner.write_text('within')
    assert names(tmp_path) == ['file', 'folder'] and (tmp_path / 'folder' / 'file').read_text() == 'within'


# replaces a folder again and again by one of two files that name the process
REPLACE = """
import sys
import time
from pathlib import Path
from timm_mobilenext.shared.files import replacing, tidy

folder, name = Path(sys.argv[1]), sys.argv[2]
print('ready', flush=True)
sys.stdin.readline()
for _ in range(10):
    tidy(folder)
    with replacing(folder) as new:
        new.mkdir()
        for file in ('config.json', 'model.safetensors'):
            (new / file).write_text(name)
            time.sleep(0.001)  # others run
"""


@LOCKS
def test_processes_with_one_target_do_not_mix_their_files(tmp_path):
    folder = tmp_path / 'folder'
    processes = [
        subprocess.Popen([sys.executable, '-c', REPLACE, str(folder), name], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True)
        for name in 'abc']
    for process in processes:
        assert process.stdout.readline() == 'ready\n'
    for process in processes:
        process.stdin.write('go\n')
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert names(folder) == ['config.json', 'model.safetensors'] and names(tmp_path) == ['folder']
    assert len({file.read_text() for file in folder.iterdir()}) == 1


@LOCKS
def test_who_has_waited_for_a_lock_is_waited_for(tmp_path, monkeypatch):
    """The lock that it waited for is removed, so it makes another."""
    waits, flock = Event(), files.fcntl.flock

    def tell(*args):
        waits.set()
        flock(*args)

    def write():
        with replacing(tmp_path / 'file') as new:
            new.write_text('second')
            return (tmp_path / '.file.lock').exists()

    with ThreadPoolExecutor() as pool:
        with replacing(tmp_path / 'file') as new:
            new.write_text('first')
            monkeypatch.setattr(files.fcntl, 'flock', tell)
            second = pool.submit(write)
            assert waits.wait(60)
        assert second.result(60)
    assert (tmp_path / 'file').read_text() == 'second' and names(tmp_path) == ['file']
