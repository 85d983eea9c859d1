"""The commands about verification as a whole: every target at once, and what is installed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mip2mcu import console
from mip2mcu.cli_options import JSON
from mip2mcu.errors import UsageError

if TYPE_CHECKING:
    from mip2mcu.dataset import Dataset
    from mip2mcu.export import ExportOptions
    from mip2mcu.network import Network
    from mip2mcu.verify.doctor import Diagnosis
    from mip2mcu.verify.everywhere import Sweep, Way
    from mip2mcu.verify.report import Report

ALL = "all"
"""As a target of `verify`: all of them."""

_TOOL_OPTIONS = (
    click.option("--runner", help="host, unicorn, qemu or simavr.  [default: the first that is installed]"),
    click.option("--toolchain", help="Compiler: gcc, clang, zig, arm-none-eabi-gcc, ...  [default: likewise]"),
    click.option(
        "--optimisation",
        type=click.Choice(["O0", "O1", "O2", "O3", "Os"]),
        help="The compiler's optimisation.  [default: O2]",
    ),
    click.option("--sanitize", is_flag=True, help="On the host, with address and undefined-behaviour sanitizers."),
)


def tool_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives ``command`` the options that say how C is compiled and run."""
    for option in reversed(_TOOL_OPTIONS):
        command = option(command)
    return command


# ---- every target --------------------------------------------------------------------------------------------------


def everywhere(
    network: Network,
    rows: Dataset | None,
    *,
    vectors: int,
    seed: int,
    name: str,
    options: ExportOptions | None,
    fixed: dict[str, Any],
    documents: tuple[str, ...],
    as_json: bool,
) -> int:
    """`mip2mcu verify --target all`: print one table and what was skipped; returns how many ways did not pass.

    ``fixed`` are options that mean one target, and so must not be given.
    """
    from mip2mcu.verify import evidence  # noqa: PLC0415  (emulators load only where they are needed)
    from mip2mcu.verify.everywhere import verify_everywhere  # noqa: PLC0415

    for option, value in fixed.items():
        if value:
            raise UsageError(f"{option} goes with one target, and --target all takes each in turn: leave it out")
    with console.LiveLine() as live:
        say = live.silent if as_json else lambda way: live.show(str(way))
        sweep = verify_everywhere(network, rows, vectors=vectors, seed=seed, name=name, options=options, listener=say)
    evidence.write_documents(documents, [report for _, report in sweep.reports])
    click.echo(json.dumps(sweep.as_dict(), sort_keys=True) if as_json else "\n".join(_sweep_lines(sweep)))
    return sum(not report.passed for _, report in sweep.reports)


def _sweep_lines(sweep: Sweep) -> list[str]:
    header = ["target", "run by", "compiler", "flags", "vectors", "mismatches", "predict takes"]
    table = console.table(header, [_cells(way, report) for way, report in sweep.reports], left=4)
    lines = [table, ""]
    lines += [f"skipped     {'; '.join(ways)}: {reason}" for reason, ways in _skipped_by_reason(sweep).items()]
    if any(entry.is_missing for entry in sweep.skipped):
        lines.append("install     `mip2mcu doctor` gives one command that installs what is missing")
    lines.append(
        f"mismatches  {sweep.mismatches:,} in {sweep.vectors:,} vectors, {len(sweep.reports)} ways of compiling and "
        f"running; {len(sweep.skipped) or 'none'} skipped"
    )
    for way, report in sweep.reports:
        if report.contradiction is not None:
            lines.append(f"{way}: {report.contradiction}")
        if report.first_mismatch is not None:
            lines.append(f"{way}: {report.first_mismatch.as_text()}")
    return lines


def _skipped_by_reason(sweep: Sweep) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for entry in sweep.skipped:
        reasons.setdefault(entry.reason, []).append(str(entry.way))
    return reasons


def _cells(way: Way, report: Report) -> list[str]:
    compiler = way.toolchain or report.toolchain.split()[0]
    flags = f"{way.optimisation}{' sanitized' if way.sanitize else ''}"
    cost = report.costs.get("predict")
    takes = "-" if cost is None else f"{cost.maximum:,} {cost.unit}"
    return [report.target, way.runner or "-", compiler, flags, f"{report.vectors:,}", f"{report.mismatches:,}", takes]


# ---- doctor --------------------------------------------------------------------------------------------------------


@click.command("doctor")
@JSON
def doctor_command(as_json: bool) -> None:
    """What is installed for verification, which targets are ready, how to install the rest."""
    from mip2mcu.verify.doctor import diagnose  # noqa: PLC0415  (emulators load only where they are needed)

    diagnosis = diagnose()
    click.echo(json.dumps(diagnosis.as_dict(), sort_keys=True) if as_json else _diagnosis_text(diagnosis))


def _diagnosis_text(diagnosis: Diagnosis) -> str:
    required = ", ".join(f"{name} {version or 'MISSING'}" for name, version in diagnosis.required.items())
    tools = [[tool.name, console.printable(version, 44) or "-", tool.purpose] for tool, version in diagnosis.tools]
    targets = [
        [name, ", ".join(compilers) or "-", ", ".join(runners) or "-", "ready" if compilers and runners else "no"]
        for name, (compilers, runners) in diagnosis.targets.items()
    ]
    lines = [f"Python {sys.version.split()[0]} ({Path(sys.executable)}), {required}", ""]
    lines += [console.table(["tool", "version", "what it is for"], tools, left=3), ""]
    lines += [console.table(["target", "compilers", "runners", "verify"], targets, left=4), ""]
    if not diagnosis.commands:
        return "\n".join([*lines, "Everything is installed."])
    lines.append("To install what is missing, whichever of these your system has:")
    lines += [f"  {command}" for command in diagnosis.commands.values()]
    return "\n".join(lines)
