"""The computer itself: the harness is a process that reads standard input."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

from mip2mcu.errors import VerifyError
from mip2mcu.verify.cores import Core
from mip2mcu.verify.runners.base import RUN_SECONDS


@dataclass(frozen=True)
class HostRunner:
    """Runs programs that were compiled for this computer."""

    name: str = "host"
    install: str = "nothing needs to be installed"
    seconds: float = RUN_SECONDS

    def serves(self, core: Core) -> bool:
        """Only the host."""
        return core.name == "host"

    def is_installed(self, core: Core) -> bool:
        """Always."""
        return self.serves(core)

    def version(self, core: Core) -> str:
        """Processor architecture of the host."""
        return f"this computer ({platform.machine()})"

    def run(self, program: Path, core: Core, frames: bytes) -> bytes:
        """What the harness answers to ``frames``."""
        try:
            done = subprocess.run(
                [str(program)], input=frames, capture_output=True, timeout=self.seconds, check=False
            )
        except subprocess.TimeoutExpired:
            raise VerifyError(f"the model on the host did not finish {len(frames)} bytes in {self.seconds} s") from None
        except OSError as error:
            raise VerifyError(f"the program compiled for the host does not start: {error.strerror}") from None
        if done.returncode != 0:
            message = done.stderr.decode(errors="replace").strip().splitlines()[:6]
            raise VerifyError("\n  ".join([f"the model on the host ended with status {done.returncode}", *message]))
        return done.stdout
