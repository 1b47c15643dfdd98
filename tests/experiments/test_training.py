"""The committed report is what the committed runs give."""
import pytest

training = pytest.importorskip('experiments.training', reason='needs scipy and matplotlib, of the extra demo')

pytestmark = pytest.mark.tools


def test_committed_report_is_that_of_the_committed_runs():
    pilots, finals = training.runs_done()
    assert (len(pilots), len(finals)) == (10, 6)
    text = training.describe(pilots, finals)
    assert text == (training.Run.results / 'README.md').read_text(encoding='utf-8')


def test_nothing_is_final_before_the_last_pilot(tmp_path, monkeypatch):
    run = training.PILOTS[0]
    for suffix in ('csv', 'json'):
        (tmp_path / f'{run.name}.{suffix}').write_text((run.results / f'{run.name}.{suffix}').read_text())
    monkeypatch.setattr(training.Run, 'results', tmp_path)
    assert training.runs_done() == ([run], [])
    text = training.describe([run], [])
    assert 'No run has ended yet.' in text and 'comparison.png' not in text
    assert f'| {run.model} | {run.scheme} | {run.lr:g} |' in text
