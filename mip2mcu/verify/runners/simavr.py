"""AVR chips under simavr: the true number of cycles, for these cores take the same time for an instruction every time.

simavr is a library; firmware/avr/simulator.c is the program around it, compiled at first use. Bytes pass through three
registers of the chip that have no other purpose (firmware/avr/platform.c).
"""

from __future__ import annotations

import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mip2mcu.errors import VerifyError
from mip2mcu.verify.cores import AVR_DATA_SPACE, Core
from mip2mcu.verify.host_tools import host_tool
from mip2mcu.verify.runners.base import RUN_SECONDS, Count
from mip2mcu.verify.runners.image import Image, read_image

_FLAGS = ("-Wl,--no-as-needed", "-lsimavr")
_ERASED = b"\xff"
_FAULTS = {
    70: "fails: it left its code, met no instruction, or reached beyond the memory",
    71: "fails: its stack runs into its variables",
}


@dataclass(frozen=True)
class SimavrRunner:
    """Runs programs on a simulated AVR chip; what it counts is cycles."""

    name: str = "simavr"
    install: str = "install libsimavr-dev and gcc with your system's package manager"
    unit: str = "cycles"
    seconds: float = RUN_SECONDS

    def serves(self, core: Core) -> bool:
        """AVR chips."""
        return core.simavr_mcu is not None

    def is_installed(self, core: Core) -> bool:
        """Whether simavr's library is there, and a compiler makes a program of it."""
        return _version() is not None

    def can_count(self, core: Core) -> bool:
        """Whenever it can run."""
        return self.is_installed(core)

    def version(self, core: Core) -> str:
        """simavr's version and the chip."""
        return f"{_version()} ({core.simavr_mcu})"

    def run(self, program: Path, core: Core, frames: bytes) -> bytes:
        """What the harness answers to ``frames``."""
        return self._start(program, core, frames, ())[0]

    def count(self, program: Path, core: Core, frames: bytes, functions: tuple[str, ...]) -> Mapping[str, Count]:
        """Cycles of each call of ``functions``, and the stack they use."""
        addresses = {read_image(program).symbols[name]: name for name in functions}
        calls, stacks = defaultdict(list), dict.fromkeys(functions, 0)
        for line in self._start(program, core, frames, tuple(addresses))[1].splitlines():
            address, cycles, stack = map(int, line.split())
            calls[addresses[address]].append(cycles)
            stacks[addresses[address]] = max(stacks[addresses[address]], stack)
        return {name: Count(tuple(cycles), stacks[name]) for name, cycles in calls.items()}

    def trace(self, program: Path, core: Core, frames: bytes, functions: tuple[str, ...]) -> Mapping[str, Count]:
        """As `count`, which watches the stack already."""
        return self.count(program, core, frames, functions)

    def _start(self, program: Path, core: Core, frames: bytes, addresses: tuple[int, ...]) -> tuple[bytes, str]:
        image = read_image(program)
        with tempfile.TemporaryDirectory(prefix="mip2mcu-simavr-") as name:
            flash, counts = Path(name) / "flash.bin", Path(name) / "counts.txt"
            flash.write_bytes(_flash(image))
            lowest = image.symbols["_end"] - AVR_DATA_SPACE
            call = [str(_simulator()), str(core.simavr_mcu), str(flash), str(lowest), str(counts), *map(str, addresses)]
            try:
                done = subprocess.run(call, input=frames, capture_output=True, timeout=self.seconds, check=False)
            except subprocess.TimeoutExpired:
                raise VerifyError(f"the model on {core.simavr_mcu} did not finish within {self.seconds} s") from None
            if done.returncode != 0:
                fault = _FAULTS.get(done.returncode, f"ended with status {done.returncode}")
                message = done.stderr.decode(errors="replace").strip().splitlines()[:6]
                raise VerifyError("\n  ".join([f"the program on {core.simavr_mcu} {fault}", *message]))
            return done.stdout, counts.read_text(encoding="ascii")


def _flash(image: Image) -> bytes:
    """What the flash holds, from address 0 on."""
    flash = bytearray(_ERASED * max(address + len(data) for address, data in image.segments))
    for address, data in image.segments:
        flash[address : address + len(data)] = data
    return bytes(flash)


@cache
def _simulator() -> Path | None:
    return host_tool("avr/simulator.c", _FLAGS)


@cache
def _version() -> str | None:
    """What the simulator says about itself; None where there is none, or where its library is gone."""
    simulator = _simulator()
    if simulator is None:
        return None
    try:
        done = subprocess.run([str(simulator)], capture_output=True, text=True, check=False)
    except OSError:  # a cache on a disk that runs no programs
        return None
    return done.stdout.strip() or None
