"""The executor on a Dask cluster: a real scheduler and real workers on this machine, one of them killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from mip2mcu import cluster as cluster_module
from mip2mcu.cluster import cluster_executor
from mip2mcu.errors import DatasetError, SolverError, UsageError
from mip2mcu.progress import Progress
from mip2mcu.train import train
from mip2mcu.train.linear import Linear
from tests.conftest import require
from tests.training import separated_data

try:
    import distributed
except ImportError:
    distributed = None

FIXED = Linear(margin=0.25, keep=0.99)
ROOT = Path(__file__).resolve().parent.parent


def square(task, context):
    context.listener(Progress("squaring", incumbent=float(task)))
    return task * task


def fail(task, context):
    raise DatasetError(f"task {task} is wrong")


def crash(task, context):
    raise ZeroDivisionError("as planned")


def seconds_given(task, context):
    return context.seconds


def until_stopped(task, context):
    end = time.monotonic() + 30
    while not context.stop() and time.monotonic() < end:
        time.sleep(0.05)
    return "stopped" if time.monotonic() < end else "late"


@contextmanager
def dask_on_loopback(folder, workers):
    """The address of a scheduler with ``workers`` worker processes of one thread each, without nannies."""
    require(distributed is not None, "distributed is not installed")
    file = folder / "scheduler.json"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    local = ("--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(file))
    commands = [("dask_scheduler", "--port", "0", *local)]
    commands += [("dask_worker", "--no-nanny", "--nthreads", "1", *local)] * workers
    started = []
    try:
        for name, *options in commands:
            command = [sys.executable, "-m", f"distributed.cli.{name}", *options]
            quiet = subprocess.DEVNULL
            started.append(subprocess.Popen(command, stdout=quiet, stderr=quiet, env=environment, cwd=folder))
            end = time.monotonic() + 60
            while not file.exists() and time.monotonic() < end:
                time.sleep(0.05)
        yield json.loads(file.read_text())["address"], [process.pid for process in started[1:]]
    finally:
        for process in started:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def dask(tmp_path_factory):
    with dask_on_loopback(tmp_path_factory.mktemp("dask"), 2) as (address, _):
        yield address


def test_results_come_in_the_order_of_the_tasks_and_events_arrive(dask):
    seen = []
    with cluster_executor(dask, 1) as run:
        assert run.map(square, range(7), listener=seen.append) == [0, 1, 4, 9, 16, 25, 36]
        assert run.map(square, []) == []
        assert run.notes == ()
    finished = [event for event in seen if not event.stage]
    assert [(event.done, event.total) for event in finished] == [(k, 7) for k in range(1, 8)]
    assert {event.incumbent for event in seen if event.stage == "squaring"} <= {float(k) for k in range(7)}


def test_errors_of_ours_arrive_as_they_are_and_others_with_their_traceback(dask):
    with cluster_executor(dask, 1) as run:
        with pytest.raises(DatasetError, match="task 3 is wrong"):
            run.map(fail, [3])
        with pytest.raises(RuntimeError, match="ZeroDivisionError: as planned"):
            run.map(crash, [1])
        assert run.map(square, [2]) == [4]


def test_time_is_shared_among_the_tasks_of_a_worker(dask):
    with cluster_executor(dask, 1) as run:
        workers = run.workers
        first, *_ = run.map(seconds_given, range(8), seconds=80.0)
    assert 9.0 * workers < first <= 10.0 * workers


def test_a_stop_reaches_the_workers(dask):
    began = time.monotonic()
    with cluster_executor(dask, 1) as run:
        found = run.map(until_stopped, [1, 2], stop=lambda: time.monotonic() > began + 1.0)
    assert found == ["stopped", "stopped"]


def test_training_on_a_cluster_gives_the_same_bytes(dask):
    data = separated_data()
    alone = train(data, FIXED, node_limit=5)
    together = train(data, FIXED, node_limit=5, cluster=dask)
    assert together.network.sha256 == alone.network.sha256
    assert (alone.report.workers, together.report.workers) == (1, 2)


def test_a_training_goes_on_without_a_killed_worker_and_says_so(tmp_path):
    data = separated_data()
    with dask_on_loopback(tmp_path, 2) as (address, pids):
        killed = []

        def kill_one(event):
            if event.done == 1 and not killed:
                killed.append(pids[0])
                os.kill(pids[0], signal.SIGKILL)

        trained = train(data, FIXED, node_limit=5, cluster=address, listener=kill_one)
    assert "was lost: the others went on with its work" in trained.report.notes[0]
    assert trained.network.sha256 == train(data, FIXED, node_limit=5).network.sha256


def test_what_a_cluster_has_finished_is_resumed_elsewhere(dask, tmp_path, monkeypatch):
    data = separated_data()
    monkeypatch.chdir(tmp_path)
    together = train(data, FIXED, node_limit=5, cluster=dask, resume="solves")
    assert len(list((tmp_path / "solves").glob("*.json"))) == 6
    for path in sorted((tmp_path / "solves").glob("*.json"))[:2]:
        path.unlink()
    alone = train(data, FIXED, node_limit=5, resume="solves")
    assert alone.network.sha256 == together.network.sha256
    assert len(list((tmp_path / "solves").glob("*.json"))) == 6


def test_a_cluster_of_this_machine(monkeypatch):
    require(distributed is not None, "distributed is not installed")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    with cluster_executor("local", 2) as run:
        assert run.workers == 2
        assert run.map(square, [1, 2, 3]) == [1, 4, 9]
        for pid in run.client.run(os.getpid).values():
            os.kill(pid, signal.SIGINT)  # as Ctrl-C in a terminal does; the caller's own is its stop
        assert run.map(square, [4, 5]) == [16, 25]
        assert run.notes == ()


@pytest.mark.parametrize("scheme", ["tcp", "ucx", "http"])
def test_a_scheduler_that_cannot_be_reached_is_said_at_once(scheme):
    require(distributed is not None, "distributed is not installed")
    began = time.monotonic()
    with pytest.raises(SolverError, match=rf"no Dask scheduler answers at {scheme}://127\.0\.0\.1:1: start one"):
        train(separated_data(), FIXED, node_limit=0, cluster=f"{scheme}://127.0.0.1:1")
    assert time.monotonic() - began < cluster_module.CONNECT_SECONDS


def test_what_answers_but_is_no_scheduler_is_said(monkeypatch):
    require(distributed is not None, "distributed is not installed")
    monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 3.0)

    def answer(listening):
        with suppress(OSError):
            while True:
                listening.accept()[0].sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=answer, args=(listening,), daemon=True).start()
        address = f"tcp://127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(SolverError, match="no Dask scheduler answers at"), cluster_executor(address, 1):
            pass


def test_a_scheduler_without_workers_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 2.0)
    with (
        dask_on_loopback(tmp_path, 0) as (address, _),
        pytest.raises(SolverError, match="has no workers: start some with `dask worker tcp://"),
        cluster_executor(address, 1),
    ):
        pass


def test_an_address_that_is_none():
    require(distributed is not None, "distributed is not installed")
    with pytest.raises(UsageError, match=r"'10\.0\.0\.5' is neither local nor the address of a scheduler"):
        train(separated_data(), FIXED, node_limit=0, cluster="10.0.0.5")


def test_without_dask_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(UsageError, match=r"a cluster needs Dask: pip install 'mip2mcu\[cluster\]'"),
        cluster_executor("local", 2),
    ):
        pass
