"""Differences between runs: means, intervals and tests by Student's t, and the effects that could have been shown.

Beside them, the learning rate that pilots speak for.
"""
import math
import statistics
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import numpy as np
from scipy import optimize, stats

LEVEL, POWER = 0.05, 0.8


@dataclass(frozen=True)
class Effect:
    """A mean difference.

    Args:
        mean: The difference.
        error: Its standard error.
        freedom: Degrees of freedom of the variance that the error was made of.
    """
    mean: float
    error: float
    freedom: int

    @property
    def low(self) -> float:
        """The lower end of the 95 % interval."""
        return self.mean - self._half

    @property
    def high(self) -> float:
        """The upper end of the 95 % interval."""
        return self.mean + self._half

    @property
    def _half(self) -> float:
        return float(stats.t.ppf(1 - LEVEL / 2, self.freedom)) * self.error

    @property
    def p(self) -> float:
        """The two-sided p-value of no difference."""
        return 2 * float(stats.t.sf(abs(self.mean) / self.error, self.freedom))


@dataclass(frozen=True)
class Pool:
    """A variance within groups, and its degrees of freedom."""
    variance: float
    freedom: int


def pool(groups: Iterable[Sequence[float]]) -> Optional[Pool]:
    """Pool the variance within groups. It is None if no group has two values or more."""
    groups = [group for group in groups if len(group) > 1]
    freedom = sum(len(group) - 1 for group in groups)
    if not freedom:
        return None
    return Pool(sum((len(group) - 1) * statistics.variance(group) for group in groups) / freedom, freedom)


def differences(ours: Mapping[Any, float], theirs: Mapping[Any, float]) -> List[float]:
    """Ours less theirs, for each key that both have, such as a seed."""
    return [ours[key] - theirs[key] for key in ours if key in theirs]


def paired_effect(ours: Mapping[Any, float], theirs: Mapping[Any, float]) -> Optional[Effect]:
    """The effect by pairs that have the same key. It is None of fewer than two pairs."""
    pairs = differences(ours, theirs)
    return stratified_effect([pairs]) if len(pairs) > 1 else None


def stratified_effect(strata: Sequence[Sequence[float]]) -> Effect:
    """The mean over strata of the mean of their paired differences.

    The variance is that within strata, such as widths of a network: seeds are repeats, widths are not.

    Raises:
        ValueError: No stratum has two differences or more.
    """
    pooled = pool(strata)
    if pooled is None:
        raise ValueError('An interval needs two differences or more in one stratum at least.')
    error = math.sqrt(pooled.variance * sum(1 / len(stratum) for stratum in strata)) / len(strata)
    return Effect(statistics.mean(statistics.mean(stratum) for stratum in strata), error, pooled.freedom)


def unpaired_effect(ours: Sequence[float], theirs: Sequence[float], pooled: Pool) -> Effect:
    """The mean of ours less the mean of theirs.

    Args:
        ours: Values of one arm.
        theirs: Values of another.
        pooled: The variance of a run, which may be pooled over more arms than these two.
    """
    error = math.sqrt(pooled.variance * (1 / len(ours) + 1 / len(theirs)))
    return Effect(statistics.mean(ours) - statistics.mean(theirs), error, pooled.freedom)


def holm(p_values: Mapping[Any, float]) -> Dict[Any, float]:
    """Correct p-values of several claims by Holm's method. What is below the level then, is shown."""
    corrected: Dict[Any, float] = {}
    highest = 0.0
    for rank, (claim, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p))
        corrected[claim] = highest
    return corrected


def power(effect: float, error: float, freedom: int, level: float = LEVEL) -> float:
    """The probability that a two-sided test shows an effect.

    Args:
        effect: The true difference.
        error: Standard error of the measured difference.
        freedom: Degrees of freedom of the error.
        level: Level of the test.
    """
    critical = stats.t.isf(level / 2, freedom)
    # either tail as an upper one, for scipy's lower one is NaN where it is small
    return float(sum(stats.nct.sf(critical, freedom, side * effect / error) for side in (1, -1)))


def smallest_effect(error: float, freedom: int, level: float = LEVEL) -> float:
    """The smallest true difference that a two-sided test shows with a probability of 80 %.

    Args:
        error: Standard error of the measured difference.
        freedom: Degrees of freedom of the error.
        level: Level of the test.
    """
    highest = 2 * stats.t.isf(level / 2, freedom) + 2  # has more power with any number of degrees of freedom
    return error * optimize.brentq(lambda ratio: power(ratio, 1, freedom, level) - POWER, 0, highest)


def deviation_bounds(freedom: int) -> Tuple[float, float]:
    """The 95 % interval of a true deviation, divided by the measured one. Runs are taken to be normal."""
    low, high = (math.sqrt(freedom / stats.chi2.isf(tail, freedom)) for tail in (LEVEL / 2, 1 - LEVEL / 2))
    return low, high


def peak(rates: Sequence[float], scores: Sequence[float]) -> float:
    """The rate where the least-squares parabola over the rates' logarithm peaks, to two digits.

    It is the best of the rates if the parabola has no peak, or has it outside of them.
    """
    a, b, _ = np.polyfit(np.log(rates), scores, 2)
    rate = math.exp(-b / (2 * a)) if a < 0 else math.inf
    if not min(rates) <= rate <= max(rates):
        return rates[int(np.argmax(scores))]
    return float(f'{rate:.2g}')
