"""`certify`: for every row the smallest change of its raw integers that changes the class, with proof.

Three steps a row, each only where the one before left something open:

    1. intervals   bisect for the largest size that they prove harmless (exact for a single layer, linf)
    2. attacks     bisect for the smallest size at which moving every feature the worst way changes the class
    3. MIP         `mip2mcu.certify.model` between the two, input stages included; its witness is checked with the
                   network, its bound is rounded up to the next whole number, and not believed where factors are large

Because the generated C equals the network bit for bit, what is proved here holds for the chip.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mip2mcu.certify.bounds import Problem, Reach
from mip2mcu.certify.certificate import Certificate, RowCertificate
from mip2mcu.certify.model import Search, build
from mip2mcu.dataset import UNKNOWN_LABEL, Dataset
from mip2mcu.errors import DatasetError, InfeasibleError, NoSolutionError, UsageError
from mip2mcu.mip.solver import Solver, check_solver, solve_matrix
from mip2mcu.network import Network
from mip2mcu.norms import NORMS
from mip2mcu.parallel import Context, executor
from mip2mcu.progress import Listener, Stop, never, silent
from mip2mcu.ranges import BoolArray, IntArray

DEFAULT_TIME_LIMIT = 60.0
"""Seconds of a certification where neither a time limit nor a node limit is given."""
LIMIT = 2**48
"""Largest size of interest: no change exceeds it, of at most 65,535 features of 32 bits."""
PROGRAM_ENTRIES = 1_000_000
"""Most matrix entries of a row's program; networks of more non-zero weights are not searched."""
FILTERED_INPUTS = 4096
"""Most inputs of a network with filters that is searched."""
ATTACK_SECONDS = 0.2
"""Attacks on a row may take so long even where its time is over."""
_TOLERANCE = 1e-6
"""A solver's bound this little above a whole number counts as that number."""


def certify(
    network: Network,
    data: Dataset,
    *,
    norm: str = "linf",
    limit: int | None = None,
    time_limit: float | None = None,
    node_limit: int | None = None,
    seed: int = 0,
    workers: int = 1,
    listener: Listener = silent,
    stop: Stop = never,
) -> Certificate:
    """Certify ``network`` on the labelled rows of ``data``.

    norm         one of `NORMS`; features move in their raw integers (0.1 is 1 for a feature of one decimal place),
                 categories stay fixed
    limit        largest size of interest: rows safe up to there are not searched further
    time_limit   seconds for all rows; rows that run out of time keep the best bounds. With neither limit,
                 `DEFAULT_TIME_LIMIT`

    Rows that the network gets wrong are safe at no radius and are not searched. Raises `UsageError` or `DatasetError`.
    """
    if norm not in NORMS:
        raise UsageError(f"the norm {norm!r} is unknown, choose one of {', '.join(NORMS)}")
    if limit is not None and not 1 <= limit <= LIMIT:
        raise UsageError(f"a largest radius of {limit} is not possible: give a whole number of 1..{LIMIT}")
    if data.rows == 0 or (data.labels == UNKNOWN_LABEL).any():
        raise DatasetError("rows without labels cannot be certified: give labelled ones")
    if time_limit is None and node_limit is None:
        time_limit = DEFAULT_TIME_LIMIT
    engine = Solver(time_limit=time_limit, node_limit=node_limit, seed=seed)
    check_solver(engine)
    problem = Problem(network)
    _ = problem.layers, problem.terms if not problem.filters else None
    raw = data.inputs if network.quantizer is None else data.raw
    if raw is None:
        raise DatasetError("the network reads raw features, the data hold inputs only: read them with the model")
    inputs = network.quantize(raw)
    predicted = network.predict(inputs)
    tasks = [
        _Task(problem, k, int(data.labels[k]), int(predicted[k]), raw[k], inputs[k], norm, limit, engine)
        for k in range(data.rows)
        if predicted[k] == data.labels[k]
    ]
    wrong = [
        RowCertificate(k, int(data.labels[k]), int(predicted[k]), 0, None, None)
        for k in np.flatnonzero(predicted != data.labels).tolist()
    ]
    began = time.monotonic()
    with executor(workers) as run:
        found = run.map(_certify_row, tasks, seconds=time_limit, listener=listener, stop=stop)
        open_ones = [k for k, row in enumerate(found) if not _settled(row, limit)]
        left = 0.0 if time_limit is None or node_limit is not None else began + time_limit - time.monotonic()
        if open_ones and left > 0 and not stop():
            again = run.map(_certify_row, [tasks[k] for k in open_ones], seconds=left, listener=listener, stop=stop)
            for k, row in zip(open_ones, again, strict=True):
                found[k] = _closer(found[k], row)
    rows = sorted([*wrong, *found], key=lambda row: row.row)
    return Certificate(network.sha256, norm, limit, tuple(rows))


def _settled(row: RowCertificate, limit: int | None) -> bool:
    """True where nothing of interest is open about a row."""
    return row.exact or row.safe is None or (limit is not None and row.safe >= limit)


def _closer(one: RowCertificate, other: RowCertificate) -> RowCertificate:
    """The better of both bounds that two searches of a row have proved and found."""
    broken = min((r for r in (one, other) if r.broken is not None), key=lambda r: r.broken or 0, default=one)
    safe = None if one.safe is None or other.safe is None else max(one.safe, other.safe)
    return replace(broken, safe=safe)


@dataclass(frozen=True, eq=False)
class _Task:
    """One row that the network is right about."""

    problem: Problem
    row: int
    label: int
    predicted: int
    raw: IntArray
    inputs: IntArray
    norm: str
    limit: int | None
    solver: Solver

    def size(self, moved: IntArray) -> int:
        """Size of the change from the row to ``moved`` (features,)."""
        return NORMS[self.norm].size(moved - self.raw)

    def change_class(self, moved: IntArray) -> BoolArray:
        """(rows,): True where the network gives ``moved`` (rows, features) another class: the last word."""
        network = self.problem.network
        return np.asarray(network.predict(network.quantize(moved)) != self.predicted)

    def changes_class(self, moved: IntArray) -> bool:
        """The same for a single row (features,)."""
        return bool(self.change_class(moved[None, :])[0])

    def proved(self, reach: Reach) -> bool:
        """True where intervals prove the class within ``reach``."""
        return self.problem.certain(self.problem.first(self.inputs, self.raw, reach), self.predicted)

    def attacked(self, reach: Reach) -> IntArray | None:
        """A row within ``reach`` of another class, the smallest of the attacks that succeed; or None."""
        moved = np.stack([self.raw, *self.problem.attacks(self.raw, reach, self.predicted)])
        return min(moved[self.change_class(moved)], key=self.size, default=None)

    def certificate(self, safe: int | None, witness: IntArray | None) -> RowCertificate:
        """What was found; a witness beyond the limit of interest counts too."""
        broken = None if witness is None else self.size(witness)
        changed = None if witness is None else tuple(witness.tolist())
        return RowCertificate(self.row, self.label, self.predicted, safe, broken, changed)


def _certify_row(task: _Task, context: Context) -> RowCertificate:
    began = time.monotonic()
    radii = np.unique(task.problem.ladders.distances(task.raw))
    if task.limit is not None and task.norm == "linf":
        radii = radii[radii <= task.limit]

    def box(k: int) -> Reach:
        return task.problem.reach(task.raw, int(radii[k]))

    harmless = _first(len(radii), lambda k: not task.proved(box(k)))
    if harmless == len(radii):  # nothing within reach of any feature changes the class
        return task.certificate(task.limit if task.norm == "linf" else None, None)
    witnesses: dict[int, IntArray | None] = {}

    def hits(k: int) -> bool:
        seconds = time.monotonic() - began
        if seconds > ATTACK_SECONDS and (context.stop() or (context.seconds is not None and seconds > context.seconds)):
            return False
        witnesses[k] = task.attacked(box(harmless + k))
        return witnesses[k] is not None

    witness = witnesses.get(_first(len(radii) - harmless, hits))
    least = int(radii[harmless])  # no smaller largest change can matter
    if task.norm != "linf":
        witness = None if witness is None else _reduced(task, witness)
        least = 1 if task.norm == "l0" else least
    if witness is not None and task.size(witness) <= least:
        return task.certificate(task.size(witness) - 1, witness)
    if task.limit is not None and least > task.limit:
        return task.certificate(task.limit, witness)
    seconds = None if context.seconds is None else max(0.0, context.seconds - (time.monotonic() - began))
    return _searched(task, witness, least, task.solver.within(seconds), context.stop)


def _first(count: int, holds: Callable[[int], bool]) -> int:
    """The smallest k < count for which ``holds``, by bisection; ``count`` if there is none."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _reduced(task: _Task, witness: IntArray) -> IntArray:
    """A smaller change that still changes the class: features are put back one by one, the smallest change first."""
    current = witness.copy()
    for f in np.argsort(np.abs(current - task.raw), kind="stable"):
        if current[f] != task.raw[f]:
            tried = current.copy()
            tried[f] = task.raw[f]
            if task.changes_class(tried):
                current = tried
    return current


def _searched(task: _Task, witness: IntArray | None, least: int, solver: Solver, stop: Stop) -> RowCertificate:
    """Close what is open between ``least`` and the witness by a MIP."""
    unproved = task.certificate(least - 1, witness)
    if solver.time_limit == 0 or solver.node_limit == 0 or stop() or _too_large(task.problem):
        return unproved
    began = time.monotonic()
    search, covered = _search(task, witness, least)
    if search is None:
        return task.certificate(covered, witness)
    if search.program.entries > PROGRAM_ENTRIES:
        return unproved
    believable, matrix = search.program.is_believable, search.program.matrix(search.size)
    if solver.time_limit is not None:
        solver = solver.within(solver.time_limit - (time.monotonic() - began))
    try:
        values, record = solve_matrix(matrix, solver, stage=f"row {task.row}", stop=stop)
    except NoSolutionError as error:
        refuted = witness is not None and (covered is None or task.size(witness) <= covered)
        if refuted or not (believable and isinstance(error, InfeasibleError)):
            return unproved
        return task.certificate(covered, witness)
    levels = search.levels(task.problem.ladders.levels(task.raw), values)
    found = task.problem.ladders.raw_at(task.raw, levels)
    if task.changes_class(found) and (witness is None or task.size(found) < task.size(witness)):
        witness = found
    bound = record.bound if believable and record.bound is not None else least
    safe = max(least, math.ceil(bound - _TOLERANCE)) - 1
    known = [safe] if witness is None else [safe, task.size(witness) - 1]
    return task.certificate(min(known if covered is None else [*known, covered]), witness)


def _too_large(problem: Problem) -> bool:
    """True where the program of a row could take gigabytes before its size is known."""
    filtered = len(problem.network.input_low) if problem.filters else 0
    return problem.network.link_count > PROGRAM_ENTRIES or filtered > FILTERED_INPUTS


def _search(task: _Task, witness: IntArray | None, least: int) -> tuple[Search | None, int | None]:
    """The program over the changes up to a size, and that size; None: over all changes.

    Smaller changes have smaller sums and so smaller factors: the size shrinks until a solver's proof is believable.
    """
    reach, covered = _searched_reach(task, witness)
    while True:
        search = build(task.problem, task.inputs, task.raw, task.predicted, reach, task.norm, least)
        if search is None or search.program.is_believable or covered is None or covered <= least:
            return search, covered
        covered = max(least, 3 * covered // 4)
        reach = task.problem.reach(task.raw, covered)


def _searched_reach(task: _Task, witness: IntArray | None) -> tuple[Reach, int | None]:
    """Levels that a change as small as the witness, or as the limit, can reach; and that size, None for all levels."""
    bounds = [] if witness is None else [task.size(witness)]
    if task.limit is not None:
        bounds.append(task.limit)
    if task.norm == "l0" or not bounds:
        return task.problem.everything(), None
    return task.problem.reach(task.raw, min(bounds)), min(bounds)
