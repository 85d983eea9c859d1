"""Counts the bits of many words at once: the schedule of a carry-save adder and of the horizontal sum behind it.

Every bit position is a column. Words of one weight 2**level are added three by three, in all 32 columns at once:

    sum   = a ^ b ^ c              of the same weight
    carry = majority(a, b, c)      of twice the weight

until each weight has one word left, a plane: the count of column c is sum_level 2**level * (bit c of that plane).
n words need about n such additions of five instructions, and only some log2(n) planes are left for the costlier sum
across columns, which adds neighbouring columns in lanes of 4, 8 and 16 bits.

Source: W. Mula, N. Kurz, D. Lemire, "Faster population counts using AVX2 instructions", 2018 (the Harley-Seal adder).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import TypeAlias

_NAMES = ("ones", "twos", "fours", "eights", "sixteens")
_NIBBLE_PLANE = 4
"""Most that a plane puts into a nibble: its four columns."""
_NIBBLE_HIGH, _BYTE_HIGH, _HALF_HIGH = 15, 255, 65535

COLUMN_LIMIT = _HALF_HIGH // 16
"""Most that a column of a block may count: the 16 columns of a lane then fit into it."""
_BLOCK_LIMIT = 48
_LOOP_COST, _LOOP_START, _REST_COST = 4, 4, 12
_FULL_COST, _HALF_COST, _PLANE_COST, _GROUP_COST = 10, 5, 14, 8
"""Instructions times two of a step with two and with one new word, and of a plane and a group in the horizontal sum."""


@dataclass(frozen=True)
class Word:
    """A word of the block that the schedule adds: number ``index``, in the ``mask``-th of its magnitude planes."""

    index: int
    mask: int


Operand: TypeAlias = Word | str
"""What is added: a word that is read now, or a C variable."""


@dataclass(frozen=True)
class Step:
    """One addition: ``total`` += ``terms``, which gives ``carry``. Without a carry, ``total`` begins as its only term,
    or, where it ``is_top``, cannot overflow.

    new_plane    the carry is the first word of its weight and is added to later
    reads        words of the block that no step before has read
    """

    total: str
    terms: tuple[Operand, ...]
    carry: str = ""
    new_plane: bool = False
    reads: tuple[int, ...] = ()
    is_top: bool = False


@dataclass(frozen=True)
class Group:
    """Planes that the horizontal sum adds in nibbles, and how their bytes join those of the planes above.

    terms     (plane, shift within the group)
    shift     what the sum of the groups above is shifted by before this group is added
    widen     that sum needs lanes of 16 bits from here on
    folds     neighbouring nibbles are added before they are masked, for they cannot overflow
    """

    terms: tuple[tuple[str, int], ...]
    shift: int
    widen: bool
    folds: bool


@dataclass(frozen=True)
class Schedule:
    """Everything that counts the columns of ``words`` words.

    groups        of the horizontal sum, highest weight first
    wide          the lanes of the result have 16 bits, not 8
    lane_high     most that a lane can hold
    cost          instructions, roughly
    """

    words: int
    steps: tuple[Step, ...]
    groups: tuple[Group, ...]
    wide: bool
    lane_high: int
    cost: int

    @property
    def parts(self) -> dict[str, int]:
        """How many additions of three and of two words there are, and planes and groups of them across columns."""
        return {
            "full": sum(len(step.terms) == 2 for step in self.steps),
            "half": sum(len(step.terms) == 1 and step.carry != "" for step in self.steps),
            "plane": sum(len(group.terms) for group in self.groups),
            "group": len(self.groups),
        }


def adds(steps: Sequence[Step]) -> tuple[bool, bool]:
    """Whether ``steps`` add three words anywhere, and two."""
    terms = {len(step.terms) for step in steps if step.carry}
    return 2 in terms, 1 in terms


def plane_name(level: int) -> str:
    """C variable of the plane of weight 2**level."""
    return _NAMES[level] if level < len(_NAMES) else f"plane{level}"


class _Adder:
    """Collects steps; ``pending`` holds what waits at each level: a plane's name first, then one term."""

    def __init__(self, kept: int = 0, top: int | None = None) -> None:
        """The planes of the levels below ``kept`` exist already; ``top`` is the level that never overflows."""
        self.steps: list[Step] = []
        self.pending: dict[int, list[Operand]] = {level: [plane_name(level)] for level in range(kept)}
        self.top = top
        self.carries = 0
        self.words_read = 0

    def push(self, level: int, term: Operand) -> None:
        """Add ``term`` of weight 2**level, at once where it is the third there."""
        waiting = self.pending.setdefault(level, [])
        if level == self.top:
            self.append(plane_name(level), (term,), is_top=True)
        elif not waiting:
            if isinstance(term, Word):
                self.append(plane_name(level), (term,))
            waiting.append(plane_name(level))
        elif len(waiting) == 1:
            waiting.append(term)
        else:
            self._add(level, (waiting.pop(), term))

    def close(self, level: int) -> None:
        """Add the term that waits at ``level``."""
        self._add(level, (self.pending[level].pop(),))

    def _add(self, level: int, terms: tuple[Operand, ...]) -> None:
        first = not self.pending.get(level + 1)
        self.carries += not first
        carry = plane_name(level + 1) if first else f"carry{self.carries}"
        self.append(plane_name(level), terms, carry, first)
        self.push(level + 1, carry)

    def append(
        self, total: str, terms: tuple[Operand, ...], carry: str = "", new_plane: bool = False, is_top: bool = False
    ) -> None:
        """Append a step."""
        end = 1 + max((term.index for term in terms if isinstance(term, Word)), default=-1)
        self.steps.append(Step(total, terms, carry, new_plane, tuple(range(self.words_read, end)), is_top))
        self.words_read = max(self.words_read, end)


@cache
def schedule(words: int, masks: int, column_high: int) -> Schedule:
    """The cheapest way to count ``words`` words with ``masks`` magnitude planes each (weights 1, 2, 4, ...).

    column_high    most that a word adds to a column; at most 2**masks - 1
    """
    candidates = (_scheduled(words, masks, column_high, closed) for closed in _choices(words, masks))
    return min(candidates, key=lambda found: found.cost)


def _choices(words: int, masks: int) -> Iterator[tuple[bool, ...]]:
    """By level: whether two words that are left are added, or both go into the horizontal sum."""
    levels = (words * (2**masks - 1)).bit_length()
    return product((True, False), repeat=levels) if levels <= 6 else iter([(True,) * levels])


def _scheduled(words: int, masks: int, column_high: int, closed: tuple[bool, ...]) -> Schedule:
    adder = _Adder()
    for index in range(words):
        for mask in range(masks):
            adder.push(mask, Word(index, mask))
    for level, close in enumerate(closed):
        if close and len(adder.pending.get(level, ())) == 2:
            adder.close(level)
    return _closed(adder, words, 8 * words * column_high, words * (2 + masks + (masks > 1)))


def _closed(adder: _Adder, words: int, bytes_high: int, reading: int = 0) -> Schedule:
    """The steps of ``adder`` and the horizontal sum of all that waits in it; ``reading`` instructions read words."""
    planes: list[tuple[int, str]] = []
    for level, waiting in sorted(adder.pending.items()):
        planes += [(level, _named(adder, level, term)) for term in waiting]
    groups, wide, lane_high = _groups(planes, bytes_high)
    full = sum(len(step.terms) == 2 for step in adder.steps)
    half = sum(len(step.terms) == 1 and step.carry != "" for step in adder.steps)
    cost = full * _FULL_COST + half * _HALF_COST + len(planes) * _PLANE_COST + len(groups) * _GROUP_COST
    return Schedule(words, tuple(adder.steps), groups, wide, lane_high, reading + cost // 2)


def _named(adder: _Adder, level: int, term: Operand) -> str:
    if isinstance(term, str):
        return term
    name = f"more_{plane_name(level)}"
    adder.append(name, (term,))
    return name


def _groups(planes: list[tuple[int, str]], bytes_high: int) -> tuple[tuple[Group, ...], bool, int]:
    """The groups of the horizontal sum, whether its lanes are wide, and what a lane holds at most.

    ``bytes_high``: most that the eight columns of a byte count together.
    """
    parts = _nibble_parts(planes)
    groups: list[Group] = []
    wide, high, above = False, 0, 0
    for level, terms in reversed(parts):
        part_high = sum(2 * _NIBBLE_PLANE << shift for _, shift in terms)
        shift = above - level if groups else 0
        joined = min((high << shift) + part_high, bytes_high >> level)
        widen = not wide and bool(groups) and joined > _BYTE_HIGH
        wide = wide or widen
        groups.append(Group(terms, shift, widen, folds=part_high <= _NIBBLE_HIGH))
        high, above = joined, level
    return tuple(groups), wide, high * (2 if wide else 1)


def _nibble_parts(planes: list[tuple[int, str]]) -> list[tuple[int, tuple[tuple[str, int], ...]]]:
    """``planes`` by ascending level, as many together as their sums fit into nibbles: (lowest level, terms)."""
    parts: list[tuple[int, tuple[tuple[str, int], ...]]] = []
    load = _NIBBLE_HIGH
    for level, name in planes:
        shift = level - parts[-1][0] if parts else 0
        load += _NIBBLE_PLANE << shift
        if load > _NIBBLE_HIGH:
            parts.append((level, ((name, 0),)))
            load = _NIBBLE_PLANE
        else:
            parts[-1] = (parts[-1][0], (*parts[-1][1], (name, shift)))
    return parts


@dataclass(frozen=True)
class Chain:
    """A row counted by a loop that keeps its planes, for cores on which the horizontal sum is costly.

    repeat     turns of the loop, each of 2**len(planes) words
    planes     that are kept from turn to turn; they begin as 0
    steps      of a turn
    carry      of a turn: words of weight 2**len(planes), counted at once
    rest       counts what is left behind the loop, the planes included
    """

    repeat: int
    planes: tuple[str, ...]
    steps: tuple[Step, ...]
    carry: str
    rest: Schedule

    @property
    def cost(self) -> int:
        """Instructions of a row, roughly."""
        turn = 3 * 2 ** len(self.planes) + _FULL_COST * len(self.steps) // 2 + _PLANE_COST
        return turn * self.repeat + self.rest.cost

    @property
    def row_parts(self) -> Counter[str]:
        """How often each part runs in a row."""
        turns = {part: self.repeat * count for part, count in self._turn_parts.items()}
        return Counter({"word": self.rest.words, **self.rest.parts}) + Counter(turns)

    @property
    def code_parts(self) -> Counter[str]:
        """How often each part stands in the code."""
        return Counter({"word": self.rest.words, **self.rest.parts}) + Counter(self._turn_parts)

    @property
    def _turn_parts(self) -> dict[str, int]:
        return {"block": 1, "word": 2 ** len(self.planes), "full": len(self.steps)}


def chain(words: int, kept: int) -> Chain:
    """A row of ``words`` words of one plane each, ``2**kept`` a turn; there is at least one turn."""
    repeat, rest = divmod(words, 2**kept)
    adder = _Adder(kept)
    for index in range(2**kept):
        adder.push(0, Word(index, 0))
    carry = adder.pending[kept][0]
    assert isinstance(carry, str)
    behind = _Adder(kept)
    for index in range(rest):
        behind.push(0, Word(index, 0))
    closed = _closed(behind, rest, 8 * (2**kept - 1 + rest))
    return Chain(repeat, tuple(plane_name(level) for level in range(kept)), tuple(adder.steps), carry, closed)


def turn(words: int, masks: int, planes: int) -> tuple[Step, ...]:
    """The steps that add ``words`` words to ``planes`` planes that exist already and hold all that is ever counted."""
    adder = _Adder(planes, top=planes - 1)
    for index in range(words):
        for mask in range(masks):
            adder.push(mask, Word(index, mask))
    for level in range(planes):
        if len(adder.pending[level]) == 2:
            adder.close(level)
    return tuple(adder.steps)


@dataclass(frozen=True)
class Block:
    """``repeat`` times in a row: the words that ``schedule`` counts."""

    schedule: Schedule
    repeat: int


def plan_blocks(words: int, masks: int, column_high: int, code_limit: int) -> tuple[Block, ...]:
    """A row of ``words`` words as one block, or as a loop over equal blocks and a shorter one, whatever is cheapest.

    code_limit    most instructions of straight-line code, roughly; a single word may exceed it
    """
    most = max(1, min(words, _BLOCK_LIMIT, COLUMN_LIMIT // column_high))
    candidates = [_cut(words, size, masks, column_high) for size in range(1, most + 1)]
    fitting = [blocks for blocks in candidates if sum(block.schedule.cost for block in blocks) <= code_limit]
    return min(fitting or candidates[:1], key=_row_cost)


def _cut(words: int, size: int, masks: int, column_high: int) -> tuple[Block, ...]:
    count, rest = divmod(words, size)
    blocks = (Block(schedule(size, masks, column_high), count),)
    return blocks if rest == 0 else (*blocks, Block(schedule(rest, masks, column_high), 1))


def row_parts(blocks: Sequence[Block], masks: int) -> tuple[Counter[str], Counter[str]]:
    """How often each part runs in a row of words with ``masks`` magnitude planes, and stands in its code."""
    row, code = Counter[str](), Counter[str]()
    for block in blocks:
        words = block.schedule.words
        parts = {"word": words, "mask": words * max(0, masks - 1), "block": 1, **block.schedule.parts}
        code.update(parts)
        row.update({part: block.repeat * count for part, count in parts.items()})
    return row, code


def _row_cost(blocks: tuple[Block, ...]) -> int:
    loops = sum(_LOOP_START + _LOOP_COST * block.repeat for block in blocks if block.repeat > 1)
    loops += _REST_COST * (len(blocks) - 1)
    return loops + sum(block.schedule.cost * block.repeat for block in blocks)
