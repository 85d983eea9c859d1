"""NAME_check: a CRC of the constant tables, with which a firmware notices that its flash has changed.

It is CRC-32 (IEEE 802.3: reflected polynomial 0xEDB88320, all ones before and inverted behind, as zlib's crc32). The
tables follow one another in the order of the file, each entry in two's complement with its least significant byte
first, whatever the byte order of the core; bytes that a linker puts between tables do not count, and neither do the
vectors of the selftest, which may be compiled out. Bit by bit and without a table of its own it is the smallest. Every
change of 32 neighbouring bits, and every change of 2 bits anywhere, is noticed.

Weights that stand in code (straight-line code, constants that all entries share) are covered by NAME_selftest.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mip2mcu.export.literals import TYPE_BYTES, Table, count_type
from mip2mcu.export.targets import Target


@dataclass(frozen=True)
class CheckProgram:
    """Numbers of ``templates/check.c.j2``.

    tables       what is read, in order
    crc          of their bytes
    count_type   C type of a number of bytes
    any_order    bytes of an entry are picked by the core's order, which the target leaves open
    """

    tables: tuple[Table, ...]
    crc: int
    count_type: str
    any_order: bool

    @property
    def bytes(self) -> int:
        """How many bytes are checked."""
        return sum(table.bytes for table in self.tables)


def lower_check(tables: Sequence[Table], target: Target) -> CheckProgram:
    """The check of ``tables`` on ``target``."""
    return CheckProgram(
        tables=tuple(tables),
        crc=zlib.crc32(b"".join(image(table) for table in tables)),
        count_type=count_type(max((table.bytes for table in tables), default=0), int_bits=target.int_bits),
        any_order=not target.little_endian and any(TYPE_BYTES[table.c_type] > 1 for table in tables),
    )


def image(table: Table) -> bytes:
    """The bytes of ``table`` on a core that stores the least significant byte first."""
    signs = "u" if table.c_type.startswith("u") else "i"
    return np.array(table.values, dtype=np.int64).astype(f"<{signs}{TYPE_BYTES[table.c_type]}").tobytes()
