"""Shared by the tests of training: tiny data sets, brute force, golden LP files."""

from itertools import product
from pathlib import Path

import numpy as np
import pyomo.environ as pyo

from mip2mcu.dataset import Dataset
from mip2mcu.mip.solver import lp_text

GOLDEN = Path(__file__).parent / "golden" / "lp"


def random_data(seed, rows=7, inputs=3, classes=2, top=3):
    """Random integers 0..top; every class occurs, and the last row contradicts the first."""
    rng = np.random.default_rng(seed)
    X = rng.integers(0, top + 1, (rows, inputs))
    y = np.concatenate([np.arange(classes), rng.integers(0, classes, rows - classes)])
    X[-1], y[-1] = X[0], (y[0] + 1) % classes
    return Dataset.from_arrays(X, y, input_range=(0, top))


def separated_data(rows=60, inputs=8, classes=3, seed=0):
    """Three noisy prototypes of 0/1 inputs."""
    rng = np.random.default_rng(seed)
    prototypes = rng.integers(0, 2, (classes, inputs))
    y = np.arange(rows) % classes
    X = prototypes[y] ^ (rng.random((rows, inputs)) < 0.15)
    return Dataset.from_arrays(X.astype(np.int64), y, input_range=(0, 1))


def weight_choices(count, bound, binary):
    """All weight vectors of a unit."""
    values = (-1, 1) if binary else range(-bound, bound + 1)
    return [np.array(choice) for choice in product(values, repeat=count)]


def compare_with_golden(model, name, update_golden):
    """The model's LP text equals the golden file ``name``."""
    path, text = GOLDEN / name, lp_text(model)
    if update_golden:
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def market_split(rows=5, columns=40):
    """Deviations of random 0/1 sums from half their total: no solver proves the optimum of this size in minutes."""
    numbers = np.random.default_rng(3).integers(0, 100, (rows, columns))
    model = pyo.ConcreteModel(name="market_split")
    model.taken = pyo.Var(range(columns), domain=pyo.Binary)
    model.over = pyo.Var(range(rows), domain=pyo.NonNegativeReals)
    model.under = pyo.Var(range(rows), domain=pyo.NonNegativeReals)

    def half(m, j):
        taken = sum(int(numbers[j, i]) * m.taken[i] for i in range(columns))
        return taken + m.under[j] - m.over[j] == int(numbers[j].sum()) // 2

    model.split = pyo.Constraint(range(rows), rule=half)
    model.deviation = pyo.Objective(expr=sum(model.over[j] + model.under[j] for j in range(rows)))
    return model
