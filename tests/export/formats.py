"""An environment for each format of docs/deployment.md, made by the page's own install lines.

    python tests/export/formats.py
"""
import re
import sys
from pathlib import Path

if __name__ == '__main__':
    sys.path.insert(0, str(Path(__file__).parents[1]))

from environments import Environments, ROOT

__all__ = ['CONSTRAINTS', 'find_installs', 'FORMATS', 'PAGE', 'run', 'start']

PAGE = (ROOT / 'docs' / 'deployment.md').read_text(encoding='utf-8')
CONSTRAINTS = Path(__file__).with_name('constraints.txt')
# timmx's word for each format -> what its runtime's script in examples/int8 begins with, if there is one
FORMATS = dict(
    onnx='onnxruntime', openvino='openvino', executorch='executorch', litert='litert', ncnn=None, coreml=None)
# ONNX Runtime is among the packages of all tests, too
ENVIRONMENTS = Environments('export', CONSTRAINTS, 'make test-export', own=('onnx',))
run, start = ENVIRONMENTS.run, ENVIRONMENTS.start


def find_installs(format_name: str) -> list[str]:
    """The page's `pip install` lines of a format: of its row in the first table, and of its script for int8."""
    rows = f'`timmx export {format_name}`', f'`{FORMATS[format_name]}_int8.py`'
    lines = [line for row in rows for line in PAGE.splitlines() if line.startswith('|') and row in line]
    return list(dict.fromkeys(re.findall(r'\| `(pip install [^`]+)` \|', '\n'.join(lines))))


if __name__ == '__main__':
    ENVIRONMENTS.make({format_name: find_installs(format_name) for format_name in FORMATS})
