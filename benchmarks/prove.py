"""Static proof of every model of the examples and benchmarks, in every layout, for int of 16 and of 32 bits: 0 alarms.

    python -m benchmarks.prove [--quick] [--known FILE] [--seconds S] [--only WORD]

The portable text and the text for each family of cores as the planner lays a model out; then, for models of moderate
size, every layout that takes one of their layers. The same text is analysed once under each machine model. What is done
is noted in FILE (the user's cache by default): a run that was interrupted, or ended by --seconds, goes on where it
stopped, and text that has changed is analysed again. The result says whether all analyses were done.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.nightly import Progress
from benchmarks.proof_models import kernel_models, trained_models
from benchmarks.results import Row, save
from mip2mcu.errors import ExportError, VerifyError
from mip2mcu.export import TARGETS, Export, ExportOptions, generate
from mip2mcu.export.layouts import LAYOUTS
from mip2mcu.network import Network
from mip2mcu.verify.prove import frama_c_version, machines, prove_files
from mip2mcu.verify.toolchains import cache_folder

GENERIC = "generic"
FAMILIES = ("cortex-m0", "cortex-m4", "rv32imc", "avr")
"""Targets whose text differs from the portable one and from each other's."""
DSP = "cortex-m4"
MOST_OPERATIONS = 15_000
"""Of models that are proved in every layout; half a minute an analysis."""
LIMIT = 7200.0
"""Seconds of one analysis."""


@dataclass(frozen=True)
class Job:
    """One analysis: the C of a model for a target, under a machine model.

    layouts    of the layers, in order
    """

    model: str
    network: Network
    target: str
    export: Export
    machine: str

    @property
    def layouts(self) -> tuple[str, ...]:
        """Names of the layouts, each once."""
        return tuple(dict.fromkeys(layer.lowered.layout for layer in self.export.program.layers))

    @property
    def key(self) -> str:
        """What the outcome depends on."""
        parts = [self.network.sha256, frama_c_version(), self.machine]
        parts += [text for name, text in sorted(self.export.files.items()) if name.endswith((".c", ".h"))]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


# ---- jobs ----------------------------------------------------------------------------------------------------------


def models(quick: bool, word: str = "") -> Iterator[tuple[str, Network]]:
    """Those with ``word`` in their names, trained when they are asked for; the quick ones have few weights."""
    for name, make in trained_models().items():
        if word in name and (not quick or name.startswith("bdnn")):
            yield name, make()
    if not quick:
        yield from ((name, network) for name, network in kernel_models().items() if word in name)


def jobs(networks: Iterable[tuple[str, Network]]) -> Iterator[Job]:
    """As the planner decides; then every layout of the models of moderate size."""
    seen: set[str] = set()
    small = []
    for name, network in networks:
        targets = (GENERIC,) if name.startswith("kernels") else (GENERIC, *FAMILIES)
        for target in targets:
            yield from _new(seen, _jobs(name, network, target, None))
        if network.operations <= MOST_OPERATIONS:
            small.append((name, network))
    for name, network in small:
        for layout in (f"{layout}/{kind}" for layout in LAYOUTS for kind in ("fast", "compact")):
            yield from _new(seen, _first(layout, name, network))


def _new(seen: set[str], found: Iterable[Job]) -> Iterator[Job]:
    for job in found:
        if job.key not in seen:
            seen.add(job.key)
            yield job


def _first(layout: str, name: str, network: Network) -> list[Job]:
    """``layout`` for all layers, or for the first one that it takes, the planner's for the others."""
    target = DSP if layout.partition("/")[0].endswith("_dsp") else GENERIC
    named = [layout, *(f"{index}={layout}" for index in range(len(network.layers)))]
    return next(filter(None, (list(_jobs(name, network, target, one)) for one in named)), [])


def _jobs(name: str, network: Network, target: str, layout: str | None) -> Iterator[Job]:
    with suppress(ExportError):  # the layout does not take the layer, the target not the model
        export = generate(network, target, options=ExportOptions(layout=layout))
        for machine in machines(TARGETS[target]):
            yield Job(name, network, target, export, machine)


# ---- analyses ------------------------------------------------------------------------------------------------------


def outcome_of(job: Job) -> dict:
    """What came out, as it is noted."""
    began = time.monotonic()
    try:
        proof = prove_files(
            job.export.files, job.network, TARGETS[job.target], name="model", seconds=LIMIT, machine=job.machine
        )
    except VerifyError as error:
        return _entry(job, began, alarms=1, first=str(error))
    (analysis,) = proof.analyses
    first = analysis.alarms[0].as_text() if analysis.alarms else ""
    return _entry(
        job, began, alarms=proof.alarms, first=first, checks=analysis.checks, assumed=len(proof.assumed),
        modelled=[model.name for model in proof.modelled],
    )  # fmt: skip


def _entry(job: Job, began: float, **found) -> dict:
    seconds = round(time.monotonic() - began, 1)
    return {"model": job.model, "target": job.target, "machine": job.machine, "layouts": job.layouts,
            "seconds": seconds, **found}  # fmt: skip


def run(networks: Iterable[tuple[str, Network]], progress: Progress, seconds: float) -> tuple[list[dict], bool]:
    """The outcome of every job, and whether all jobs were done before ``seconds`` were over."""
    end, found = time.monotonic() + seconds, []
    for job in jobs(networks):
        key = job.key
        if key not in progress.done:
            if time.monotonic() > end:
                return found, False
            progress.note(key, outcome_of(job))
            print(_line(len(found) + 1, progress.done[key]), file=sys.stderr, flush=True)
        found.append(progress.done[key])
    return found, True


def _line(number: int, entry: dict) -> str:
    way = f"{entry['model']}, {', '.join(entry['layouts'])}, {entry['target']}, {entry['machine']}"
    return f"{number}: {way}: {entry['alarms']} alarms, {entry['seconds']:.0f} s {entry['first']}"


# ---- the result ----------------------------------------------------------------------------------------------------


def rows_of(found: list[dict], is_complete: bool) -> list[Row]:
    """All together, by model, by layout, by target and machine model."""
    rows = [*_rows("all", found), Row("all", "all analyses done", "yes" if is_complete else "no", "")]
    for model in dict.fromkeys(entry["model"] for entry in found):
        rows += _rows(model, [entry for entry in found if entry["model"] == model])
    for layout in LAYOUTS:
        rows += _rows(f"layout {layout}", [entry for entry in found if layout in entry["layouts"]])
    for target, machine in dict.fromkeys((entry["target"], entry["machine"]) for entry in found):
        chosen = [entry for entry in found if (entry["target"], entry["machine"]) == (target, machine)]
        rows += _rows(f"{target}, {machine}", chosen)
    return rows


def _rows(task: str, found: list[dict]) -> list[Row]:
    if not found:
        return [Row(task, "analyses", 0, "")]
    return [
        Row(task, "analyses", len(found), ""),
        Row(task, "alarms", sum(entry["alarms"] for entry in found), "", "lower", bar="0"),
        Row(task, "longest analysis", max(entry["seconds"] for entry in found), "s", "lower"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two small models, nothing is written")
    parser.add_argument("--known", type=Path, help="file of what earlier runs have found")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no analysis begins after these")
    parser.add_argument("--only", default="", help="only models with this word in their names")
    options = parser.parse_args()
    progress = Progress(options.known or cache_folder("prove") / "progress.jsonl")
    found, is_complete = run(models(options.quick, options.only), progress, options.seconds)
    save("prove", rows_of(found, is_complete), quick=options.quick or bool(options.only))
    wrong = sum(entry["alarms"] > 0 for entry in found)
    if wrong:
        raise SystemExit(f"{wrong} of {len(found)} analyses found alarms")


if __name__ == "__main__":
    main()
