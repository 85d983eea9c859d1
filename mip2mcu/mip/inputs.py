"""Inputs at which a network computes something certain, or the proof that there are none: a small MIP over the inputs.

The network is given, its inputs are whole variables in their ranges; `mip2mcu.mip.encoding` states what the units make
of them, here are the questions. Only dense layers are asked about: filters could be stated too, but behind edges of an
image a question takes seconds instead of milliseconds, and a verification asks dozens. Limits are counted in nodes, so
that the same question has the same answer. How far an input can move before the class changes is another question,
about raw features and their levels: `mip2mcu.certify.model`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mip2mcu.decisions import Argmax, Vote
from mip2mcu.errors import InfeasibleError, NoSolutionError
from mip2mcu.layers import Dense
from mip2mcu.mip.encoding import activated, narrowed, votes, weighted
from mip2mcu.mip.program import Expression, Program, combination, difference, value_of
from mip2mcu.mip.solver import Solver, solve_matrix
from mip2mcu.network import Network
from mip2mcu.ranges import IntArray

LINK_LIMIT = 5_000
"""Most non-zero weights of a network that is searched."""
_NODE_LIMIT = 100


@dataclass(frozen=True, eq=False)
class Answer:
    """``row`` (inputs,) fulfils the question; without it, ``is_impossible`` where that is proved."""

    row: IntArray | None
    is_impossible: bool = False


def is_searchable(network: Network) -> bool:
    """Whether `InputSearch` understands ``network``, and it is small enough."""
    return network.link_count <= LINK_LIMIT and all(isinstance(layer, Dense) for layer in network.layers)


@dataclass(frozen=True, eq=False)
class InputSearch:
    """Questions about the inputs of a network that `is_searchable`."""

    network: Network

    def sum_equals(self, layer: int, unit: int, value: int) -> Answer:
        """An input at which the sum of ``unit`` of ``layer`` is ``value``."""
        program = Program()
        inputs = self._inputs(program)
        program.require(self._sums(program, inputs, layer)[unit], value, value)
        return _solved(program, inputs)

    def tie(self, count: int) -> Answer:
        """An input at which exactly ``count`` classes share the highest score (of a vote: the most votes)."""
        program = Program()
        inputs = self._inputs(program)
        sums = self._sums(program, inputs, len(self.network.layers) - 1)
        decision = self.network.decision
        assert isinstance(decision, Argmax | Vote), "one sum cannot tie"
        _tie(program, sums if isinstance(decision, Argmax) else votes(program, decision, sums), count)
        return _solved(program, inputs)

    def _inputs(self, program: Program) -> list[Expression]:
        ranges = zip(self.network.input_low.tolist(), self.network.input_high.tolist(), strict=True)
        return [program.variable(low, high) for low, high in ranges]

    def _sums(self, program: Program, inputs: Sequence[Expression], last: int) -> list[Expression]:
        """The sums of layer ``last``; adds the units on the way."""
        outputs = list(inputs)
        for k in range(last + 1):
            layer = self.network.layers[k]
            assert isinstance(layer, Dense)
            low, high = layer.sum_range(*self.network.layer_ranges[k])
            sums = narrowed(weighted(layer.weights, layer.bias, outputs), low, high)
            outputs = sums if k == last else activated(program, layer, sums)
        return outputs


def _solved(program: Program, inputs: Sequence[Expression]) -> Answer:
    try:
        values, _ = solve_matrix(program.matrix(), Solver(node_limit=_NODE_LIMIT), stage="input")
    except InfeasibleError:
        return Answer(None, is_impossible=program.is_believable)
    except NoSolutionError:
        return Answer(None)
    return Answer(np.array([value_of(one, values) for one in inputs], dtype=np.int64))


def _tie(program: Program, scores: Sequence[Expression], count: int) -> None:
    """Exactly ``count`` of ``scores`` are equal to the highest, all others lie below."""
    top = program.variable(max(s.low for s in scores), max(s.high for s in scores))
    tied = [program.variable(0, 1) for _ in scores]
    program.require(combination((1, one) for one in tied), count, count)
    for score, one in zip(scores, tied, strict=True):
        below = difference(top, score)
        program.require(below, low=0)
        program.require(combination([(1, below), (1, one)]), low=1)  # 1 below, or tied
        program.require(combination([(1, below), (below.high, one)]), high=below.high)
