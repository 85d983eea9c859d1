"""Measures C on emulated cores: flash, RAM and instructions (cycles on AVR) of one inference.

    figures = measure([(target, subject), ...])        one entry a pair, in order; the same numbers every time

A subject is a C file with a function to count: a generated model (`model_subject`), or other C that does the same.
Some subjects share a program, which reads one row after the other, calls the subject and writes what it computes;
answers are compared before any figure is believed.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from benchmarks.objects import linked_bytes
from mip2mcu.errors import VerifyError
from mip2mcu.export import Export, Target, find_target, generate
from mip2mcu.export.options import ExportOptions
from mip2mcu.export.program import Program
from mip2mcu.export.scratch import Home
from mip2mcu.network import Network
from mip2mcu.ranges import IntArray
from mip2mcu.resources import resource_folder
from mip2mcu.verify import footprint
from mip2mcu.verify.chips import chip_flags, shortage
from mip2mcu.verify.cores import Core, core_for
from mip2mcu.verify.decoding import check_armv6m
from mip2mcu.verify.harness import surroundings
from mip2mcu.verify.runners import Count, counting_runner
from mip2mcu.verify.stack import STACK_FLAG, worst_stack
from mip2mcu.verify.toolchains import Toolchain, find_toolchain

FLAGS = ("-std=c99", "-O2", "-ffunction-sections", "-fdata-sections", "-ffreestanding")
TOGETHER = 8
"""Most subjects of one program; 1 on AVR, so that small ones run on the small chip."""


@dataclass(frozen=True)
class Subject:
    """C to be measured.

    name        the C file is NAME.c
    files       text by file name
    declare     C at file scope of the program that calls it
    statements  C that reads a row, calls the subject and writes its answer
    frames      the rows
    answers     what it must write, all rows together
    counted     its functions, each called once a row
    linked      its functions that count for flash and stack
    inner       functions that those call, counted as well
    sized       functions whose code is measured one by one
    scratch     bytes that the caller provides
    flags       further ones of the compiler
    libraries   what the linker reads behind it, such as Path("-lm")
    """

    name: str
    files: Mapping[str, str]
    declare: str
    statements: tuple[str, ...]
    frames: tuple[bytes, ...]
    answers: bytes
    counted: tuple[str, ...]
    linked: tuple[str, ...]
    scratch: int = 0
    flags: tuple[str, ...] = ()
    libraries: tuple[Path, ...] = ()
    inner: tuple[str, ...] = ()
    sized: tuple[str, ...] = ()

    @property
    def every(self) -> tuple[str, ...]:
        """All functions that are counted."""
        return (*self.counted, *self.inner)

    def short(self, function: str) -> str:
        """The function's name without the subject's."""
        return function.removeprefix(f"{self.name}_")


@dataclass(frozen=True)
class Figures:
    """What a subject costs.

    flash           what linking the counted functions adds: code, constants, the compiler's helper functions
    constants       the part of it that is no code
    static, scratch, stack  RAM by kind; the caller's input array is not among it
    instructions    by function: most of all rows, from its first instruction to its return; cycles on AVR
    library_calls   helper functions that it calls
    code, stacks    by function: bytes of code, with what it calls in the subject; bytes of stack
    """

    flash: int
    constants: int
    static: int
    scratch: int
    stack: int
    instructions: Mapping[str, int] = field(default_factory=dict)
    library_calls: tuple[str, ...] = ()
    code: Mapping[str, int] = field(default_factory=dict)
    stacks: Mapping[str, int] = field(default_factory=dict)

    @property
    def ram(self) -> int:
        """Bytes of RAM."""
        return self.static + self.scratch + self.stack


def model_subject(export: Export, network: Network, rows: IntArray) -> Subject:
    """The generated model: counted are predict, sums and, where inputs are packed, pack; on ``rows`` (n, inputs)."""
    name, program = export.name, export.program
    fills = program.packed or program.quantizer is not None
    static = program.scratch.home is Home.STATIC
    array = f"{name}_input" if static else f"{name}_row"
    own = ["&" + f"{name}_memory"] if program.scratch.home is Home.CALLER else []
    given = [] if static else [array]
    declare = [f'#include "{name}.h"', f"static int32_t {name}_out[{program.sums + 1}];"]
    declare += [] if static else [f"static {name}_input_t {array}[{program.input.length}];"]
    declare += [f"static {name}_scratch_t {name}_memory;"] if own else []
    reads = [f"platform_read({array}, sizeof({array}));"]
    if program.packed:
        declare.append(f"static uint8_t {name}_bits[{network.inputs}];")
        reads = [f"platform_read({name}_bits, sizeof({name}_bits));", f"{name}_pack({name}_bits, {array});"]
    return Subject(
        name=name,
        files={file: text for file, text in export.files.items() if file.endswith((".c", ".h"))},
        declare="\n".join(declare),
        statements=(
            *reads,
            f"{name}_out[0] = {name}_predict({', '.join([*given, *own])});",
            f"{name}_sums({', '.join([*given, f'&{name}_out[1]', *own])});",
            f"platform_write({name}_out, sizeof({name}_out));",
        ),
        frames=tuple(row.astype("u1" if program.packed else _element(program)).tobytes() for row in rows),
        answers=np.column_stack([network.predict(rows), network.sums(rows)]).astype("<i4").tobytes(),
        counted=(f"{name}_predict", f"{name}_sums", *((f"{name}_pack",) if program.packed else ())),
        linked=(f"{name}_predict", f"{name}_{'quantize' if program.quantizer else 'pack'}")[: 1 + fills],
        scratch=program.scratch.caller_bytes,
        sized=(f"{name}_sums",),
    )


def _element(program: Program) -> str:
    return {"uint8_t": "u1", "int8_t": "i1", "int16_t": "<i2", "int32_t": "<i4"}[program.input.c_type]


# ---- running -------------------------------------------------------------------------------------------------------


def measure(
    jobs: Sequence[tuple[Target | str, Subject]], *, workers: int | None = None, known: Path | None = None
) -> list[Figures]:
    """Figures of each job, in order; raises `VerifyError` where C computes anything else than it must.

    known    keeps figures by what was measured, one a line: nothing that it holds is measured again
    """
    targets = [find_target(target) for target, _ in jobs]
    keys = [_key(target, subject) for target, (_, subject) in zip(targets, jobs, strict=True)]
    figures = _read(known)
    first = {key: k for k, key in reversed(list(enumerate(keys))) if key not in figures}
    batches: list[tuple[Target, list[int]]] = []
    for target in dict.fromkeys(targets[k] for k in first.values()):
        indices = sorted(k for k in first.values() if targets[k] is target)
        size = 1 if target.family == "avr" else TOGETHER
        batches += [(target, indices[start : start + size]) for start in range(0, len(indices), size)]
    if not batches:
        return [figures[key] for key in keys]
    with ProcessPoolExecutor(workers or os.cpu_count()) as pool:
        results = pool.map(_measure_batch, [(target, [jobs[k][1] for k in indices]) for target, indices in batches])
        for (_, indices), measured in zip(batches, results, strict=True):
            found = {keys[k]: taken for k, taken in zip(indices, measured, strict=True)}
            figures.update(found)
            _append(known, found)
    return [figures[key] for key in keys]


def _key(target: Target, subject: Subject) -> str:
    """SHA-256 of all that decides a subject's figures; its name and its checks on the device do not."""
    upper = subject.name.upper()
    files = {file: text.partition(f"#ifndef {upper}_NO_CHECK")[0] for file, text in sorted(subject.files.items())}
    given = (find_toolchain(target).name, target.name, FLAGS, replace(subject, files=files))
    text = re.sub(rf"(?<![A-Za-z0-9]){subject.name}(?=[_.'])", "subject", repr(given))
    text = re.sub(rf"(?<![A-Za-z0-9]){upper}(?=_)", "SUBJECT", text)
    return sha256(text.encode()).hexdigest()


def _read(known: Path | None) -> dict[str, Figures]:
    if known is None or not known.exists():
        return {}
    entries = (json.loads(line) for line in known.read_text(encoding="utf-8").splitlines())
    return {key: Figures(**{**found, "library_calls": tuple(found["library_calls"])}) for key, found in entries}


def _append(known: Path | None, found: Mapping[str, Figures]) -> None:
    if known is not None:
        with known.open("a", encoding="utf-8") as stream:
            stream.writelines(json.dumps([key, asdict(figures)]) + "\n" for key, figures in found.items())


def _measure_batch(batch: tuple[Target, list[Subject]]) -> list[Figures]:
    """Figures of ``subjects`` on the target's core, with more memory where that of its board or chip does not do."""
    target, subjects = batch
    core = core_for(target)
    if target.family != "avr":
        return _measure_on(core.roomy() if core.unicorn_model else core, target, subjects)
    try:
        return _measure_on(core, target, subjects)
    except VerifyError:
        return _measure_on(core.roomy(), target, subjects)


def _measure_on(core: Core, target: Target, subjects: list[Subject]) -> list[Figures]:
    toolchain = find_toolchain(target)
    with tempfile.TemporaryDirectory(prefix="mip2mcu-measure-") as name:
        folder, flags = Path(name), _flags(target, toolchain, core)
        objects = [_compile(subject, toolchain, flags, folder) for subject in subjects]
        stacks = [worst_stack(path, {*s.every, *s.linked}) for s, path in zip(subjects, objects, strict=True)]
        program = _link(subjects, objects, toolchain, flags, core, folder)
        reason = shortage(program, core, max(max(s.values()) for s in stacks)) if core.simavr_mcu else None
        if reason is not None:
            raise VerifyError(reason)
        counts = _count(subjects, program, core)
        return [
            _figures(subject, path, stack, counts, toolchain, flags)
            for subject, path, stack in zip(subjects, objects, stacks, strict=True)
        ]


def _flags(target: Target, toolchain: Toolchain, core: Core) -> tuple[str, ...]:
    return (*chip_flags(toolchain.target_flags(target), core), *FLAGS)


def _compile(subject: Subject, toolchain: Toolchain, flags: tuple[str, ...], folder: Path) -> Path:
    """The subject's object file in a folder of its own, where its other files are too."""
    home = folder / subject.name
    home.mkdir()
    for file, text in subject.files.items():
        (home / file).write_text(text, encoding="utf-8")
    flags = (*flags, STACK_FLAG, *subject.flags, "-c")
    return toolchain.compile([home / f"{subject.name}.c"], flags, home / f"{subject.name}.o", home)


def _link(
    subjects: list[Subject], objects: list[Path], toolchain: Toolchain, flags: tuple[str, ...], core: Core, folder: Path
) -> Path:
    """A program that calls all subjects."""
    firmware = resource_folder("firmware")
    driver = folder / "measure_main.c"
    driver.write_text(_driver(subjects), encoding="ascii")
    (_, *sources), links = surroundings(firmware, core, folder)
    flags += tuple(dict.fromkeys(flag for subject in subjects for flag in subject.flags))
    includes = [f"-I{firmware}", *(f"-I{path.parent}" for path in objects)]
    sources = [driver, *sources, *objects, *dict.fromkeys(library for s in subjects for library in s.libraries)]
    elf = toolchain.compile(sources, (*flags, *includes, *links), folder / "measure.elf", folder)
    if core.is_armv6m:
        check_armv6m(elf)
    return elf


def _count(subjects: list[Subject], program: Path, core: Core) -> dict[str, Count]:
    """What each function took; raises `VerifyError` where an answer is wrong."""
    runner = counting_runner(core)
    if runner is None:
        raise VerifyError(f"nothing that is installed counts on {core.name}")
    frames = b"".join(frame for subject in subjects for frame in subject.frames)
    if runner.run(program, core, frames) != b"".join(subject.answers for subject in subjects):
        raise VerifyError(f"{', '.join(subject.name for subject in subjects)} on {core.name}: wrong answers")
    counts: dict[str, Count] = {}
    for level in ([s.counted for s in subjects], [s.inner for s in subjects]):  # one call at a time is followed
        counted = tuple(name for names in level for name in names)
        counts.update(runner.count(program, core, frames, counted) if counted else {})
    return counts


def _driver(subjects: Sequence[Subject]) -> str:
    """C of the program: for each subject a function that runs all its rows."""
    parts = ['#include "platform.h"']
    for subject in subjects:
        parts += [subject.declare, f"static void run_{subject.name}(void)", "{", "    uint32_t row;", ""]
        parts += [f"    for (row = 0U; row < {len(subject.frames)}U; row++) {{"]
        parts += [f"        {statement}" for statement in subject.statements] + ["    }", "}", ""]
    calls = [f"    run_{subject.name}();" for subject in subjects]
    parts += ["int main(void)", "{", "    platform_open();", *calls, "    platform_close();", "    return 0;", "}", ""]
    return "\n".join(parts)


def _figures(
    subject: Subject,
    path: Path,
    stack: Mapping[str, int],
    counts: Mapping[str, Count],
    toolchain: Toolchain,
    flags: tuple[str, ...],
) -> Figures:
    groups = footprint.measure_each(path, [subject.linked, *([name] for name in subject.sized)])
    assert groups is not None
    sizes, *each = groups
    flash = sizes.flash
    if sizes.library_calls:
        flash = linked_bytes([path, *subject.libraries], subject.linked, toolchain, (*flags, *subject.flags))
    counted = {name: counts[name].stack for name in subject.every if counts[name].stack}
    stacks = {**stack, **counted}
    return Figures(
        flash=flash,
        constants=sizes.constants,
        static=sizes.ram,
        scratch=subject.scratch,
        stack=max(stacks[name] for name in subject.linked),
        instructions={subject.short(name): counts[name].maximum for name in subject.every},
        library_calls=sizes.library_calls,
        code={subject.short(name): found.code for name, found in zip(subject.sized, each, strict=True)},
        stacks={subject.short(name): size for name, size in stacks.items()},
    )


# ---- models --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Model:
    """A network to be exported with ``options`` and measured on ``rows`` (n, inputs).

    packs    packing the inputs to bits is part of flash and stack, where the program does it
    """

    target: str
    network: Network
    rows: IntArray
    options: ExportOptions
    packs: bool = True

    def subject(self, export: Export) -> Subject:
        """What is measured of ``export``."""
        subject = model_subject(export, self.network, self.rows)
        return subject if self.packs else replace(subject, linked=subject.linked[:1])


@dataclass(frozen=True, eq=False)
class Taken:
    """What a model takes, and its export, which says what was predicted."""

    export: Export
    figures: Figures

    @property
    def inference(self) -> int:
        """Instructions from the caller's bytes to the class: packing counts where inputs are bits."""
        counted = self.figures.instructions
        return counted["predict"] + counted.get("pack", 0)

    @property
    def layouts(self) -> str:
        """The layouts of all layers."""
        return ", ".join(layer.lowered.layout for layer in self.export.program.layers)


def measure_models(
    models: Sequence[Model], *, known: Path | None = None, workers: int | None = None
) -> list[Taken]:
    """Each model exported, compiled, run and measured, in order; the same program is measured once, see `measure`."""
    same = {(id(model.network), model.target, model.options): k for k, model in enumerate(models)}
    made = {k: generate(models[k].network, models[k].target, f"m{k}", options=models[k].options) for k in same.values()}
    exports = [made[same[id(model.network), model.target, model.options]] for model in models]
    jobs = [(model.target, model.subject(export)) for model, export in zip(models, exports, strict=True)]
    found = measure(jobs, known=known, workers=workers)
    return [Taken(export, figures) for export, figures in zip(exports, found, strict=True)]
