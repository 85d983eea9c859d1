"""The vectors of NAME_selftest: inputs that C and Python make alike, and one hash of everything that follows from them.

Vectors that begin with inputs come from seeds, see `mip2mcu.export.drawing`; where weights stand in code, they are
chosen by what they notice, see `mip2mcu.export.probing`. With a quantizer, further vectors begin with raw
features: signed numbers of any magnitude.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mip2mcu.export.drawing import PATTERN, START, STRIDE, Drawing, Vector, following
from mip2mcu.export.layouts import Encoding
from mip2mcu.export.literals import TYPE_BYTES, Column, Table, column, tables_in, unsigned_column, word_table
from mip2mcu.export.packing import WordArray, pack_bits
from mip2mcu.export.probing import Probes, choose
from mip2mcu.network import Network
from mip2mcu.ranges import BoolArray, IntArray

VECTORS = 8
RAW_VECTORS = 8
_MASK = 0xFFFFFFFF


@dataclass(frozen=True)
class SelftestProgram:
    """Numbers of ``templates/selftest.c.j2``.

    vectors      number of vectors that begin with inputs
    raw_vectors  number of vectors that begin with raw features, behind the others
    start/stride of the generator: it begins at start + seed * stride
    seeds        one a vector, or two where rows are mixed; None where they are 0, 1, 2, ...
    runs         first and end of the run of inputs that is of a vector's second seed; None where rows are not mixed
    patterns     a bit an input, set for its maximum, a row for each seed from PATTERN on; None where there are none
    low/span     of each input: the least value, and the number of values (unpacked inputs)
    fixed/free   bits that are always set, bits that may be set, a word each (packed inputs)
    raw_shift    what a random word is shifted by so that it fits the raw type
    raw_spread   mask of the further shift that varies its magnitude
    raw_signed   half of the raw values are negated
    pattern      the seed of the first pattern
    expected     the hash
    probes       how many changes of weights in code the vectors notice; None where all weights stand in tables
    """

    vectors: int
    raw_vectors: int
    start: int
    stride: int
    seeds: Table | None
    runs: Table | None
    patterns: Table | None
    low: Column
    span: Column
    fixed: Column
    free: Column
    raw_shift: int
    raw_spread: int
    raw_signed: bool
    pattern: int
    expected: int
    probes: Probes | None

    @property
    def tables(self) -> tuple[Table, ...]:
        """Tables in order of emission."""
        own = (table for table in (self.seeds, self.runs, self.patterns) if table is not None)
        return (*own, *tables_in(self.low, self.span, self.fixed, self.free))


def lower_selftest(network: Network, reads: Encoding, coded: Sequence[int] = ()) -> SelftestProgram:
    """The selftest of ``network`` whose inputs lie in memory as ``reads`` says and whose layers ``coded`` are code."""
    packed = reads is Encoding.BITS
    drawing = Drawing.of(network, packed)
    probes = choose(network, coded, drawing) if coded else None
    vectors = tuple(Vector(seed) for seed in range(VECTORS)) if probes is None else probes.vectors
    rows = drawing.rows(range(VECTORS)) if probes is None else drawing.vectors(vectors, probes.patterns)
    expected = 0
    for row in rows:
        expected = hash_of(network, row, expected)
    raw_type = "int32_t" if network.quantizer is None else network.quantizer.raw_type
    bits, raw_signed = 8 * TYPE_BYTES[raw_type], raw_type != "uint8_t"
    raw_shift, raw_spread = 32 - bits + int(raw_signed), bits - 1
    raws = [] if network.quantizer is None else _raw_rows(network, raw_shift, raw_spread, raw_signed)
    for raw in raws:
        expected = _hash_raw(network, raw, packed, expected)
    return SelftestProgram(
        vectors=len(vectors),
        raw_vectors=len(raws),
        start=START,
        stride=STRIDE,
        seeds=_seeds(vectors),
        runs=_runs(vectors),
        patterns=None if probes is None else _patterns(probes.patterns),
        low="0" if packed else _low_column(drawing.low, network),
        span="1U" if packed else _span_column(drawing.span),
        fixed=_word_column("selftest_fixed", drawing.fixed) if packed else "0U",
        free=_word_column("selftest_free", drawing.free) if packed else "0U",
        raw_shift=raw_shift,
        raw_spread=raw_spread,
        raw_signed=raw_signed,
        pattern=PATTERN,
        expected=expected,
        probes=probes,
    )


def _low_column(low: IntArray, network: Network) -> Column:
    """Of the sign of the inputs' C type."""
    is_byte = network.input_low.min() >= 0 and network.input_high.max() <= 255
    return (unsigned_column if is_byte else column)("selftest_low", low)


def _is_mixed(vectors: Sequence[Vector]) -> bool:
    return any(vector.end for vector in vectors)


def _seeds(vectors: Sequence[Vector]) -> Table | None:
    if _is_mixed(vectors):
        return Table("selftest_seeds", "uint8_t", tuple(seed for v in vectors for seed in (v.seed, v.other)))
    seeds = tuple(vector.seed for vector in vectors)
    return None if seeds == tuple(range(len(seeds))) else Table("selftest_seeds", "uint8_t", seeds)


def _runs(vectors: Sequence[Vector]) -> Table | None:
    places = tuple(place for vector in vectors for place in (vector.first, vector.end))
    return Table("selftest_runs", "uint16_t", places) if _is_mixed(vectors) else None


def _patterns(patterns: BoolArray) -> Table | None:
    if not patterns.size:
        return None
    rows = np.packbits(patterns, axis=1, bitorder="little")
    return Table("selftest_patterns", "uint8_t", tuple(rows.reshape(-1).tolist()), rows.shape[1], hexadecimal=True)


def _span_column(span: IntArray) -> Column:
    if (span == span[0]).all():
        return f"{int(span[0])}U"
    c_type = "uint8_t" if span.max() <= 255 else "uint16_t"
    return Table("selftest_span", c_type, tuple(int(v) for v in span))


def _word_column(name: str, words: WordArray) -> Column:
    if (words == words[0]).all():
        return f"0x{int(words[0]):08X}U"
    return word_table(name, words)


# ---- raw features --------------------------------------------------------------------------------------------------


def _states() -> Iterator[int]:
    state = np.array([START], dtype=np.uint32)
    while True:
        state = following(state)
        yield int(state[0])


def _raw_rows(network: Network, shift: int, spread: int, signed: bool) -> list[IntArray]:
    assert network.quantizer is not None
    states, count = _states(), len(network.quantizer.features)
    return [_raw_row(states, count, shift, spread, signed) for _ in range(RAW_VECTORS)]


def _raw_row(states: Iterator[int], count: int, shift: int, spread: int, signed: bool) -> IntArray:
    words = [next(states) for _ in range(count)]
    values = [(word >> shift) >> (word & spread) for word in words]
    return np.array([-v if signed and word & 0x100 else v for v, word in zip(values, words, strict=True)])


# ---- the hash ------------------------------------------------------------------------------------------------------


def _mixed(state: int, values: Iterable[int]) -> int:
    for value in values:
        rotated = ((state << 5) & _MASK) | (state >> 27)
        state = ((rotated ^ (int(value) & _MASK)) + STRIDE) & _MASK
    return state


def hash_of(network: Network, row: IntArray, state: int) -> int:
    """Hash of the sums, scores, class and margin of one input row, from ``state`` on."""
    sums = network.sums(row[None, :])
    rule = network.decision
    return _mixed(state, [*sums[0], *rule.scores(sums)[0], *rule.predict(sums), *rule.margin(sums)])


def _hash_raw(network: Network, raw: IntArray, packed: bool, state: int) -> int:
    """Hash of the inputs of one raw row, as they lie in memory, and of all that follows, from ``state`` on."""
    rows = network.quantize(raw[None, :])
    return hash_of(network, rows[0], _mixed(state, (pack_bits(rows) if packed else rows)[0]))
