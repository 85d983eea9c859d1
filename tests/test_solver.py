"""The solver module on small knapsacks and on one that takes long enough to be interrupted."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyomo.environ as pyo
import pytest

from mip2mcu.errors import NoSolutionError, SolverError, UsageError
from mip2mcu.mip.matrix import matrix_of
from mip2mcu.mip.solver import Solve, Solver, check_solver, lp_text, solve, write_model
from tests.conftest import require
from tests.training import market_split


def knapsack():
    model = pyo.ConcreteModel(name="knapsack")
    model.taken = pyo.Var(range(3), domain=pyo.Integers, bounds=(0, 2))
    model.fits = pyo.Constraint(expr=3 * model.taken[0] + 4 * model.taken[1] + 5 * model.taken[2] <= 11)
    model.worth = pyo.Objective(
        expr=4 * model.taken[0] + 5 * model.taken[1] + 7 * model.taken[2], sense=pyo.maximize
    )
    return model


def test_an_optimum_is_proved_and_left_in_the_variables():
    model = knapsack()
    record = solve(model, Solver())
    assert (record.status, record.objective, record.bound, record.gap) == ("optimal", 15.0, 15.0, 0.0)
    assert [model.taken[i].value for i in range(3)] == [2, 0, 1]
    assert all(isinstance(model.taken[i].value, int) for i in range(3))


def test_a_record_names_solver_version_and_seed():
    record = solve(knapsack(), Solver(seed=7), stage="filling")
    assert (record.stage, record.solver, record.seed) == ("filling", "highs", 7)
    assert record.version.count(".") == 2


def test_a_node_limit_ends_the_search_with_its_incumbent_and_the_same_one_each_time():
    first, second = market_split(), market_split()
    records = [solve(model, Solver(node_limit=40)) for model in (first, second)]
    assert [r.status for r in records] == ["node limit", "node limit"]
    assert [v.value for v in first.taken.values()] == [v.value for v in second.taken.values()]
    assert records[0].bound < records[0].objective


def test_a_time_limit_ends_the_search_with_its_incumbent():
    record = solve(market_split(), Solver(time_limit=0.5))
    assert record.status == "time limit"
    assert record.seconds < 5


def test_a_target_ends_the_search_before_the_proof():
    record = solve(market_split(), Solver(objective_target=200, time_limit=60))
    assert record.status == "target"
    assert record.objective <= 200


def test_a_start_is_where_the_search_begins():
    model = market_split()
    halves = [pyo.value(model.split[j].upper) for j in range(5)]
    for variable in [*model.taken.values(), *model.over.values()]:
        variable.set_value(0)
    for j, half in enumerate(halves):
        model.under[j].set_value(half)
    seen = []
    solve(model, Solver(node_limit=0), start=True, listener=seen.append)
    assert max(e.incumbent for e in seen if e.incumbent is not None) <= sum(halves)


def test_a_start_without_all_values_is_refused():
    with pytest.raises(SolverError, match="a start needs a value for every variable"):
        solve(knapsack(), Solver(), start=True)


def test_events_bring_falling_incumbents_and_rising_bounds_below_them():
    seen = []
    solve(market_split(), Solver(node_limit=200), stage="splitting", listener=seen.append)
    incumbents = [e.incumbent for e in seen if e.incumbent is not None]
    assert incumbents == sorted(incumbents, reverse=True)
    assert {e.stage for e in seen} == {"splitting"}
    assert all(e.bound is None or e.bound <= e.incumbent for e in seen)


def test_stop_keeps_the_incumbent():
    seen = []
    record = solve(market_split(), Solver(), listener=seen.append, stop=lambda: len(seen) > 5)
    assert record.status == "interrupted"
    assert record.objective == min(e.incumbent for e in seen if e.incumbent is not None)


def test_an_error_in_a_listener_ends_the_solve_and_comes_out():
    def listener(_event):
        raise ZeroDivisionError("in a listener")

    with pytest.raises(ZeroDivisionError, match="in a listener"):
        solve(knapsack(), Solver(), listener=listener)


def test_ctrl_c_keeps_the_incumbent(tmp_path):
    script = tmp_path / "interrupted.py"
    script.write_text(
        textwrap.dedent("""
        from mip2mcu.mip.solver import Solver, solve
        from tests.training import market_split
        def tell(event):
            if event.incumbent is not None:
                print("incumbent", flush=True)
        record = solve(market_split(), Solver(time_limit=300), listener=tell)
        print("status", record.status, record.objective >= 0, flush=True)
        """)
    )
    require(os.name == "posix", "signals to another process need POSIX")
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    assert process.stdout.readline() == "incumbent\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (out.splitlines()[-1], err, process.returncode) == ("status interrupted True", "", 0)


def test_contradicting_constraints_are_said_to_be_that():
    model = knapsack()
    model.impossible = pyo.Constraint(expr=model.taken[0] + model.taken[1] >= 5)
    with pytest.raises(
        NoSolutionError, match="filling: there is no solution, the constraints contradict each other"
    ):
        solve(model, Solver(), stage="filling")


def test_no_point_within_the_limit_says_what_to_relax():
    model = market_split()
    for j in range(5):
        model.over[j].fix(0)
        model.under[j].fix(0)
    with pytest.raises(NoSolutionError, match=r"no feasible point before it ended.*allow more time or nodes"):
        solve(model, Solver(node_limit=1))


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        (Solver(options={"no_such_option": 1}), "HiGHS has no option 'no_such_option'"),
        (
            Solver(options={"mip_rel_gap": "small"}),
            "HiGHS' option 'mip_rel_gap' cannot take the value 'small'",
        ),
        (Solver(options={"mip_rel_gap": -1.0}), "HiGHS' option 'mip_rel_gap' cannot take the value -1.0"),
        (Solver("no_such_solver"), "the solver 'no_such_solver' is not known to Pyomo"),
        (Solver("xpress_direct"), "the solver 'xpress_direct' is not installed"),
    ],
)
def test_missing_solvers_and_refused_options_are_known_before_the_work(solver, message, capfd):
    with pytest.raises(SolverError, match=message):
        check_solver(solver)
    with pytest.raises(SolverError, match=message):
        solve(knapsack(), solver)
    assert capfd.readouterr() == ("", "")


def test_text_values_of_options_are_read_as_the_option_wants_them():
    assert (
        solve(
            knapsack(), Solver(options={"presolve": "off", "mip_max_nodes": "100", "mip_rel_gap": "0.5"})
        ).objective
        > 0
    )


def test_time_for_a_model_is_time_to_build_it_and_as_much_to_solve_it():
    assert Solver(time_limit=2.9).has_time_for(10_000, 100_000)
    assert not Solver(time_limit=2.7).has_time_for(10_000, 100_000)
    assert Solver().has_time_for(10**9, 10**9)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"time_limit": -1.0}, "a time limit of -1.0 seconds is not possible: give 0 or more"),
        ({"time_limit": float("nan")}, "a time limit of nan seconds is not possible: give 0 or more"),
        ({"node_limit": -1}, "a node limit of -1 is not possible: give a number of 0..2147483647"),
        ({"seed": -1}, "a seed of -1 is not possible: give a number of 0..2147483647"),
        ({"threads": 0}, "0 threads are not possible: give a number of at least 1"),
    ],
)
def test_impossible_limits_are_refused(fields, message):
    with pytest.raises(UsageError) as refused:
        Solver(**fields)
    assert str(refused.value) == message


def test_a_node_limit_beyond_32_bits_names_the_range():
    message = "a node limit of 2147483648 is not possible: give a number of 0..2147483647"
    with pytest.raises(UsageError, match=message):
        Solver(node_limit=2**31)
    check_solver(Solver(node_limit=2**31 - 1))


def installed(name):
    try:
        check_solver(Solver(name))
    except SolverError:
        return False
    return True


@pytest.mark.parametrize("name", [n for n in ("appsi_highs", "glpk", "cbc", "scip") if installed(n)])
def test_every_solver_of_pyomo_that_is_installed_gives_the_same_optimum(name):
    model = knapsack()
    record = solve(model, Solver(name, time_limit=20.0))
    assert (record.status, record.objective, record.bound, record.solver) == ("optimal", 15.0, 15.0, name)
    assert [model.taken[i].value for i in range(3)] == [2, 0, 1]
    model.impossible = pyo.Constraint(expr=model.taken[0] + model.taken[1] >= 5)
    with pytest.raises(NoSolutionError, match="there is no solution"):
        solve(model, Solver(name))


@pytest.mark.parametrize("name", ["glpk", "cbc"])
def test_an_option_that_another_solver_does_not_know_is_refused_before_the_work(name):
    require(installed(name), f"{name} is not installed")
    with pytest.raises(SolverError, match=r"'(glpk|cbc)' cannot solve with these options \(nonsense=3\): .*nonsense"):
        check_solver(Solver(name, 5.0, options={"nonsense": 3}))


def test_a_node_limit_that_another_solver_does_not_have_is_refused_before_the_work():
    require(installed("glpk"), "glpk is not installed")
    with pytest.raises(SolverError, match="glpk has no node limit: limit its time instead"):
        check_solver(Solver("glpk", node_limit=5))


def test_the_same_model_is_written_to_the_same_bytes_with_readable_names(tmp_path):
    write_model(knapsack(), tmp_path / "a.lp")
    write_model(knapsack(), tmp_path / "b.lp")
    assert (tmp_path / "a.lp").read_bytes() == (tmp_path / "b.lp").read_bytes()
    assert "c_u_fits_:\n+3 taken(0)\n+4 taken(1)\n+5 taken(2)\n<= 11" in lp_text(knapsack())


def test_a_matrix_has_the_models_numbers_in_the_order_of_its_declarations():
    matrix = matrix_of(knapsack())
    assert matrix.cost.tolist() == [4, 5, 7]
    assert (matrix.start.tolist(), matrix.column.tolist(), matrix.value.tolist()) == (
        [0, 3],
        [0, 1, 2],
        [3, 4, 5],
    )
    assert (matrix.row_low.tolist(), matrix.row_high.tolist()) == ([-np.inf], [11])
    assert matrix.integer.all()
    assert matrix.maximise


def test_a_product_of_variables_is_refused():
    model = knapsack()
    model.curved = pyo.Constraint(expr=model.taken[0] * model.taken[1] <= 1)
    with pytest.raises(SolverError, match="constraint curved is not linear"):
        solve(model, Solver())


def test_the_gap_uses_the_exact_objective_where_there_is_one():
    record = Solve("s", "time limit", 9.0, 5.0, 0.0, 0, "highs", "1", 0, exact=10)
    assert record.gap == 0.5
