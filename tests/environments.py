"""Environments for what other packages do with the models: each shares torch, timm and this package, and nothing else.

torch is most of their size. Versions come from a file of constraints, so that an environment is the same in a year.
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

__all__ = ['Environments', 'read_versions', 'ROOT']

ROOT = Path(__file__).parents[1]
BASE = ROOT / '.cache' / 'base'
STAMP = 'made-of'  # the file in an environment that says of what, written at last
BASE_CONSTRAINTS = Path(__file__).with_name('constraints.txt')


def read_constraints(file: Path) -> str:
    """A file of constraints, and those that it names."""
    text = file.read_text(encoding='utf-8')
    return re.sub(r'^-c (.*)$', lambda found: read_constraints(file.parent / found[1]), text, flags=re.M)


def read_versions(file: Path) -> dict[str, str]:
    """The versions that a file of constraints fixes, by package."""
    return dict(re.findall(r'^([^\s#]+)==(\S+)$', read_constraints(file), flags=re.M))


class Environments:
    """Virtual environments in `.cache/<folder>`, and the runs of commands in them.

    Args:
        folder: Name of the folder.
        constraints: The file that fixes the versions.
        target: Target of make that makes the environments, for those who lack one.
        own: Environments that this Python does for, if they have not been made.
    """

    def __init__(self, folder: str, constraints: Path, target: str, own: tuple[str, ...] = ()):
        self.folder = ROOT / '.cache' / folder
        self.constraints = constraints
        self.target = target
        self.own = own

    def find_python(self, name: str) -> Path | None:
        """The Python of an environment, if there is one."""
        if (self.folder / name / STAMP).exists():
            return self.folder / name / 'bin' / 'python'
        return Path(sys.executable) if name in self.own else None

    def need(self, name: str, what: str) -> Path:
        """The Python of an environment. Skip the test where there is none."""
        return self.find_python(name) or pytest.skip(f'needs the environment of {what}: run `{self.target}`')

    def start(self, name: str, folder: Path, *command: str, what: str = '', **env: str) -> subprocess.CompletedProcess:
        """Run a command in an environment, or skip the test: it needs `what`, or the environment's name."""
        python = self.need(name, what or name)
        path = f'{python.parent}{os.pathsep}{os.environ["PATH"]}'
        environment = {**os.environ, 'PATH': path, 'COLUMNS': '200', **env}
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)

    def run(self, name: str, folder: Path, *command: str, **more: str) -> str:
        """What a command prints in an environment."""
        done = self.start(name, folder, *command, **more)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def make(self, installs: dict[str, list[str]]) -> None:
        """Make environments of lines of `pip install`."""
        base = f'pip install torch torchvision timm --editable {shlex.quote(f"{ROOT}[detection]")}'
        make_environment(BASE, [base], BASE_CONSTRAINTS)
        for name, lines in installs.items():
            make_environment(self.folder / name, lines, self.constraints, BASE)


def make_environment(folder: Path, installs: list[str], constraints: Path, base: Path | None = None) -> None:
    """Make a virtual environment, anew where what it is made of has changed."""
    made_of = hashlib.sha256('\n'.join([*installs, read_constraints(constraints), sys.version]).encode()).hexdigest()
    stamp = folder / STAMP
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
        command = [folder / 'bin' / 'python', '-m', *shlex.split(install), '--quiet', '--constraint', constraints]
        subprocess.run(command, check=True)
    stamp.write_text(made_of)
