"""What training returns: the network, and a report that claims nothing that was not computed in exact integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mip2mcu.dataset import Dataset
from mip2mcu.decisions import Argmax, Decision, Sign
from mip2mcu.evaluation import evaluate
from mip2mcu.layers import Layer
from mip2mcu.mip.solver import Solve
from mip2mcu.network import Network
from mip2mcu.progress import relative_gap


@dataclass(frozen=True)
class StageTotal:
    """One stage over all parts of a training: sums of exact objectives and bounds, solves, and those proved optimal.

    Where one solve has no bound, their sum has none.
    """

    name: str
    exact: int
    bound: float | None
    solves: int
    proved: int

    @property
    def gap(self) -> float | None:
        """Relative distance of the sums."""
        return relative_gap(float(self.exact), self.bound)


def _total(name: str, solves: Sequence[Solve]) -> StageTotal:
    bounds = [s.bound for s in solves if s.bound is not None]
    bound = sum(bounds) if len(bounds) == len(solves) else None
    exact, proved = sum(s.exact or 0 for s in solves), sum(s.status == "optimal" for s in solves)
    return StageTotal(name, exact, bound, len(solves), proved)


@dataclass(frozen=True)
class TrainingReport:
    """How a network came about.

    formulation, options   its name and its options, as pairs
    solves                 one record a solve, in order; see `mip2mcu.mip.solver.Solve`
    rows, correct          training rows, and those that the network classifies correctly
    links                  non-zero weights
    seconds, workers       wall-clock time and processes of the whole training
    notes                  what a reader of the result should know, one sentence each
    """

    formulation: str
    options: tuple[tuple[str, Any], ...]
    solves: tuple[Solve, ...]
    rows: int
    correct: int
    links: int
    seconds: float
    workers: int = 1
    notes: tuple[str, ...] = ()

    @property
    def accuracy(self) -> float:
        """Share of training rows that the network classifies correctly, 0..1."""
        return self.correct / self.rows

    @property
    def status(self) -> str:
        """ "optimal" where every solve was proved optimal, else "incumbent"."""
        return "optimal" if self.solves and all(s.status == "optimal" for s in self.solves) else "incumbent"

    @property
    def proved(self) -> int:
        """Number of solves that were proved optimal."""
        return sum(s.status == "optimal" for s in self.solves)

    @property
    def totals(self) -> tuple[StageTotal, ...]:
        """Each stage's solves taken together, in order."""
        names = dict.fromkeys(s.stage.rpartition(": ")[2] for s in self.solves)
        return tuple(_total(name, self.stage(name)) for name in names)

    def stage(self, name: str) -> tuple[Solve, ...]:
        """The solves of one stage ("margin", "links", "errors") of all parts."""
        return tuple(s for s in self.solves if s.stage.rpartition(": ")[2] == name)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **asdict(self),
            "options": dict(self.options),
            "solves": [{**asdict(s), "gap": s.gap} for s in self.solves],
            "accuracy": self.accuracy,
            "status": self.status,
        }


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network, its report, and the networks after the earlier stages of a lexicographic training."""

    network: Network
    report: TrainingReport
    earlier: tuple[Network, ...] = ()


def network_on(dataset: Dataset, layers: Sequence[Layer], decision: Decision | None = None) -> Network:
    """``layers`` on the inputs of ``dataset``; without a ``decision`` that of a single network for its classes."""
    count = len(dataset.classes)
    return Network(
        input_low=dataset.input_low,
        input_high=dataset.input_high,
        layers=tuple(layers),
        decision=decision or (Sign() if count == 2 else Argmax(count)),
        classes=dataset.classes,
        input_shape=dataset.input_shape,
        quantizer=dataset.quantizer,
    )


def report_on(
    network: Network,
    dataset: Dataset,
    formulation: str,
    options: Sequence[tuple[str, Any]],
    solves: Sequence[Solve],
    seconds: float,
) -> TrainingReport:
    """The report of a finished network; accuracy is computed by the network itself."""
    result = evaluate(network, dataset)
    return TrainingReport(
        formulation=formulation,
        options=tuple(options),
        solves=tuple(solves),
        rows=result.rows,
        correct=result.correct,
        links=network.link_count,
        seconds=seconds,
    )


def settled(record: Solve, exact: int) -> Solve:
    """``record`` of a minimisation of whole numbers beside the exact objective of its rounded solution.

    The bound is rounded up to a whole number. A solver's tolerances can fake a better objective than the weights have:
    such a claim is kept in the record, but counts neither as a proof nor as the result.
    """
    bound = (
        None if record.bound is None else float(np.ceil(record.bound - 1e-6 * max(1.0, abs(record.bound)))) + 0.0
    )
    status = record.status
    if status == "not searched":
        record = replace(record, objective=float(exact))
    if status == "optimal" and round(record.objective) != exact:
        status = "claim rejected"
    if bound is not None and bound >= exact:
        status, bound = "optimal", float(exact)
    return replace(record, status=status, bound=bound, exact=exact)


def flat_options(formulation: Any) -> tuple[tuple[str, Any], ...]:
    """Options of a formulation as pairs of names and plain values."""
    return tuple(asdict(formulation).items())
