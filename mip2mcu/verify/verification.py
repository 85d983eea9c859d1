"""`verify`: generate or read the C, compile it, run it on the target's instruction set, compare, count, report."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mip2mcu.errors import NoRoomError, UsageError, VerifyError
from mip2mcu.export import ExportOptions, Target, find_target, generate
from mip2mcu.network import Network
from mip2mcu.verify.comparison import Comparison, check_description, chunk_rows
from mip2mcu.verify.cores import Core, core_for
from mip2mcu.verify.costing import count_costs
from mip2mcu.verify.footprint import Footprint, measure
from mip2mcu.verify.harness import Files, Harness, Program, build, read_source
from mip2mcu.verify.hunting import Hunt, Tally, hunt
from mip2mcu.verify.prove import frama_c_version, prove_files
from mip2mcu.verify.report import Report
from mip2mcu.verify.runners import Runner, counting_runner, find_runner
from mip2mcu.verify.runners.image import check_reader
from mip2mcu.verify.toolchains import find_toolchain
from mip2mcu.verify.vectors import input_chunks, raw_chunks

if TYPE_CHECKING:
    from mip2mcu.dataset import Dataset

DEFAULT_VECTORS = 10_000
_MOST_EFFORT = 4.0
"""Of the search for vectors, where that for `DEFAULT_VECTORS` is 1."""
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
"""Flags of gcc and clang that find reads out of bounds and undefined behaviour when they happen."""


def verify(
    network: Network,
    target: Target | str = "cortex-m",
    data: Dataset | None = None,
    *,
    vectors: int = DEFAULT_VECTORS,
    seed: int = 0,
    name: str = "model",
    source: str | Path | None = None,
    options: ExportOptions | None = None,
    runner: str | None = None,
    toolchain: str | None = None,
    optimisation: str = "-O2",
    sanitize: bool = False,
    hunted: Hunt | None = None,
    prove: bool = False,
) -> Report:
    """Compare the C of ``network``, compiled and run on the instruction set of ``target``, with Python by ``==``.

    data            rows to compare beside the generated ones; raw features too where it has them
    vectors         how many rows of network inputs (and of raw features) are generated
    source          folder with exported NAME.c and NAME.h to verify; None generates the C
    options         how the C is generated; its budgets hold for what the compiler makes of it too
    runner          "host", "unicorn", "qemu" or "simavr"; None takes the first that is installed
    toolchain       "gcc", "clang", "arm-none-eabi-gcc", "riscv64-unknown-elf-gcc", "avr-gcc" or "zig"; None likewise
    optimisation    the compiler's -O flag
    sanitize        on the host: every read out of bounds and all undefined behaviour ends the run with an error
    hunted          what `hunt` found for this network and data, to be used for several targets; None searches here
    prove           let Frama-C analyse the C too, for all inputs in range

    A difference is a result, `Report.mismatches`, and so is what cannot be proved, `Report.alarms`. Raises
    `VerifyError` where nothing could be compared or what was compiled is beyond a budget, `ToolMissingError` (with what
    to install) where no compiler, emulator or analyser is there, and what `generate` raises.
    """
    if vectors < 1:
        raise UsageError(f"{vectors} vectors cannot be compared: ask for 1 or more")
    options = options or ExportOptions()
    if source is not None and replace(options, max_flash=None, max_ram=None) != ExportOptions():
        raise UsageError(f"the C in {source} is what it is: leave out the options of export, or --source")
    target = find_target(target)
    core = core_for(target)
    if sanitize and core.memory is not None:
        raise UsageError(f"sanitizers run on the host only, not on {core.name}: choose target 'host' or 'generic'")
    compiler = find_toolchain(target, toolchain)
    chosen = find_runner(core, runner)
    if core.memory is not None:
        check_reader()
    if prove:
        frama_c_version()
    generated = generate(network, target, name, options=options).files if source is None else None
    files = generated or read_source(Path(str(source)), name)
    with tempfile.TemporaryDirectory(prefix="mip2mcu-verify-") as folder:
        program = build(
            files,
            Path(folder),
            network=network,
            name=name,
            target=target,
            core=core,
            toolchain=compiler,
            optimisation=optimisation,
            extra_flags=SANITIZERS if sanitize else (),
        )
        _check_room(program, core, chosen)
        harness = Harness(program, chosen)
        check_description(network, harness, "memory" if source is None else str(source))
        if hunted is None:
            hunted = hunt_for(network, data, seed, vectors)
        comparison = _compare(network, harness, data, vectors, seed, hunted)
        report = _report(comparison, target, seed, _digests(files, name), hunted.tallies)
    if not report.mismatches:
        _check_budgets(report, options)
    return replace(report, proof=prove_files(files, network, target, name=name)) if prove else report


def hunt_for(network: Network, data: Dataset | None, seed: int, vectors: int) -> Hunt:
    """The rows that `verify` searches for, once for all targets; the more ``vectors``, the longer."""
    inputs = None if data is None else network.check_inputs(data.inputs)
    return hunt(network, inputs, seed, effort=min(_MOST_EFFORT, vectors / DEFAULT_VECTORS))


def _check_budgets(report: Report, options: ExportOptions) -> None:
    """The planner predicts; here is what the compiler made of it."""
    sizes, stack = report.sizes, max((cost.stack_bytes or 0 for cost in report.costs.values()), default=0)
    flash = 0 if sizes is None else sizes.flash
    ram = (0 if sizes is None else sizes.ram) + report.scratch_bytes + stack
    for what, size, limit in (("flash", flash, options.max_flash), ("RAM", ram, options.max_ram)):
        if limit is not None and size > limit:
            raise VerifyError(
                f"compiled by {report.toolchain}, the model takes {size} bytes of {what}, beyond the {limit} allowed; "
                f"the comparison itself found no mismatch in {report.vectors} vectors"
            )


def _digests(files: Files, name: str) -> Mapping[str, str]:
    """SHA-256 of the C in ``files``: what a reviewer compares with the files that went into a firmware."""
    return {
        file_name: hashlib.sha256(files[file_name].encode()).hexdigest() for file_name in (f"{name}.c", f"{name}.h")
    }


def _check_room(program: Program, core: Core, runner: Runner) -> None:
    if not runner.serves(program.core):
        assert core.memory is not None
        flash, ram = core.memory.flash.length // 1024, core.memory.ram.length // 1024
        raise NoRoomError(
            f"the model with its test harness may not fit {flash} KB of flash and {ram} KB of RAM, which "
            f"{runner.name}'s {core.qemu_machine} has: use the runner 'unicorn'"
        )


def _compare(
    network: Network, harness: Harness, data: Dataset | None, vectors: int, seed: int, hunted: Hunt
) -> Comparison:
    inputs = None if data is None else network.check_inputs(data.inputs)
    comparison = Comparison(network, harness)
    rows = chunk_rows(network)
    comparison.compare_inputs(input_chunks(network, inputs, vectors, seed, rows, hunted))
    if network.quantizer is not None:
        raw = None if data is None else data.raw
        comparison.compare_raw(raw_chunks(network.quantizer, raw, vectors, seed, rows))
    comparison.run_checks()
    return comparison


def _report(
    comparison: Comparison, target: Target, seed: int, sources: Mapping[str, str], searched: Mapping[str, Tally]
) -> Report:
    harness = comparison.harness
    program, description = harness.program, harness.description
    counter = counting_runner(program.core)
    called = ["predict"] + ["quantize"] * bool(description.raw_features) + ["pack"] * bool(description.input_packed)
    sizes = _footprint(program, called)
    return Report(
        model_sha256=comparison.network.sha256,
        target=target.name,
        core=program.core.name,
        runner=harness.runner.version(program.core),
        toolchain=program.toolchain.version,
        flags=program.flags,
        seed=seed,
        mismatches=comparison.mismatches,
        first_mismatch=comparison.first,
        vectors_by_kind=comparison.vectors,
        quantized_by_kind=comparison.quantized,
        packed=comparison.packed,
        sizes=sizes,
        scratch_bytes=description.scratch_bytes,
        costs={} if counter is None else count_costs(comparison, counter),
        sources=sources,
        searched=searched,
        constant_time=program.constant_time,
        checks_flash=_added(program, called, sizes),
    )


def _added(program: Program, called: list[str], sizes: Footprint | None) -> Mapping[str, int]:
    """Bytes of flash that each of the checks adds to a firmware that calls the functions ``called``."""
    with_check = {function: _footprint(program, [*called, function]) for function in ("selftest", "check")}
    if not program.has_check:
        del with_check["check"]
    return {name: both.flash - sizes.flash for name, both in with_check.items() if both is not None and sizes}


def _footprint(program: Program, functions: list[str]) -> Footprint | None:
    return measure(program.model_object, [f"{program.name}_{function}" for function in functions])
