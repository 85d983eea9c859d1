"""The executor interface, serial and on worker processes."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from mip2mcu.errors import DatasetError, SolverError, UsageError
from mip2mcu.parallel import Processes, Serial, executor, share_of_time
from mip2mcu.progress import Progress, stop_on_interrupt
from tests.conftest import require


def square(task, context):
    context.listener(Progress(f"squaring {task}"))
    return task * task


def slow_first(task, context):
    time.sleep(0.3 if task == 0 else 0.0)
    return task


def process_id(task, context):
    time.sleep(0.05)
    return os.getpid()


def refuse(task, context):
    raise DatasetError(f"task {task} has no rows")


def fail(task, context):
    raise ZeroDivisionError("surprise")


def die(task, context):
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(folder, context):
    """The first task kills its worker; later ones find its mark, in one place for all."""
    time.sleep(0.05)
    try:
        (folder.parent / "mark").mkdir()
    except FileExistsError:
        return True
    os.kill(os.getpid(), signal.SIGKILL)
    return False


def die_each_once(folder, context):
    try:
        folder.mkdir()
    except FileExistsError:
        return True
    os.kill(os.getpid(), signal.SIGKILL)
    return False


def until_stopped(task, context):
    end = time.monotonic() + 20
    while not context.stop() and time.monotonic() < end:
        time.sleep(0.01)
    return context.stop()


def seconds_given(task, context):
    time.sleep(0.1)
    return context.seconds


def print_something(task, context):
    print("to standard output")
    return task


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_tasks(workers):
    with executor(workers) as run:
        assert run.map(slow_first, [0, 1, 2, 3]) == [0, 1, 2, 3]
        assert run.map(square, [3, 4]) == [9, 16]
        assert run.map(square, []) == []


def test_workers_are_other_processes_and_are_kept_between_runs():
    with executor(2) as run:
        first = set(run.map(process_id, range(6)))
        assert os.getpid() not in first
        assert len(first) == 2
        assert set(run.map(process_id, range(6))) == first


def test_workers_are_gone_when_the_block_is_left():
    with executor(2) as run:
        ids = set(run.map(process_id, range(4)))
    for process in ids:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


@pytest.mark.parametrize("workers", [1, 2])
def test_events_arrive_and_every_finished_task_is_counted(workers):
    seen = []
    with executor(workers) as run:
        run.map(square, [5, 6, 7], listener=seen.append)
    assert sorted(e.stage for e in seen if e.stage) == ["squaring 5", "squaring 6", "squaring 7"]
    assert [(e.done, e.total) for e in seen if not e.stage] == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_projects_own_errors_come_through_as_they_are(workers):
    with executor(workers) as run, pytest.raises(DatasetError, match=r"^task 1 has no rows$"):
        run.map(refuse, [1])


def test_other_errors_of_a_worker_bring_its_traceback():
    with (
        executor(2) as run,
        pytest.raises(RuntimeError, match=r"(?s)a worker process failed.*in fail.*surprise"),
    ):
        run.map(fail, [1])


def test_a_task_that_kills_its_workers_is_given_up():
    require(os.name == "posix", "SIGKILL needs POSIX")
    with (
        executor(3) as run,
        pytest.raises(SolverError, match=r"ended by itself in task 1 of 1 \(signal 9\), as 1 before it; memory"),
    ):
        run.map(die, [1])


def test_the_run_goes_on_without_a_killed_worker_and_says_so(tmp_path):
    require(os.name == "posix", "SIGKILL needs POSIX")
    seen = []
    with executor(2) as run:
        assert run.map(die_once, [tmp_path / str(k) for k in (0, 0, 1, 1)], listener=seen.append) == [True] * 4
        assert run.notes[0].startswith("a worker process ended by itself in task ")
        assert len(run.notes) == 1
        assert run.notes[0] in [event.stage for event in seen]
        assert run.map(square, [2, 3, 4]) == [4, 9, 16]


def test_the_death_of_the_last_worker_ends_the_run(tmp_path):
    require(os.name == "posix", "SIGKILL needs POSIX")
    with executor(2) as run, pytest.raises(SolverError, match="ended by itself in task"):
        run.map(die_each_once, [tmp_path / name for name in "abcd"])


def test_a_worker_that_is_killed_between_two_runs_is_done_without():
    require(os.name == "posix", "SIGKILL needs POSIX")
    with executor(2) as run:
        first = run.map(process_id, range(6))
        os.kill(first[0], signal.SIGKILL)
        end = time.monotonic() + 20
        while alive(first[0]) and time.monotonic() < end:
            time.sleep(0.01)
        assert set(run.map(process_id, range(6))) == set(first) - {first[0]}
        assert "(signal 9): the others went on with its work" in run.notes[0]


def test_after_an_error_the_next_run_begins_afresh():
    with executor(2) as run:
        with pytest.raises(DatasetError):
            run.map(refuse, [1, 2, 3])
        assert run.map(square, [1, 2, 3]) == [1, 4, 9]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_reaches_running_and_waiting_tasks(workers):
    began = time.monotonic()
    with executor(workers) as run:
        results = run.map(until_stopped, range(5), stop=lambda: time.monotonic() > began + 1)
        assert results == [True] * 5
        assert run.map(until_stopped, [0], stop=lambda: True) == [True]
    assert time.monotonic() - began < 15


def test_what_a_worker_prints_does_not_disturb_it():
    with executor(2) as run:
        assert run.map(print_something, [1, 2]) == [1, 2]


def test_a_task_that_cannot_be_sent_is_refused():
    with executor(2) as run, pytest.raises(UsageError, match="cannot be sent to a worker process"):
        run.map(lambda task, context: task, [1])


def test_time_is_shared_among_the_tasks_that_are_left():
    assert share_of_time(None, 3, 2) is None
    assert share_of_time(12.0, 6, 2) == 4.0
    assert share_of_time(12.0, 5, 2) == 4.0
    assert share_of_time(3.0, 1, 4) == 3.0
    assert share_of_time(-1.0, 2, 1) == 0.0


def test_time_that_a_task_leaves_over_goes_to_the_next():
    shares = Serial().map(seconds_given, range(3), seconds=30.0)
    assert 9.9 < shares[0] <= 10.0
    assert shares[0] < shares[1] < shares[2] <= 30.0


@pytest.mark.parametrize("workers", [0, -1, 1000])
def test_impossible_numbers_of_workers_are_refused(workers):
    with pytest.raises(UsageError, match="workers are not possible"), executor(workers):
        pass


def test_workers_end_when_their_caller_is_killed(tmp_path):
    require(os.name == "posix", "SIGKILL needs POSIX")
    script = tmp_path / "caller.py"
    script.write_text(
        textwrap.dedent("""
        import threading, time
        from mip2mcu.parallel import Processes
        from tests.test_parallel import until_stopped
        pool = Processes(2)
        threading.Thread(target=pool.map, args=(until_stopped, [1, 2]), daemon=True).start()
        time.sleep(0.5)
        print(*(worker.process.pid for worker in pool._running), flush=True)
        time.sleep(60)
        """)
    )
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment()
    )
    ids = [int(text) for text in process.stdout.readline().split()]
    assert len(ids) == 2
    process.kill()
    process.wait()
    end = time.monotonic() + 20
    while any(alive(i) for i in ids) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(alive(i) for i in ids)


def environment():
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return {**os.environ, "PYTHONPATH": root}


def alive(process):
    try:
        with open(f"/proc/{process}/stat") as stat:
            return stat.read().split(")")[1].split()[0] != "Z"
    except OSError:
        try:
            os.kill(process, 0)
        except OSError:
            return False
        return os.path.isdir("/proc") is False


def test_the_first_ctrl_c_stops_and_the_second_interrupts():
    before = signal.getsignal(signal.SIGINT)
    with stop_on_interrupt() as stop:
        assert not stop()
        signal.raise_signal(signal.SIGINT)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_pool_that_was_never_used_closes():
    Processes(2).close()
