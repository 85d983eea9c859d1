"""Cortex-M boards under QEMU, where it is installed: a second opinion beside unicorn."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mip2mcu.errors import VerifyError
from mip2mcu.verify.cores import Core
from mip2mcu.verify.runners.base import RUN_SECONDS

_PROGRAM = "qemu-system-arm"


@dataclass(frozen=True)
class QemuRunner:
    """Runs bare-metal programs on a simulated board; frames pass through files, by semihosting."""

    name: str = "qemu"
    install: str = "install qemu-system-arm with your system's package manager"
    seconds: float = RUN_SECONDS

    def serves(self, core: Core) -> bool:
        """Every core with a board in QEMU."""
        return core.qemu_machine is not None

    def is_installed(self, core: Core) -> bool:
        """Whether QEMU is on the path."""
        return shutil.which(_PROGRAM) is not None

    def version(self, core: Core) -> str:
        """QEMU's version and the board."""
        return f"{_version()} ({core.qemu_machine})"

    def run(self, program: Path, core: Core, frames: bytes) -> bytes:
        """What the harness answers to ``frames``."""
        with tempfile.TemporaryDirectory(prefix="mip2mcu-qemu-") as name:
            folder = Path(name)
            (folder / "frames.in").write_bytes(frames)
            self._start(program.resolve(), core, folder)
            output = folder / "frames.out"
            return output.read_bytes() if output.is_file() else b""

    def console(self, program: Path, core: Core) -> str:
        """What a program prints that reads nothing."""
        with tempfile.TemporaryDirectory(prefix="mip2mcu-qemu-") as name:
            return self._start(program.resolve(), core, Path(name))

    def _start(self, program: Path, core: Core, folder: Path) -> str:
        call = [
            _PROGRAM, "-M", str(core.qemu_machine), "-nographic", "-monitor", "none", "-serial", "none",
            "-semihosting-config", "enable=on,target=native", "-kernel", str(program),
        ]  # fmt: skip
        try:
            done = subprocess.run(
                call, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=self.seconds, check=False
            )
        except subprocess.TimeoutExpired:
            raise VerifyError(f"the model on QEMU's {core.qemu_machine} did not finish in {self.seconds} s") from None
        text = (done.stdout + done.stderr).decode(errors="replace")
        if done.returncode != 0:
            headline = f"the program on QEMU's {core.qemu_machine} ended with status {done.returncode}"
            raise VerifyError("\n  ".join([headline, *text.splitlines()[:6]]))
        return text


@cache
def _version() -> str:
    done = subprocess.run([_PROGRAM, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[0].strip() if done.stdout else "QEMU of unknown version"
