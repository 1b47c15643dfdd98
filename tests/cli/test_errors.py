""" What ends a command: a line of the user's mistake, or of a bug of ours, and an exit code"""
import errno
import os
import re
import subprocess
import sys
import types
import urllib.error

import pytest
import torch
from huggingface_hub.errors import OfflineModeIsEnabled
from safetensors import SafetensorError
from torch.utils.data import DataLoader, Dataset
from typer.testing import CliRunner

from timm_mobilenext.cli.errors import DEBUG, find_address
from timm_mobilenext.cli.main import app
from timm_mobilenext.shared.errors import UserError

pytestmark = pytest.mark.tools

BUG = r'Bug in timm-mobilenext: {} in \S+\.py, line \d+: .+ ' + DEBUG + r'=1 shows the traceback; please report it .+\n'


@pytest.fixture
def end(monkeypatch, tmp_path):
    """ End a command with an error that its tool raises, to the exit code and what was printed."""

    def end(error, command='cards', **env):
        def run(*args, **kwargs):
            raise error() if callable(error) else error

        arguments, module, function = {
            'cards': (['cards', '-o', str(tmp_path / 'out')], 'hub.cards', 'write_cards'),
            'detect': (['detect', 'export', str(tmp_path), '-o', 'out.onnx'], 'detection.export', 'run_export'),
        }[command]
        monkeypatch.setitem(sys.modules, f'timm_mobilenext.{module}', types.SimpleNamespace(**{function: run}))
        result = CliRunner().invoke(app, arguments, env=env)
        return result.exit_code, result.output

    return end


class Broken(Dataset):
    """ Images, one of them damaged, read in a worker process."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise UserError('cat.jpg cannot be read: KeyError: repair it')


def load_in_a_worker():
    next(iter(DataLoader(Broken(), num_workers=1)))


def take_all_memory():
    torch.empty(2 ** 50, dtype=torch.uint8)


def import_what_timm_lacks():
    from timm.models import no_such_name  # noqa: F401


def system(number, *file):
    return OSError(number, os.strerror(number), *file)


@pytest.mark.parametrize('error, words', [
    (UserError('what was given\n\nwhat to do\nmore'), 'what was given\nwhat to do'),
    (UserError(), 'UserError'),
    (load_in_a_worker, 'cat.jpg cannot be read: KeyError: repair it'),
    (system(errno.ENOSPC, 'out/model'), 'out/model: No space left on device'),
    (system(errno.ENOSPC), 'No space left on device'),
    (system(errno.EACCES, 'out'), 'out: Permission denied'),
    (system(errno.EISDIR, 'out'), 'out: Is a directory'),
    (system(errno.EEXIST, 'out'), 'out: File exists'),
    (system(errno.ECONNREFUSED), 'Connection refused'),
    (ConnectionResetError('lost'), 'lost'),
    (TimeoutError('The read operation timed out'), 'The read operation timed out'),
    (urllib.error.URLError('no route'), 'urllib failed, URLError: <urlopen error no route>'),
    (OfflineModeIsEnabled('offline'), 'huggingface_hub failed, OfflineModeIsEnabled: offline'),
    (MemoryError(), 'There is not enough memory: give'),
    (torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 1 GiB.'), 'There is not enough memory: give'),
    (take_all_memory, "can't allocate memory: you tried to allocate 1125899906842624 bytes"),
    (import_what_timm_lacks, 'timm-mobilenext does not work with the installed timm'),
    (SafetensorError('I/O error: No space left on device (os error 28)'), 'No space left on device'),
])
def test_what_a_user_can_mend(end, error, words):
    code, output = end(error)
    assert code == 1 and output.startswith('Error: ') and words in output
    assert output.count('\n') == 1 + words.count('\n')


@pytest.mark.parametrize('error', [
    KeyError('weights'), TypeError('3 arguments'), ValueError('of torch'), RuntimeError('size mismatch\nin line 2'),
    AssertionError(), OSError('of a library'), system(errno.EBADF), ModuleNotFoundError("No module 'x'", name='x'),
    UnicodeDecodeError('utf-8', b'\xff', 0, 1, 'invalid start byte'), RuntimeError('a' * 5000),
], ids=lambda error: type(error).__name__)
def test_what_is_a_bug(end, error):
    code, output = end(error)
    assert code == 70
    assert re.fullmatch(BUG.format(type(error).__name__), output), output
    assert len(output) < 600


def test_bug_names_the_last_line_of_ours(end):
    """ An error that arose in a library is looked for where we called it."""
    _, output = end(lambda: int('three'))
    assert 'in timm_mobilenext/cli/main.py, line ' in output and "'three'" in output


def test_interrupt(end):
    assert end(KeyboardInterrupt()) == (130, 'Interrupted.\n')


@pytest.mark.parametrize('error, code', [(KeyError('weights'), 70), (UserError('mend it'), 1)])
def test_debug_shows_the_traceback(end, error, code, monkeypatch):
    for value, is_shown in (('1', True), ('0', False), ('', False)):
        found, output = end(error, **{DEBUG: value})
        assert found == code
        assert ('Traceback (most recent call last)' in output and 'in run\n' in output) == is_shown
        assert output.splitlines()[-1].startswith(('Bug in', 'Error: mend it'))


@pytest.mark.parametrize('name, command, advice', [
    ('matplotlib', 'cards', "This needs matplotlib: pip install 'timm-mobilenext[demo]'"),
    ('sklearn', 'cards', "This needs sklearn: pip install 'timm-mobilenext[demo]'"),
    ('matplotlib', 'detect', "This needs matplotlib: pip install 'timm-mobilenext[detection]'"),
    ('pycocotools', 'detect', "This needs pycocotools: pip install 'timm-mobilenext[detection]'"),
])
def test_missing_extra(end, name, command, advice):
    assert end(ModuleNotFoundError(f'No module named {name!r}', name=name), command) == (1, f'Error: {advice}\n')


def test_long_values_are_cut(end):
    code, output = end(UserError(f'timm has no model {"x" * 5000!r}: give another.'))
    assert code == 1 and len(output) < 400 and output.endswith('give another.\n') and '5,00' in output
    code, output = end(UserError('one two ' * 5000))
    assert code == 1 and len(output) < 1200
    code, output = end(system(errno.ENAMETOOLONG, 'x' * 5000))
    assert code == 1 and len(output) < 400 and 'File name too long' in output


def test_token_is_hidden(end):
    error = OfflineModeIsEnabled('Illegal header value hf_ofAlice for a-token-of-bob')
    assert end(error, HF_TOKEN='a-token-of-bob')[1] == (
        'Error: huggingface_hub failed, OfflineModeIsEnabled: Illegal header value <token> for <token>\n')


@pytest.mark.parametrize('urls, address', [
    (['Home, https://a.example', 'Issues, https://a.example/issues'], 'at https://a.example/issues'),
    (None, 'to the authors of timm-mobilenext'),
])
def test_address_is_that_of_the_metadata(monkeypatch, urls, address):
    metadata = types.SimpleNamespace(get_all=lambda key: urls if key == 'Project-URL' else None)
    monkeypatch.setattr('importlib.metadata.metadata', lambda name: metadata)
    assert find_address() == address


@pytest.mark.parametrize('arguments', [['--help'], ['check', 'images']])
def test_closed_pipe_ends_quietly(tmp_path, arguments):
    """ `| head` ends early, and then nobody reads the output."""
    from helpers import colour_folder

    colour_folder(tmp_path / 'images', 2)
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, '-m', 'timm_mobilenext', *arguments], stdout=writer, stderr=subprocess.PIPE, text=True,
        cwd=tmp_path, timeout=120)
    os.close(writer)
    assert process.stderr == '' and process.returncode == 1
