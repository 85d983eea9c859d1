"""`train`: any formulation on any data set, whole or as an ensemble, with workers, limits, progress and Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeGuard

from mip2mcu.augmentation import Augmentation, augmented
from mip2mcu.cluster import cluster_executor
from mip2mcu.dataset import Dataset
from mip2mcu.errors import UsageError
from mip2mcu.files import check_replaceable, check_writable
from mip2mcu.layers import Layer
from mip2mcu.mip.solver import LP_MARK, OptionValue, Solver, check_solver, write_model
from mip2mcu.network import Network
from mip2mcu.parallel import Executor, executor, share_of_time
from mip2mcu.progress import Listener, Stop, silent, stop_on_interrupt
from mip2mcu.stages import fit_stages, in_front, through
from mip2mcu.train.batches import train_by_averaging
from mip2mcu.train.bdnn import Bdnn
from mip2mcu.train.checkpoints import Checkpointed, check_folder
from mip2mcu.train.choice import Choice, choose
from mip2mcu.train.clock import Clock, Course
from mip2mcu.train.ensemble import (
    Ensemble,
    Members,
    automatic,
    check_units,
    combined,
    member_notes,
    members,
    named_solves,
    not_separated,
    train_members,
)
from mip2mcu.train.formulation import Formulation, informed
from mip2mcu.train.inn import Inn
from mip2mcu.train.lazy_samples import train_lazily
from mip2mcu.train.registry import FORMULATIONS
from mip2mcu.train.scales import scales_note
from mip2mcu.train.trained import Trained, TrainingReport, flat_options, report_on

CHOICE_SHARE = 0.3
"""Most of the time limit that the choice of open options may take."""
OVERRUN = 1.5
"""A training that takes so many times its limit says why."""
ENDED = 0.9
"""Share of its time limit that a training must have used for the limit to have ended it."""
BATCH_TRAINING = {"averaging": train_by_averaging, "lazy": train_lazily}
"""What the choices of `Inn.batches` stand for."""
DEFAULT_TIME_LIMIT = 60.0
"""Seconds of a training where neither a time limit nor a node limit is given."""


def formulation_named(name: str, options: Mapping[str, Any] | None = None) -> Formulation:
    """The formulation ``name`` with ``options``; raises `UsageError` for an unknown name or option."""
    if name not in FORMULATIONS:
        raise UsageError(f"formulation {name!r} is unknown, choose one of {', '.join(FORMULATIONS)}")
    options_class, given = FORMULATIONS[name].options, options or {}
    known = [field.name for field in fields(options_class)]  # type: ignore[arg-type]
    for option in given:
        if option not in known:
            raise UsageError(f"formulation {name!r} has no option {option!r}, only {', '.join(known)}")
    return options_class(**given)


def train(
    dataset: Dataset,
    formulation: str | Formulation = "linear",
    *,
    ensemble: str = "auto",
    subset_size: int = 2,
    vote: str = "margin",
    many: bool = False,
    stages: Sequence[str] = (),
    copies: int = 0,
    options: Mapping[str, Any] | None = None,
    time_limit: float | None = None,
    node_limit: int | None = None,
    seed: int = 0,
    workers: int = 1,
    cluster: str | None = None,
    resume: str | Path | None = None,
    solver: str = "highs",
    solver_options: Mapping[str, OptionValue] | None = None,
    listener: Listener = silent,
    stop: Stop | None = None,
) -> Trained:
    """Train a network.

    formulation      a name of `FORMULATIONS`, with ``options`` its fields; or a formulation, with its options in it
    ensemble         for more than two classes: "pairs", "rest", "none", or "auto", the formulation's own
    subset_size      classes of a member of "pairs"
    vote             ties of "pairs": "margin" decides them, "strict" leaves them unclassified
    many             true: more than `mip2mcu.train.ensemble.MANY` members are meant
    stages           input stages as texts, see `mip2mcu.stages`; they become the network's first layers
    copies           changed copies of each row to train on, see `mip2mcu.augmentation`
    time_limit       seconds of the whole training, of which quick starts, done in any case, may take the first second
                     even where it is shorter; with neither limit, `DEFAULT_TIME_LIMIT`
    node_limit       branch-and-bound nodes of each solve; 0: no search, only its quick start. With it and no time
                     limit, the same data, options and seed give the same network to the byte, whatever the workers
    workers          processes that train members of an ensemble side by side
    cluster          "local" or the address of a Dask scheduler: its workers train the members, see `mip2mcu.cluster`
    resume           a folder that keeps each finished solve; those that are there already are used unchanged, see
                     `mip2mcu.train.checkpoints`
    solver, solver_options   by name, with its own options; see `mip2mcu.mip.solver.Solver`
    listener         takes `Progress` events while it runs
    stop             asked now and then; turns true: the best network so far is returned. None: Ctrl-C does that

    Raises `UsageError`, `DatasetError`, `SolverError` or `NoSolutionError`, each with the way out.
    """
    began = time.monotonic()
    if time_limit is None and node_limit is None:
        time_limit = DEFAULT_TIME_LIMIT
    engine = Solver(solver, time_limit, node_limit, seed, options=tuple((solver_options or {}).items()))
    check_solver(engine)
    kept = None if resume is None else check_folder(resume)
    plan = _plan(dataset, formulation, (ensemble, subset_size, vote), options, stages, copies, seed, many)
    with stop_on_interrupt() if stop is None else nullcontext(stop) as stopped, _executor(workers, cluster) as bare:
        run = bare if kept is None else Checkpointed(bare, kept)
        course = Course(run, Clock.of(engine, began), listener, stopped)
        choice = plan.choice(engine, course)
        chosen = choice.formulation
        if _is_divided(chosen):
            trained = _in_batches(chosen, plan.parts, engine, course)
        else:
            trained = train_members(informed(chosen, plan.rows), plan.parts, engine, course)
        busy = run.workers if _is_divided(chosen) else min(run.workers, len(plan.parts))
    parts = plan.parts
    network = plan.whole([one.network for one in trained])
    earlier = tuple(plan.whole(stage) for stage in zip(*(t.earlier for t in trained), strict=True))
    used = (*flat_options(chosen), *_described(plan.ensemble, len(parts), stages, copies))
    report = report_on(network, dataset, chosen.name, used, named_solves(parts, trained), time.monotonic() - began)
    notes = [*([choice.note] if choice.note else []), *scales_note(dataset), *run.notes]
    notes += member_notes(parts, trained)
    work = "one epoch of batches" if _is_divided(chosen) else "a quick start"
    work += f" of each of {len(parts)} members" * (len(parts) > 1)
    notes += [*not_separated(parts, trained), *_ending(report, work, time_limit, stopped=stopped())]
    return Trained(network, replace(report, workers=busy, notes=tuple(notes)), earlier)


def _ending(report: TrainingReport, work: str, time_limit: float | None, *, stopped: bool) -> list[str]:
    """What ended a training, if it was not the proof of its optimum; ``work`` is what is done in any case."""
    if stopped and report.status != "optimal":
        return ["stopped before its limits: the best network until then"]
    if time_limit is None:
        return []
    if report.seconds > OVERRUN * time_limit + 1:
        return [
            f"training took {report.seconds:.0f} s, more than the limit of {time_limit:g} s, since {work} is done in "
            "any case: take fewer rows or classes, more workers, or the ensemble rest"
        ]
    if report.status != "optimal":
        was = "ended by" if report.seconds > ENDED * time_limit else "had"
        return [f"{was} a limit in seconds: another run may end elsewhere, one with a node limit alone does not"]
    return []


def _is_divided(formulation: Formulation) -> TypeGuard[Inn]:
    """True where the rows of each member are trained on in batches."""
    return isinstance(formulation, Inn) and formulation.batches != "none"


def _in_batches(formulation: Inn, parts: Members, solver: Solver, course: Course) -> list[Trained]:
    """One member after another, each with its equal share of the time that is left; its batches run side by side."""
    in_batches = BATCH_TRAINING[formulation.batches]
    found = []
    for number, part in enumerate(parts):
        own = solver.within(share_of_time(course.clock.left(), len(parts) - number, 1))
        within = replace(course, clock=Clock.of(own, time.monotonic()))
        found.append(in_batches(formulation, part.dataset, own, within))
    return found


def _executor(workers: int, cluster: str | None) -> AbstractContextManager[Executor]:
    return executor(workers) if cluster is None else cluster_executor(cluster, workers)


def _described(ensemble: Ensemble, parts: int, stages: Sequence[str], copies: int) -> tuple[tuple[str, Any], ...]:
    """Options of the training beside the formulation's own; what was not asked for is left out."""
    described: list[tuple[str, Any]] = [("ensemble", ensemble.kind if parts > 1 else "none")]
    if parts > 1 and ensemble.kind == "pairs":
        described += [("subset_size", ensemble.subset_size)] * (ensemble.subset_size != 2)
        described += [("vote", ensemble.vote)] * (ensemble.vote != "margin")
    described += [("stages", tuple(stages))] * bool(stages) + [("copies", copies)] * bool(copies)
    return tuple(described)


def write_models(
    dataset: Dataset,
    path: str | Path,
    formulation: str | Formulation = "linear",
    *,
    ensemble: str = "auto",
    subset_size: int = 2,
    many: bool = False,
    stages: Sequence[str] = (),
    copies: int = 0,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> list[Path]:
    """Write what `train` would solve first as LP files, one a member of the ensemble; returns their paths.

    A single model goes to ``path``; those of an ensemble to ``path`` with a number before its suffix, in the order of
    the members. Options that are left open have their defaults, and rows are not divided into batches.
    """
    path = check_writable(path)
    plan = _plan(dataset, formulation, (ensemble, subset_size, "margin"), options, stages, copies, seed, many)
    parts, ready = plan.parts, informed(plan.formulation, plan.rows)
    digits = len(str(len(parts) - 1))
    places = [path]
    if len(parts) > 1:
        places = [path.with_name(f"{path.stem}-{number:0{digits}d}{path.suffix}") for number in range(len(parts))]
    for place in places:
        check_replaceable(place, LP_MARK, "LP file of Pyomo")
    for place, part in zip(places, parts, strict=True):
        write_model(ready.build(part.dataset), place)
    return places


@dataclass(frozen=True, eq=False)
class _Plan:
    """What is trained on what.

    dataset   as it was given
    front     the input stages
    given     the data behind them
    rows      the same, with changed copies of the rows where they are wanted
    parts     the members' own shares of ``rows``
    """

    dataset: Dataset
    formulation: Formulation
    ensemble: Ensemble
    front: tuple[Layer, ...]
    given: Dataset
    rows: Dataset
    parts: Members

    def choice(self, solver: Solver, course: Course) -> Choice:
        """The formulation with its open options chosen, on the rows without copies."""
        begun = Clock.of(solver.within(course.clock.left(CHOICE_SHARE)), time.monotonic())
        return choose(self.formulation, self.given, self.ensemble, solver, replace(course, clock=begun))

    def whole(self, networks: Sequence[Network]) -> Network:
        """One network, stages included, of the members' ``networks``."""
        return in_front(combined(self.rows, self.ensemble, networks), self.dataset, self.front)


def _plan(
    dataset: Dataset,
    formulation: str | Formulation,
    ensemble: tuple[str, int, str],
    options: Mapping[str, Any] | None,
    stages: Sequence[str],
    copies: int,
    seed: int,
    many: bool,
) -> _Plan:
    """The plan; ``ensemble`` is its kind, subset size and vote."""
    chosen, divided = _chosen(formulation, ensemble, options, len(dataset.classes))
    check_units(divided, len(dataset.classes), tuple(getattr(chosen, "hidden", ())))
    front = fit_stages(stages, dataset)
    given = through(dataset, front)
    rows = through(augmented(dataset, Augmentation(copies), seed), front) if copies else given
    _check_raw(chosen, dataset, front, rows)
    return _Plan(dataset, chosen, divided, front, given, rows, members(rows, divided, many=many))


def _check_raw(formulation: Formulation, dataset: Dataset, front: tuple[Layer, ...], rows: Dataset) -> None:
    """Raise `UsageError` where a radius in raw units would be read as one in what stages or copies make of them."""
    if not (isinstance(formulation, Bdnn) and formulation.robust):
        return
    if front or (rows.quantizer is None) != (dataset.quantizer is None):
        lost = "lost behind input stages" if front else "not known of changed copies"
        raise UsageError(
            f"a robust radius is counted in raw units, which are {lost}: leave one of them out; what a network trained "
            "without a radius withstands, `mip2mcu certify` tells"
        )


def _chosen(
    formulation: str | Formulation, ensemble: tuple[str, int, str], options: Mapping[str, Any] | None, classes: int
) -> tuple[Formulation, Ensemble]:
    """The formulation with its options, and the ensemble of a kind, subset size and vote.

    "auto" is the formulation's own kind; a subset size of more than two means subsets.
    """
    if isinstance(formulation, str):
        chosen = formulation_named(formulation, options)
    elif options:
        raise UsageError("options are given twice: put them into the formulation")
    else:
        chosen = formulation
    kind, subset_size, vote = ensemble
    if kind == "auto":
        usual = FORMULATIONS[chosen.name].ensemble if chosen.name in FORMULATIONS else "none"
        kind = automatic(usual, classes) if subset_size == 2 else "pairs"
    return chosen, Ensemble(kind, subset_size, vote)
