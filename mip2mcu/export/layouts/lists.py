"""Lists of input positions: what sparse weights are in flash, shared by the layouts `sparse` and `grouped`.

The weights of one value of a unit are a run; each position in it costs one entry and one addition. Magnitudes are
levels, from the largest v_1 down to v_m; every level has a run of positive and a run of negative weights:

    running = 0
    for k = 1 .. m:    running += inputs of +v_k;  running -= inputs of -v_k;  sum += running * (v_k - v_(k+1))

with v_(m+1) = 0, which is sum_i w_i x_i without one multiplication a weight. Three codings of a run's entries:

    DELTA8    uint8_t steps from position to position, the first step from the unit's first input; see `bridges`
    INDEX8    uint8_t indices into a page of 256 inputs; each level has its runs once a page
    INDEX16   uint16_t indices
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from mip2mcu.export.layouts.base import LayerContext
from mip2mcu.export.layouts.bridges import Runs, bridged
from mip2mcu.export.literals import Column, Table, column, tables_in, unsigned_column
from mip2mcu.export.targets import Target
from mip2mcu.layers import Dense
from mip2mcu.ranges import IntArray

PAGE = 256
"""Inputs that a uint8_t index tells apart."""
UNROLL = 4
"""Entries a turn of the inner loop; 8 would save another 5 % of the instructions for 200 bytes of code."""


class Coding(Enum):
    """How the positions of a run are written."""

    DELTA8 = "8-bit steps"
    INDEX8 = "8-bit indices"
    INDEX16 = "16-bit indices"


@dataclass(frozen=True)
class Run:
    """Consecutive entries: the inputs ``positions``, whose sum is added (``sign`` +1) or subtracted at ``level``."""

    level: int
    sign: int
    positions: list[int]


UnitRuns: TypeAlias = tuple[Run, ...]
"""The runs of one unit in the order of emission."""


@dataclass(frozen=True, eq=False)
class Entries:
    """Entries of lists, int64 (entries,) each: the input ``position``, added (``sign`` +1) or subtracted."""

    unit: IntArray
    level: IntArray
    sign: IntArray
    position: IntArray


@dataclass(frozen=True)
class Lists:
    """Every unit's runs and what they are in flash.

    counts    number of entries of each run
    entries   of all runs
    first     the input from which the unit's positions count; None where that is input 0
    pages     runs that each sign of a level consists of
    """

    units: tuple[UnitRuns, ...]
    counts: Table
    entries: Table
    first: Column | None
    pages: int

    def turns(self, levels: int, unroll: int) -> dict[str, int]:
        """How often the parts of ``templates/layouts/lists.j2`` run."""
        units = len(self.units)
        paged = units * levels * self.pages if self.pages > 1 else 0
        first = units if self.first is not None else 0
        return {"unit": units, "first": first, "page": paged, **run_turns(self.counts, unroll)}

    @cached_property
    def flat(self) -> Entries:
        """All entries in the order of emission."""
        runs = [(j, run) for j, runs in enumerate(self.units) for run in runs]
        lengths = [len(run.positions) for _, run in runs]
        return Entries(
            unit=np.repeat([j for j, _ in runs], lengths),
            level=np.repeat([run.level for _, run in runs], lengths),
            sign=np.repeat([run.sign for _, run in runs], lengths),
            position=np.array([q for _, run in runs for q in run.positions], dtype=np.int64),
        )

    @property
    def tables(self) -> tuple[Table, ...]:
        """Tables in order of emission."""
        return tables_in(self.first, self.counts, self.entries)

    @property
    def bytes(self) -> int:
        """Flash that the tables take."""
        return sum(table.bytes for table in self.tables)


@dataclass(frozen=True)
class ListsDetails:
    """Numbers of the partials ``sparse`` and ``grouped``.

    levels         number of magnitudes
    pages          runs that each sign of a level consists of
    factors        by level: what its running sum is multiplied with
    steps          entries are steps, not indices
    unroll         entries a turn of the inner loop: 4, or 1 where code is to be small
    to_end         the inner loop compares pointers, see `compares_pointers`
    count_type     C type of the number of entries left in a run
    running_type   C type of the running sum (`grouped`)
    non_zeros      weights that are not 0
    bridges        further entries, which close gaps between steps
    """

    entries: Table
    counts: Table
    first: Column | None
    bias: Column
    factors: Column
    levels: int
    pages: int
    steps: bool
    unroll: int
    to_end: bool
    count_type: str
    running_type: str
    non_zeros: int
    bridges: int


def list_details(
    lists: Lists,
    layer: Dense,
    levels: tuple[int, ...],
    coding: Coding,
    context: LayerContext,
    running_type: str = "",
) -> ListsDetails:
    """What the partials know about ``lists``, built from ``layer``."""
    non_zeros = int(np.count_nonzero(layer.weights))
    return ListsDetails(
        entries=lists.entries,
        counts=lists.counts,
        first=lists.first,
        bias=column(f"{context.prefix}_bias", layer.bias),
        factors=column(f"{context.prefix}_factors", np.array(factors(levels))),
        levels=len(levels),
        pages=lists.pages,
        steps=coding is Coding.DELTA8,
        unroll=1 if context.compact else UNROLL,
        to_end=compares_pointers(context),
        count_type=loop_type(max(lists.counts.values), context.target),
        running_type=running_type,
        non_zeros=non_zeros,
        bridges=sum(lists.counts.values) - non_zeros,
    )


def list_variant(partial: str, details: ListsDetails) -> str:
    """Name of the code that ``partial`` prints for ``details``."""
    return f"{partial}.{'steps' if details.steps else 'indices'}{'' if details.unroll > 1 else '.compact'}"


def wide_turns(entries: Table, counts: Table, count_type: str, unroll: int, context: LayerContext) -> dict[str, int]:
    """Where registers have 8 bits: entries of 16 bits, and turns that a variable of 16 bits counts."""
    if context.target.word_bits >= 32:
        return {}
    lengths = np.array(counts.values)
    turns = int((lengths if unroll == 1 else lengths >> 2).sum())
    return {
        "wide entry": int(lengths.sum()) if entries.c_type == "uint16_t" else 0,
        "wide turn": turns if count_type == "uint16_t" else 0,
    }


def run_turns(counts: Table, unroll: int) -> dict[str, int]:
    """How often the parts of a run's code run: for single entries, for two, and for four at a time."""
    lengths = np.array(counts.values)
    empty = int(np.count_nonzero(lengths == 0))
    if unroll == 1:
        return {"run": len(lengths), "empty": empty, "entry": int(lengths.sum())}
    fours = lengths >> 2
    return {
        "run": len(lengths),
        "empty": empty,
        "one": int((lengths & 1).sum()),
        "two": int((lengths >> 1 & 1).sum()),
        "loop": int(np.count_nonzero(fours)),
        "four": int(fours.sum()),
    }


def list_turns(lists: Lists, details: ListsDetails, context: LayerContext) -> dict[str, int]:
    """How often the parts run of code that walks over ``lists``."""
    wide = wide_turns(lists.entries, lists.counts, details.count_type, details.unroll, context)
    return {**lists.turns(details.levels, details.unroll), **wide}


def compares_pointers(context: LayerContext) -> bool:
    """Whether an inner loop runs to the end of its run, a pointer, rather than count down.

    That is 2 to 7 % faster where there is a register for the pointer, and a few bytes smaller where the loop is the
    only one. AVR has three pointer registers, all taken.
    """
    return context.target.word_bits >= 32 and (context.compact or context.target.registers > 8)


def loop_type(count: int, target: Target) -> str:
    """C type of a variable that counts ``count`` turns down to 0."""
    return "uint8_t" if target.int_bits < 32 and count <= 255 else target.index_type


def magnitudes(weights: IntArray) -> tuple[int, ...]:
    """The different magnitudes of the non-zero weights, the largest first; (1,) where there are none."""
    found = np.unique(np.abs(weights))
    return tuple(int(v) for v in found[found > 0][::-1]) or (1,)


def factors(levels: tuple[int, ...]) -> tuple[int, ...]:
    """v_k - v_(k+1) of each level."""
    return tuple(v - below for v, below in pairwise((*levels, 0)))


def build_lists(weights: IntArray, levels: tuple[int, ...], coding: Coding, context: LayerContext) -> Lists:
    """The runs of ``weights`` (units, inputs), counted from input 0 or from each unit's first: what is smaller."""
    rows = _runs_by_value(weights, levels)
    starts = first_inputs(weights)
    candidates = [_write(rows, levels, coding, np.zeros_like(starts), context)]
    if coding is not Coding.INDEX16 and starts.any():
        candidates.append(_write(rows, levels, coding, starts, context))
    return min(candidates, key=lambda lists: (lists.bytes, lists.pages))


def _runs_by_value(weights: IntArray, levels: tuple[int, ...]) -> list[Runs]:
    rows: list[dict[int, list[int]]] = [{sign * v: [] for v in levels for sign in (1, -1)} for _ in weights]
    units, positions = np.nonzero(weights)
    found = weights[units, positions]
    for j, i, value in zip(units.tolist(), positions.tolist(), found.tolist(), strict=True):
        rows[j][value].append(i)
    return list(rows)


def _write(
    rows: list[Runs], levels: tuple[int, ...], coding: Coding, first: IntArray, context: LayerContext
) -> Lists:
    if coding is Coding.DELTA8:
        rows = [bridged(runs, int(start)) for runs, start in zip(rows, first, strict=True)]
    pages = 1
    if coding is Coding.INDEX8:
        spans = [max((run[-1] for run in runs.values() if run), default=start) - start
                 for runs, start in zip(rows, first.tolist(), strict=True)]  # fmt: skip
        pages = max(spans) // PAGE + 1
        first = np.clip(first, 0, max(0, len(context.input_low) - PAGE * (pages - 1)))
    units = tuple(_cut(runs, levels, pages, int(start)) for runs, start in zip(rows, first, strict=True))
    counts = np.array([len(run.positions) for runs in units for run in runs])
    entries = [_entries(runs, coding, start) for runs, start in zip(units, first.tolist(), strict=True)]
    return Lists(
        units=units,
        counts=count_table(counts, context),
        entries=_entry_table(entries, coding, context),
        first=first_column(first, context),
        pages=pages,
    )


def _cut(runs: Runs, levels: tuple[int, ...], pages: int, first: int) -> UnitRuns:
    """The runs in the order of emission: by level, page and sign."""
    if pages == 1:
        return tuple(Run(k, sign, list(runs[sign * v])) for k, v in enumerate(levels) for sign in (1, -1))
    on_page = {value: _by_page(run, pages, first) for value, run in runs.items()}
    return tuple(
        Run(k, sign, on_page[sign * v][page])
        for k, v in enumerate(levels)
        for page in range(pages)
        for sign in (1, -1)
    )


def _by_page(positions: Sequence[int], pages: int, first: int) -> list[list[int]]:
    """``positions`` on each of the pages that begin at ``first``."""
    found: list[list[int]] = [[] for _ in range(pages)]
    for position in positions:
        found[(position - first) // PAGE].append(position)
    return found


def _entries(runs: UnitRuns, coding: Coding, first: int) -> list[int]:
    if coding is Coding.DELTA8:
        return [b - a for run in runs for a, b in pairwise([first, *run.positions])]
    if coding is Coding.INDEX8:
        return [(q - first) % PAGE for run in runs for q in run.positions]
    return [q for run in runs for q in run.positions]


def _entry_table(entries: list[list[int]], coding: Coding, context: LayerContext) -> Table:
    c_type = "uint16_t" if coding is Coding.INDEX16 else "uint8_t"
    flat = tuple(entry for unit in entries for entry in unit) or (0,)
    what = "steps from input to input" if coding is Coding.DELTA8 else "indices of inputs"
    comment = f"Layer {context.index}: {what}, run by run; each level of each unit has its positive weights first."
    return Table(f"{context.prefix}_entries", c_type, flat, comment=comment)


def count_table(counts: IntArray, context: LayerContext) -> Table:
    """The table of the numbers of entries of all runs."""
    c_type = "uint8_t" if counts.max() <= 255 else "uint16_t"
    comment = f"Layer {context.index}: number of entries of each run."
    return Table(f"{context.prefix}_counts", c_type, tuple(counts.tolist()), comment=comment)


def first_inputs(weights: IntArray) -> IntArray:
    """(units,): the input of each unit's first weight that is not 0; 0 where there is none."""
    return np.where(weights.any(axis=1), (weights != 0).argmax(axis=1), 0)


def first_bytes(first: IntArray) -> int:
    """Most flash that `first_column` takes."""
    return len(first) * (1 if first.max() <= 255 else 2)


def first_column(first: IntArray, context: LayerContext) -> Column | None:
    """By unit, the input from which its positions count; None where that is input 0 for all."""
    comment = f"Layer {context.index}: the input from which each unit's positions count."
    return unsigned_column(f"{context.prefix}_first", first, comment=comment) if first.any() else None

