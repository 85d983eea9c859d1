"""Independent tasks, one after another or side by side: the executor interface.

    with executor(workers=2) as run:
        results = run.map(function, tasks, listener=..., stop=...)

``function(task, context)`` is a module-level function; tasks and results are pickled. Results come in the order of the
tasks and never depend on the number of workers. `Context` tells the function how long it may take, whether to stop, and
whom to tell about progress. Callers know `Executor` only; anything that offers ``map`` can take its place.

A worker that dies (memory was short, somebody killed it) does not end the run: its task goes to another one, and the
executor's ``notes`` say so. Only a task that loses `ATTEMPTS` workers, or the death of the last one, is an error.

Workers are fresh interpreters that talk through their standard input and output. Unlike those of `multiprocessing`,
they never import the caller's script, so no ``if __name__ == "__main__"`` is needed; and they end by themselves when
the caller dies.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import IO, Any, Protocol, TypeVar

from mip2mcu.errors import Mip2mcuError, SolverError, UsageError
from mip2mcu.progress import Listener, Progress, Stop, never, silent

Task = TypeVar("Task")
Result = TypeVar("Result")

WORKER_LIMIT = 256
"""Most workers of one machine."""
ATTEMPTS = 2
"""Workers that a task may lose before it is given up: what kills two of them would kill the next as well."""
_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
"""Of numpy's matrix products: one a worker, for workers that each take all processors wait for each other."""


@dataclass(frozen=True)
class Context:
    """What a running task may ask for.

    seconds   its share of the time limit; None: no limit
    listener  takes its progress events
    stop      true when it should end with what it has
    """

    seconds: float | None
    listener: Listener
    stop: Stop


class Executor(Protocol):
    """Runs independent tasks."""

    @property
    def workers(self) -> int:
        """Tasks that run at the same time."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the results should know about how they came about, one sentence each."""

    def map(
        self,
        function: Callable[[Task, Context], Result],
        tasks: Sequence[Task],
        *,
        seconds: float | None = None,
        listener: Listener = silent,
        stop: Stop = never,
    ) -> list[Result]:
        """Results in the order of ``tasks``.

        seconds    limit of the whole run: each task gets an equal share of what is left when it starts, so what one
                   leaves over goes to those after it
        listener   takes the tasks' events, with ``done`` and ``total`` filled in, and one event without a stage for
                   each finished task, with the seconds since the run began
        stop       turns true: running tasks are told, and those not begun yet still run but are told at once
        """


def share_of_time(left: float | None, waiting: int, workers: int) -> float | None:
    """Seconds for the next of ``waiting`` tasks on ``workers``: an equal share of what is ``left``."""
    if left is None:
        return None
    rounds = -(-waiting // workers)
    return max(left, 0.0) / max(rounds, 1)


@dataclass(frozen=True)
class Serial:
    """Runs the tasks in this process, one after another."""

    workers: int = 1
    notes: tuple[str, ...] = ()

    def map(
        self,
        function: Callable[[Task, Context], Result],
        tasks: Sequence[Task],
        *,
        seconds: float | None = None,
        listener: Listener = silent,
        stop: Stop = never,
    ) -> list[Result]:
        """See `Executor.map`."""
        began = time.monotonic()
        end = None if seconds is None else began + seconds
        results: list[Result] = []
        for done, task in enumerate(tasks):
            left = None if end is None else end - time.monotonic()
            counted = _counted(listener, done, len(tasks))
            context = Context(share_of_time(left, len(tasks) - done, 1), counted, stop)
            results.append(function(task, context))
            listener(Progress("", seconds=time.monotonic() - began, done=done + 1, total=len(tasks)))
        return results


def _counted(listener: Listener, done: int, total: int) -> Listener:
    return lambda event: listener(replace(event, done=done, total=total))


@contextmanager
def executor(workers: int) -> Iterator[Executor]:
    """An executor with ``workers`` processes of this machine; they are ended when the block is left."""
    if not 1 <= workers <= WORKER_LIMIT:
        raise UsageError(f"{workers} workers are not possible: give a number of 1..{WORKER_LIMIT}")
    if workers == 1:
        yield Serial()
        return
    pool = Processes(workers)
    try:
        yield pool
    finally:
        pool.close()


class Processes:
    """Worker processes on this machine; started at the first `map`, kept for the next."""

    def __init__(self, workers: int) -> None:
        """Starts nothing yet."""
        self.workers = workers
        self._running: list[_Worker] = []
        self._notes: list[str] = []

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence for each worker that died."""
        return tuple(self._notes)

    def map(
        self,
        function: Callable[[Task, Context], Result],
        tasks: Sequence[Task],
        *,
        seconds: float | None = None,
        listener: Listener = silent,
        stop: Stop = never,
    ) -> list[Result]:
        """See `Executor.map`. A task that raises ends the run with its error; see `ATTEMPTS` for workers that die."""
        if not self._running:
            self._running = [_Worker() for _ in range(self.workers)]
        try:
            return _Run(self._running, self._notes, function, tasks, seconds, listener, stop).results()
        except BaseException:  # nobody may go on with a task whose result no one awaits
            self.close()
            raise

    def close(self) -> None:
        """End the workers, whatever they do."""
        for worker in self._running:
            worker.end()
        self._running = []


class _Worker:
    """One worker process, and a thread that hands its messages over."""

    def __init__(self) -> None:
        code = f"import sys; sys.path[:] = {sys.path!r}; from mip2mcu.parallel import serve; serve()"
        self.process = subprocess.Popen(  # in a session of its own, so that Ctrl-C reaches the caller alone
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={**dict.fromkeys(_THREADS, "1"), **os.environ},
        )
        self.inbox: queue.SimpleQueue[tuple[_Worker, str, Any]] | None = None
        assert self.process.stdin is not None and self.process.stdout is not None
        self.stdin: IO[bytes] = self.process.stdin
        self.stdout: IO[bytes] = self.process.stdout
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def _listen(self) -> None:
        while True:
            message = _receive(self.stdout)
            kind, content = message if message is not None else ("died", None)
            if self.inbox is not None:
                self.inbox.put((self, kind, content))
            if message is None:
                return

    def send(self, kind: str, content: Any) -> None:
        """Send a message; a worker that has died is noticed by `_listen`."""
        with suppress(OSError):
            _send(self.stdin, (kind, content))

    def end(self) -> None:
        """Kill the process and wait for it."""
        self.process.kill()
        self.process.wait()
        self.thread.join()
        with suppress(OSError):  # what was not sent to a dead process cannot be
            self.stdin.close()
        self.stdout.close()


class _Run:
    """One `map` on workers: who works on what, and what came back."""

    def __init__(
        self,
        workers: list[_Worker],
        notes: list[str],
        function: Callable[..., Any],
        tasks: Sequence[Any],
        seconds: float | None,
        listener: Listener,
        stop: Stop,
    ) -> None:
        self.workers, self.notes = workers, notes
        self.function, self.tasks = function, tasks
        self.listener, self.stop = listener, stop
        self.began = time.monotonic()
        self.end = None if seconds is None else self.began + seconds
        self.inbox: queue.SimpleQueue[tuple[_Worker, str, Any]] = queue.SimpleQueue()
        self.waiting = deque(range(len(tasks)))
        self.idle: list[_Worker] = []
        self.lost: Counter[int] = Counter()
        self.stopped = False
        self.outcome: dict[int, Any] = {}
        self.task_of: dict[int, int] = {}

    def results(self) -> list[Any]:
        """Hand out tasks until all are done."""
        for worker in tuple(self.workers):
            worker.inbox = self.inbox
            if worker.process.poll() is not None:
                self.bury(worker)
            else:
                self.hand_out(worker)
        while len(self.outcome) < len(self.tasks):
            try:
                worker, kind, content = self.inbox.get(timeout=0.1)
            except queue.Empty:
                self.pass_on_stop()
                continue
            self.take(worker, kind, content)
            self.pass_on_stop()
        return [self.outcome[k] for k in range(len(self.tasks))]

    def hand_out(self, worker: _Worker) -> None:
        """Give the next task to ``worker``."""
        if not self.waiting:
            self.idle.append(worker)
            return
        left = None if self.end is None else self.end - time.monotonic()
        seconds = share_of_time(left, len(self.waiting), len(self.workers))
        task = self.waiting.popleft()
        self.task_of[id(worker)] = task
        try:
            parcel = pickle.dumps((self.function, self.tasks[task]))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise UsageError(f"a task cannot be sent to a worker process ({error}): use workers=1") from None
        worker.send("task", (parcel, seconds, self.stopped))

    def take(self, worker: _Worker, kind: str, content: Any) -> None:
        """Deal with one message."""
        done, total = len(self.outcome), len(self.tasks)
        if kind == "progress":
            self.listener(replace(content, done=done, total=total))
        elif kind == "result":
            self.outcome[self.task_of.pop(id(worker))] = content
            self.listener(Progress("", seconds=time.monotonic() - self.began, done=done + 1, total=total))
            self.hand_out(worker)
        elif kind == "error":
            raise content
        elif worker in self.workers:
            self.bury(worker)

    def bury(self, worker: _Worker) -> None:
        """Go on without a worker that has died: its task is the next that is handed out."""
        code = worker.process.wait()
        reason = f"signal {-code}" if code < 0 else f"status {code}"
        task = self.task_of.pop(id(worker), None)
        place = "between two tasks" if task is None else f"in task {task + 1} of {len(self.tasks)}"
        died = f"a worker process ended by itself {place} ({reason})"
        self.workers.remove(worker)
        self.idle = [other for other in self.idle if other is not worker]
        worker.end()
        if task is not None:
            self.lost[task] += 1
            self.waiting.appendleft(task)
            if self.lost[task] == ATTEMPTS:
                died += f", as {ATTEMPTS - 1} before it"
        if not self.workers or (task is not None and self.lost[task] == ATTEMPTS):
            raise SolverError(f"{died}; memory may be short: take fewer workers or rows")
        note = f"{died}: the others went on with its work; memory may be short"
        self.notes.append(note)
        self.listener(Progress(note, done=len(self.outcome), total=len(self.tasks)))
        if self.idle:
            self.hand_out(self.idle.pop())

    def pass_on_stop(self) -> None:
        """Tell the workers once that they should stop."""
        if not self.stopped and self.stop():
            self.stopped = True
            for worker in self.workers:
                worker.send("stop", None)


# ---- the worker's side ---------------------------------------------------------------------------------------------


def serve() -> None:
    """Work on tasks from standard input until it closes. Runs in a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source = os.fdopen(os.dup(0), "rb")
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    lock, stopped, tasks = threading.Lock(), threading.Event(), queue.SimpleQueue[Any]()

    def send(kind: str, content: Any) -> None:
        with lock:
            _send(sink, (kind, content))

    threading.Thread(target=_read_orders, args=(source, tasks, stopped), daemon=True).start()
    while True:
        parcel, seconds, _ = tasks.get()
        try:
            function, task = pickle.loads(parcel)
            result = function(task, Context(seconds, lambda event: send("progress", event), stopped.is_set))
            send("result", result)
        except Mip2mcuError as error:
            send("error", error)
        except BaseException as error:
            import traceback  # noqa: PLC0415

            text = "".join(traceback.format_exception(error))
            send("error", RuntimeError(f"a worker process failed:\n{text}"))


def _read_orders(source: IO[bytes], tasks: queue.SimpleQueue[Any], stopped: threading.Event) -> None:
    """Take messages from the caller; when the caller is gone, end at once."""
    while True:
        message = _receive(source)
        if message is None:
            os._exit(0)
        kind, content = message
        if kind == "stop":
            stopped.set()
            continue
        stopped.clear()  # here and not where the task begins: a stop that comes after the task must stay
        if content[-1]:
            stopped.set()
        tasks.put(content)


def _send(stream: IO[bytes], message: Any) -> None:
    data = pickle.dumps(message)
    stream.write(len(data).to_bytes(8, "little") + data)
    stream.flush()


def _receive(stream: IO[bytes]) -> Any:
    """The next message, None at the end of the stream."""
    try:
        head = stream.read(8)
        data = stream.read(int.from_bytes(head, "little")) if len(head) == 8 else b""
        return pickle.loads(data) if data else None
    except (OSError, EOFError, ValueError, pickle.UnpicklingError):
        return None
