"""Straight-line code: a sequence of reads of inputs and of additions to sums, cut into functions.

Three orders of the additions, all without a loop, an index or a branch:

    side by side    several units at once, input by input: an input is read once for all units that use it

                        value = input[i];  sum3 += value;  sum7 -= value;  sum9 += value * 5;

    by magnitude    one unit, largest magnitude first, without a multiplication: as v falls, every input of magnitude v
                    enters `run` once, and `run` is added to `sum` once for each v that is left

                        run += inputs of weight +7;  run -= inputs of weight -7;  sum += run;  ... 6;  sum += run;  ...

    by input        the same sums with a run for each magnitude, so that the inputs are passed once and not once a
                    magnitude; the runs are added up at the end

Where sums are wider than runs, a run starts `lift` above 0, so that it never falls below: no sign has to be extended
when it is added. The sum starts lower by what that adds.

Loads reach a limited distance from their base register, so the base moves along with the inputs. Levels of magnitude
run through the inputs up and down in turn, which saves the way back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, TypeAlias

import numpy as np

from mip2mcu.export.literals import literal
from mip2mcu.ranges import IntArray

PART_STEPS = 2000
"""Most steps of one function: compilers need more than linear time for long ones."""

Span: TypeAlias = tuple[int, int]
"""Smallest and largest value."""


@dataclass(frozen=True)
class Add:
    """``total`` grows (``sign`` "+") or falls ("-") by the C expression ``term`` of the value read last."""

    total: str
    sign: str
    term: str


@dataclass(frozen=True)
class Read:
    """Input ``index`` enters some sums; once the base has moved by ``move``, it lies ``offset`` elements behind."""

    kind: ClassVar[str] = "read"
    index: int
    adds: tuple[Add, ...]
    move: int = 0
    offset: int = 0

    @property
    def variables(self) -> tuple[str, ...]:
        """The names of the variables used."""
        return tuple(add.total for add in self.adds)


@dataclass(frozen=True)
class Fold:
    """``total`` grows by ``times`` the sum ``run``."""

    kind: ClassVar[str] = "fold"
    total: str
    run: str
    times: int = 1

    @property
    def variables(self) -> tuple[str, ...]:
        """The names of the variables used."""
        return self.total, self.run


Step: TypeAlias = Read | Fold


@dataclass(frozen=True)
class Variable:
    """A C variable that holds a sum; ``start`` is its first value, as a literal."""

    name: str
    c_type: str
    start: str


@dataclass(frozen=True)
class Block:
    """Units that are computed together: ``results[n]`` names the variable that holds the sum of ``units[n]``."""

    units: tuple[int, ...]
    results: tuple[str, ...]
    variables: tuple[Variable, ...]
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Part:
    """A function: a block or, where a block is too long, a share of its steps.

    begins, ends    the first and the last share; in between the variables pass from part to part in an array
    """

    function: str
    block: Block
    steps: tuple[Step, ...]
    begins: bool
    ends: bool

    @property
    def whole(self) -> bool:
        """The function holds a whole block."""
        return self.begins and self.ends

    @property
    def reads(self) -> bool:
        """Some input is read."""
        return any(isinstance(step, Read) for step in self.steps)

    @property
    def moves(self) -> bool:
        """The base moves."""
        return any(isinstance(step, Read) and step.move for step in self.steps)

    @property
    def variables(self) -> tuple[tuple[int, Variable], ...]:
        """The variables that are used here, each with its place in the array."""
        used = {name for step in self.steps for name in step.variables} | set(self.block.results if self.ends else ())
        return tuple((n, one) for n, one in enumerate(self.block.variables) if self.begins or one.name in used)

    @property
    def types(self) -> dict[str, str]:
        """C type of each variable, by name."""
        return {variable.name: variable.c_type for variable in self.block.variables}


def side_by_side(weights: IntArray, bias: IntArray, units: range, c_type: str, terms: Mapping[int, str]) -> Block:
    """The block of ``units`` of a layer with ``weights`` (units, inputs); ``terms`` are the value times a magnitude."""
    rows = weights[units.start : units.stop]
    steps = []
    for i in np.flatnonzero(rows.any(axis=0)):
        column = rows[:, i]
        adds = (Add(f"sum{n}", _sign(column[n]), terms[int(abs(column[n]))]) for n in np.flatnonzero(column))
        steps.append(Read(int(i), tuple(adds)))
    names = tuple(f"sum{n}" for n in range(len(units)))
    variables = (Variable(name, c_type, literal(int(bias[j]))) for name, j in zip(names, units, strict=True))
    return Block(tuple(units), names, tuple(variables), tuple(steps))


def by_magnitude(row: IntArray, bias: int, unit: int, sum_type: str, run_type: str, lift: int = 0) -> Block:
    """The block of one ``unit`` with the weights ``row`` (inputs,), magnitude by magnitude."""
    steps: list[Step] = []
    for n, (magnitude, below) in enumerate(levels(row)):
        found = np.flatnonzero(np.abs(row) == magnitude)
        steps += (Read(int(i), (Add("run", _sign(row[i]), "value"),)) for i in (found if n % 2 == 0 else found[::-1]))
        steps.append(Fold("sum", "run", magnitude - below))
    variables = [Variable("sum", sum_type, literal(lifted_start(row, bias, lift)))]
    if steps:
        variables.append(Variable("run", run_type, str(lift)))
    return Block((unit,), ("sum",), tuple(variables), tuple(steps))


def by_input(row: IntArray, bias: int, unit: int, sum_type: str, run_type: str, lift: int = 0) -> Block:
    """The block of one ``unit`` with the weights ``row`` (inputs,), input by input, with a run a magnitude."""
    found = levels(row)
    steps: list[Step] = [
        Read(int(i), (Add(f"run{abs(row[i])}", _sign(row[i]), "value"),)) for i in np.flatnonzero(row)
    ]
    for magnitude, below in found:
        steps.append(Fold("sum", f"run{magnitude}", magnitude - below))
        if below:
            steps.append(Fold(f"run{below}", f"run{magnitude}"))
    runs = tuple(
        Variable(f"run{magnitude}", run_type, str(0 if n else lift)) for n, (magnitude, _) in enumerate(found)
    )
    start = Variable("sum", sum_type, literal(lifted_start(row, bias, lift)))
    return Block((unit,), ("sum",), (start, *runs), tuple(steps))


def lifted_start(row: IntArray, bias: int, lift: int) -> int:
    """The first value of a sum whose first run starts at ``lift``: that run is added once a step of magnitude."""
    return bias - lift * int(np.abs(row).max())


def _sign(weight: np.int64) -> str:
    return "+" if weight > 0 else "-"


def levels(row: IntArray) -> list[Span]:
    """Each magnitude in ``row`` with the next smaller one (at last 0), the largest first."""
    magnitudes = [int(m) for m in np.unique(np.abs(row))[::-1] if m]
    return list(pairwise([*magnitudes, 0]))


def level_spans(row: IntArray, bias: int, low: IntArray, high: IntArray) -> tuple[Span, Span]:
    """What ``sum`` and all that is added to it can be, and what the runs can be, at every step of either order."""
    run: Span = (0, 0)
    total: Span = (bias, bias)
    runs, totals = [run], [total]
    for magnitude, below in levels(row):
        own, partial = _run_span(row * (np.abs(row) == magnitude), low, high)
        run_before, times = run, magnitude - below
        run = (run[0] + own[0], run[1] + own[1])
        total = (total[0] + times * run[0], total[1] + times * run[1])
        runs += [partial, (run_before[0] + partial[0], run_before[1] + partial[1]), run]
        totals += [(times * run[0], times * run[1]), total]
    return _union(totals), _union(runs)


def _run_span(row: IntArray, low: IntArray, high: IntArray) -> tuple[Span, Span]:
    """The span of the signed sum of the inputs in ``row``, and of every partial sum from either end."""
    found = np.flatnonzero(row)
    signs = np.sign(row[found])
    ends = np.sort(np.stack([signs * low[found], signs * high[found]]), axis=0)
    sums = np.concatenate([ends.cumsum(axis=1), ends[:, ::-1].cumsum(axis=1)], axis=1)
    return (int(ends[0].sum()), int(ends[1].sum())), (int(sums[0].min()), int(sums[1].max()))


def _union(spans: Sequence[Span]) -> Span:
    return min(low for low, _ in spans), max(high for _, high in spans)


def cut(blocks: Sequence[Block], prefix: str, reach: int) -> tuple[Part, ...]:
    """``blocks`` as functions of at most `PART_STEPS` steps; loads reach ``reach`` elements from their base."""
    parts: list[Part] = []
    for block in blocks:
        starts = range(0, len(block.steps), PART_STEPS) or range(1)
        for start in starts:
            steps = tuple(_walked(block.steps[start : start + PART_STEPS], reach))
            function = f"{prefix}_part{len(parts)}"
            parts.append(Part(function, block, steps, begins=start == starts[0], ends=start == starts[-1]))
    return tuple(parts)


def _walked(steps: Sequence[Step], reach: int) -> Iterator[Step]:
    """``steps`` with the moves of the base, which begins at input 0 and never leaves the inputs."""
    base = 0
    for step in steps:
        if isinstance(step, Fold):
            yield step
            continue
        before = base
        if step.index >= base + reach:
            base = step.index
        elif step.index < base:
            base = max(0, step.index - reach + 1)
        yield replace(step, move=base - before, offset=step.index - base)
