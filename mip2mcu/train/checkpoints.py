"""Finished solves on disk: a training that was interrupted goes on where it was.

    run = Checkpointed(run, folder)     an executor around another one

Every task's result is written to ``folder`` by whoever has computed it, whole or not at all, under a name that is the
digest of the function and of all that determines its result: data, options, seed, node limit, the network it starts
from and the version. A task whose file is there is not run again, and its result is used unchanged. Limits in seconds
are left out of the digest: who resumes with more time keeps what was finished with less. A task that was told to stop
leaves no file. With a Dask cluster the folder must be one that all its workers see.

Results are `Trained`, `Found` or tuples of whole numbers, as JSON with a digest of it; networks are validated when they
are read. A file that was damaged, changed or renamed is an error, not another result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mip2mcu.errors import ModelError, UsageError
from mip2mcu.files import write_text
from mip2mcu.mip.solver import Solve, Solver
from mip2mcu.network import Network
from mip2mcu.parallel import Context, Executor
from mip2mcu.progress import Listener, Stop, never, silent
from mip2mcu.ranges import frozen
from mip2mcu.train.inn_search import Found
from mip2mcu.train.sign_network import SignNetwork
from mip2mcu.train.trained import Trained, TrainingReport
from mip2mcu.version import __version__

Result = TypeVar("Result")
Task = TypeVar("Task")

_SECONDS = frozenset({"time_limit", "start_seconds"})
"""Fields of tasks that say how long they may take."""


@dataclass(frozen=True)
class Checkpointed:
    """An executor that keeps results in ``folder``, around ``inner``."""

    inner: Executor
    folder: Path

    @property
    def workers(self) -> int:
        """See `Executor`."""
        return self.inner.workers

    @property
    def notes(self) -> tuple[str, ...]:
        """See `Executor`."""
        return self.inner.notes

    def map(
        self,
        function: Callable[[Task, Context], Result],
        tasks: Sequence[Task],
        *,
        seconds: float | None = None,
        listener: Listener = silent,
        stop: Stop = never,
    ) -> list[Result]:
        """See `Executor.map`; what was finished before is read."""
        kept = [_Kept(function, task, self.folder / f"{key(function, task)}.json") for task in tasks]
        open_tasks = [one for one in kept if not one.path.exists()]
        computed = iter(self.inner.map(_run, open_tasks, seconds=seconds, listener=listener, stop=stop))
        left = {one.path for one in open_tasks}
        return [next(computed) if one.path in left else read(one.path) for one in kept]


@dataclass(frozen=True, eq=False)
class _Kept:
    function: Callable[[Any, Context], Any]
    task: Any
    path: Path


def _run(kept: _Kept, context: Context) -> Any:
    result = kept.function(kept.task, context)
    if not context.stop():
        content = _encoded(result)
        document = {"result": content, "digest": _digest(kept.path, content)}
        write_text(kept.path, json.dumps(document, indent=1) + "\n")
    return result


def _digest(path: Path, content: Any) -> str:
    """Of a result in the file of its task, whose name says which that is."""
    return hashlib.sha256(json.dumps([path.stem, content], sort_keys=True).encode("utf-8")).hexdigest()


def check_folder(folder: str | Path) -> Path:
    """``folder`` in full, made if it does not exist; raises `UsageError` where it cannot be.

    In full, since the workers of a cluster may run in other folders.
    """
    folder = Path(folder).absolute()
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot keep results in {folder}: {error.strerror}, name a folder that can be made") from None
    return folder


def key(function: Callable[..., Any], task: Any) -> str:
    """Digest of a task: the same for equal tasks, in any process."""
    content = [__version__, function.__module__, function.__qualname__, _described(task)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("utf-8")).hexdigest()[:32]


def _described(value: Any) -> Any:
    """What determines a result, in plain values."""
    if isinstance(value, Network):
        return value.sha256
    if isinstance(value, TrainingReport):
        return [[solve.stage, solve.status, solve.exact, solve.bound] for solve in value.solves]
    if isinstance(value, np.ndarray):
        return [value.dtype.str, list(value.shape), hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()]
    if is_dataclass(value) and not isinstance(value, type):
        entries = {field.name: getattr(value, field.name) for field in fields(value)}
        skipped = _SECONDS if isinstance(value, Solver) or "start_seconds" in entries else frozenset()
        return [type(value).__name__, {n: _described(v) for n, v in entries.items() if n not in skipped}]
    if isinstance(value, dict | list | tuple):
        return [_described(entry) for entry in (value.items() if isinstance(value, dict) else value)]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


# ---- results as JSON -----------------------------------------------------------------------------------------------


def _encoded(result: Any) -> Any:
    if isinstance(result, Found):
        parts = {"weights": result.network.weights, "bias": result.network.bias}
        arrays = {name: [part.tolist() for part in values] for name, values in parts.items()}
        return {"units": arrays, "solves": [asdict(solve) for solve in result.solves]}
    if not isinstance(result, Trained):
        return {"counts": [int(value) for value in result]}
    return {
        "network": result.network.as_document(),
        "earlier": [network.as_document() for network in result.earlier],
        "report": asdict(result.report),
    }


def read(path: Path) -> Any:
    """The result in a file of this module; raises `UsageError` for anything else."""
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
        document = whole["result"]
        if whole["digest"] != _digest(path, document):
            raise ValueError("its digest is another: it was damaged, changed or renamed")
        if "counts" in document:
            return tuple(int(value) for value in document["counts"])
        if "units" in document:
            weights, bias = (tuple(map(frozen, document["units"][name])) for name in ("weights", "bias"))
            return Found(SignNetwork(weights, bias), tuple(Solve(**solve) for solve in document["solves"]))
        report = dict(document["report"])
        report["solves"] = tuple(Solve(**solve) for solve in report["solves"])
        report["options"] = tuple((name, _plain(value)) for name, value in report["options"])
        report["notes"] = tuple(report["notes"])
        network, *earlier = (Network.from_document(d) for d in (document["network"], *document["earlier"]))
        return Trained(network, TrainingReport(**report), tuple(earlier))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ModelError, UsageError) as error:
        fault = f"{path} is no finished solve of this version ({error})"
        raise UsageError(f"{fault}: remove it, or resume elsewhere") from None


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
