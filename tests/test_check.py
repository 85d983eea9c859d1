"""NAME_check: a CRC of the tables that is the same on every core, notices every change, and costs nothing left out."""

import importlib.util
import re
from dataclasses import replace

import numpy as np
import pytest

from mip2mcu.export import TARGETS, generate
from mip2mcu.export.checking import image, lower_check
from mip2mcu.export.literals import Table
from mip2mcu.export.options import ExportOptions
from mip2mcu.verify.toolchains import find_toolchain
from tests.conftest import require
from tests.export_support import compile_host, random_network, write
from tests.layout_support import linear
from tests.verify_support import quantized_network, require_compiler

HOST, AVR = TARGETS["host"], TARGETS["avr"]


def entries(c_type, *values, name="t"):
    return Table(name, c_type, values)


# ---- what is computed ----------------------------------------------------------------------------------------------


def test_the_crc_is_that_of_ieee_802_3():
    digits = entries("uint8_t", *b"123456789")
    assert lower_check([digits], HOST).crc == 0xCBF43926


def test_an_entry_is_in_twos_complement_with_its_least_significant_byte_first():
    assert image(entries("int8_t", -2, 1)) == bytes.fromhex("fe 01")
    assert image(entries("int16_t", -2, 258)) == bytes.fromhex("feff 0201")
    assert image(entries("uint32_t", 0x80000001)) == bytes.fromhex("01000080")


def test_tables_follow_one_another_without_padding():
    split = [entries("uint8_t", 1, 2, 3), entries("uint16_t", 0x0504)]
    assert lower_check(split, HOST).crc == lower_check([entries("uint8_t", 1, 2, 3, 4, 5)], HOST).crc
    assert lower_check(split, HOST).bytes == 5


def test_a_byte_order_that_is_not_known_matters_for_wide_entries_only():
    narrow, wide = entries("uint8_t", 1), entries("int16_t", 1)
    generic, core = TARGETS["generic"], TARGETS["cortex-m"]
    assert [lower_check([t], target).any_order for t in (narrow, wide) for target in (generic, core)] == [
        False, False, True, False,
    ]  # fmt: skip


def test_sizes_are_counted_in_a_type_that_holds_them():
    assert lower_check([entries("uint8_t", *[0] * 70000)], TARGETS["generic"]).count_type == "uint32_t"
    assert lower_check([entries("uint8_t", *[0] * 7000)], AVR).count_type == "uint16_t"


# ---- what it notices -----------------------------------------------------------------------------------------------


def one_more(text, table):
    """The C with the first number of ``table`` changed by one."""
    changed, found = re.subn(
        rf"( {table.name}\[\d+\] = {{\n    )(0x\w+U|\(?-?\d+)", lambda m: m[1] + f"{int(m[2].rstrip('U'), 0) ^ 1}", text
    )
    assert found == 1
    return changed


def test_a_change_in_any_table_is_noticed(tmp_path):
    networks = [random_network(seed) for seed in (0, 1, 2, 3, 7)]
    tables = ExportOptions(max_unroll_bytes=0)
    places = [
        (network, k)
        for network in networks
        for k in range(len(generate(network, "host", options=tables).program.tables))
    ]
    assert len(places) > 20
    changed = []
    for number, (network, k) in enumerate(places):
        entry = generate(network, "host", f"net{number}", options=tables)
        source = f"net{number}.c"
        damaged = one_more(entry.files[source], entry.program.tables[k])
        changed.append(replace(entry, files={**entry.files, source: damaged}))
    assert [compiled.check() for compiled in compile_host(changed, tmp_path)] == [-1] * len(changed)


def test_without_tables_there_is_nothing_to_check_and_the_files_say_so():
    entry = generate(linear([[2, 0, -1], [0, 3, 1]]), "cortex-m", layout="unrolled")
    assert "#define MODEL_CHECKED_BYTES 0 " in entry.files["model.h"]
    assert "The weights of layer 0 are code, which model_selftest covers. */" in entry.files["model.h"]
    assert "The weights of layer 0 are code: `model_check()` does not read them" in entry.files["README.md"]


BIG_ENDIAN_MAIN = """
#include "model.h"
void *memset(void *to, int value, __SIZE_TYPE__ size)
{
    volatile char *byte = to;
    while (size-- > 0) { *byte++ = (char)value; }
    return to;
}
void *memcpy(void *to, const void *from, __SIZE_TYPE__ size)
{
    volatile char *byte = to;
    const char *next = from;
    while (size-- > 0) { *byte++ = *next++; }
    return to;
}
int outcome(void) { return (model_check() ? 1 : 0) + (model_selftest() ? 2 : 0); }
"""


def outcome_on_mips(files, folder):
    """1 if the check fails, 2 if the selftest does, 3 if both do, on a core with the most significant byte first."""
    require(importlib.util.find_spec("unicorn"), "unicorn is not installed")
    import unicorn
    from elftools.elf.elffile import ELFFile
    from unicorn import mips_const

    for name, text in {**files, "main.c": BIG_ENDIAN_MAIN}.items():
        (folder / name).write_text(text)
    flags = ["-target", "mips-freestanding-eabi", "-O2", "-mno-abicalls", "-fno-pic", "-nostdlib", "-Wl,-e,outcome"]
    program = find_toolchain(TARGETS["generic"], "zig").compile(
        [folder / "model.c", folder / "main.c"], flags, folder / "program", folder
    )
    engine = unicorn.Uc(unicorn.UC_ARCH_MIPS, unicorn.UC_MODE_MIPS32 | unicorn.UC_MODE_BIG_ENDIAN)
    engine.mem_map(0, 0x1000_0000)
    with program.open("rb") as stream:
        elf = ELFFile(stream)
        assert not elf.little_endian
        for segment in elf.iter_segments("PT_LOAD"):
            engine.mem_write(segment["p_vaddr"], segment.data())
        entry = elf.header["e_entry"]
    engine.reg_write(mips_const.UC_MIPS_REG_SP, 0x0800_0000)
    engine.reg_write(mips_const.UC_MIPS_REG_RA, 0x0900_0000)
    engine.emu_start(entry, 0x0900_0000)
    return engine.reg_read(mips_const.UC_MIPS_REG_2)


def test_a_core_with_the_most_significant_byte_first_gets_the_same_crc(tmp_path):
    entry = generate(random_network(1), "generic")
    assert entry.program.check.any_order
    assert entry.program.check.crc == generate(random_network(1), "cortex-m").program.check.crc
    assert outcome_on_mips(entry.files, tmp_path) == 0
    wide = next(table for table in entry.program.tables if table.entry_bytes > 1)
    damaged = {**entry.files, "model.c": one_more(entry.files["model.c"], wide)}
    assert outcome_on_mips(damaged, tmp_path) in (1, 3)


# ---- what it costs -------------------------------------------------------------------------------------------------


def sections(network, target, folder, *flags):
    """The bytes of each section of the model's object file, one section a function and a table."""
    require_compiler(TARGETS[target].compiler)
    require(importlib.util.find_spec("elftools"), "pyelftools is not installed")
    from elftools.elf.elffile import ELFFile

    (source,) = write([generate(network, target, "model", options=ExportOptions(max_unroll_bytes=0))], folder)
    row, compiled = TARGETS[target], folder / "model.o"
    always = ("-std=c99", "-O2", "-ffreestanding", "-ffunction-sections", "-fdata-sections", "-c")
    find_toolchain(row).compile([source], (*row.gcc_flags, *always, *flags), compiled, folder)
    with compiled.open("rb") as stream:
        kept = (".text", ".rodata", ".progmem", ".rel", ".data", ".bss")
        return {section.name: section.data() for section in ELFFile(stream).iter_sections(None)
                if section.name.startswith(kept) and "unlikely" not in section.name}


@pytest.mark.parametrize("target", ["cortex-m", "cortex-m4", "rv32ec", "avr"])
def test_left_out_it_leaves_all_other_code_as_it_was(target, tmp_path):
    network = quantized_network()
    with_it = sections(network, target, tmp_path)
    without = sections(network, target, tmp_path, "-DMODEL_NO_CHECK")
    assert {name for name in with_it if "check" in name}
    assert not {name for name in without if "check" in name}
    code = {name: data for name, data in with_it.items() if "check" not in name and not name.startswith(".rel")}
    assert code == {name: data for name, data in without.items() if not name.startswith(".rel")}


def check_bytes(network, target, folder):
    """Code that the check of the tables takes."""
    code = sections(network, target, folder)
    return sum(len(data) for name, data in code.items() if name.startswith(".text") and "check" in name)


@pytest.mark.parametrize(("target", "most"), [("cortex-m", 84), ("cortex-m4", 80), ("rv32ec", 84), ("avr", 130)])
def test_it_is_small(target, most, tmp_path):
    weights = np.arange(-60, 60).reshape(3, 40)
    assert 60 < check_bytes(linear(weights), target, tmp_path) <= most
    networks = linear(weights, [1, 2, 3]), random_network(1)
    one, many = (check_bytes(network, target, tmp_path) for network in networks)
    tables = [len(generate(n, target, options=ExportOptions(max_unroll_bytes=0)).program.tables) for n in networks]
    assert many - one <= 24 * (tables[1] - tables[0])
