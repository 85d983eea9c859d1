"""Static proof of every model of the examples and benchmarks, in every layout, for int of 16 and of 32 bits: 0 alarms.

    python -m benchmarks.prove [--quick] [--known FILE] [--seconds S] [--only WORD]

Every model as the planner lays it out: the portable text, with int of 16 and of 32 bits; of trained models also the
text for Cortex-M4, and for the other families of cores if the model is no large one. Then, of small trained models,
every layout that takes one of their layers. Inference and selftest are analysed each for itself, and each text once
under each machine model. What is done is noted in FILE (the user's cache by default): a run that was interrupted, or
ended by --seconds, goes on where it stopped, and text that has changed is analysed again. The result says how many
analyses are still to do.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.nightly import Progress
from benchmarks.proof_models import KERNELS, makers
from benchmarks.results import Row, save
from mip2mcu.errors import ExportError, VerifyError
from mip2mcu.export import TARGETS, Export, ExportOptions, generate
from mip2mcu.export.layouts import LAYOUTS
from mip2mcu.network import Network
from mip2mcu.verify.prove import frama_c_version, machines, prove_files, texts_of
from mip2mcu.verify.toolchains import cache_folder

GENERIC = "generic"
FAMILIES = ("cortex-m0", "cortex-m4", "rv32imc", "avr")
"""Targets whose text differs from the portable one and from each other's."""
DSP = "cortex-m4"
MOST_OPERATIONS = 2_500
"""Of trained models that are proved in every layout; some seconds an analysis."""
MANY_OPERATIONS = 100_000
"""From here on, an analysis takes minutes: only the portable text and that for Cortex-M4."""
LIMIT = 7200.0
"""Seconds of one analysis."""


@dataclass(frozen=True)
class Job:
    """One analysis: a part of the C of a model for a target, under a machine model.

    layouts    of the layers, in order
    """

    model: str
    network: Network
    target: str
    export: Export
    machine: str
    part: str

    @property
    def layouts(self) -> tuple[str, ...]:
        """Names of the layouts, each once."""
        return tuple(dict.fromkeys(layer.lowered.layout for layer in self.export.program.layers))

    @property
    def key(self) -> str:
        """What the outcome depends on; spaces and comments do not matter, nor how many bytes `check` reads."""
        parts = [frama_c_version(), self.machine, self.part]
        for name, text in sorted(texts_of(self.export.files, self.network, "model")[self.part].items()):
            parts += [name, " ".join(_IGNORED.sub(" ", text).split())]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


_IGNORED = re.compile(r"/\*(?!@).*?\*/|^#define MODEL_CHECKED_BYTES \d+", re.DOTALL | re.MULTILINE)
"""Comments that are no annotations."""


# ---- jobs ----------------------------------------------------------------------------------------------------------


def models(quick: bool, word: str = "") -> Iterator[tuple[str, Network]]:
    """Those with ``word`` in their names, trained when they are asked for; the quick ones have few weights."""
    for name, make in makers().items():
        if word in name and (not quick or name.startswith("bdnn")):
            yield name, make()


def jobs(networks: Iterable[tuple[str, Network]]) -> Iterator[Job]:
    """Of each model, as the planner decides, then every layout if it has few weights; each text once."""
    seen: set[str] = set()
    for name, network in networks:
        for target in _targets(name, network):
            yield from _new(seen, _jobs(name, network, target, None))
        if network.operations <= MOST_OPERATIONS and not name.startswith(KERNELS):
            for layout in (f"{layout}/{kind}" for layout in LAYOUTS for kind in ("fast", "compact")):
                yield from _new(seen, _first(layout, name, network))


def _targets(name: str, network: Network) -> tuple[str, ...]:
    if name.startswith(KERNELS):
        return (GENERIC,)
    return (GENERIC, DSP) if network.operations >= MANY_OPERATIONS else (GENERIC, *FAMILIES)


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
            for part in texts_of(export.files, network, "model"):
                yield Job(name, network, target, export, machine, part)


# ---- analyses ------------------------------------------------------------------------------------------------------


def outcome_of(job: Job) -> dict:
    """What came out, as it is noted."""
    began = time.monotonic()
    try:
        proof = prove_files(
            job.export.files, job.network, TARGETS[job.target], name="model", seconds=LIMIT, machine=job.machine,
            part=job.part,
        )  # fmt: skip
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
    return {"model": job.model, "part": job.part, "target": job.target, "machine": job.machine, "layouts": job.layouts,
            "seconds": seconds, **found}  # fmt: skip


def run(networks: Iterable[tuple[str, Network]], progress: Progress, seconds: float) -> tuple[list[dict], list[str]]:
    """The outcomes that are known or came within ``seconds``, and the model of each job that is still to do."""
    end, found, left = time.monotonic() + seconds, [], []
    for job in jobs(networks):
        key = job.key
        if key not in progress.done:
            if time.monotonic() > end:
                left.append(job.model)
                continue
            progress.note(key, outcome_of(job))
            print(_line(len(found) + 1, progress.done[key]), file=sys.stderr, flush=True)
        found.append(progress.done[key])
    return found, left


def _line(number: int, entry: dict) -> str:
    way = f"{entry['model']}, {', '.join(entry['layouts'])}, {entry['part']}, {entry['target']}, {entry['machine']}"
    return f"{number}: {way}: {entry['alarms']} alarms, {entry['seconds']:.0f} s {entry['first']}"


# ---- the result ----------------------------------------------------------------------------------------------------


def rows_of(found: list[dict], left: Sequence[str]) -> list[Row]:
    """All together, by model, by layout, by target and machine model; ``left`` has a model an analysis to do."""
    rows = [*_rows("all", found), Row("all", "analyses to do", len(left), "", "lower", bar="0")]
    rows += [Row(model, "analyses to do", count, "", "lower") for model, count in Counter(left).items()]
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
        Row(task, "assumed conditions", sum(entry.get("assumed", 0) for entry in found), "", "lower"),
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
    found, left = run(models(options.quick, options.only), progress, options.seconds)
    save("prove", rows_of(found, left), quick=options.quick or bool(options.only))
    wrong = sum(entry["alarms"] > 0 for entry in found)
    if wrong:
        raise SystemExit(f"{wrong} of {len(found)} analyses found alarms")


if __name__ == "__main__":
    main()
