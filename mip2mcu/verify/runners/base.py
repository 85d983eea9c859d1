"""What every runner offers: a program and bytes in, bytes out; and where instructions can be counted, counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mip2mcu.verify.cores import Core

RUN_SECONDS = 600
"""Limit of one run; a chunk of rows takes seconds."""


class Runner(Protocol):
    """Runs a linked harness on a core, real or simulated.

    name       what the user calls it
    install    one sentence: how to get what it needs
    """

    @property
    def name(self) -> str:
        """What the user calls it."""

    @property
    def install(self) -> str:
        """How to get what it needs, a phrase that follows "not installed: "."""

    def serves(self, core: Core) -> bool:
        """Whether this kind of runner models ``core`` at all."""

    def is_installed(self, core: Core) -> bool:
        """Whether what it needs for ``core`` is on this machine."""

    def version(self, core: Core) -> str:
        """Name and version of the emulator."""

    def run(self, program: Path, core: Core, frames: bytes) -> bytes:
        """What the harness answers to ``frames``; raises `VerifyError` where the program does not end with status 0."""


@dataclass(frozen=True)
class Count:
    """Cost of one function, from its first instruction to its return, both included, called functions too.

    calls    instructions executed by each call, in order; cycles where the runner counts those
    stack    most bytes of stack in use below the caller's stack pointer; 0 where it was not watched
    """

    calls: tuple[int, ...]
    stack: int = 0

    @property
    def minimum(self) -> int:
        """The cheapest call."""
        return min(self.calls)

    @property
    def maximum(self) -> int:
        """The dearest call."""
        return max(self.calls)


class CountingRunner(Runner, Protocol):
    """A runner that also counts, the same numbers every time."""

    @property
    def unit(self) -> str:
        """What it counts: "instructions" or "cycles"."""

    def can_count(self, core: Core) -> bool:
        """Whether what it needs to count on ``core`` is on this machine."""

    def count(self, program: Path, core: Core, frames: bytes, functions: tuple[str, ...]) -> Mapping[str, Count]:
        """Run as `run` does and count what each call of the named functions takes."""

    def trace(self, program: Path, core: Core, frames: bytes, functions: tuple[str, ...]) -> Mapping[str, Count]:
        """Count as `count` does, by other means and slower where there are any, and watch the stack where possible."""
