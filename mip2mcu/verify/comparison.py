"""Compares what compiled C computes with `Network`, by ``==``, in pieces of bounded size."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mip2mcu.errors import VerifyError
from mip2mcu.export.packing import words_for
from mip2mcu.export.program import ABI
from mip2mcu.network import Network
from mip2mcu.ranges import IntArray
from mip2mcu.verify.harness import Harness
from mip2mcu.verify.report import Mismatch
from mip2mcu.verify.vectors import Chunks

SAMPLE_ROWS = 16
"""Rows of each kind that are kept for counting instructions."""
_CHUNK_BYTES = 16 * 1024 * 1024


def chunk_rows(network: Network) -> int:
    """Rows a piece, so that a piece takes some megabytes wherever it is."""
    raw = 0 if network.quantizer is None else len(network.quantizer.features)
    widest = max(low.size for low, _ in network.layer_ranges)
    return max(16, min(16384, _CHUNK_BYTES // (8 * (widest + raw + network.inputs))))


@dataclass
class Comparison:
    """Running totals: mismatching rows, the first of them, rows compared by kind, and a few rows of each kind."""

    network: Network
    harness: Harness
    mismatches: int = 0
    first: Mismatch | None = None
    vectors: dict[str, int] = field(default_factory=dict)
    quantized: dict[str, int] = field(default_factory=dict)
    packed: int = 0
    input_sample: list[IntArray] = field(default_factory=list)
    raw_sample: list[IntArray] = field(default_factory=list)

    def compare_inputs(self, chunks: Chunks) -> None:
        """Compare sums, scores, class and margin, and the packing where inputs are packed."""
        for kind, inputs in chunks:
            start = self.vectors.get(kind, 0)
            sums = self.network.sums(inputs)
            results = self.harness.infer(inputs)
            expected = {
                "sums": sums,
                "scores": self.network.decision.scores(sums),
                "class": self.network.decision.predict(sums)[:, None],
                "margin": self.network.decision.margin(sums)[:, None],
                "status": np.zeros((len(inputs), 1), dtype=np.int64),
            }
            got = {
                "sums": results.sums,
                "scores": results.scores,
                "class": results.predicted[:, None],
                "margin": results.margin[:, None],
                "status": results.status[:, None],
            }
            if self.harness.description.input_packed:
                expected["pack"], got["pack"] = self.harness.elements(inputs), self.harness.pack(inputs)
                self.packed += len(inputs)
            self._note(kind, start, inputs, expected, got)
            if start == 0:
                self.input_sample.append(inputs[:SAMPLE_ROWS])
            self.vectors[kind] = start + len(inputs)

    def compare_raw(self, chunks: Chunks) -> None:
        """Compare what `quantize` makes of raw features."""
        for kind, raw in chunks:
            start = self.quantized.get(kind, 0)
            expected = self.harness.elements(self.network.quantize(raw))
            self._note(kind, start, raw, {"quantize": expected}, {"quantize": self.harness.quantize(raw)})
            if start == 0:
                self.raw_sample.append(raw[:SAMPLE_ROWS])
            self.quantized[kind] = start + len(raw)

    def run_checks(self) -> None:
        """A failing selftest counts as a mismatch of its own, and so does a failing check of the tables."""
        outcomes = {"selftest": self.harness.selftest()}
        if self.harness.program.has_check:
            outcomes["check"] = self.harness.check()
        for name, outcome in outcomes.items():
            if outcome != 0:
                self.mismatches += 1
                self.first = self.first or Mismatch(name, name, 0, (), (0,), (outcome,))

    def _note(
        self, kind: str, start: int, rows: IntArray, expected: dict[str, IntArray], got: dict[str, IntArray]
    ) -> None:
        wrong = {quantity: (expected[quantity] != got[quantity]).any(axis=1) for quantity in expected}
        any_wrong = np.logical_or.reduce(list(wrong.values()))
        if not any_wrong.any():
            return
        self.mismatches += int(any_wrong.sum())
        if self.first is None:
            k = int(np.argmax(any_wrong))
            quantity = next(name for name in expected if wrong[name][k])
            values = (rows[k], expected[quantity][k], got[quantity][k])
            self.first = Mismatch(quantity, kind, start + k, *(tuple(map(int, value)) for value in values))


def check_description(network: Network, harness: Harness, folder: str) -> None:
    """Refuse C that was generated for another model; ``folder`` says where it comes from."""
    d = harness.description
    if d.sha256 != network.sha256:
        raise VerifyError(
            f"the C in {folder} was generated from model {d.sha256[:12]}..., not from {network.sha256[:12]}...: "
            "export this model again"
        )
    raw = 0 if network.quantizer is None else len(network.quantizer.features)
    sums = network.layer_ranges[-1][0].size
    expected = {
        "abi": ABI,
        "inputs": network.inputs,
        "input_length": words_for(network.inputs) if d.input_packed else network.inputs,
        "classes": len(network.classes),
        "sums": sums,
        "scores": network.decision.scores(np.zeros((1, sums), dtype=np.int64)).shape[1],
        "raw_features": raw,
    }
    for name, value in expected.items():
        declared = getattr(d, name)
        if declared != value:
            raise VerifyError(f"the C in {folder} declares {name} {declared}, its model has {value}: export again")
