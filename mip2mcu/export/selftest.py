"""The vectors of NAME_selftest: inputs that C and Python make alike, and a hash of everything that follows from them.

Vector 0 has every input at its minimum, vector 1 at its maximum, the others come from xorshift32; so only one hash a
vector is stored. With a quantizer, further vectors begin with raw features: signed numbers of any magnitude.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from mip2mcu.export.layouts import Encoding
from mip2mcu.export.literals import TYPE_BYTES, Column, Table, column, tables_in, word_table
from mip2mcu.export.packing import WordArray, pack_bits, unpack_bits
from mip2mcu.network import Network
from mip2mcu.ranges import IntArray

VECTORS = 8
RAW_VECTORS = 8
_SEED = 0x2545F491
_MASK = 0xFFFFFFFF


@dataclass(frozen=True)
class SelftestProgram:
    """Numbers of ``templates/selftest.c.j2``.

    vectors      number of vectors that begin with inputs
    raw_vectors  number of vectors that begin with raw features, behind the others
    low/span     of each input: the least value, and the number of values (unpacked inputs)
    fixed/free   bits that are always set, bits that may be set, a word each (packed inputs)
    raw_shift    what a random word is shifted by so that it fits the raw type
    raw_spread   mask of the further shift that varies its magnitude
    raw_signed   half of the raw values are negated
    expected     one hash a vector
    """

    vectors: int
    raw_vectors: int
    seed: int
    low: Column
    span: Column
    fixed: Column
    free: Column
    raw_shift: int
    raw_spread: int
    raw_signed: bool
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
    states = _states()
    row = partial(_packed_row, fixed, free, network.inputs) if packed else partial(_value_row, low, span)
    drawn = [_drawn(v, states, free.shape[1] if packed else len(low)) for v in range(VECTORS)]
    hashes = [_hash(network, row(words), 0) for words in drawn]
    raw_type = "int32_t" if network.quantizer is None else network.quantizer.raw_type
    bits, raw_signed = 8 * TYPE_BYTES[raw_type], raw_type != "uint8_t"
    raw_shift, raw_spread = 32 - bits + int(raw_signed), bits - 1
    if network.quantizer is not None:
        count = len(network.quantizer.features)
        raws = [_raw_row(states, count, raw_shift, raw_spread, raw_signed) for _ in range(RAW_VECTORS)]
        hashes += [_hash_raw(network, raw, packed) for raw in raws]
    return SelftestProgram(
        vectors=VECTORS,
        raw_vectors=len(hashes) - VECTORS,
        seed=_SEED,
        low="0" if packed else column("selftest_low", low),
        span="1U" if packed else _span_column(span),
        fixed=_word_column("selftest_fixed", fixed) if packed else "0U",
        free=_word_column("selftest_free", free) if packed else "0U",
        raw_shift=raw_shift,
        raw_spread=raw_spread,
        raw_signed=raw_signed,
        expected=word_table("selftest_expected", np.array(hashes, dtype=np.uint32)),
    )


def _span_column(span: IntArray) -> Column:
    if (span == span[0]).all():
        return f"{int(span[0])}U"
    c_type = "uint8_t" if span.max() <= 255 else "uint16_t"
    return Table("selftest_span", c_type, tuple(int(v) for v in span))


def _word_column(name: str, words: WordArray) -> Column:
    if (words == words[0, 0]).all():
        return f"0x{int(words[0, 0]):08X}U"
    return word_table(name, words)


def _states() -> Iterator[int]:
    """xorshift32."""
    state = _SEED
    while True:
        state ^= (state << 13) & _MASK
        state ^= state >> 17
        state ^= (state << 5) & _MASK
        yield state


def _drawn(v: int, states: Iterator[int], count: int) -> IntArray:
    """``count`` random words for vector ``v``; all zeros for vector 0 and all ones for vector 1."""
    words = np.array([next(states) for _ in range(count)], dtype=np.int64)
    return np.zeros_like(words) if v == 0 else np.full_like(words, _MASK) if v == 1 else words


def _value_row(low: IntArray, span: IntArray, drawn: IntArray) -> IntArray:
    return low + (((drawn >> 16) * span) >> 16)


def _packed_row(fixed: WordArray, free: WordArray, inputs: int, drawn: IntArray) -> IntArray:
    return unpack_bits((drawn[None, :].astype(np.uint32) & free) | fixed, inputs)[0]


def _raw_row(states: Iterator[int], count: int, shift: int, spread: int, signed: bool) -> IntArray:
    words = [next(states) for _ in range(count)]
    values = [(word >> shift) >> (word & spread) for word in words]
    return np.array([-v if signed and word & 0x100 else v for v, word in zip(values, words, strict=True)])


def _mixed(state: int, values: Iterable[int]) -> int:
    for value in values:
        rotated = ((state << 5) & _MASK) | (state >> 27)
        state = ((rotated ^ (int(value) & _MASK)) + 0x9E3779B9) & _MASK
    return state


def _hash(network: Network, row: IntArray, state: int) -> int:
    """Hash of the sums, scores, class and margin of one input row, from ``state`` on."""
    sums = network.sums(row[None, :])
    rule = network.decision
    return _mixed(state, [*sums[0], *rule.scores(sums)[0], *rule.predict(sums), *rule.margin(sums)])


def _hash_raw(network: Network, raw: IntArray, packed: bool) -> int:
    """Hash of the inputs of one raw row, as they lie in memory, and of all that follows from them."""
    rows = network.quantize(raw[None, :])
    return _hash(network, rows[0], _mixed(0, (pack_bits(rows) if packed else rows)[0]))
