"""`train` as its users call it: ensembles, limits, workers, Ctrl-C, reports, errors."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest

from mip2mcu.dataset import Dataset
from mip2mcu.decisions import Argmax, Sign, Vote
from mip2mcu.errors import DatasetError, SolverError, UsageError
from mip2mcu.evaluation import evaluate
from mip2mcu.mip.solver import Solve
from mip2mcu.stages import shaped
from mip2mcu.train import FORMULATIONS, formulation_named, train, write_models
from mip2mcu.train.bdnn import Bdnn
from mip2mcu.train.bemi import Bemi
from mip2mcu.train.ensemble import Ensemble, combined, members
from mip2mcu.train.goal import Goal
from mip2mcu.train.inn import Inn
from mip2mcu.train.linear import Linear
from mip2mcu.train.trained import settled
from tests.conftest import require
from tests.training import random_data, separated_data

THREE = separated_data()
FIXED = Linear(margin=0.25, keep=0.99)
"""Linear with nothing left open."""


def test_three_classes_become_three_pairs_that_vote():
    trained = train(THREE, node_limit=5)
    assert trained.network.decision == Vote(3, 2, by_margin=True)
    assert trained.network.layers[0].weights.shape == (3, 8)
    assert [s.stage for s in trained.report.solves] == [
        "0 or 1: margin",
        "0 or 1: links",
        "0 or 2: margin",
        "0 or 2: links",
        "1 or 2: margin",
        "1 or 2: links",
    ]
    assert trained.report.accuracy == evaluate(trained.network, THREE).accuracy > 0.8


def test_each_pair_is_trained_on_its_own_rows():
    parts = members(THREE, Ensemble("pairs"))
    assert [part.dataset.classes for part in parts] == [("0", "1"), ("0", "2"), ("1", "2")]
    alone = train(parts[1].dataset, FIXED, node_limit=5)
    together = train(THREE, FIXED, node_limit=5)
    assert together.network.layers[0].weights[1].tolist() == alone.network.layers[0].weights[0].tolist()


def test_one_against_the_rest_and_one_for_all_end_in_argmax():
    for ensemble in ("rest", "none"):
        trained = train(THREE, ensemble=ensemble, node_limit=5)
        assert trained.network.decision == Argmax(3)
        assert trained.report.accuracy > 0.8
        assert dict(trained.report.options)["ensemble"] == ensemble


def test_two_classes_are_one_network_under_every_ensemble():
    data = separated_data(classes=2)
    assert {
        train(data, ensemble=e, node_limit=5).network.sha256 for e in ("auto", "pairs", "rest", "none")
    } == {train(data, node_limit=5).network.sha256}
    assert train(data, node_limit=5).network.decision == Sign()


def test_pairs_of_networks_with_hidden_layers_stand_side_by_side():
    options = {"hidden": (2, 2), "weight_bound": 1}
    trained = train(THREE, "inn", ensemble="pairs", options=options, node_limit=0)
    assert [layer.weights.shape for layer in trained.network.layers] == [(6, 8), (6, 6), (3, 6)]
    middle = trained.network.layers[1].weights
    assert not middle[:2, 2:].any()
    assert not middle[2:4, :2].any()
    parts = members(THREE, Ensemble("pairs"))
    alone = [train(part.dataset, "inn", options=options, node_limit=0).network for part in parts]
    sums = np.concatenate([network.sums(THREE.inputs) for network in alone], axis=1)
    assert trained.network.sums(THREE.inputs).tolist() == sums.tolist()
    assert combined(THREE, Ensemble("pairs"), alone).sha256 == trained.network.sha256


@pytest.mark.parametrize(
    ("formulation", "options"),
    [("linear", {}), ("linear", {"weights": "binary"}), ("inn", {"hidden": (2,), "weight_bound": 1})],
)
def test_the_same_seed_and_node_limit_give_the_same_bytes_whatever_the_workers(formulation, options):
    runs = [
        train(THREE, formulation, ensemble="pairs", options=options, node_limit=8, seed=3, workers=workers)
        for workers in (1, 2, 1)
    ]
    assert len({run.network.sha256 for run in runs}) == 1
    assert [run.report.workers for run in runs] == [1, 2, 1]
    records = [[(s.status, s.exact, s.bound, s.nodes) for s in run.report.solves] for run in runs]
    assert records[0] == records[1] == records[2]


def test_the_report_speaks_for_itself_in_json():
    report = train(separated_data(classes=2), options={"weight_bound": 1}, node_limit=50).report
    document = json.loads(json.dumps(report.as_dict()))
    assert document["formulation"] == "linear"
    assert document["options"]["weight_bound"] == 1
    assert document["accuracy"] == report.correct / report.rows
    assert {
        "stage",
        "status",
        "objective",
        "exact",
        "bound",
        "gap",
        "seconds",
        "nodes",
        "solver",
        "version",
        "seed",
    } <= set(document["solves"][0])


def test_optimal_is_only_said_where_every_solve_is_proved():
    small = train(random_data(0), time_limit=60)
    assert (small.report.status, small.report.proved) == ("optimal", 2)
    hurried = train(random_data(0, rows=40, inputs=9), node_limit=0)
    assert hurried.report.status == "incumbent"
    assert all(s.bound <= s.exact for s in hurried.report.solves)


def test_totals_sum_the_stages_over_all_parts():
    report = train(THREE, node_limit=5).report
    margin, links = report.totals
    assert (margin.name, links.name, margin.solves, links.solves) == ("margin", "links", 3, 3)
    assert links.exact == report.links == sum(s.exact for s in report.stage("links"))
    assert links.bound <= links.exact


def test_a_stage_with_an_unbounded_solve_has_no_bound():
    report = train(THREE, node_limit=0).report
    margins = report.stage("margin")
    report = replace(report, solves=(margins[0], replace(margins[1], bound=None)))
    assert (report.totals[0].bound, report.totals[0].gap) == (None, None)


def test_earlier_stages_are_kept_as_networks():
    trained = train(THREE, options={"margin": 0.25, "keep": 0.5}, node_limit=5)
    (dense,) = trained.earlier
    assert dense.link_count > trained.network.link_count


def test_events_name_the_part_and_count_the_finished_ones():
    seen = []
    train(THREE, FIXED, node_limit=5, listener=seen.append)
    assert {e.stage.split(": ")[0] for e in seen if e.stage} >= {"0 or 1", "0 or 2", "1 or 2"}
    assert [(e.done, e.total) for e in seen if not e.stage] == [(1, 3), (2, 3), (3, 3)] * 2


def test_a_time_limit_covers_the_whole_training():
    data = random_data(3, rows=60, inputs=12, classes=3)
    report = train(data, FIXED, time_limit=3.0).report
    assert report.seconds < 8


def test_many_classes_keep_to_the_time_limit_by_one_member_a_class():
    data = random_data(3, rows=320, inputs=16, classes=40)
    report = train(data, FIXED, time_limit=2.0).report
    assert dict(report.options)["ensemble"] == "rest"
    assert len(report.solves) == 80
    assert report.seconds < 10


def test_a_limit_in_seconds_that_was_not_used_up_ended_nothing():
    assert train(THREE, "smooth", time_limit=60).report.notes[-1].startswith("had a limit in seconds: another run may")


def test_a_training_that_could_not_keep_to_its_limit_says_why(monkeypatch):
    monkeypatch.setattr(sys.modules["mip2mcu.train.run"], "OVERRUN", -1e9)
    notes = train(THREE, FIXED, time_limit=0.5).report.notes
    assert "more than the limit of 0.5 s, since a quick start of each of 3 members is done in any case" in notes[-1]


@pytest.mark.parametrize("formulation", [Inn(), Bemi(keep=0.7), Bdnn(), Bdnn(method="splitting")])
def test_no_program_is_built_that_the_time_does_not_allow(formulation, monkeypatch):
    data = random_data(3, rows=200, inputs=12)

    def build(*_given, **_named):
        raise AssertionError("built")

    monkeypatch.setattr(Goal, "program", build)
    monkeypatch.setattr(sys.modules["mip2mcu.train.bemi_job"], "build_model", build)
    monkeypatch.setattr(sys.modules["mip2mcu.train.bdnn_job"], "build_model", build)
    with pytest.raises(AssertionError, match="built"):
        train(data, formulation, node_limit=1)
    assert train(data, formulation, time_limit=0.05).report.status == "incumbent"


def test_stop_returns_the_best_network_so_far():
    trained = train(THREE, stop=lambda: True)
    assert trained.report.status == "incumbent"
    assert trained.network.layers[0].weights.shape == (3, 8)


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_returns_the_best_network_so_far(tmp_path, workers):
    require(os.name == "posix", "signals to another process need POSIX")
    script = tmp_path / "interrupted.py"
    script.write_text(
        textwrap.dedent(f"""
        from mip2mcu.train import train
        from mip2mcu.train.linear import Linear
        from tests.training import random_data
        started = []
        def tell(event):
            if not event.stage:
                started.append(event)
            elif len(started) >= 3 and event.incumbent is not None:
                print("incumbent", flush=True)
        data = random_data(1, rows=150, inputs=20, classes=3)
        trained = train(data, Linear(margin=0.25, keep=0.99), time_limit=300, workers={workers}, listener=tell)
        statuses = {{s.status for s in trained.report.solves}}
        print("done", trained.report.status, "interrupted" in statuses, trained.report.seconds < 60, flush=True)
        """)
    )
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert process.stdout.readline() == "incumbent\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (out.splitlines()[-1], err, process.returncode) == ("done incumbent True True", "", 0)


def test_quantized_data_keep_their_quantizer_in_the_network(tmp_path):
    path = tmp_path / "data.csv"
    rows = "\n".join(
        f"{v / 10},{'red' if v % 3 else 'blue'},{'low' if v < 20 else 'high'}" for v in range(40)
    )
    path.write_text(f"length,colour,label\n{rows}\n")
    data = Dataset.read(path)
    trained = train(data, node_limit=5)
    assert trained.network.quantizer is data.quantizer
    predicted = trained.network.predict(trained.network.quantize(data.raw))
    assert int((predicted == data.labels).sum()) == trained.report.correct >= 38


def test_models_are_written_one_a_member(tmp_path):
    (single,) = write_models(separated_data(classes=2), tmp_path / "out.lp")
    assert single == tmp_path / "out.lp"
    several = write_models(THREE, tmp_path / "three.lp", "linear")
    assert [path.name for path in several] == ["three-0.lp", "three-1.lp", "three-2.lp"]
    assert "true_class_wins_by_margin" in several[0].read_text()
    before = [path.read_bytes() for path in several]
    assert [path.read_bytes() for path in write_models(THREE, tmp_path / "three.lp")] == before


def test_models_are_written_with_the_copies_that_training_gets(tmp_path):
    data = shaped(separated_data(rows=8, inputs=9, classes=2), (3, 3))
    sizes = [write_models(data, tmp_path / f"{n}.lp", copies=n)[0].read_text().count("shortfall") for n in (0, 2)]
    assert sizes[1] > sizes[0]


def test_models_are_not_written_into_missing_folders(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        write_models(THREE, tmp_path / "missing" / "out.lp")


def test_every_registered_formulation_builds_starts_and_fits():
    data = random_data(0)
    for name, entry in FORMULATIONS.items():
        formulation = formulation_named(name)
        assert type(formulation) is entry.options
        assert formulation.name == name
        assert formulation.build(data).nobjectives() == 1
        assert train(data, formulation, node_limit=1).report.formulation == name


def test_options_may_come_in_the_formulation_or_by_name():
    assert formulation_named("linear", {"weight_bound": 7}) == Linear(weight_bound=7)
    assert formulation_named("inn", {"hidden": [3]}) == formulation_named("inn", {"hidden": 3}) == Inn(hidden=(3,))
    with pytest.raises(UsageError, match="options are given twice"):
        train(THREE, Linear(), options={"weight_bound": 7})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"formulation": "quadratic"},
            UsageError,
            "formulation 'quadratic' is unknown, choose one of linear, inn",
        ),
        (
            {"options": {"hidden": (3,)}},
            UsageError,
            "formulation 'linear' has no option 'hidden', only weight_bound",
        ),
        ({"options": {"target": 2.5}}, UsageError, "option 'target' cannot take 2.5: it wants a whole number"),
        ({"options": {"margin": "big"}}, UsageError, "option 'margin' cannot take 'big': it wants a number"),
        ({"options": {"margin": float("nan")}}, UsageError, "option 'margin' cannot take nan: it wants a number"),
        ({"options": {"weights": 3}}, UsageError, "option 'weights' cannot take 3: it wants a word"),
        (
            {"formulation": "inn", "options": {"hidden": "8,x"}},
            UsageError,
            "option 'hidden' cannot take '8,x': it wants whole numbers such as 8,4",
        ),
        (
            {"ensemble": "triples"},
            UsageError,
            "ensemble 'triples' is unknown, choose one of auto, pairs, rest, none",
        ),
        ({"solver": "no_such_solver"}, SolverError, "the solver 'no_such_solver' is not known to Pyomo"),
        ({"solver_options": {"no_such": 1}}, SolverError, "HiGHS has no option 'no_such'"),
        ({"time_limit": -1}, UsageError, "a time limit of -1 seconds is not possible"),
        ({"workers": 0}, UsageError, "0 workers are not possible"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_the_work(arguments, error, message):
    with pytest.raises(error, match=message):
        train(THREE, **arguments)


def test_data_of_one_class_are_refused():
    with pytest.raises(DatasetError, match="all of one class"):
        train(Dataset.from_arrays([[1], [2]], ["a", "a"]))


@pytest.mark.parametrize(
    ("status", "claim", "bound", "exact", "expected"),
    [
        ("optimal", 3.0000001, 2.9999999, 3, ("optimal", 3.0)),
        ("time limit", 5.0, 2.2, 5, ("time limit", 3.0)),
        ("time limit", 5.0, 4.1, 5, ("optimal", 5.0)),
        ("optimal", 0.0, 0.0, 4, ("claim rejected", 0.0)),
        ("node limit", 7.0, None, 7, ("node limit", None)),
    ],
)
def test_claims_are_settled_against_the_exact_objective(status, claim, bound, exact, expected):
    record = settled(Solve("links", status, claim, bound, 0.0, 0, "highs", "1", 0), exact)
    assert (record.status, record.bound, record.exact, record.objective) == (*expected, exact, claim)
