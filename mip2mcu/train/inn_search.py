"""Branch and bound on the INN program, stage by stage, from a complete start; every answer is counted exactly."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from mip2mcu.errors import NoSolutionError
from mip2mcu.mip.solver import Solve, Solver, solve
from mip2mcu.progress import Listener, Stop
from mip2mcu.train.goal import Goal, Program
from mip2mcu.train.inn_model import read_network
from mip2mcu.train.reduction import Reduction
from mip2mcu.train.sign_network import SignNetwork
from mip2mcu.train.trained import settled

CUT_ROUNDS = 40
"""Most solves of one stage whose objective is cut lazily."""


@dataclass(frozen=True, eq=False)
class Search:
    """What every stage shares."""

    goal: Goal
    reduction: Reduction
    listener: Listener
    stop: Stop

    def stage(
        self, program: Callable[[], Program], network: SignNetwork, before: Solve, solver: Solver
    ) -> tuple[SignNetwork, Solve]:
        """The better of ``network`` and what the solver finds from it, and the record; ``before`` is the start's.

        An objective that is cut lazily is solved again with the rows that its last answer lacked, until the answer
        is what it claims to be.
        """
        began = time.monotonic()
        built = program()
        position = self.goal.stages.index(built.stage)
        best, bound, nodes = network, before.bound or 0.0, 0
        record: Solve | None = None
        for _ in range(CUT_ROUNDS):
            built.cut(best)
            built.place(best)
            left = None if solver.time_limit is None else solver.time_limit - (time.monotonic() - began)
            try:
                record = solve(
                    built.model,
                    solver.within(left),
                    start=True,
                    stage=before.stage,
                    listener=self.listener,
                    stop=self.stop,
                )
            except NoSolutionError:  # time was over before the solver had even taken the start
                break
            found = read_network(built.model)
            bound, nodes = max(bound, record.bound or 0.0), nodes + record.nodes
            if self._value(found, position) < self._value(best, position):
                best = found
            missing = built.cut(found)
            enough = max(bound, -1.0 if solver.objective_target is None else solver.objective_target)
            if not missing or record.status not in ("optimal", "target") or self._value(best, position)[-1] <= enough:
                break
            record = replace(record, status="node limit" if solver.time_limit is None else "time limit")
            if self.stop() or (left is not None and left <= 0):
                break
        if record is None:
            return network, before
        exact = self._value(best, position)[-1]
        seconds = before.seconds + time.monotonic() - began
        return best, settled(replace(record, bound=bound, nodes=nodes, seconds=seconds), exact)

    def _value(self, network: SignNetwork, position: int) -> tuple[int, ...]:
        return self.goal.value(network, self.reduction)[: position + 1]
