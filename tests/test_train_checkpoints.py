"""Finished solves on disk: an interrupted training goes on, and ends as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from mip2mcu.dataset import Dataset
from mip2mcu.errors import UsageError
from mip2mcu.mip.solver import Solver
from mip2mcu.train import train
from mip2mcu.train.checkpoints import key, read
from mip2mcu.train.ensemble import Ensemble, _start, _Task, members
from mip2mcu.train.linear import Linear
from tests.conftest import require
from tests.test_parallel import environment
from tests.training import separated_data

THREE = separated_data()
OPTIONS = {"hidden": (2,), "weight_bound": 1, "objective": "sat-margin"}


def trained(folder, **more):
    return train(THREE, "inn", ensemble="pairs", options=OPTIONS, node_limit=3, resume=folder, **more)


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_every_finished_solve_leaves_a_file_that_is_used_unchanged(tmp_path):
    plain = train(THREE, "inn", ensemble="pairs", options=OPTIONS, node_limit=3)
    first = trained(tmp_path / "kept")
    before = stamps(tmp_path / "kept")
    assert len(before) == 6
    second = trained(tmp_path / "kept", workers=2)
    assert stamps(tmp_path / "kept") == before
    assert {plain.network.sha256, first.network.sha256} == {second.network.sha256}
    assert second.report.solves == first.report.solves


def test_what_is_missing_is_computed_and_the_rest_stays(tmp_path):
    first = trained(tmp_path)
    before = stamps(tmp_path)
    lost = sorted(before)[2]
    (tmp_path / lost).unlink()
    assert trained(tmp_path).network.sha256 == first.network.sha256
    after = stamps(tmp_path)
    assert {name: after[name] for name in before if name != lost} == {n: s for n, s in before.items() if n != lost}
    assert lost in after


def test_other_options_seeds_or_data_are_other_solves(tmp_path):
    solver, part = Solver(node_limit=3), members(THREE, Ensemble("pairs", 2, "margin"))[0]
    task = _Task(Linear(), part, solver, 1.0)
    other_row = Dataset.from_arrays(THREE.inputs[1:], THREE.labels[1:], input_range=(0, 1))
    tasks = [
        task,
        _Task(Linear(weight_bound=2), part, solver, 1.0),
        _Task(Linear(), part, Solver(node_limit=3, seed=1), 1.0),
        _Task(Linear(), part, Solver(node_limit=4), 1.0),
        _Task(Linear(), members(other_row, Ensemble("pairs", 2, "margin"))[0], solver, 1.0),
    ]
    assert len({key(_start, one) for one in tasks}) == 5
    assert key(_start, task) == key(_start, _Task(Linear(), part, Solver(time_limit=9, node_limit=3), 7.0))


def test_a_killed_training_goes_on_to_the_same_bytes(tmp_path):
    require(os.name == "posix", "SIGKILL needs POSIX")
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(f"""
        from tests.test_train_checkpoints import trained
        from pathlib import Path
        trained(Path({str(tmp_path / "kept")!r}))
        """)
    )
    process = subprocess.Popen([sys.executable, str(script)], env=environment())
    end = time.monotonic() + 60
    while time.monotonic() < end and len(list((tmp_path / "kept").glob("*.json"))) < 2:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = stamps(tmp_path / "kept")
    assert finished
    again = trained(tmp_path / "kept")
    assert again.network.sha256 == trained(tmp_path / "fresh").network.sha256
    after = stamps(tmp_path / "kept")
    assert all(after[name] == stamp for name, stamp in finished.items() if name.endswith(".json"))


def test_a_training_that_was_told_to_stop_keeps_nothing(tmp_path):
    trained(tmp_path, stop=lambda: True)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_result_is_named(tmp_path):
    trained(tmp_path)
    for path in tmp_path.iterdir():
        document = json.loads(path.read_text())
        document["result"]["network"]["layers"] = []
        path.write_text(json.dumps(document))
    with pytest.raises(UsageError, match=r"is no finished solve of this version .*: remove it, or resume elsewhere"):
        trained(tmp_path)
    with pytest.raises(UsageError, match="is no finished solve"):
        read(tmp_path / "missing.json")


def test_a_result_of_another_solve_is_not_taken_for_ones_own(tmp_path):
    trained(tmp_path)
    first, second = sorted(tmp_path.iterdir())[:2]
    first.write_bytes(second.read_bytes())
    with pytest.raises(UsageError, match=rf"{first.name} is no finished solve .*damaged, changed or renamed"):
        trained(tmp_path)


def test_a_folder_that_cannot_be_made_is_refused_before_the_work(tmp_path):
    with pytest.raises(UsageError, match="cannot keep results in"):
        trained(tmp_path / "a" / "b")


def test_counts_of_cross_validation_are_kept_too(tmp_path):
    data = separated_data(rows=60, classes=2)
    first = train(data, node_limit=0, resume=tmp_path)
    before = stamps(tmp_path)
    assert any("counts" in json.loads(path.read_text())["result"] for path in tmp_path.iterdir())
    assert train(data, node_limit=0, resume=tmp_path).network.sha256 == first.network.sha256
    assert stamps(tmp_path) == before
