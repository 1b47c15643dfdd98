""" The command line as a user meets it: each test is a process of its own"""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.tools

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


def run(*arguments, **kwargs):
    return subprocess.run(arguments, capture_output=True, text=True, env=ENV, timeout=60, **kwargs)


def cli(*arguments):
    return run(sys.executable, '-m', 'timm_mobilenext', *arguments)


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
])
def test_what_needs_no_network_imports_nothing_slow(arguments, code, shown):
    result = run(sys.executable, '-c', REPORT, SCRIPT, *arguments)
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
