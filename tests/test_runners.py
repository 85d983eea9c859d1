"""Runners: the same answers everywhere, faults where the silicon faults, counts that repeat to the instruction."""

import importlib.util
import shutil
import struct

import numpy as np
import pytest

from mip2mcu.errors import ToolMissingError, UsageError, VerifyError
from mip2mcu.export import TARGETS
from mip2mcu.verify.cores import CORES, core_for
from mip2mcu.verify.decoding import count_instructions, it_block, may_move_stack
from mip2mcu.verify.runners import RUNNERS, counting_runner, find_runner, runners_for
from mip2mcu.verify.runners.host import HostRunner
from mip2mcu.verify.runners.qemu import QemuRunner
from mip2mcu.verify.runners.semihosting import Semihosting
from mip2mcu.verify.runners.unicorn import UnicornRunner
from tests.conftest import require
from tests.verify_support import (
    cortex_m,
    hand_written,
    harness,
    require_compiler,
    require_qemu,
    sign_network,
    vote_network,
)

M0, M3 = cortex_m("0"), cortex_m("3")
EMULATED = [cortex_m(suffix) for suffix in ("0", "3", "4", "7", "33")] + [TARGETS["rv32imc"]]
WITH_BOARD = [target for target in EMULATED if CORES[target.name].qemu_machine]

predict_request = struct.Struct("<2IB").pack


def by_name(target):
    return target.name


# ---- the same answers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", [sign_network(), vote_network()])
@pytest.mark.parametrize("target", EMULATED, ids=by_name)
def test_an_emulated_core_answers_what_the_host_answers(target, network, tmp_path):
    (tmp_path / "host").mkdir()
    (tmp_path / "core").mkdir()
    rows = np.random.default_rng(0).integers(0, network.input_high + 1, (500, network.inputs))
    host = harness(network, TARGETS["host"], tmp_path / "host", "host").infer(rows)
    core = harness(network, target, tmp_path / "core").infer(rows)
    for name, values in vars(host).items():
        np.testing.assert_array_equal(getattr(core, name), values, err_msg=name)


@pytest.mark.parametrize("target", WITH_BOARD, ids=by_name)
def test_qemu_answers_what_unicorn_answers_from_the_same_file(target, tmp_path):
    require(RUNNERS["qemu"].is_installed(CORES[target.name]), f"QEMU for {target.name} is not installed")
    network = sign_network()
    rows = np.random.default_rng(1).integers(0, 256, (3000, network.inputs))
    unicorn = harness(network, target, tmp_path)
    request = unicorn.infer_request(rows)
    program = unicorn.program
    assert RUNNERS["qemu"].run(program.elf, program.core, request) == RUNNERS["unicorn"].run(
        program.elf, program.core, request
    )


def test_a_program_reads_many_requests_in_one_run(tmp_path):
    network = sign_network()
    rows = np.random.default_rng(2).integers(0, 256, (5, network.inputs))
    on_core = harness(network, M0, tmp_path)
    request, program = on_core.infer_request(rows), on_core.program
    once = RUNNERS["unicorn"].run(program.elf, program.core, request)
    assert RUNNERS["unicorn"].run(program.elf, program.core, request * 3) == once * 3


def for_cortex_m3(instructions):
    """A model whose predict is assembled for a Cortex-M3; everything around it is compiled for the target."""
    assembly = ".syntax unified\\n" + instructions.replace("\n", "\\n")
    return f"""
    __asm__(".cpu cortex-m3");
    __attribute__((naked)) int hand_predict(const hand_input_t input[]) {{
        __asm__ volatile("{assembly}\\nmovs r0, #1\\nbx lr");
    }}"""


# ---- faults --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("instructions", "what"),
    [
        ("movw r0, #1", "Thumb-2's 16-bit constants"),
        ("movs r1, #3\n udiv r0, r1, r1", "division"),
        ("ldr.w r0, [r0]", "32-bit loads"),
        ("ands.w r0, r0, #0xff00ff00", "modified constants"),
    ],
)
def test_a_cortex_m0_rejects_instructions_beyond_armv6m(instructions, what, tmp_path):
    require_compiler("arm-none-eabi-gcc")
    program = hand_written(for_cortex_m3(instructions), M0, tmp_path, toolchain="arm-none-eabi-gcc")
    request = predict_request(6, 1, 7)
    assert RUNNERS["unicorn"].run(program.elf, CORES["cortex-m3"], request) == struct.pack("<i", 1), what
    with pytest.raises(VerifyError, match=r"on cortex-m0 fails at address 0x00000.*Invalid instruction"):
        RUNNERS["unicorn"].run(program.elf, CORES["cortex-m0"], request)


@pytest.mark.parametrize(
    ("instructions", "name"), [("cmp r0, r0\nit eq\nmoveq r0, #1", "it"), ("cbz r0, 1f\nnop\n1: nop", "cbz or cbnz")]
)
def test_what_emulators_let_pass_on_a_cortex_m0_is_refused_before_the_run(instructions, name, tmp_path):
    require_compiler("arm-none-eabi-gcc")
    with pytest.raises(VerifyError, match=f"the instruction {name} at 0x00000.*, which a Cortex-M0 lacks"):
        hand_written(for_cortex_m3(instructions), M0, tmp_path, toolchain="arm-none-eabi-gcc")


def test_a_program_compiled_for_cortex_m3_fails_on_cortex_m0(tmp_path):
    program = hand_written("int hand_predict(const hand_input_t i[]) { return i[0] / 7; }", M3, tmp_path)
    with pytest.raises(VerifyError, match="on cortex-m0 fails"):
        RUNNERS["unicorn"].run(program.elf, CORES["cortex-m0"], predict_request(6, 1, 7))


FAULTY = {
    "a write to flash": "static const volatile int table[1] = {5};\n"
    "int hand_predict(const hand_input_t i[]) { *(volatile int *)(uintptr_t)&table[0] = i[0]; return 0; }",
    "a read where nothing is": "int hand_predict(const hand_input_t i[])"
    " { return *(volatile int *)(uintptr_t)(0x60000000u + 4u * i[0]); }",
    "a misaligned word": "int hand_predict(const hand_input_t i[])"
    " { return *(volatile int *)(uintptr_t)(0x20000001u + 4u * i[0]); }",
}


@pytest.mark.parametrize(
    ("runner", "fault"),
    # QEMU's micro:bit ignores writes to flash.
    [("unicorn", fault) for fault in FAULTY] + [("qemu", fault) for fault in FAULTY if fault != "a write to flash"],
)
def test_a_faulting_model_is_an_error_and_no_result(runner, fault, tmp_path):
    if runner == "qemu":
        require_qemu()
    program = hand_written(FAULTY[fault], M0, tmp_path)
    with pytest.raises(VerifyError, match=r"fails at address|ended with status 70"):
        RUNNERS[runner].run(program.elf, program.core, predict_request(6, 1, 7))


@pytest.mark.parametrize("runner", [HostRunner(seconds=0.3), UnicornRunner(seconds=0.3), QemuRunner(seconds=2)])
def test_a_model_that_never_ends_is_an_error(runner, tmp_path):
    if runner.name == "qemu":
        require_qemu()
    target = TARGETS["host"] if runner.name == "host" else M0
    endless = "int hand_predict(const hand_input_t i[]) { volatile int x = i[0]; while (x == 7) {} return 0; }"
    program = hand_written(endless, target, tmp_path)
    with pytest.raises(VerifyError, match=rf"did not finish .*{runner.seconds} s"):
        runner.run(program.elf, program.core, predict_request(6, 1, 7))


def test_a_crash_on_the_host_is_an_error(tmp_path):
    crash = "int hand_predict(const hand_input_t i[]) { return *(volatile int *)(uintptr_t)(8u + i[0]); }"
    program = hand_written(crash, TARGETS["host"], tmp_path)
    with pytest.raises(VerifyError, match="the model on the host ended with status -11"):
        RUNNERS["host"].run(program.elf, program.core, predict_request(6, 1, 0))


def test_an_unknown_request_ends_the_harness_with_status_1(tmp_path):
    program = hand_written("int hand_predict(const hand_input_t i[]) { return i[0]; }", M0, tmp_path)
    with pytest.raises(VerifyError, match="ended with status 1"):
        RUNNERS["unicorn"].run(program.elf, program.core, predict_request(99, 1, 0))


# ---- counting ------------------------------------------------------------------------------------------------------

NAKED = """
__attribute__((naked)) int hand_predict(const hand_input_t input[]) {{
    __asm__ volatile(".syntax unified\\n{}");
}}"""


def counted(instructions, target, folder, rows=(0,)):
    """Count and trace of a function in assembly, called once with each of ``rows``."""
    program = hand_written(NAKED.format(instructions.replace("\n", "\\n")), target, folder)
    request = struct.pack("<2I", 6, len(rows)) + bytes(rows)
    runner = UnicornRunner()
    arguments = (program.elf, program.core, request, ("hand_predict",))
    return runner.count(*arguments)["hand_predict"], runner.trace(*arguments)["hand_predict"]


def test_two_instructions_count_as_two(tmp_path):
    count, trace = counted("movs r0, #0\nbx lr", M0, tmp_path)
    assert count.calls == trace.calls == (2,)
    assert trace.stack == 0


def test_a_loop_counts_every_round_and_a_push_its_stack(tmp_path):
    # ldrb, push, adds; r0 times subs, bne; pop
    text = "ldrb r0, [r0]\npush {r4-r7, lr}\n1: subs r0, #1\nbne 1b\npop {r4-r7, pc}"
    count, trace = counted(text, M0, tmp_path, (1, 2, 9))
    assert count.calls == trace.calls == (5, 7, 21)
    assert (count.minimum, count.maximum) == (5, 21)
    assert trace.stack == 20


def test_called_functions_count_and_their_stack_adds_up(tmp_path):
    text = "push {r4, lr}\nbl 1f\npop {r4, pc}\n1: push {r0-r7}\nadd sp, #32\nbx lr"
    count, trace = counted(text, M0, tmp_path)
    assert count.calls == trace.calls == (6,)
    assert trace.stack == 40


def test_instructions_whose_condition_fails_are_executed_too(tmp_path):
    text = "ldrb r0, [r0]\ncmp r0, #1\nittee eq\nmoveq r0, #2\nmoveq.w r1, #2\nmovne r0, #3\nmovne.w r1, #3\nbx lr"
    count, trace = counted(text, M3, tmp_path, (0, 1))
    assert count.calls == trace.calls == (8, 8)


@pytest.mark.parametrize("target", EMULATED, ids=by_name)
def test_counts_repeat_to_the_instruction_and_agree_with_the_trace(target, tmp_path):
    on_core = harness(sign_network(), target, tmp_path)
    rows = np.random.default_rng(3).integers(0, 256, (20, 8))
    program = on_core.program
    arguments = (program.elf, program.core, on_core.predict_request(rows), ("model_predict",))
    first = UnicornRunner().count(*arguments)
    assert first == UnicornRunner().count(*arguments)
    assert len(first["model_predict"].calls) == 20
    assert UnicornRunner().trace(*arguments)["model_predict"].calls == first["model_predict"].calls


@pytest.mark.parametrize(
    ("code", "thumb", "instructions"),
    [
        ("0020 7047", True, 2),  # movs r0, #0; bx lr
        ("40f20100 fff7feff 7047", True, 3),  # movw r0, #1; bl; bx lr
        ("0145 6f000000 13050500", False, 3),  # c.li a0, 0; j; addi a0, a0, 0
    ],
)
def test_instruction_lengths(code, thumb, instructions):
    assert count_instructions(bytes.fromhex(code), thumb) == instructions


def test_the_length_of_an_it_block():
    assert it_block(bytes.fromhex("08bf 0120")) == (1, 2)  # it eq; moveq
    assert it_block(bytes.fromhex("02bf 40f20100 0120 0120")) == (3, 8)  # ittt eq with one 32-bit instruction
    assert it_block(bytes.fromhex("00bf 0120")) == (0, 0)  # nop
    assert it_block(b"") == (0, 0)


@pytest.mark.parametrize(
    ("instruction", "thumb", "moves"),
    [
        (0xB510, True, True),  # push {r4, lr}
        (0xBD10, True, True),  # pop {r4, pc}
        (0xB082, True, True),  # sub sp, #8
        (0x46BD, True, True),  # mov sp, r7
        (0xE92D, True, True),  # push.w
        (0x9001, True, False),  # str r0, [sp, #4]
        (0xAF00, True, False),  # add r7, sp, #0
        (0xC80F, True, False),  # ldmia r0!, {r0-r3}
        (0x1141, False, True),  # c.addi sp, -16
        (0x7179, False, True),  # c.addi16sp sp, -48
        (0x0113, False, True),  # addi sp, ...
        (0x1800, False, False),  # c.addi4spn s0, sp, 48
        (0x0513, False, False),  # addi a0, ...
        (0x4532, False, False),  # c.lwsp a0, 12(sp)
    ],
)
def test_what_may_move_the_stack_pointer(instruction, thumb, moves):
    assert may_move_stack(instruction, thumb) is moves


def test_the_stack_of_a_frame_that_no_push_makes_is_seen(tmp_path):
    _, trace = counted("mov r1, sp\nsubs r1, #24\nmov r2, sp\nmov sp, r1\nnop\nmov sp, r2\nbx lr", M0, tmp_path)
    assert trace.stack == 24


# ---- finding -------------------------------------------------------------------------------------------------------


def test_unicorn_is_preferred_and_qemu_is_there_when_asked_for():
    assert [runner.name for runner in runners_for(CORES["cortex-m0"])] == ["unicorn", "qemu"]
    assert find_runner(CORES["cortex-m0"]).name == "unicorn"
    assert find_runner(CORES["host"]).name == "host"


def test_a_runner_that_does_not_serve_the_core_is_a_usage_error():
    with pytest.raises(UsageError, match="no runner 'host' runs cortex-m0; those that do: unicorn, qemu"):
        find_runner(CORES["cortex-m0"], "host")


def test_without_emulators_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ToolMissingError, match=r"pip install unicorn pyelftools.*qemu-system-arm"):
        find_runner(CORES["cortex-m0"])
    assert counting_runner(CORES["cortex-m0"]) is None


def test_a_runner_that_was_asked_for_by_name_is_the_only_one_that_is_missed(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ToolMissingError, match=r"^qemu is not installed: install qemu-system-arm"):
        find_runner(CORES["cortex-m0"], "qemu")


def test_qemu_runs_where_unicorn_is_missing(monkeypatch):
    require_qemu()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert find_runner(CORES["cortex-m0"]).name == "qemu"


def test_the_least_core_proves_a_family():
    assert core_for(TARGETS["cortex-m"]).name == "cortex-m0"
    assert core_for(TARGETS["generic"]).name == "host"


def test_the_version_of_each_emulator_is_stated():
    assert UnicornRunner().version(CORES["cortex-m0"]).endswith("(ARM_CORTEX_M0)")
    require_qemu()
    assert RUNNERS["qemu"].version(CORES["cortex-m0"]).startswith("QEMU emulator version")


# ---- semihosting ---------------------------------------------------------------------------------------------------


def test_semihosting_reads_to_the_end_and_says_what_is_missing():
    memory = bytearray(64)
    memory[0:12] = struct.pack("<3I", 1, 32, 8)

    def write(address, data):
        memory[address : address + len(data)] = data

    host = Semihosting(b"abcdefghij", lambda address, size: bytes(memory[address : address + size]), write)
    assert [host.serve(0x06, 0) for _ in range(3)] == [0, 6, 8]
    assert memory[32:40] == b"ijcdefgh"


def test_semihosting_refuses_what_it_does_not_know():
    host = Semihosting(b"", lambda address, size: bytes(size), lambda address, data: None)
    with pytest.raises(VerifyError, match="semihosting operation 0x11"):
        host.serve(0x11, 0)
