"""The executor interface on a Dask cluster: tasks go to workers on this machine or on others.

    with cluster_executor("local", workers=2) as run: ...
    with cluster_executor("tcp://10.0.0.5:8786", workers=1) as run: ...

Dask comes with the extra ``mip2mcu[cluster]``; workers elsewhere need the same mip2mcu. The scheduler gives the task of
a worker that dies to another one; a task that takes several workers with it is an error. No more tasks are handed in
than the workers can run at once, so that each gets its share of the time that is left when it begins.
"""

from __future__ import annotations

import signal
import socket
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

from mip2mcu.errors import Mip2mcuError, SolverError, UsageError
from mip2mcu.parallel import Context, share_of_time
from mip2mcu.progress import Listener, Progress, Stop, never, silent

if TYPE_CHECKING:
    from distributed import Client, Future

Task = TypeVar("Task")
Result = TypeVar("Result")

CONNECT_SECONDS = 10.0
"""How long a scheduler may take to answer, and its first worker to be there."""
LOST_SECONDS = 60.0
"""How long a cluster may be without any worker in the middle of a run."""
_POLL_SECONDS = 0.2
_STOP_SECONDS = 0.5


@contextmanager
def cluster_executor(cluster: str, workers: int) -> Iterator[Cluster]:
    """An executor on ``cluster``: "local" with ``workers`` processes, or the address of a scheduler.

    Raises `UsageError` where Dask is not installed or the address is none, `SolverError` where no scheduler answers,
    it has no workers, or they run another mip2mcu.
    """
    distributed = _dask()
    if cluster == "local":
        with (
            distributed.LocalCluster(
                n_workers=workers, threads_per_worker=1, dashboard_address=":0", silence_logs=50, preload=[__name__]
            ) as local,
            distributed.Client(local, timeout=CONNECT_SECONDS) as client,
        ):
            yield Cluster(client)
        return
    if "://" not in cluster:
        raise UsageError(f"cluster {cluster!r} is neither local nor the address of a scheduler such as tcp://host:8786")
    try:
        _knock(cluster)
        client = distributed.Client(cluster, timeout=CONNECT_SECONDS)
    except Exception as error:  # each kind of address fails in its own way; what is no scheduler may send anything
        raise SolverError(
            f"no Dask scheduler answers at {cluster}: start one with `dask scheduler`, or take --cluster local"
        ) from error
    with client:
        _check_workers(client, cluster)
        yield Cluster(client)


def _knock(address: str) -> None:
    """Raise `OSError` at once where nobody listens: Dask would go on trying."""
    place = urlsplit(address)
    if place.scheme in ("tcp", "tls") and place.hostname and place.port:
        socket.create_connection((place.hostname, place.port), timeout=CONNECT_SECONDS).close()


def dask_setup(_worker: Any) -> None:
    """Called by the workers that "local" starts: Ctrl-C in the terminal is for the caller, who tells them to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _dask() -> Any:
    try:
        import distributed  # noqa: PLC0415  (an extra)
    except ImportError:
        raise UsageError("a cluster needs Dask: pip install 'mip2mcu[cluster]', or take --workers") from None
    return distributed


def _check_workers(client: Client, address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=CONNECT_SECONDS)
    except TimeoutError:
        raise SolverError(
            f"the scheduler at {address} has no workers: start some with `dask worker {address}`"
        ) from None
    try:
        found = client.run(_version)
    except ImportError:
        raise SolverError(f"a worker of {address} has no mip2mcu: install it there, in the same version") from None
    others = sorted(set(found.values()) - {_version()})
    if others:
        raise SolverError(
            f"workers of {address} run mip2mcu {', '.join(others)}, here is {_version()}: install one everywhere"
        )


def _version() -> str:
    from importlib.metadata import version  # noqa: PLC0415  (runs on a worker)

    import mip2mcu.parallel  # noqa: F401, PLC0415  (must be there)

    return version("mip2mcu")


class Cluster:
    """Runs tasks on the workers of a Dask scheduler; see `mip2mcu.parallel.Executor`."""

    def __init__(self, client: Client) -> None:
        """Takes the workers that ``client`` knows now; more may join later."""
        self.client = client
        self._notes: list[str] = []

    @property
    def workers(self) -> int:
        """Tasks that run at the same time."""
        return max(1, sum(self._known().values()))

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence for each worker that was lost."""
        return tuple(self._notes)

    def _known(self) -> dict[str, int]:
        """Threads of each worker, by address."""
        return dict(self.client.nthreads())

    def map(
        self,
        function: Callable[[Task, Context], Result],
        tasks: Sequence[Task],
        *,
        seconds: float | None = None,
        listener: Listener = silent,
        stop: Stop = never,
    ) -> list[Result]:
        """See `Executor.map`. A task that raises ends the run with its error."""
        return _Run(self, function, tasks, seconds, listener, stop).results()


class _Run:
    """One run of `Cluster.map`."""

    def __init__(
        self,
        cluster: Cluster,
        function: Callable[..., Any],
        tasks: Sequence[Any],
        seconds: float | None,
        listener: Listener,
        stop: Stop,
    ) -> None:
        distributed = _dask()
        self.cluster, self.function, self.tasks = cluster, function, tasks
        self.listener, self.stop = listener, stop
        self.began = time.monotonic()
        self.end = None if seconds is None else self.began + seconds
        self.name = f"mip2mcu-{uuid4().hex}"
        self.stopping = distributed.Event(self.name, client=cluster.client)
        self.stopped = False
        self.waiting = deque(range(len(tasks)))
        self.running: dict[Future, int] = {}
        self.outcome: dict[int, Any] = {}
        self.events: deque[Progress] = deque()
        self.known = cluster._known()
        self.last_seen = self.began

    def results(self) -> list[Any]:
        """Hand in tasks until all are done."""
        client = self.cluster.client
        client.subscribe_topic(self.name, self._take_event)
        try:
            while len(self.outcome) < len(self.tasks):
                self._hand_in()
                self._collect()
                self._tell()
                self._watch_workers()
                if not self.stopped and self.stop():
                    self.stopped = True
                    self.stopping.set()
        finally:
            for future in self.running:
                future.cancel()
            with suppress(Exception):  # the cluster may be gone
                client.unsubscribe_topic(self.name)
        self._tell()
        return [self.outcome[k] for k in range(len(self.tasks))]

    def _hand_in(self) -> None:
        workers = max(1, sum(self.known.values()))
        while self.waiting and len(self.running) < workers:
            left = None if self.end is None else self.end - time.monotonic()
            seconds = share_of_time(left, len(self.waiting), workers)
            task = self.waiting.popleft()
            future = self.cluster.client.submit(
                _carry_out, self.function, self.tasks[task], seconds, self.name, key=f"{self.name}-{task}", pure=False
            )
            self.running[future] = task

    def _collect(self) -> None:
        """Take what is finished; wait a moment where nothing is."""
        distributed = _dask()
        with suppress(TimeoutError):
            distributed.wait(list(self.running), timeout=_POLL_SECONDS, return_when="FIRST_COMPLETED")
        for future in [future for future in self.running if future.done()]:
            task = self.running[future]
            self.outcome[task] = self._result(future, task)
            del self.running[future]
            self.last_seen = time.monotonic()
            done, total = len(self.outcome), len(self.tasks)
            self.listener(Progress("", seconds=time.monotonic() - self.began, done=done, total=total))

    def _result(self, future: Future, task: int) -> Any:
        distributed = _dask()
        try:
            kind, content = future.result()
        except distributed.KilledWorker as error:
            raise SolverError(
                f"task {task + 1} of {len(self.tasks)} took several workers with it "
                f"({error.last_worker.address} last); memory may be short: take larger workers or fewer rows"
            ) from None
        except Exception as error:
            lost = f"the cluster lost task {task + 1} of {len(self.tasks)} ({type(error).__name__})"
            raise SolverError(f"{lost}: is its scheduler still there?") from error
        if kind == "result":
            return content
        raise content

    def _take_event(self, event: tuple[Any, dict[str, Any]]) -> None:
        """Called by the client's own thread."""
        self.events.append(Progress(**event[1]))

    def _tell(self) -> None:
        while self.events:
            event = asdict(self.events.popleft())
            self.listener(Progress(**{**event, "done": len(self.outcome), "total": len(self.tasks)}))

    def _watch_workers(self) -> None:
        """Note the workers that are gone; give up where there have been none for long."""
        known = self.cluster._known()
        for address in sorted(set(self.known) - set(known)):
            note = f"worker {address} was lost: the others went on with its work; memory may be short"
            self.cluster._notes.append(note)
            self.listener(Progress(note, done=len(self.outcome), total=len(self.tasks)))
        self.known = known
        if known:
            self.last_seen = time.monotonic()
        elif time.monotonic() - self.last_seen > LOST_SECONDS:
            raise SolverError(f"the cluster has had no workers for {LOST_SECONDS:.0f} s: start some and train again")


# ---- the worker's side ---------------------------------------------------------------------------------------------


def _carry_out(function: Callable[..., Any], task: Any, seconds: float | None, name: str) -> tuple[str, Any]:
    """The task's result or error, as a pair: an error of ours must arrive as it is."""
    distributed = _dask()
    worker = distributed.get_worker()
    stopping = distributed.Event(name, client=distributed.get_client())
    asked = [0.0, False]

    def stop() -> bool:
        """Asks the scheduler now and then only."""
        if not asked[1] and time.monotonic() - asked[0] > _STOP_SECONDS:
            asked[:] = [time.monotonic(), bool(stopping.is_set())]
        return bool(asked[1])

    def listener(event: Progress) -> None:
        worker.log_event(name, asdict(event))

    try:
        return "result", function(task, Context(seconds, listener, stop))
    except Mip2mcuError as error:
        return "error", error
    except Exception as error:
        text = "".join(traceback.format_exception(error))
        return "error", RuntimeError(f"a task failed on a worker:\n{text}")
