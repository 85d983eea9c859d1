"""The time of a training that is done in several steps."""

from __future__ import annotations

import time
from dataclasses import dataclass

from mip2mcu.mip.solver import Solver
from mip2mcu.parallel import Context
from mip2mcu.progress import Stop


@dataclass(frozen=True)
class Clock:
    """When a training must end, as `time.monotonic` says it; None: it has no limit in seconds."""

    end: float | None

    @classmethod
    def of(cls, solver: Solver, began: float) -> Clock:
        """The clock of a training within the solver's time limit."""
        return cls(None if solver.time_limit is None else began + solver.time_limit)

    def left(self, share: float = 1.0) -> float | None:
        """A share of the seconds that are left."""
        return None if self.end is None else share * max(0.0, self.end - time.monotonic())

    def goes_on(self, least: float = 0.0) -> bool:
        """True where more than ``least`` seconds are left."""
        return self.end is None or time.monotonic() < self.end - least


def until(context: Context, share: float = 1.0) -> Stop:
    """Turns true after a share of the task's seconds, or when it is told to stop."""
    clock = Clock(None if context.seconds is None else time.monotonic() + share * context.seconds)
    return lambda: context.stop() or not clock.goes_on()
