"""Continuous weights as whole numbers: for each unit the smallest scale that keeps its activation on every row.

A unit keeps its activations under whole weights v = round(s * w) exactly where every row on which it fires has a larger
v . x than every row on which it rests; then a whole threshold lies between. Scales are tried upwards: s * max|w| =
1, 2, ..., 127 (int8), then to 32767 (int16), every one of them. Where none separates, the first with the fewest changed
rows is taken, of every scale of int8 and one in sixteen of int16.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mip2mcu.mip.matrix import FloatArray
from mip2mcu.ranges import BoolArray, IntArray, exact_product
from mip2mcu.train.bdnn_model import sign_bias
from mip2mcu.train.sign_network import SignNetwork

INT8, INT16 = 127, 2**15 - 1
_CHUNK = 256
"""Scales that are tried at a time."""
_STRIDE = 16
"""Beyond int8, one scale in so many is asked for its fewest changed rows."""


@dataclass(frozen=True, eq=False)
class Scaled:
    """A unit with whole weights (inputs,), its bias, and on how many rows its activation is not the claimed one."""

    weights: IntArray
    bias: int
    changed: int


@dataclass(frozen=True)
class ScaledNetwork(SignNetwork):
    """A network of whole weights, and how many of its ``activations`` on all rows are not those that were claimed."""

    changed: int = 0
    activations: int = 0


def scaled_network(weights: Sequence[FloatArray], bias: Sequence[FloatArray], rows: IntArray) -> ScaledNetwork:
    """Continuous layers of 0/1 units as whole ones; each layer reads what the whole layers before it give."""
    whole_weights, whole_bias, changed, activations = [], [], 0, 0
    values, claimed = rows, rows.astype(np.float64)
    for depth, (layer, threshold) in enumerate(zip(weights, bias, strict=True)):
        fires = claimed @ layer.T + threshold >= 0
        units = [
            scaled_unit(w, float(b), values, fires[:, j]) for j, (w, b) in enumerate(zip(layer, threshold, strict=True))
        ]
        own, own_bias = np.stack([unit.weights for unit in units]), np.array([unit.bias for unit in units])
        values = (exact_product(values, own) + own_bias >= 0).astype(np.int64)
        whole_weights.append(own)
        whole_bias.append(sign_bias(own, own_bias, depth))
        changed, activations = changed + int((values != fires).sum()), activations + fires.size
        claimed = fires.astype(np.float64)
    return ScaledNetwork(tuple(whole_weights), tuple(whole_bias), changed, activations)


def scaled_unit(weights: FloatArray, bias: float, rows: IntArray, fires: BoolArray) -> Scaled:
    """The unit ``weights . x + bias >= 0`` in whole numbers, for ``rows`` (k, inputs) on which it ``fires`` (k,)."""
    top = float(np.abs(weights).max(initial=0.0))
    if top == 0 or fires.all() or not fires.any():
        always = bool(fires.all()) if len(fires) else bias >= 0
        return Scaled(np.zeros(len(weights), dtype=np.int64), 0 if always else -1, 0)
    best: Scaled | None = None
    for first in range(1, INT16 + 1, _CHUNK):
        levels = np.arange(first, min(first + _CHUNK, INT16 + 1))
        whole = np.rint(weights / top * levels[:, None]).astype(np.int64)
        sums = exact_product(rows, whole)
        parted = np.flatnonzero(sums[fires].min(axis=0) > sums[~fires].max(axis=0))
        tried = parted[:1] if len(parted) else np.arange(0, len(levels), 1 if first <= INT8 else _STRIDE)
        for n in tried.tolist():
            found = _with_threshold(whole[n], bias / top * int(levels[n]), sums[:, n], fires)
            if best is None or found.changed < best.changed:
                best = found
        if len(parted):
            break
    assert best is not None
    return best


def _with_threshold(weights: IntArray, bias: float, sums: IntArray, fires: BoolArray) -> Scaled:
    """The bias with the fewest rows on the wrong side, the nearest to ``bias`` of those."""
    order = np.argsort(sums, kind="stable")
    values, fired = sums[order], fires[order]
    # with the threshold at a value, rows below it rest: wrong are those below that fire and those from it on that rest
    cuts = np.concatenate([np.unique(values), [values[-1] + 1]])
    below = np.searchsorted(values, cuts)
    firing = np.concatenate([[0], np.cumsum(fired)])
    resting = np.concatenate([[0], np.cumsum(~fired)])
    wrong = firing[below] + (resting[-1] - resting[below])
    least = int(wrong.min())
    best = np.flatnonzero(wrong == least)
    # a cut stands for all thresholds above the value before it
    low = np.where(best > 0, cuts[np.maximum(best - 1, 0)] + 1, cuts[best])
    nearest = np.clip(round(-bias), low, cuts[best])
    threshold = int(nearest[np.argmin(np.abs(nearest + bias))])
    return Scaled(weights, -threshold, least)
