"""timm's own model tests, of the release that is installed, over all of our models."""
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import MODELS

import timm

pytestmark = pytest.mark.slow  # it starts processes, or exports whole networks

ROOT = Path(__file__).parents[2]
TIMM_TESTS = ROOT / '.cache' / f'timm-{timm.__version__}' / 'tests'


@pytest.mark.skipif(not TIMM_TESTS.exists(), reason=f'no {TIMM_TESTS}: `make setup` fetches the tests of timm')
def test_timm_model_tests_pass():
    command = [
        sys.executable, '-m', 'pytest', TIMM_TESTS / 'test_models.py', '-q', '-p', 'plugin', '-p', 'no:cacheprovider',
        '-c', os.devnull, '--rootdir', TIMM_TESTS.parent, '-W', 'ignore::pytest.PytestUnknownMarkWarning',
    ]
    paths = [str(Path(__file__).parent / 'timm_suite'), os.environ.get('PYTHONPATH', '')]
    # GITHUB_ACTIONS leaves out the tests that download weights
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, paths)), GITHUB_ACTIONS='1', HF_HUB_OFFLINE='1')
    run = subprocess.run(command, env=env, cwd=TIMM_TESTS.parent, capture_output=True, text=True)
    print(run.stdout)
    passed = re.search(r'(\d+) passed', run.stdout)
    assert run.returncode == 0 and 'failed' not in run.stdout.splitlines()[-1], run.stdout[-5000:]
    # nine tests over each model, ten from timm 1.0.31 on: fewer means that timm selects models in a new way
    assert passed and int(passed[1]) >= 9 * len(MODELS)
