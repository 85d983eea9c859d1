"""A training that is done in several steps: its time, and where and for whom its tasks run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mip2mcu.mip.solver import Solver
from mip2mcu.parallel import Context, Executor
from mip2mcu.progress import Listener, Stop, never, silent

Result = TypeVar("Result")
Task = TypeVar("Task")


@dataclass(frozen=True)
class Clock:
    """When a training must end, as `time.monotonic` says it; None: it has no limit in seconds."""

    end: float | None

    @classmethod
    def of(cls, solver: Solver, began: float, share: float = 1.0) -> Clock:
        """The clock of a training, or of the first ``share`` of it, within the solver's time limit."""
        return cls(None if solver.time_limit is None else began + share * solver.time_limit)

    def left(self, share: float = 1.0) -> float | None:
        """A share of the seconds that are left."""
        return None if self.end is None else share * max(0.0, self.end - time.monotonic())

    def goes_on(self, least: float = 0.0) -> bool:
        """True where more than ``least`` seconds are left."""
        return self.end is None or time.monotonic() < self.end - least

    def stop(self, told: Stop) -> Stop:
        """Turns true when the time is over, or when it is ``told`` to stop."""
        return lambda: told() or not self.goes_on()


@dataclass(frozen=True)
class Course:
    """The way of a training through an executor: its tasks share the clock's time, ``listener`` and ``stop``."""

    run: Executor
    clock: Clock
    listener: Listener = silent
    stop: Stop = never

    def map(
        self, function: Callable[[Task, Context], Result], tasks: Sequence[Task], share: float = 1.0
    ) -> list[Result]:
        """Results in the order of ``tasks``, which have a share of the time that is left; see `Executor.map`."""
        seconds = self.clock.left(share)
        return self.run.map(function, tasks, seconds=seconds, listener=self.listener, stop=self.stop)

    def step(self, function: Callable[[Task, Context], Result], task: Task, share: float = 1.0) -> Result:
        """The result of a single task."""
        return self.map(function, [task], share)[0]

    def goes_on(self, least: float = 0.0) -> bool:
        """True where nobody has stopped it and more than ``least`` seconds are left."""
        return not self.stop() and self.clock.goes_on(least)


def until(context: Context, share: float = 1.0) -> Stop:
    """Turns true after a share of the task's seconds, or when it is told to stop."""
    clock = Clock(None if context.seconds is None else time.monotonic() + share * context.seconds)
    return clock.stop(context.stop)
