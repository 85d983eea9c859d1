"""What every formulation offers. To add one: a file with a frozen dataclass of options, a registry row, tests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from itertools import pairwise
from math import isfinite
from numbers import Integral
from typing import ClassVar, Protocol, runtime_checkable

import pyomo.environ as pyo

from mip2mcu.dataset import Dataset
from mip2mcu.errors import UsageError
from mip2mcu.layers import UNIT_LIMIT
from mip2mcu.mip.solver import Solver
from mip2mcu.progress import Listener, Stop, never, silent
from mip2mcu.train.trained import Trained

HIDDEN_WEIGHTS = 10_000_000
"""Most weights between hidden layers."""


class Formulation(Protocol):
    """Options of a formulation (a frozen dataclass) and what can be done with them.

    The network of two classes has one last unit and the rule `Sign`; that of more classes one a class and `Argmax`.
    Ensembles are built around any formulation with these three methods; `inn` and `bdnn` can divide the rows into
    batches as well.
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


_WANTED = {
    "int | None": "a whole number",
    "float": "a number",
    "float | None": "a number",
    "str": "a word",
    "int": "a whole number",
    "bool": "true or false",
    "tuple[int, ...]": "whole numbers such as 8,4",
}


def check_options(formulation: object) -> None:
    """Raise `UsageError` unless every field of a formulation, a dataclass, has a value of its type.

    Where an option takes several whole numbers, a single one stands for itself: ``hidden=2`` is ``hidden=(2,)``.
    """
    for option in fields(formulation):  # type: ignore[arg-type]
        kind, value = str(option.type), getattr(formulation, option.name)
        if kind == "tuple[int, ...]" and not isinstance(value, str):
            value = tuple(value) if isinstance(value, Iterable) else (value,)
            object.__setattr__(formulation, option.name, value)
        if not _fits(value, kind):
            raise UsageError(f"option {option.name!r} cannot take {value!r}: it wants {_WANTED[kind]}")


def _fits(value: object, kind: str) -> bool:
    """True where ``value`` is what an option of this annotation takes."""
    if kind.endswith(" | None"):
        return value is None or _fits(value, kind.removesuffix(" | None"))
    if kind == "tuple[int, ...]":
        return isinstance(value, tuple) and all(_is_whole(one) for one in value)
    if kind == "int":
        return _is_whole(value)
    if kind == "float":
        return _is_whole(value) or (isinstance(value, float) and isfinite(value))
    return isinstance(value, bool if kind == "bool" else str)


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def hidden_widths(widths: tuple[int, ...]) -> tuple[int, ...]:
    """Units of each hidden layer; 0 alone means none. Raises `UsageError` for layers that nobody can train."""
    if widths == (0,):
        return ()
    if not all(1 <= width <= UNIT_LIMIT for width in widths):
        raise UsageError(f"hidden layers {widths} are not possible: give 1 to {UNIT_LIMIT} units a layer, such as 8,4")
    weights = sum(inputs * units for inputs, units in pairwise(widths))
    if weights > HIDDEN_WEIGHTS:
        raise UsageError(
            f"hidden layers {widths} have {weights:,} weights between them, at most {HIDDEN_WEIGHTS:,} are possible: "
            "give fewer units"
        )
    return widths
