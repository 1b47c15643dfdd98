"""python -m experiments.tiny_imagenet: the splits of tin100.py from the published files."""
import pytest

from experiments import tiny_imagenet


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Two classes of four images to train and one to validate, and a class that is not taken."""
    monkeypatch.setattr(tiny_imagenet, 'NUM_IMAGES', 4)
    monkeypatch.setattr(tiny_imagenet, 'SPLITS', tmp_path / 'splits.csv')
    (tmp_path / 'splits.csv').write_text('wnid,validation,removed\nn1,0 2,\nn2,3,1\n')
    root = tmp_path / 'tiny-imagenet-200'
    for wnid in ('n1', 'n2', 'n3'):
        (root / 'train' / wnid / 'images').mkdir(parents=True)
        for number in range(4):
            (root / 'train' / wnid / 'images' / f'{wnid}_{number}.JPEG').write_text(f'{wnid} {number}')
    (root / 'val' / 'images').mkdir(parents=True)
    for number in range(3):
        (root / 'val' / 'images' / f'val_{number}.JPEG').write_text(f'val {number}')
    (root / 'val' / 'val_annotations.txt').write_text(
        ''.join(f'val_{number}.JPEG\t{wnid}\t0\t0\t62\t61\n' for number, wnid in enumerate(('n2', 'n3', 'n1'))))
    return root


def test_splits(published, tmp_path, call):
    printed = call(tiny_imagenet, published, tmp_path / 'tin')
    files = {str(file.relative_to(tmp_path / 'tin')): file.read_text() for file in (tmp_path / 'tin').glob('*/*/*')}
    assert files == {
        'train/n1/n1_1.JPEG': 'n1 1', 'train/n1/n1_3.JPEG': 'n1 3', 'validation/n1/n1_0.JPEG': 'n1 0',
        'validation/n1/n1_2.JPEG': 'n1 2', 'train/n2/n2_0.JPEG': 'n2 0', 'train/n2/n2_2.JPEG': 'n2 2',
        'validation/n2/n2_3.JPEG': 'n2 3', 'tune/n1/val_2.JPEG': 'val 2', 'tune/n2/val_0.JPEG': 'val 0'}
    assert sorted(line.split() for line in printed.splitlines()) == [
        ['train', '4', 'images'], ['tune', '2', 'images'], ['validation', '3', 'images']]


@pytest.mark.parametrize('break_it, said', [
    (lambda root, out: (root / 'train' / 'n2' / 'images' / 'n2_0.JPEG').unlink(), 'n2_0.JPEG is missing: give'),
    (lambda root, out: out.mkdir(), 'exists: give a new folder'),
])
def test_what_cannot_be_split_is_told_and_leaves_nothing(break_it, said, published, tmp_path, call):
    break_it(published, tmp_path / 'tin')
    with pytest.raises(SystemExit, match=said):
        call(tiny_imagenet, published, tmp_path / 'tin')
    assert not list(tmp_path.glob('tin/*'))


def test_splits_that_were_trained_on():
    splits = tiny_imagenet.read_splits()
    held, left_out = ([numbers[place] for numbers in splits.values()] for place in (0, 1))
    assert len(splits) == 100 and {len(set(numbers)) for numbers in held} == {100}
    assert sum(map(len, left_out)) == 4 and 0 <= min(map(min, held)) and max(map(max, held)) < 500
