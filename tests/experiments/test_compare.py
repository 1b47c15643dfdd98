"""What docs/why.md argues by is computed as it says, on folders whose answers are known."""
import math

import pytest

from experiments.runs import write_rows

compare = pytest.importorskip('experiments.compare', reason='needs scipy and matplotlib, of the extra demo')

pytestmark = pytest.mark.tools


def block(model, seed, name, stride, value, **more):
    keeps_shape = stride > 4
    return dict(
        model=model, state='initial', weights=f'drawn, seed {seed}', seed=seed, batch=0, block=name, stride=stride,
        keeps_shape=keeps_shape, norm_out=value, rms_out=value, ratio=value, **more)


@pytest.fixture
def gradients(tmp_path):
    rows = []
    for seed, swing in enumerate((0.9, 1, 1 / 0.9)):
        rows += [block('one', seed, name, 4 + 4 * (name > 'a'), (9 if name > 'a' else 4) * swing) for name in 'abe']
        rows += [block('two', seed, 'a', 4, 1), block('two', seed, 'b', 8, 1), block('two', seed, 'c', 8, 1)]
        rows += [block('two', seed, 'd', 64, 1e6)]  # a stride that the other lacks
    write_rows(tmp_path / 'blocks.csv', rows)
    write_rows(tmp_path / 'parameters.csv', [
        dict(row, group=row['block'], kind='pointwise') for row in rows if row['block'] in 'abc'])
    return tmp_path


@pytest.fixture
def words(call):
    """Words of each line that the script prints."""
    return lambda *arguments: [line.split() for line in call(compare, *arguments).splitlines()]


def test_gradients(gradients, words):
    lines = words(gradients, 'one', 'two')
    # strides weigh the same: the geometric mean of 4 and 9; t of two degrees of freedom is 4.303
    half = 4.303 * -math.log(0.9) / math.sqrt(3)
    low, high = (f'{6 * math.exp(sign * half):.2f}' for sign in (-1, 1))
    assert 'initial norm at blocks all 6 1 6.00'.split() + [low, high] in lines
    assert [line[:6] + line[8:9] for line in lines if line[1:3] == ['norm', 'at']] == [
        'initial norm at blocks all 6 6.00'.split()[:6] + [low],
        'initial norm at blocks stride 4'.split() + ['4.00'],
        'initial norm at blocks stride 8'.split() + ['9.00']]
    assert [line[4:6] for line in lines if line[1:3] == ['in', 'by']] == [['all', '9'], ['stride', '8']]
    assert any(line[1:6] == ['gradient', 'by', 'weight', 'all', '6'] for line in lines)


def test_blocks_are_left_out(gradients, words):
    lines = words(gradients, 'one', 'two', '--without', 'b', 'e')
    assert [line[4:7] for line in lines if line[1:3] == ['norm', 'at']] == [['all', '4', '1'], ['stride', '4', '4']]


@pytest.fixture
def information(tmp_path):
    rows = []
    for seed in range(3):
        for noise in (0.1, 1):
            for model, tensor, name, nats in (
                    ('wide', 0, 'a', 2), ('wide', 0, 'b', 4 + 0.1 * seed), ('narrow', 0, 'a', 9), ('narrow', 1, 'a', 4),
                    ('narrow', 1, 'c', 2)):
                rows.append(dict(
                    model=model, state='initial', weights=f'drawn, seed {seed}', seed=seed, block=name, tensor=tensor,
                    place=0, stride=8, keeps_shape=True, noise=noise, estimator='kernel', nats=nats,
                    explained_out=0.5 + 0.25 * tensor))
    write_rows(tmp_path / 'information.csv', rows)
    write_rows(tmp_path / 'probes.csv', [
        dict(model=model, state='initial', weights=f'drawn, seed {seed}', seed=seed, block=name, place=place, stride=8,
             top1=50 + 10 * place + seed + (model == 'wide'), pixels=0.5)
        for seed in range(3) for model in ('wide', 'narrow') for place, name in enumerate('ab')])
    return tmp_path


def test_information(information, words):
    lines = words(information, 'wide', 'narrow:1')
    assert 'initial all 1.02 to 1.02 0 0 2 0.50 0.75'.split() in lines  # (2 + 4.1) / (4 + 2); the intervals hold 0
    lines = words(information, 'wide', 'narrow:1', '--shared')
    assert 'initial all 0.50 to 0.50 0 2 2 0.50 0.75'.split() in lines  # of block a alone
    assert 'initial top-1 stride 8 b b 62.0 61.0 +1.0 +1.0 +1.0'.split() in lines  # of the last block


def test_one_training_is_called_so(gradients, words):
    assert not any('training.' in line for line in words(gradients, 'one', 'two'))
    rows = compare.read(gradients / 'blocks.csv')
    write_rows(gradients / 'blocks.csv', [
        dict(row, weights=f'seed {row["seed"]}' if row['model'] == 'one' else 'drawn') for row in rows])
    lines = [' '.join(line) for line in words(gradients, 'one', 'two') if 'training.' in line]
    assert lines == ['two, initial: one training. The interval is too narrow, for seeds choose images alone.']


def test_what_is_not_there(information, tmp_path, words):
    with pytest.raises(SystemExit, match='No rows of tensor 0 of broad: there are networks wide, narrow.'):
        words(information, 'wide', 'broad')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(SystemExit, match='empty holds none of blocks.csv, information.csv, probes.csv.'):
        words(tmp_path / 'empty', 'wide', 'narrow')
