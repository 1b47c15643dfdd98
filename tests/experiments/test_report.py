"""Tables, sentences and pictures that the experiments share."""
import pytest

report = pytest.importorskip('experiments.report', reason='needs scipy and matplotlib, of the extra demo')

pytestmark = pytest.mark.tools


def test_table():
    assert report.make_table(('a', 'b'), [(1, 'x'), (2, 'y')]) == '| a | b |\n| --- | --- |\n| 1 | x |\n| 2 | y |'


def test_mean_and_deviation():
    assert report.mean_and_deviation([1, 2, 3]) == '2.00 ± 1.00'
    assert report.mean_and_deviation([1.234]) == '1.23'  # one value has no deviation


def test_sentence_on_pairs():
    # differences 1, 2 and 3: mean 2, deviation 1, t of 2 degrees 4.303
    sentence = report.describe_pairs('ours less theirs', 'points', {1: 71, 2: 72, 3: 73, 4: 80}, {1: 70, 2: 70, 3: 70})
    assert sentence.startswith('ours less theirs: +2.00 points in the mean of 3 seeds, 95 % interval -0.48 to +4.48')
    assert report.describe_pairs('it', 'points', {1: 71}, {1: 70}).startswith('Too few pairs of runs')


@pytest.mark.parametrize('theirs, effects', [
    ({}, []),
    ({2: [(1, 50.0), (2, 60.0)]}, []),  # one pair has no interval
    ({2: [(1, 50.0), (2, 60.0)], 1: [(1, 50.0), (2, 60.0)]}, [(2.0, 1.0)]),  # pairs share a seed: 61 - 60 and 63 - 60
])
def test_picture(tmp_path, monkeypatch, theirs, effects):
    drawn = []
    monkeypatch.setattr(
        report, 'plot_effect', lambda axes, place, effect, color: drawn.append((effect.mean, effect.error)))
    logs = dict(ours={1: [(1, 51.0), (2, 61.0)], 2: [(1, 52.0), (2, 63.0)]}, theirs=theirs)
    report.draw_comparison(tmp_path / 'comparison.png', logs, 'top-1', 'points')
    assert (tmp_path / 'comparison.png').read_bytes().startswith(b'\x89PNG')
    assert drawn == effects


def test_copy_of_a_data_set_is_called_so():
    rows = [dict(data='cifar10, 10 classes')] * 2
    assert report.describe_data_sets(rows).startswith('cifar10, 10 classes.\nThe images of cifar10 are JPEG')
    assert report.describe_data_sets([dict(data='digits')]) == 'digits.'


def test_machines_and_options():
    rows = [dict(machine='b', torch='2', timm='1'), dict(machine='a', torch='2', timm='1', more=1)] * 2
    assert report.describe_machines(rows) == 'a, torch 2, timm 1; b, torch 2, timm 1'
    assert report.break_options('--lr 0.1 --epochs 8') == '--lr 0.1 \\\n    --epochs 8'
