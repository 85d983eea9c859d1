"""What an object file tells without running it: the stack that a function needs, and its size once linked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from elftools.elf.elffile import ELFFile

from mip2mcu.verify.toolchains import Toolchain

_ALLOC, _EXECUTE = 2, 4
_UNWINDING = (".ARM.ex", ".eh_frame")


def stack_bytes(path: Path, function: str) -> int:
    """Most stack of ``function`` and what it calls, by the compiler's figures; the compiler's helpers need none.

    ``path`` was compiled with ``-ffunction-sections -fstack-usage``, which wrote the figures beside it. A function's
    section refers to the sections of those that it calls (or might).
    """
    frames = _frames(path.with_suffix(".su"))
    with path.open("rb") as stream:
        elf = ELFFile(stream)
        symbols = elf.get_section_by_name(".symtab")
        callees = _callees(elf, symbols)
        names = {
            symbol["st_shndx"]: symbol.name
            for symbol in symbols.iter_symbols()
            if symbol["st_info"]["type"] == "STT_FUNC" and isinstance(symbol["st_shndx"], int)
        }

    def depth(section: int, above: frozenset[int]) -> int:
        if section in above:
            raise ValueError(f"{names[section]} in {path.name} calls itself")
        below = (depth(callee, above | {section}) for callee in callees.get(section, ()) if callee != section)
        return frames.get(names.get(section, ""), 0) + max(below, default=0)

    return depth(next(section for section, name in names.items() if name == function), frozenset())


def _frames(path: Path) -> dict[str, int]:
    """Bytes of stack of each function: lines such as ``model.c:12:13:model_predict	16	static``."""
    lines = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines())
    return {where.rsplit(":", 1)[1]: int(count) for where, count, _ in lines}


def _callees(elf: ELFFile, symbols) -> dict[int, set[int]]:
    """By section of code: the sections of code that its relocations name."""
    found: dict[int, set[int]] = {}
    for section in elf.iter_sections():
        if section["sh_type"] not in ("SHT_REL", "SHT_RELA"):
            continue
        homes = {symbols.get_symbol(entry["r_info_sym"])["st_shndx"] for entry in section.iter_relocations()}
        code = {home for home in homes if isinstance(home, int) and elf.get_section(home)["sh_flags"] & _EXECUTE}
        found.setdefault(section["sh_info"], set()).update(code)
    return found


def linked_bytes(
    path: Path, functions: Sequence[str], toolchain: Toolchain, flags: Sequence[str], libraries: Sequence[str]
) -> int:
    """Bytes of flash of ``functions`` and everything that they call, the libraries' share included."""
    keep = (f"-Wl,-e,{functions[0]}", *(f"-Wl,-u,{name}" for name in functions))
    output = path.with_suffix(".linked")
    links = ("-nostartfiles", "-nodefaultlibs", *keep, "-Wl,--gc-sections", "-Wl,--no-warnings")
    toolchain.compile([path], (*flags, *links, "-nostdlib", *libraries), output, path.parent)
    with output.open("rb") as stream:
        return sum(
            section["sh_size"]
            for section in ELFFile(stream).iter_sections()
            if section["sh_flags"] & _ALLOC
            and section["sh_type"] != "SHT_NOBITS"
            and not section.name.startswith(_UNWINDING)
        )
