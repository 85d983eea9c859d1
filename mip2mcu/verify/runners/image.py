"""A linked program as an emulator loads it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from types import MappingProxyType

from mip2mcu.errors import ToolMissingError


@dataclass(frozen=True)
class Image:
    """Bytes to load at physical addresses, the entry point and the symbols."""

    segments: tuple[tuple[int, bytes], ...]
    entry: int
    symbols: Mapping[str, int]


def check_reader() -> None:
    """Raise `ToolMissingError` without pyelftools, which every emulated core needs: programs are read and checked."""
    if importlib.util.find_spec("elftools") is None:
        raise ToolMissingError("emulating a core needs pyelftools, not installed: run `pip install pyelftools`")


def read_image(program: Path) -> Image:
    """The loadable segments, entry point and symbol addresses of an ELF file.

    Raises `ToolMissingError` without pyelftools.
    """
    check_reader()
    return _image(program.read_bytes())


@lru_cache(maxsize=4)
def _image(content: bytes) -> Image:
    """Of the same bytes only once: the same program runs a dozen times, and its symbols take long to read."""
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415  (an optional dependency)

    elf = ELFFile(BytesIO(content))
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
