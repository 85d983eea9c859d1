"""Rows that a wrong implementation would get wrong: extremes, thresholds, ties, their neighbours, and many random ones.

`input_chunks` yields rows of network inputs, `raw_chunks` rows of raw features for the quantizer; both as
(kind, rows) in pieces of bounded size, the same for the same seed.

    data             the rows that the caller gives
    corners          every input at an end of its range
    extremes         inputs at which a unit's sum is least or most
    thresholds       a unit's sum is exactly 0, exactly -1, and where a requantised sum changes its output
    two_way_ties     two classes share the highest score (of a vote: the most votes)
    three_way_ties   three classes do
    neighbours       one of the rows above with one to four inputs changed
    random           uniform, with a share of the inputs at their lower end that varies from row to row
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np

from mip2mcu.network import Network
from mip2mcu.quantizer import RAW_TYPES, Affine, Coding, OneHot, Quantizer, Thermometer
from mip2mcu.ranges import IntArray
from mip2mcu.verify.hunting import Hunt, SmallArray, changed, hunt, random_rows

Chunks: TypeAlias = Iterator[tuple[str, IntArray]]

_NEIGHBOUR_SHARE = 4
"""One in so many of the rows that are not searched for is a neighbour of one that was."""


def input_chunks(
    network: Network, data: IntArray | None, count: int, seed: int, chunk_rows: int, hunted: Hunt | None = None
) -> Chunks:
    """Rows of network inputs: ``data`` (rows, inputs), then exactly ``count`` generated ones.

    About half of ``count`` at most is searched for (``hunted``, or found here), each kind having an equal share; the
    rest are neighbours of those rows, and random.
    """
    if data is not None:
        yield from _cut("data", data, chunk_rows)
    kinds = (hunt(network, data, seed) if hunted is None else hunted).rows
    left = count
    for kind, rows in kinds.items():
        kept = _evenly(rows, min(left, max(1, count // (2 * len(kinds)))))
        left -= len(kept)
        yield from _cut(kind, kept, chunk_rows)
    movable = np.flatnonzero(network.input_low < network.input_high)
    special = _evenly(np.concatenate(list(kinds.values())), chunk_rows)
    for chunk, start in enumerate(range(0, left, chunk_rows)):
        rows_left = min(chunk_rows, left - start)
        rng = np.random.default_rng([seed, chunk])
        near = rows_left // _NEIGHBOUR_SHARE if len(movable) else 0
        if near:
            yield "neighbours", changed(network, special[rng.integers(0, len(special), near)], movable, rng)
        yield "random", random_rows(network, rows_left - near, rng)


def raw_chunks(quantizer: Quantizer, data: IntArray | None, count: int, seed: int, chunk_rows: int) -> Chunks:
    """Rows of raw features: ``data`` (rows, features), each feature's special values, and ``count`` random ones."""
    if data is not None:
        yield from _cut("data", data, chunk_rows)
    yield from _cut("thresholds", _special_raw_rows(quantizer), chunk_rows)
    for chunk, start in enumerate(range(0, count, chunk_rows)):
        rng = np.random.default_rng([seed, chunk])
        yield "random", _random_raw_rows(quantizer, min(chunk_rows, count - start), rng)


def _evenly(rows: SmallArray, limit: int) -> SmallArray:
    """At most ``limit`` of ``rows``, evenly spaced."""
    if len(rows) <= limit:
        return rows
    return rows[np.linspace(0, len(rows) - 1, limit).astype(np.int64)] if limit else rows[:0]


def _cut(kind: str, rows: IntArray | SmallArray, chunk_rows: int) -> Chunks:
    for start in range(0, len(rows), chunk_rows):
        yield kind, rows[start : start + chunk_rows].astype(np.int64)


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
