"""BDNN on few rows at a time: those are added that the answer gets wrong, until none is left.

    best  = the start
    known = some rows, half of them such that best costs more than it must on them
    repeat:
        answer = the exact program on the known rows, from the best network
        best   = the better one, on all rows, of best and answer
        add other rows on which the answer costs more than it must, those on which it costs most first

No network costs less on a row than equal rows of several classes make it. A bound for the known rows and these least
costs of the others are a bound for all; where the answer to the known rows is proved optimal and no row is left to add,
it is an optimum for all rows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mip2mcu.errors import NoSolutionError
from mip2mcu.mip.solver import Solve
from mip2mcu.ranges import BoolArray, IntArray
from mip2mcu.train.bdnn_model import Plan, build_model, least_costs, place, row_costs
from mip2mcu.train.lazy_samples import ROUND_SHARE, first_rows, rows_note, violated_rows
from mip2mcu.train.sign_network import SignNetwork
from mip2mcu.train.trained import settled

if TYPE_CHECKING:
    from mip2mcu.train.bdnn_job import BdnnJob


def solve_lazily(
    job: BdnnJob, network: SignNetwork, before: Solve
) -> tuple[SignNetwork, Solve, *tuple[str, ...]]:
    """The best network on all rows, its record, and what was done; ``network`` and ``before`` are the start."""
    least, count = least_costs(job.reduction, job.widths[-1], job.sets), job.options.batch_rows
    best, last = network, before
    sizes: list[int] = []
    too_large: tuple[str, ...] = ()
    known = first_rows(_excess(job, network, least), count, job.solver.seed)
    grows = not known.all()
    while not job.over():
        plan, left = _part(job, known), job.left()
        if not job.worth(plan):
            too_large = job.size_notes(plan)
            break
        model = build_model(plan)
        place(model, plan, network if job.continuous else best)
        try:
            record = job.solve(model, left and left * (ROUND_SHARE if grows else 1.0), start=True)
        except NoSolutionError:
            break
        found = job.read(model, plan)
        best = min(best, found, key=job.cost)
        sizes.append(int(known.sum()))
        added = violated_rows(_excess(job, found, least), known, count)
        others = float(least[~known].sum())
        last = replace(
            record, objective=record.objective + others, bound=max(last.bound or 0.0, (record.bound or 0.0) + others),
            seconds=last.seconds + record.seconds, nodes=last.nodes + record.nodes,
        )  # fmt: skip
        if len(added):  # what is claimed for some rows is no claim for all
            last = _unclaimed(last, job.cost(best))
        is_last = record.status == "optimal" or not grows or left is None
        if settled(last, job.cost(best)).status == "optimal" or (not len(added) and is_last):
            break
        known[added] = True
        grows = len(added) > 0 and not known.all()
    if last.status == "not searched" and job.over():
        last = replace(last, status="interrupted" if job.interrupted() else "time limit")
    done = () if too_large and not sizes else (rows_note(sizes[-1] if sizes else 0, len(known), len(sizes)),)
    return best, settled(last, job.cost(best)), *done, *too_large


def _excess(job: BdnnJob, network: SignNetwork, least: IntArray) -> IntArray:
    """(k,): what the network costs on each row beyond what it must."""
    return row_costs(network, job.reduction, job.sets) - least


def _part(job: BdnnJob, known: BoolArray) -> Plan:
    rows = np.flatnonzero(known)
    return job.plan(np.arange(len(rows)), rows)


def _unclaimed(record: Solve, cost: int) -> Solve:
    status = "not searched" if record.status == "optimal" else record.status
    return replace(record, status=status, objective=float(cost))
