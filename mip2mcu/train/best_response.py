"""Neuron-wise best response: every unit in turn does what is best for the goal while all others stay as they are.

With all units but one fixed, forward passes with that unit at +1 and at -1 give each row's cost of firing,
c_k = loss_on - loss_off, and the unit's best response is a small exact program, free of products:

    minimise    sum_k c_k u_k          u_k = 1  <=>  w . x_k + b >= 0,  rows with c_k != 0 only
    c_k < 0:    w . x_k + b >= low_k (1 - u_k)
    c_k > 0:    w . x_k + b <= (high_k + 1) u_k - 1

A ridge fit, rounding, the best threshold and single weights find good answers at once (`guided`, `climb`); where the
program is small enough it is solved too, from there. Output weights are moved one step at a time: on activations of
+-1 the effect of every step of an output is two losses and one product of matrices. Only true improvements of the
goal's exact value are taken, so it falls monotonically, whatever the loss and the depth.

Networks that must fit every row (min-weight, max-margin) are improved with their activations fixed: then the units
decouple, and each is a program with an interval of sums a row (`within_intervals`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from mip2mcu.errors import NoSolutionError
from mip2mcu.mip.matrix import NO_LIMIT, FloatArray, Matrix, sparse_rows
from mip2mcu.mip.solver import Solver, solve_matrix
from mip2mcu.progress import Listener, Progress, Stop
from mip2mcu.ranges import IntArray
from mip2mcu.train.box import ANY_BIAS, Box, UnitBox
from mip2mcu.train.goal import Goal, Value
from mip2mcu.train.outputs import Outputs
from mip2mcu.train.reduction import Reduction
from mip2mcu.train.sign_network import SignNetwork

SWEEPS = 60
"""Most rounds over all units of one network."""
CLIMB_MOVES = 40
"""Most single weights that are changed in one response."""
CLIMBED_INPUTS = 24
"""Inputs whose weights are tried in one response."""
PROGRAM_ENTRIES = 60_000
"""Most matrix entries of a response that is solved as a program."""
PROGRAM_NODES = 30
"""Branch-and-bound nodes of one response."""
PROGRAM_SECONDS = 5.0
"""Most seconds of one response, where there is a limit in seconds."""
UNIT_LOW = -(2**40)
"""Below every sum: no limit."""


@dataclass(frozen=True, eq=False)
class Engine:
    """Improves networks for a goal; ``stop`` is asked often, and the best network so far is returned."""

    reduction: Reduction
    goal: Goal
    solver: Solver
    listener: Listener
    stop: Stop
    target: Value | None = None
    """A value that is good enough."""
    box: Box | None = None
    """Where given, weights and biases stay in it."""

    def value(self, network: SignNetwork) -> Value:
        """The goal's exact value."""
        return self.goal.value(network, self.reduction)

    def enough(self, value: Value) -> bool:
        """True where nothing is left to do."""
        return self.stop() or (self.target is not None and value <= self.target)

    def improved(self, network: SignNetwork, *, programs: bool = True) -> SignNetwork:
        """Rounds of responses until none improves; then the same with programs, where they are small enough."""
        if not network.hidden:
            tuned = self.tuned(network)
            network = tuned if self.value(tuned) < self.value(network) else network
            refining = self.goal.kind.fits_all and self.goal.loss(network, self.reduction) == 0
            return self._refine(network) if refining else network
        network = self._rounds(network, exact=False)
        if programs and self.solver.node_limit != 0:
            network = self._rounds(network, exact=True)
        if self.goal.kind.fits_all and self.goal.loss(network, self.reduction) == 0:
            network = self._refine(network)
        if self.goal.compress != "none":
            network = self._with_fewer_units(network)
        return network

    def polished(self, network: SignNetwork, rounds: int) -> SignNetwork:
        """The network after so many rounds of quick responses at most; never worse."""
        if network.hidden:
            return self._rounds(network, exact=False, most=rounds)
        tuned = self.tuned(network)
        return tuned if self.value(tuned) < self.value(network) else network

    def hinged(self, network: SignNetwork) -> SignNetwork:
        """The network after rounds for the squared hinge with the goal's own margin target."""
        goal = Goal("min-hinge", self.goal.bound, self.goal.target(network))
        return replace(self, goal=goal, target=None)._rounds(network, exact=False, most=10)

    def _with_fewer_units(self, network: SignNetwork) -> SignNetwork:
        """Take units out one after another, with a round of responses after each, while the goal's value falls."""
        current, searching = self.value(network), True
        while searching:
            searching = False
            for layer in range(network.depth - 1):
                weight = np.abs(network.weights[layer + 1]).sum(axis=0)
                used = network.used()[layer]
                for unit in used[np.argsort(weight[used], kind="stable")].tolist():
                    if self.enough(current) or len(network.used()[layer]) == 1:
                        break
                    candidate = self._rounds(self.tuned(network.without(layer, unit)), exact=False, most=1)
                    if self.value(candidate) < current:
                        network, current, searching = candidate, self.value(candidate), True
        return network

    def _rounds(self, network: SignNetwork, *, exact: bool, most: int = SWEEPS) -> SignNetwork:
        began = time.monotonic()
        current = self.value(network)
        for number in range(most):
            before = current
            self.listener(Progress("start", float(current[0]), 0.0, time.monotonic() - began))
            rng = np.random.default_rng([self.solver.seed, number])
            for layer in range(network.depth - 1):
                for unit in rng.permutation(len(network.bias[layer])).tolist():
                    if self.enough(current):
                        return network
                    if self.goal.compress != "none" and unit not in network.used()[layer]:
                        continue
                    network, current = self._better(network, current, self.response(network, layer, unit, exact))
            network, current = self._better(network, current, self.tuned(network))
            if current == before:
                break
        return network

    def _better(self, network: SignNetwork, current: Value, candidate: SignNetwork) -> tuple[SignNetwork, Value]:
        if candidate is network:
            return network, current
        reached = self.value(candidate)
        return (candidate, reached) if reached < current else (network, current)

    # ---- one hidden unit ----

    def response(self, network: SignNetwork, layer: int, unit: int, exact: bool) -> SignNetwork:
        """The network with one hidden unit as the others need it; the same network where nothing better was found."""
        cost = cost_of_firing(network, self.reduction, self.goal, layer, unit)
        inputs = network.inputs_of(self.reduction.rows, layer)
        asked = np.flatnonzero(cost)
        rows, cost = inputs[asked], cost[asked]
        if layer > 0:
            rows, cost = _merged(rows, cost)
        high, step = self.weight_high(network, layer), self.reduction.domain.step
        weights, bias = network.weights[layer][unit], int(network.bias[layer][unit])
        now = int(cost[rows @ weights + bias >= 0].sum())
        limits = UnitBox(-high, high) if self.box is None else self.box.unit(layer, unit)
        found = self._answer(rows, cost, high, limits, weights) if not exact else None
        if exact and rows.size <= PROGRAM_ENTRIES and len(cost):
            found = self._program(rows, cost, high, step, weights, bias)
        if found is None or found[0] >= now:
            return network
        return network.with_unit(layer, unit, found[1], found[2])

    def weight_high(self, network: SignNetwork, layer: int) -> IntArray:
        """Largest weight of each input of a layer."""
        if layer == 0:
            return self.reduction.weight_high
        return np.full(network.weights[layer].shape[1], self.reduction.domain.bound)

    def _answer(
        self, rows: IntArray, cost: IntArray, high: IntArray, limits: UnitBox, weights: IntArray
    ) -> tuple[int, IntArray, int] | None:
        """Total cost, weights and bias of the best unit of a fit and of the current one, each climbed."""
        if not (cost < 0).any() or not (cost > 0).any():
            if self.box is not None:
                return climb(rows, cost, weights, limits, self.reduction.domain.step, self.stop) if len(cost) else None
            fires = bool(len(cost)) and bool((cost < 0).any())
            reach = int((np.abs(rows) @ np.abs(weights)).max(initial=0))
            return int(cost[cost < 0].sum()), weights, reach if fires else -1 - reach
        step = self.reduction.domain.step
        fits = [np.clip(fit, limits.low, limits.high) for fit in roundings(guided(rows, cost), high, step)]
        totals = [best_threshold(rows @ fit, cost, limits.bias)[0] for fit in fits]
        starts = [weights, fits[int(np.argmin(totals))]]
        climbed = [climb(rows, cost, start, limits, step, self.stop) for start in starts]
        return min(climbed, key=lambda found: found[0])

    def _program(
        self, rows: IntArray, cost: IntArray, high: IntArray, step: int, weights: IntArray, bias: int
    ) -> tuple[int, IntArray, int] | None:
        """The same by the program of the module's docstring, from the current unit."""
        matrix, start = response_program(rows, cost, high, step, weights, bias)
        nodes = PROGRAM_NODES if self.solver.node_limit is None else min(self.solver.node_limit, PROGRAM_NODES)
        seconds = None if self.solver.time_limit is None else min(self.solver.time_limit, PROGRAM_SECONDS)
        quick = Solver(time_limit=seconds, node_limit=nodes, seed=self.solver.seed)
        try:
            values, _ = solve_matrix(matrix, quick, start=start, stop=self.stop)
        except NoSolutionError:
            return None
        found = np.rint(values[: len(high)]).astype(np.int64) * step - (high if step == 2 else 0)
        total, shift = best_threshold(rows @ found, cost)
        return total, found, shift

    # ---- the outputs ----

    def tuned(self, network: SignNetwork) -> SignNetwork:
        """Output weights and biases moved in steps, each the best of its output, while the loss falls."""
        last = network.depth - 1
        hidden = network.inputs_of(self.reduction.rows, last)
        high = self.weight_high(network, last).copy()
        if self.goal.compress != "none":  # a unit that is not used must stay so
            high[np.setdiff1d(np.arange(len(high)), network.used()[-1])] = 0
        outputs = Outputs(
            self.goal, self.reduction.counts, hidden, high, network.weights[last].copy(), network.bias[last].copy(),
            self.goal.target(network), self.stop, self.box,
        )  # fmt: skip
        unit = self.reduction.domain.step
        for step in [s for s in (8, 4, 2, 1) if unit <= s <= high.max(initial=0)] or [unit]:
            outputs.tune(step)
        return network.with_layer(last, outputs.weights, outputs.bias)

    # ---- networks that fit every row ----

    def _refine(self, network: SignNetwork) -> SignNetwork:
        """Each unit's own program with all activations fixed, until none improves the goal."""
        current = self.value(network)
        for _ in range(SWEEPS):
            before = current
            for layer in range(network.depth):
                for unit in range(len(network.bias[layer])):
                    if self.enough(current):
                        return network
                    network, current = self._better(network, current, self._refined(network, layer, unit))
            if current == before:
                break
        return network

    def _refined(self, network: SignNetwork, layer: int, unit: int) -> SignNetwork:
        rows = network.inputs_of(self.reduction.rows, layer)
        low, top = self._intervals(network, layer, unit)
        rows, low, top = _tightest(rows, low, top)
        if rows.size > PROGRAM_ENTRIES:
            return network
        margin = self.goal.objective == "max-margin"
        high, step = self.weight_high(network, layer), self.reduction.domain.step
        matrix = within_intervals(rows, low, top, high, step, margin=margin)
        nodes = PROGRAM_NODES if self.solver.node_limit is None else min(self.solver.node_limit, PROGRAM_NODES)
        seconds = None if self.solver.time_limit is None else min(self.solver.time_limit, PROGRAM_SECONDS)
        try:
            values, _ = solve_matrix(matrix, Solver(time_limit=seconds, node_limit=nodes), stop=self.stop)
        except NoSolutionError:
            return network
        whole = np.rint(values).astype(np.int64)
        width = len(high)
        weights = whole[:width] * step - (high if step == 2 else 0)
        return network.with_unit(layer, unit, weights, int(whole[width]))

    def _intervals(self, network: SignNetwork, layer: int, unit: int) -> tuple[IntArray, IntArray]:
        """Lowest and highest sum (k,) of one unit with which all rows stay right, everything else unchanged."""
        if layer < network.depth - 1:
            if self.goal.objective == "max-margin":  # every margin below counts on the activation
                fires = network.sums(network.inputs_of(self.reduction.rows, layer), layer)[:, unit] >= 0
                needed = np.where(fires, -1, 1)
            else:
                needed = cost_of_firing(network, self.reduction, self.goal, layer, unit)
            return np.where(needed < 0, 0, UNIT_LOW), np.where(needed > 0, -1, -UNIT_LOW)
        sums = network.output_sums(self.reduction.rows)
        true = np.argmax(self.reduction.counts, axis=1)
        if sums.shape[1] == 1:
            return np.where(true == 0, 0, UNIT_LOW), np.where(true == 1, -1, -UNIT_LOW)
        others = np.delete(sums + (np.arange(sums.shape[1]) < unit), unit, axis=1).max(axis=1)
        own = np.take_along_axis(sums, true[:, None], axis=1)[:, 0] - (unit < true)
        return np.where(true == unit, others, UNIT_LOW), np.where(true == unit, -UNIT_LOW, own)


def cost_of_firing(network: SignNetwork, reduction: Reduction, goal: Goal, layer: int, unit: int) -> IntArray:
    """Loss of each row (k,) with a hidden unit at +1 less that with it at -1, everything else unchanged."""
    inputs = network.inputs_of(reduction.rows, layer)
    outputs = np.where(network.sums(inputs, layer) >= 0, 1, -1)
    target = goal.target(network)
    found = []
    for value in (1, -1):
        outputs[:, unit] = value
        sums = network.output_sums(outputs, layer + 1)
        found.append(goal.row_losses(sums, reduction.counts, target))
    return found[0] - found[1]


def _merged(rows: IntArray, cost: IntArray) -> tuple[IntArray, IntArray]:
    """Equal rows together, their costs summed; what sums to 0 is left out."""
    distinct, inverse = np.unique(rows, axis=0, return_inverse=True)
    total = np.zeros(len(distinct), dtype=np.int64)
    np.add.at(total, inverse.reshape(-1), cost)
    return distinct[total != 0], total[total != 0]


def _tightest(rows: IntArray, low: IntArray, top: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Equal rows together, with the intersection of their intervals; rows without limits are left out."""
    distinct, inverse = np.unique(rows, axis=0, return_inverse=True)
    lows, tops = np.full(len(distinct), UNIT_LOW), np.full(len(distinct), -UNIT_LOW)
    np.maximum.at(lows, inverse.reshape(-1), low)
    np.minimum.at(tops, inverse.reshape(-1), top)
    limited = (lows > UNIT_LOW) | (tops < -UNIT_LOW)
    return distinct[limited], lows[limited], tops[limited]


# ---- answers by fit, threshold and single weights ------------------------------------------------------------------


def guided(rows: IntArray, cost: IntArray) -> FloatArray:
    """Real weights of a unit that should fire where ``cost`` is negative: least weighted squared hinge, a ridge."""
    importance = np.abs(cost) / np.abs(cost).mean()
    signs = np.where(cost < 0, 1.0, -1.0)
    centred = rows - np.average(rows, axis=0, weights=importance)
    scale = float(np.sqrt((centred**2).mean())) or 1.0
    return hinge_fit(centred / scale, importance, signs, 1e-3 * len(rows))[:-1]


def hinge_fit(rows: FloatArray, importance: FloatArray, signs: FloatArray, ridge: float) -> FloatArray:
    """Real weights and, last, a bias: least ``sum importance * max(0, 1 - sign * sum)^2 + ridge * squares``.

    Newton's method, in the space of the inputs or of the rows, whichever is smaller.
    """
    design = np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
    weights: FloatArray = np.zeros(design.shape[1])
    for _ in range(8):
        short = signs * (design @ weights) < 1 - 1e-9  # the same on every machine where a margin is exactly 1
        part, own, wanted = design[short], importance[short], signs[short]
        if len(part) < design.shape[1]:
            gram = part @ part.T + np.diag(ridge / own)
            found = part.T @ np.linalg.solve(gram, wanted)
        else:
            gram = (part * own[:, None]).T @ part + ridge * np.eye(design.shape[1])
            found = np.linalg.solve(gram, part.T @ (own * wanted))
        if np.abs(found - weights).max() < 1e-4 * max(1e-9, float(np.abs(found).max())):
            break
        weights = found
    return weights


def roundings(weights: FloatArray, high: IntArray, step: int) -> list[IntArray]:
    """Whole weights in the domain along ``weights``, at several scales."""
    top = float(np.abs(weights / high).max(initial=0.0)) or 1.0
    found = []
    for scale in (top, 0.7 * top, 0.45 * top, 0.25 * top):
        whole = np.rint(np.round((weights / scale + high) / step, 9)).astype(np.int64) * step - high
        found.append(np.clip(whole, -high, high))
    return found


def climb(
    rows: IntArray, cost: IntArray, weights: IntArray, limits: UnitBox, step: int, stop: Stop
) -> tuple[int, IntArray, int]:
    """Change single weights, each time with the best threshold, while the cost falls: (cost, weights, bias).

    Of many inputs only those that tell the rows that should fire from the others are tried.
    """
    weights = weights.copy()
    telling = np.argsort(-np.abs(cost @ rows), kind="stable")[:CLIMBED_INPUTS].tolist()
    sums = rows @ weights
    value, bias = best_threshold(sums, cost, limits.bias)
    moves, improving = 0, True
    while improving and moves < CLIMB_MOVES and not stop():
        improving = False
        for i in telling:
            for change in (step, -step):
                if not limits.low[i] <= weights[i] + change <= limits.high[i]:
                    continue
                reached, shift = best_threshold(sums + change * rows[:, i], cost, limits.bias)
                if reached < value:
                    value, bias, improving = reached, shift, True
                    weights[i] += change
                    sums = sums + change * rows[:, i]
                    moves += 1
                    break
    return value, weights, bias


def best_threshold(
    sums: IntArray, cost: IntArray, limits: tuple[int, int] = ANY_BIAS
) -> tuple[int, int]:
    """Least total cost of the rows that fire, and an integer bias that attains it: ``sum + bias >= 0`` fires.

    The bias is the middle one between the sums that it separates; ``limits`` are the least and the largest allowed.
    """
    if not len(sums):
        return 0, min(max(0, limits[0]), limits[1])
    high, low = int(sums.max()), int(sums.min())
    if high - low < 16 * len(sums) + 1000:
        at = high - sums
        occurs = np.flatnonzero(np.bincount(at))
        gains = np.bincount(at, cost)[occurs]  # whole numbers far below 2**53
        ranked = high - occurs
    else:
        ranked, at = np.unique(-sums, return_inverse=True)
        ranked, gains = -ranked, np.bincount(at.reshape(-1), cost)
    totals = np.concatenate([[0], np.cumsum(gains)])
    first, last = 0, len(ranked)  # fewest and most of the ranked sums that a bias within the limits lets fire
    if limits != ANY_BIAS:
        first, last = (int(np.count_nonzero(ranked >= -limit)) for limit in limits)
    best = first + int(np.argmin(totals[first : last + 1]))
    if best == 0:
        bias = -high - 1
    elif best == len(ranked):
        bias = -low
    else:
        bias = -((int(ranked[best - 1]) + int(ranked[best]) + 1) // 2)
    return int(totals[best]), min(max(bias, limits[0]), limits[1])


# ---- programs ------------------------------------------------------------------------------------------------------


def response_program(
    rows: IntArray, cost: IntArray, high: IntArray, step: int, weights: IntArray, bias: int
) -> tuple[Matrix, FloatArray]:
    """The best response as arrays, columns (weights, bias, u), and the current unit as a start.

    A binary weight (``step`` 2) is ``2 * column - high``.
    """
    count, width = rows.shape
    shift = -(rows @ high) if step == 2 else np.zeros(count, dtype=np.int64)
    reach = np.abs(rows) @ high
    far = int(reach.max(initial=0)) + 1
    low, top = -reach - far, reach + far
    fires = cost < 0
    links = np.zeros((count, count))
    links[np.arange(count), np.arange(count)] = np.where(fires, low, -(top + 1))
    dense = np.concatenate([step * rows, np.ones((count, 1)), links], axis=1)
    begin, column, value = sparse_rows(dense)
    column_high = np.concatenate([high, [far], np.ones(count)]).astype(np.float64)
    column_low = np.concatenate([np.zeros(width) if step == 2 else -high, [-far], np.zeros(count)])
    sums = rows @ weights + bias
    start = np.concatenate([(weights + high) // 2 if step == 2 else weights, [bias], (sums >= 0).astype(np.int64)])
    matrix = Matrix(
        cost=np.concatenate([np.zeros(width + 1), cost]).astype(np.float64),
        low=column_low.astype(np.float64),
        high=column_high,
        integer=np.ones(len(column_high), dtype=bool),
        start=begin,
        column=column,
        value=value,
        row_low=np.where(fires, low - shift, -NO_LIMIT).astype(np.float64),
        row_high=np.where(fires, NO_LIMIT, -1.0 - shift),
    )
    return matrix, np.clip(start.astype(np.float64), column_low, column_high)


def within_intervals(
    rows: IntArray, low: IntArray, top: IntArray, high: IntArray, step: int, *, margin: bool
) -> Matrix:
    """A unit with ``low <= sum <= top`` on every row: least |weights| + |bias|, or with the largest ``margin`` inside.

    Columns (weights, bias, sizes of both) or (weights, bias, margin).
    """
    count, width = rows.shape
    reach = int((np.abs(rows) @ high).max(initial=0))
    shift = -(rows @ high) if step == 2 else np.zeros(count, dtype=np.int64)
    own = np.concatenate([step * rows, np.ones((count, 1))], axis=1)
    below, above = low > UNIT_LOW, top < -UNIT_LOW
    if margin:
        own_rows = [np.c_[own[below], -np.ones(below.sum())], np.c_[own[above], np.ones(above.sum())]]
        extra, cost = np.array([float(reach)]), np.array([-1.0])
    else:
        nothing = np.zeros((count, width + 1))
        own_rows = [np.c_[own, nothing][below], np.c_[own, nothing][above]]
        signs = np.diag(np.append(np.full(width, step), 1))
        sizes = np.eye(width + 1)
        own_rows += [np.c_[-signs, sizes], np.c_[signs, sizes]]
        extra, cost = np.full(width + 1, NO_LIMIT), np.ones(width + 1)
    begin, column, value = sparse_rows(np.concatenate(own_rows).astype(np.float64))
    row_low = [(low - shift)[below], np.full(above.sum(), -NO_LIMIT)]
    row_high = [np.full(below.sum(), NO_LIMIT), (top - shift)[above]]
    if not margin:
        offset = np.append(high if step == 2 else np.zeros(width), 0).astype(np.float64)
        row_low += [-offset, offset]
        row_high += [np.full(width + 1, NO_LIMIT)] * 2
    far = reach + 1
    return Matrix(
        cost=np.concatenate([np.zeros(width + 1), cost]),
        low=np.concatenate([np.zeros(width) if step == 2 else -high, [-far], np.zeros(len(extra))]).astype(np.float64),
        high=np.concatenate([high, [far], extra]).astype(np.float64),
        integer=np.append(np.ones(width + 1, dtype=bool), np.zeros(len(extra), dtype=bool)),
        start=begin,
        column=column,
        value=value,
        row_low=np.concatenate(row_low).astype(np.float64),
        row_high=np.concatenate(row_high).astype(np.float64),
    )
