"""The benchmark of proofs: every layout that takes a model, each text once, resumed where it stopped."""

import json

import pytest

from benchmarks import prove, readme
from benchmarks.nightly import Progress
from mip2mcu.verify.proof import Alarm, Analysis, Proof
from tests.verify_support import linear_network

NETWORKS = [("small", linear_network(inputs=6, classes=3))]
LAYOUTS = ("bit_planes", "dense", "sparse_index8", "unrolled")


@pytest.fixture(autouse=True)
def analysed(monkeypatch):
    """The machine models of the analyses, none of which runs."""
    calls = []

    def prove_files(files, network, target, *, name, seconds, machine, part):
        calls.append(machine)
        alarms = (Alarm("model.c", 7, "f", "overflow", "x"),) if (target.name, part) == ("avr", "inference") else ()
        return Proof("", target.name, "", (Analysis(part, machine, alarms, (), (1, 1), (1, 1), 5),), ())

    monkeypatch.setattr(prove, "LAYOUTS", LAYOUTS)
    monkeypatch.setattr(prove, "frama_c_version", lambda: "Frama-C")
    monkeypatch.setattr(prove, "prove_files", prove_files)
    return calls


def test_every_layout_that_takes_a_layer_is_analysed_and_each_text_once():
    found = list(prove.jobs(NETWORKS))
    assert {name for job in found for name in job.layouts} >= {"dense", "unrolled"}
    keys = [job.key for job in found]
    assert len(keys) == len(set(keys))
    assert {job.machine for job in found if job.target == "generic"} == {"gcc_x86_16", "gcc_x86_32"}


def test_a_run_goes_on_where_it_stopped(tmp_path, analysed):
    known = tmp_path / "known.jsonl"
    first, left = prove.run(NETWORKS, Progress(known), -1.0)
    assert (first, set(left), analysed) == ([], {"small"}, [])
    found, left_then = prove.run(NETWORKS, Progress(known), 1000.0)
    assert left_then == [] and len(left) == len(found) == len(analysed) == len(known.read_text().splitlines())
    again, left = prove.run(NETWORKS, Progress(known), -1.0)
    assert left == [] and again == [json.loads(json.dumps(entry)) for entry in found]
    assert len(analysed) == len(found)


def test_alarms_are_counted_by_model_layout_and_target(tmp_path):
    found, _ = prove.run(NETWORKS, Progress(tmp_path / "known.jsonl"), 1000.0)
    rows = {(row.task, row.metric): row.value for row in prove.rows_of(found, ())}
    assert rows["all", "analyses"] == len(found)
    assert rows["all", "alarms"] == rows["avr, gcc_x86_16", "alarms"] == 1
    assert rows["cortex-m0, gcc_x86_32", "alarms"] == 0
    assert rows["all", "analyses to do"] == 0


def test_what_a_stopped_run_leaves_is_named(tmp_path, monkeypatch):
    found, _ = prove.run(NETWORKS, Progress(tmp_path / "known.jsonl"), 1000.0)
    found = [entry | {"model": "bdnn: small", "assumed": 2, "seconds": 1.5} for entry in found[:3]]
    rows = prove.rows_of(found, ["bdnn: small", "bdnn: small", "kernels: 64-16-10"])
    assert ("all", "analyses to do", 3) in [(row.task, row.metric, row.value) for row in rows]
    monkeypatch.setattr(readme, "load", lambda name: rows)
    assert readme.proofs().splitlines()[2:] == [
        "| bdnn: small | 3 | 2 | 0 | 6 | 1.5 s |",
        "| layers and networks of the kernels' benchmark | 0 | 1 | 0 | 0 |  |",
        "| all | 3 | 3 | 0 | 6 | 1.5 s |",
    ]
