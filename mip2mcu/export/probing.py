"""Chooses what NAME_selftest gives to a layer that stands in code, so that it notices any changed weight.

No check reads code (a CRC of it would have to be patched into the firmware behind the linker), so these weights are
watched by what they do. A change of a weight by d moves its unit's sum by d * x, which is seen where the unit's output
changes with it. So rows are needed on which sums lie next to their thresholds, on either side, with inputs that are not
0. The selftest calls the layer's function by itself: rows are any integers in the ranges of its inputs, also those that
no layer before would give, and its outputs are all compared. Of many rows that cost a few bytes each (see
`mip2mcu.export.drawing` and `mip2mcu.export.crossings`) those are taken that notice most of what is left.

    changes     of each weight that is not 0 and of each bias: its sign, its loss, one more and one less, apart from
                those that are without effect: they change no output of the unit for any inputs in range

Outputs never decrease as sums grow, so a row that notices a change notices every larger change in the same direction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mip2mcu.export.crossings import candidates, patterns_for
from mip2mcu.export.drawing import CORNERS, PATTERN, Drawing, Vector
from mip2mcu.export.reachable import can_flip, work
from mip2mcu.layers import Activation, Dense, Requantisation
from mip2mcu.ranges import BoolArray, IntArray, exact_product

_MOST_VECTORS = 512
_ROUNDS, _IDLE_ROUNDS = 24, 6
_CHOOSY_ROUNDS = 4
_LEAST_SHARE = 64
"""In the first rounds a row must notice one of so many changes that are left."""
_ROWS = 1024
"""That are tried in a round."""
_OPERATIONS = 2 * 10**8
"""While rows are tried, all together: a second or two."""
_PRODUCTS = 16
"""Products of a row and weights that take as long as to look at one change."""
_FIRST_BYTES, _EXACT_BYTES = 2 * 10**8, 2 * 10**9
"""That are moved to find out which changes no inputs can show, before and after the search: a second, at most."""
_CHUNK = 2 * 10**6


@dataclass(frozen=True, eq=False)
class Changes:
    """Weights of a layer that change: entry m adds ``delta[m]`` to the weight of unit ``unit[m]`` for input
    ``input[m]``, where the input behind the last is the bias.
    """

    unit: IntArray
    input: IntArray
    delta: IntArray

    def __len__(self) -> int:
        return len(self.unit)

    def only(self, which: NDArray[np.integer]) -> Changes:
        """Those of the indices ``which``."""
        return Changes(self.unit[which], self.input[which], self.delta[which])


@dataclass(frozen=True, eq=False)
class Probes:
    """The chosen vectors, their patterns (patterns, inputs), and how many of all changes they notice.

    changes          that some inputs can show, as far as that is known
    without_effect   further changes that no inputs can show
    """

    vectors: tuple[Vector, ...]
    patterns: BoolArray
    noticed: int
    changes: int
    without_effect: int


def choose(layer: Dense, drawing: Drawing) -> Probes:
    """Vectors for a ``layer`` in code whose inputs lie in the ranges of ``drawing``: plain seeds, where they do."""
    every = changes_of(layer)
    left = every.only(np.flatnonzero(can_matter(layer, every, drawing)))
    patterns = np.empty((0, len(drawing.low)), dtype=bool)
    if layer.activation is Activation.SIGN:
        patterns = patterns_for(layer, np.unique(left.unit), drawing, drawing.pool(patterns))
    pool = drawing.pool(patterns)
    plain = [Vector(seed) for seed in range(PATTERN)]
    found = _notice(layer, left, pool[:PATTERN])
    unseen = np.flatnonzero(~found.any(axis=0))
    hopeless = unseen[~_can_be_shown(layer, left.only(unseen), drawing, _FIRST_BYTES)]
    shown = np.setdiff1d(np.arange(len(left)), hopeless)
    left, found = left.only(shown), found[:, shown]
    vectors = plain if found.any(axis=0).all() else _search(layer, left, drawing, pool, found)
    return _chosen(layer, left, len(every), drawing, patterns, vectors)


def measure(layer: Dense, drawing: Drawing, vectors: Sequence[Vector]) -> Probes:
    """What ``vectors`` notice, plain ones that are given to the ``layer`` in any case."""
    every = changes_of(layer)
    left = every.only(np.flatnonzero(can_matter(layer, every, drawing)))
    seen = _notice(layer, left, drawing.rows([vector.seed for vector in vectors])).any(axis=0)
    none = np.empty((0, len(drawing.low)), dtype=bool)
    return Probes(tuple(vectors), none, int(seen.sum()), len(left), len(every) - len(left))


def _chosen(
    layer: Dense, left: Changes, every: int, drawing: Drawing, patterns: BoolArray, vectors: Sequence[Vector]
) -> Probes:
    """Of ``vectors`` those that are needed; of the ``every`` changes there are, those ``left`` may have an effect."""
    found = _notice(layer, left, drawing.mixed(vectors, drawing.pool(patterns)))
    needed = sorted(_greedy(found, len(left) + 1, len(vectors)), key=lambda m: vectors[m])
    missed = np.flatnonzero(~found[needed].any(axis=0))
    hopeless = int((~_can_be_shown(layer, left.only(missed), drawing, _EXACT_BYTES)).sum())
    changes = len(left) - hopeless
    kept, used = _renumbered([vectors[m] for m in needed] or [Vector(CORNERS[1])], patterns)
    return Probes(kept, used, len(left) - len(missed), changes, every - changes)


def _renumbered(vectors: Sequence[Vector], patterns: BoolArray) -> tuple[tuple[Vector, ...], BoolArray]:
    """The same vectors, and of the patterns only those that occur in them."""
    used = sorted({seed - PATTERN for vector in vectors for seed in (vector.seed, vector.other) if seed >= PATTERN})

    def moved(seed: int) -> int:
        return seed if seed < PATTERN else PATTERN + used.index(seed - PATTERN)

    return tuple(replace(v, seed=moved(v.seed), other=moved(v.other)) for v in vectors), patterns[used]


def _can_be_shown(layer: Dense, changes: Changes, drawing: Drawing, most_bytes: int) -> BoolArray:
    """False for changes of thresholds that no inputs can show, as far as ``most_bytes`` of memory moved tell."""
    shown = np.ones(len(changes), dtype=bool)
    if layer.activation is not Activation.SIGN:
        return shown
    low, high = drawing.low, drawing.high
    costs = {j: work(layer, j, low, high) for j in np.unique(changes.unit).tolist()}
    each = zip(changes.unit.tolist(), changes.input.tolist(), changes.delta.tolist(), strict=True)
    for m, (j, position, delta) in enumerate(each):
        most_bytes -= costs[j]
        if most_bytes < 0:
            break
        shown[m] = can_flip(layer, j, position, delta, low, high)
    return shown


def _search(layer: Dense, left: Changes, drawing: Drawing, pool: IntArray, found: BoolArray) -> list[Vector]:
    """Vectors that together notice what can be noticed: first of the plain seeds, which ``found``, then mixtures."""
    rng = np.random.default_rng(0)
    operations = _OPERATIONS
    tried = [Vector(seed) for seed in range(PATTERN)]
    vectors: list[Vector] = []
    idle = 0
    for turn in range(_ROUNDS):
        share = _LEAST_SHARE if turn < _CHOOSY_ROUNDS else len(left) + 1
        chosen = list(_greedy(found, share, _MOST_VECTORS - len(vectors)))
        vectors += [tried[m] for m in chosen]
        left = left.only(np.flatnonzero(~found[chosen].any(axis=0)))
        idle = 0 if chosen else idle + 1
        if not left or len(vectors) == _MOST_VECTORS or operations <= 0 or idle == _IDLE_ROUNDS:
            break
        wanted = {j: left.input[left.unit == j] for j in np.unique(left.unit).tolist()}
        tried = candidates(layer, wanted, pool, _ROWS, idle > 0, rng)
        found = _notice(layer, left, drawing.mixed(tried, pool))
        operations -= len(tried) * (len(left) + len(wanted) * layer.weights.shape[1] // _PRODUCTS)
    return vectors


def _greedy(found: BoolArray, share: int, most: int) -> Iterator[int]:
    """Rows of ``found``, the best first, as long as they notice 1 of ``share`` changes that are left, or any."""
    new = found
    for _ in range(most if len(found) else 0):
        gains = new.sum(axis=1)
        best = int(gains.argmax())
        if gains[best] < max(1, new.shape[1] // share):
            return
        yield best
        new = new[:, ~new[best]]


# ---- changes, and what a row notices of them -----------------------------------------------------------------------


def changes_of(layer: Dense) -> Changes:
    """Every change in ``layer`` that is asked for."""
    weights = np.column_stack([layer.weights, layer.bias])
    asked = weights != 0
    asked[:, -1] = True
    unit, position = np.nonzero(asked)
    value = weights[unit, position]
    deltas = (-value, -2 * value, np.ones_like(value), -np.ones_like(value))
    each = np.unique(np.concatenate([np.stack([unit, position, delta], axis=1) for delta in deltas]), axis=0)
    return Changes(*(column.copy() for column in each[each[:, 2] != 0].T))


def can_matter(layer: Dense, changes: Changes, drawing: Drawing) -> BoolArray:
    """False for changes that no inputs can show, by the ends of the sums alone."""
    low, high = drawing.low, drawing.high
    ends = np.stack([np.append(low, 1), np.append(high, 1)])[:, changes.input]
    old = np.column_stack([layer.weights, layer.bias])[changes.unit, changes.input]
    spans = [(np.min(w * ends, axis=0), np.max(w * ends, axis=0)) for w in (old, old + changes.delta)]
    least, most = (end[changes.unit] for end in layer.sum_range(low, high))
    least_after, most_after = least - spans[0][0] + spans[1][0], most - spans[0][1] + spans[1][1]
    matters = (ends != 0).any(axis=0)
    if layer.activation is not Activation.NONE:
        matters &= ~((most < 0) & (most_after < 0))
    if layer.activation is Activation.SIGN:
        matters &= ~((least >= 0) & (least_after >= 0))
    return matters


def _notice(layer: Dense, changes: Changes, rows: IntArray) -> BoolArray:
    """Whether each row notices each change, (rows, changes)."""
    seen = np.empty((len(rows), len(changes)), dtype=bool)
    for part in np.array_split(np.arange(len(changes)), 1 + seen.size // _CHUNK):
        seen[:, part] = _moves(layer, changes.only(part), rows)
    return seen


def _moves(layer: Dense, changes: Changes, inputs: IntArray) -> BoolArray:
    """Whether the output of the changed unit changes, (rows, changes)."""
    units, place = np.unique(changes.unit, return_inverse=True)
    before = (exact_product(inputs, layer.weights[units]) + layer.bias[units])[:, place]
    extended: IntArray = np.column_stack([inputs, np.ones(len(inputs), dtype=np.int64)])
    after = before + extended[:, changes.input] * changes.delta
    if layer.activation is Activation.SIGN:
        return (before >= 0) != (after >= 0)
    if layer.requantisation is None:
        return before != after
    scale = layer.requantisation
    per_change = Requantisation(scale.pre[changes.unit], scale.mult[changes.unit], scale.shift[changes.unit])
    return per_change.apply(before) != per_change.apply(after)
