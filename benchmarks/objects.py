"""The size of functions once linked: with everything that they call, the compiler's and C's libraries included."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from elftools.elf.elffile import ELFFile

from mip2mcu.verify.toolchains import Toolchain

_ALLOC = 2
_UNWINDING = (".ARM.ex", ".eh_frame")


def linked_bytes(
    objects: Sequence[Path], functions: Sequence[str], toolchain: Toolchain, flags: Sequence[str]
) -> int:
    """Bytes of flash of ``functions`` and everything that they call, the libraries' share included."""
    keep = (f"-Wl,-e,{functions[0]}", *(f"-Wl,-u,{name}" for name in functions))
    output = objects[0].with_suffix(".linked")
    links = ("-nostdlib", *keep, "-Wl,--gc-sections")
    toolchain.compile(objects, (*flags, *links), output, objects[0].parent)
    with output.open("rb") as stream:
        return sum(
            section["sh_size"]
            for section in ELFFile(stream).iter_sections()
            if section["sh_flags"] & _ALLOC
            and section["sh_type"] != "SHT_NOBITS"
            and not section.name.startswith(_UNWINDING)
        )
