"""Shared by the tests of training: tiny data sets, brute force, golden LP files."""

from itertools import product
from pathlib import Path

import numpy as np

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
