"""A hundred thousand vectors: one model of each kind, each on another core that pip can emulate."""

import pytest

from benchmarks.nightly import CORES, MODELS, models
from benchmarks.results import load
from mip2mcu.verify import verify
from tests.fuzzing import require_target

NETWORKS = models()
TARGETS_IN_TURN = ("host", "cortex-m0", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "rv32imc", "rv32ec")


@pytest.mark.parametrize(("model", "target"), list(zip(MODELS, TARGETS_IN_TURN, strict=True)))
def test_nothing_differs_on_12500_vectors(model, target):
    require_target(target)
    report = verify(NETWORKS[model], target, vectors=12_500)
    assert (report.mismatches, report.first_mismatch, report.vectors) == (0, None, 12_500)


def test_the_committed_night_met_its_bars():
    rows = load("nightly")
    assert [row.value for row in rows if row.metric == "mismatches"] == [0]
    barred = [row for row in rows if row.bar and row.metric != "mismatches"]
    assert {row.task for row in barred} == {"all", *CORES}
    assert all(row.value >= int(row.bar.replace(",", "")) for row in barred)
