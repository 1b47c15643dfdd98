"""A run is started as it says, and kept whole or not at all."""
import json
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
import torch

from experiments import runs

pytestmark = pytest.mark.tools
needs_script = pytest.mark.skipif(sys.version_info < (3, 11), reason='python -P needs Python 3.11')

# of a pilot, shortened
LOG = """\
Train: 2 [ 311/312 (100%)]  Loss: 3.69 (3.72)  Time: 0.996s,  128.50/s  (1.317s,   97.18/s)  LR: 5.008e-02
Test: [   0/39]  Time: 1.064 (1.064)  Loss:   2.457 ( 2.457)  Acc@1:  41.406 ( 41.406)  Acc@5:  71.094 ( 71.094)
Test: [  39/39]  Time: 0.037 (0.247)  Loss:   4.270 ( 3.359)  Acc@1:   0.000 ( 20.360)  Acc@5:  12.500 ( 46.140)
Test (EMA): [   0/39]  Time: 0.330 (0.330)  Loss:   4.742 ( 4.742)  Acc@1:   0.000 (  0.000)  Acc@5:   0.000 (  0.000)
Test (EMA): [  39/39]  Time: 0.031 (0.228)  Loss:   4.837 ( 4.630)  Acc@1:   0.000 (  1.000)  Acc@5:   0.000 (  5.000)
Train: 3 [   0/312 (  0%)]  Loss: 3.24 (3.24)  Time: 1.459s,   87.74/s  (1.459s,   87.74/s)  LR: 6.699e-03
Skipping eval and checkpointing
Train: 5 [   0/312 (  0%)]  Loss: 3.24 (3.24)  Time: 1.459s,   87.74/s  (1.459s,   87.74/s)  LR: 6.699e-03
Test: [   0/0]  Time: 1.064 (1.064)  Loss:   3.100 ( 3.100)  Acc@1: 100.000 (100.000)  Acc@5: 100.000 (100.000)
"""


def test_log_of_raw_and_averaged_weights():
    first, second = runs.read_log(LOG)
    assert first == dict(epoch=3, loss=3.359, top1=20.36, ema_loss=4.63, ema_top1=1)
    assert second == dict(epoch=6, loss=3.1, top1=100)
    assert runs.read_log(LOG.splitlines()[1]) == []  # a validation that was cut off


def test_rows_are_added(tmp_path):
    file = tmp_path / 'results' / 'runs.csv'
    assert runs.read_rows(file) == []
    runs.add_row(file, dict(name='one, with a comma', top1=71.5))
    runs.add_row(file, dict(name='two', top1=72))
    assert file.read_bytes() == b'name,top1\n"one, with a comma",71.5\ntwo,72\n'
    assert runs.read_rows(file)[1] == dict(name='two', top1='72')


def test_rows_are_written_whole_or_not_at_all(tmp_path):
    file = tmp_path / 'runs.csv'
    runs.add_row(file, dict(name='one', top1=71))
    before = file.read_bytes()
    with pytest.raises(ValueError):
        runs.write_rows(file, [dict(name='two', top1=72), dict(name='three', more=1)])  # fails at the second
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]


def test_threads_add_rows_at_the_same_time(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: runs.add_row(tmp_path / 'runs.csv', dict(name=number)), range(40)))
    assert sorted(int(row['name']) for row in runs.read_rows(tmp_path / 'runs.csv')) == list(range(40))


def test_none_begins_after_a_failure():
    begun = []

    def fail():
        raise SystemExit('train.py ended with 1')

    calls = [lambda: begun.append('first'), fail, *[lambda: begun.append('late')] * 100]
    with pytest.raises(SystemExit, match='ended with 1'):
        runs.run_side_by_side(1, calls)
    assert begun == ['first']
    runs.run_side_by_side(2, calls[-3:])
    assert begun == ['first', 'late', 'late', 'late']


def test_seed_and_scheme_decide_the_weights():
    def draw(scheme, seed):
        torch.rand(seed + 1)
        state = runs.draw_network(scheme, seed, 'mobilenext_035', num_classes=10).state_dict()
        return state['blocks.1.0.conv_dw1.weight'], state['classifier.weight']

    first, again, other_seed, other_scheme = draw('authors', 1), draw('authors', 1), draw('authors', 2), draw('timm', 1)
    assert all(map(torch.equal, first, again))
    assert not any(map(torch.equal, first, other_seed)) and not any(map(torch.equal, first, other_scheme))


@pytest.fixture
def script(tmp_path):
    """A stand-in for timm's train.py that leaves what it was given, and burns a fifth of a second."""
    file = tmp_path / 'timm' / 'train.py'
    file.parent.mkdir()
    file.write_text(f'''
import json, os, pathlib, sys, time
output = pathlib.Path(sys.argv[sys.argv.index('--output') + 1], 'train')
output.mkdir()
(output / 'given.json').write_text(json.dumps([sys.argv[1:], dict(os.environ), sys.flags.safe_path]))
(output / 'summary.csv').write_text('epoch,eval_top1')
print({LOG!r})
while time.process_time() < 0.2:
    pass
sys.exit(3 if '--fail' in sys.argv else 0)
''')
    return file


@needs_script
def test_training_starts_from_the_weights_of_the_network(tmp_path, script):
    network, folder = torch.nn.Linear(2, 3), tmp_path / 'output' / 'run'
    (folder / 'train').mkdir(parents=True)  # of a run that was cut off
    training = runs.train(script, tmp_path / 'data', folder, network, ['--lr', '0.1'])
    arguments, environment, is_safe_path = json.loads((folder / 'train' / 'given.json').read_text())
    given = dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert given.pop('--initial-checkpoint') == str(folder / 'initial.pth')
    assert given == {
        '--data-dir': str(tmp_path / 'data'), '--lr': '0.1', '--output': str(folder), '--experiment': 'train'}
    assert torch.equal(torch.load(folder / 'initial.pth')['weight'], network.weight)
    assert is_safe_path  # the installed timm, not the one of the checkout
    assert runs.ENVIRONMENT.items() <= environment.items()
    assert training.epochs() == runs.read_log(LOG)
    assert training.summary.read_text() == 'epoch,eval_top1'
    assert 0.2 <= 60 * training.cpu_minutes <= 60 * training.minutes + 0.1


@needs_script
def test_failed_training_names_its_log(tmp_path, script):
    with pytest.raises(SystemExit, match='The training ended with 3: .*/run/train.log says why.'):
        runs.train(script, tmp_path / 'data', tmp_path / 'run', torch.nn.Linear(2, 3), ['--fail'])
    assert (tmp_path / 'run' / 'train.log').read_text().startswith(LOG)


def test_checkout_without_the_script(tmp_path):
    with pytest.raises(SystemExit, match='train.py is not there: --timm takes a checkout of timm'):
        runs.find_script(tmp_path)


def test_run_is_kept_under_its_name(tmp_path):
    @dataclass(frozen=True)
    class Run(runs.KeptRun):
        seed: int
        results = tmp_path / 'results'
        recipe = '--lr 0.1'
        name = property(lambda self: f'final-seed{self.seed}')

    run = Run(1)
    assert not run.is_done
    (tmp_path / 'summary.csv').write_text('epoch,eval_top1\n0,nan\n1,71.5\n')
    run.keep(tmp_path / 'summary.csv', arguments='--model tiny --lr 0.1', minutes=1.5)
    assert run.is_done and not Run(2).is_done
    assert run.read()[1] == dict(epoch=1, eval_top1=71.5) and math.isnan(run.read()[0]['eval_top1'])
    assert run.facts() == dict(arguments='--model tiny --lr 0.1', minutes=1.5, **runs.describe_machine())
    Run.recipe = '--lr 0.2'  # another recipe than it had
    assert not run.is_done
