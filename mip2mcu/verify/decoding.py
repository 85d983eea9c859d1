"""What little of the Thumb and RV32C encodings verification needs.

Lengths, IT blocks, what moves the stack pointer, what Armv6-M and RV32E lack.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mip2mcu.errors import VerifyError
from mip2mcu.verify.elf import opened

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile

IT_BLOCK_BYTES = 16
"""Most bytes of the instructions that one IT makes conditional: four of four bytes."""


def _thumb_length(halfword: int) -> int:
    """32 bits where the upper five bits are 0b11101 or more."""
    return 4 if halfword >> 11 >= 0b11101 else 2


def _riscv_length(halfword: int) -> int:
    """32 bits where the lowest two bits are 0b11."""
    return 4 if halfword & 3 == 3 else 2


def instructions(code: bytes, thumb: bool = True) -> Iterator[tuple[int, int]]:
    """Offset and first halfword of each instruction in ``code``, Thumb or RV32C."""
    length = _thumb_length if thumb else _riscv_length
    position = 0
    while position + 1 < len(code):
        halfword = code[position] | code[position + 1] << 8
        yield position, halfword
        position += length(halfword)


def count_instructions(code: bytes, thumb: bool) -> int:
    """Number of instructions in ``code``."""
    return sum(1 for _ in instructions(code, thumb))


def may_move_stack(halfword: int, thumb: bool) -> bool:
    """False only where an instruction that begins with ``halfword`` cannot change the stack pointer.

    Of Thumb's 16-bit instructions only push, pop, the additions of constants to sp, and those on all 16 registers can;
    of RV32's only those whose field rd, bits 7 to 11, is x2, apart from the ones that reach x8 to x15 only.
    """
    if thumb:
        return halfword >> 12 == 0b1011 or halfword >> 10 == 0b010001 or _thumb_length(halfword) == 4
    return halfword >> 7 & 0x1F == 2 and halfword & 3 != 0


def it_block(code: bytes) -> tuple[int, int]:
    """Number of conditional instructions, and their bytes, if ``code`` begins with Thumb's IT; else (0, 0).

    The lowest set bit of IT's mask tells the number: 8 one, 4 two, 2 three, 1 four.
    """
    if len(code) < 2 or not _is_it(code[0] | code[1] << 8):
        return 0, 0
    mask = code[0] & 0xF
    count = 4 - ((mask & -mask).bit_length() - 1)
    ends = [offset for offset, _ in instructions(code)] + [len(code)]
    return count, ends[count + 1] - 2


def _is_it(halfword: int) -> bool:
    """0xBF00 with a mask in the low four bits; without a mask it is a hint such as NOP."""
    return halfword >> 8 == 0xBF and halfword & 0xF != 0


def _is_compare_and_branch(halfword: int) -> bool:
    """CBZ and CBNZ: 0b1011x0x1 in the upper byte."""
    return halfword >> 8 & 0b1111_0101 == 0b1011_0001


def check_armv6m(program: Path) -> None:
    """Refuse a program with instructions that Armv6-M (Cortex-M0, M0+) lacks but emulators of it execute: IT and CBZ.

    The 32-bit ones need no check, emulators reject them. Raises `VerifyError`.
    """
    with opened(program.read_bytes(), program.name) as elf:
        for address, code in _thumb_code(elf):
            for offset, halfword in instructions(code):
                if _is_it(halfword) or _is_compare_and_branch(halfword):
                    name = "it" if _is_it(halfword) else "cbz or cbnz"
                    raise VerifyError(
                        f"the program has the instruction {name} at {address + offset:#010x}, which a Cortex-M0 lacks: "
                        "compile for cortex-m0"
                    )


_RVE_FLAG = 0x0008


def check_rv32e(program: Path) -> None:
    """Refuse a program for another core than RV32E (16 registers, no multiplier); emulators execute it all the same.

    The linker's flag says that no object uses more registers; products are looked for. Raises `VerifyError`.
    """
    with opened(program.read_bytes(), program.name) as elf:
        if not elf.header["e_flags"] & _RVE_FLAG:
            raise VerifyError("the program uses 32 registers, an RV32E core has 16: compile for rv32ec")
        section = elf.get_section_by_name(".text")
        code, base = section.data(), section["sh_addr"]
    for offset, halfword in instructions(code, thumb=False):
        upper = code[offset + 2 : offset + 4]
        if halfword & 0x7F == 0x33 and len(upper) == 2 and upper[1] >> 1 == 1:
            raise VerifyError(
                f"the program multiplies or divides by an instruction at {base + offset:#010x}, which RV32EC lacks: "
                "compile for rv32ec"
            )


def _thumb_code(elf: ELFFile) -> Iterator[tuple[int, bytes]]:
    """Address and bytes of each stretch of code: from a mapping symbol $t to the next mapping symbol of its section."""
    symbols = elf.get_section_by_name(".symtab")
    marks = sorted(
        (symbol["st_shndx"], symbol["st_value"] & ~1, symbol.name[:2] == "$t")
        for symbol in symbols.iter_symbols()
        if symbol.name[:2] in ("$t", "$d", "$a") and isinstance(symbol["st_shndx"], int)
    )
    for k, (index, start, is_code) in enumerate(marks):
        if is_code:
            section = elf.get_section(index)
            base = section["sh_addr"]
            follows = k + 1 < len(marks) and marks[k + 1][0] == index
            end = marks[k + 1][1] if follows else base + section["sh_size"]
            yield start, section.data()[start - base : end - base]
