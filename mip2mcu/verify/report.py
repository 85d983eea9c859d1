"""The result of a verification, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mip2mcu.verify.footprint import Footprint
from mip2mcu.verify.hunting import Tally
from mip2mcu.verify.proof import Proof

_SHOWN_VALUES = 32


@dataclass(frozen=True)
class Mismatch:
    """The first row on which C and Python differ.

    quantity        "sums", "scores", "class", "margin", "status", "quantize", "pack", "selftest" or "check"
    kind, row       what kind of vector it is, and its number among those of its kind
    input           network inputs, or raw features where ``quantity`` is "quantize"
    expected, got   Python's and C's values
    """

    quantity: str
    kind: str
    row: int
    input: tuple[int, ...]
    expected: tuple[int, ...]
    got: tuple[int, ...]

    def as_text(self) -> str:
        """Three lines below a headline."""
        return (
            f"{self.quantity} differ on {self.kind} row {self.row}:\n"
            f"  input     {_shown(self.input)}\n"
            f"  expected  {_shown(self.expected)}\n"
            f"  got       {_shown(self.got)}"
        )


def _shown(values: tuple[int, ...]) -> str:
    text = " ".join(map(str, values[:_SHOWN_VALUES]))
    return text if len(values) <= _SHOWN_VALUES else f"{text} ... ({len(values)} values)"


@dataclass(frozen=True)
class Cost:
    """What one call costs: the cheapest and the dearest of the counted rows, and bytes of stack.

    unit           "instructions", or "cycles" where the emulator knows them exactly
    stack_bytes    used by the counted rows; where the emulator cannot watch the stack, the most by the compiler's word
    """

    rows: int
    unit: str
    minimum: int
    maximum: int
    stack_bytes: int | None

    @property
    def constant(self) -> bool:
        """Every counted row took the same."""
        return self.minimum == self.maximum


@dataclass(frozen=True)
class Report:
    """What was compared, with what, and what came out.

    mismatches       rows on which any value differs; 0 is the proof
    vectors          rows whose sums, scores, class and margin were compared, by kind
    quantized        rows of raw features whose quantised inputs were compared, by kind
    packed           rows whose packing was compared
    sizes            what `predict` (with `quantize` and `pack`, where there are) adds to a firmware; None where unknown
    scratch_bytes    RAM that the caller provides for the tensors between the layers
    costs            of one call, by function; empty where nothing installed counts
    constant_time    the model says that "sums" runs the same instructions whatever the inputs are
    checks_flash     bytes that "check" and "selftest" add to a firmware that calls them too; empty where unknown
    sources          SHA-256 of each C file that was compiled, by name
    proof            what static analysis found for all inputs; None where it was not asked for
    searched         by kind: how many conditions vectors were searched for, and how many were met or proved impossible
    """

    model_sha256: str
    target: str
    core: str
    runner: str
    toolchain: str
    flags: tuple[str, ...]
    seed: int
    mismatches: int
    first_mismatch: Mismatch | None
    vectors_by_kind: Mapping[str, int]
    quantized_by_kind: Mapping[str, int]
    packed: int
    sizes: Footprint | None
    scratch_bytes: int
    costs: Mapping[str, Cost]
    sources: Mapping[str, str]
    proof: Proof | None = None
    searched: Mapping[str, Tally] = field(default_factory=dict)
    checks_flash: Mapping[str, int] = field(default_factory=dict)
    constant_time: bool = False

    @property
    def contradiction(self) -> str | None:
        """What the counted rows say against the model's own claims; None where nothing does."""
        sums = self.costs.get("sums")
        if not self.constant_time or sums is None or sums.constant:
            return None
        return (
            f"sums is said to take constant time, but took {sums.minimum:,} to {sums.maximum:,} {sums.unit}: "
            "this compiler made branches of comparisons"
        )

    @property
    def passed(self) -> bool:
        """Nothing differs, nothing that the model claims is contradicted, nothing that was to be proved is not."""
        return self.mismatches == 0 and self.contradiction is None and self.alarms == 0

    @property
    def vectors(self) -> int:
        """Rows whose sums, scores, class and margin were compared."""
        return sum(self.vectors_by_kind.values())

    @property
    def alarms(self) -> int:
        """What static analysis could not exclude; 0 where it was not asked for."""
        return 0 if self.proof is None else self.proof.alarms

    @property
    def ram_bytes(self) -> int | None:
        """Static variables and scratch; the stack and the caller's input array are not among them."""
        return None if self.sizes is None else self.sizes.ram + self.scratch_bytes

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the same for the same run."""
        return {
            "model_sha256": self.model_sha256,
            "target": self.target,
            "core": self.core,
            "runner": self.runner,
            "toolchain": self.toolchain,
            "flags": list(self.flags),
            "seed": self.seed,
            "mismatches": self.mismatches,
            "first_mismatch": None if self.first_mismatch is None else _plain(self.first_mismatch),
            "vectors": self.vectors,
            "vectors_by_kind": dict(self.vectors_by_kind),
            "quantized_rows": sum(self.quantized_by_kind.values()),
            "quantized_by_kind": dict(self.quantized_by_kind),
            "packed_rows": self.packed,
            "flash_bytes": None if self.sizes is None else self.sizes.flash,
            "ram_bytes": self.ram_bytes,
            "scratch_bytes": self.scratch_bytes,
            "sections": None if self.sizes is None else _sections(self.sizes),
            "functions": {} if self.sizes is None else dict(self.sizes.functions),
            "objects": {} if self.sizes is None else dict(self.sizes.objects),
            "checks_flash_bytes": dict(self.checks_flash),
            "instructions": self._counted("instructions"),
            "cycles": self._counted("cycles"),
            "constant_time": {"sums": self.constant_time},
            "contradiction": self.contradiction,
            "stack_bytes": {name: cost.stack_bytes for name, cost in self.costs.items()},
            "sources": dict(self.sources),
            "searched": {kind: {**vars(tally), "missing": tally.missing} for kind, tally in self.searched.items()},
            "proof": None if self.proof is None else self.proof.as_dict(),
        }

    def _claims(self, function: str) -> bool:
        return self.constant_time and function == "sums"

    def _counted(self, unit: str) -> dict[str, Any]:
        return {name: _range(cost) for name, cost in self.costs.items() if cost.unit == unit}

    def as_text(self) -> str:
        """A summary that a person reads."""
        lines = [
            f"target       {self.target}, run as {self.core} on {self.runner}",
            f"compiler     {self.toolchain}",
            f"flags        {' '.join(self.flags)}",
            f"compared     {self.vectors:,} vectors: {_kinds(self.vectors_by_kind)}",
        ]
        if self.searched:
            lines.append(f"searched     {searched_text(self.searched)}")
        if self.quantized_by_kind:
            total = sum(self.quantized_by_kind.values())
            lines.append(f"quantized    {total:,} raw rows: {_kinds(self.quantized_by_kind)}")
        if self.packed:
            lines.append(f"packed       {self.packed:,} rows")
        if self.sizes is not None:
            lines.append(_sizes_line(self.sizes, self.scratch_bytes))
        for name, cost in self.costs.items():
            lines.append(_cost_line(name, cost, self.checks_flash.get(name), self._claims(name)))
        for name, added in self.checks_flash.items():
            if self.costs and name not in self.costs:
                lines.append(f"{name:<12} too long to be counted, adds {added:,} bytes of flash")
        if self.contradiction is not None:
            lines.append(f"contradicted {self.contradiction}")
        lines.append(f"mismatches   {self.mismatches:,}")
        if self.first_mismatch is not None:
            lines.append(self.first_mismatch.as_text())
        if self.proof is not None:
            lines.append(self.proof.as_text())
        return "\n".join(lines)


def _range(cost: Cost) -> dict[str, Any]:
    return {"min": cost.minimum, "max": cost.maximum, "constant": cost.constant, "rows": cost.rows}


def _sections(sizes: Footprint) -> dict[str, Any]:
    counted = {name: getattr(sizes, name) for name in ("code", "constants", "data", "bss")}
    return {**counted, "library_calls": list(sizes.library_calls)}


def _plain(value: Mismatch) -> dict[str, Any]:
    return {name: list(entry) if isinstance(entry, tuple) else entry for name, entry in vars(value).items()}


def _kinds(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in counts.items())


def searched_text(tallies: Mapping[str, Tally]) -> str:
    """Such as ``extremes 90 of 90, thresholds 88 of 90 (1 impossible, 1 not found)``."""
    return ", ".join(f"{kind.replace('_', ' ')} {_outcome(tally)}" for kind, tally in tallies.items())


def _outcome(tally: Tally) -> str:
    counts = {"impossible": tally.impossible, "not found": tally.missing}
    reasons = [f"{count} {why}" for why, count in counts.items() if count]
    return f"{tally.found} of {tally.wanted}" + (f" ({', '.join(reasons)})" if reasons else "")


def _sizes_line(sizes: Footprint, scratch: int) -> str:
    parts = f"{sizes.code:,} code, {sizes.constants:,} constants"
    line = f"flash        {sizes.flash:,} bytes ({parts}), RAM {sizes.ram + scratch:,} bytes"
    return line + (f", library calls: {', '.join(sizes.library_calls)}" if sizes.library_calls else "")


def _cost_line(name: str, cost: Cost, flash: int | None, claimed: bool) -> str:
    count = f"{cost.maximum:,}"
    if not cost.constant:
        count = f"{cost.minimum:,} to {count}"
    line = f"{name:<12} {count} {cost.unit}"
    if cost.rows > 1:
        counted = "the same" if cost.constant else "counted"
        line += f" ({counted} on {cost.rows} rows{', constant time by its structure' if claimed else ''})"
    if cost.stack_bytes is not None:
        line += f", {cost.stack_bytes:,} bytes of stack"
    return line if flash is None else f"{line}, adds {flash:,} bytes of flash"
