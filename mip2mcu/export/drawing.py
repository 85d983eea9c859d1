"""Input rows that C and Python make alike from a small number, the seed: nothing but the seed has to be stored.

Seed 0 is the row of all minima and seed 1 the row of all maxima. Any other seed starts xorshift32, one step an input
(or a word of packed inputs) and more; seed % 4 says how many inputs stay at their minimum: none, and then about a half,
three quarters, seven eighths of them. A single share would leave the sums of most networks far from 0.

A `Vector` mixes two such rows: its first inputs are of another seed, or a run of them further on. As it grows, sums
wander from those of the one row to those of the other, and one at a time they pass 0. Seeds from PATTERN on stand for
stored patterns of minima and maxima, for sums that no random row brings near 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mip2mcu.export.packing import WordArray, pack_bits, unpack_bits
from mip2mcu.ranges import BoolArray, IntArray

START = 0x2545F491
STRIDE = 0x9E3779B9
"""The generator starts at START + seed * STRIDE modulo 2**32, which is 0 for no seed of 16 bits."""
CORNERS = (0, 1)
PATTERN = 224
"""The first pattern's seed; there is room for 32 of them, as `Vector.seed` and `Vector.other` have 8 bits each."""
SEEDS = 256
_THINNING = 4

States: TypeAlias = NDArray[np.uint32]


@dataclass(frozen=True, order=True)
class Vector:
    """The row of ``seed``, but with the values from ``kept`` up to, not with, ``taken`` of the row of ``other``."""

    seed: int
    other: int = 0
    taken: int = 0
    kept: int = 0


@dataclass(frozen=True, eq=False)
class Drawing:
    """What limits the inputs of a network or a layer: ranges, or (packed) bits that are always set or may be."""

    low: IntArray
    span: IntArray
    fixed: WordArray
    free: WordArray
    packed: bool

    @classmethod
    def of(cls, low: IntArray, high: IntArray, packed: bool = False) -> Drawing:
        """For inputs in [low, high]."""
        fixed, free = pack_bits(np.maximum(low, 0)[None, :] & 1)[0], pack_bits(high[None, :] & 1)[0]
        return cls(low, high - low + 1, fixed, free, packed)

    @property
    def high(self) -> IntArray:
        """The largest value of each input."""
        return self.low + self.span - 1

    def rows(self, seeds: Sequence[int]) -> IntArray:
        """The rows of ``seeds`` (seeds, inputs)."""
        array = np.array(seeds, dtype=np.uint32)
        state = np.uint32(START) + array * np.uint32(STRIDE)
        columns = self._words(state, array) if self.packed else self._values(state, array)
        drawn = np.stack(columns, axis=1)
        drawn[array == CORNERS[0]] = 0
        drawn[array == CORNERS[1]] = 0xFFFF_FFFF
        if self.packed:
            return unpack_bits((drawn & self.free) | self.fixed, len(self.low))
        return self.low + (((drawn.astype(np.int64) >> 16) * self.span) >> 16)

    def pool(self, patterns: BoolArray) -> IntArray:
        """The rows of all seeds below PATTERN, and behind them those of ``patterns`` (patterns, inputs)."""
        return np.concatenate([self.rows(range(PATTERN)), np.where(patterns, self.high, self.low)])

    def vectors(self, vectors: Sequence[Vector], patterns: BoolArray) -> IntArray:
        """The rows of ``vectors`` (vectors, inputs)."""
        return self.mixed(vectors, self.pool(patterns))

    def mixed(self, vectors: Sequence[Vector], pool: IntArray) -> IntArray:
        """The rows of ``vectors`` (vectors, inputs); ``pool`` has the row of every seed that occurs."""
        numbers = [(v.seed, v.other, v.taken, v.kept) for v in vectors]
        seed, other, taken, kept = np.array(numbers, dtype=np.int64).reshape(-1, 4).T
        place = np.arange(len(self.low))
        return np.where((place >= kept[:, None]) & (place < taken[:, None]), pool[other], pool[seed])

    def _values(self, state: States, seeds: States) -> list[States]:
        thin = (np.uint32(1) << (seeds % _THINNING).astype(np.uint32)) - np.uint32(1)
        columns = []
        for _ in self.low:
            state = following(state)
            columns.append(np.where(state & thin, np.uint32(0), state))
        return columns

    def _words(self, state: States, seeds: States) -> list[States]:
        columns = []
        for _ in self.free:
            state = following(state)
            word = state
            for step in range(1, _THINNING):
                thinned = seeds % _THINNING >= step
                state = np.where(thinned, following(state), state)
                word = np.where(thinned, word & state, word)
            columns.append(word)
        return columns


def following(state: States) -> States:
    """The next states of xorshift32."""
    state = state ^ (state << np.uint32(13))
    state = state ^ (state >> np.uint32(17))
    return state ^ (state << np.uint32(5))
