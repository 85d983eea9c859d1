"""Rows that a wrong implementation would get wrong: extremes, thresholds, ties, and many random ones.

`input_chunks` yields rows of network inputs, `raw_chunks` rows of raw features for the quantizer; both as
(kind, rows) in pieces of bounded size, the same for the same seed.

    data         the rows that the caller gives
    corners      every input at an end of its range
    extremes     the input at which a unit of the first layer, or a difference of two, attains its minimum or maximum
    thresholds   a unit's sum is exactly 0, exactly -1
    ties         two or more classes share the highest score; two sums are equal or differ by one
    random       uniform, with a share of the inputs at their lower end that varies from row to row
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import TypeAlias

import numpy as np

from mip2mcu.layers import Activation, Dense
from mip2mcu.network import Network
from mip2mcu.quantizer import RAW_TYPES, Affine, Coding, OneHot, Quantizer, Thermometer
from mip2mcu.ranges import IntArray

Chunks: TypeAlias = Iterator[tuple[str, IntArray]]

_CORNER_INPUTS = 8
"""Up to this many inputs all corners are listed."""
_SEARCHES = 6
_POOL_ROWS = 4096
_ROWS_PER_HIT = 4
_UNIT_LIMIT = 512
_STARTS = 2


def input_chunks(network: Network, data: IntArray | None, count: int, seed: int, chunk_rows: int) -> Chunks:
    """Rows of network inputs: ``data`` (rows, inputs), then exactly ``count`` generated ones.

    About half of ``count`` at most is searched for, each search having an equal share; the rest is random.
    """
    if data is not None:
        yield from _cut("data", data, chunk_rows)
    left = count
    for kind, rows in _hunted(network, data, np.random.default_rng(seed), min(chunk_rows, _POOL_ROWS)):
        kept = _evenly(rows, min(left, max(1, count // (2 * _SEARCHES))))
        left -= len(kept)
        yield from _cut(kind, kept, chunk_rows)
    for chunk, start in enumerate(range(0, left, chunk_rows)):
        rng = np.random.default_rng([seed, chunk])
        yield "random", random_rows(network, min(chunk_rows, left - start), rng)


def raw_chunks(quantizer: Quantizer, data: IntArray | None, count: int, seed: int, chunk_rows: int) -> Chunks:
    """Rows of raw features: ``data`` (rows, features), each feature's special values, and ``count`` random ones."""
    if data is not None:
        yield from _cut("data", data, chunk_rows)
    yield from _cut("thresholds", _special_raw_rows(quantizer), chunk_rows)
    for chunk, start in enumerate(range(0, count, chunk_rows)):
        rng = np.random.default_rng([seed, chunk])
        yield "random", _random_raw_rows(quantizer, min(chunk_rows, count - start), rng)


def random_rows(network: Network, count: int, rng: np.random.Generator) -> IntArray:
    """``count`` rows in the inputs' ranges; each row leaves a random share of its inputs at their lower end."""
    low, high = network.input_low, network.input_high
    values = rng.integers(low, high, size=(count, network.inputs), endpoint=True)
    share = rng.random((count, 1), dtype=np.float32)
    share[::4] = 1.0
    return np.where(rng.random((count, network.inputs), dtype=np.float32) < share, values, low)


def _evenly(rows: IntArray, limit: int) -> IntArray:
    """At most ``limit`` of ``rows``, evenly spaced."""
    if len(rows) <= limit:
        return rows
    return rows[np.linspace(0, len(rows) - 1, limit).astype(np.int64)] if limit else rows[:0]


def _cut(kind: str, rows: IntArray, chunk_rows: int) -> Chunks:
    for start in range(0, len(rows), chunk_rows):
        yield kind, rows[start : start + chunk_rows]


# ---- rows that are searched for ------------------------------------------------------------------------------------


def _hunted(network: Network, data: IntArray | None, rng: np.random.Generator, pool_rows: int) -> Chunks:
    first = network.layers[0]
    yield "corners", _corners(network)
    if isinstance(first, Dense):
        weights, bias = _forms(first, rng)
        yield "extremes", _extremes(network, weights)
        for kind, wanted in (("thresholds", (0, -1)), ("ties", (0, 1, -1))):
            chosen = slice(0, first.units) if kind == "thresholds" else slice(first.units, None)
            yield kind, _reaching(network, weights[chosen], bias[chosen], wanted, rng)
    pool = random_rows(network, pool_rows, rng)
    if data is not None:
        pool = np.concatenate([pool, data[:pool_rows]])
    yield "thresholds", pool[_on_threshold(network, pool)]
    yield "ties", pool[_tied(network, pool)]


def _corners(network: Network) -> IntArray:
    low, high = network.input_low, network.input_high
    if network.inputs <= _CORNER_INPUTS:
        upper = np.array(list(product((False, True), repeat=network.inputs)))
    else:
        position = np.arange(network.inputs)
        upper = np.array([position < 0, position >= 0, position % 2 == 0, position % 2 == 1])
    nearest_zero = np.clip(0, low, high)[None]
    return np.unique(np.concatenate([np.where(upper, high, low), nearest_zero]), axis=0)


def _forms(first: Dense, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Linear forms of the inputs: the units' sums, then differences of pairs of units; a sample of many pairs."""
    a, b = np.triu_indices(first.units, k=1)
    if len(a) > _UNIT_LIMIT:
        chosen = rng.choice(len(a), _UNIT_LIMIT, replace=False)
        a, b = a[chosen], b[chosen]
    weights = np.concatenate([first.weights, first.weights[a] - first.weights[b]])
    return weights, np.concatenate([first.bias, first.bias[a] - first.bias[b]])


def _extremes(network: Network, weights: IntArray) -> IntArray:
    low, high = network.input_low, network.input_high
    return np.concatenate([np.where(weights > 0, high, low), np.where(weights > 0, low, high)])


def _reaching(
    network: Network, weights: IntArray, bias: IntArray, wanted: tuple[int, ...], rng: np.random.Generator
) -> IntArray:
    """Rows at which a form ``weights[j] @ x + bias[j]`` has one of the ``wanted`` values, from random starts."""
    repeats = len(wanted) * _STARTS
    starts = random_rows(network, len(weights) * repeats, rng)
    targets = np.repeat(np.array(wanted), _STARTS)[None, :] - bias[:, None]
    weights = np.repeat(weights, repeats, axis=0)
    rows, reached = reach(weights, targets.reshape(-1), starts, network.input_low, network.input_high)
    return rows[reached]


def reach(
    weights: IntArray, wanted: IntArray, starts: IntArray, low: IntArray, high: IntArray
) -> tuple[IntArray, IntArray]:
    """Change each start (rows, inputs) until ``weights[k] @ x[k] == wanted[k]``; returns rows and whether it succeeded.

    Greedy: from the largest weight to the smallest, move each input as far as it reduces what is missing without
    overshooting. With weights in {-1, 0, 1} this succeeds whenever any row exists.
    """
    rows = starts.copy()
    k = np.arange(len(rows))
    missing = wanted - (weights * rows).sum(axis=1)
    for i in np.argsort(-np.abs(weights), axis=1, kind="stable").T:
        weight, value = weights[k, i], rows[k, i]
        magnitude = np.maximum(np.abs(weight), 1)
        step = np.sign(missing) * np.sign(weight) * (np.abs(missing) // magnitude)
        step = np.clip(step, low[i] - value, high[i] - value)
        rows[k, i] = value + step
        missing = missing - weight * step
    return rows, missing == 0


def _on_threshold(network: Network, rows: IntArray) -> IntArray:
    """Indices of rows at which some unit's sum is 0 or -1, a few for each unit and value."""
    values = rows.reshape(-1, *network.input_shape)
    hits: list[IntArray] = []
    for layer in network.layers:
        if getattr(layer, "activation", Activation.NONE) is not Activation.NONE:
            sums = layer.sums(values).reshape(len(rows), -1)[:, :_UNIT_LIMIT]  # type: ignore[union-attr]
            hits += [_first_hits(sums == value) for value in (0, -1)]
        values = layer.forward(values)
    return np.unique(np.concatenate(hits)) if hits else np.zeros(0, dtype=np.int64)


def _tied(network: Network, rows: IntArray) -> IntArray:
    """Indices of rows at which 2, 3, ... classes share the highest score, a few for each number."""
    scores = network.scores(rows)
    tied = (scores == scores.max(axis=1, keepdims=True)).sum(axis=1)
    return np.unique(_first_hits(tied[:, None] == np.arange(2, scores.shape[1] + 1)[None, :]))


def _first_hits(hit: IntArray) -> IntArray:
    """Row indices of the first few true entries of each column."""
    return np.flatnonzero((hit & (np.cumsum(hit, axis=0) <= _ROWS_PER_HIT)).any(axis=1))


# ---- raw features --------------------------------------------------------------------------------------------------


def _special_raw_rows(quantizer: Quantizer) -> IntArray:
    """Rows in which every feature walks through its own special values, the shorter lists over and over."""
    least, most = RAW_TYPES[quantizer.raw_type]
    columns = [_special_values(f.coding, f.missing, least, most) for f in quantizer.features]
    length = max(len(column) for column in columns)
    return np.stack([np.resize(column, length) for column in columns], axis=1)


def _special_values(coding: Coding, missing: int, least: int, most: int) -> IntArray:
    """Both sides of every value at which an input changes, the ends of the range and of the C type."""
    if isinstance(coding, OneHot):
        steps = np.arange(coding.width + 1)
    elif isinstance(coding, Thermometer):
        steps = np.array([coding.low, *coding.thresholds, coding.high])
    else:
        steps = np.concatenate([affine_steps(coding), [coding.low, coding.high]])
    values = np.concatenate([steps - 1, steps, steps + 1, [least, least + 1, most - 1, most, missing, 0]])
    return np.unique(np.clip(values, least, most))


def affine_steps(coding: Affine) -> IntArray:
    """The smallest raw value of each input 1, 2, ... of an affine coding, by bisection (the coding is monotone)."""
    wanted = np.arange(1, coding.input_high + 1)
    below = np.full(len(wanted), coding.low, dtype=np.int64)
    above = np.full(len(wanted), coding.high, dtype=np.int64)
    while (above - below > 1).any():
        middle = (below + above) // 2
        enough = coding.apply(middle)[:, 0] >= wanted
        above, below = np.where(enough, middle, above), np.where(enough, below, middle)
    return above


def _random_raw_rows(quantizer: Quantizer, count: int, rng: np.random.Generator) -> IntArray:
    """Three rows of four in and a little around the training ranges, the fourth anywhere in the C type."""
    least, most = RAW_TYPES[quantizer.raw_type]
    columns = []
    for feature in quantizer.features:
        low, high = _trained_range(feature.coding)
        margin = max(2, (high - low) // 8)
        near = rng.integers(max(least, low - margin), min(most, high + margin), size=count, endpoint=True)
        far = rng.integers(least, most, size=count, endpoint=True)
        columns.append(np.where(np.arange(count) % 4 == 3, far, near))
    return np.stack(columns, axis=1)


def _trained_range(coding: Coding) -> tuple[int, int]:
    return (0, coding.width) if isinstance(coding, OneHot) else (coding.low, coding.high)


