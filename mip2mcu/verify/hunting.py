"""Finds rows that fulfil the goals of `mip2mcu.verify.goals`: built, else searched, else solved for.

    1. candidates   corners; inputs built for the first layer's sums by the signs and sizes of its weights; random; data
    2. climbing     from the nearest row on, random changes of a few inputs that lead no further away
    3. a MIP        for a bounded number of goals of small networks; it may also prove that there is no such row

Work is counted in operations and nodes, never in seconds: the same network and seed give the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mip2mcu.decisions import Argmax
from mip2mcu.layers import Conv2d, Dense
from mip2mcu.network import Network
from mip2mcu.ranges import IntArray
from mip2mcu.verify.goals import EXTREMES, THRESHOLDS, TIES, Goal, SumGoal, TieGoal, goals_of, sum_ranges, trace

SmallArray: TypeAlias = NDArray[np.int16]

CORNERS = "corners"
_CORNER_INPUTS = 8
"""Up to this many inputs all corners are listed."""
_UNIT_LIMIT = 512
"""Most units of a layer whose sums are goals."""
_GOAL_VALUES = 2**24
"""Most inputs of all goals' rows together."""
_BLOCK_VALUES = 2**21
"""Most inputs of the rows that are looked at together."""
_POOL_ROWS = 4096
_LEAST_ROWS = 16
_DATA_ROWS = 16384
_LEVELLED_ROWS = 1024
_ROWS_A_SUM = 4
_ROWS_A_TIE = 256
_MUTANTS = 16
_CHANGES = 4
_POOL_OPERATIONS = 2 * 10**7
_CLIMB_OPERATIONS = 10**8
_CLIMB_ROUNDS = 150
_SOLVES = 16
_UNANSWERED = 2
"""So many questions without an answer end the asking."""


@dataclass(frozen=True)
class Tally:
    """How many goals of a kind there were, and how they ended; the rest was not found.

    impossible    proved that no input fulfils them
    """

    wanted: int
    found: int
    impossible: int

    @property
    def missing(self) -> int:
        """Goals that were neither met nor excluded."""
        return self.wanted - self.found - self.impossible


@dataclass(frozen=True, eq=False)
class Hunt:
    """Rows of network inputs by kind, int16 to be small, and what became of each kind's goals."""

    rows: Mapping[str, SmallArray]
    tallies: Mapping[str, Tally]


@dataclass(eq=False)
class _Chase:
    """A goal, the rows that meet it, and the nearest row so far."""

    goal: Goal
    nearest: SmallArray
    distance: int = 2**62
    met: list[SmallArray] = field(default_factory=list)
    is_impossible: bool = False

    @property
    def is_open(self) -> bool:
        return not self.met and not self.is_impossible

    @property
    def wants_more(self) -> bool:
        """Whether further rows are welcome."""
        limit = _ROWS_A_TIE if isinstance(self.goal, TieGoal) else _ROWS_A_SUM
        return not self.is_impossible and len(self.met) < limit

    def note(self, rows: IntArray, distance: IntArray) -> None:
        """Take what is good among ``rows`` (rows, inputs)."""
        limit = _ROWS_A_TIE if isinstance(self.goal, TieGoal) else _ROWS_A_SUM
        self.met += [rows[k].astype(np.int16) for k in np.flatnonzero(distance == 0)[: limit - len(self.met)]]
        k = int(np.argmin(distance))
        if distance[k] <= self.distance:
            self.distance, self.nearest = int(distance[k]), rows[k].astype(np.int16)


def hunt(network: Network, data: IntArray | None = None, seed: int = 0, effort: float = 1.0) -> Hunt:
    """Rows for every goal of ``network`` that can be met; ``data`` (rows, inputs) are looked through too.

    ``effort`` is a factor of the work: 1 takes a second or some, 0 builds rows and looks at a few random ones.
    """
    rng = np.random.default_rng(seed)
    limit = max(8, min(_UNIT_LIMIT, _GOAL_VALUES // (8 * network.inputs)))
    nothing = np.zeros(0, dtype=np.int16)
    ranges = sum_ranges(network)
    chases = [_Chase(goal, nothing) for goal in goals_of(network, limit, ranges)]
    for chase in chases:
        chase.is_impossible = chase.goal.is_impossible(network, ranges)
    for rows in _candidates(network, data, [chase.goal for chase in chases], rng, effort):
        _look(network, chases, rows)
    _climb(network, [chase for chase in chases if chase.is_open], rng, int(effort * _CLIMB_OPERATIONS))
    _solve(network, [chase for chase in chases if chase.is_open], int(effort * _SOLVES))
    return Hunt({CORNERS: corners(network).astype(np.int16), **_rows_by_kind(chases)}, _tallies(chases))


def _rows_by_kind(chases: list[_Chase]) -> dict[str, SmallArray]:
    """What was met; of extremes that no row attains the nearest."""
    kinds: dict[str, list[SmallArray]] = {kind: [] for kind in (EXTREMES, THRESHOLDS, *TIES.values())}
    for chase in chases:
        kinds[chase.goal.kind] += chase.met or [chase.nearest] * (chase.goal.kind == EXTREMES)
    return {kind: np.unique(np.stack(rows), axis=0) for kind, rows in kinds.items() if rows}


def _tallies(chases: list[_Chase]) -> dict[str, Tally]:
    tallies = {}
    for kind in (EXTREMES, THRESHOLDS, *TIES.values()):
        own = [chase for chase in chases if chase.goal.kind == kind]
        if own:
            impossible = sum(chase.is_impossible for chase in own)
            tallies[kind] = Tally(len(own), sum(bool(chase.met) for chase in own), impossible)
    return tallies


def _look(network: Network, chases: list[_Chase], rows: IntArray) -> None:
    """Let every chase take what it wants of ``rows``."""
    found = trace(network, rows)
    for chase in chases:
        if chase.wants_more:
            chase.note(rows, chase.goal.distance(found))


def block_rows(network: Network) -> int:
    """Rows that are looked at together, so that what they compute takes some megabytes and little time."""
    widest = max(low.size for low, _ in network.layer_ranges)
    return max(_LEAST_ROWS, min(_POOL_ROWS, _BLOCK_VALUES // widest, _POOL_OPERATIONS // network.operations))


def random_rows(network: Network, count: int, rng: np.random.Generator) -> IntArray:
    """``count`` rows in the inputs' ranges; each row leaves a random share of its inputs at their lower end."""
    low, high = network.input_low, network.input_high
    values = rng.integers(low, high, size=(count, network.inputs), endpoint=True)
    share = rng.random((count, 1), dtype=np.float32)
    share[::4] = 1.0
    return np.where(rng.random((count, network.inputs), dtype=np.float32) < share, values, low)


def corners(network: Network) -> IntArray:
    """All inputs at their least, all at their most, alternating; every corner of few inputs; the point nearest to 0."""
    low, high = network.input_low, network.input_high
    if network.inputs <= _CORNER_INPUTS:
        upper = np.array(list(product((False, True), repeat=network.inputs)))
    else:
        position = np.arange(network.inputs)
        upper = np.array([position < 0, position >= 0, position % 2 == 0, position % 2 == 1])
    nearest_zero = np.clip(0, low, high)[None]
    return np.unique(np.concatenate([np.where(upper, high, low), nearest_zero]), axis=0)


# ---- candidates ----------------------------------------------------------------------------------------------------


def _candidates(
    network: Network, data: IntArray | None, goals: list[Goal], rng: np.random.Generator, effort: float
) -> Iterator[IntArray]:
    """Blocks of rows, the promising ones first."""
    size = block_rows(network)
    yield corners(network)
    yield from _built(network, [goal for goal in goals if isinstance(goal, SumGoal) and goal.layer == 0], rng, size)
    pool = random_rows(network, max(_LEAST_ROWS, int(min(1.0, effort) * size)), rng)
    yield pool
    if isinstance(network.decision, Argmax) and len(network.layers) == 1 and len(network.classes) > 1:
        yield _level(network, pool[:_LEVELLED_ROWS])
    for start in range(0, 0 if data is None else min(len(data), _DATA_ROWS), size):
        assert data is not None
        yield data[start : min(start + size, _DATA_ROWS)]


def _built(network: Network, goals: list[SumGoal], rng: np.random.Generator, size: int) -> Iterator[IntArray]:
    """Rows built for sums of the first layer, from a random start each: `reach`."""
    first = network.layers[0]
    if not isinstance(first, Dense | Conv2d):
        return
    low, high = network.input_low, network.input_high
    for start in range(0, len(goals), size):
        part = goals[start : start + size]
        forms = [linear_form(network, goal.unit) for goal in part]
        weights = np.stack([form for form, _ in forms])
        wanted = np.array([goal.value - constant for goal, (_, constant) in zip(part, forms, strict=True)])
        yield reach(weights, wanted, random_rows(network, len(part), rng), low, high)[0]


def linear_form(network: Network, unit: int) -> tuple[IntArray, int]:
    """Weights (inputs,) and constant of a unit of the first layer; of a convolution at the position in the middle."""
    first = network.layers[0]
    if isinstance(first, Dense):
        return first.weights[unit], int(first.bias[unit])
    assert isinstance(first, Conv2d)
    _, down, across = first.output_shape(network.input_shape)
    kernel = first.weights[unit]
    above, left = (side // 2 * stride for side, stride in zip((down, across), first.stride, strict=True))
    rows = np.arange(kernel.shape[1]) + above - first.padding[0]
    columns = np.arange(kernel.shape[2]) + left - first.padding[1]
    inside_rows = (rows >= 0) & (rows < network.input_shape[1])
    inside_columns = (columns >= 0) & (columns < network.input_shape[2])
    inside = kernel[:, inside_rows][:, :, inside_columns]
    form = np.zeros(network.input_shape, dtype=np.int64)
    form[:, rows[inside_rows][:, None], columns[inside_columns][None, :]] = inside
    padded = int(kernel.sum() - inside.sum()) * first.padding_value
    return form.reshape(-1), int(first.bias[unit]) + padded


def _level(network: Network, rows: IntArray) -> IntArray:
    """``rows`` changed such that their two best classes tie, where one layer alone decides."""
    only = network.layers[0]
    assert isinstance(only, Dense)
    best = np.argsort(-only.sums(rows), axis=1, kind="stable")[:, :2]
    weights = only.weights[best[:, 0]] - only.weights[best[:, 1]]
    wanted = only.bias[best[:, 1]] - only.bias[best[:, 0]]
    return reach(weights, wanted, rows, network.input_low, network.input_high)[0]


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


# ---- climbing ------------------------------------------------------------------------------------------------------


def _climb(network: Network, chases: list[_Chase], rng: np.random.Generator, operations: int) -> None:
    """Change the nearest rows of ``chases`` step by step; a step never leads away from the goal."""
    if not chases:
        return
    movable = _movable_inputs(network)
    if not len(movable):
        return
    a_row = network.operations + 32 * network.inputs
    rounds = min(_CLIMB_ROUNDS, operations // (a_row * _MUTANTS * len(chases)))
    together = max(1, block_rows(network) // _MUTANTS)
    for _ in range(rounds):
        chases = [chase for chase in chases if chase.is_open]
        for start in range(0, len(chases), together):
            part = chases[start : start + together]
            rows = changed(network, np.repeat(np.stack([c.nearest for c in part]), _MUTANTS, axis=0), movable, rng)
            found = trace(network, rows)
            for k, chase in enumerate(part):
                own = slice(k * _MUTANTS, (k + 1) * _MUTANTS)
                chase.note(rows[own], chase.goal.distance(found.part(own.start, own.stop)))


def _movable_inputs(network: Network) -> IntArray:
    """Indices of the inputs whose value matters."""
    movable = network.input_low < network.input_high
    first = network.layers[0]
    if isinstance(first, Dense):
        movable &= first.weights.any(axis=0)
    return np.flatnonzero(movable)


def changed(network: Network, rows: IntArray | SmallArray, movable: IntArray, rng: np.random.Generator) -> IntArray:
    """``rows`` with one to four inputs each moved by one, to an end of their range, or anywhere."""
    rows = rows.astype(np.int64)  # a copy
    k = np.arange(len(rows))
    for change in range(_CHANGES):
        i = movable[rng.integers(0, len(movable), len(rows))]
        low, high, value = network.input_low[i], network.input_high[i], rows[k, i]
        anywhere = rng.integers(low, high, endpoint=True)
        options = np.stack([value - 1, value + 1, np.where(value == high, low, high), anywhere])
        moved = np.clip(options[rng.integers(0, 4, len(rows)), k], low, high)
        rows[k, i] = np.where(rng.random(len(rows)) < 0.5**change, moved, value)
    return rows


# ---- solving -------------------------------------------------------------------------------------------------------


def _solve(network: Network, chases: list[_Chase], solves: int) -> None:
    """Ask a MIP for a row for the first few of ``chases``; ties come first."""
    if not chases or not solves:
        return
    from mip2mcu.mip.inputs import InputSearch, is_searchable  # noqa: PLC0415  (the solver loads only where needed)

    if not is_searchable(network):
        return
    search = InputSearch(network)
    unanswered = 0
    for chase in sorted(chases, key=lambda chase: isinstance(chase.goal, SumGoal))[:solves]:
        goal = chase.goal
        if isinstance(goal, TieGoal):
            answer = search.tie(goal.count)
        else:
            answer = search.sum_equals(goal.layer, goal.unit, goal.value)
        chase.is_impossible = answer.is_impossible
        if answer.row is not None:
            row = np.clip(answer.row, network.input_low, network.input_high)[None]
            chase.note(row, goal.distance(trace(network, row)))
        unanswered += chase.is_open
        if unanswered == _UNANSWERED:
            return
