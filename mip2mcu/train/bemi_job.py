"""The steps of a BeMi training: a start for every stage, then branch and bound stage by stage, time handed on.

Every incumbent is counted anew in exact integers; the samples that later stages keep are those that are confident then,
not those that the solver said were.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import pyomo.environ as pyo

from mip2mcu.errors import NoSolutionError
from mip2mcu.mip.pieces import program_size
from mip2mcu.mip.solver import Solve, Solver, no_solve, solve
from mip2mcu.progress import Listener, Progress, Stop
from mip2mcu.train.bemi_goal import Goal
from mip2mcu.train.bemi_model import After, build_model, place, read
from mip2mcu.train.bemi_start import first_network, thinned
from mip2mcu.train.clock import Clock
from mip2mcu.train.sign_network import SignNetwork
from mip2mcu.train.trained import settled

SHARES = {"published": (0.47, 0.94, 1.0), "corrected": (0.3, 0.7, 1.0)}
"""Share of the time that is over, at the latest, when a stage ends (the paper's: 75, 75 and 10 of 160 seconds)."""
MODEL_ENTRIES = 1_000_000
"""Most matrix entries of a model that goes to branch and bound; larger ones end with their start."""


@dataclass(frozen=True, eq=False)
class BemiJob:
    """One training. The solver's time limit counts from ``began`` (monotonic clock)."""

    goal: Goal
    solver: Solver
    listener: Listener
    interrupted: Stop
    began: float

    def stop(self) -> bool:
        """True when time is over or the user has had enough."""
        return self.interrupted() or not Clock.of(self.solver, self.began).goes_on()

    @property
    def searchable(self) -> bool:
        """True where the models are small enough for branch and bound."""
        return self.goal.reduction.rows.size * self.goal.widths[0] <= MODEL_ENTRIES

    # ---- exact values ----

    def after(self, networks: list[SignNetwork]) -> After | None:
        """What the stages behind ``networks`` leave to the next one; None before the first."""
        if not networks:
            return None
        kept = self.goal.confident(networks[0])
        floors = None
        if len(networks) > 1:
            floors = self.goal.floors(self.goal.margins(networks[1], kept))
        return After(kept, 0 if self.goal.published else self.goal.first(networks[0]), floors)

    def value(self, stage: str, network: SignNetwork, after: After | None) -> int | None:
        """The exact objective of a stage, None where ``network`` breaks what the stages before have gained."""
        goal = self.goal
        if after is None:
            return goal.first(network)
        margins = goal.margins(network, after.kept)
        if any((layer < 0).any() for layer in margins):
            return None
        if not goal.published:
            lost = after.kept & ~goal.confident(network)
            if lost.any() or goal.first(network) > after.budget:
                return None
        if stage == "margins":
            return goal.second(margins)
        assert after.floors is not None
        if any((layer < floor).any() for layer, floor in zip(margins, after.floors, strict=True)):
            return None
        return goal.links(network)

    def maximised(self, stage: str) -> bool:
        """The stage's objective is the larger the better."""
        return stage == "margins" or (stage == "confident" and self.goal.published)

    def bound(self, stage: str, after: After | None) -> float:
        """A bound on the stage's objective that needs no solver."""
        goal = self.goal
        if stage == "confident" and goal.published:
            return float(goal.widths[-1] * int(goal.counts().sum()))
        if after is not None and stage == "margins":
            tops = [goal.price(layer) * goal.margin_high(layer, after.kept) for layer in range(1, len(goal.widths) + 1)]
            return float(sum(top * (goal.widths[at] if goal.published else 1) for at, top in enumerate(tops)))
        return 0.0

    # ---- steps ----

    def start(self) -> tuple[list[SignNetwork], list[Solve]]:
        """A network after each stage, without branch and bound."""
        network = first_network(self.goal, self.solver, self.stop)
        networks: list[SignNetwork] = []
        records: list[Solve] = []
        for stage in self.goal.stages:
            after = self.after(networks)
            if stage == "links":
                assert after is not None
                network = thinned(self.goal, network, after, self.stop)
            value = self.value(stage, network, after)
            assert value is not None
            record = replace(no_solve(stage, self.solver), bound=self.bound(stage, after))
            records.append(self._told(self._settled(record, value)))
            networks.append(network)
        return networks, records

    def search(
        self, starts: list[SignNetwork], records: list[Solve]
    ) -> tuple[list[SignNetwork], list[Solve]]:
        """Branch and bound stage by stage, from the better of the start's network and what the stage before found."""
        if self.solver.node_limit == 0 or not self.searchable or self.stop():
            return starts, records
        networks: list[SignNetwork] = []
        found: list[Solve] = []
        for position, stage in enumerate(self.goal.stages):
            after = self.after(networks)
            network = self._best_start(stage, [*networks[-1:], starts[position]], after)
            value = self.value(stage, network, after)
            assert value is not None
            before = self._settled(replace(records[position], bound=self.bound(stage, after)), value)
            network, record = self._stage(stage, network, before, after, position)
            networks.append(network)
            found.append(self._told(record))
        return networks, found

    def _best_start(self, stage: str, networks: list[SignNetwork], after: After | None) -> SignNetwork:
        """The best of ``networks`` that keep what was gained; for the last stage, thinned."""
        if stage == "links":
            assert after is not None
            networks = [*networks, thinned(self.goal, networks[0], after, self.stop)]
        values = [(self.value(stage, network, after), network) for network in networks]
        sign = -1 if self.maximised(stage) else 1
        allowed = [(sign * value, network) for value, network in values if value is not None]
        return min(allowed, key=lambda entry: entry[0])[1]

    def _stage(
        self, stage: str, network: SignNetwork, before: Solve, after: After | None, position: int
    ) -> tuple[SignNetwork, Solve]:
        solver = self.solver.within(self._left(position))
        size = program_size(self.goal.reduction.rows, self.goal.widths)
        if before.status == "optimal" or self.interrupted() or not solver.has_time_for(*size):
            return network, before
        model = build_model(self.goal, stage, after)
        place(model, self.goal, network, after)
        try:
            record = self._solved(model, self.solver.within(self._left(position)), stage)
        except NoSolutionError:  # time was over before the solver had even taken the start
            return network, before
        candidate = read(model, self.goal)
        value, had = self.value(stage, candidate, after), before.exact
        assert had is not None
        sign = -1 if self.maximised(stage) else 1
        bounds = [bound for bound in (record.bound, before.bound) if bound is not None]
        record = replace(record, bound=(min if sign < 0 else max)(bounds, default=None))
        if value is None or sign * value >= sign * had:
            if record.status == "optimal" and (value is None or value != had):
                record = replace(record, status="claim rejected")
            return network, self._settled(record, had)
        return candidate, self._settled(record, value)

    def _solved(self, model: pyo.ConcreteModel, solver: Solver, stage: str) -> Solve:
        return solve(model, solver, start=True, stage=stage, listener=self.listener, stop=self.interrupted)

    def _left(self, position: int) -> float | None:
        """Seconds until the stage's end; what the stages before did not use is its own."""
        shares = SHARES["published" if self.goal.published else "corrected"]
        return Clock.of(self.solver, self.began, shares[position]).left()

    def _settled(self, record: Solve, exact: int) -> Solve:
        """`settled`, for objectives of either sense."""
        if not self.maximised(record.stage):
            return settled(record, exact)
        turned = replace(
            record, objective=-record.objective, bound=None if record.bound is None else -record.bound
        )
        found = settled(turned, -exact)
        bound = None if found.bound is None else 0.0 - found.bound
        return replace(found, objective=-found.objective, bound=bound, exact=exact)

    def _told(self, record: Solve) -> Solve:
        """``record``, after an event with its result."""
        incumbent = None if record.exact is None else float(record.exact)
        self.listener(Progress(record.stage, incumbent, record.bound, time.monotonic() - self.began))
        return record

    def notes(self, first: SignNetwork) -> tuple[str, ...]:
        """What a reader of the result should know; ``first`` is the network of the first stage."""
        notes = []
        if not self.searchable:
            notes.append("the data are too large for branch and bound: quick start only")
        if not self.goal.confident(first).any():
            notes.append("a member has no confident sample, so its stage of margins asks for nothing")
        return tuple(notes)
