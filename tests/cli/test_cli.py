""" The command line as a user meets it: each test is a process of its own"""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from timm_mobilenext.cli.main import app

pytestmark = [pytest.mark.tools, pytest.mark.slow]

ENV = {**os.environ, 'HF_HUB_OFFLINE': '1', 'COLUMNS': '100', 'NO_COLOR': '1'}
SCRIPT = shutil.which('timm-mobilenext', path=str(Path(sys.executable).parent))
# the console script as it is, and then what it has imported
REPORT = """
import runpy, sys
script = sys.argv.pop(1)
sys.argv[0] = script
try:
    runpy.run_path(script, run_name='__main__')
finally:
    sys.stderr.write('modules ' + ' '.join(name for name in sys.modules if '.' not in name))
"""
SLOW = {'torch', 'timm', 'torchvision', 'huggingface_hub', 'numpy', 'matplotlib', 'sklearn', 'PIL', 'yaml'}


def run(*arguments, cwd=None, **env):
    return subprocess.run(arguments, capture_output=True, text=True, env={**ENV, **env}, timeout=60, cwd=cwd)


def cli(*arguments, **env):
    return run(sys.executable, '-m', 'timm_mobilenext', *arguments, **env)


@pytest.mark.parametrize('arguments, code, shown', [
    (['--help'], 0, 'demo'),
    (['--version'], 0, 'timm-mobilenext '),
    (['demo', '--help'], 0, '--data-dir'),
    (['check', '--help'], 0, '--num-classes'),
    (['predict', '--help'], 0, '--topk'),
    (['convert', '--help'], 0, '--half'),
    (['push', '--help'], 0, '--dry-run'),
    (['pull', '--help'], 0, '--output'),
    (['cards', '--help'], 0, '--output'),
    (['detect', 'train', '--help'], 0, '--backbone'),
    (['detect', 'eval', '--help'], 0, '--data-dir'),
    (['detect', 'predict', '--help'], 0, '--output'),
    (['detect', 'export', '--help'], 0, '--output'),
    (['analyze', 'gradients', '--help'], 0, '--models'),
    (['analyze', 'information', '--help'], 0, '--dimensions'),
    (['demo', '--nonsense'], 2, 'No such option'),
    (['convert', 'missing.pth', '-o', 'out'], 2, 'missing.pth'),
    (['push', 'missing.pth', 'user/name'], 2, 'missing.pth'),
    (['models', '--help'], 0, 'List the MobileNeXt models'),
    (['predict', 'missing.jpg'], 1, 'Error: missing.jpg is not there'),
    (['predict', 'folder'], 1, 'Error: folder is a folder'),
    (['predict', 'file', '-o', 'out.jpg'], 1, 'Error: out.jpg is not a PNG'),
    (['predict', 'file', '-o', 'missing/out.png'], 1, 'Error: missing is not a folder'),
    (['check', 'missing'], 1, 'Error: missing is not a folder'),
    (['check', 'folder'], 1, 'Error: folder has no train or training folder'),
    (['demo', '--output', 'file'], 1, 'Error: file is a file'),
    (['demo', '--output', 'full'], 1, 'Error: full is not empty and not from this demo'),
    (['demo', '--data-dir', 'missing'], 1, 'Error: missing is not a folder'),
    (['pull', 'name', '-o', 'out'], 1, "Error: 'name' does not name a repository: give user/name."),
    (['pull', 'user/name', '-o', 'file'], 1, 'Error: file is a file'),
    (['cards', '-o', 'file'], 1, 'Error: file is a file'),
    (['detect', 'train', '-o', 'out', '--config', 'missing.yaml'], 2, 'missing.yaml'),
    (['detect', 'train', '-o', 'out', '--data-dir', 'missing'], 1, 'Error: missing is not a folder'),
    (['detect', 'train', '-o', 'file'], 1, 'Error: file is a file'),
    (['detect', 'train'], 2, '--output'),
    (['detect', 'eval', 'missing'], 1, 'Error: missing is not a folder'),
    (['detect', 'eval', '--detections', 'missing.json'], 1, 'Error: missing.json is not there'),
    (['detect', 'predict', 'folder', 'missing.jpg', '-o', 'out'], 1, 'Error: missing.jpg is not there'),
    (['detect', 'predict', 'folder', 'file', '-o', 'file'], 1, 'Error: file is a file'),
    (['detect', 'predict', 'missing', 'file', '-o', 'out'], 1, 'Error: missing is not a folder'),
    (['detect', 'export', 'missing', '-o', 'out.onnx'], 1, 'Error: missing is not a folder'),
    (['detect', 'export', 'missing', '-o', 'out.pt2', '--raw'], 1, 'Error: missing is not a folder'),
    (['detect', 'export', 'folder', '-o', 'out.tflite', '--raw'], 1, 'Error: out.tflite has the name of no export'),
    (['detect', 'export', 'folder', '-o', 'out.pt2'], 1, 'a name that ends in .onnx, or with --raw in .pt2.'),
    (['detect', 'export', 'folder', '-o', 'folder.pt2', '--raw'], 1, 'Error: folder.pt2 is a folder'),
    (['detect', 'export', 'folder', '-o', 'missing/out.pt2', '--raw'], 1, 'missing is not a folder: give a file in'),
    (['analyze', 'gradients', '--models', 'a', '--data-dir', 'missing', '-o', 'out'], 1,
     'Error: missing is not a folder'),
    (['analyze', 'information', '--models', 'a', '--data-dir', 'folder', '-o', 'full'], 1, 'Error: full exists'),
])
def test_what_needs_no_network_imports_nothing_slow(tmp_path, arguments, code, shown):
    (tmp_path / 'file').touch()
    for name in ('folder', 'folder.pt2', 'full'):
        (tmp_path / name).mkdir()
    (tmp_path / 'full' / 'thesis.txt').touch()
    result = run(sys.executable, '-c', REPORT, SCRIPT, *arguments, cwd=tmp_path)
    modules = set(result.stderr.rpartition('modules ')[2].split())
    assert result.returncode == code and shown in result.stdout + result.stderr
    assert 'timm_mobilenext' in modules and not modules & SLOW


def test_version_is_the_package_version():
    from timm_mobilenext.version import __version__

    assert cli('--version').stdout == f'timm-mobilenext {__version__}\n'


def test_unknown_model_names_near_misses(tmp_path):
    result = cli('demo', '--model', 'mobilenext_35', '--output', str(tmp_path / 'out'))
    assert (result.returncode, result.stdout) == (1, '')
    assert re.fullmatch(r"Error: .*'mobilenext_35'.*mobilenext_035.*\n", result.stderr)
    assert not (tmp_path / 'out').exists()


def test_unknown_model_with_no_near_miss(tmp_path):
    result = cli('demo', '--model', '%%%', '--output', str(tmp_path / 'out'))
    assert result.returncode == 1
    assert re.fullmatch(r"Error: .*'%%%'.*list_models.*\n", result.stderr)


@pytest.mark.parametrize('arguments', [['demo', '--epochs', '0'], ['demo', '--nonsense'], ['nonsense'], ['--nonsense']])
def test_usage_errors_exit_with_2(arguments):
    result = cli(*arguments)
    assert result.returncode == 2
    assert 'Usage:' in result.stderr and 'Traceback' not in result.stderr


@pytest.mark.parametrize('arguments', [['-h'], ['predict', '-h'], ['detect', 'train', '-h'], ['detect', 'eval', '-h']])
def test_help_names_values_in_capitals(arguments):
    """ --output DIR, and not --output <path>."""
    printed = cli(*arguments).stdout
    values = re.findall(r'--\w[\w-]+ ([^\s/]+)  ', printed)
    assert all(value.isupper() for value in values) and bool(values) == (arguments != ['-h'])


@pytest.mark.parametrize('arguments, usage', [
    (['check'], 'check [OPTIONS] DATA_DIR'),
    (['predict'], 'predict [OPTIONS] IMAGE...'),
    (['convert'], 'convert [OPTIONS] CHECKPOINT'),
    (['push'], 'push [OPTIONS] CHECKPOINT_OR_DIR USER/NAME'),
    (['pull'], 'pull [OPTIONS] USER/NAME[@REVISION]'),
    (['detect', 'eval'], 'eval [OPTIONS] [DETECTOR]'),
    (['detect', 'predict'], 'predict [OPTIONS] DETECTOR IMAGE...'),
    (['detect', 'export'], 'export [OPTIONS] DETECTOR'),
])
def test_help_calls_arguments_by_their_names_alone(arguments, usage):
    """ IMAGE..., and neither {IMAGE...}... nor IMAGE... <list[Path]>."""
    printed = CliRunner().invoke(app, [*arguments, '--help'], prog_name='timm-mobilenext').output
    assert f'{usage}\n' in printed
    assert not re.search(r'<\w|{', printed)


@pytest.mark.parametrize('shell', ['bash', 'zsh', 'fish'])
def test_completion_is_of_the_command_that_shells_know(shell, tmp_path):
    """ Whatever it is asked by: python -m timm_mobilenext cannot be completed."""
    env = dict(HOME=str(tmp_path), _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION='1')
    assert cli('--install-completion', shell, **env).returncode == 0
    written = ''.join(file.read_text() for file in tmp_path.rglob('*') if file.is_file())
    assert '_TIMM_MOBILENEXT_COMPLETE' in written and 'timm-mobilenext' in written and 'python -m' not in written


def test_output_is_short_everywhere():
    for arguments in (['demo'], ['predict'], ['convert'], ['pull'], ['cards'], ['detect', 'train'], ['detect', 'eval'],
                      ['detect', 'predict'], ['detect', 'export'], ['analyze', 'gradients']):
        assert '-o, --output' in CliRunner().invoke(app, [*arguments, '--help']).output, arguments


def test_shell_completion():
    env = dict(ENV, _TIMM_MOBILENEXT_COMPLETE='complete_bash', COMP_WORDS='timm-mobilenext de', COMP_CWORD='1')
    result = subprocess.run([SCRIPT], env=env, capture_output=True, text=True, timeout=60)
    assert result.stdout.split() == ['demo', 'detect']
