"""Every target from model to proof: cores answer as the host does, counts repeat, errors are found on AVR too."""

import importlib.util
import re
import shutil
import struct
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

from mip2mcu.decisions import Argmax
from mip2mcu.errors import NoRoomError, ToolMissingError, VerifyError
from mip2mcu.export import TARGETS, export
from mip2mcu.layers import Dense
from mip2mcu.network import Network
from mip2mcu.verify import host_tools, verify
from mip2mcu.verify.cores import CORES, core_for
from mip2mcu.verify.harness import build
from mip2mcu.verify.runners import RUNNERS, counting_runner, find_runner, qemu, runners_for
from mip2mcu.verify.runners import simavr as simavr_module
from mip2mcu.verify.runners.qemu import QemuRunner
from mip2mcu.verify.runners.simavr import SimavrRunner
from mip2mcu.verify.runners.unicorn import UnicornRunner
from tests.conftest import require
from tests.verify_support import (
    hand_written,
    harness,
    linear_network,
    packed_network,
    quantized_network,
    require_compiler,
    sign_network,
    vote_network,
)

AVR = TARGETS["avr"]
WAYS = [
    (target, runner.name)
    for target in TARGETS.values()
    for runner in runners_for(core_for(target))
    if runner.name != "host"
]
"""Every emulator of every target."""


def require_ways(target, runner):
    """Skip where the target's compiler or the runner is not installed."""
    require_compiler(target.compiler)
    require(RUNNERS[runner].is_installed(core_for(target)), f"{target.name} needs {runner}: {RUNNERS[runner].install}")


def require_simavr():
    require_ways(AVR, "simavr")


def way_name(value):
    return getattr(value, "name", value)


# ---- the same answers ----------------------------------------------------------------------------------------------


def test_every_target_has_a_way_to_be_proved():
    assert {target.name for target, _ in WAYS} | {"host", "generic"} == set(TARGETS)
    assert [runner for target, runner in WAYS if target.name == "cortex-m55"] == ["qemu"]
    assert [runner for target, runner in WAYS if target.name == "avr"] == ["simavr"]


@pytest.mark.parametrize("network", [sign_network(), vote_network(), packed_network()], ids=["sign", "vote", "packed"])
@pytest.mark.parametrize(("target", "runner"), WAYS, ids=way_name)
def test_an_emulated_core_answers_what_the_host_answers(target, runner, network, tmp_path):
    require_ways(target, runner)
    (tmp_path / "host").mkdir()
    (tmp_path / "core").mkdir()
    rows = np.random.default_rng(0).integers(0, network.input_high + 1, (200, network.inputs))
    host = harness(network, TARGETS["host"], tmp_path / "host", "host").infer(rows)
    core = harness(network, target, tmp_path / "core", runner, target.compiler).infer(rows)
    for name, values in vars(host).items():
        np.testing.assert_array_equal(getattr(core, name), values, err_msg=name)


@pytest.mark.parametrize("target", ["cortex-m33", "cortex-m55", "rv32imc", "rv32ec"])
def test_a_machine_with_nothing_but_pip_compiles_for_the_target_and_it_runs(target):
    require_ways(TARGETS[target], find_runner(CORES[target]).name)
    report = verify(sign_network(), target, vectors=200, toolchain="zig")
    assert (report.mismatches, report.toolchain[:3]) == (0, "zig")


@pytest.mark.parametrize("optimisation", ["-O0", "-Os", "-O3"])
def test_c_on_avr_equals_python_at_every_optimisation(optimisation):
    require_simavr()
    assert verify(quantized_network(), "avr", vectors=200, optimisation=optimisation).mismatches == 0


# ---- costs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["avr", "cortex-m55", "rv32ec"])
def test_the_same_run_gives_the_same_report_to_the_cycle(target):
    require_ways(TARGETS[target], find_runner(CORES[target]).name)
    first, second = (verify(packed_network(), target, vectors=100).as_dict() for _ in range(2))
    assert first == second
    unit = "cycles" if target == "avr" else "instructions"
    assert sorted(first[unit]) == ["check", "pack", "predict", "selftest", "sums"]
    assert first["stack_bytes"]["predict"] > 0


ASSEMBLY = """
__attribute__((naked)) int hand_predict(const hand_input_t input[]) {{
    __asm__ volatile("{}");
}}"""


def counted(instructions, target, folder, rows=(0,)):
    """Counts of a function in assembly, called once with each of ``rows``."""
    require_compiler(target.compiler)
    text = ASSEMBLY.format(instructions.replace("\n", "\\n"))
    program = hand_written(text, target, folder, toolchain=target.compiler)
    runner = counting_runner(program.core)
    require(runner, f"nothing that counts on {target.name} is installed")
    request = struct.pack("<2I", 6, len(rows)) + bytes(rows)
    return runner.count(program.elf, program.core, request, ("hand_predict",))["hand_predict"]


def test_avr_cycles_are_those_of_the_data_sheet(tmp_path):
    # ldi 1, ldi 1, ret 4; the call, which is not counted, has pushed two bytes
    count = counted("ldi r24, 1\nldi r25, 0\nret", AVR, tmp_path)
    assert (count.calls, count.stack) == ((6,), 2)


def test_an_avr_loop_counts_every_round_and_a_call_its_stack(tmp_path):
    # movw 1, ld 2, push 2, rcall 3, ret 4, pop 2, clr 1, ret 4, and 3 a round, 1 less for the branch not taken
    text = "movw r30, r24\nld r24, Z\npush r28\nrcall 2f\npop r28\nclr r25\nret\n2: dec r24\nbrne 2b\nret"
    count = counted(text, AVR, tmp_path, (1, 2, 9))
    assert count.calls == (19 + 2, 19 + 5, 19 + 26)
    assert count.stack == 2 + 1 + 2


def test_a_stack_pointer_that_moves_in_two_steps_is_not_seen_half_way(tmp_path):
    # from 0x08xx to 0x07xx: for two instructions the pointer is off by up to 255 bytes
    text = (
        "in r30, 0x3d\nin r31, 0x3e\nmovw r26, r30\nsubi r30, 0\nsbci r31, 1\n"
        "out 0x3e, r31\nout 0x3d, r30\nout 0x3e, r27\nout 0x3d, r26\nret"
    )
    assert counted(text, AVR, tmp_path).stack == 2 + 256


def test_the_plug_in_counts_what_is_executed_on_a_cortex_m55(tmp_path):
    # ldrb, push, adds; r0 times subs, bne; pop
    text = ".syntax unified\nldrb r0, [r0]\npush {{r4-r7, lr}}\n1: subs r0, #1\nbne 1b\npop {{r4-r7, pc}}"
    count = counted(text.replace("{{", "{").replace("}}", "}"), TARGETS["cortex-m55"], tmp_path, (1, 2, 9))
    assert count.calls == (5, 7, 21)


QEMU_9 = "Could not load plugin x: plugin requires API version 1, but this QEMU supports only a minimum version of 2"


@pytest.mark.parametrize(
    ("answers", "version"),
    [([""], 1), ([QEMU_9, ""], 2), (["-plugin: invalid option"], None), ([QEMU_9, QEMU_9], None)],
)
def test_the_plug_in_is_made_for_the_interface_that_qemu_wants(answers, version, monkeypatch):
    require(shutil.which("gcc") or shutil.which("clang"), "no compiler for this computer")
    left = list(answers)
    monkeypatch.setattr(qemu, "_refusal", lambda program, plugin: left.pop(0))
    plugin = qemu._plugin.__wrapped__("qemu-system-arm")
    assert left == []
    assert (None if plugin is None else exported_number(plugin, "qemu_plugin_version")) == version


def exported_number(shared_object, name):
    with shared_object.open("rb") as stream:
        elf = ELFFile(stream)
        symbol = elf.get_section_by_name(".dynsym").get_symbol_by_name(name)[0]
        section = elf.get_section(symbol["st_shndx"])
        start = symbol["st_value"] - section["sh_addr"]
        return int.from_bytes(section.data()[start : start + 4], "little")


@pytest.mark.parametrize("target", [core.name for core in CORES.values() if core.unicorn_model])
def test_qemus_plug_in_counts_what_unicorn_counts(target, tmp_path):
    core = CORES[target]
    require(RUNNERS["qemu"].is_installed(core), f"{target} needs qemu: {RUNNERS['qemu'].install}")
    require(QemuRunner().can_count(core), "QEMU's plug-in cannot be made: no compiler, or a QEMU that loads none")
    on_core = harness(quantized_network(), TARGETS[target], tmp_path)
    rows = np.random.default_rng(3).integers(0, 900, (9, 3))
    program, functions = on_core.program, ("model_quantize",)
    arguments = (program.elf, program.core, on_core.quantize_request(rows), functions)
    counts = QemuRunner().count(*arguments)["model_quantize"]
    assert len(counts.calls) == 9
    assert counts.calls == UnicornRunner().count(*arguments)["model_quantize"].calls


@pytest.mark.parametrize("target", ["cortex-m0", "cortex-m4", "rv32imc", "rv32ec", "avr"])
def test_no_run_uses_more_stack_than_the_compiler_tells(target, tmp_path):
    require_compiler(TARGETS[target].compiler)
    network = vote_network()
    on_core = harness(network, TARGETS[target], tmp_path, find_runner(CORES[target]).name, TARGETS[target].compiler)
    rows = np.random.default_rng(4).integers(0, network.input_high + 1, (5, network.inputs))
    program = on_core.program
    arguments = (program.elf, program.core, on_core.predict_request(rows), ("model_predict",))
    traced = counting_runner(program.core).trace(*arguments)["model_predict"].stack
    told = program.stack()["model_predict"]
    assert 0 < traced <= told <= traced + 16


# ---- errors --------------------------------------------------------------------------------------------------------


def test_a_planted_wrong_weight_in_progmem_is_caught_on_avr(tmp_path):
    require_simavr()
    network = linear_network()
    export(network, "avr", tmp_path, "planted", layout="dense")
    source = tmp_path / "planted.c"
    text, found = re.subn(r"(layer0_weights\[18\] PROGMEM = \{\n    )(\(?-?\d+)", _one_more, source.read_text())
    assert found == 1
    source.write_text(text)
    report = verify(network, "avr", vectors=300, name="planted", source=tmp_path)
    assert report.mismatches > 100
    assert report.first_mismatch.quantity == "sums"


def _one_more(found):
    return f"{found[1]}{int(found[2]) + 1}"


def faulty(text, folder):
    """What running this body of predict on AVR gives."""
    require_simavr()
    program = hand_written(text, AVR, folder, toolchain="avr-gcc")
    return SimavrRunner(seconds=2).run(program.elf, program.core, struct.pack("<2IB", 6, 1, 7))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "int hand_predict(const hand_input_t i[]) { return *(volatile int *)(uintptr_t)(0x5000u + i[0]); }",
            "on atmega328p fails: it left its code, met no instruction, or reached beyond the memory",
        ),
        (
            "int hand_predict(const hand_input_t i[]) { volatile char a[64]; a[0] = (char)i[0]; "
            "return hand_predict(i) + a[0]; }",
            "on atmega328p fails: its stack runs into its variables",
        ),
        (
            "int hand_predict(const hand_input_t i[]) { volatile char x = (char)i[0]; while (x == 7) {} return 0; }",
            "on atmega328p did not finish within 2 s",
        ),
    ],
    ids=["memory", "stack", "time"],
)
def test_a_faulting_model_on_avr_is_an_error_and_no_result(text, fault, tmp_path):
    with pytest.raises(VerifyError, match=fault):
        faulty(text, tmp_path)


def test_an_unknown_request_ends_the_harness_on_avr_with_status_1(tmp_path):
    require_simavr()
    program = hand_written("int hand_predict(const hand_input_t i[]) { return i[0]; }", AVR, tmp_path, "avr-gcc")
    with pytest.raises(VerifyError, match="on atmega328p ended with status 1"):
        SimavrRunner().run(program.elf, program.core, struct.pack("<2IB", 99, 1, 0))


def test_what_emulators_let_pass_on_rv32e_is_refused_before_the_run(tmp_path):
    compiler = "riscv64-unknown-elf-gcc"
    require_compiler(compiler)
    product = "int hand_predict(const hand_input_t i[]) { int x; __asm__(\".insn r 0x33, 0, 1, %0, %1, %1\" : "
    product += "\"=r\"(x) : \"r\"((int)i[0])); return x; }"
    with pytest.raises(VerifyError, match=r"multiplies or divides by an instruction at 0x8.*, which RV32EC lacks"):
        hand_written(product, TARGETS["rv32ec"], tmp_path, compiler)
    wide = replace(TARGETS["rv32imc"], name="rv32ec")
    with pytest.raises(VerifyError, match="uses 32 registers, an RV32E core has 16: compile for rv32ec"):
        hand_written("int hand_predict(const hand_input_t i[]) { return i[0]; }", wide, tmp_path, compiler)


# ---- room ----------------------------------------------------------------------------------------------------------


def test_a_model_that_outgrows_an_atmega328p_runs_on_an_atmega2560():
    require_simavr()
    small, large = verify(linear_network(300), "avr", vectors=20), verify(linear_network(900), "avr", vectors=20)
    assert (small.mismatches, small.runner.split()[-1]) == (0, "(atmega328p)")
    assert (large.mismatches, large.runner.split()[-1]) == (0, "(atmega2560)")
    assert "-mmcu=atmega2560" in large.flags


def test_a_model_that_outgrows_the_fast_memory_of_the_m55_board_runs_in_its_outer_memory(monkeypatch):
    require_ways(TARGETS["cortex-m55"], "qemu")
    inside = CORES["cortex-m55"].memory
    assert verify(vote_network(), "cortex-m55", vectors=20).mismatches == 0
    small = replace(inside, flash=replace(inside.flash, length=8 * 1024))
    monkeypatch.setitem(CORES, "cortex-m55", replace(CORES["cortex-m55"], memory=small))
    assert CORES["cortex-m55"].roomy().memory.flash.length >= 8 * 1024**2
    report = verify(vote_network(), "cortex-m55", vectors=20)
    assert (report.mismatches, report.runner.split()[-1]) == (0, "(mps3-an547)")


def test_a_model_that_outgrows_every_chip_is_refused_with_the_numbers():
    require_simavr()
    with pytest.raises(VerifyError, match=r"needs \d+ bytes of flash and \d+ bytes of RAM with its stack, atmega2560"):
        verify(linear_network(6000), "avr", vectors=20)


def test_rows_that_outgrow_every_chip_are_refused_before_their_arrays_are_compiled(tmp_path):
    bits = Network([0] * 40_000, [1] * 40_000, (Dense(np.eye(2, 40_000), [0, 0]),), Argmax(2), ("a", "b"))
    with pytest.raises(NoRoomError, match="takes at least 40000 bytes of RAM, atmega2560 has 8192: choose a larger"):
        build({}, tmp_path, network=bits, name="model", target=AVR, core=core_for(AVR), toolchain=None)


# ---- missing tools -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "packages"),
    [
        ("avr", "gcc-avr and avr-libc"),
        ("rv32ec", "gcc-riscv64-unknown-elf"),
        ("cortex-m55", "gcc-arm-none-eabi"),
    ],
)
def test_a_missing_compiler_is_named_with_its_package(target, packages, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ToolMissingError, match=packages):
        verify(linear_network(), target)


@pytest.mark.parametrize(
    ("core", "packages"),
    [("avr", "libsimavr-dev and gcc"), ("cortex-m55", "qemu-system-arm"), ("rv32ec", "qemu-system-misc")],
)
def test_a_missing_emulator_is_named_with_its_package(core, packages, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(simavr_module, "_version", lambda: None)
    with pytest.raises(ToolMissingError, match=packages):
        find_runner(CORES[core])


def test_tools_that_cannot_be_compiled_are_missing_and_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "broken.c").write_text("#include <no_such_header.h>\n")
    monkeypatch.setattr(host_tools, "resource_folder", lambda name: tmp_path)
    assert host_tools.host_tool("broken.c", ()) is None


def test_a_tool_is_compiled_once_and_again_when_its_source_changes(tmp_path, monkeypatch):
    require_compiler("gcc")
    monkeypatch.setattr(host_tools, "resource_folder", lambda name: tmp_path)
    monkeypatch.setattr(host_tools, "cache_folder", lambda name: tmp_path)
    answers = []
    for status in (3, 3, 4):
        (tmp_path / "tool.c").write_text(f"int main(void) {{ return {status}; }}\n")
        host_tools.host_tool.cache_clear()
        answers.append(subprocess.run([str(host_tools.host_tool("tool.c", ()))], check=False).returncode)
    host_tools.host_tool.cache_clear()
    assert answers == [3, 3, 4]
    assert len(list(tmp_path.glob("tool-*"))) == 2
