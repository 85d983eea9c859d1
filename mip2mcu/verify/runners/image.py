"""A linked program as an emulator loads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from mip2mcu.errors import ToolMissingError
from mip2mcu.verify.elf import can_read, opened


@dataclass(frozen=True)
class Image:
    """Bytes to load at physical addresses, the entry point and the symbols."""

    segments: tuple[tuple[int, bytes], ...]
    entry: int
    symbols: Mapping[str, int]


def check_reader() -> None:
    """Raise `ToolMissingError` without pyelftools, which every emulated core needs: programs are read and checked."""
    if not can_read():
        raise ToolMissingError("emulating a core needs pyelftools, not installed: run `pip install pyelftools`")


def read_image(program: Path) -> Image:
    """The loadable segments, entry point and symbol addresses of an ELF file.

    Raises `ToolMissingError` without pyelftools.
    """
    check_reader()
    return _image(program.read_bytes(), program.name)


@lru_cache(maxsize=4)
def _image(content: bytes, name: str) -> Image:
    """Of the same bytes only once: the same program runs a dozen times, and its symbols take long to read."""
    with opened(content, name) as elf:
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
        return Image(loaded, elf.header["e_entry"], MappingProxyType(symbols))
