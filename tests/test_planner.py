"""The planner: goals, budgets, what layers owe to each other, and refusals before the choice."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from mip2mcu.decisions import Argmax
from mip2mcu.errors import ExportError
from mip2mcu.export import TARGETS, ExportOptions, generate
from mip2mcu.export import planner as planner_module
from mip2mcu.export import program as program_module
from mip2mcu.export.costs import NOTHING, Cost
from mip2mcu.export.layouts import Encoding
from mip2mcu.export.program import planning
from mip2mcu.layers import Activation, Conv2d, Dense
from mip2mcu.network import Network
from tests.cnns import lenet
from tests.export_support import random_network
from tests.layout_support import linear

M0 = TARGETS["cortex-m0"]
TERNARY = np.random.default_rng(3).integers(-1, 2, (4, 60))


@pytest.fixture
def costs(monkeypatch):
    """Sets what the planner believes: (instructions, code bytes, stack) by the start of an item's key."""

    def believe(known: dict[str, tuple[float, float, int]], others: Cost | None = None):
        def cost(item, target):
            found = next((entry for start, entry in known.items() if item.key.startswith(start)), None)
            return others if found is None else Cost(*found)

        monkeypatch.setattr(planner_module, "cost", cost)
        monkeypatch.setattr(program_module, "cost", lambda item, target: NOTHING)

    return believe


def chosen(network, target="cortex-m0", **options):
    program = generate(network, target, options=ExportOptions(**options)).program
    return [layer.lowered.layout for layer in program.layers]


# ---- goals and budgets ---------------------------------------------------------------------------------------------


THREE = {"sparse.steps": (300, 100, 0), "unrolled": (100, 900, 0), "dense": (1000, 60, 8)}
"""Of 60 x 4 weights: tables of 240 bytes where dense, a byte a non-zero weight in gaps, none where unrolled."""


def test_each_goal_takes_what_it_prefers(costs):
    network = linear(TERNARY)
    costs(THREE)
    assert chosen(network, optimize="speed") == ["unrolled"]
    assert chosen(network, optimize="size") == ["sparse_delta8"]
    assert chosen(network, optimize="balanced") == ["sparse_delta8"]


def test_balance_is_the_product_of_flash_and_instructions(costs):
    costs({"sparse.steps": (300, 100, 0), "unrolled": (30, 0, 0)})
    assert chosen(linear(TERNARY), optimize="balanced") == ["unrolled"]


def test_within_a_budget_the_goal_decides(costs):
    costs(THREE)
    network = linear(TERNARY)
    unlimited = generate(network, "cortex-m0", options=ExportOptions(optimize="speed")).program.plan
    assert unlimited.reason == "fewest instructions"
    within = ExportOptions(optimize="speed", max_flash=unlimited.flash - 1)
    plan = generate(network, "cortex-m0", options=within).program.plan
    assert plan.lowered[0].layout == "sparse_delta8"
    assert plan.reason == f"fewest instructions within {unlimited.flash - 1} bytes of flash"


def test_beyond_a_budget_the_smallest_possible_size_is_named_and_then_taken(costs):
    costs(THREE)
    network = linear(TERNARY)
    least = generate(network, "cortex-m0", options=ExportOptions(optimize="size")).program.plan.flash
    smallest = f"the smallest that it can be is predicted as {least} bytes on cortex-m0"
    message = f"the network does not fit 9 bytes of flash: {smallest}; raise --max-flash or train a smaller network"
    with pytest.raises(ExportError, match=message):
        chosen(network, optimize="speed", max_flash=9)
    assert chosen(network, optimize="speed", max_flash=least) == ["sparse_delta8"]


def test_the_smallest_size_in_a_named_layout_is_that_layouts(costs):
    costs(THREE)
    with pytest.raises(ExportError, match=r"the layouts that were named is predicted as 300 .* name other layouts or"):
        chosen(linear(TERNARY), layout="dense", max_flash=299)


def test_the_reason_is_the_goal_but_for_layers_whose_layout_was_named(costs):
    costs(THREE, Cost(100, 100, 0))

    def reason(network, **options):
        return generate(network, "cortex-m0", options=ExportOptions(**options)).program.plan.reason

    assert reason(two_layers()) == "least flash times instructions"
    assert reason(two_layers(), layout="auto") == "least flash times instructions"
    assert reason(two_layers(), layout="dense") == "named"
    assert reason(two_layers(), layout="1=dense", optimize="speed") == "fewest instructions, layer 1 named"


def test_a_budget_of_ram_counts_tensors_and_stack(costs):
    hidden = Dense(np.ones((40, 60), dtype=int), np.zeros(40), Activation.SIGN)
    last = Dense(np.ones((2, 40), dtype=int), np.zeros(2))
    network = Network(np.zeros(60), np.full(60, 255), (hidden, last), Argmax(2), ("a", "b"))
    costs({"bit_planes": (900, 0, 100)}, Cost(100, 0, 10))
    values = generate(network, "cortex-m0", options=ExportOptions(optimize="speed")).program.plan
    assert values.ram == 40 + 10 + 2 * 4
    with pytest.raises(ExportError, match="bytes of RAM: the smallest that it can be is predicted as 58 bytes"):
        chosen(network, optimize="speed", max_ram=57)


def test_both_budgets_must_hold_at_once(costs):
    costs({"sparse.steps": (300, 100, 50), "dense": (1000, 900, 8)})
    with pytest.raises(ExportError, match=r"smallest that it can be within 400 bytes of flash is predicted as 66 "):
        chosen(linear(TERNARY), max_flash=400, max_ram=65)


def test_static_memory_holds_the_inputs_too(costs):
    costs(THREE)
    given = [ExportOptions(layout="dense", static_scratch=static) for static in (False, True)]
    own, static = (generate(linear(TERNARY), "cortex-m0", options=options).program.plan.ram for options in given)
    assert static - own == 60


def test_unknown_costs_are_said_where_a_budget_is_refused(costs):
    costs({})
    with pytest.raises(ExportError, match="on cortex-m0 of tables alone, what code takes there is not known"):
        chosen(linear(TERNARY), max_flash=9)


def test_without_costs_the_smallest_tables_win_and_slow_codes_only_where_flash_is_short(costs):
    costs({})
    weights = np.random.default_rng(0).integers(-1, 2, (16, 784)) * (np.random.default_rng(1).random((16, 784)) < 0.15)
    network = linear(weights)
    assert chosen(network) == ["sparse_delta8"]
    assert chosen(network, optimize="size") == ["compressed"]
    least = generate(network, "cortex-m0", options=ExportOptions(optimize="size")).program.plan.flash
    assert chosen(network, max_flash=least) == ["compressed"]


def test_layouts_of_unknown_cost_are_left_where_others_are_known(costs):
    costs({"dense": (1000, 60, 8)})
    assert chosen(linear(TERNARY), optimize="speed") == ["dense"]


def test_tables_of_requantisation_are_part_of_the_flash():
    network = lenet()
    program = generate(network, "cortex-m4").program
    assert program.plan.flash >= program.table_bytes


# ---- layers together -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("goal", ["speed", "size", "balanced"])
@pytest.mark.parametrize("seed", range(8))
def test_no_chain_is_better_than_the_one_that_was_planned(seed, goal, monkeypatch):
    rng = np.random.default_rng(seed)
    figures: dict[str, Cost] = {}

    def cost(item, target):
        return figures.setdefault(item.key + str(sorted(item.turns)), Cost(*rng.integers(1, 2000, 2), 0))

    monkeypatch.setattr(planner_module, "cost", cost)
    options = ExportOptions(optimize=goal)
    allowed = planning(random_network(seed), M0, options)
    figure = {
        "speed": lambda plan: plan.instructions,
        "size": lambda plan: plan.flash,
        "balanced": lambda plan: plan.instructions * plan.flash,
    }[goal]
    best = figure(allowed.plan(options))
    possible = [[c for c in surveyed if c.lowered is not None][:7] for surveyed in allowed.surveyed]
    for chain in list(product(*possible))[:300]:
        forced = [[candidate] for candidate in chain]
        assert best <= figure(planner_module.plan_layouts(allowed.tasks, forced, options, allowed.fixed)) + 1


def test_what_packing_costs_can_decide_the_first_layout(costs):
    network = linear(TERNARY, high=1)
    costs({"bit_planes": (100, 50, 0), "sparse.steps": (150, 50, 0), "pack": (10, 0, 0)})
    assert chosen(network, optimize="speed") == ["bit_planes"]
    costs({"bit_planes": (100, 50, 0), "sparse.steps": (150, 50, 0), "pack": (70, 0, 0)})
    assert chosen(network, optimize="speed") == ["sparse_delta8"]


def test_predicted_ram_is_what_the_scratch_plan_takes(costs):
    costs({}, NOTHING)
    for network in (lenet(), *(random_network(seed) for seed in range(12))):
        program = generate(network, "cortex-m4").program
        held = 4 * (program.sums + (program.decision.scores if program.decision.members else 0))
        assert program.plan.ram == program.scratch.bytes + held


# ---- named layouts -------------------------------------------------------------------------------------------------


def two_layers():
    hidden = Dense(np.ones((8, 20), dtype=int), np.zeros(8), Activation.SIGN)
    return Network(np.zeros(20), np.full(20, 255), (hidden, Dense(np.eye(2, 8), [0, 0])), Argmax(2), ("a", "b"))


def test_layouts_are_named_for_all_layers_in_order_or_by_number():
    assert chosen(two_layers(), layout="dense") == ["dense", "dense"]
    assert chosen(two_layers(), layout="sparse_index8, dense") == ["sparse_index8", "dense"]
    assert chosen(two_layers(), layout="1=unrolled,dense") == ["dense", "unrolled"]
    assert chosen(two_layers(), layout="0=sparse_index16")[0] == "sparse_index16"


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("2=dense", "a layout is named for layer 2, the network has layers 0 to 1"),
        ("dense,dense,dense", "a layout is named for layer 2, the network has layers 0 to 1"),
        ("x=dense", "'x=dense' names no layout of a layer: write NAME, or LAYER=NAME such as 0=dense"),
        ("0=", "'0=' names no layout of a layer: write NAME, or LAYER=NAME such as 0=dense"),
        ("dense,", "'' names no layout of a layer: write NAME, or LAYER=NAME such as 0=dense"),
        ("0=dense,0=csr8", "two layouts are named for layer 0, dense and csr8"),
        ("dense/tiny", "no kind 'tiny' of layout dense: choose dense/fast or dense/compact"),
        ("spiral", "no layout 'spiral': choose one of bit_planes"),
        ("1=conv", r"layer 1 \(Dense\) fits no layout .*: conv takes convolutions only; it can be bit_planes, dense"),
        ("ternary2,bit_columns", r"bit_columns takes sign units only, these have .*; it can be bit_planes, dense"),
        (
            "0=bit_planes",
            r"layer 0 \(Dense\) .* bit_planes takes binary inputs only, these lie in 0..255; it can be dense, sparse",
        ),
    ],
)
def test_a_layout_that_cannot_be_is_refused_with_the_reason_and_those_that_can(layout, message):
    with pytest.raises(ExportError, match=message):
        chosen(two_layers(), layout=layout)


def test_a_dense_layout_by_number_is_refused_for_a_convolution():
    layers = (Conv2d(np.ones((1, 1, 2, 2), dtype=int), [0]), Dense(np.ones((2, 4), dtype=int), [0, 1]))
    network = Network(np.zeros(9), np.full(9, 9), layers, Argmax(2), ("a", "b"), (1, 3, 3))
    assert chosen(network, layout="dense") == ["conv", "dense"]
    with pytest.raises(ExportError, match=r"layer 0 \(Conv2d\) .* dense takes dense layers only; it can be conv$"):
        chosen(network, layout="0=dense")


def test_no_straight_line_code_where_none_is_allowed(costs):
    costs({"unrolled": (1, 0, 0)}, Cost(1000, 0, 0))
    assert chosen(linear(TERNARY), optimize="speed") == ["unrolled"]
    assert chosen(linear(TERNARY), optimize="speed", max_unroll_bytes=0) != ["unrolled"]


# ---- what a target can hold, before the choice ---------------------------------------------------------------------


def test_a_table_beyond_the_largest_array_leaves_the_layer_to_other_layouts(costs):
    costs({"dense": (1, 0, 0)}, Cost(1000, 0, 0))
    weights = np.zeros((200, 200), dtype=int)
    weights[:, ::10] = 1
    assert chosen(linear(weights), "cortex-m0", optimize="speed") == ["dense"]
    assert chosen(linear(weights), "avr", optimize="speed") != ["dense"]


def test_inputs_that_are_too_large_as_values_are_taken_as_bits():
    network = linear(np.eye(2, 33_000, dtype=int), high=1)
    (layer,) = generate(network, "avr").program.layers
    assert layer.lowered.reads is Encoding.BITS
    with pytest.raises(ExportError, match=r"dense needs .* bytes, an array of avr has at most 32767; it can be bit"):
        generate(network, "avr", layout="dense")


def test_layers_share_what_avr_can_read_of_constants(costs):
    """Each of three layers fits alone where dense; together two of them must take a smaller layout."""
    costs({"dense": (1, 0, 0)}, Cost(1000, 0, 0))
    rng = np.random.default_rng(0)
    layers = []
    for units, inputs in ((160, 160), (160, 160), (160, 160)):
        weights = rng.integers(-1, 2, (units, inputs)) * (rng.random((units, inputs)) < 0.1)
        layers.append(Dense(weights, np.zeros(units), Activation.SIGN))
    layers.append(Dense(np.ones((2, 160), dtype=int), [0, 0]))
    network = Network(np.zeros(160), np.full(160, 255), tuple(layers), Argmax(2), ("a", "b"))
    assert chosen(network, "cortex-m0", optimize="speed") == ["dense"] * 4
    layouts = chosen(network, "avr", optimize="speed")
    assert sorted(layout == "dense" for layout in layouts) == [False, True, True, True]


def test_an_order_of_additions_that_overflows_leaves_the_layer_to_another_layout():
    """Inputs in 100..200: the sum reaches 2**31 - 1, but beyond it where the positive weight comes first."""
    network = linear([[-1, 1]], bias=[2**31 - 1 - 100], low=100, high=200)
    assert chosen(network, layout="dense") == ["dense"]
    with pytest.raises(ExportError, match=r"^a partial sum of layer 0 can reach \d+..2147483747, beyond int32_t"):
        chosen(network, layout="sparse_delta8")
    assert chosen(network)
