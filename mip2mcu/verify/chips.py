"""AVR chips: unlike the boards of other cores, they are compiled for by name, and a model soon outgrows them."""

from __future__ import annotations

from pathlib import Path

from mip2mcu.errors import NoRoomError
from mip2mcu.export.literals import TYPE_BYTES
from mip2mcu.network import Network
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


def check_rows(network: Network, core: Core) -> None:
    """Raise `NoRoomError` where one row of ``network`` outgrows the largest chip, before a compiler refuses its arrays.

    That is the least that the harness keeps: a byte an input (one bit each beside it where they are packed), the raw
    features or the sums.
    """
    largest = core.roomy()
    assert largest.memory is not None
    quantizer = network.quantizer
    raw = 0 if quantizer is None else len(quantizer.features) * TYPE_BYTES[quantizer.raw_type]
    needs = max(network.inputs, raw, TYPE_BYTES["int32_t"] * network.layer_ranges[-1][0].size)
    has = largest.memory.ram.length
    if needs > has:
        raise NoRoomError(
            f"one row of the model takes at least {needs} bytes of RAM, {largest.simavr_mcu} has {has}: "
            "choose a larger target"
        )


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
