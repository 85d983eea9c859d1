"""The processors that C is generated for: facts about each, one row a target; how to run one is `verify`'s business.

To add a target: one row in `TARGETS`. A target that needs its own kernels gets them through the facts below, which the
layouts read when they choose a variant.
"""

from __future__ import annotations

from dataclasses import dataclass

from mip2mcu.errors import ExportError


@dataclass(frozen=True)
class Target:
    """What the generated C may rely on, and how it is compiled.

    family          "host", "arm", "avr", "riscv" or "generic"
    int_bits        width that C guarantees for ``int`` there; narrower accumulators would only cost extensions
    word_bits       width of a general register
    registers       32-bit values that an inner loop keeps in registers; bounds how many sums run side by side
    has_multiply    a 32-bit product is one instruction
    has_clz         so is the number of leading zeros of a word
    has_dsp         two 16-bit products in one instruction (SMLAD)
    has_vector      vector instructions on integers (Helium)
    little_endian   the least significant byte of a number comes first; False where that is not known
    has_progmem     constants stay in flash only where marked PROGMEM, and instructions of their own read them
    object_limit    most bytes of one array; None where no model comes near it
    constants_limit most bytes of all constants together; None likewise
    header          the target's own header, which the generated C includes
    compiler        name of the GNU compiler
    gcc_flags       flags that choose the core for the GNU compiler
    clang_flags     the same for clang and `zig cc`
    """

    name: str
    family: str
    description: str
    int_bits: int = 32
    word_bits: int = 32
    registers: int = 13
    has_multiply: bool = True
    has_clz: bool = False
    has_dsp: bool = False
    has_vector: bool = False
    little_endian: bool = True
    has_progmem: bool = False
    object_limit: int | None = None
    constants_limit: int | None = None
    header: str | None = None
    compiler: str = "gcc"
    gcc_flags: tuple[str, ...] = ()
    clang_flags: tuple[str, ...] = ()

    @property
    def index_type(self) -> str:
        """C type of a loop index: holds 0..65535 and costs no extension."""
        return "uint16_t" if self.int_bits < 32 else "uint32_t"

    @property
    def index_limit(self) -> int:
        """Largest value of `index_type`."""
        return 2**16 - 1 if self.int_bits < 32 else 2**32 - 1

    def excess(self, elements: int, size: int) -> str:
        """In words, what an array of ``elements`` and of ``size`` bytes exceeds here; empty where it fits."""
        if self.object_limit is not None and size > self.object_limit:
            return f"{size} bytes, an array of {self.name} has at most {self.object_limit}"
        if elements > self.index_limit:
            return f"{elements} elements, an index of {self.name} counts to {self.index_limit}"
        return ""

    @property
    def declared_limit(self) -> int:
        """Most bytes of an array that every compiler for it takes: pointers may be as wide as ``int``."""
        return 2 ** (self.int_bits - 1) - 1


def _cortex_m(
    name: str,
    core: str,
    description: str,
    *,
    has_dsp: bool = False,
    has_vector: bool = False,
) -> Target:
    """A Cortex-M; compilers give access to vector registers only where they also pass arguments."""
    armv6 = core in ("cortex-m0", "cortex-m0plus")
    return Target(
        name,
        "arm",
        description,
        registers=8 if armv6 else 13,
        has_clz=not armv6,
        has_dsp=has_dsp,
        has_vector=has_vector,
        compiler="arm-none-eabi-gcc",
        gcc_flags=(f"-mcpu={core}", "-mthumb", *(("-mfloat-abi=hard",) if has_vector else ())),
        clang_flags=(
            "-target",
            "thumb-freestanding-eabihf" if has_vector else "thumb-freestanding-eabi",
            f"-mcpu={core.replace('-', '_')}",
        ),
    )


def _riscv(name: str, abi: str, cpu: str, description: str, *, registers: int, has_multiply: bool) -> Target:
    return Target(
        name,
        "riscv",
        description,
        registers=registers,
        has_multiply=has_multiply,
        compiler="riscv64-unknown-elf-gcc",
        gcc_flags=(f"-march={name}", f"-mabi={abi}"),
        clang_flags=("-target", "riscv32-freestanding", f"-mcpu={cpu}", f"-mabi={abi}"),
    )


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("host", "host", "the computer that runs mip2mcu", word_bits=64, little_endian=False),
        _cortex_m("cortex-m", "cortex-m0", "any Arm Cortex-M, the smallest included"),
        _cortex_m("cortex-m0", "cortex-m0", "Arm Cortex-M0 (Armv6-M)"),
        _cortex_m("cortex-m0plus", "cortex-m0plus", "Arm Cortex-M0+ (Armv6-M)"),
        _cortex_m("cortex-m3", "cortex-m3", "Arm Cortex-M3 (Armv7-M)"),
        _cortex_m("cortex-m4", "cortex-m4", "Arm Cortex-M4 (Armv7E-M, DSP instructions)", has_dsp=True),
        _cortex_m("cortex-m7", "cortex-m7", "Arm Cortex-M7 (Armv7E-M, DSP instructions)", has_dsp=True),
        _cortex_m("cortex-m33", "cortex-m33", "Arm Cortex-M33 (Armv8-M, DSP instructions)", has_dsp=True),
        _cortex_m(
            "cortex-m55", "cortex-m55", "Arm Cortex-M55 (Armv8.1-M, Helium vectors)", has_dsp=True, has_vector=True
        ),
        Target(
            "avr",
            "avr",
            "AVR with LPM and MUL, such as ATmega328P (Arduino Uno): 8 bits, constants in PROGMEM",
            int_bits=16,
            word_bits=8,
            registers=4,
            has_multiply=False,
            has_progmem=True,
            object_limit=2**15 - 1,
            constants_limit=2**16 - 512,
            header="avr/pgmspace.h",
            compiler="avr-gcc",
            gcc_flags=("-mmcu=atmega328p",),
        ),
        _riscv(
            "rv32imc", "ilp32", "generic_rv32+m+c", "RISC-V RV32IMC, such as ESP32-C3", registers=24, has_multiply=True
        ),
        _riscv(
            "rv32ec",
            "ilp32e",
            "generic_rv32+e+c-m",
            "RISC-V RV32EC, such as CH32V003: 16 registers, no multiplier",
            registers=10,
            has_multiply=False,
        ),
        Target(
            "generic",
            "generic",
            "any C99 compiler, int of 16 bits or more",
            int_bits=16,
            has_multiply=False,
            little_endian=False,
        ),
    )
}
"""Every known target by name."""


def find_target(target: Target | str) -> Target:
    """The target of that name; a `Target` is returned as it is. Raises `ExportError` listing the known names."""
    if isinstance(target, Target):
        return target
    if target not in TARGETS:
        raise ExportError(f"there is no target {target!r}: choose one of {', '.join(TARGETS)}")
    return TARGETS[target]
