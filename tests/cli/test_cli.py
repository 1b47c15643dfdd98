""" The command line as a user meets it: each test is a process of its own"""
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.tools

ENV = {**os.environ, 'HF_HUB_OFFLINE': '1', 'COLUMNS': '100', 'NO_COLOR': '1'}
# what `-m timm_mobilenext.cli.main` does, but for the package's __init__, which registers models and so needs torch
CLI_ALONE = """
import sys, types, os
package = types.ModuleType('timm_mobilenext')
package.__path__ = [sys.argv.pop(1)]
sys.modules['timm_mobilenext'] = package
from timm_mobilenext.cli.main import main
try:
    main()
finally:
    slow = {'torch', 'timm', 'torchvision', 'numpy', 'matplotlib', 'sklearn', 'PIL'} & set(sys.modules)
    assert not slow, slow
"""


def run(*arguments, **kwargs):
    return subprocess.run(arguments, capture_output=True, text=True, env=ENV, timeout=60, **kwargs)


def cli(*arguments):
    return run(sys.executable, '-m', 'timm_mobilenext.cli.main', *arguments)


@pytest.mark.parametrize('arguments, shown', [
    (['--help'], 'demo'),
    (['--version'], 'timm-mobilenext '),
    (['demo', '--help'], '--data-dir'),
    (['detect', 'train', '--help'], '--backbone'),
    (['analyze', 'gradients', '--help'], '--models'),
    (['analyze', 'information', '--help'], '--dimensions'),
])
def test_help_and_version_import_nothing_slow(arguments, shown):
    package = str(Path(__file__).parents[2] / 'timm_mobilenext')
    result = run(sys.executable, '-c', CLI_ALONE, package, *arguments)
    assert (result.returncode, result.stderr) == (0, '')
    assert shown in result.stdout


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
