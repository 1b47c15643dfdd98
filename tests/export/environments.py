"""An environment for each format of docs/deployment.md, made by the page's own install lines.

    python tests/export/environments.py

The environments share one of torch, timm and this package, which is most of their size, and nothing else.
"""
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs' / 'deployment.md').read_text(encoding='utf-8')
CONSTRAINTS = Path(__file__).with_name('constraints.txt')
ENVIRONMENTS = ROOT / '.cache' / 'export'
# timmx's word for each format -> what its runtime's script in examples/int8 begins with, if there is one
FORMATS = dict(
    onnx='onnxruntime', openvino='openvino', executorch='executorch', litert='litert', ncnn=None, coreml=None)


def find_installs(format_name: str) -> list[str]:
    """The page's `pip install` lines of a format: of its row in the first table, and of its script for int8."""
    rows = f'`timmx export {format_name}`', f'`{FORMATS[format_name]}_int8.py`'
    lines = [line for row in rows for line in PAGE.splitlines() if line.startswith('|') and row in line]
    lines = [line.replace("'timm-mobilenext[onnx]'", shlex.quote(f'{ROOT}[onnx]')) for line in lines]  # in place
    return list(dict.fromkeys(re.findall(r'\| `(pip install [^`]+)` \|', '\n'.join(lines))))


def find_python(format_name: str) -> Path | None:
    """The Python of a format's environment. ONNX Runtime is among the packages of all tests, too."""
    python = ENVIRONMENTS / format_name / 'bin' / 'python'
    return python if python.exists() else Path(sys.executable) if format_name == 'onnx' else None


def start(format_name: str, folder: Path, *command: str) -> subprocess.CompletedProcess:
    """Run a command in a format's environment, or skip the test."""
    python = find_python(format_name)
    if python is None:
        pytest.skip(f'needs the environment of {format_name}: run `make test-export`')
    environment = {**os.environ, 'PATH': f'{python.parent}{os.pathsep}{os.environ["PATH"]}', 'COLUMNS': '200'}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def run(format_name: str, folder: Path, *command: str) -> str:
    """What a command prints in a format's environment."""
    done = start(format_name, folder, *command)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def make_environment(folder: Path, installs: list[str], base: Path | None = None) -> None:
    """Make a virtual environment, anew where what it is made of has changed."""
    made_of = hashlib.sha256('\n'.join([*installs, CONSTRAINTS.read_text(), sys.version]).encode()).hexdigest()
    stamp = folder / 'made-of'
    if stamp.is_file() and stamp.read_text() == made_of:
        return
    print(f'{folder.name}: {"; ".join(installs)}', flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, '-m', 'venv', folder], check=True)
    if base:
        packages, = (folder / 'lib').glob('python*/site-packages')
        shared, = (base / 'lib').glob('python*/site-packages')
        # addsitedir, for the package is installed in place, by a .pth file of its own
        (packages / 'base.pth').write_text(f'import site; site.addsitedir({str(shared)!r})\n')
    for install in installs:
        command = [folder / 'bin' / 'python', '-m', *shlex.split(install), '--quiet', '--constraint', CONSTRAINTS]
        subprocess.run(command, check=True)
    stamp.write_text(made_of)


def main():
    base = ENVIRONMENTS / 'base'
    make_environment(base, [f'pip install torch torchvision timm --editable {shlex.quote(f"{ROOT}[detection]")}'])
    for format_name in FORMATS:
        make_environment(ENVIRONMENTS / format_name, find_installs(format_name), base)


if __name__ == '__main__':
    main()
