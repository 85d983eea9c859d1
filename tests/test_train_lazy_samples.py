"""Lazy samples: the optimum of few rows is that of all rows, proved; runs that repeat and resume."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from mip2mcu.cli import main
from mip2mcu.dataset import Dataset
from mip2mcu.errors import NoSolutionError
from mip2mcu.mip.solver import Solver
from mip2mcu.train import train
from mip2mcu.train.inn import Inn
from mip2mcu.train.lazy_samples import first_rows
from tests.training import random_data, separated_data

LAZY = {"batches": "lazy", "batch_rows": 4}


def grid(side, true, **more):
    """All points of a square, labelled by ``true``."""
    X = np.array([(a, b) for a in range(side) for b in range(side)])
    return Dataset.from_arrays(X, ["no" if true(a, b) else "yes" for a, b in X], input_range=(0, side - 1), **more)


def test_the_first_rows_are_the_worst_ones_and_others():
    loss = np.array([0, 3, 0, 9, 1, 0, 0, 0])
    known = np.flatnonzero(first_rows(loss, 4, 0)).tolist()
    assert len(known) == 4 and {1, 3} < set(known)
    assert first_rows(loss, 100, 0).all()
    assert first_rows(np.zeros(8, dtype=int), 4, 0).sum() == 4


@pytest.mark.parametrize("objective", ["max-correct", "sat-margin", "min-hinge"])
@pytest.mark.parametrize(("classes", "hidden"), [(2, (1,)), (2, ()), (3, (1,))])
def test_few_rows_have_the_optimum_of_all(objective, classes, hidden):
    data = random_data(1, rows=14 if classes == 2 else 7, inputs=2, classes=classes)
    options = {"hidden": hidden, "weight_bound": 1, "objective": objective, **({} if hidden else {"ridge": 0})}
    if hidden == () and objective != "min-hinge":
        del options["ridge"]
    whole = train(data, "inn", options=options, node_limit=10_000)
    lazy = train(data, "inn", options={**options, **LAZY}, node_limit=10_000)
    assert whole.report.status == lazy.report.status == "optimal"
    assert whole.report.solves[-1].exact == lazy.report.solves[-1].exact


def test_a_proof_for_thousands_of_rows_takes_few_of_them():
    data = grid(40, lambda a, b: 2 * a - b >= 13)
    options = {"hidden": (), "weight_bound": 3, "objective": "min-weight", "batches": "lazy", "batch_rows": 20}
    trained = train(data, "inn", options=options, node_limit=1000)
    record = trained.report.solves[-1]
    assert (record.stage, record.status, record.exact) == ("weight", "optimal", 2 + 1 + 13)
    assert trained.report.correct == 1600
    note = next(note for note in trained.report.notes if note.startswith("lazy samples: "))
    assert int(note.split()[2]) < 200


def test_a_price_of_units_is_kept():
    data = random_data(3, rows=12, inputs=2)
    options = {"hidden": (2,), "weight_bound": 1, "compress": "weighted", "alpha": 1.0}
    whole = Inn(**options).fit(data, Solver())
    lazy = train(data, "inn", options={**options, **LAZY}, node_limit=100_000)
    assert lazy.report.status == "optimal"
    assert lazy.report.solves[0].exact == whole.report.solves[0].exact
    assert [total.name for total in lazy.report.totals] == ["weighted errors and units"]


def test_contradictions_count_in_the_bound_of_all_rows():
    data = Dataset.from_arrays([[0], [0], [0], [1], [2], [3]], [0, 0, 1, 1, 1, 0], input_range=(0, 3))
    options = {"hidden": (2,), "weight_bound": 1, "batches": "lazy", "batch_rows": 2}
    record = train(data, "inn", options=options, node_limit=10_000).report.solves[0]
    assert (record.status, record.exact, record.bound) == ("optimal", 1, 1.0)


def test_rows_that_no_network_fits_are_counted():
    data = grid(3, lambda a, b: (a + b) % 2 == 0)
    options = {"hidden": (1,), "weight_bound": 1, "objective": "min-weight", **LAZY}
    with pytest.raises(NoSolutionError, match=r"the best one has 3 of 9 training rows wrong, which is proved"):
        train(data, "inn", options=options, node_limit=10_000)


def test_the_same_bytes_come_from_what_was_kept(tmp_path):
    data = separated_data(rows=80, inputs=8, classes=2, seed=3)
    options = {"hidden": (1,), "weight_bound": 1, "objective": "sat-margin", **LAZY}
    first = train(data, "inn", options=options, node_limit=20, resume=tmp_path)
    files = sorted(tmp_path.iterdir())
    assert len(files) > 2
    files[1].unlink()
    again = train(data, "inn", options=options, node_limit=20, resume=tmp_path)
    assert first.network.sha256 == again.network.sha256
    assert sorted(tmp_path.iterdir()) == files
    assert train(data, "inn", options=options, node_limit=20).network.sha256 == first.network.sha256


def test_a_target_that_is_reached_ends_the_rounds():
    data = random_data(4, rows=40, inputs=3)
    options = {"hidden": (1,), "weight_bound": 1, "objective_target": 40, **LAZY}
    trained = train(data, "inn", options=options, node_limit=10)
    assert any("good enough on all rows, so no program was needed" in note for note in trained.report.notes)


@pytest.mark.parametrize("limit", [{"node_limit": 0}, {"time_limit": 0.05}])
def test_a_training_without_a_search_says_so(limit):
    data = random_data(4, rows=400, inputs=9)
    trained = train(data, "inn", options={"batches": "lazy", "batch_rows": 200}, **limit)
    assert trained.report.status == "incumbent"
    assert any("no program was solved within the limits" in note for note in trained.report.notes)


def test_a_stop_gives_the_network_of_the_start():
    trained = train(random_data(4, rows=40, inputs=3), "inn", options=LAZY, node_limit=10, stop=lambda: True)
    assert len(trained.network.layers) == 2


def test_the_command_line_divides_rows(tmp_path):
    table, model = tmp_path / "rows.csv", tmp_path / "model.json"
    rows = [f"{a},{b},{'yes' if 2 * a > b else 'no'}" for a in range(6) for b in range(6)]
    table.write_text("\n".join(["a,b,label", *rows]) + "\n")
    given = ["train", str(table), "--formulation", "inn", "--node-limit", "0", "--out", str(model), "--json"]
    for batches, note in (("averaging", "3 batches of up to 12 rows"), ("lazy", "lazy samples: ")):
        shown = CliRunner().invoke(main, [*given, "--batches", batches, "--batch-rows", "12"])
        assert shown.exit_code == 0, shown.output
        assert any(text.startswith(note) for text in json.loads(shown.stdout)["report"]["notes"])
