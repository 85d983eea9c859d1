"""Flash and RAM of a compiled model, read from its object file.

The object is compiled with one section a function and a table (``-ffunction-sections -fdata-sections``), so a linker
with ``--gc-sections`` keeps exactly the sections that the called functions reach through relocations. `measure` walks
the same graph, which gives the bytes that the model adds to a firmware that calls these functions and no others.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile
    from elftools.elf.sections import Section, SymbolTableSection

_WRITE, _ALLOC, _EXECUTE = 1, 2, 4
_UNWINDING = (".ARM.ex", ".eh_frame", ".rel.eh", ".rela.eh")


@dataclass(frozen=True)
class Footprint:
    """Bytes by section, and what the compiler expects from outside.

    code, constants    executed from and read from flash
    data               initialised variables: flash and RAM
    bss                zeroed variables: RAM
    library_calls      functions of the compiler's or C's library that the model calls, not counted in ``code``
    functions          bytes of each function in ``code``, as they stand in the object file
    objects            the same of each table and variable
    """

    code: int
    constants: int
    data: int
    bss: int
    library_calls: tuple[str, ...]
    functions: Mapping[str, int] = field(default_factory=dict)
    objects: Mapping[str, int] = field(default_factory=dict)

    @property
    def flash(self) -> int:
        """Bytes of flash."""
        return self.code + self.constants + self.data

    @property
    def ram(self) -> int:
        """Bytes of static RAM (the stack is not among them)."""
        return self.data + self.bss


def measure(object_file: Path, roots: Iterable[str] | None = None) -> Footprint | None:
    """Footprint of the functions ``roots`` and all that they reach; without ``roots``, of the whole object.

    None where the object is no ELF file (hosts other than Linux) or pyelftools is not installed.
    """
    if importlib.util.find_spec("elftools") is None:
        return None
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415  (an optional dependency)

    with object_file.open("rb") as stream:
        if stream.read(4) != b"\x7fELF":
            return None
        elf = ELFFile(stream)
        symbols = elf.get_section_by_name(".symtab")
        reached, undefined = _reach(elf, symbols, _defined(symbols) if roots is None else roots)
        sizes = {"code": 0, "constants": 0, "data": 0, "bss": 0}
        for index in sorted(reached):
            _add_aligned(sizes, elf.get_section(index))
        named = {kind: _sizes_of(symbols, reached, f"STT_{kind}") for kind in ("FUNC", "OBJECT")}
    return Footprint(
        **sizes, library_calls=tuple(sorted(undefined)), functions=named["FUNC"], objects=named["OBJECT"]
    )


def _reach(elf: ELFFile, symbols: SymbolTableSection, roots: Iterable[str]) -> tuple[set[int], set[str]]:
    """Indices of the sections that ``roots`` reach, and the names of the undefined symbols on the way."""
    edges: dict[int, set[int]] = {}
    for section in elf.iter_sections():
        if section["sh_type"] in ("SHT_REL", "SHT_RELA"):
            targets = {relocation["r_info_sym"] for relocation in section.iter_relocations()}
            edges.setdefault(section["sh_info"], set()).update(targets)
    wanted = frozenset(roots)
    waiting = {k for k, symbol in enumerate(symbols.iter_symbols()) if symbol.name in wanted}
    reached: set[int] = set()
    undefined: set[str] = set()
    while waiting:
        symbol = symbols.get_symbol(waiting.pop())
        home = symbol["st_shndx"]
        if home == "SHN_UNDEF" and symbol.name:
            undefined.add(symbol.name)
        elif isinstance(home, int) and home not in reached:
            reached.add(home)
            waiting |= edges.get(home, set())
    return reached, undefined


def _sizes_of(symbols: SymbolTableSection, reached: set[int], kind: str) -> dict[str, int]:
    """Bytes of each symbol of that kind in the sections ``reached``, by name."""
    found = (s for s in symbols.iter_symbols() if s["st_info"]["type"] == kind and s["st_shndx"] in reached)
    return dict(sorted((symbol.name, symbol["st_size"]) for symbol in found))


def _defined(symbols: SymbolTableSection) -> list[str]:
    return [symbol.name for symbol in symbols.iter_symbols() if isinstance(symbol["st_shndx"], int) and symbol.name]


def _add_aligned(sizes: dict[str, int], section: Section) -> None:
    flags = section["sh_flags"]
    if not flags & _ALLOC or section.name.startswith(_UNWINDING):
        return
    if flags & _EXECUTE:
        kind = "code"
    elif not flags & _WRITE:
        kind = "constants"
    else:
        kind = "bss" if section["sh_type"] == "SHT_NOBITS" else "data"
    alignment = max(1, section["sh_addralign"])
    sizes[kind] = -(-sizes[kind] // alignment) * alignment + section["sh_size"]
