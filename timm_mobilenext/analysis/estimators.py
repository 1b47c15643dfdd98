""" Estimators of mutual information, and linear probes: functions of samples, which know nothing of networks

Two estimators of different kinds. Each is fitted on other samples than it is measured on:

- `gaussian_information` sees correlations only: it finds canonical directions, and adds -log(1 - r^2) / 2 of each.
- `kernel_information` sees nonlinear dependence and other distributions too. It is the entropy of y, less the entropy
  of what a kernel ridge regression of y on x leaves over (random Fourier features, Rahimi and Recht 2007; entropies by
  nearest neighbours).

Units are nats.
"""
import math
from typing import List, Sequence, Tuple

import torch

from ..shared.errors import UserError

__all__ = [
    'ESTIMATORS', 'gaussian_information', 'kernel_information', 'project', 'ridge', 'SAMPLES_A_DIMENSION', 'whiten',
]

SAMPLES_A_DIMENSION = 10
_FEATURES = 512  # random Fourier features
_PENALTIES = 10. ** torch.arange(-6, 5, dtype=torch.float64)  # of ridge regressions, in units of the number of samples
_WIDTHS = 0.5, 1.0, 2.0, 4.0  # of the kernel, in units of the median distance
_NEIGHBOUR = 3  # the distance to this neighbour estimates the density


def _check_samples(samples: int, dimensions: int) -> None:
    """ Raise a UserError if there are fewer than ten samples for each dimension of both variables, in each half."""
    needed = 2 * SAMPLES_A_DIMENSION * 2 * dimensions
    if samples < needed:
        raise UserError(f'{samples} samples are too few for {dimensions} dimensions: {needed} are needed.')


def _halves(samples: int) -> List[Tuple[slice, slice]]:
    """ Samples to fit on and samples to measure on: each half is each of them once."""
    first, second = slice(0, samples // 2), slice(samples // 2, samples)
    return [(first, second), (second, first)]


def _inverse_root(covariance: torch.Tensor) -> torch.Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=values[-1] * 1e-12).rsqrt() @ vectors.T


def whiten(samples: torch.Tensor) -> torch.Tensor:
    """ Map samples (N, D) linearly, so that their mean is 0 and their covariance is the unit matrix."""
    centered = samples - samples.mean(0)
    return centered @ _inverse_root(centered.T @ centered / len(centered))


def gaussian_information(x: torch.Tensor, ys: Sequence[torch.Tensor]) -> List[float]:
    """ Estimate mutual information from canonical correlations, which is right if both variables are Gaussian.

    Directions are fitted on one half of the samples, and correlations are measured on the other; then the halves change
    places.

    Args:
        x: Samples (N, D) of a variable.
        ys: Samples (N, D) of each of the other variables.

    Returns:
        Nats between x and each of the others. The bias of a squared correlation is subtracted, so the mean is 0 for
        independent variables.

    Raises:
        UserError: If there are too few samples.
    """
    x = x.double()
    _check_samples(len(x), x.shape[1])
    nats = []
    for y in ys:
        y = y.double()
        total = 0.
        for fit, test in _halves(len(x)):
            means = x[fit].mean(0), y[fit].mean(0)
            a, b = x[fit] - means[0], y[fit] - means[1]
            n = len(a)
            roots = _inverse_root(a.T @ a / n), _inverse_root(b.T @ b / n)
            u, _, v = torch.linalg.svd(roots[0] @ (a.T @ b / n) @ roots[1])
            a, b = (x[test] - means[0]) @ roots[0] @ u, (y[test] - means[1]) @ roots[1] @ v.T
            a, b = a - a.mean(0), b - b.mean(0)
            n = len(a)
            unexplained = 1 - (a * b).sum(0).square() / (a.square().sum(0) * b.square().sum(0))
            # the squared correlation of independent variables is 1 / (n - 1) in the mean
            unexplained = unexplained * (n - 1) / (n - 2)
            total -= unexplained.clamp(min=1e-12).log().sum().item() / 2
        nats.append(total / 2)
    return nats


def kernel_information(x: torch.Tensor, ys: Sequence[torch.Tensor], seed: int = 0) -> List[float]:
    """ Estimate mutual information from what a kernel ridge regression of y on x leaves over.

    It is h(y) - h(y - g(x)), where h is entropy and g is the regression. g is fitted on one half of the samples, and
    entropies are measured on the other; then the halves change places.

    Apart from errors it is a lower bound, and exact if what g leaves over does not depend on x. Errors grow with the
    number of dimensions if samples gather in clusters, because each cluster has few of them: the tests allow a quarter
    too much.

    Args:
        x: Samples (N, D) of a variable.
        ys: Samples (N, D) of each of the other variables.
        seed: Seed of the random features.

    Returns:
        Nats between x and each of the others.

    Raises:
        UserError: If there are too few samples.
    """
    _check_samples(len(x), x.shape[1])
    x = whiten(x.double())  # distances count the same in each direction
    stacked = torch.cat([y.double() for y in ys], dim=1)
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(x.shape[1], _FEATURES, dtype=x.dtype, generator=generator)
    phases = 2 * math.pi * torch.rand(_FEATURES, dtype=x.dtype, generator=generator)
    nats = torch.zeros(len(ys), dtype=x.dtype)
    for fit, test in _halves(len(x)):
        median = torch.pdist(x[fit][:500]).median()
        features = [
            torch.cat([x, (x @ directions / (width * median) + phases).cos()], dim=1) for width in _WIDTHS]
        predicted = ridge([f[fit] for f in features], stacked[fit], [f[test] for f in features])
        for i, (y, known) in enumerate(zip(
                stacked[test].split(x.shape[1], dim=1), predicted.split(x.shape[1], dim=1), strict=True)):
            nats[i] += (_entropy(y) - _entropy(y - known)) / 2
    return nats.tolist()


def _entropy(samples: torch.Tensor) -> float:
    """ Entropy by nearest neighbours (Kozachenko and Leonenko 1987) in nats, up to a constant of their number.

    Samples are whitened first, so that the error is the same for all Gaussians.
    """
    centered = samples - samples.mean(0)
    covariance = centered.T @ centered / len(centered)
    white = centered @ _inverse_root(covariance)
    distances = torch.cdist(white, white).kthvalue(_NEIGHBOUR + 1, dim=1).values  # the first is the sample itself
    return torch.linalg.slogdet(covariance).logabsdet.item() / 2 + samples.shape[1] * distances.log().mean().item()


ESTIMATORS = dict(gaussian=gaussian_information, kernel=kernel_information)


def ridge(fit: List[torch.Tensor], targets: torch.Tensor, test: List[torch.Tensor]) -> torch.Tensor:
    """ Predict targets by ridge regression, with the set of features and the penalty of least leave-one-out error.

    Args:
        fit: Features (N, M) of each set.
        targets: Targets (N, K). Each of the K has its own best set and penalty.
        test: Features (L, M) of each set, of other samples.

    Returns:
        Predicted targets (L, K) of the other samples.
    """
    mean = targets.mean(0)
    centered = targets - mean
    best = torch.full((targets.shape[1],), math.inf, dtype=targets.dtype)
    predicted = torch.zeros(len(test[0]), targets.shape[1], dtype=targets.dtype)
    for features, others in zip(fit, test, strict=True):
        center, scale = features.mean(0), features.std(0)
        varies = scale > 1e-9 * scale.max()
        features, others = ((f[:, varies] - center[varies]) / scale[varies] for f in (features, others))
        values, vectors = _principal(features)
        scores, products = features @ vectors, vectors.T @ (features.T @ centered) / len(features)
        chosen = torch.full_like(best, math.nan)
        for penalty in _PENALTIES:
            shrink = 1 / (values + penalty)
            residual = centered - scores @ (shrink[:, None] * products)
            leverage = 1 / len(features) + scores.square() @ shrink / len(features)
            error = (residual / (1 - leverage).clamp(min=1e-9)[:, None]).square().mean(0)
            better = error < best
            best = torch.where(better, error, best)
            chosen[better] = penalty
        scores = others @ vectors
        for penalty in _PENALTIES:
            if (which := chosen == penalty).any():
                predicted[:, which] = scores / (values + penalty) @ products[:, which] + mean[which]
    return predicted


def _principal(features: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """ Variances (R,) and directions (M, R) of the principal components of features (N, M)."""
    samples, size = features.shape
    if size <= samples:
        values, vectors = torch.linalg.eigh(features.T @ features / samples)
        kept = values > 1e-12 * values[-1]
        return values[kept], vectors[:, kept]
    values, vectors = torch.linalg.eigh(features @ features.T / samples)
    kept = values > 1e-12 * values[-1]
    return values[kept], features.T @ vectors[:, kept] / (samples * values[kept]).sqrt()


def project(samples: torch.Tensor, components: int, dimensions: int) -> Tuple[torch.Tensor, float]:
    """ Project samples to the first principal components of some of them, and whiten the result.

    Args:
        samples: Samples (N, M).
        components: The first so many samples give the principal components. The others are projected.
        dimensions: Number D of principal components.

    Returns:
        Projected samples (N - components, D), and the part of the samples' variance that they have.

    Raises:
        UserError: If the samples vary in fewer dimensions.
    """
    first, others = samples[:components], samples[components:]
    _, deviations, directions = torch.linalg.svd(first - first.mean(0), full_matrices=False)
    if len(deviations) < dimensions or deviations[dimensions - 1] <= deviations[0] * 1e-6:
        raise UserError(f'A tensor varies in fewer than {dimensions} dimensions: give fewer --dimensions.')
    others = others - others.mean(0)
    kept = others @ directions[:dimensions].T
    explained = (kept.square().sum() / others.square().sum()).item()
    return whiten(kept), explained
