"""Tools that train a network, or note how it is trained: white blood cells, on tiles of which most have none."""
import pytest
from runs import SKIP, TIMM_REPO

pytestmark = [pytest.mark.slow, pytest.mark.tools]


def test_fastai(use, tiles):
    found = use('fastai', tiles)
    assert 0 < found['trainable'] < found['weights'] and found['moved_is_trainable']  # the norms of a frozen body train
    assert found['accuracy'] > 0.85 and found['accuracy'] > found['frozen']
    learner, loaded = found['answers']
    assert learner == loaded


def test_lightning(use, tiles):
    found = use('lightning', tiles)
    assert found['best'] == found['tested'] > 0.9 and found['epochs'] == 3


def test_accelerate(use, tiles):
    found = use('accelerate', tiles)
    assert found['processes'] == 2 and found['kind'] == 'DistributedDataParallel'
    assert found['measured'] == 103 and found['accuracy'] > 0.88
    assert found['sums'][0] == found['sums'][1] == pytest.approx(found['saved'], rel=1e-9)


def test_lightly(use, tiles):
    found = use('lightly', tiles)
    assert found['last'] < found['first'] - 0.02 and found['after'] > 0.8


def test_anomalib(use, tiles):
    found = use('anomalib', tiles)
    assert found['PaDiM']['AUROC'] > 0.85 and found['PatchCore']['AUROC'] > 0.85


def test_tensorboard(use, photographs):
    found = use('tensorboard', photographs / 'cat.jpg')
    assert found['cat'] == pytest.approx(0.692, abs=5e-4)
    assert found['histograms'] == found['weights'] == 224 and found['convolutions'] == 74


@pytest.mark.skipif(SKIP is not None, reason=str(SKIP).replace('test-scripts', 'test-clients'))
def test_wandb(use, tiles):
    found = use('wandb', TIMM_REPO / 'train.py', tiles)
    assert len(found['table']) == 2 and float(found['table'][1]['eval_top1']) > 85
    for row, logged in zip(found['table'], found['logged'], strict=True):
        assert {name: float(value) for name, value in row.items()} == {name: logged[name] for name in row}
