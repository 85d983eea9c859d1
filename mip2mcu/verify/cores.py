"""The processor cores that verification runs C on: where their memory lies and which emulators model them.

How a compiler is told about a core stands in `mip2mcu.export.targets`; here is what it takes to run the result. To
add a core, add a row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mip2mcu.errors import UsageError
from mip2mcu.export.targets import Target

KIB = 1024
MIB = 1024 * KIB
AVR_DATA_SPACE = 0x80_0000
"""What AVR's linker adds to data addresses, to tell them from those of the flash."""


@dataclass(frozen=True)
class Region:
    """A range of addresses: origin and length in bytes, multiples of 4096 where unicorn maps them (in whole pages)."""

    origin: int
    length: int


@dataclass(frozen=True)
class Memory:
    """Flash and RAM of a simulated board; ``vectors``, where the processor begins if that is not in the flash."""

    flash: Region
    ram: Region
    vectors: Region | None = None

    @property
    def linker_script(self) -> str:
        """The text of memory.ld."""
        regions = [("FLASH", "rx", self.flash), ("RAM", "rwx", self.ram)]
        if self.vectors is not None:
            regions.append(("VECTORS", "rx", self.vectors))
        lines = [f"    {name} ({use}) : ORIGIN = {r.origin:#010x}, LENGTH = {r.length:#x}" for name, use, r in regions]
        alias = ['REGION_ALIAS("VECTORS", FLASH)'] if self.vectors is None else []
        return "\n".join(["MEMORY", "{", *lines, "}", *alias, ""])


@dataclass(frozen=True)
class Core:
    """One instruction set with its memory.

    folder          under firmware/: its start-up code, linker script or platform
    entry           symbol at which the linked program begins
    memory          of the simulated board; None on the host
    unicorn_model   name of unicorn's CPU constant; None where unicorn does not model the core
    qemu_machine    name of QEMU's board; None where there is none
    is_armv6m       has Armv6-M's instructions only, which emulators do not check completely
    is_rv32e        has 16 registers and no multiplier, which emulators do not check either
    qemu_cpu        QEMU's name of the core, where it is not the board's own
    simavr_mcu      simavr's (and avr-gcc's) name of the chip; None where the core is no AVR
    more_memory     of the same board, slower on a real one, for what outgrows ``memory``; None where it has no more
    """

    name: str
    folder: str
    entry: str = ""
    memory: Memory | None = None
    unicorn_model: str | None = None
    qemu_machine: str | None = None
    is_armv6m: bool = False
    is_rv32e: bool = False
    qemu_cpu: str | None = None
    simavr_mcu: str | None = None
    more_memory: Memory | None = None

    def roomy(self) -> Core:
        """The same core with more memory, for models that outgrow the board's: on AVR the largest chip that simavr has,
        on others the board's slower memory, else 16 MB of flash and of RAM, on no real board.
        """
        assert self.memory is not None, "the host has no memory map"
        if self.simavr_mcu is not None:
            return replace(self, memory=_ATMEGA2560, simavr_mcu="atmega2560")
        if self.more_memory is not None:
            return replace(self, memory=self.more_memory)
        flash, ram = (replace(region, length=16 * MIB) for region in (self.memory.flash, self.memory.ram))
        return replace(self, memory=Memory(flash, ram), qemu_machine=None)


_MICROBIT = Memory(Region(0x0000_0000, 256 * KIB), Region(0x2000_0000, 16 * KIB))
_MPS2 = Memory(Region(0x0000_0000, 4 * MIB), Region(0x2000_0000, 4 * MIB))
_MPS2_M33 = Memory(Region(0x1000_0000, 4 * MIB), Region(0x3800_0000, 4 * MIB))
_MPS3_M55 = Memory(Region(0x0000_0000, 512 * KIB), Region(0x3000_0000, 512 * KIB))
_MPS3_M55_OUTSIDE = Memory(Region(0x3800_0000, 8 * MIB), Region(0x7000_0000, 16 * MIB), Region(0x0000_0000, 512 * KIB))
"""The same board's QSPI flash and DDR memory."""
_RISCV_VIRT = Memory(Region(0x8000_0000, 16 * MIB), Region(0x8100_0000, 16 * MIB))
_ATMEGA328P = Memory(Region(0, 32 * KIB), Region(0x100, 2 * KIB))
_ATMEGA2560 = Memory(Region(0, 256 * KIB), Region(0x200, 8 * KIB))

_NO_EXTENSIONS = "a=false,f=false,d=false"
_RV32E = f"rv32,i=false,e=true,h=false,m=false,{_NO_EXTENSIONS}"

CORES: dict[str, Core] = {
    core.name: core
    for core in (
        Core("host", "host"),
        Core("cortex-m0", "cortex-m", "reset_handler", _MICROBIT, "UC_CPU_ARM_CORTEX_M0", "microbit", True),
        Core("cortex-m3", "cortex-m", "reset_handler", _MPS2, "UC_CPU_ARM_CORTEX_M3", "mps2-an385"),
        Core("cortex-m4", "cortex-m", "reset_handler", _MPS2, "UC_CPU_ARM_CORTEX_M4", "mps2-an386"),
        Core("cortex-m7", "cortex-m", "reset_handler", _MPS2, "UC_CPU_ARM_CORTEX_M7", "mps2-an500"),
        Core("cortex-m33", "cortex-m", "reset_handler", _MPS2_M33, "UC_CPU_ARM_CORTEX_M33", "mps2-an505"),
        Core(
            "cortex-m55", "cortex-m", "reset_handler", _MPS3_M55, None, "mps3-an547", more_memory=_MPS3_M55_OUTSIDE
        ),
        Core("avr", "avr", memory=_ATMEGA328P, simavr_mcu="atmega328p"),
        Core(
            "rv32imc", "riscv", "start", _RISCV_VIRT, "UC_CPU_RISCV32_ANY", "virt", qemu_cpu=f"rv32,{_NO_EXTENSIONS}"
        ),
        Core(
            "rv32ec", "riscv", "start", _RISCV_VIRT, "UC_CPU_RISCV32_ANY", "virt", is_rv32e=True, qemu_cpu=_RV32E
        ),
    )
}
"""All cores by name."""

_TARGET_CORES: dict[str, str] = {
    "cortex-m": "cortex-m0",
    "cortex-m0plus": "cortex-m0",
    "generic": "host",
}
"""Targets that are no core: the least able core that must run their code."""


def core_for(target: Target) -> Core:
    """The core that proves C for ``target``; raises `UsageError` for a target that nothing here can run."""
    name = _TARGET_CORES.get(target.name, target.name)
    if name not in CORES:
        raise UsageError(f"no core here runs code for target {target.name!r}: verify the model with target 'generic'")
    return CORES[name]
