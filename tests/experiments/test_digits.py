"""The tables on the digits come from runs that have ended, and from those alone."""
import sys
from pathlib import Path

import pytest

from experiments.runs import read_rows

digits = pytest.importorskip('experiments.digits', reason='needs matplotlib and scikit-learn, of the extra demo')
pytestmark = pytest.mark.tools
# scores what its arguments say: 40 points, and as many more as its seed
TRAIN = """
import sys
if '--device-modules' in sys.argv:
    import frozen
    assert callable(frozen.frozen_body)
seed = sys.argv[sys.argv.index('--seed') + 1]
print('Train: 2 [ 21/22 (100%)]  Loss: 0.5 (0.5)')
print(f'Test: [  5/5]  Time: 0.1 (0.1)  Loss: 1.0 ( 1.25)  Acc@1: 50.0 ( 4{seed}.00)  Acc@5: 75.0 ( 80.00)')
"""


@pytest.mark.skipif(sys.version_info < (3, 11), reason='python -P needs Python 3.11')
def test_fine_tunings_leave_rows_once(tmp_path, call, monkeypatch):
    monkeypatch.setattr(digits, 'RESULTS', tmp_path / 'results')
    (tmp_path / 'train.py').write_text(TRAIN)
    arguments = digits, 'fine-tune', '--timm', tmp_path, '--output', tmp_path / 'output'
    assert call(*arguments).count('top1') == len(digits.STARTS) * len(digits.SEEDS)
    assert call(*arguments) == ''

    rows = read_rows(tmp_path / 'results' / 'fine_tuning.csv')
    assert {row['top1'] for row in rows} == {'40.0', '41.0', '42.0'}
    assert call(digits, 'report').count('| 41.00 ± 1.00 % |') == len(digits.STARTS)


def test_page_has_the_tables_of_the_rows():
    tables = digits.make_tables(*(read_rows(digits.RESULTS / f'{name}.csv') for name in ('demo', 'fine_tuning')))
    lines = [line for table in tables for line in table.splitlines() if '---' not in line]
    page = Path(digits.PAGE).read_text(encoding='utf-8')
    assert len(lines) == 2 + len(digits.DEMO_SEEDS) + len(digits.STARTS)
    assert [line for line in lines if line not in page] == []
