"""What every formulation offers. To add one: a file with a frozen dataclass of options, a registry row, tests."""

from __future__ import annotations

from typing import ClassVar, Protocol, runtime_checkable

import pyomo.environ as pyo

from mip2mcu.dataset import Dataset
from mip2mcu.mip.solver import Solver
from mip2mcu.progress import Listener, Stop, never, silent
from mip2mcu.train.trained import Trained


class Formulation(Protocol):
    """Options of a formulation (a frozen dataclass) and what can be done with them.

    The network of two classes has one last unit and the rule `Sign`; that of more classes one a class and `Argmax`.
    Ensembles are built around any formulation with these three methods; the two that solve for hidden units, `inn` and
    `bdnn`, can divide the rows into batches as well.
    """

    name: ClassVar[str]

    def build(self, dataset: Dataset) -> pyo.ConcreteModel:
        """The model of the first stage: to look at, to write as an LP file, to solve elsewhere."""

    def start(
        self, dataset: Dataset, solver: Solver, *, listener: Listener = silent, stop: Stop = never
    ) -> Trained:
        """A complete network in little time, without branch and bound."""

    def fit(
        self,
        dataset: Dataset,
        solver: Solver,
        *,
        start: Trained | None = None,
        listener: Listener = silent,
        stop: Stop = never,
    ) -> Trained:
        """Solve, from ``start`` if there is one, within the solver's time limit, which covers the whole training.

        A formulation that inherits this has nothing to solve: its start is all there is.
        """
        return start or self.start(dataset, solver, listener=listener, stop=stop)


@runtime_checkable
class Shared(Protocol):
    """A formulation whose members learn from the rows of all classes, not from their own alone."""

    def shared(self, dataset: Dataset) -> Formulation:
        """The formulation with what it takes from all rows of the training."""


def informed(formulation: Formulation, dataset: Dataset) -> Formulation:
    """What members of an ensemble on ``dataset`` are trained with."""
    return formulation.shared(dataset) if isinstance(formulation, Shared) else formulation
