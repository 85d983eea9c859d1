"""How generated C reads its constant tables: as arrays, or on AVR through the readers of <avr/pgmspace.h>.

On AVR, flash has an address space of its own. A table is marked PROGMEM, or start-up code would copy it to RAM, and the
instruction LPM reads it; a pointer to it says nothing about that, so every read must go through here.
"""

from __future__ import annotations

from dataclasses import dataclass

from mip2mcu.export.literals import TYPE_BYTES, Column, Table, converted
from mip2mcu.export.targets import Target

_READERS = {1: "pgm_read_byte", 2: "pgm_read_word", 4: "pgm_read_dword"}
_ADVANCING = {"uint8_t": "next_byte", "uint16_t": "next_word"}
"""Readers that also move the pointer, in ``templates/support/``: LPM with Z+, which the compiler does not find."""


def fetch_supports(target: Target, *tables: Table) -> tuple[str, ...]:
    """The partials of ``templates/support/`` that reading ``tables`` through `FlashReader.fetch` needs."""
    needed = [_ADVANCING[table.c_type] for table in tables if target.has_progmem and table.c_type in _ADVANCING]
    return tuple(dict.fromkeys(needed))


@dataclass(frozen=True)
class FlashReader:
    """Prints definitions and reads of tables; ``progmem`` as in `Target.has_progmem`."""

    progmem: bool

    @property
    def attribute(self) -> str:
        """What stands behind the name of a table in its definition."""
        return " PROGMEM" if self.progmem else ""

    def flash(self, table: Table, element: str) -> str:
        """C text that reads ``element`` (an lvalue in ``table``) from flash."""
        if not self.progmem:
            return element
        address = element[1:] if element.startswith("*") else f"&{element}"
        read = f"{_READERS[TYPE_BYTES[table.c_type]]}({address})"
        return read if table.c_type.startswith("u") else f"({table.c_type}){read}"

    @property
    def byte_pointer(self) -> str:
        """C type of a pointer to the bytes of a table that are to be read from memory in any case."""
        return "const uint8_t *" if self.progmem else "const volatile uint8_t *"

    def read_byte(self, element: str) -> str:
        """C text that reads ``element`` behind a `byte_pointer`."""
        return f"{_READERS[1]}(&{element})" if self.progmem else element

    def pick(self, column: Column, index: str, wanted: str = "") -> str:
        """C text of a column's entry ``index``, for arithmetic in the type ``wanted`` where one is given."""
        if not isinstance(column, Table):
            return column
        element = self.flash(column, f"{column.name}[{index}]")
        return converted(element, column.c_type, wanted or column.c_type)

    def fetch(self, table: Table, pointer: str, offset: int) -> str:
        """C text that reads the entry ``offset`` behind ``pointer``; offsets ascend one by one up to a `skip`."""
        if self._advances(table):
            return f"{_ADVANCING[table.c_type]}(&{pointer})"
        return self.flash(table, f"{pointer}[{offset}]")

    def skip(self, table: Table, pointer: str, count: int) -> str:
        """The statement that moves ``pointer`` behind ``count`` entries that were read; empty if `fetch` moves it."""
        if self._advances(table):
            return ""
        return f"{pointer}++;" if count == 1 else f"{pointer} = &{pointer}[{count}];"

    def _advances(self, table: Table) -> bool:
        return self.progmem and table.c_type in _ADVANCING
