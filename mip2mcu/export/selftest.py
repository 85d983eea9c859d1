"""The vectors of NAME_selftest: inputs that C and Python make alike, and a hash of everything that follows from them.

Vector 0 has every input at its minimum, vector 1 at its maximum, the others come from xorshift32; so only one hash a
vector is stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mip2mcu.export.layouts import Encoding
from mip2mcu.export.literals import Column, Table, column, tables_in, word_table
from mip2mcu.export.packing import pack_bits, unpack_bits
from mip2mcu.network import Network
from mip2mcu.ranges import IntArray

VECTORS = 8
_SEED = 0x2545F491
_MASK = 0xFFFFFFFF


@dataclass(frozen=True)
class SelftestProgram:
    """Numbers of ``templates/selftest.c.j2``.

    low/span     of each input: the least value, and the number of values (unpacked inputs)
    fixed/free   bits that are always set, bits that may be set, a word each (packed inputs)
    expected     one hash a vector
    """

    vectors: int
    seed: int
    low: Column
    span: Column
    fixed: Column
    free: Column
    expected: Table

    @property
    def tables(self) -> tuple[Table, ...]:
        """Tables in order of emission."""
        return (*tables_in(self.low, self.span, self.fixed, self.free), self.expected)


def lower_selftest(network: Network, reads: Encoding) -> SelftestProgram:
    """The selftest of ``network`` whose inputs lie in memory as ``reads`` says."""
    low, span = network.input_low, network.input_high - network.input_low + 1
    fixed, free = pack_bits(np.maximum(low, 0)[None, :] & 1), pack_bits(network.input_high[None, :] & 1)
    packed = reads is Encoding.BITS
    rows = _packed_rows(fixed, free, network.inputs) if packed else _value_rows(low, span)
    hashes = np.array([_hash(network, row) for row in rows], dtype=np.uint32)
    return SelftestProgram(
        vectors=VECTORS,
        seed=_SEED,
        low="0" if packed else column("selftest_low", low),
        span="1U" if packed else _span_column(span),
        fixed=_word_column("selftest_fixed", fixed) if packed else "0U",
        free=_word_column("selftest_free", free) if packed else "0U",
        expected=word_table("selftest_expected", hashes),
    )


def _span_column(span: IntArray) -> Column:
    if (span == span[0]).all():
        return f"{int(span[0])}U"
    c_type = "uint8_t" if span.max() <= 255 else "uint16_t"
    return Table("selftest_span", c_type, tuple(int(v) for v in span))


def _word_column(name: str, words: np.ndarray) -> Column:
    if (words == words[0, 0]).all():
        return f"0x{int(words[0, 0]):08X}U"
    return word_table(name, words)


def _states() -> Iterator[int]:
    state = _SEED
    while True:
        state ^= (state << 13) & _MASK
        state ^= state >> 17
        state ^= (state << 5) & _MASK
        yield state


def _draws(count: int) -> Iterator[list[int]]:
    """``count`` random words for each vector; all zeros for vector 0 and all ones for vector 1."""
    states = _states()
    for v in range(VECTORS):
        drawn = [next(states) for _ in range(count)]
        yield [0] * count if v == 0 else [_MASK] * count if v == 1 else drawn


def _value_rows(low: IntArray, span: IntArray) -> list[IntArray]:
    return [low + (((np.array(draw, dtype=np.int64) >> 16) * span) >> 16) for draw in _draws(len(low))]


def _packed_rows(fixed: np.ndarray, free: np.ndarray, inputs: int) -> list[IntArray]:
    words = [(np.array([draw], dtype=np.uint32) & free) | fixed for draw in _draws(free.shape[1])]
    return [unpack_bits(row, inputs)[0] for row in words]


def _hash(network: Network, row: IntArray) -> int:
    """Hash of the sums, scores, class and margin of one input row."""
    sums = network.sums(row[None, :])
    rule = network.decision
    values = [*sums[0], *rule.scores(sums)[0], *rule.predict(sums), *rule.margin(sums)]
    state = 0
    for value in values:
        rotated = ((state << 5) & _MASK) | (state >> 27)
        state = ((rotated ^ (int(value) & _MASK)) + 0x9E3779B9) & _MASK
    return state
