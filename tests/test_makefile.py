"""What `make` takes for done, with programs that only leave a line."""
import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.tools, pytest.mark.skipif(not shutil.which('make'), reason='needs make')]

ROOT = Path(__file__).parents[1]
TRAIN = """#!/bin/sh
mkdir -p build/detector/best
touch build/detector/best/config.json
echo trained >> log
exit $CODE
"""


def test_detector_of_the_page_is_trained_until_a_training_ends_well(tmp_path):
    shutil.copy(ROOT / 'Makefile', tmp_path)
    for name in ('setup.cfg', 'pyproject.toml', 'build_hook.py', 'web/package.json', 'web/package-lock.json',
                 'web/.npmrc', 'web/node_modules/.package-lock.json', '.venv/.test', '.venv/bin/python',
                 '.venv/bin/timm-mobilenext'):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(TRAIN if file.name == 'timm-mobilenext' else '#!/bin/sh\n')
        file.chmod(0o755)

    def make(code):
        env = {**os.environ, 'MAKEFLAGS': '', 'CODE': str(code)}
        result = subprocess.run(['make', 'web'], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
        return result.returncode == 0, (tmp_path / 'log').read_text().count('trained')

    assert make(1) == (False, 1)
    assert make(0) == (True, 2)
    assert make(0) == (True, 2)
