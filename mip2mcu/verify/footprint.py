"""Flash and RAM of a compiled model, read from its object file.

The object is compiled with one section a function and a table (``-ffunction-sections -fdata-sections``), so a linker
with ``--gc-sections`` keeps exactly the sections that the called functions reach through relocations. `measure` walks
the same graph, which gives the bytes that the model adds to a firmware that calls these functions and no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mip2mcu.verify.elf import can_read, opened

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
    found = measure_each(object_file, [roots])
    return None if found is None else found[0]


def measure_each(object_file: Path, groups: Iterable[Iterable[str] | None]) -> list[Footprint] | None:
    """As `measure` of each group of functions; the object is read once."""
    content = _read(object_file) if can_read() else None
    return None if content is None else [_footprint(content, roots) for roots in groups]


@dataclass(frozen=True)
class _Symbol:
    """``home`` is the index of its section, or a word such as SHN_UNDEF."""

    name: str
    home: int | str
    kind: str
    size: int


@dataclass(frozen=True)
class _Section:
    name: str
    kind: str
    flags: int
    alignment: int
    size: int


@dataclass(frozen=True)
class _Object:
    """What an object file holds; ``edges`` are the symbols that each section refers to, by index."""

    symbols: tuple[_Symbol, ...]
    sections: tuple[_Section, ...]
    edges: Mapping[int, frozenset[int]]


def _read(object_file: Path) -> _Object | None:
    content = object_file.read_bytes()
    if content[:4] != b"\x7fELF":
        return None
    with opened(content, object_file.name) as elf:
        sections: list[_Section] = []
        edges: dict[int, frozenset[int]] = {}
        for section in elf.iter_sections():
            fields = ("sh_type", "sh_flags", "sh_addralign", "sh_size")
            sections.append(_Section(section.name, *(section[name] for name in fields)))
            if section["sh_type"] in ("SHT_REL", "SHT_RELA"):
                targets = {relocation["r_info_sym"] for relocation in section.iter_relocations()}
                edges[section["sh_info"]] = edges.get(section["sh_info"], frozenset()) | targets
        symbols = tuple(
            _Symbol(symbol.name, symbol["st_shndx"], symbol["st_info"]["type"], symbol["st_size"])
            for symbol in elf.get_section_by_name(".symtab").iter_symbols()
        )
    return _Object(symbols, tuple(sections), edges)


def _footprint(content: _Object, roots: Iterable[str] | None) -> Footprint:
    reached, undefined = _reach(content, _defined(content) if roots is None else roots)
    sizes = {"code": 0, "constants": 0, "data": 0, "bss": 0}
    for index in sorted(reached):
        _add_aligned(sizes, content.sections[index])
    named = {kind: _sizes_of(content, reached, f"STT_{kind}") for kind in ("FUNC", "OBJECT")}
    return Footprint(
        **sizes, library_calls=tuple(sorted(undefined)), functions=named["FUNC"], objects=named["OBJECT"]
    )


def _reach(content: _Object, roots: Iterable[str]) -> tuple[set[int], set[str]]:
    """Indices of the sections that ``roots`` reach, and the names of the undefined symbols on the way."""
    wanted = frozenset(roots)
    waiting = {k for k, symbol in enumerate(content.symbols) if symbol.name in wanted}
    reached: set[int] = set()
    undefined: set[str] = set()
    while waiting:
        symbol = content.symbols[waiting.pop()]
        if symbol.home == "SHN_UNDEF" and symbol.name:
            undefined.add(symbol.name)
        elif isinstance(symbol.home, int) and symbol.home not in reached:
            reached.add(symbol.home)
            waiting |= content.edges.get(symbol.home, frozenset())
    return reached, undefined


def _sizes_of(content: _Object, reached: set[int], kind: str) -> dict[str, int]:
    """Bytes of each symbol of that kind in the sections ``reached``, by name."""
    found = (symbol for symbol in content.symbols if symbol.kind == kind and symbol.home in reached)
    return dict(sorted((symbol.name, symbol.size) for symbol in found))


def _defined(content: _Object) -> list[str]:
    return [symbol.name for symbol in content.symbols if isinstance(symbol.home, int) and symbol.name]


def _add_aligned(sizes: dict[str, int], section: _Section) -> None:
    if not section.flags & _ALLOC or section.name.startswith(_UNWINDING):
        return
    if section.flags & _EXECUTE:
        kind = "code"
    elif not section.flags & _WRITE:
        kind = "constants"
    else:
        kind = "bss" if section.kind == "SHT_NOBITS" else "data"
    alignment = max(1, section.alignment)
    sizes[kind] = -(-sizes[kind] // alignment) * alignment + section.size
