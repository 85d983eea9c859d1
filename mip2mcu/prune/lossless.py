"""Removal that changes no output for any input in the sensor's ranges (Serra, Kumar, Ramalingam: "Lossless Compression
of Deep Neural Networks").

    inactive    a unit whose sum is never above 0 gives nothing: it goes
    active      units whose sums are never below 0 are linear; those of a dense layer whose weights depend linearly on
                the others' are merged into them:  W_d = K W_i  gives  W_d x + b_d = K (W_i x + b_i) + b_d - K b_i

Signs are first bounded by intervals, exact for the first layer; what is then open, and never seen otherwise on data, is
maximised or minimised by a mixed-integer program of the layers before, and settled by its dual bound alone.

`without_constants` is the counterpart for an integer network, equal to the last bit: units that give the same value for
all inputs are folded into the next layer's biases.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mip2mcu.errors import NoSolutionError
from mip2mcu.layers import Conv2d, Dense
from mip2mcu.mip.matrix import FloatArray
from mip2mcu.mip.solver import Solver, solve_matrix
from mip2mcu.network import Network
from mip2mcu.progress import Listener, Progress, Stop, never, silent
from mip2mcu.prune.float_network import FloatDense, FloatNetwork, FloatPool
from mip2mcu.prune.linear import Builder, Intervals, intervals, pool_columns, rows_of
from mip2mcu.prune.removal import removed
from mip2mcu.ranges import BoolArray, IntArray

SAFETY = 1e-6
"""By what share of a unit's interval a program's bound must clear 0: more than the solver's tolerances."""
RANK_TOLERANCE = 1e-9
"""Weights that are a combination of others up to this share of their norm depend on them."""
PROBES = 2000
"""Rows that are looked at for a unit being active or not."""


@dataclass(frozen=True, eq=False)
class Stability:
    """Units of each prunable layer that are never active, and those that always are; ``programs`` were solved."""

    inactive: tuple[BoolArray, ...]
    active: tuple[BoolArray, ...]
    programs: int


def stability(
    network: FloatNetwork,
    low: FloatArray,
    high: FloatArray,
    seen: FloatArray,
    solver: Solver,
    *,
    listener: Listener = silent,
    stop: Stop = never,
) -> Stability:
    """Signs of all sums for inputs in [low, high] (inputs,); ``seen`` (rows, inputs) lie within.

    The solver's limits hold for each program; a unit that no program settles in time counts as open.
    """
    bounds = intervals(network, low[None, :], high[None, :])
    probes = [values.reshape(len(values), -1) for values in _sums(network, seen[:PROBES])]
    inactive, active, programs = [], [], 0
    for layer, k in enumerate(network.prunable):
        least, most = (end.reshape(network.at(k).units, -1) for end in bounds.sums[k])
        sums = probes[layer].reshape(len(probes[layer]), network.at(k).units, -1)
        resting: BoolArray = np.all(most <= 0, axis=1, keepdims=True)[:, 0]
        firing: BoolArray = np.all(least >= 0, axis=1, keepdims=True)[:, 0]
        flat = isinstance(network.at(k), FloatDense)
        never_on = ~resting & (sums <= 0).all(axis=(0, 2))
        never_off = ~firing & (sums >= 0).all(axis=(0, 2))
        for unit in np.flatnonzero((never_on | never_off) & flat & (k > 0)):
            if stop():
                break
            sign = 1.0 if never_on[unit] else -1.0
            reach = SAFETY * max(float(most[unit, 0] - least[unit, 0]), 1e-30)
            settled = _bound(network, k, int(unit), sign, bounds, solver) <= -reach
            resting[unit] |= settled and bool(never_on[unit])
            firing[unit] |= settled and bool(never_off[unit])
            programs += 1
            listener(Progress(f"signs of layer {k}", done=int(unit) + 1, total=network.at(k).units))
        inactive.append(resting)
        active.append(firing & ~resting)
    return Stability(tuple(inactive), tuple(active), programs)


def _sums(network: FloatNetwork, inputs: FloatArray) -> list[FloatArray]:
    return [network.at(k).sums(network.into(k, inputs)) for k in network.prunable]


def _bound(
    network: FloatNetwork, k: int, unit: int, sign: float, bounds: Intervals, solver: Solver
) -> float:
    """Upper bound of ``sign`` times the sum of ``unit`` of layer ``k`` over the box: a program over layers 0..k - 1."""
    build = Builder()
    low, high = (end[0].reshape(-1) for end in bounds.into[0])
    values = build.variables(len(low), low, high)
    for i in range(k):
        layer = network.layers[i]
        least, most = (end[0].reshape(-1) for end in bounds.sums[i])
        if isinstance(layer, FloatPool) and not layer.average:
            values = _maximum(build, values[pool_columns(layer, network.shapes[i])], bounds.into[i])
            continue
        rows = rows_of(layer, network.shapes[i])
        sums = build.variables(len(least), least, most)
        columns = np.where(rows.column < 0, -1, values[rows.column])
        build.rows([(columns, rows.value), (sums, -np.ones(len(sums)))], -rows.constant, -rows.constant)
        values = sums if isinstance(layer, FloatPool) else _relu(build, sums, least, most)
    last = rows_of(network.layers[k], network.shapes[k])
    goal = build.variables(1, cost=-sign)
    build.rows([(values[last.column[[unit]]], last.value[[unit]]), (goal, -np.ones(1))], *[-last.constant[[unit]]] * 2)
    try:
        _, record = solve_matrix(build.matrix(), solver, stage="sign")
    except NoSolutionError:
        return np.inf
    return np.inf if record.bound is None else -record.bound


def _relu(build: Builder, sums: NDArray[np.int64], low: FloatArray, high: FloatArray) -> NDArray[np.int64]:
    """Activations: h >= p, h <= p - L (1 - v), h <= U v, with v open only where the sign is."""
    active = build.variables(len(sums), np.maximum(low, 0.0), np.maximum(high, 0.0))
    ones = np.ones(len(sums))
    build.rows([(active, ones), (sums, -ones)], 0.0)
    always, sometimes = low >= 0, (low < 0) & (high > 0)
    if always.any():
        build.rows([(active[always], ones[always]), (sums[always], -ones[always])], high=0.0)
    if sometimes.any():
        one, on = ones[sometimes], build.variables(int(sometimes.sum()), 0.0, 1.0, whole=True)
        h, p, least, most = active[sometimes], sums[sometimes], low[sometimes], high[sometimes]
        build.rows([(h, one), (p, -one), (on, -least)], high=-least)
        build.rows([(h, one), (on, -most)], high=0.0)
    return active


def _maximum(
    build: Builder, below: NDArray[np.int64], into: tuple[FloatArray, FloatArray]
) -> NDArray[np.int64]:
    """At least each input, at most the largest interval's end: a relaxation, which still bounds."""
    pooled = build.variables(len(below), high=float(into[1].max()))
    for j in range(below.shape[1]):
        build.rows([(pooled, np.ones(len(below))), (below[:, j], -np.ones(len(below)))], 0.0)
    total = np.ones(below.shape)
    low = float(into[0].min())
    build.rows([(pooled, np.ones(len(below))), (below, -total)], high=-(below.shape[1] - 1) * low)
    return pooled


# ---- removal -------------------------------------------------------------------------------------------------------


def compressed(network: FloatNetwork, signs: Stability) -> FloatNetwork:
    """``network`` without its inactive units and with dependent active units of dense layers merged."""
    kept = []
    for layer, k in enumerate(network.prunable):
        stay = ~signs.inactive[layer]
        active = np.flatnonzero(signs.active[layer])
        if isinstance(network.at(k), FloatDense) and len(active) > 1:
            network, gone = _merged(network, k, active)
            stay[gone] = False
        if not stay.any():
            stay[0] = True
        kept.append(np.flatnonzero(stay))
    return removed(network, kept)


def _merged(network: FloatNetwork, k: int, active: IntArray) -> tuple[FloatNetwork, IntArray]:
    """The next layer reads the independent units of ``active`` alone; returns the units it no longer needs."""
    layer, after = network.at(k), network.reader(k)
    independent, dependent = _independent_rows(layer.matrix[active])
    base, rest = active[independent], active[dependent]
    if len(rest) == 0:
        return network, rest
    factors = np.linalg.lstsq(layer.matrix[base].T, layer.matrix[rest].T, rcond=None)[0].T  # K (rest, base)
    reader = network.at(after)
    matrix = reader.matrix.copy()
    bias = reader.bias + matrix[:, rest] @ (layer.bias[rest] - factors @ layer.bias[base])
    matrix[:, base] += matrix[:, rest] @ factors
    matrix[:, rest] = 0.0
    return network.with_layer(after, reader.with_matrix(matrix, bias)), rest


def _independent_rows(matrix: FloatArray) -> tuple[IntArray, IntArray]:
    """Rows that are linearly independent, and the others; greedy by largest remainder."""
    rest = matrix.copy()
    norms = np.linalg.norm(matrix, axis=1)
    chosen: list[int] = []
    while True:
        sizes = np.linalg.norm(rest, axis=1)
        sizes[chosen] = 0.0
        j = int(sizes.argmax())
        if sizes[j] <= RANK_TOLERANCE * max(norms.max(), 1e-300):
            break
        chosen.append(j)
        direction = rest[j] / sizes[j]
        for _ in range(2):  # once more takes away what rounding left
            rest = rest - np.outer(rest @ direction, direction)
    independent = np.sort(np.array(chosen, dtype=np.int64))
    return independent, np.setdiff1d(np.arange(len(matrix)), independent)


# ---- integers ------------------------------------------------------------------------------------------------------


def without_constants(network: Network) -> tuple[Network, int]:
    """``network`` without hidden units that give one value for all inputs, and how many went; outputs are the same."""
    total = 0
    weighted = [k for k, layer in enumerate(network.layers) if isinstance(layer, Dense | Conv2d)]
    for k, after in pairwise(weighted):
        layer, reader = network.layers[k], network.layers[after]
        assert isinstance(layer, Dense | Conv2d) and isinstance(reader, Dense | Conv2d)
        low, high = (end.reshape(layer.units, -1) for end in network.layer_ranges[after])
        value = low[:, 0]
        constant = ((low == high) & (low == value[:, None])).all(axis=1) & (layer.requantisation is not None)
        if isinstance(reader, Conv2d) and any(reader.padding):
            constant &= value == reader.padding_value
        if constant.all():
            constant[0] = False
        if constant.any():
            total += int(constant.sum())
            network = _folded(network, k, after, constant, value)
    return network, total


def _folded(network: Network, k: int, after: int, constant: BoolArray, value: IntArray) -> Network:
    layer, reader = network.layers[k], network.layers[after]
    assert isinstance(layer, Dense | Conv2d) and isinstance(reader, Dense | Conv2d)
    assert layer.requantisation is not None
    stay = ~constant
    by_unit = reader.weights.reshape(reader.units, layer.units, -1)
    shift = by_unit[:, constant].sum(axis=2) @ value[constant]
    shape = (reader.units, -1, *reader.weights.shape[2:]) if isinstance(reader, Conv2d) else (reader.units, -1)
    requantisation = replace(
        layer.requantisation,
        pre=layer.requantisation.pre[stay],
        mult=layer.requantisation.mult[stay],
        shift=layer.requantisation.shift[stay],
    )
    layers = list(network.layers)
    layers[k] = replace(layer, weights=layer.weights[stay], bias=layer.bias[stay], requantisation=requantisation)
    layers[after] = replace(reader, weights=by_unit[:, stay].reshape(shape), bias=reader.bias + shift)
    return replace(network, layers=tuple(layers))
