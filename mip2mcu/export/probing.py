"""Chooses the rows of NAME_selftest so that it notices changed weights where they stand in code.

No check reads code (a CRC of it would have to be patched into the firmware behind the linker), so these weights are
watched by what they do. A change of a weight by d moves its unit's sum by d * x, which is seen where the unit's output
changes with it and the last sums with that. So rows are needed on which sums lie near their thresholds, on either side,
while the unit matters: of many rows that cost nothing but their seed, those are taken that notice most of what is left.

    changes     of each weight and bias that is not 0: its sign, its loss, one more and one less, apart from those that
                change no output of the unit for any inputs in range, and those of units that nothing reads
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mip2mcu.export.drawing import CORNERS, Drawing
from mip2mcu.layers import Activation, Dense, Requantisation
from mip2mcu.network import Network
from mip2mcu.ranges import BoolArray, IntArray

_MOST_SEEDS = 128
_BATCHES = (64, 64, 128, 256, 512, 1024, 2048, 4096, 4096, 4096)
"""How many seeds are tried at a time; the later ones are for the few changes that are hard to notice."""
_CHOOSY_BATCHES = 4
_LEAST_SHARE = 32
"""In the first batches a row must notice one of so many changes that are left."""
_OPERATIONS = 2 * 10**8
"""Of the networks that are computed while rows are tried, all together: a second or two."""
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


@dataclass(frozen=True)
class Probes:
    """The chosen seeds, and how many of all changes they notice."""

    seeds: tuple[int, ...]
    noticed: int
    changes: int


def choose(network: Network, coded: Sequence[int], drawing: Drawing) -> Probes:
    """Seeds for ``network`` whose layers ``coded``, all of them dense, stand in code."""
    left = {k: changes_of(network, k) for k in coded}
    total = _count(left)
    seeds: list[int] = []
    for number, batch in enumerate(_batches(network)):
        found = _notice(network, left, drawing.rows(batch))
        share = _LEAST_SHARE if number < _CHOOSY_BATCHES else total + 1
        chosen = list(_greedy(found, share, _MOST_SEEDS - len(seeds)))
        seeds += [batch[row] for row in chosen]
        left = {k: changes.only(np.flatnonzero(~found[k][chosen].any(axis=0))) for k, changes in left.items()}
        if len(seeds) == _MOST_SEEDS or not _count(left):
            break
    return Probes(tuple(sorted({*seeds, *CORNERS})), total - _count(left), total)


def _count(left: Mapping[int, Changes]) -> int:
    return sum(len(changes.unit) for changes in left.values())


def _batches(network: Network) -> Iterator[range]:
    """Seeds to choose from, as many as `_OPERATIONS` allow, but at least one batch."""
    first, rows = 0, max(_BATCHES[0], _OPERATIONS // network.operations)
    for size in _BATCHES:
        if first + size > rows:
            return
        yield range(first, first + size)
        first += size


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
