"""AVR chips: unlike the boards of other cores, they are compiled for by name, and a model soon outgrows them."""

from __future__ import annotations

from pathlib import Path

from mip2mcu.verify.cores import AVR_DATA_SPACE, Core
from mip2mcu.verify.runners.image import read_image

CHIP_LINKS = (
    "-Wl,--gc-sections",
    "-Wl,--defsym=__TEXT_REGION_LENGTH__=0x100000",
    "-Wl,--defsym=__DATA_REGION_LENGTH__=0xf000",
)
"""Linker flags: more memory than any chip has, so that `shortage` tells what is missing, and not the linker."""
_HARNESS_STACK = 80
"""What the harness and library functions use beside the model."""


def chip_flags(flags: tuple[str, ...], core: Core) -> tuple[str, ...]:
    """``flags`` that choose a core, with the chip that is simulated in place of the target's."""
    return tuple(f"-mmcu={core.simavr_mcu}" if flag.startswith("-mmcu=") else flag for flag in flags)


def shortage(program: Path, core: Core, stack: int) -> str | None:
    """Why ``program``, whose model uses at most ``stack`` bytes of stack, does not fit the chip; None where it fits."""
    assert core.memory is not None
    image = read_image(program)
    flash = max(address + len(data) for address, data in image.segments)
    ram = image.symbols["_end"] - AVR_DATA_SPACE - core.memory.ram.origin + stack + _HARNESS_STACK
    needs, has = (flash, ram), (core.memory.flash.length, core.memory.ram.length)
    if needs[0] <= has[0] and needs[1] <= has[1]:
        return None
    return (
        f"the model with its test harness needs {needs[0]} bytes of flash and {needs[1]} bytes of RAM with its stack, "
        f"{core.simavr_mcu} has {has[0]} and {has[1]}"
    )
