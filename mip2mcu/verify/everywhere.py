"""Verification on every target at once: each of them under every runner that is installed, and the host's compilers.

    verify_everywhere(network)  ->  Sweep(reports, skipped)

What could not be done is part of the result, with the reason: a tool that is not installed (and how to get it), memory
that no board has, C that a target cannot hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mip2mcu.errors import ExportError, NoRoomError, ToolMissingError, VerifyError
from mip2mcu.export.options import ExportOptions
from mip2mcu.export.targets import TARGETS
from mip2mcu.network import Network
from mip2mcu.verify.cores import core_for
from mip2mcu.verify.report import Report
from mip2mcu.verify.runners import runners_for
from mip2mcu.verify.verification import DEFAULT_VECTORS, Subject, Way, verify_way

if TYPE_CHECKING:
    from mip2mcu.dataset import Dataset

HOST_COMPILERS = ("gcc", "clang")
OPTIMISATIONS = ("-O0", "-Os", "-O2", "-O3")


@dataclass(frozen=True)
class Skipped:
    """A way that was not gone, and why; ``is_missing`` where a tool is not installed."""

    way: Way
    reason: str
    is_missing: bool = False


@dataclass(frozen=True)
class Sweep:
    """What was verified, way by way, and what was not."""

    reports: Sequence[tuple[Way, Report]]
    skipped: Sequence[Skipped]

    @property
    def vectors(self) -> int:
        """Of all ways together."""
        return sum(report.vectors for _, report in self.reports)

    @property
    def mismatches(self) -> int:
        """Of all ways together."""
        return sum(report.mismatches for _, report in self.reports)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "vectors": self.vectors,
            "mismatches": self.mismatches,
            "ways": [{"way": str(way), **report.as_dict()} for way, report in self.reports],
            "skipped": [{"way": str(entry.way), "reason": entry.reason} for entry in self.skipped],
        }


def all_ways() -> Iterator[Way]:
    """The host under every compiler and optimisation, then every core under every emulator that models it."""
    host = TARGETS["host"]
    for compiler in HOST_COMPILERS:
        for optimisation in OPTIMISATIONS:
            yield Way(host, "host", compiler, optimisation)
        yield Way(host, "host", compiler, "-O1", sanitize=True)
    yield Way(host, "host", "zig")
    yield Way(TARGETS["generic"], "host")
    for target in TARGETS.values():
        if target.family not in ("host", "generic"):
            yield from (Way(target, runner.name) for runner in runners_for(core_for(target)))


def verify_everywhere(
    network: Network,
    data: Dataset | None = None,
    *,
    vectors: int = DEFAULT_VECTORS,
    seed: int = 0,
    name: str = "model",
    options: ExportOptions | None = None,
    listener: Callable[[Way], None] = lambda way: None,
) -> Sweep:
    """`verify` on every one of `all_ways` that this machine can go; ``listener`` hears of each before it is gone.

    Raises `VerifyError` where a program fails, and `ToolMissingError` where nothing at all could be verified.
    """
    subject = Subject(network, data, vectors, seed, name, options or ExportOptions())
    reports, skipped = [], []
    for way in all_ways():
        listener(way)
        try:
            report = verify_way(subject, way)
        except (ToolMissingError, NoRoomError, ExportError) as error:
            skipped.append(Skipped(way, str(error), isinstance(error, ToolMissingError)))
        except VerifyError as error:
            if not (way.sanitize and "could not compile" in str(error)):
                raise VerifyError(f"{way}: {error}") from None
            skipped.append(Skipped(way, f"{way.toolchain} cannot link its sanitizers here"))
        else:
            reports.append((way, report))
    if not reports:
        raise ToolMissingError("nothing is installed that compiles and runs C: `mip2mcu doctor` says what to install")
    return Sweep(reports, skipped)
