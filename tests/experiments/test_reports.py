"""Each committed report is what the committed rows give."""
import shutil

import pytest

pytestmark = pytest.mark.tools


@pytest.mark.parametrize('name, report', [
    ('tin100', 'README.md'), ('transfer', 'README.md'), ('ablations', 'ablations.md')])
def test_committed_report_is_that_of_the_committed_rows(name, report, tmp_path, call):
    """If this fails: python -m experiments.NAME report"""
    script = pytest.importorskip(f'experiments.{name}', reason='needs scipy and matplotlib, of the extra demo')
    committed = script.RESULTS
    shutil.copytree(committed, tmp_path, dirs_exist_ok=True)
    (tmp_path / report).unlink()
    call(script, 'report', '--results', tmp_path)
    assert (tmp_path / report).read_text(encoding='utf-8') == (committed / report).read_text(encoding='utf-8')
