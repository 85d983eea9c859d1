"""What all classes' rows tell about weights: neighbours go together, differences within a class do not.

    prior     Q = (K^-1 + W / (scatter * e))^-1      covariance of a unit's weights before its own rows are seen
    spread    E = S * taper                          scatter of the inputs: E[(v . x)^2] is v E v for weights v

K lets weights of neighbouring inputs of an image or series go together, d_i d_j exp(-distance / length) for inputs i, j
of one channel, 0 otherwise: d_i is how much the inputs around i vary, since weights of inputs that are nearly always
alike (an image's border) cannot be learned from few rows. A list of inputs has no neighbours, and d is 1. W is the
scatter within classes of all rows, e the largest eigenvalue of W in terms of K: directions in which rows of a class
differ get little weight. S is the scatter of all rows about their mean; the taper, exp(-distance / `TAPER`), fades what
few rows say about distant inputs.

The reference of a pair is its soft-margin unit under the prior: a support vector machine with the kernel x Q x' and
squared slack, so that every row near the border has a say, where plain slack leaves it to a few. The network's unit is
the nearest with few links and few bits: whole numbers w in {-P..P}, at most ``links`` of them not 0, and a scale, with
the least error of its sums on inputs that scatter as above,

    minimise (w - scale * reference) E (w - scale * reference)

This is a quadratic integer program, which HiGHS does not solve: weights are set one at a time, the best first.

Source: squared hinge loss with a Gaussian prior (Cortes and Vapnik 1995); tapering (Furrer, Genton and Nychka 2006).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mip2mcu.dataset import Dataset
from mip2mcu.errors import UsageError
from mip2mcu.mip.matrix import FloatArray
from mip2mcu.progress import Stop
from mip2mcu.ranges import IntArray, frozen

INPUTS_MOST = 2048
"""Most inputs that vary: the prior is a matrix of all of them against each other."""
ROWS_MOST = 2000
"""Most rows of a member; of more a sample is drawn."""
TAPER = 8.0
"""Distance in pixels over which scatter fades."""
WIDTH = 2.0
"""Distance in pixels within which inputs count as being around another."""
SCALES = (0.35, 0.5, 0.7, 1.0)
"""Scales that are tried, in terms of one at which the links would be as large as the weight bound on average."""
GRID = 1024
"""The reference is rounded to such parts of its root mean square, so that last bits of its sums do not matter."""
KERNEL_GRID = 2**20
"""So is the kernel, to parts of its mean: last bits, which go by the number of threads, would lead to other steps."""
_STEPS_MOST = 100_000
_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Prior:
    """``columns`` (n,): inputs that vary; ``prior`` and ``spread`` float32 (n, n), see the module."""

    columns: IntArray
    prior: NDArray[np.float32]
    spread: NDArray[np.float32]


def prior_of(dataset: Dataset, length: float, scatter: float) -> Prior:
    """The prior that the rows of all classes give; raises `UsageError` for more than `INPUTS_MOST` varying inputs."""
    inputs = dataset.inputs
    columns = np.flatnonzero((inputs != inputs[:1]).any(axis=0))
    if len(columns) > INPUTS_MOST:
        raise UsageError(
            f"{len(columns):,} inputs vary, but a prior can be kept of {INPUTS_MOST:,} at most: put a stage that pools "
            "before them (--stage mean:2), or take the formulation linear"
        )
    rows = inputs[:, columns].astype(np.float64)
    means = np.stack([rows[dataset.labels == c].mean(axis=0) for c in range(len(dataset.classes))])
    within, about = rows - means[dataset.labels], rows - rows.mean(axis=0)
    distance = distances(dataset.input_shape)[np.ix_(columns, columns)]
    root = _width(rows, distance)[:, None] * np.linalg.cholesky(np.exp(-distance / length))
    values, vectors = np.linalg.eigh(root.T @ (within.T @ within / len(rows)) @ root)
    shrunk = 1 / (1 + np.maximum(values, 0) / (scatter * max(values.max(initial=0.0), 1e-9)))
    half = root @ vectors * np.sqrt(shrunk)
    spread = about.T @ about / len(rows) * np.exp(-distance / TAPER)
    return Prior(frozen(columns), _still(half @ half.T), _still(spread))


def _width(rows: FloatArray, distance: FloatArray) -> FloatArray:
    """Standard deviation around each input (n,), relative to the mean of those of its channel."""
    near = np.exp(-distance / WIDTH)
    width = np.sqrt(near @ rows.var(axis=0) / near.sum(axis=1))
    channel = np.isfinite(distance)
    return np.asarray(width * channel.sum(axis=1) / (channel @ width))


def _still(values: FloatArray) -> NDArray[np.float32]:
    """Read-only, in half the bytes: every member's task carries it."""
    still = values.astype(np.float32)
    still.flags.writeable = False
    return still


def distances(shape: tuple[int, ...]) -> FloatArray:
    """Distance in pixels of each two inputs (inputs, inputs); infinite between channels, and in a mere list."""
    if len(shape) != 3:
        size = int(np.prod(shape))
        return np.where(np.eye(size, dtype=bool), 0.0, np.inf)
    channel, y, x = (axis.reshape(-1) for axis in np.indices(shape))
    apart = np.hypot(y[:, None] - y[None, :], x[:, None] - x[None, :])
    return np.where(channel[:, None] == channel[None, :], apart, np.inf)


# ---- the reference -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Reference:
    """A unit with real weights (n,) in parts of 1 / `GRID` and its bias, both on the scale of the weights."""

    weights: FloatArray
    bias: float


def reference(prior: Prior, rows: IntArray, signs: IntArray, hardness: float, seed: int) -> Reference:
    """The soft-margin unit of rows (k, n) with signs (k,) of -1 and +1, of a root mean square weight of 1."""
    kept = np.arange(len(rows))
    if len(rows) > ROWS_MOST:
        kept = np.sort(np.random.default_rng(seed).permutation(len(rows))[:ROWS_MOST])
    values, own = rows[kept].astype(np.float64), signs[kept].astype(np.float64)
    mapped = values @ prior.prior.astype(np.float64)
    kernel = mapped @ values.T
    unit = max(float(np.trace(kernel)) / len(kernel), 1e-9)
    duals = hinge_duals(np.rint(kernel / unit * KERNEL_GRID) / KERNEL_GRID, own, hardness)
    weights = (duals * own) @ mapped
    size = float(np.sqrt((weights**2).mean())) if len(weights) else 0.0
    if size == 0:
        return Reference(np.zeros(len(weights)), float(np.sign(own.sum())))
    weights = np.rint(weights / size * GRID) / GRID
    holding = duals > 0
    margins = own * (1 - duals / hardness) * unit / size
    return Reference(weights, float((margins - values @ weights)[holding].mean()))


def hinge_duals(kernel: FloatArray, signs: FloatArray, hardness: float) -> FloatArray:
    """Multipliers (k,) of the soft-margin unit with squared slack: the two that violate most change until none do."""
    kernel = kernel + np.eye(len(signs)) / hardness
    duals = np.zeros(len(signs))
    pull = signs.copy()
    for _ in range(_STEPS_MOST):
        up = int(np.where((signs > 0) | (duals > 0), pull, -np.inf).argmax())
        down = int(np.where((signs < 0) | (duals > 0), pull, np.inf).argmin())
        gap = pull[up] - pull[down]
        if gap < _TOLERANCE:
            break
        step = gap / (kernel[up, up] + kernel[down, down] - 2 * kernel[up, down])
        step = min(step, np.inf if signs[up] > 0 else duals[up], np.inf if signs[down] < 0 else duals[down])
        duals[up] = max(0.0, duals[up] + signs[up] * step)
        duals[down] = max(0.0, duals[down] - signs[down] * step)
        pull -= step * (kernel[:, up] - kernel[:, down])
    return duals


# ---- few links, few bits -------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Nearest:
    """Whole weights (n,), the scale of the reference that they follow, and the share of its variance that they miss."""

    weights: IntArray
    scale: float
    error: float


def nearest(prior: Prior, wanted: Reference, bound: int, links: int, stop: Stop) -> Nearest:
    """The nearest whole weights that were found over all `SCALES`."""
    spread = prior.spread.astype(np.float64)
    size = bound * min(1.0, links / max(1, len(wanted.weights)))
    found = [_nearest_at(spread, scale * size * wanted.weights, bound, links, stop) for scale in SCALES]
    best = min(range(len(found)), key=lambda at: found[at][1])
    return Nearest(found[best][0], SCALES[best] * size, found[best][1])


def _nearest_at(
    spread: FloatArray, wanted: FloatArray, bound: int, links: int, stop: Stop
) -> tuple[IntArray, float]:
    """Weights set one at a time, the best first; when all links are used, these alone are still changed."""
    own = np.maximum(np.diag(spread), 1e-9)
    weights, slope = np.zeros(len(wanted)), -spread @ wanted
    total = float(wanted @ spread @ wanted) or 1.0

    def change(allowed: NDArray[np.bool_]) -> bool:
        step = np.clip(np.rint(weights - slope / own), -bound, bound) - weights
        gain = np.where(allowed, step * (2 * slope + step * own), 0.0)
        best = int(gain.argmin()) if len(gain) else 0
        if not len(gain) or gain[best] > -1e-9 * total:
            return False
        weights[best] += step[best]
        slope[:] += step[best] * spread[:, best]
        return True

    while not stop():
        every = np.count_nonzero(weights) < links
        if not change(np.full(len(wanted), True) if every else weights != 0):
            break
    missed = (weights - wanted) @ spread @ (weights - wanted)
    return weights.astype(np.int64), float(missed) / total
