"""What one call of each function of a model takes, counted on the compared rows of every kind.

`predict` and `sums` are counted on the same rows: `predict` is what a firmware calls; `sums` is all of it but the
decision, and what takes the same time for all inputs where it is said to. `selftest` and `check` read no rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from mip2mcu.errors import VerifyError
from mip2mcu.ranges import IntArray
from mip2mcu.verify.comparison import Comparison
from mip2mcu.verify.harness import Harness
from mip2mcu.verify.report import Cost
from mip2mcu.verify.runners import CountingRunner

_COUNTED_WEIGHTS = 2_000_000
"""Weights of all counted rows together: counting takes a callback a basic block, so large networks get fewer rows."""
_TRACED_INSTRUCTIONS = 1_000_000
"""Most instructions that are traced one by one, apart from one call of `predict`: some four microseconds each."""
_COUNTED_INSTRUCTIONS = 20_000_000
"""Most instructions of a selftest that is counted, some ten seconds."""
_SELFTEST_CALLS = 64
"""Calls of `predict` and its like that a selftest makes, about."""


def count_costs(comparison: Comparison, counter: CountingRunner) -> Mapping[str, Cost]:
    """The cost of each function by name; of the selftest only where it is not too long to be counted."""
    harness = comparison.harness
    limit = max(4, _COUNTED_WEIGHTS // comparison.network.weight_count)
    inputs = np.concatenate(comparison.input_sample)[:limit]
    count = _Counting(harness, counter)
    costs = {
        "predict": count.rows("predict", inputs, harness.predict_request),
        "sums": count.rows("sums", inputs, harness.sums_request),
    }
    if harness.description.raw_features:
        costs["quantize"] = count.rows(
            "quantize", np.concatenate(comparison.raw_sample)[:limit], harness.quantize_request
        )
    if harness.description.input_packed:
        costs["pack"] = count.rows("pack", inputs, harness.pack_request)
    if costs["predict"].maximum * _SELFTEST_CALLS <= _COUNTED_INSTRUCTIONS:
        costs["selftest"] = count.call("selftest", harness.selftest_request())
    if harness.program.has_check:
        costs["check"] = count.call("check", harness.check_request())
    return costs


@dataclass(frozen=True)
class _Counting:
    """A model and what counts on its core."""

    harness: Harness
    counter: CountingRunner

    def rows(self, function: str, rows: IntArray, request: Callable[[IntArray], bytes]) -> Cost:
        """Count every row; then the dearest, the cheapest and the first one by one, with the stack."""
        calls = np.array(self._count(function, request(rows)))
        again = list(dict.fromkeys([int(calls.argmax()), int(calls.argmin()), 0]))
        again = again[: max(1, _TRACED_INSTRUCTIONS // int(calls.max()))]
        stack = self._trace(function, request(rows[again]), calls[again])
        return Cost(len(rows), self.counter.unit, int(calls.min()), int(calls.max()), stack)

    def call(self, function: str, request: bytes) -> Cost:
        """Count the only call that ``request`` asks for; one by one too, unless that takes long."""
        calls = np.array(self._count(function, request))
        if calls.max() > _TRACED_INSTRUCTIONS:
            stack = self.harness.program.stack().get(self._symbol(function))
        else:
            stack = self._trace(function, request, calls)
        return Cost(1, self.counter.unit, int(calls.min()), int(calls.max()), stack)

    def _symbol(self, function: str) -> str:
        return f"{self.harness.program.name}_{function}"

    def _count(self, function: str, request: bytes) -> tuple[int, ...]:
        program, symbol = self.harness.program, self._symbol(function)
        return self.counter.count(program.elf, program.core, request, (symbol,))[symbol].calls

    def _trace(self, function: str, request: bytes, counted: IntArray) -> int | None:
        """Bytes of stack; raises `VerifyError` where the instructions differ from those ``counted``."""
        program, symbol = self.harness.program, self._symbol(function)
        traced = self.counter.trace(program.elf, program.core, request, (symbol,))[symbol]
        if traced.calls != tuple(counted):
            raise VerifyError(
                f"two ways of counting {symbol} disagree: {traced.calls} and {tuple(map(int, counted))}"
            )
        return traced.stack or program.stack().get(symbol)
