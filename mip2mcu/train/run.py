"""`train`: any formulation on any data set, whole or as an ensemble, with workers, limits, progress and Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from mip2mcu.dataset import Dataset
from mip2mcu.errors import UsageError
from mip2mcu.files import check_writable
from mip2mcu.mip.solver import OptionValue, Solver, check_solver, write_model
from mip2mcu.parallel import executor
from mip2mcu.progress import Listener, Stop, silent, stop_on_interrupt
from mip2mcu.train.choice import choose
from mip2mcu.train.ensemble import automatic, combined, members, named_solves, train_members
from mip2mcu.train.formulation import Formulation
from mip2mcu.train.registry import FORMULATIONS
from mip2mcu.train.trained import Trained, flat_options, report_on

CHOICE_SHARE = 0.3
"""Most of the time limit that the choice of open options may take."""
OVERRUN = 1.5
"""A training that takes so many times its limit says why."""
DEFAULT_TIME_LIMIT = 60.0
"""Seconds of a training where neither a time limit nor a node limit is given."""


def formulation_named(name: str, options: Mapping[str, Any] | None = None) -> Formulation:
    """The formulation ``name`` with ``options``; raises `UsageError` for an unknown name or option."""
    if name not in FORMULATIONS:
        raise UsageError(f"formulation {name!r} is unknown, choose one of {', '.join(FORMULATIONS)}")
    options_class = FORMULATIONS[name].options
    known = {field.name: str(field.type) for field in fields(options_class)}  # type: ignore[arg-type]
    for option, value in (options or {}).items():
        if option not in known:
            raise UsageError(f"formulation {name!r} has no option {option!r}, only {', '.join(known)}")
        if not _fits(value, known[option]):
            raise UsageError(f"option {option!r} cannot take {value!r}: it wants {_WANTED[known[option]]}")
    return options_class(**(options or {}))


_WANTED = {
    "int | None": "a whole number",
    "float": "a number",
    "float | None": "a number",
    "str": "a word",
    "tuple[int, ...]": "whole numbers such as 8,4",
}


def _fits(value: Any, annotation: str) -> bool:
    """True where ``value`` is what an option of this annotation takes."""
    if annotation == "tuple[int, ...]":
        return isinstance(value, Sequence) and all(type(v) is int for v in value)
    if annotation == "int | None":
        return value is None or type(value) is int
    if annotation in ("float", "float | None"):
        return type(value) in (int, float) or (value is None and annotation == "float | None")
    return isinstance(value, str)


def train(
    dataset: Dataset,
    formulation: str | Formulation = "linear",
    *,
    ensemble: str = "auto",
    options: Mapping[str, Any] | None = None,
    time_limit: float | None = None,
    node_limit: int | None = None,
    seed: int = 0,
    workers: int = 1,
    solver: str = "highs",
    solver_options: Mapping[str, OptionValue] | None = None,
    listener: Listener = silent,
    stop: Stop | None = None,
) -> Trained:
    """Train a network.

    formulation      a name of `FORMULATIONS`, with ``options`` its fields; or a formulation, with its options in it
    ensemble         for more than two classes: "pairs", "rest", "none", or "auto", the formulation's own
    time_limit       seconds of the whole training; with neither limit, `DEFAULT_TIME_LIMIT`
    node_limit       branch-and-bound nodes of each solve; 0: no search, only its quick start. With it and no time
                     limit, the same data, options and seed give the same network to the byte, whatever the workers
    workers          processes that train members of an ensemble side by side
    solver, solver_options   by name, with its own options; see `mip2mcu.mip.solver.Solver`
    listener         takes `Progress` events while it runs
    stop             asked now and then; turns true: the best network so far is returned. None: Ctrl-C does that

    Raises `UsageError`, `DatasetError`, `SolverError` or `NoSolutionError`, each with the way out.
    """
    began = time.monotonic()
    chosen, ensemble = _chosen(formulation, ensemble, options, len(dataset.classes))
    if time_limit is None and node_limit is None:
        time_limit = DEFAULT_TIME_LIMIT
    engine = Solver(solver, time_limit, node_limit, seed, options=tuple((solver_options or {}).items()))
    check_solver(engine)
    parts = members(dataset, ensemble)
    with stop_on_interrupt() if stop is None else nullcontext(stop) as stopped, executor(workers) as run:
        seconds = None if time_limit is None else CHOICE_SHARE * time_limit
        choice = choose(chosen, dataset, ensemble, engine, run, seconds=seconds, listener=listener, stop=stopped)
        chosen = choice.formulation
        trained = train_members(chosen, parts, engine, run, began=began, listener=listener, stop=stopped)
    network = combined(dataset, ensemble, [one.network for one in trained])
    earlier = tuple(combined(dataset, ensemble, stage) for stage in zip(*(t.earlier for t in trained), strict=True))
    used = (*flat_options(chosen), ("ensemble", ensemble if len(parts) > 1 else "none"))
    report = report_on(network, dataset, chosen.name, used, named_solves(parts, trained), time.monotonic() - began)
    notes = (*run.notes, *dict.fromkeys(note for one in trained for note in one.report.notes))
    if choice.note:
        notes = (choice.note, *notes)
    if stopped() and report.status != "optimal":
        notes += ("stopped before its limits: the best network until then",)
    elif time_limit is not None and report.seconds > OVERRUN * time_limit + 1:
        notes += (
            f"a quick start of each of {len(parts)} members took {report.seconds:.0f} s, more than the limit of "
            f"{time_limit:g} s: take fewer classes or rows, more workers, or the ensemble rest",
        )
    elif time_limit is not None and report.status != "optimal":
        notes += ("ended by a limit in seconds: another run may end elsewhere, one with a node limit alone does not",)
    return Trained(network, replace(report, workers=min(workers, len(parts)), notes=notes), earlier)


def write_models(
    dataset: Dataset,
    path: str | Path,
    formulation: str | Formulation = "linear",
    *,
    ensemble: str = "auto",
    options: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write what `train` would solve first as LP files, one a member of the ensemble; returns their paths.

    A single model goes to ``path``; those of an ensemble to ``path`` with a number before its suffix, in the order of
    the members.
    """
    path = check_writable(path)
    chosen, ensemble = _chosen(formulation, ensemble, options, len(dataset.classes))
    parts = members(dataset, ensemble)
    digits = len(str(len(parts) - 1))
    written = []
    for number, part in enumerate(parts):
        own = path if len(parts) == 1 else path.with_name(f"{path.stem}-{number:0{digits}d}{path.suffix}")
        write_model(chosen.build(part.dataset), own)
        written.append(own)
    return written


def _chosen(
    formulation: str | Formulation, ensemble: str, options: Mapping[str, Any] | None, classes: int
) -> tuple[Formulation, str]:
    """The formulation with its options, and the ensemble that "auto" means for it."""
    if isinstance(formulation, str):
        chosen = formulation_named(formulation, options)
    elif options:
        raise UsageError("options are given twice: put them into the formulation")
    else:
        chosen = formulation
    if ensemble == "auto":
        usual = FORMULATIONS[chosen.name].ensemble if chosen.name in FORMULATIONS else "none"
        ensemble = automatic(usual, classes)
    return chosen, ensemble
