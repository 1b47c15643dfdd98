"""Effects, tests and power agree with scipy, with sums by hand, and with simulations."""
import math

import numpy as np
import pytest

statistics = pytest.importorskip('experiments.statistics', reason='needs scipy, of the extra demo')
stats = pytest.importorskip('scipy.stats')

pytestmark = pytest.mark.tools


def test_two_arms_are_the_t_test_of_scipy():
    ours, theirs = [71.2, 72.9, 70.4, 71.8], [70.1, 71.0, 69.2]
    effect = statistics.unpaired_effect(ours, theirs, statistics.pool([ours, theirs]))
    known = stats.ttest_ind(ours, theirs)
    assert effect.mean == pytest.approx(np.mean(ours) - np.mean(theirs))
    assert (effect.p, effect.freedom) == pytest.approx((known.pvalue, 5))
    assert (effect.low, effect.high) == pytest.approx(known.confidence_interval(0.95))


def test_bounds_of_a_deviation():
    # chi-square of 14 degrees of freedom is 5.629 at 2.5 %, and 26.119 at 97.5 %
    assert statistics.deviation_bounds(14) == pytest.approx((math.sqrt(14 / 26.119), math.sqrt(14 / 5.629)), rel=1e-4)


def test_third_arm_adds_to_the_variance():
    # squares within arms 2 and 2, over 2 + 1 degrees of freedom; one value says nothing of a variance
    pooled = statistics.pool([[1, 2, 3], [4, 6], [5]])
    assert (pooled.variance, pooled.freedom) == (pytest.approx(4 / 3), 3)
    effect = statistics.unpaired_effect([1, 2, 3], [5], pooled)
    # an error of (4/3 * (1/3 + 1))^(1/2) = 4/3; t of 3 degrees is 3.182
    assert (effect.low, effect.high) == pytest.approx((-3 - 3.182 * 4 / 3, -3 + 3.182 * 4 / 3), abs=1e-3)
    assert statistics.pool([[1], [2]]) is None


def test_pairs_are_the_paired_t_test_of_scipy():
    ours, theirs = {1: 71.2, 2: 72.9, 3: 70.4, 7: 90}, {3: 69.9, 1: 70.1, 2: 71.0, 8: 50}
    effect = statistics.paired_effect(ours, theirs)
    known = stats.ttest_rel([71.2, 72.9, 70.4], [70.1, 71.0, 69.9])
    assert statistics.differences(ours, theirs) == pytest.approx([1.1, 1.9, 0.5])
    assert effect.p == pytest.approx(known.pvalue)
    assert (effect.low, effect.high) == pytest.approx(known.confidence_interval(0.95))
    assert statistics.paired_effect({1: 71.2, 2: 72.9}, {1: 70.1}) is None


def test_strata_weigh_the_same():
    # differences 1, 2 and 5 to 8: means 1.5 and 6.5; squares 0.5 and 5, over 1 + 3 degrees of freedom
    effect = statistics.stratified_effect([[1, 2], [5, 6, 7, 8]])
    assert effect.mean == 4
    assert effect.error == pytest.approx(math.sqrt(5.5 / 4 * (1 / 2 + 1 / 4)) / 2)
    assert effect.freedom == 4
    with pytest.raises(ValueError, match='two differences or more'):
        statistics.stratified_effect([[1], [2]])


def test_interval_holds_the_truth_19_times_in_20():
    rng = np.random.default_rng(0)
    effects = [
        statistics.stratified_effect([(3 + rng.normal(size=3)).tolist(), (5 + rng.normal(size=6)).tolist()])
        for _ in range(2000)]
    assert np.mean([effect.low < 4 < effect.high for effect in effects]) == pytest.approx(0.95, abs=0.015)


def test_holm_by_hand():
    # from the smallest: 4 * 0.005, 3 * 0.01, 2 * 0.03, and 1 * 0.04, which is not less than the one before
    corrected = statistics.holm(dict(a=0.01, b=0.04, c=0.03, d=0.005))
    assert corrected == pytest.approx(dict(a=0.03, b=0.06, c=0.06, d=0.02))
    assert statistics.holm(dict(a=0.7, b=0.6)) == dict(a=1, b=1)
    assert statistics.holm(dict(a=0.04)) == dict(a=0.04)


@pytest.mark.parametrize('level', [0.05, 0.01])
def test_smallest_effect_is_shown_4_times_in_5(level):
    error, freedom = math.sqrt(2 / 6), 10  # of two arms with six runs, and a deviation of 1
    smallest = statistics.smallest_effect(error, freedom, level)
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(smallest, size=(20_000, 6)), rng.normal(size=(20_000, 6))
    assert np.mean(stats.ttest_ind(ours, theirs, axis=1).pvalue < level) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize('freedom', [1, 2, 5, 14, 60])
def test_power(freedom):
    assert statistics.power(0, 2, freedom) == pytest.approx(0.05)  # nothing is there, and shown at the level
    assert statistics.power(3, 1, freedom) == pytest.approx(statistics.power(-6, 2, freedom))
    for level in (0.05, 0.01):
        smallest = statistics.smallest_effect(2, freedom, level)
        assert statistics.power(smallest, 2, freedom, level) == pytest.approx(0.8)
