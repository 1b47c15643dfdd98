"""What an installed timm-mobilenext costs a Python start and an `import timm`.

    python benchmarks/startup.py                  # prints the table, writes benchmarks/startup.csv

There are two virtual environments, and timm-mobilenext is installed in the second. Nothing else differs. Python is
started in each in turn, and the difference is taken pair by pair. Both see the torch and timm of the environment that
runs this. Times are of the CPU, so that other work on the machine disturbs them less.
"""
import argparse
import csv
import os
import resource
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
ENV = {k: v for k, v in os.environ.items() if not k.startswith('PYTHON')}  # with a PYTHONPATH, pip may find us there


def make_environment(path: Path, install: bool) -> Path:
    venv.create(path, symlinks=True)
    python = path / 'bin' / 'python'
    if install:
        build = [sys.executable, '-m', 'build', '--wheel', '--no-isolation', '--outdir', path, ROOT]
        subprocess.run(build, check=True, stdout=subprocess.DEVNULL, env=ENV)
        pip = [sys.executable, '-m', 'pip', '--python', python, 'install', '--quiet', '--no-deps', '--no-index']
        subprocess.run([*pip, next(path.glob('*.whl'))], check=True, env=ENV)
    return python


def start(python: Path, statement: str) -> float:
    """Seconds of CPU time, of the user and of the system, that a start takes."""
    # torch and timm are not part of the environment, so a start without them sees nothing of them
    shared = f'import sys; sys.path.append({sysconfig.get_path("purelib")!r}); '
    code = statement if statement == 'pass' else shared + statement
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([python, '-c', code], check=True, env=ENV, cwd=python.parent)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--starts', type=int, default=300, help='paired starts of bare Python')
    parser.add_argument('--imports', type=int, default=20, help='paired imports of timm')
    parser.add_argument('--output', type=Path, default=Path(__file__).with_suffix('.csv'), help='CSV file to write')
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        without = make_environment(Path(folder, 'without'), install=False)
        with_ours = make_environment(Path(folder, 'with'), install=True)
        for statement, pairs in (('pass', args.starts), ('import timm', args.imports)):
            for python in (without, with_ours):
                start(python, statement)  # compiles what is not yet
            times = []
            for i in range(pairs):
                # each goes first as often as the other
                order = (without, with_ours) if i % 2 else (with_ours, without)
                seconds = {python: start(python, statement) for python in order}
                times.append((seconds[without], seconds[with_ours]))
            base = statistics.median(a for a, _ in times)
            cost = statistics.median(b - a for a, b in times)
            figures = f'{1e3 * base:.2f}', f'{1e3 * cost:.2f}', f'{100 * cost / base:.1f}'
            rows.append((f'python -c "{statement}"', pairs, *figures))
    header = ('command', 'pairs', 'median_without_ms', 'median_difference_ms', 'percent')
    print(f'Python {sys.version.split()[0]}')
    for row in (header, *rows):
        print('{:28}{:>6}{:>20}{:>23}{:>9}'.format(*row))
    with args.output.open('w', newline='') as f:
        csv.writer(f, lineterminator='\n').writerows((header, *rows))


if __name__ == '__main__':
    main()
