"""A linked program as an emulator loads it."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from mip2mcu.errors import ToolMissingError


@dataclass(frozen=True)
class Image:
    """Bytes to load at physical addresses, the entry point and the symbols."""

    segments: tuple[tuple[int, bytes], ...]
    entry: int
    symbols: dict[str, int]


def check_reader() -> None:
    """Raise `ToolMissingError` without pyelftools, which every emulated core needs: programs are read and checked."""
    if importlib.util.find_spec("elftools") is None:
        raise ToolMissingError("emulating a core needs pyelftools, not installed: run `pip install pyelftools`")


def read_image(program: Path) -> Image:
    """The loadable segments, entry point and symbol addresses of an ELF file.

    Raises `ToolMissingError` without pyelftools.
    """
    check_reader()
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415  (an optional dependency)

    with program.open("rb") as stream:
        elf = ELFFile(stream)
        loaded = tuple(
            (segment["p_paddr"], segment.data())
            for segment in elf.iter_segments()
            if segment["p_type"] == "PT_LOAD" and segment["p_filesz"] > 0
        )
        symbols = {
            symbol.name: symbol["st_value"]
            for section in elf.iter_sections()
            if section["sh_type"] == "SHT_SYMTAB"
            for symbol in section.iter_symbols()
            if symbol.name
        }
        return Image(loaded, elf.header["e_entry"], symbols)
