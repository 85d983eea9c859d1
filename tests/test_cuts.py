"""Cutting planes on functions whose minimum is known."""

from __future__ import annotations

import numpy as np
import pytest

from mip2mcu.errors import NoSolutionError
from mip2mcu.mip.cuts import Cut, solve_with_cuts
from mip2mcu.mip.solver import Solver
from mip2mcu.prune.linear import Builder

PEAK = np.array([1.3, 2.6])


def parabola(whole=False):
    """minimise e >= (x - 1.3)^2 + (y - 2.6)^2 over [0, 5]^2."""
    build = Builder()
    build.variables(2, 0.0, 5.0, whole=whole)
    build.variables(1, 0.0, cost=1.0)
    build.rows([(np.array([0]), np.ones(1))], 0.0, 5.0)
    return build.matrix()


def tangent(values):
    point, e = values[:2], values[2]
    height, slope = ((point - PEAK) ** 2).sum(), 2 * (point - PEAK)
    if height - e < 1e-5:
        return []
    return [Cut(height - slope @ point, np.arange(3, dtype=np.int32), np.append(-slope, 1.0))]


def test_tangents_end_at_the_minimum_of_a_convex_function():
    values, record = solve_with_cuts(parabola(), tangent, Solver(), rounds=100)
    assert values[:2] == pytest.approx(PEAK, abs=0.01)
    assert (record.status, record.objective, record.bound) == ("optimal", pytest.approx(0, abs=1e-5), record.objective)


def test_whole_variables_end_at_the_nearest_point():
    values, record = solve_with_cuts(parabola(whole=True), tangent, Solver(), rounds=100)
    assert np.rint(values[:2]).tolist() == [1, 3]
    assert record.objective == pytest.approx(0.25, abs=1e-4)


def test_rounds_and_stop_end_it_with_a_bound():
    assert solve_with_cuts(parabola(), tangent, Solver(), rounds=2)[1].status == "round limit"
    assert solve_with_cuts(parabola(), tangent, Solver(), rounds=9, stop=lambda: True)[1].status == "interrupted"


def test_no_solution_is_an_error():
    build = Builder()
    x = build.variables(1, 0.0, 1.0)
    build.rows([(x, np.ones(1))], 2.0)
    with pytest.raises(NoSolutionError):
        solve_with_cuts(build.matrix(), lambda _: [], Solver(), rounds=1)
