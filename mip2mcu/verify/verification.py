"""`verify`: generate or read the C, compile it, run it on the target's instruction set, compare, count, report."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mip2mcu.errors import NoRoomError, UsageError, VerifyError
from mip2mcu.export import ExportOptions, Target, find_target, generate
from mip2mcu.network import Network
from mip2mcu.ranges import IntArray
from mip2mcu.verify.comparison import Comparison, check_description, chunk_rows
from mip2mcu.verify.cores import Core, core_for
from mip2mcu.verify.costing import count_costs
from mip2mcu.verify.footprint import Footprint, measure_each
from mip2mcu.verify.harness import Files, Harness, Program, build, read_source
from mip2mcu.verify.hunting import Hunt, hunt
from mip2mcu.verify.prove import frama_c_version, prove_files
from mip2mcu.verify.report import Cost, Report
from mip2mcu.verify.runners import Runner, counting_runner, find_runner
from mip2mcu.verify.runners.image import check_reader, read_image
from mip2mcu.verify.toolchains import find_toolchain
from mip2mcu.verify.vectors import input_chunks, raw_chunks

if TYPE_CHECKING:
    from mip2mcu.dataset import Dataset

DEFAULT_VECTORS = 10_000
MOST_VECTORS = 10**10
"""Of one verification: a thousand times what `make nightly` compares."""
_MOST_EFFORT = 4.0
"""Of the search for vectors, where that for `DEFAULT_VECTORS` is 1."""
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
"""Flags of gcc and clang that find reads out of bounds and undefined behaviour when they happen."""


@dataclass(frozen=True)
class Way:
    """One way to verify: a target, what runs it and what compiles for it (None: what is preferred and installed), how.

    runner          "host", "unicorn", "qemu" or "simavr"
    toolchain       "gcc", "clang", "arm-none-eabi-gcc", "riscv64-unknown-elf-gcc", "avr-gcc" or "zig"
    optimisation    the compiler's -O flag
    sanitize        on the host: every read out of bounds and all undefined behaviour ends the run with an error
    """

    target: Target
    runner: str | None = None
    toolchain: str | None = None
    optimisation: str = "-O2"
    sanitize: bool = False

    def __str__(self) -> str:
        place = self.target.name if self.runner is None else f"{self.target.name} on {self.runner}"
        sanitized = " with sanitizers" if self.sanitize else ""
        return f"{place}, {self.toolchain} {self.optimisation}{sanitized}" if self.toolchain else place + sanitized


@dataclass(frozen=True, eq=False)
class Subject:
    """What is verified, and what of that is the same for every way: found when first asked for, then kept.

    data        rows to compare beside the generated ones; raw features too where it has them
    vectors     how many rows of network inputs (and of raw features) are generated
    options     how the C is generated; its budgets hold for what the compiler makes of it too
    """

    network: Network
    data: Dataset | None = None
    vectors: int = DEFAULT_VECTORS
    seed: int = 0
    name: str = "model"
    options: ExportOptions = field(default_factory=ExportOptions)
    _generated: dict[Target, Files] = field(default_factory=dict, init=False, repr=False)
    _counted: dict[object, Mapping[str, Cost]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.vectors <= MOST_VECTORS:
            raise UsageError(f"{self.vectors} vectors cannot be compared: ask for 1..{MOST_VECTORS}")

    @cached_property
    def inputs(self) -> IntArray | None:
        """Network inputs (rows, inputs) of the data."""
        return None if self.data is None else self.network.check_inputs(self.data.inputs)

    @cached_property
    def hunted(self) -> Hunt:
        """The rows that are searched for; the more ``vectors``, the longer."""
        effort = min(_MOST_EFFORT, self.vectors / DEFAULT_VECTORS)
        return hunt(self.network, self.inputs, self.seed, effort=effort)

    def files(self, target: Target) -> Files:
        """The generated C; raises what `generate` raises."""
        if target not in self._generated:
            self._generated[target] = generate(self.network, target, self.name, options=self.options).files
        return self._generated[target]

    def costs(self, comparison: Comparison) -> Mapping[str, Cost]:
        """By function, for these vectors compared; once where another emulator has run the same bytes on that core."""
        program = comparison.harness.program
        counter = counting_runner(program.core)
        if counter is None:
            return {}
        key = (program.core, counter.name, read_image(program.elf).segments)
        if key not in self._counted:
            self._counted[key] = count_costs(comparison, counter)
        return self._counted[key]


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
    prove: bool = False,
) -> Report:
    """Compare the C of ``network``, compiled and run on the instruction set of ``target``, with Python by ``==``.

    source          folder with exported NAME.c and NAME.h to verify; None generates the C
    prove           let Frama-C analyse the C too, for all inputs in range

    The other arguments are those of `Subject` and `Way`. A difference is a result, `Report.mismatches`, and so is what
    cannot be proved, `Report.alarms`. Raises `VerifyError` where nothing could be compared or what was compiled is
    beyond a budget, `ToolMissingError` (with what to install) where no compiler, emulator or analyser is there, and
    what `generate` raises.
    """
    subject = Subject(network, data, vectors, seed, name, options or ExportOptions())
    if source is not None and replace(subject.options, max_flash=None, max_ram=None) != ExportOptions():
        raise UsageError(f"the C in {source} is what it is: leave out the options of export, or --source")
    way = Way(find_target(target), runner, toolchain, optimisation, sanitize)
    if prove:
        frama_c_version()
    report = verify_way(subject, way, source)
    if not prove:
        return report
    files = _files(subject, way.target, source)
    return replace(report, proof=prove_files(files, network, way.target, name=name))


def verify_way(subject: Subject, way: Way, source: str | Path | None = None) -> Report:
    """`verify` for one of several ways; raises what it raises."""
    core = core_for(way.target)
    if way.sanitize and core.memory is not None:
        raise UsageError(f"sanitizers run on the host only, not on {core.name}: choose target 'host' or 'generic'")
    compiler = find_toolchain(way.target, way.toolchain)
    runner = find_runner(core, way.runner)
    if core.memory is not None:
        check_reader()
    files = _files(subject, way.target, source)
    with tempfile.TemporaryDirectory(prefix="mip2mcu-verify-") as folder:
        program = build(
            files,
            Path(folder),
            network=subject.network,
            name=subject.name,
            target=way.target,
            core=core,
            toolchain=compiler,
            optimisation=way.optimisation,
            extra_flags=SANITIZERS if way.sanitize else (),
        )
        _check_room(program, core, runner)
        harness = Harness(program, runner)
        check_description(subject.network, harness, "memory" if source is None else str(source))
        comparison = _compare(subject, harness)
        report = _report(subject, comparison, way.target, _digests(files, subject.name, source))
    if not report.mismatches:
        _check_budgets(report, subject.options)
    return report


def _files(subject: Subject, target: Target, source: str | Path | None) -> Files:
    return subject.files(target) if source is None else read_source(Path(source), subject.name)


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


def _digests(files: Files, name: str, source: str | Path | None) -> Mapping[str, str]:
    """SHA-256 of the C: what a reviewer compares with the files that went into a firmware.

    Of files in the folder ``source`` byte by byte, for version control may have given them other line ends.
    """
    names = (f"{name}.c", f"{name}.h")
    contents = [files[own].encode() if source is None else (Path(source) / own).read_bytes() for own in names]
    return {own: hashlib.sha256(content).hexdigest() for own, content in zip(names, contents, strict=True)}


def _check_room(program: Program, core: Core, runner: Runner) -> None:
    if not runner.serves(program.core):
        assert core.memory is not None
        flash, ram = core.memory.flash.length // 1024, core.memory.ram.length // 1024
        raise NoRoomError(
            f"the model with its test harness may not fit {flash} KB of flash and {ram} KB of RAM, which "
            f"{runner.name}'s {core.qemu_machine} has: use the runner 'unicorn'"
        )


def _compare(subject: Subject, harness: Harness) -> Comparison:
    network, data, vectors, seed = subject.network, subject.data, subject.vectors, subject.seed
    comparison = Comparison(network, harness)
    rows = chunk_rows(network)
    comparison.compare_inputs(input_chunks(network, subject.inputs, vectors, seed, rows, subject.hunted))
    if network.quantizer is not None:
        raw = None if data is None else data.raw
        comparison.compare_raw(raw_chunks(network.quantizer, raw, vectors, seed, rows))
    comparison.run_checks()
    return comparison


def _report(subject: Subject, comparison: Comparison, target: Target, sources: Mapping[str, str]) -> Report:
    harness = comparison.harness
    program, description = harness.program, harness.description
    called = ["predict"] + ["quantize"] * bool(description.raw_features) + ["pack"] * bool(description.input_packed)
    sizes, checks_flash = _sizes(program, called)
    return Report(
        model_sha256=subject.network.sha256,
        target=target.name,
        core=program.core.name,
        runner=harness.runner.version(program.core),
        toolchain=program.toolchain.version,
        flags=program.flags,
        seed=subject.seed,
        mismatches=comparison.mismatches,
        first_mismatch=comparison.first,
        vectors_by_kind=comparison.vectors,
        quantized_by_kind=comparison.quantized,
        packed=comparison.packed,
        sizes=sizes,
        scratch_bytes=description.scratch_bytes,
        costs=subject.costs(comparison),
        sources=sources,
        searched=subject.hunted.tallies,
        constant_time=program.constant_time,
        checks_flash=checks_flash,
    )


def _sizes(program: Program, called: list[str]) -> tuple[Footprint | None, Mapping[str, int]]:
    """Of a firmware that calls the functions ``called``, and the bytes of flash that each of the checks adds to it."""
    checks = ("selftest", "check") if program.has_check else ("selftest",)
    groups = [called, *([*called, check] for check in checks)]
    found = measure_each(program.model_object, [[f"{program.name}_{name}" for name in names] for names in groups])
    if found is None:
        return None, {}
    own, *others = found
    return own, {name: other.flash - own.flash for name, other in zip(checks, others, strict=True)}
