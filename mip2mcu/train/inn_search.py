"""Branch and bound on the INN program, stage by stage, from a complete start; every answer is counted exactly."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mip2mcu.errors import NoSolutionError
from mip2mcu.mip.pieces import program_size
from mip2mcu.mip.solver import Solve, Solver, no_solve, solve
from mip2mcu.progress import Listener, Stop, never, silent
from mip2mcu.train.box import Box
from mip2mcu.train.clock import Clock
from mip2mcu.train.goal import Goal, Program
from mip2mcu.train.inn_model import read_network
from mip2mcu.train.reduction import Reduction
from mip2mcu.train.sign_network import SignNetwork
from mip2mcu.train.trained import settled

MODEL_ENTRIES = 1_000_000
"""Most matrix entries of a model that goes to branch and bound; larger ones end with their start."""
CUT_ROUNDS = 40
"""Most solves of one stage whose objective is cut lazily."""


@dataclass(frozen=True, eq=False)
class Found:
    """A network on reduced columns, and the records of the solves that it comes from."""

    network: SignNetwork
    solves: tuple[Solve, ...]


@dataclass(frozen=True, eq=False)
class Search:
    """What every stage shares: the goal and the rows, and switches and limits of the program as in `build_network`."""

    goal: Goal
    reduction: Reduction
    hidden: tuple[int, ...]
    listener: Listener = silent
    stop: Stop = never
    ordered: bool = True
    tight: bool = True
    box: Box | None = None

    def stages(
        self, network: SignNetwork, before: Sequence[Solve], solver: Solver, target: int | None = None
    ) -> tuple[SignNetwork, list[Solve]]:
        """All stages of the goal from ``network``, which must be ordered where the program is; and their records.

        ``before`` are records of it from its start, ``target`` is a value of the objective that is good enough. Where
        every row must be right and the best network leaves some wrong, the first stage is the last one.
        """
        began = time.monotonic()
        records: list[Solve] = []
        for number, stage in enumerate(self.goal.stages):
            value = self.goal.value(network, self.reduction)
            known = next((s for s in before if s.stage == stage), no_solve(stage, solver))
            if known.exact != value[number]:
                known = settled(replace(known, status="not searched"), value[number])
            left = Clock.of(solver, began).left()
            last = number == len(self.goal.stages) - 1
            own = solver.within(left if last or left is None else left / 2)
            if target is not None and stage != "units" and (last or self.goal.compress != "none"):
                own = replace(own, objective_target=float(target))
            if self._worth(known, own):
                program = self._program(stage, value[0])
                network, known = self.stage(program, network, known, own)
            records.append(known)
            if self.goal.kind.fits_all and stage == "errors" and known.exact:
                break
        return network, records

    def _program(self, stage: str, budget: int) -> Callable[[], Program]:
        return lambda: self.goal.program(
            self.reduction, self.hidden, stage, budget=budget, ordered=self.ordered, tight=self.tight, box=self.box
        )

    @property
    def entries(self) -> int:
        """Entries of the model's first layer, which are most of them."""
        outputs = 1 if self.reduction.counts.shape[1] == 2 else 2 * self.reduction.counts.shape[1]
        return self.reduction.rows.size * (self.hidden[0] if self.hidden else outputs)

    @property
    def _widths(self) -> tuple[int, ...]:
        classes = self.reduction.counts.shape[1]
        return (*self.hidden, 1 if classes == 2 else classes)

    @property
    def searchable(self) -> bool:
        """True where the model is small enough for branch and bound."""
        return self.entries <= MODEL_ENTRIES

    def able(self, solver: Solver) -> bool:
        """True where branch and bound is wanted, and the model can be built and leaves time for it."""
        if solver.node_limit == 0 or not self.searchable or self.stop():
            return False
        return solver.has_time_for(*program_size(self.reduction.rows, self._widths))

    def _worth(self, before: Solve, solver: Solver) -> bool:
        """True where branch and bound may find something."""
        if before.status == "optimal" or not self.able(solver):
            return False
        return solver.objective_target is None or (before.exact or 0) > solver.objective_target

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
            left = Clock.of(solver, began).left()
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
