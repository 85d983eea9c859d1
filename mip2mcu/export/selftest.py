"""The vectors of NAME_selftest: inputs that C and Python make alike, and one hash of everything that follows from them.

Vectors that begin with inputs come from seeds, see `mip2mcu.export.drawing`. With a quantizer, further vectors begin
with raw features: signed numbers of any magnitude. A layer whose weights stand in code has vectors of its own, which
are chosen by what they notice, see `mip2mcu.export.probing`: the function that computes it, the one that inference
calls, is called with them alone, and all its outputs enter the hash. A network of a single layer needs none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mip2mcu.export.drawing import PATTERN, START, STRIDE, Drawing, Vector, following
from mip2mcu.export.layouts import Encoding
from mip2mcu.export.literals import (
    TYPE_BYTES,
    Column,
    Table,
    column,
    is_unsigned,
    tables_in,
    unsigned_column,
    value_type,
    word_table,
)
from mip2mcu.export.packing import WordArray, pack_bits
from mip2mcu.export.probing import Probes, choose, measure
from mip2mcu.layers import Dense
from mip2mcu.network import Network
from mip2mcu.ranges import BoolArray, IntArray

VECTORS = 8
RAW_VECTORS = 8
_MASK = 0xFFFFFFFF


@dataclass(frozen=True)
class Drawn:
    """An array that C draws from a seed.

    low/span     of each element: the least value, and the number of values (unless packed)
    fixed/free   bits that are always set, bits that may be set, a word each (packed)
    patterns     a bit an element, set for its maximum, a row for each seed from PATTERN on; None where there are none
    mixes        it may be told to draw the first few only
    """

    low: Column
    span: Column
    fixed: Column
    free: Column
    patterns: Table | None
    mixes: bool

    @property
    def tables(self) -> tuple[Table, ...]:
        """Tables in order of emission."""
        return (*_given(self.patterns), *tables_in(self.low, self.span, self.fixed, self.free))


@dataclass(frozen=True)
class LayerTest:
    """A layer whose weights are code, run by itself.

    position   in the program's layers
    vectors    number of them
    seeds      one a vector, or two where rows are mixed
    taken      how many inputs are of a vector's second seed, the first ones; None where rows are not mixed
    kept       how many of these are of its first seed again; None where there are none
    drawn      what the layer reads; None for the first layer, which reads the network's inputs
    """

    position: int
    vectors: int
    seeds: Table
    taken: Table | None
    kept: Table | None
    drawn: Drawn | None

    @property
    def tables(self) -> tuple[Table, ...]:
        """Tables in order of emission."""
        return (self.seeds, *_given(self.taken), *_given(self.kept), *(() if self.drawn is None else self.drawn.tables))


def _given(table: Table | None) -> tuple[Table, ...]:
    return () if table is None else (table,)


@dataclass(frozen=True)
class SelftestProgram:
    """Numbers of ``templates/selftest.c.j2``.

    vectors      number of vectors that begin with inputs; their seeds are 0, 1, 2, ...
    raw_vectors  number of vectors that begin with raw features, behind the others
    inputs       how the network's inputs are drawn
    layers       layers that are run by themselves
    start/stride of the generator: it begins at start + seed * stride
    raw_shift    what a random word is shifted by so that it fits the raw type
    raw_spread   mask of the further shift that varies its magnitude
    raw_signed   half of the raw values are negated
    pattern      the seed of the first pattern
    expected     the hash
    probes       of each layer in code, by its index: how many changes of its weights the vectors notice
    """

    vectors: int
    raw_vectors: int
    inputs: Drawn
    layers: tuple[LayerTest, ...]
    start: int
    stride: int
    raw_shift: int
    raw_spread: int
    raw_signed: bool
    pattern: int
    expected: int
    probes: Mapping[int, Probes]

    @property
    def tables(self) -> tuple[Table, ...]:
        """Tables in order of emission."""
        return (*self.inputs.tables, *(table for test in self.layers for table in test.tables))


@dataclass(frozen=True)
class Coded:
    """A layer whose weights are code.

    index      in the network
    position   in the program's layers
    reads      C type of its inputs
    writes     how its outputs lie in memory
    """

    index: int
    position: int
    reads: str
    writes: Encoding


def lower_selftest(network: Network, reads: Encoding, coded: Sequence[Coded] = ()) -> SelftestProgram:
    """The selftest of ``network`` whose inputs lie in memory as ``reads`` says and whose layers ``coded`` are code."""
    packed = reads is Encoding.BITS
    drawing = Drawing.of(network.input_low, network.input_high, packed)
    expected = 0
    for row in drawing.rows(range(VECTORS)):
        expected = hash_of(network, row, expected)
    raw_type = "int32_t" if network.quantizer is None else network.quantizer.raw_type
    bits, raw_signed = 8 * TYPE_BYTES[raw_type], raw_type != "uint8_t"
    raw_shift, raw_spread = 32 - bits + int(raw_signed), bits - 1
    raws = [] if network.quantizer is None else _raw_rows(network, raw_shift, raw_spread, raw_signed)
    for raw in raws:
        expected = _hash_raw(network, raw, packed, expected)
    probes = {one.index: probes_of(network, one.index) for one in coded}
    own = coded if len(network.layers) > 1 else ()
    for one in own:
        expected = hash_of_layer(network, one, probes[one.index], expected)
    first = probes[0] if own and own[0].index == 0 else None
    return SelftestProgram(
        vectors=VECTORS,
        raw_vectors=len(raws),
        inputs=_drawn("selftest", drawing, _value_type(drawing), first),
        layers=tuple(_layer_test(network, one, probes[one.index]) for one in own),
        start=START,
        stride=STRIDE,
        raw_shift=raw_shift,
        raw_spread=raw_spread,
        raw_signed=raw_signed,
        pattern=PATTERN,
        expected=expected,
        probes=probes,
    )


# ---- layers in code ------------------------------------------------------------------------------------------------


def _coded_layer(network: Network, k: int) -> tuple[Dense, Drawing]:
    layer = network.layers[k]
    assert isinstance(layer, Dense)
    low, high = (end.reshape(-1) for end in network.layer_ranges[k])
    return layer, Drawing.of(low, high)


def probes_of(network: Network, k: int) -> Probes:
    """The vectors of layer ``k``, which stands in code, by itself; those of the network where it is the only layer."""
    layer, drawing = _coded_layer(network, k)
    if len(network.layers) == 1:
        return measure(layer, drawing, [Vector(seed) for seed in range(VECTORS)])
    return choose(layer, drawing)


def hash_of_layer(network: Network, coded: Coded, probes: Probes, state: int) -> int:
    """Hash of the outputs, as they lie in memory, of a layer for vectors of its own, from ``state`` on."""
    layer, drawing = _coded_layer(network, coded.index)
    outputs = layer.forward(drawing.vectors(probes.vectors, probes.patterns))
    written = pack_bits((outputs > 0).astype(np.int64)) if coded.writes is Encoding.BITS else outputs
    return _mixed(state, written.reshape(-1).tolist())


def _layer_test(network: Network, coded: Coded, probes: Probes) -> LayerTest:
    name, vectors = f"selftest_layer{coded.index}", probes.vectors
    _, drawing = _coded_layer(network, coded.index)
    return LayerTest(
        position=coded.position,
        vectors=len(vectors),
        seeds=_seeds(name, vectors),
        taken=_numbers(f"{name}_taken", [vector.taken for vector in vectors]),
        kept=_numbers(f"{name}_kept", [vector.kept for vector in vectors]),
        drawn=None if coded.index == 0 else _drawn(name, drawing, coded.reads, probes),
    )


def _is_mixed(vectors: Sequence[Vector]) -> bool:
    return any(vector.taken for vector in vectors)


def _seeds(name: str, vectors: Sequence[Vector]) -> Table:
    seeds = [(v.seed, v.other) if _is_mixed(vectors) else (v.seed,) for v in vectors]
    return Table(f"{name}_seeds", "uint8_t", tuple(seed for pair in seeds for seed in pair))


def _numbers(name: str, numbers: Sequence[int]) -> Table | None:
    if not any(numbers):
        return None
    return Table(name, "uint8_t" if max(numbers) <= 255 else "uint16_t", tuple(numbers))


# ---- what is drawn -------------------------------------------------------------------------------------------------


def _value_type(drawing: Drawing) -> str:
    c_type = value_type(int(drawing.low.min()), int(drawing.high.max()))
    assert c_type is not None
    return c_type


def _drawn(name: str, drawing: Drawing, c_type: str, probes: Probes | None) -> Drawn:
    """How an array of ``c_type`` is drawn, for the vectors of ``probes`` if any."""
    packed, low_column = drawing.packed, unsigned_column if is_unsigned(c_type) else column
    return Drawn(
        low="0" if packed else low_column(f"{name}_low", drawing.low),
        span="1U" if packed else _span_column(f"{name}_span", drawing.span),
        fixed=_word_column(f"{name}_fixed", drawing.fixed) if packed else "0U",
        free=_word_column(f"{name}_free", drawing.free) if packed else "0U",
        patterns=None if probes is None else _patterns(f"{name}_patterns", probes.patterns),
        mixes=probes is not None and _is_mixed(probes.vectors),
    )


def _patterns(name: str, patterns: BoolArray) -> Table | None:
    if not patterns.size:
        return None
    rows = np.packbits(patterns, axis=1, bitorder="little")
    return Table(name, "uint8_t", tuple(rows.reshape(-1).tolist()), rows.shape[1], hexadecimal=True)


def _span_column(name: str, span: IntArray) -> Column:
    if (span == span[0]).all():
        return f"{int(span[0])}U"
    c_type = "uint8_t" if span.max() <= 255 else "uint16_t"
    return Table(name, c_type, tuple(int(v) for v in span))


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
