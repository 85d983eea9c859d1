"""Cortex-M and RV32 under unicorn, an emulator that pip installs: exact to the instruction, in this process.

Semihosting breakpoints stop the emulation with an exception; the request is served and the core goes on behind the
breakpoint. Nothing else stops it, so comparison runs at the emulator's full speed. Counting adds hooks:

    count   one a basic block, whose instructions are known from the lengths of their encodings
    trace   one an instruction, which also shows the depth of the stack

Unicorn's M-profile mode would force a Cortex-M33; the mode used here is plain Thumb with the CPU model chosen, in which
a Cortex-M0 rejects 32-bit instructions that Armv6-M does not have (for the 16-bit ones see `mip2mcu.verify.decoding`).
"""

from __future__ import annotations

import importlib.util
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mip2mcu.errors import VerifyError
from mip2mcu.verify.cores import Core
from mip2mcu.verify.decoding import IT_BLOCK_BYTES, count_instructions, it_block, may_move_stack
from mip2mcu.verify.runners.base import RUN_SECONDS, Count
from mip2mcu.verify.runners.image import Image, read_image
from mip2mcu.verify.runners.semihosting import Semihosting

_SYSTEM_CONTROL_SPACE = (0xE000_E000, 0x1000)
_NEVER = 0xFFFF_FFFE


@dataclass(frozen=True)
class UnicornRunner:
    """Runs bare-metal programs in an emulated core."""

    name: str = "unicorn"
    install: str = "run `pip install unicorn pyelftools`"
    unit: str = "instructions"
    seconds: float = RUN_SECONDS

    def serves(self, core: Core) -> bool:
        """Every core with a model in unicorn."""
        return core.unicorn_model is not None

    def is_installed(self, core: Core) -> bool:
        """Whether unicorn can be imported."""
        return importlib.util.find_spec("unicorn") is not None

    def can_count(self, core: Core) -> bool:
        """Whenever it can run."""
        return self.is_installed(core)

    def version(self, core: Core) -> str:
        """Unicorn's version and its CPU model."""
        import unicorn  # noqa: PLC0415  (an optional dependency)

        return f"unicorn {unicorn.__version__} ({str(core.unicorn_model).removeprefix('UC_CPU_')})"

    def run(self, program: Path, core: Core, frames: bytes) -> bytes:
        """What the harness answers to ``frames``."""
        return bytes(_Machine(core, read_image(program), self.seconds).run(frames).output)

    def console(self, program: Path, core: Core) -> str:
        """What a program prints that reads nothing."""
        return _Machine(core, read_image(program), self.seconds).run(b"").console.decode(errors="replace")

    def count(self, program: Path, core: Core, frames: bytes, functions: tuple[str, ...]) -> Mapping[str, Count]:
        """Instructions of each call of ``functions``, by basic blocks; the stack is not watched."""
        return self._follow(_BlockCounter, program, core, frames, functions)

    def trace(self, program: Path, core: Core, frames: bytes, functions: tuple[str, ...]) -> Mapping[str, Count]:
        """Instructions of each call of ``functions`` one by one, and the stack they use."""
        return self._follow(_InstructionTracer, program, core, frames, functions)

    def _follow(
        self,
        follower: type[_CallFollower],
        program: Path,
        core: Core,
        frames: bytes,
        functions: tuple[str, ...],
    ) -> Mapping[str, Count]:
        image = read_image(program)
        machine = _Machine(core, image, self.seconds)
        following = follower(machine, {name: image.symbols[name] & ~1 for name in functions})
        machine.run(frames)
        return following.result()


class _Machine:
    """A core with its memory, loaded and reset."""

    def __init__(self, core: Core, image: Image, seconds: float) -> None:
        import unicorn  # noqa: PLC0415  (an optional dependency)

        assert core.memory is not None
        self.core = core
        self.seconds = seconds
        self.is_arm = core.folder == "cortex-m"
        self.unicorn = unicorn
        if self.is_arm:
            from unicorn import arm_const as constants  # noqa: PLC0415

            self.engine = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB)
            self.first, self.second = constants.UC_ARM_REG_R0, constants.UC_ARM_REG_R1
            self.pc, self.sp, self.lr = constants.UC_ARM_REG_PC, constants.UC_ARM_REG_SP, constants.UC_ARM_REG_LR
            self.breakpoint = b"\xab\xbe"
        else:
            from unicorn import riscv_const as constants  # noqa: PLC0415

            self.engine = unicorn.Uc(unicorn.UC_ARCH_RISCV, unicorn.UC_MODE_RISCV32)
            self.first, self.second = constants.UC_RISCV_REG_A0, constants.UC_RISCV_REG_A1
            self.pc, self.sp, self.lr = constants.UC_RISCV_REG_PC, constants.UC_RISCV_REG_SP, constants.UC_RISCV_REG_RA
            self.breakpoint = b"\x73\x00\x10\x00"
        self.engine.ctl_set_cpu_model(getattr(constants, str(core.unicorn_model)))
        self._load(image)

    def _load(self, image: Image) -> None:
        memory = self.core.memory
        assert memory is not None
        flash_rights = self.unicorn.UC_PROT_READ | self.unicorn.UC_PROT_EXEC
        self.engine.mem_map(memory.flash.origin, memory.flash.length, flash_rights)
        self.engine.mem_map(memory.ram.origin, memory.ram.length, self.unicorn.UC_PROT_ALL)
        for address, data in image.segments:
            self.engine.mem_write(address, data)
        self.start = image.entry & ~1
        if self.is_arm:
            self.engine.mem_map(*_SYSTEM_CONTROL_SPACE)
            stack_top, reset = struct.unpack("<2I", self.engine.mem_read(memory.flash.origin, 8))
            self.engine.reg_write(self.sp, stack_top)
            self.start = reset & ~1

    def run(self, frames: bytes) -> Semihosting:
        """Run from reset to the program's exit."""
        host = Semihosting(frames, lambda a, n: bytes(self.engine.mem_read(a, n)), self.engine.mem_write)
        # Unicorn's own timeout would poll in a second thread, at half the speed on a machine of two cores.
        watch = threading.Timer(self.seconds, self.engine.emu_stop)
        watch.daemon = True
        watch.start()
        try:
            self._run_and_serve(host)
        finally:
            watch.cancel()
        if host.status != 0:
            raise VerifyError(f"the program on {self.core.name} ended with status {host.status}")
        return host

    def _run_and_serve(self, host: Semihosting) -> None:
        address = self.start
        while host.status is None:
            address = self._run_to_breakpoint(address)
            answer = host.serve(self.engine.reg_read(self.first), self.engine.reg_read(self.second))
            self.engine.reg_write(self.first, answer)
            address += len(self.breakpoint)

    def _run_to_breakpoint(self, address: int) -> int:
        fault = f"it did not finish within {self.seconds} s"
        try:
            self.engine.emu_start(address | (1 if self.is_arm else 0), _NEVER)
        except self.unicorn.UcError as error:
            fault = str(error)
        stopped = self.engine.reg_read(self.pc)
        if not self._is_breakpoint(stopped):
            raise VerifyError(f"the program on {self.core.name} fails at address {stopped:#010x}: {fault}")
        return stopped

    def _is_breakpoint(self, address: int) -> bool:
        try:
            return bytes(self.engine.mem_read(address, len(self.breakpoint))) == self.breakpoint
        except self.unicorn.UcError:
            return False


class _CallFollower:
    """Follows the calls of some functions: from the function's address to the address that it returns to.

    Calls that happen inside a followed call belong to it. Subclasses say what a step (a block, an instruction) costs.
    """

    def __init__(self, machine: _Machine, functions: Mapping[str, int]) -> None:
        self.machine = machine
        self.names = {address: name for name, address in functions.items()}
        self.counts: dict[str, list[int]] = {name: [] for name in functions}
        self.stacks = dict.fromkeys(functions, 0)
        self.active: str | None = None
        self.return_address = 0
        self.stack_top = 0
        self.instructions = 0

    def step(self, engine: Any, address: int, size: int, _: Any) -> None:
        """Called before each step of the core."""
        if self.active is None:
            name = self.names.get(address)
            if name is None:
                return
            self.active = name
            self.return_address = engine.reg_read(self.machine.lr) & ~1
            self.stack_top = engine.reg_read(self.machine.sp)
            self.instructions = 0
        elif address == self.return_address:
            self.counts[self.active].append(self.instructions)
            self.active = None
            return
        self.add(engine, address, size)

    def add(self, engine: Any, address: int, size: int) -> None:
        """Add the step at ``address`` to the active call."""
        raise NotImplementedError

    def result(self) -> dict[str, Count]:
        """Counts of the functions that were called."""
        return {name: Count(tuple(counts), self.stacks[name]) for name, counts in self.counts.items() if counts}


class _BlockCounter(_CallFollower):
    """Counts instructions a basic block at a time."""

    def __init__(self, machine: _Machine, functions: Mapping[str, int]) -> None:
        super().__init__(machine, functions)
        self.lengths: dict[tuple[int, int], int] = {}
        machine.engine.hook_add(machine.unicorn.UC_HOOK_BLOCK, self.step)

    def add(self, engine: Any, address: int, size: int) -> None:
        key = (address, size)
        if key not in self.lengths:
            self.lengths[key] = count_instructions(bytes(engine.mem_read(address, size)), self.machine.is_arm)
        self.instructions += self.lengths[key]


class _InstructionTracer(_CallFollower):
    """Counts instructions one by one and watches the stack pointer; some ten times slower.

    The hook is not called for instructions of an IT block whose condition fails. They are executed all the same (as
    no-operations), so a whole IT block is counted at its IT instruction.
    """

    def __init__(self, machine: _Machine, functions: Mapping[str, int]) -> None:
        super().__init__(machine, functions)
        self.decoded: dict[int, tuple[bool, int, range]] = {}
        self.may_have_moved = True
        self.covered = range(0)
        machine.engine.hook_add(machine.unicorn.UC_HOOK_CODE, self.step)

    def add(self, engine: Any, address: int, size: int) -> None:
        if self.may_have_moved:
            assert self.active is not None
            depth = self.stack_top - engine.reg_read(self.machine.sp)
            self.stacks[self.active] = max(self.stacks[self.active], depth)
        if address not in self.decoded:
            self.decoded[address] = self._decode(engine, address, size)
        self.may_have_moved, counted, covers = self.decoded[address]
        if address not in self.covered:
            self.instructions += counted
            self.covered = covers

    def _decode(self, engine: Any, address: int, size: int) -> tuple[bool, int, range]:
        """Whether the instruction may move the stack pointer, what it counts, and the addresses that this includes."""
        code = bytes(engine.mem_read(address, size + IT_BLOCK_BYTES)) if self.machine.is_arm else b""
        extra, extra_bytes = it_block(code)
        first = int.from_bytes(engine.mem_read(address, 2), "little")
        covered = range(address + size, address + size + extra_bytes)
        return may_move_stack(first, self.machine.is_arm), 1 + extra, covered
