"""Cortex-M and RV32 boards under QEMU, where it is installed: the only emulator of Cortex-M55, else a second opinion.

Instructions are counted by a plug-in, firmware/qemu/count.c, where this computer has a compiler and QEMU loads it. What
the stack holds cannot be watched that way.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mip2mcu.errors import ToolMissingError, VerifyError
from mip2mcu.verify.cores import Core
from mip2mcu.verify.host_tools import host_tool
from mip2mcu.verify.runners.base import RUN_SECONDS, Count
from mip2mcu.verify.runners.image import read_image

_PROGRAMS = {"cortex-m": "qemu-system-arm", "riscv": "qemu-system-riscv32"}
"""By the folder of a core's start-up code."""
_PLUGIN_FLAGS = ("-shared", "-fPIC")
_LEAST_VERSION = re.compile(r"only a minimum version of (\d+)")
"""How QEMU refuses a plug-in of an interface that it no longer has, and which one it wants."""


@dataclass(frozen=True)
class QemuRunner:
    """Runs bare-metal programs on a simulated board; frames pass through files, by semihosting."""

    name: str = "qemu"
    install: str = "install qemu-system-arm (for RISC-V qemu-system-misc) with your system's package manager"
    unit: str = "instructions"
    seconds: float = RUN_SECONDS

    def serves(self, core: Core) -> bool:
        """Every core with a board in QEMU."""
        return core.qemu_machine is not None

    def is_installed(self, core: Core) -> bool:
        """Whether QEMU is on the path."""
        return shutil.which(_PROGRAMS[core.folder]) is not None

    def can_count(self, core: Core) -> bool:
        """Whether QEMU loads the plug-in, and a compiler makes it."""
        return _plugin(_PROGRAMS[core.folder]) is not None

    def version(self, core: Core) -> str:
        """QEMU's version and the board."""
        return f"{_version(_PROGRAMS[core.folder])} ({core.qemu_machine})"

    def run(self, program: Path, core: Core, frames: bytes) -> bytes:
        """What the harness answers to ``frames``."""
        with tempfile.TemporaryDirectory(prefix="mip2mcu-qemu-") as name:
            folder = Path(name)
            (folder / "frames.in").write_bytes(frames)
            self._start(program.resolve(), core, folder)
            output = folder / "frames.out"
            return output.read_bytes() if output.is_file() else b""

    def count(self, program: Path, core: Core, frames: bytes, functions: tuple[str, ...]) -> Mapping[str, Count]:
        """Instructions of each call of ``functions``, in one run each; the stack is not watched."""
        symbols = read_image(program).symbols
        counts = {name: self._count(program, core, frames, symbols[name] & ~1) for name in functions}
        return {name: Count(calls) for name, calls in counts.items() if calls}

    def trace(self, program: Path, core: Core, frames: bytes, functions: tuple[str, ...]) -> Mapping[str, Count]:
        """As `count`: there is no other means here."""
        return self.count(program, core, frames, functions)

    def _count(self, program: Path, core: Core, frames: bytes, address: int) -> tuple[int, ...]:
        with tempfile.TemporaryDirectory(prefix="mip2mcu-qemu-") as name:
            folder = Path(name)
            (folder / "frames.in").write_bytes(frames)
            plugin = f"{_plugin(_PROGRAMS[core.folder])},address={address},counts=counts.txt"
            self._start(program.resolve(), core, folder, ("-plugin", plugin))
            return tuple(int(line) for line in (folder / "counts.txt").read_text(encoding="ascii").split())

    def console(self, program: Path, core: Core) -> str:
        """What a program prints that reads nothing."""
        with tempfile.TemporaryDirectory(prefix="mip2mcu-qemu-") as name:
            return self._start(program.resolve(), core, Path(name))

    def _start(self, program: Path, core: Core, folder: Path, extra: tuple[str, ...] = ()) -> str:
        call = [
            _PROGRAMS[core.folder], "-M", str(core.qemu_machine), "-nographic", "-monitor", "none", "-serial", "none",
            "-semihosting-config", "enable=on,target=native", "-kernel", str(program), *extra,
        ]  # fmt: skip
        if core.qemu_cpu is not None:
            call += ["-cpu", core.qemu_cpu]
        if core.folder == "riscv":
            call += ["-bios", "none"]
        try:
            done = subprocess.run(
                call, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=self.seconds, check=False
            )
        except subprocess.TimeoutExpired:
            raise VerifyError(f"the model on QEMU's {core.qemu_machine} did not finish in {self.seconds} s") from None
        except OSError as error:
            raise ToolMissingError(f"{call[0]} cannot be started: {error.strerror}") from None
        text = (done.stdout + done.stderr).decode(errors="replace")
        if done.returncode != 0:
            headline = f"the program on QEMU's {core.qemu_machine} ended with status {done.returncode}"
            raise VerifyError("\n  ".join([headline, *text.splitlines()[:6]]))
        return text


@cache
def _version(program: str) -> str:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    except OSError as error:
        raise ToolMissingError(f"{program} cannot be started: {error.strerror}") from None
    return done.stdout.splitlines()[0].strip() if done.stdout else "QEMU of unknown version"


@cache
def _plugin(program: str) -> Path | None:
    """The plug-in, made for the interface that this QEMU has; None where it loads none, or no compiler makes one.

    Of version 2 (QEMU 9) and later nothing is known but that they name the version that they want at least: what the
    plug-in uses of the interface has the same names and types in all versions so far.
    """
    wanted = 1
    while True:
        tool = host_tool("qemu/count.c", (*_PLUGIN_FLAGS, f"-DINTERFACE={wanted}"))
        refusal = "no compiler" if tool is None else _refusal(program, tool)
        least = _LEAST_VERSION.search(refusal)
        if least is None or int(least[1]) <= wanted:
            return None if refusal else tool
        wanted = int(least[1])


def _refusal(program: str, plugin: Path) -> str:
    """What QEMU says when it cannot load ``plugin``; empty where it can."""
    with tempfile.TemporaryDirectory(prefix="mip2mcu-qemu-") as folder:
        call = [program, "-M", "none", "-display", "none", "-serial", "none", "-monitor", "stdio"]
        call += ["-plugin", f"{plugin},address=0,counts=counts.txt"]
        try:
            done = subprocess.run(call, cwd=folder, input=b"quit\n", capture_output=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{program} cannot be started: {error}"
    return "" if done.returncode == 0 else done.stderr.decode(errors="replace") or "QEMU failed"
