"""Opens what a compiler wrote: object files and linked programs."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING

from mip2mcu.errors import VerifyError

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile


def can_read() -> bool:
    """Whether pyelftools is installed."""
    return importlib.util.find_spec("elftools") is not None


@contextmanager
def opened(content: bytes, name: str) -> Iterator[ELFFile]:
    """The ELF file ``content``, for one ``with``; pyelftools must be there, see `can_read`.

    Raises `VerifyError`, which calls the file ``name``, where it is damaged and where it has no symbols.
    """
    from elftools.common.exceptions import ELFError  # noqa: PLC0415  (an optional dependency)
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415

    try:
        elf = ELFFile(BytesIO(content))
        if elf.get_section_by_name(".symtab") is None:
            raise VerifyError(f"{name} has no symbols: let the compiler keep them")
        yield elf
    except ELFError as error:
        raise VerifyError(f"{name} is no whole ELF file ({error}): look at what calls the compiler") from None
