"""Compilers: found in order of preference, called in one way, quiet unless they fail."""

import importlib.util
import shutil
from pathlib import Path

import pytest

from mip2mcu.errors import ToolMissingError, UsageError, VerifyError
from mip2mcu.export import TARGETS
from mip2mcu.verify.decoding import check_armv6m, check_rv32e
from mip2mcu.verify.footprint import measure
from mip2mcu.verify.runners.image import read_image
from mip2mcu.verify.stack import worst_stack
from mip2mcu.verify.toolchains import find_toolchain, find_toolchains, zig_cache
from tests.verify_support import require_compiler

EVERY_COMPILER = [
    ("host", "gcc"),
    ("host", "clang"),
    ("host", "zig"),
    ("cortex-m0", "arm-none-eabi-gcc"),
    ("cortex-m0", "zig"),
    ("cortex-m4", "zig"),
    ("rv32imc", "riscv64-unknown-elf-gcc"),
    ("rv32imc", "zig"),
]
SECTIONS = ("-ffunction-sections", "-fdata-sections")
SOURCE = """
#include <stdint.h>
static const int16_t used[5] = {1, 2, 3, 4, 5};
static const int16_t unused[100] = {1};
static uint32_t counter;
int32_t wanted(uint32_t i);
int32_t unwanted(uint32_t i);
int32_t wanted(uint32_t i) { counter++; return used[i]; }
int32_t unwanted(uint32_t i) { return unused[i]; }
"""


@pytest.fixture
def only_pip(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)


@pytest.mark.parametrize("target", ["host", "generic", "cortex-m", "cortex-m0", "cortex-m4", "rv32imc"])
def test_a_machine_with_nothing_but_pip_compiles_for_every_target(only_pip, target):
    assert find_toolchain(TARGETS[target]).name == "zig"


def test_an_installed_compiler_comes_before_zig():
    require_compiler("arm-none-eabi-gcc")
    assert [t.name for t in find_toolchains(TARGETS["cortex-m0"])] == ["arm-none-eabi-gcc", "zig"]


@pytest.mark.parametrize(("target", "package"), [("cortex-m", "gcc-arm-none-eabi"), ("host", "")])
def test_without_any_compiler_the_error_says_what_to_install(only_pip, monkeypatch, target, package):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ToolMissingError, match="pip install ziglang") as raised:
        find_toolchain(TARGETS[target])
    assert package in str(raised.value)


def test_an_unknown_compiler_is_a_usage_error_that_lists_the_known():
    with pytest.raises(UsageError, match="'tcc'; known: arm-none-eabi-gcc, zig"):
        find_toolchain(TARGETS["cortex-m"], "tcc")


@pytest.mark.parametrize(("target", "compiler"), EVERY_COMPILER)
def test_every_compiler_builds_and_states_its_version(target, compiler, tmp_path):
    require_compiler(compiler)
    toolchain = find_toolchain(TARGETS[target], compiler)
    source = tmp_path / "source.c"
    source.write_text(SOURCE)
    flags = (*toolchain.target_flags(TARGETS[target]), "-O1", "-ffreestanding", *SECTIONS, "-c")
    built = toolchain.compile([source], flags, tmp_path / "object.o", tmp_path)
    assert any(character.isdigit() for character in toolchain.version)
    footprint = measure(built, ["wanted"])
    assert 0 < footprint.code < 80
    assert (footprint.constants, footprint.data, footprint.bss, footprint.library_calls) == (10, 0, 4, ())


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
def test_a_compile_error_shows_the_compilers_first_lines(compiler, tmp_path):
    require_compiler(compiler)
    (tmp_path / "bad.c").write_text("int f(void) { return undeclared; }\n")
    with pytest.raises(VerifyError, match=r"could not compile bad\.c:\n.*") as raised:
        find_toolchain(TARGETS["host"], compiler).compile([tmp_path / "bad.c"], ("-c",), tmp_path / "bad.o", tmp_path)
    assert "undeclared" in str(raised.value)
    assert len(str(raised.value).splitlines()) <= 7


@pytest.mark.parametrize(("target", "compiler"), [("cortex-m0", "arm-none-eabi-gcc"), ("cortex-m0", "zig")])
def test_library_calls_of_a_core_without_division_are_listed(target, compiler, tmp_path):
    require_compiler(compiler)
    toolchain = find_toolchain(TARGETS[target], compiler)
    (tmp_path / "divide.c").write_text("int divide(int a, int b);\nint divide(int a, int b) { return a / b; }\n")
    flags = (*toolchain.target_flags(TARGETS[target]), "-O2", "-ffunction-sections", "-c")
    built = toolchain.compile([tmp_path / "divide.c"], flags, tmp_path / "divide.o", tmp_path)
    assert measure(built, ["divide"]).library_calls == ("__aeabi_idiv",)


def test_an_object_that_is_no_elf_file_has_no_footprint(tmp_path):
    (tmp_path / "other.o").write_bytes(b"\xcf\xfa\xed\xfe")
    assert measure(tmp_path / "other.o", ["f"]) is None


@pytest.mark.parametrize(
    "read", [measure, read_image, lambda path: worst_stack(path, ["f"]), check_armv6m, check_rv32e]
)
def test_a_damaged_file_of_a_compiler_is_an_error_and_no_traceback(read, tmp_path):
    damaged = tmp_path / "model.o"
    damaged.write_bytes(b"\x7fELF\x01\x01\x01 and what a full disk left")
    (tmp_path / "model.su").write_text("")
    with pytest.raises(VerifyError, match=r"model\.o is no whole ELF file"):
        read(damaged)


def test_a_program_that_lost_its_symbols_is_an_error_and_no_traceback(tmp_path):
    require_compiler("gcc")
    (tmp_path / "f.c").write_text("int main(void) { return 0; }\n")
    program = find_toolchain(TARGETS["host"], "gcc").compile([tmp_path / "f.c"], ("-s",), tmp_path / "f", tmp_path)
    with pytest.raises(VerifyError, match="f has no symbols: let the compiler keep them"):
        read_image(program)


def test_zigs_cache_lies_in_no_project():
    for folder in zig_cache().values():
        assert Path.cwd() not in [Path(folder), *Path(folder).parents]
