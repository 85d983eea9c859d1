"""Constants as C writes them: tables, and columns that are a table or, where all entries agree, one literal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mip2mcu.ranges import INT32_MAX, INT32_MIN, IntArray

LINE_LENGTH = 100
TYPE_BYTES = {"uint8_t": 1, "int8_t": 1, "uint16_t": 2, "int16_t": 2, "uint32_t": 4, "int32_t": 4}

_SIGNED = (
    ("uint8_t", 0, 255),
    ("int8_t", -128, 127),
    ("int16_t", -(2**15), 2**15 - 1),
    ("int32_t", INT32_MIN, INT32_MAX),
)


def value_type(low: int, high: int, *, at_least_bits: int = 8) -> str | None:
    """The narrowest C type for values in [low, high] that take part in signed arithmetic; None beyond int32_t.

    uint8_t is allowed since it becomes a (signed) ``int`` on every core; wider unsigned types are not.
    """
    for name, least, most in _SIGNED:
        if TYPE_BYTES[name] * 8 >= at_least_bits and least <= low and high <= most:
            return name
    return None


def accumulator_type(low: int, high: int, *, int_bits: int) -> str | None:
    """The narrowest signed C type, at least ``int`` wide, for running sums in [low, high]; None beyond int32_t."""
    return value_type(low, high, at_least_bits=max(16, int_bits))


def count_type(high: int, *, int_bits: int) -> str:
    """The narrowest unsigned C type, at least ``int`` wide, that counts from 0 to ``high``."""
    return "uint16_t" if int_bits < 32 and high < 2**16 else "uint32_t"


def is_unsigned(c_type: str) -> bool:
    """True for the unsigned among the types of `TYPE_BYTES`."""
    return c_type.startswith("u")


def converted(operand: str, c_type: str, wanted: str) -> str:
    """C text of ``operand``, of type ``c_type``, for arithmetic in ``wanted``: a change of sign is said by a cast."""
    return operand if is_unsigned(c_type) == is_unsigned(wanted) else f"({wanted}){operand}"


SIGNED = {"int32_t": "signed_word", "int16_t": "signed_half"}
"""The function of ``templates/support/`` that converts a sum modulo a power of two, by the type of its result."""


def signed(c_type: str, sum_text: str) -> str:
    """C text of an unsigned sum modulo a power of two as the number of the signed ``c_type`` that it stands for."""
    return f"{SIGNED[c_type]}({sum_text})"


def literal(value: int) -> str:
    """A signed constant, in parentheses where it is negative."""
    if value == INT32_MIN:
        return "(-2147483647 - 1)"
    return f"({value})" if value < 0 else str(value)


@dataclass(frozen=True)
class Table:
    """A constant array in C. ``row`` values stand together: each multiple of it starts a new line (0: anywhere)."""

    name: str
    c_type: str
    values: tuple[int, ...]
    row: int = 0
    hexadecimal: bool = False
    comment: str = ""

    @property
    def entry_bytes(self) -> int:
        """Size of one entry."""
        return TYPE_BYTES[self.c_type]

    @property
    def bytes(self) -> int:
        """Size in flash."""
        return len(self.values) * self.entry_bytes

    @property
    def lines(self) -> tuple[str, ...]:
        """The initialiser, broken into lines."""
        row = self.row or len(self.values)
        lines = [line for start in range(0, len(self.values), row) for line in self._row_lines(start, start + row)]
        return (*(line + "," for line in lines[:-1]), lines[-1])

    def _row_lines(self, start: int, end: int) -> list[str]:
        texts = [self._entry(value) for value in self.values[start:end]]
        width = max(len(text) for text in texts) + 2
        per_line = max(1, LINE_LENGTH // width)
        return [", ".join(texts[i : i + per_line]) for i in range(0, len(texts), per_line)]

    def _entry(self, value: int) -> str:
        if self.hexadecimal:
            return f"0x{value:0{2 * TYPE_BYTES[self.c_type]}X}U"
        return "(-2147483647 - 1)" if value == INT32_MIN else str(value)


Column: TypeAlias = Table | str
"""One constant an index: a table, or a literal where all entries agree."""


def table(name: str, values: IntArray, *, row: int = 0, comment: str = "") -> Table:
    """A table of the narrowest type for signed arithmetic; the caller has checked that int32_t holds all values."""
    flat = tuple(int(v) for v in values.reshape(-1))
    c_type = value_type(min(flat), max(flat))
    assert c_type is not None
    return Table(name, c_type, flat, row, comment=comment)


def word_table(name: str, words: NDArray[np.uint32], *, row: int = 0, comment: str = "") -> Table:
    """A table of 32-bit words, in hexadecimal."""
    return Table(name, "uint32_t", tuple(int(w) for w in words.reshape(-1)), row, hexadecimal=True, comment=comment)


def column(name: str, values: IntArray, *, comment: str = "") -> Column:
    """A table of ``values`` (n,), or their literal where they are all equal."""
    if (values == values[0]).all():
        return literal(int(values[0]))
    return table(name, values, comment=comment)


def unsigned_column(name: str, values: IntArray, *, comment: str = "") -> Column:
    """As `column`, for values in 0..65535 that take part in unsigned arithmetic."""
    if (values == values[0]).all():
        return f"{int(values[0])}U"
    c_type = "uint8_t" if values.max() <= 255 else "uint16_t"
    return Table(name, c_type, tuple(int(v) for v in values), comment=comment)


def tables_in(*columns: Column | None) -> tuple[Table, ...]:
    """The tables among ``columns``, in order; None where a layer has no such column."""
    return tuple(entry for entry in columns if isinstance(entry, Table))
