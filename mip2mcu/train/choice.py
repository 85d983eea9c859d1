"""Options left open (None) are chosen by cross-validation on the training rows alone, by quick starts.

Rows are dealt to folds class by class; every candidate is trained on all folds but one and counted on that one. Most
correct rows win, then fewest links, then the earlier candidate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from mip2mcu.dataset import Dataset
from mip2mcu.evaluation import evaluate
from mip2mcu.mip.solver import Solver
from mip2mcu.parallel import Context
from mip2mcu.progress import Progress
from mip2mcu.ranges import IntArray
from mip2mcu.train.clock import Course
from mip2mcu.train.ensemble import Ensemble, combined, members
from mip2mcu.train.formulation import Formulation

FOLDS = 5
ROWS_LEAST = 40
"""Of fewer training rows, cross-validation says nothing; they take the first candidate's options too."""
MEMBERS_MOST = 100
"""Of larger ensembles the options are the first candidate's: every candidate would be trained so often a fold."""
TRIAL_SECONDS = 1.0
"""A quick start may take so long even where its share of the time is less."""
WORK_LIMIT = 250_000
"""Most inputs of all members' rows together; the options of larger data are the first candidate's."""


@runtime_checkable
class Open(Protocol):
    """A formulation with options that may be left open."""

    def candidates(self) -> tuple[Formulation, ...]:
        """What it may become: all open options filled in, the defaults first; itself alone where nothing is open."""


@dataclass(frozen=True)
class Choice:
    """A formulation without open options, and a sentence about how it was chosen (empty where nothing was open)."""

    formulation: Formulation
    note: str = ""


@dataclass(frozen=True, eq=False)
class _Trial:
    formulation: Formulation
    ensemble: Ensemble
    training: Dataset
    validation: Dataset
    solver: Solver


def choose(formulation: Formulation, dataset: Dataset, ensemble: Ensemble, solver: Solver, course: Course) -> Choice:
    """Fill in what ``formulation`` leaves open.

    Every candidate has the whole time of ``course``, lest those that come later be judged by less; when it is over, no
    further one is tried.
    """
    if not isinstance(formulation, Open):
        return Choice(formulation)
    candidates = formulation.candidates()
    folds = min(FOLDS, int(np.bincount(dataset.labels, minlength=len(dataset.classes)).min()))
    too_few = folds < 2 or dataset.rows < ROWS_LEAST
    if len(candidates) == 1 or too_few or _too_much(dataset, ensemble):
        return Choice(candidates[0])
    course.listener(Progress("options by cross-validation"))
    splits = _folds(dataset, folds, solver.seed)
    seconds = course.clock.left()
    scores: list[tuple[int, int]] = []
    for candidate in candidates:
        trials = [_Trial(candidate, ensemble, training, validation, solver) for training, validation in splits]
        counts = course.run.map(_count, trials, seconds=seconds, listener=course.listener, stop=course.stop)
        if course.stop():
            return Choice(candidates[0])
        scores.append(_sum(counts))
        if not course.clock.goes_on():
            break
    best = max(range(len(scores)), key=lambda i: (scores[i][0], -scores[i][1], -i))
    share = 100 * scores[best][0] / dataset.rows
    return Choice(
        candidates[best],
        f"options chosen by {folds}-fold cross-validation on the training rows: "
        f"{_difference(formulation, candidates[best])} ({share:.1f} % of the rows left out were right)",
    )


def _too_much(dataset: Dataset, ensemble: Ensemble) -> bool:
    classes = len(dataset.classes)
    size = dataset.inputs.size * ensemble.members_of_a_class(classes)
    return ensemble.size(classes) > MEMBERS_MOST or size > WORK_LIMIT


def _folds(dataset: Dataset, folds: int, seed: int) -> list[tuple[Dataset, Dataset]]:
    """Pairs (training rows, rows left out); each class is dealt out evenly."""
    order = np.random.default_rng(seed).permutation(dataset.rows)
    by_class = order[np.argsort(dataset.labels[order], kind="stable")]
    fold: IntArray = np.empty(dataset.rows, dtype=np.int64)
    fold[by_class] = np.arange(dataset.rows) % folds
    return [
        (dataset.rows_at(np.flatnonzero(fold != f)), dataset.rows_at(np.flatnonzero(fold == f))) for f in range(folds)
    ]


def _count(trial: _Trial, context: Context) -> tuple[int, int]:
    """Correct rows of those left out, and links."""
    parts = members(trial.training, trial.ensemble, many=True)
    share = None if context.seconds is None else max(TRIAL_SECONDS, context.seconds / len(parts))
    solver = trial.solver.within(share)
    networks = [trial.formulation.start(part.dataset, solver, stop=context.stop).network for part in parts]
    network = combined(trial.training, trial.ensemble, networks)
    return evaluate(network, trial.validation).correct, network.link_count


def _sum(counts: Sequence[tuple[int, int]]) -> tuple[int, int]:
    return sum(correct for correct, _ in counts), sum(links for _, links in counts)


def _difference(formulation: Formulation, chosen: Formulation) -> str:
    return ", ".join(f"{name} {value}" for name, value in vars(chosen).items() if value != getattr(formulation, name))
