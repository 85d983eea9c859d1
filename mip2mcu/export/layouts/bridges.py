"""Gaps in lists of steps, bridged by entries that cancel: no escape code, hence no test in the inner loop.

A list of steps reaches at most 255 inputs ahead. Where a run (the inputs of one weight value u of a unit) has a longer
gap, an input q inside the gap joins the run all the same, and another entry takes its contribution back:

    q has the weight c     its entry moves from run c to run c - u: one more entry
    q has no weight        q joins run -u as well: two more entries

Both leave every input's weight as the sum of its entries' values, which `total_weights` checks.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from mip2mcu.ranges import IntArray

STEP_LIMIT = 255
"""Largest step."""

Runs: TypeAlias = Mapping[int, list[int]]
"""The positions of a unit's weights in ascending order, by weight value; every value's negative is a key too."""


def bridged(runs: Runs, first: int) -> dict[int, list[int]]:
    """Runs of the same sums in which no step is larger than `STEP_LIMIT`, counted from ``first`` on."""
    unit = _Unit({value: list(positions) for value, positions in runs.items()}, first)
    while wide := [value for value in unit.runs if unit.missing(value)]:
        for value in wide:
            while (gap := unit.wide_gap(value)) is not None:
                unit.bridge(value, *gap)
    return unit.runs


def total_weights(runs: Runs, inputs: int) -> IntArray:
    """The weights (inputs,) that ``runs`` add up to."""
    weights = np.zeros(inputs, dtype=np.int64)
    for value, positions in runs.items():
        np.add.at(weights, np.array(positions, dtype=np.int64), value)
    return weights


def _bridges(gap: int) -> int:
    """Entries that a gap needs in between."""
    return max(0, -(-gap // STEP_LIMIT) - 1)


@dataclass(frozen=True)
class _Move:
    """Input ``position`` joins the run at hand; its entry leaves run ``source`` (None: it had none) for ``target``."""

    position: int
    source: int | None
    target: int


@dataclass(frozen=True)
class _Unit:
    """The runs of one unit while they are bridged.

    No run's last entry ever moves away, and every move that does not lengthen a run lowers the number of missing
    bridges; runs cannot outgrow the unit's last input, so bridging ends.
    """

    runs: dict[int, list[int]]
    first: int

    def missing(self, value: int) -> int:
        """Bridges that run ``value`` still needs."""
        return sum(_bridges(b - a) for a, b in pairwise([self.first, *self.runs[value]]))

    def wide_gap(self, value: int) -> tuple[int, int] | None:
        """The first gap (a, b) that is too wide, or None."""
        a = self.first
        for b in self.runs[value]:
            if b - a > STEP_LIMIT:
                return a, b
            a = b
        return None

    def bridge(self, value: int, a: int, b: int) -> None:
        """Take the cheapest move that shortens the gap (a, b) of run ``value``."""
        window = (b - STEP_LIMIT * _bridges(b - a), a + STEP_LIMIT)
        move = min(self._moves(value, *window), key=self._cost)
        insort(self.runs[value], move.position)
        insort(self.runs[move.target], move.position)
        if move.source is not None:
            self.runs[move.source].remove(move.position)

    def _moves(self, value: int, low: int, high: int) -> list[_Move]:
        moves = [_Move(q, None, -value) for q in self._cancelling(value, low, high)]
        for source, run in self.runs.items():
            if source - value in self.runs:
                entries = run[bisect_left(run, low) : min(bisect_right(run, high), len(run) - 1)]
                moves += [_Move(q, source, source - value) for q in entries if not self._opened(run, q)]
        return moves

    def _cancelling(self, value: int, low: int, high: int) -> set[int]:
        """Positions in [low, high] that may close a gap of the opposite run as well."""
        run = self.runs[-value]
        k = bisect_left(run, high)
        before = run[k - 1] if k else self.first
        after = run[k] if k < len(run) else high
        return {high} | {q for q in (low, before + STEP_LIMIT, after - STEP_LIMIT) if low <= q <= high}

    def _cost(self, move: _Move) -> tuple[int, int]:
        """Entries that the move adds, now and in the run that it lengthens or shortens; then the later position."""
        run = self.runs[move.target]
        k = bisect_right(run, move.position)
        before = run[k - 1] if k else self.first
        change = _bridges(move.position - before)
        if k < len(run):
            change += _bridges(run[k] - move.position) - _bridges(run[k] - before)
        return (2 if move.source is None else 1) + change, -move.position

    def _opened(self, run: list[int], position: int) -> bool:
        """Whether the run would need a further bridge without ``position``, which is not its last."""
        k = bisect_left(run, position)
        before = run[k - 1] if k else self.first
        return _bridges(run[k + 1] - before) > _bridges(position - before) + _bridges(run[k + 1] - position)
