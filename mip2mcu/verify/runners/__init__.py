"""Runners: the ways to execute a compiled harness. `base.py` has the interface; to add one: one file, one row here."""

from __future__ import annotations

from mip2mcu.errors import ToolMissingError, UsageError
from mip2mcu.verify.cores import Core
from mip2mcu.verify.runners.base import Count, CountingRunner, Runner
from mip2mcu.verify.runners.host import HostRunner
from mip2mcu.verify.runners.qemu import QemuRunner
from mip2mcu.verify.runners.simavr import SimavrRunner
from mip2mcu.verify.runners.unicorn import UnicornRunner

__all__ = ["RUNNERS", "Count", "CountingRunner", "Runner", "counting_runner", "find_runner", "runners_for"]

RUNNERS: dict[str, Runner] = {
    runner.name: runner for runner in (HostRunner(), UnicornRunner(), QemuRunner(), SimavrRunner())
}
"""All runners by name, the preferred ones first."""

_COUNTING: tuple[CountingRunner, ...] = (UnicornRunner(), SimavrRunner(), QemuRunner())


def runners_for(core: Core) -> tuple[Runner, ...]:
    """Every runner that models ``core``, installed or not."""
    return tuple(runner for runner in RUNNERS.values() if runner.serves(core))


def find_runner(core: Core, name: str | None = None) -> Runner:
    """The preferred runner for ``core`` that is installed, or the one called ``name``.

    Raises `UsageError` for a name that does not serve ``core`` and `ToolMissingError` where none is installed.
    """
    serving = runners_for(core)
    names = [runner.name for runner in serving]
    if name is not None and name not in names:
        raise UsageError(f"no runner {name!r} runs {core.name}; those that do: {', '.join(names)}")
    candidates = [runner for runner in serving if name in (None, runner.name)]
    for runner in candidates:
        if runner.is_installed(core):
            return runner
    advice = ", or ".join(runner.install for runner in candidates)
    if name is not None:
        raise ToolMissingError(f"{name} is not installed: {advice}")
    raise ToolMissingError(f"running code for {core.name} needs {' or '.join(names)}, which is not installed: {advice}")


def counting_runner(core: Core) -> CountingRunner | None:
    """An installed runner that counts on ``core``; None where there is none."""
    return next((r for r in _COUNTING if r.serves(core) and r.is_installed(core) and r.can_count(core)), None)
