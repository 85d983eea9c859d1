"""The smallest change that changes the class, as a mixed-integer program over the levels within reach.

For a row x, each feature goes up or down its ladder (`mip2mcu.ladders`) by steps. Steps in a row that cost and do the
same are one whole column; each such run is full before the next one begins:

    0 <= up[f,r] <= length[f,r]          up[f,r] >= length * full[f,r],  up[f,r+1] <= length * full[f,r]
    size[f]  = sum_r increment * up[f,r] + ...                           distance of the level that is reached
    input[i] = x_i + sum of steps * runs that change it
    then filters, sums, sign units and votes by `mip2mcu.mip.encoding`
    wins[w] = 1  =>  every value of the way w to another class is >= 0     sum_w wins[w] >= 1

    minimise   max_f size[f]  (linf),   sum_f size[f]  (l1),   number of features that move  (l0)

Thermometer bits of a feature move together because they are levels of one ladder; categories have no levels. A value
that the intervals decide is a constant. A class is lost in one of these ways, c the class of the row:

    Sign      the sum has the other sign
    Argmax    s_j - s_c >= [j > c] for one j
    Vote      more votes for j; as many for those who form a member with c that votes for another of them, and fewer for
              all who are not in it; as many for more others, or for fewer, than a member has, and a larger strength
              for one of them, j (or none needed: the strict rule leaves such ties open)

Source: robust sets of Kurtz and Bah (2021) turned round: weights are given, the change is searched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mip2mcu.certify.bounds import Interval, Problem, Reach
from mip2mcu.decisions import Argmax, Sign, Vote
from mip2mcu.mip.encoding import activated, choices, filtered, narrowed, votes_of, weighted
from mip2mcu.mip.matrix import FloatArray
from mip2mcu.mip.program import Expression, Program, combination, difference, value_of
from mip2mcu.ranges import IntArray

Way = list[Expression]
"""Values that together are a way to another class when none of them is negative."""


@dataclass(frozen=True, eq=False)
class Run:
    """Neighbouring levels of a feature whose steps cost and do the same.

    increment  what a step adds to the distance
    place      the network input that changes, by ``step`` a level
    taken      how many of the steps are gone
    """

    increment: int
    place: int
    step: int
    taken: Expression


@dataclass(frozen=True, eq=False)
class Chain:
    """The runs of a feature in one direction, nearest first; ``begins`` is 1 where the feature goes that way."""

    feature: int
    upward: bool
    runs: tuple[Run, ...]
    begins: Expression


@dataclass(frozen=True, eq=False)
class Search:
    """The program of one row; ``size`` is minimised."""

    program: Program
    chains: tuple[Chain, ...]
    size: Expression

    def levels(self, own: IntArray, values: FloatArray) -> IntArray:
        """Levels (features,) of a solution, for a row whose own levels are ``own``."""
        levels = own.copy()
        for chain in self.chains:
            gone = sum(value_of(run.taken, values) for run in chain.runs)
            levels[chain.feature] += gone if chain.upward else -gone
        return levels


def build(
    problem: Problem, inputs: IntArray, raw: IntArray, predicted: int, reach: Reach, norm: str, least: int
) -> Search | None:
    """The program for one row (inputs, raw features); None where the intervals leave no way to another class.

    least   a size that is proved to be too small less one: the objective is at least ``least``
    """
    first = problem.first(inputs, raw, reach)
    if problem.certain(first, predicted):
        return None
    program = Program()
    chains = _chains(program, problem, raw, reach)
    size = _size(program, chains, norm, least)
    sums = _sums(program, problem, _inputs(chains, inputs), first)
    ways = [way for way in _ways(program, problem, sums, first, predicted) if all(one.high >= 0 for one in way)]
    if not ways:
        return None
    wins = [program.variable(0, 1) for _ in ways]
    for way, won in zip(ways, wins, strict=True):
        for one in way:
            if one.low < 0:
                program.require(combination([(1, one), (one.low, won)]), low=one.low)
    program.require(combination((1, won) for won in wins), low=1)
    return Search(program, tuple(chains), size)


# ---- changes of the features ---------------------------------------------------------------------------------------


def _chains(program: Program, problem: Problem, raw: IntArray, reach: Reach) -> list[Chain]:
    ladders = problem.ladders
    own, distances, chains = ladders.levels(raw), ladders.distances(raw), []
    for f in range(ladders.features):
        first = int(ladders.start[f])
        up = np.arange(first + own[f], first + reach.highest[f])
        down = np.arange(first + own[f] - 1, first + reach.lowest[f] - 1, -1)
        both = []
        for thresholds, sign in ((up, 1), (down, -1)):
            if len(thresholds):
                increments = np.diff(distances[thresholds], prepend=0)
                steps = np.stack([increments, ladders.inputs[thresholds], sign * ladders.steps[thresholds]], axis=1)
                runs, begins = _runs(program, steps)
                both.append(Chain(f, sign > 0, runs, begins))
        if len(both) == 2:
            program.require(combination((1, chain.begins) for chain in both), high=1)
        chains += both
    return chains


def _runs(program: Program, steps: IntArray) -> tuple[tuple[Run, ...], Expression]:
    """The runs of ``steps`` (levels, 3), rows of increment, place and step; and what is 1 where the first begins."""
    ends = [*(np.flatnonzero((steps[1:] != steps[:-1]).any(axis=1)) + 1).tolist(), len(steps)]
    runs: list[Run] = []
    begins = before = None
    start = 0
    for end in ends:
        taken = program.variable(0, end - start)
        increment, place, step = steps[start].tolist()
        runs.append(Run(increment, place, step, taken))
        if before is None:
            before = taken if end == 1 else program.variable(0, 1)
            begins = before
        if before is not taken:
            program.require(combination([(1, taken), (start - end, before)]), high=0)
        if end < len(steps):
            before = taken
            if end - start > 1:
                before = program.variable(0, 1)
                program.require(combination([(1, taken), (start - end, before)]), low=0)
        start = end
    assert begins is not None
    return tuple(runs), begins


def _size(program: Program, chains: Sequence[Chain], norm: str, least: int) -> Expression:
    """The size of the change by ``norm``, to be minimised."""
    of_feature: dict[int, list[tuple[int, Expression]]] = {}
    for chain in chains:
        own = [(1, chain.begins)] if norm == "l0" else [(run.increment, run.taken) for run in chain.runs]
        of_feature.setdefault(chain.feature, []).extend(own)
    sizes = [combination(parts) for parts in of_feature.values()]
    if norm != "linf":
        sizes = [combination((1, size) for size in sizes)]
    size = program.variable(least, max([least, *(size.high for size in sizes)]))
    for part in sizes:
        program.require(difference(size, part), low=0)
    return size


def _inputs(chains: Sequence[Chain], inputs: IntArray) -> list[Expression]:
    """The network's inputs after the change."""
    parts: list[list[tuple[int, Expression]]] = [[] for _ in inputs]
    for chain in chains:
        for run in chain.runs:
            parts[run.place].append((run.step, run.taken))
    return [combination(part, int(value)) for part, value in zip(parts, inputs, strict=True)]


# ---- what the network makes of them --------------------------------------------------------------------------------


def _sums(program: Program, problem: Problem, values: list[Expression], first: Interval) -> list[Expression]:
    """The last layer's sums, after all filters and sign units."""
    shape = problem.network.input_shape
    for layer in problem.filters:
        values, shape = filtered(program, layer, values, shape)
    for depth, (layer, interval) in enumerate(zip(problem.layers, problem.sums(first), strict=True)):
        values = narrowed(weighted(layer.weights, layer.bias, values), interval.low, interval.high)
        if depth < len(problem.layers) - 1:
            values = activated(program, layer, values)
    return values


# ---- ways to lose a class ------------------------------------------------------------------------------------------


def _ways(
    program: Program, problem: Problem, sums: list[Expression], first: Interval, predicted: int
) -> Iterator[Way]:
    rule = problem.network.decision
    if isinstance(rule, Sign):
        yield [combination([(-1, sums[0])], -1) if predicted == 0 else sums[0]]
    elif isinstance(rule, Argmax):
        low, high = problem.differences(first)
        for j in range(rule.classes):
            if j != predicted:
                offset = -int(j > predicted)
                ahead = difference(sums[j], sums[predicted], offset)
                yield [ahead.narrowed(int(low[j, predicted]) + offset, int(high[j, predicted]) + offset)]
    else:
        yield from _lost_votes(program, rule, sums, predicted)


def _lost_votes(program: Program, rule: Vote, sums: list[Expression], c: int) -> Iterator[Way]:
    others = [j for j in range(rule.classes) if j != c]
    chosen = choices(program, rule, sums)
    votes = votes_of(rule, chosen)
    ahead = {j: difference(votes[j], votes[c]) for j in others}
    for j in others:
        yield [combination([(1, ahead[j])], -1)]
    for member, own in zip(rule.members, chosen, strict=True):
        if c in member:
            level = [ahead[j] for j in member if j != c]
            lost = combination([(-1, own[member.index(c)])])
            fewer = [combination([(-1, ahead[k])], -1) for k in others if k not in member]
            yield [*level, lost, *fewer]
    if rule.classes == rule.subset_size:
        return
    ties = _ties(program, rule, list(ahead.values()))
    if not rule.by_margin:
        yield from ties
        return
    strengths = {k: _strength(program, rule, sums, k) for k in range(rule.classes)}
    for tie in ties:
        for j in others:
            yield [*tie, ahead[j], difference(strengths[j], strengths[c], -int(j > c))]


def _ties(program: Program, rule: Vote, ahead: list[Expression]) -> list[Way]:
    """Ways to a tie that no member decides, from how far all others are ``ahead``: of more classes, or of fewer."""
    level, fewer = [], []
    for one in ahead:
        level.append(program.variable(0, 1))
        if one.low < 0:
            program.require(combination([(1, one), (one.low, level[-1])]), low=one.low)
    ways = [[combination(((1, one) for one in level), -rule.subset_size)]]
    if rule.subset_size > 2:
        for one in ahead:
            fewer.append(program.variable(0, 1))
            if one.high >= 0:
                program.require(combination([(1, one), (one.high + 1, fewer[-1])]), high=one.high)
        left = len(ahead) - (rule.subset_size - 2)
        ways.append([combination(((1, one) for one in level), -1), combination(((1, one) for one in fewer), -left)])
    return ways


def _strength(program: Program, rule: Vote, sums: list[Expression], k: int) -> Expression:
    parts = []
    for m, member in enumerate(rule.members):
        if k in member and rule.subset_size == 2:
            parts.append((1 if k == member[0] else -1, sums[m]))
        elif k in member:
            own = dict(zip(member, sums[m * rule.subset_size :], strict=False))
            parts += [(1, own.pop(k)), (-1, program.largest(list(own.values())))]
    return combination(parts)
