"""What the static analyser takes instructions for: each model in C against the instruction, on the core.

The kernels of templates/support that hold both are compiled into one program twice, as they are and as the analyser
sees them, and run side by side on corner and random operands.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from mip2mcu.export import TARGETS
from mip2mcu.resources import resource_folder
from mip2mcu.verify.chips import chip_flags
from mip2mcu.verify.cores import core_for
from mip2mcu.verify.harness import surroundings
from mip2mcu.verify.runners import find_runner, runners_for
from mip2mcu.verify.toolchains import find_toolchain
from tests.conftest import require
from tests.verify_support import require_compiler

SUPPORT = resource_folder("templates") / "support"


@dataclass(frozen=True)
class Kernel:
    """A function of a file of templates/support.

    call        in C, with FUNCTION for it; its operands are the words a, b and c
    expected    what it gives for them, in plain integers modulo 2^32
    """

    file: str
    function: str
    call: str
    expected: Callable[[int, int, int], int]


def half(word, k):
    """Half ``k`` of ``word``, signed."""
    return ((word >> (16 * k) & 0xFFFF) ^ 0x8000) - 0x8000


def byte(word, k):
    """Byte ``k`` of ``word``, signed."""
    return ((word >> (8 * k) & 0xFF) ^ 0x80) - 0x80


def joined(low, high):
    return (low & 0xFFFF) | (high & 0xFFFF) << 16


def at(a, b, c, step):
    """Four bytes out of the eight of a and b, from one of the first addresses on."""
    return (a | b << 32) >> (8 * step * (c % (4 // step))) & 0xFFFFFFFF


def flash(k):
    """Byte ``k`` of the table in flash."""
    return (k * 167 + 13) & 0xFF


DSP = (
    Kernel("dsp", "four_bytes", "FUNCTION(&bytes[c & 3U])", lambda a, b, c: at(a, b, c, 1)),
    Kernel(
        "dsp", "multiply_two", "FUNCTION(a, b, c)",
        lambda a, b, c: c + half(a, 0) * half(b, 0) + half(a, 1) * half(b, 1),
    ),
    Kernel("dsp", "even_signed", "FUNCTION(a)", lambda a, b, c: joined(byte(a, 0), byte(a, 2))),
    Kernel("dsp_signed", "odd_signed", "FUNCTION(a)", lambda a, b, c: joined(byte(a, 1), byte(a, 3))),
    Kernel("dsp_unsigned", "even_unsigned", "FUNCTION(a)", lambda a, b, c: a & 0x00FF00FF),
    Kernel("dsp_unsigned", "odd_unsigned", "FUNCTION(a)", lambda a, b, c: a >> 8 & 0x00FF00FF),
    Kernel(
        "dsp_halves", "two_halves", "FUNCTION((const int16_t *)&bytes[c & 2U])", lambda a, b, c: at(a, b, c >> 1, 2)
    ),
)  # fmt: skip
COMPILED = (
    Kernel("leading_zeros", "leading_zeros", "FUNCTION(a | 1U)", lambda a, b, c: 32 - (a | 1).bit_length()),
    Kernel("bits_spread_sign", "bits_spread", "FUNCTION(a, c & 31U)", lambda a, b, c: -(a >> (c & 31) & 1)),
    Kernel("bits_keep", "bits_keep", "FUNCTION(a)", lambda a, b, c: a),
    Kernel("signed_word", "signed_word", "(uint32_t)FUNCTION(a)", lambda a, b, c: a),
    Kernel("signed_half", "signed_half", "(uint32_t)(int32_t)FUNCTION((uint16_t)a)", lambda a, b, c: half(a, 0)),
)
"""What compilers for these cores make of the C that they get, in instructions or not."""
_ROW = "const uint8_t *row = &table[a & 0xFFU]; const uint8_t *x = &bytes[c & 3U]; "
_MOVED = "(uint32_t)(row - &table[a & 0xFFU]) << 16"
_BOTH_MOVED = f"{_MOVED} | (uint32_t)(x - &bytes[c & 3U]) << 24"


def agree(a, b, c, mask):
    return ((at(a, b, c, 1) & 0xFF) ^ flash(a & 0xFF)) & mask


AVR = (
    Kernel("next_byte", "next_byte", f"{{ {_ROW} (void)x; r = FUNCTION(&row); r |= {_MOVED}; }}",
           lambda a, b, c: flash(a & 0xFF) | 1 << 16),
    Kernel("next_word", "next_word",
           "{ const uint16_t *word = (const uint16_t *)&table[a & 0xFEU]; r = FUNCTION(&word);"
           " r |= (uint32_t)(word - (const uint16_t *)&table[a & 0xFEU]) << 16; }",
           lambda a, b, c: flash(a & 0xFE) | flash((a & 0xFE) + 1) << 8 | 1 << 16),
    Kernel("bits_agree", "bits_agree", f"{{ {_ROW} r = FUNCTION(&x, &row); r |= {_BOTH_MOVED}; }}",
           lambda a, b, c: agree(a, b, c, 0xFF) | 1 << 16 | 1 << 24),
    Kernel("bits_agree_masked", "bits_agree_masked", f"{{ {_ROW} r = FUNCTION(&x, &row); r |= {_BOTH_MOVED}; }}",
           lambda a, b, c: agree(a, b, c, flash((a & 0xFF) + 1)) | 2 << 16 | 1 << 24),
    Kernel("multiply_add", "multiply_add", f"{{ {_ROW} r = FUNCTION(b, &row, &x); }}",
           lambda a, b, c: b + flash(a & 0xFF) * (at(a, b, c, 1) & 0xFF)),
    Kernel("multiply_add", "multiply_add", f"{{ {_ROW} r = FUNCTION(b, &row, &x); r = {_BOTH_MOVED}; }}",
           lambda a, b, c: 1 << 16 | 1 << 24),
)  # fmt: skip

CORNERS = (
    0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x007F0080, 0x00FF00FF, 0x7F807F80, 0x7FFF7FFF,
    0x7FFFFFFF, 0x80000000, 0x80008000, 0x80808080, 0x8000FFFF, 0xFF00FF00, 0xFFFF8000, 0xFFFFFFFE, 0xFFFFFFFF,
)  # fmt: skip


def operands():
    """Rows (a, b, c): every pair of corners, and random words."""
    rng = np.random.default_rng(7)
    pairs = np.array([(a, b, 0) for a in CORNERS for b in CORNERS], dtype="<u4")
    pairs[:, 2] = rng.choice(np.array(CORNERS, dtype="<u4"), len(pairs))
    return np.concatenate([pairs, rng.integers(0, 2**32, (400, 3), dtype="<u4")])


def text_of(kernels):
    """The files of ``kernels``, each once, in the order that they need each other."""
    return "\n".join((SUPPORT / f"{file}.c.j2").read_text("ascii") for file in dict.fromkeys(k.file for k in kernels))


def as_analysed(text):
    """``text`` under other names, as the analyser reads it."""
    names = re.findall(r"^static (?:inline )?\w+ (\w+)\(", text, re.MULTILINE)
    macros = re.findall(r"^ *#define (\w+)", text, re.MULTILINE)
    lines = [f"#undef {macro}" for macro in dict.fromkeys(macros)]
    lines += ["#define __FRAMAC__ 1", *(f"#define {name} modelled_{name}" for name in names), text]
    return "\n".join([*lines, *(f"#undef {name}" for name in names)])


def program_text(kernels, target):
    """A program that answers to the words a, b and c with two words a kernel: by instruction, and by its model."""
    calls = []
    for kernel in kernels:
        for name in (kernel.function, f"modelled_{kernel.function}"):
            call = kernel.call.replace("FUNCTION", name)
            calls += [call if call.startswith("{") else f"r = {call};", "platform_write(&r, 4U);"]
    includes, table = ['#include "platform.h"'], []
    if target.has_progmem:
        values = ", ".join(str(flash(k)) for k in range(258))
        includes.append(f"#include <{target.header}>")
        table = [f"static const uint8_t table[258] PROGMEM __attribute__((aligned(2))) = {{{values}}};"]
    dsp = ["#if !HAS_DSP", "#error the instructions are left out", "#endif"] if target.has_dsp else []
    text = text_of(kernels)
    return "\n".join([
        *includes, *table, text, *dsp, as_analysed(text),
        "int main(void)", "{", "    uint32_t given[3];", "    platform_open();",
        "    while (platform_read(given, 12U) == 12U) {",
        "        const uint32_t a = given[0], b = given[1], c = given[2];",
        "        uint8_t bytes[8] __attribute__((aligned(4)));",
        "        uint32_t r;",
        "        for (r = 0U; r < 8U; r++) { bytes[r] = (uint8_t)(given[r / 4U] >> (8U * (r % 4U))); }",
        *calls, "    }", "    platform_close();", "    return 0;", "}",
    ])  # fmt: skip


def answers(kernels, target, toolchain, folder):
    """Words (rows, kernels, 2) of the program on the core of ``target``."""
    core = core_for(target)
    require(any(runner.is_installed(core) for runner in runners_for(core)), f"no emulator of {core.name} is installed")
    compiler = find_toolchain(target, toolchain)
    (folder / "main.c").write_text(program_text(kernels, target))
    firmware = resource_folder("firmware")
    sources, links = surroundings(firmware, core, folder)
    flags = (*chip_flags(compiler.target_flags(target), core), "-std=c99", "-O2", "-ffreestanding", f"-I{firmware}")
    elf = compiler.compile([folder / "main.c", *sources[1:]], (*flags, *links), folder / "models.elf", folder)
    answer = find_runner(core).run(elf, core, operands().tobytes())
    return np.frombuffer(answer, dtype="<u4").reshape(-1, len(kernels), 2)


WAYS = [
    *(("cortex-m4", toolchain, (*DSP, *COMPILED)) for toolchain in ("arm-none-eabi-gcc", "zig")),
    *((f"cortex-m{suffix}", "arm-none-eabi-gcc", (*DSP, *COMPILED)) for suffix in ("7", "33", "55")),
    ("avr", "avr-gcc", (*AVR, *(kernel for kernel in COMPILED if kernel.file != "leading_zeros"))),
]


@pytest.mark.parametrize(("target", "toolchain", "kernels"), WAYS, ids=[f"{way[0]}-{way[1]}" for way in WAYS])
def test_instructions_are_what_a_proof_takes_them_for(target, toolchain, kernels, tmp_path):
    require_compiler(toolchain)
    found, rows = answers(kernels, TARGETS[target], toolchain, tmp_path), operands().tolist()
    assert len(found) == len(rows)
    for k, kernel in enumerate(kernels):
        expected = np.array([kernel.expected(*row) % 2**32 for row in rows], dtype=np.uint32)
        np.testing.assert_array_equal(found[:, k, 0], expected, err_msg=f"{kernel.function} by instruction")
        np.testing.assert_array_equal(found[:, k, 1], expected, err_msg=f"{kernel.function} as modelled")


def test_no_kernel_with_a_model_is_left_out():
    """All but `SETTLE`, which has no effect on any value."""
    texts = {path.name.removesuffix(".c.j2"): path.read_text("ascii") for path in SUPPORT.glob("*.j2")}
    modelled = {name for name, text in texts.items() if "__FRAMAC__" in text or "HAS_DSP" in text}
    assert modelled - {"settle"} == {kernel.file for kernel in (*DSP, *COMPILED, *AVR)}
