"""Inputs at which a network computes something certain, or the proof that there are none: a small MIP over the inputs.

The network is given, its inputs are whole variables in their ranges. A sign unit is a binary variable:

    sum >= low * (1 - fired)             fired = 1 forces sum >= 0
    sum <= (high + 1) * fired - 1        fired = 0 forces sum <= -1

with the sum's exact range [low, high] from the network. A requantised unit is max(sum, 0), two whole quotients (a shift
is a division that leaves a remainder below its divisor) and a minimum. Dense layers are understood, others are not.
Limits are counted in nodes, so that the same question has the same answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mip2mcu.decisions import Argmax, Vote
from mip2mcu.errors import InfeasibleError, NoSolutionError
from mip2mcu.layers import Activation, Dense
from mip2mcu.mip.matrix import NO_LIMIT, Matrix
from mip2mcu.mip.solver import Solver, solve_matrix
from mip2mcu.network import Network
from mip2mcu.ranges import IntArray

LINK_LIMIT = 5_000
"""Most non-zero weights of a network that is searched."""
_NODE_LIMIT = 100
_FACTOR_LIMIT = 2**17
"""Largest factor of a program whose proof of impossibility is believed: a solver's arithmetic is not exact."""
_OUTPUT_HIGH = 255


@dataclass(frozen=True, eq=False)
class Answer:
    """``row`` (inputs,) fulfils the question; without it, ``is_impossible`` where that is proved."""

    row: IntArray | None
    is_impossible: bool = False


@dataclass(frozen=True)
class Expression:
    """``constant + sum of factor * column`` with its interval."""

    factors: Mapping[int, int]
    constant: int
    low: int
    high: int


def is_searchable(network: Network) -> bool:
    """Whether `InputSearch` understands ``network``, and it is small enough."""
    return network.link_count <= LINK_LIMIT and all(isinstance(layer, Dense) for layer in network.layers)


@dataclass(frozen=True, eq=False)
class InputSearch:
    """Questions about the inputs of a network that `is_searchable`."""

    network: Network

    def sum_equals(self, layer: int, unit: int, value: int) -> Answer:
        """An input at which the sum of ``unit`` of ``layer`` is ``value``."""
        program = _Program()
        total = _sums(program, self.network, layer)[unit]
        program.constrain(total.factors, value - total.constant, value - total.constant)
        return self._solved(program)

    def tie(self, count: int) -> Answer:
        """An input at which exactly ``count`` classes share the highest score (of a vote: the most votes)."""
        program = _Program()
        sums = _sums(program, self.network, len(self.network.layers) - 1)
        decision = self.network.decision
        assert isinstance(decision, Argmax | Vote), "one sum cannot tie"
        _tied(program, sums if isinstance(decision, Argmax) else _votes(program, decision, sums), count)
        return self._solved(program)

    def _solved(self, program: _Program) -> Answer:
        solver = Solver(node_limit=_NODE_LIMIT)
        try:
            values, _ = solve_matrix(program.matrix(), solver, stage="input")
        except InfeasibleError:
            return Answer(None, is_impossible=program.largest_factor <= _FACTOR_LIMIT)
        except NoSolutionError:
            return Answer(None)
        return Answer(np.rint(values[: self.network.inputs]).astype(np.int64))


@dataclass
class _Program:
    """Whole columns and rows, added one by one."""

    low: list[int] = field(default_factory=list)
    high: list[int] = field(default_factory=list)
    rows: list[tuple[Mapping[int, int], float, float]] = field(default_factory=list)

    def column(self, low: int, high: int) -> int:
        """The index of a new column in [low, high]."""
        self.low.append(low)
        self.high.append(high)
        return len(self.low) - 1

    def constrain(self, factors: Mapping[int, int], low: float = -NO_LIMIT, high: float = NO_LIMIT) -> None:
        """Add ``low <= sum of factor * column <= high``."""
        self.rows.append((factors, low, high))

    def fires(self, total: Expression) -> int:
        """A column that is 1 where ``total >= 0`` and 0 where it is below."""
        fired = self.column(int(total.low >= 0), int(total.high >= 0))
        self.constrain({**total.factors, fired: total.low}, low=total.low - total.constant)
        self.constrain({**total.factors, fired: -(total.high + 1)}, high=-1 - total.constant)
        return fired

    def requantised(self, total: Expression, pre: int, mult: int, shift: int) -> Expression:
        """``min(255, ((max(total, 0) >> pre) * mult + (1 << (shift - 1))) >> shift)``."""
        fired = self.fires(total)
        low, high = min(total.low, 0), max(total.high, 0)
        positive = self.column(0, high)
        minus = {column: -factor for column, factor in total.factors.items()}
        self.constrain({positive: 1, **minus}, low=total.constant)
        self.constrain({positive: 1, **minus, fired: -low}, high=total.constant - low)
        self.constrain({positive: 1, fired: -high}, high=0)
        scaled = self._quotient(positive, 1, 0, high, 1 << pre)
        half = 1 << (shift - 1)
        rounded = self._quotient(scaled, mult, half, mult * self.high[scaled] + half, 1 << shift)
        return self._at_most(rounded, _OUTPUT_HIGH)

    def _quotient(self, column: int, factor: int, constant: int, high: int, divisor: int) -> int:
        """A column that is ``(factor * column + constant) // divisor`` for values in [0, high]."""
        quotient = self.column(0, high // divisor)
        self.constrain({column: factor, quotient: -divisor}, -constant, divisor - 1 - constant)
        return quotient

    def _at_most(self, column: int, limit: int) -> Expression:
        """``min(column, limit)``."""
        most = self.high[column]
        if most <= limit:
            return Expression({column: 1}, 0, 0, most)
        least, is_cut = self.column(0, limit), self.column(0, 1)
        self.constrain({least: 1, column: -1}, high=0)
        self.constrain({least: 1, is_cut: -limit}, low=0)
        self.constrain({least: 1, column: -1, is_cut: most - limit}, low=0)
        return Expression({least: 1}, 0, 0, limit)

    @property
    def largest_factor(self) -> int:
        """Of all rows."""
        return max((abs(factor) for factors, _, _ in self.rows for factor in factors.values()), default=0)

    def matrix(self) -> Matrix:
        """Nothing to minimise: any point will do."""
        lengths = [len(factors) for factors, _, _ in self.rows]
        return Matrix(
            cost=np.zeros(len(self.low)),
            low=np.array(self.low, dtype=np.float64),
            high=np.array(self.high, dtype=np.float64),
            integer=np.ones(len(self.low), dtype=bool),
            start=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
            column=np.array([c for factors, _, _ in self.rows for c in factors], dtype=np.int32),
            value=np.array([f for factors, _, _ in self.rows for f in factors.values()], dtype=np.float64),
            row_low=np.array([low for _, low, _ in self.rows], dtype=np.float64),
            row_high=np.array([high for _, _, high in self.rows], dtype=np.float64),
        )


def _sums(program: _Program, network: Network, last: int) -> list[Expression]:
    """The sums of layer ``last``; adds the inputs first, then the units on the way."""
    outputs = [
        Expression({program.column(int(low), int(high)): 1}, 0, int(low), int(high))
        for low, high in zip(network.input_low, network.input_high, strict=True)
    ]
    for k in range(last + 1):
        layer = network.layers[k]
        assert isinstance(layer, Dense)
        low, high = layer.sum_range(*network.layer_ranges[k])
        sums = [
            _weighted(layer.weights[j], int(layer.bias[j]), outputs, int(low[j]), int(high[j]))
            for j in range(layer.units)
        ]
        if k == last:
            return sums
        outputs = sums
        if layer.activation is Activation.SIGN:
            outputs = [Expression({program.fires(total): 2}, -1, -1, 1) for total in sums]
        elif layer.requantisation is not None:
            by = layer.requantisation
            parameters = zip(by.pre.tolist(), by.mult.tolist(), by.shift.tolist(), strict=True)
            outputs = [program.requantised(total, *own) for total, own in zip(sums, parameters, strict=True)]
    return outputs


def _weighted(weights: IntArray, bias: int, outputs: Sequence[Expression], low: int, high: int) -> Expression:
    factors: dict[int, int] = {}
    for i in np.flatnonzero(weights).tolist():
        bias += int(weights[i]) * outputs[i].constant
        for column, factor in outputs[i].factors.items():
            factors[column] = factors.get(column, 0) + int(weights[i]) * factor
    return Expression({column: factor for column, factor in factors.items() if factor}, bias, low, high)


def _votes(program: _Program, decision: Vote, sums: Sequence[Expression]) -> list[Expression]:
    """The votes of each class."""
    each = decision.sums_per_member
    factors: list[dict[int, int]] = [{} for _ in range(decision.classes)]
    constants = [0] * decision.classes
    for m, member in enumerate(decision.members):
        own = sums[m * each : (m + 1) * each]
        if each == 1:
            fired = program.fires(own[0])
            factors[member[0]][fired], factors[member[1]][fired] = 1, -1
            constants[member[1]] += 1
        else:
            for c, chosen in zip(member, _chosen(program, own), strict=True):
                factors[c][chosen] = 1
    most = len(decision.members)
    return [Expression(f, constant, 0, most) for f, constant in zip(factors, constants, strict=True)]


def _chosen(program: _Program, sums: Sequence[Expression]) -> list[int]:
    """One column a sum: 1 for the largest, the first on ties."""
    columns = [program.column(0, 1) for _ in sums]
    program.constrain(dict.fromkeys(columns, 1), 1, 1)
    for a, first in enumerate(sums):
        for b, second in enumerate(sums):
            if a != b:
                least = int(b < a)  # an earlier sum must be exceeded
                reach = second.high - first.low + least
                factors = _difference(first, second)
                program.constrain(
                    {**factors, columns[a]: factors.get(columns[a], 0) - reach},
                    low=least - reach - first.constant + second.constant,
                )
    return columns


def _difference(first: Expression, second: Expression) -> dict[int, int]:
    factors = dict(first.factors)
    for column, factor in second.factors.items():
        factors[column] = factors.get(column, 0) - factor
    return factors


def _tied(program: _Program, scores: Sequence[Expression], count: int) -> None:
    """Exactly ``count`` of ``scores`` are equal to the highest, all others lie below."""
    top = program.column(min(s.low for s in scores), max(s.high for s in scores))
    columns = [program.column(0, 1) for _ in scores]
    program.constrain(dict.fromkeys(columns, 1), count, count)
    for score, tied in zip(scores, columns, strict=True):
        below = {top: 1, **{column: -factor for column, factor in score.factors.items()}}
        reach = program.high[top] - score.low
        program.constrain({**below, tied: 1}, low=1 + score.constant)  # 1 below, or tied
        program.constrain({**below, tied: reach}, high=reach + score.constant)
        program.constrain(below, low=score.constant)
