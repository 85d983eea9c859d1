"""Chooses the rows of NAME_selftest so that it notices changed weights where they stand in code.

No check reads code (a CRC of it would have to be patched into the firmware behind the linker), so these weights are
watched by what they do. A change of a weight by d moves its unit's sum by d * x, which is seen where the unit's output
changes with it and the last sums with that. So rows are needed on which sums lie next to their thresholds, on either
side, while the unit matters. Of many rows that cost a few bytes each (see `mip2mcu.export.drawing` and
`mip2mcu.export.crossings`) those are taken that notice most of what is left.

    changes     of each weight and bias that is not 0: its sign, its loss, one more and one less, apart from those that
                change no output of the unit for any inputs in range, and those of units that nothing reads
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mip2mcu.export.crossings import candidates, patterns_for
from mip2mcu.export.drawing import CORNERS, PATTERN, Drawing, Vector
from mip2mcu.export.reachable import can_flip, work
from mip2mcu.layers import Activation, Dense, Requantisation
from mip2mcu.network import Network
from mip2mcu.ranges import BoolArray, IntArray

_MOST_VECTORS = 512
_ROUNDS, _IDLE_ROUNDS = 24, 6
_CHOOSY_ROUNDS = 4
_LEAST_SHARE = 64
"""In the first rounds a row must notice one of so many changes that are left."""
_ROWS, _LEAST_ROWS = 1024, 128
"""That are tried in a round; that are tried in all, however long that takes."""
_OPERATIONS = 2 * 10**8
"""Of the networks that are computed while rows are tried, all together: a second or two."""
_EXACT_BYTES = 2 * 10**9
"""That are moved to find out which changes no inputs can show: a second, at most."""
_CHUNK = 2 * 10**6


@dataclass(frozen=True, eq=False)
class Changes:
    """Weights of a layer that change: entry m adds ``delta[m]`` to the weight of unit ``unit[m]`` for input
    ``input[m]``, where the input behind the last is the bias.
    """

    unit: IntArray
    input: IntArray
    delta: IntArray

    def only(self, which: NDArray[np.integer]) -> Changes:
        """Those of the indices ``which``."""
        return Changes(self.unit[which], self.input[which], self.delta[which])


@dataclass(frozen=True, eq=False)
class Probes:
    """The chosen vectors, their patterns (patterns, inputs), and how many of all changes they notice.

    changes    that some inputs can show, as far as that is known
    """

    vectors: tuple[Vector, ...]
    patterns: BoolArray
    noticed: int
    changes: int


def choose(network: Network, coded: Sequence[int], drawing: Drawing) -> Probes:
    """Vectors for ``network`` whose layers ``coded``, all of them dense, stand in code."""
    every = {k: changes_of(network, k) for k in coded}
    patterns = np.empty((0, network.inputs), dtype=bool)
    if 0 in every and _dense(network, 0).activation is Activation.SIGN:
        patterns = patterns_for(_dense(network, 0), np.unique(every[0].unit), drawing, drawing.pool(patterns))
    pool = drawing.pool(patterns)
    vectors = _search(network, every, drawing, pool) or [Vector(seed) for seed in CORNERS]
    found = _notice(network, every, drawing.mixed(vectors, pool))
    needed = list(_greedy(found, _count(every) + 1, len(vectors)))
    seen = {k: found[k][needed].any(axis=0) for k in every}
    noticed = sum(int(one.sum()) for one in seen.values())
    hopeless = _hopeless(_dense(network, 0), every[0].only(np.flatnonzero(~seen[0])), drawing) if 0 in every else 0
    kept = sorted({Vector(seed) for seed in CORNERS} | {vectors[m] for m in needed})
    return Probes(*_renumbered(kept, patterns), noticed, _count(every) - hopeless)


def _renumbered(vectors: Sequence[Vector], patterns: BoolArray) -> tuple[tuple[Vector, ...], BoolArray]:
    """The same vectors, and of the patterns only those that occur in them."""
    used = sorted({seed - PATTERN for vector in vectors for seed in (vector.seed, vector.other) if seed >= PATTERN})

    def moved(seed: int) -> int:
        return seed if seed < PATTERN else PATTERN + used.index(seed - PATTERN)

    return tuple(replace(v, seed=moved(v.seed), other=moved(v.other)) for v in vectors), patterns[used]


def _hopeless(layer: Dense, left: Changes, drawing: Drawing) -> int:
    """How many of the changes that are ``left`` of the first layer no inputs can show, as far as a second tells."""
    if layer.activation is not Activation.SIGN:
        return 0
    low, high = drawing.low, drawing.low + drawing.span - 1
    found, bytes_left = 0, _EXACT_BYTES
    for j, position, delta in zip(left.unit.tolist(), left.input.tolist(), left.delta.tolist(), strict=True):
        bytes_left -= work(layer, j, low, high)
        if bytes_left < 0:
            break
        found += not can_flip(layer, j, position, delta, low, high)
    return found


def _search(network: Network, left: Mapping[int, Changes], drawing: Drawing, pool: IntArray) -> list[Vector]:
    """Vectors that together notice what can be noticed: first plain seeds, then mixtures for what is left."""
    rng = np.random.default_rng(0)
    rows = max(_LEAST_ROWS, _OPERATIONS // _operations(network, left))
    tried = [Vector(seed) for seed in range(min(PATTERN, rows))]
    vectors: list[Vector] = []
    idle = 0
    for turn in range(_ROUNDS):
        found = _notice(network, left, drawing.mixed(tried, pool))
        share = _LEAST_SHARE if turn < _CHOOSY_ROUNDS else _count(left) + 1
        chosen = list(_greedy(found, share, _MOST_VECTORS - len(vectors)))
        vectors += [tried[m] for m in chosen]
        left = {k: changes.only(np.flatnonzero(~found[k][chosen].any(axis=0))) for k, changes in left.items()}
        rows -= len(tried)
        idle = 0 if chosen else idle + 1
        if not _count(left) or len(vectors) == _MOST_VECTORS or rows <= 0 or idle == _IDLE_ROUNDS:
            break
        tried = candidates(*_first(network, left), drawing, pool, min(rows, _ROWS), rng)
    return vectors


def _operations(network: Network, changes: Mapping[int, Changes]) -> int:
    """Of trying one row: the network, and what follows each unit whose output may change."""
    weights = [getattr(layer, "weights", np.empty(0)).size for layer in network.layers]
    rest = sum(len(np.unique(changes[k].unit)) * sum(weights[k + 1 :]) for k in changes)
    return network.operations + rest


def _first(network: Network, left: Mapping[int, Changes]) -> tuple[Dense | None, dict[int, IntArray]]:
    """The first layer, where it has thresholds, and by unit the inputs with changes that are left; else nothing."""
    if 0 not in left or _dense(network, 0).activation is not Activation.SIGN:
        return None, {}
    changes = left[0]
    return _dense(network, 0), {j: changes.input[changes.unit == j] for j in np.unique(changes.unit).tolist()}


def _count(left: Mapping[int, Changes]) -> int:
    return sum(len(changes.unit) for changes in left.values())


def _greedy(found: Mapping[int, BoolArray], share: int, most: int) -> Iterator[int]:
    """Rows of ``found``, the best first, as long as they notice 1 of ``share`` changes that are left, or any."""
    new = np.concatenate(list(found.values()), axis=1)
    for _ in range(most):
        gains = new.sum(axis=1)
        best = int(gains.argmax())
        if gains[best] < max(1, new.shape[1] // share):
            return
        yield best
        new = new[:, ~new[best]]


def _dense(network: Network, k: int) -> Dense:
    layer = network.layers[k]
    assert isinstance(layer, Dense)
    return layer


# ---- what a row notices --------------------------------------------------------------------------------------------


def changes_of(network: Network, k: int) -> Changes:
    """Every change in layer ``k`` that is asked for."""
    layer = _dense(network, k)
    weights = np.column_stack([layer.weights, layer.bias])
    unit, position = np.nonzero(weights)
    value = weights[unit, position]
    deltas = (-value, -2 * value, np.ones_like(value), -np.ones_like(value))
    each = np.unique(np.concatenate([np.stack([unit, position, delta], axis=1) for delta in deltas]), axis=0)
    each = each[_can_matter(network, k, Changes(*each.T), weights)]
    return Changes(*(column.copy() for column in each.T))


def _can_matter(network: Network, k: int, changes: Changes, weights: IntArray) -> BoolArray:
    """False for changes that no inputs in range can show; ``weights`` have the biases behind them."""
    layer = _dense(network, k)
    low, high = (np.append(end.reshape(-1), 1) for end in network.layer_ranges[k])
    ends = np.stack([low, high])[:, changes.input]
    old = weights[changes.unit, changes.input]
    spans = [(np.min(w * ends, axis=0), np.max(w * ends, axis=0)) for w in (old, old + changes.delta)]
    least, most = (end[changes.unit] for end in layer.sum_range(low[:-1], high[:-1]))
    least_after, most_after = least - spans[0][0] + spans[1][0], most - spans[0][1] + spans[1][1]
    matters = (ends != 0).sum(axis=0) > 0
    if layer.activation is not Activation.NONE:
        matters &= ~((most < 0) & (most_after < 0))
    if layer.activation is Activation.SIGN:
        matters &= ~((least >= 0) & (least_after >= 0))
    if k + 1 < len(network.layers):
        read = (_dense(network, k + 1).weights != 0).sum(axis=0) > 0
        matters &= read[changes.unit]
    return matters


def _notice(network: Network, left: Mapping[int, Changes], rows: IntArray) -> dict[int, BoolArray]:
    """By layer, whether each row notices each change, (rows, changes)."""
    tensors = [rows, *network.activations(rows)]
    found = {}
    for k, changes in left.items():
        seen = np.empty((len(rows), len(changes.unit)), dtype=bool)
        for part in np.array_split(np.arange(len(changes.unit)), 1 + seen.size // _CHUNK):
            seen[:, part] = _moves(_dense(network, k), changes.only(part), tensors[k].reshape(len(rows), -1))
        units = np.unique(changes.unit)
        found[k] = seen & _matters(network, k, tensors[k + 1], units)[:, np.searchsorted(units, changes.unit)]
    return found


def _moves(layer: Dense, changes: Changes, inputs: IntArray) -> BoolArray:
    """Whether the output of the changed unit changes, (rows, changes)."""
    before = layer.sums(inputs)[:, changes.unit]
    extended: IntArray = np.column_stack([inputs, np.ones(len(inputs), dtype=np.int64)])
    after = before + extended[:, changes.input] * changes.delta
    if layer.activation is Activation.SIGN:
        return (before >= 0) != (after >= 0)
    if layer.requantisation is None:
        return before != after
    scale = layer.requantisation
    per_change = Requantisation(scale.pre[changes.unit], scale.mult[changes.unit], scale.shift[changes.unit])
    return per_change.apply(before) != per_change.apply(after)


def _matters(network: Network, k: int, outputs: IntArray, units: IntArray) -> BoolArray:
    """Whether the last sums change when the output of one of ``units`` does (by a sign, or by one), (rows, units)."""
    rows = len(outputs)
    matters = np.ones((rows, len(units)), dtype=bool)
    if k + 1 == len(network.layers):
        return matters
    sums = _rest(network, k, outputs)
    signs = _dense(network, k).activation is Activation.SIGN
    other = -outputs if signs else np.where(outputs < 255, outputs + 1, outputs - 1)
    for number, unit in enumerate(units):
        changed = outputs.copy()
        changed[:, unit] = other[:, unit]
        matters[:, number] = (_rest(network, k, changed) != sums).any(axis=1)
    return matters


def _rest(network: Network, k: int, outputs: IntArray) -> IntArray:
    """The last sums behind the outputs of layer ``k``."""
    values = outputs
    for layer in network.layers[k + 1 :]:
        values = layer.forward(values)
    return values
