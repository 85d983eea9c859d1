"""The cost model: what it predicts, what of, and that its tables are the fit's and nobody else's."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec

import pytest

from benchmarks.fit_costs import render
from benchmarks.kernel_tasks import network_task
from benchmarks.measure import Model, measure_models
from mip2mcu.errors import ExportError
from mip2mcu.export import TARGETS, ExportOptions, generate, inspect
from mip2mcu.export.cost_table import CORES, FOLDER, costs_on, read_table
from mip2mcu.export.costs import Cost, Item, core_of, cost, taken_by
from mip2mcu.export.program import planning
from tests.cnns import lenet, pen
from tests.conftest import require

WITHIN = 0.1
"""Share by which a prediction may miss the count."""

PROGRAMS = {
    "64 inputs, ternary, a quarter": (64, 0.25, "ternary", "8-bit"),
    "64 inputs, bits, binary weights": (64, 1.0, "ternary", "binary"),
    "64 inputs, few levels, a tenth": (64, 0.1, "few", "8-bit"),
    "64 inputs, int8": (64, 1.0, "many", "8-bit"),
    "784 inputs, bits, few levels": (784, 0.5, "few", "binary"),
}


# ---- the files -----------------------------------------------------------------------------------------------------


def text_of(core):
    return (FOLDER / f"{core}.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("core", CORES)
def test_the_fit_writes_exactly_these_files(core):
    text = text_of(core)
    assert render(core, costs_on(core), json.loads(text)["programs"]) == text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"class": 21.02', '"class": 21.03'),
        ('"class": 21.02', '"class": "21.02"'),
        ('"class": 21.02', '"class": NaN'),
        ('"class": 21.02, ', ""),
        ('"stack": 16', '"stack": -16'),
        ('"stack": 16', '"stock": 16'),
        ('"core": "avr"', '"core": "cortex-m0"'),
        ('"items": {', '"items": ['),
        ("{", ""),
    ],
)
def test_a_file_that_was_changed_is_refused_with_the_way_to_write_it(old, new):
    text = text_of("avr")
    assert old in text
    with pytest.raises(ExportError, match=r"cost table of avr is not as it was written: .* -m benchmarks.fit_costs"):
        read_table(text.replace(old, new, 1), "avr")


def test_a_file_is_the_same_with_other_line_ends():
    assert read_table(text_of("avr").replace("\n", "\r\n"), "avr") == costs_on("avr")


PREDICTIONS = {
    "cortex-m0": [(1101, 2115, 168), (6182, 894, 292)],
    "cortex-m4": [(742, 2255, 160), (3607, 1005, 316)],
    "rv32imc": [(855, 2479, 104), (4607, 1355, 340)],
    "rv32ec": [(890, 2508, 120), (117313, 1502, 344)],
    "avr": [(2223, 3323, 88), (31040, 1829, 224)],
}
"""Instructions, flash and RAM of a network with 64 inputs and of a small convolutional one; a new fit changes them."""


@pytest.mark.parametrize("core", PREDICTIONS)
def test_these_files_predict_these_figures(core):
    networks = (network_task(64, 0.25, "few", "8-bit").network, pen())
    options = ExportOptions()
    plans = [planning(network, TARGETS[core], options).plan(options) for network in networks]
    assert [(plan.instructions, plan.flash, plan.ram) for plan in plans] == PREDICTIONS[core]


# ---- predictions ---------------------------------------------------------------------------------------------------


def test_predictions_are_within_a_tenth_of_the_count_on_cortex_m0():
    require(shutil.which("arm-none-eabi-gcc") is not None, "arm-none-eabi-gcc is not installed")
    require(find_spec("unicorn") is not None, "unicorn is not installed")
    tasks = [network_task(*kind) for kind in PROGRAMS.values()]
    options = ExportOptions(optimize="speed")
    taken = measure_models([Model("cortex-m0", task.network, task.rows[:1], options) for task in tasks])
    missed = {
        name: entry.export.program.plan.instructions / entry.inference - 1
        for name, entry in zip(PROGRAMS, taken, strict=True)
    }
    assert {name: share for name, share in missed.items() if abs(share) > WITHIN} == {}


@pytest.mark.parametrize("target", CORES)
def test_every_layout_of_dense_layers_and_convolutions_has_a_cost(target):
    networks = [network_task(64, 0.25, *kind).network for kind in (("ternary", "binary"), ("few", "8-bit"))]
    for network in (*networks, pen()):
        inspection = inspect(network, target)
        assert inspection.is_priced and inspection.unpriced == ()
        possible = [row for layer in inspection.layers for row in layer.rows if row.flash is not None]
        assert [row.name for row in possible if row.instructions is None] == []


def test_convolutions_are_compared_by_what_they_take():
    """Two columns at a time are faster on a Cortex-M4, by a tenth for LeNet-5: 633,046 instructions were counted."""
    plan = generate(lenet(), "cortex-m4", options=ExportOptions(optimize="speed")).program.plan
    assert [candidate.layout for candidate in plan.candidates[:2]] == ["conv_dsp", "conv_dsp"]
    assert plan.instructions == pytest.approx(633_046, rel=WITHIN)


def test_targets_that_were_not_measured_are_predicted_as_one_that_was():
    assert core_of(TARGETS["cortex-m"]) == core_of(TARGETS["cortex-m0plus"]) == "cortex-m0"
    assert {core_of(target) for target in TARGETS.values()} == set(CORES)


def test_the_choice_is_the_same_every_time():
    network = network_task(64, 0.5, "few", "8-bit").network
    plans = [generate(network, "cortex-m4", options=ExportOptions(optimize="balanced")).program.plan for _ in range(2)]
    assert plans[0].as_dict() == plans[1].as_dict()
    assert [c.title for c in plans[0].candidates] == [c.title for c in plans[1].candidates]


TABLE = {
    "lists uint8_t": ({"call": 10.0, "unit sum": 5.0, "entry": 2.0}, {"function sum": 100.0}, 16),
    "lists uint32_t": ({"call": 99.0}, {}, 0),
}


def test_a_cost_is_turns_times_instructions_and_statements_times_bytes():
    item = Item("lists uint8_t", {"call": 1, "unit sum": 3, "entry": 20}, {"function sum": 1})
    assert taken_by(item, TABLE) == Cost(65.0, 100.0, 16)


def test_what_was_not_measured_is_taken_as_what_is_most_like_it():
    of_other_type = Item("lists int8_t", {"call": 1, "entry": 20}, {"function sum": 1})
    assert taken_by(of_other_type, TABLE) == Cost(50.0, 100.0, 16)
    with_other_end = Item("lists uint8_t", {"call": 1, "unit sign": 3}, {"function sign": 1})
    assert taken_by(with_other_end, TABLE) == Cost(25.0, 100.0, 16)


def test_nothing_is_said_of_code_that_is_like_none():
    assert taken_by(Item("magic uint8_t", {"call": 1}), TABLE) is None
    assert cost(Item("magic uint8_t", {"call": 1}), TARGETS["cortex-m0"]) is None
