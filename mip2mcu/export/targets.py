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
    has_dsp         two 16-bit products in one instruction (SMLAD)
    has_vector      vector instructions on integers (Helium)
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
    has_dsp: bool = False
    has_vector: bool = False
    compiler: str = "gcc"
    gcc_flags: tuple[str, ...] = ()
    clang_flags: tuple[str, ...] = ()

    @property
    def index_type(self) -> str:
        """C type of a loop index: holds 0..65535 and costs no extension."""
        return "uint16_t" if self.int_bits < 32 else "uint32_t"


def _cortex_m(name: str, core: str, description: str, *, has_dsp: bool = False) -> Target:
    return Target(
        name,
        "arm",
        description,
        registers=8 if core in ("cortex-m0", "cortex-m0plus") else 13,
        has_dsp=has_dsp,
        compiler="arm-none-eabi-gcc",
        gcc_flags=(f"-mcpu={core}", "-mthumb"),
        clang_flags=("-target", "thumb-freestanding-eabi", f"-mcpu={core.replace('-', '_')}"),
    )


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("host", "host", "the computer that runs mip2mcu", word_bits=64),
        _cortex_m("cortex-m", "cortex-m0", "any Arm Cortex-M, the smallest included"),
        _cortex_m("cortex-m0", "cortex-m0", "Arm Cortex-M0 (Armv6-M)"),
        _cortex_m("cortex-m0plus", "cortex-m0plus", "Arm Cortex-M0+ (Armv6-M)"),
        _cortex_m("cortex-m3", "cortex-m3", "Arm Cortex-M3 (Armv7-M)"),
        _cortex_m("cortex-m4", "cortex-m4", "Arm Cortex-M4 (Armv7E-M, DSP instructions)", has_dsp=True),
        Target("generic", "generic", "any C99 compiler, int of 16 bits or more", int_bits=16, has_multiply=False),
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
