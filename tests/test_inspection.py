"""`inspect`: every layout of every layer, what the whole program would take with it, and why it was not chosen."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from mip2mcu.cli import main
from mip2mcu.errors import ExportError
from mip2mcu.export import ExportOptions, generate, inspect, planner
from mip2mcu.export.costs import Cost
from mip2mcu.export.layouts import LAYOUTS
from mip2mcu.layers import Activation, Dense
from tests.cnns import pen
from tests.layout_support import linear, network_of
from tests.test_planner import THREE, costs  # noqa: F401  (a fixture)

TERNARY = np.random.default_rng(3).integers(-1, 2, (4, 60))


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "tiny.json"
    linear(TERNARY).save(path)
    return path


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def row(inspection, name, layer=0):
    return next(row for row in inspection.layers[layer].rows if row.name == name)


def test_every_layout_has_a_row_with_its_figures_or_its_refusal(costs):  # noqa: F811
    costs(THREE)
    inspection = inspect(linear(TERNARY), "cortex-m0")
    assert {entry.name.partition("/")[0] for entry in inspection.layers[0].rows} == set(LAYOUTS)
    dense = row(inspection, "dense")
    assert (dense.flash, dense.ram, dense.instructions, dense.reads) == (300, 8, 1000, "values")
    assert row(inspection, "bit_planes").note == "takes binary inputs only, these lie in 0..255"


def test_the_choice_is_what_generate_takes_and_says_why(costs):  # noqa: F811
    costs(THREE)
    for goal in ("speed", "size", "balanced"):
        options = ExportOptions(optimize=goal)
        inspection, program = inspect(linear(TERNARY), "cortex-m0", options), generate(linear(TERNARY), options=options)
        chosen = inspection.layers[0].chosen
        assert chosen.name.partition("/")[0] == program.program.layers[0].lowered.layout
        assert chosen.note == inspection.reason == program.program.plan.reason


def test_other_layouts_are_compared_by_the_whole_program(costs):  # noqa: F811
    costs(THREE)
    inspection = inspect(linear(TERNARY), "cortex-m0", ExportOptions(optimize="speed"))
    assert row(inspection, "dense").note == "program: +900 % time, -600 bytes of flash, +8 of RAM"


def test_a_layer_takes_what_it_takes_in_the_program_that_it_is_compared_by(monkeypatch):
    """Straight-line code that writes bits, which the chosen next layer reads, would be huge: it would write values."""

    def cost(item, target):
        if item.key.startswith("unrolled"):
            return Cost(100, 5000 if "function bit" in item.statements else 50, 0)
        return Cost(1, 10, 0) if item.key.startswith(("bit_planes", "sparse")) else Cost(100, 100, 0)

    monkeypatch.setattr(planner, "cost", cost)
    hidden = Dense(np.eye(40, 60, dtype=int), np.zeros(40), Activation.SIGN)
    inspection = inspect(network_of(hidden, Dense(np.ones((2, 40), dtype=int), np.zeros(2))), "cortex-m0")
    assert inspection.layers[1].chosen.reads == "bits"
    assert row(inspection, "unrolled").flash == 50


def test_rows_are_sorted_by_time_and_refusals_come_last(costs):  # noqa: F811
    costs(THREE)
    rows = inspect(linear(TERNARY), "cortex-m0").layers[0].rows
    counts = [entry.instructions for entry in rows if entry.instructions is not None]
    assert counts == sorted(counts) and counts
    refused = [entry.flash is None for entry in rows]
    assert refused == sorted(refused)


def test_beyond_a_budget_the_tables_are_there_all_the_same(costs):  # noqa: F811
    costs(THREE)
    inspection = inspect(linear(TERNARY), "cortex-m0", ExportOptions(max_flash=9))
    assert inspection.refusal.startswith("the network does not fit 9 bytes of flash: the smallest that it can be is")
    assert row(inspection, "dense").note == "program of 300 bytes of flash, over --max-flash"
    assert inspection.layers[0].chosen is None


def test_a_named_layout_is_marked_so_and_the_others_too(costs):  # noqa: F811
    costs(THREE)
    inspection = inspect(linear(TERNARY), "cortex-m0", ExportOptions(layout="dense"))
    assert row(inspection, "dense").note == "named"
    assert row(inspection, "unrolled").note == "not the named dense"


def test_a_core_without_costs_says_so_plainly(costs):  # noqa: F811
    costs({})
    inspection = inspect(linear(TERNARY), "cortex-m33")
    assert (inspection.core, inspection.is_priced, inspection.instructions) == ("", False, None)
    assert row(inspection, "dense").instructions is None
    assert inspection.reason == "smallest tables, slow codes of variable length left out"


def test_inner_layers_hold_their_inputs_in_ram_and_convolutions_name_their_pool():
    hidden = Dense(np.ones((40, 60), dtype=int), np.zeros(40), Activation.SIGN)
    inspection = inspect(network_of(hidden, Dense(np.ones((2, 40), dtype=int), np.zeros(2))), "cortex-m4")
    assert row(inspection, "dense", 1).ram >= 40 and row(inspection, "bit_planes", 1).ram >= 8
    assert [layer.kind for layer in inspect(pen()).layers] == ["Conv2d, MaxPool", "Conv2d, AveragePool", "Dense"]


def test_every_core_has_a_name_for_what_predicts_it():
    network = linear(TERNARY)
    assert inspect(network, "avr").unit == "cycles"
    assert inspect(network, "host").core in ("", "cortex-m4")
    with pytest.raises(ExportError, match="there is no target 'z80'"):
        inspect(network, "z80")


# ---- the command ---------------------------------------------------------------------------------------------------


def test_the_command_prints_the_table_the_choice_and_its_source(model, costs):  # noqa: F811
    costs(THREE)
    text = run("inspect", model, "--target", "cortex-m").output
    assert "* sparse_delta8" in text
    assert "chosen: least flash times instructions" in text
    assert "choice          sparse_delta8: least flash times instructions" in text
    assert "costs           measured on cortex-m0, which stands for cortex-m" in text
    assert "takes convolutions only" not in text


def test_the_command_says_where_costs_were_not_measured(model, costs):  # noqa: F811
    costs({})
    text = run("inspect", model, "--target", "avr").output
    assert "predicted       at least" in text
    assert "costs           not measured on avr: flash is tables alone" in text


def test_json_has_the_same_for_programs(model):
    plan = json.loads(run("inspect", model, "--target", "cortex-m0", "--json").output)["plan"]
    assert plan["target"] == "cortex-m0"
    assert any(entry["is_chosen"] for entry in plan["layers"][0]["rows"])


def test_beyond_a_budget_the_command_shows_the_table_and_ends_with_status_2(model):
    result = run("inspect", model, "--target", "cortex-m0", "--max-flash", "9")
    assert result.exit_code == 2
    assert "over --max-flash" in result.output and "the smallest that it can be is predicted as" in result.output


def test_options_without_a_core_are_refused(model):
    result = run("inspect", model, "--optimize", "size")
    assert (result.exit_code, "name one with --target" in result.output) == (2, True)


# ---- the same options of export and verify -------------------------------------------------------------------------


def test_export_refuses_what_is_over_budget_and_writes_nothing(model, tmp_path):
    result = run("export", model, "--out", tmp_path / "c", "--max-flash", "9")
    assert result.exit_code == 2
    assert "the smallest that it can be is predicted as" in result.output and "Traceback" not in result.output
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("size", ["-1", "1.5", "x", "4kb", "", "99999999999999"])
def test_sizes_that_are_none_are_refused(size, model):
    assert run("export", model, f"--max-flash={size}").exit_code == 2


def test_sizes_beyond_what_is_taken_name_the_largest(model):
    for size in ("9" * 23, "1099511627777", "1073741825k"):
        result = run("export", model, f"--max-ram={size}")
        assert result.exit_code == 2
        assert f"'{size}' is too large: give at most 1099511627776 bytes" in result.output


def test_sizes_may_be_given_in_units_of_1024(model, tmp_path):
    assert run("export", model, "--out", tmp_path / "c", "--max-flash", "8k", "--max-ram", "1K").exit_code == 0


def test_export_takes_layouts_by_name_and_number(model, tmp_path):
    answer = json.loads(run("export", model, "--out", tmp_path / "c", "--layout", "0=csr8", "--json").output)
    assert answer["layouts"] == ["csr8"]
    result = run("export", model, "--out", tmp_path / "c", "--layout", "bit_columns")
    assert result.exit_code == 2
    assert "bit_columns takes binary inputs only, these lie in 0..255; it can be dense, sparse_delta8" in result.output


def test_export_with_static_scratch(model, tmp_path):
    assert run("export", model, "--out", tmp_path / "c", "--static-scratch").exit_code == 0
    assert "tiny_input[TINY_INPUT_LENGTH]" in (tmp_path / "c" / "tiny.h").read_text()


def test_verify_takes_the_same_options(model):
    given = ("--target", "host", "--vectors", "20", "--layout", "unrolled", "--static-scratch", "--json")
    result = run("verify", model, *given)
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["ram_bytes"] >= 60


def test_verify_refuses_what_the_compiler_made_too_large(model, costs):  # noqa: F811
    costs({})  # tables alone are predicted, so the budget is found to be exceeded only when the C is compiled
    least = inspect(linear(TERNARY), "host", ExportOptions(optimize="size")).flash
    result = run("verify", model, "--target", "host", "--vectors", "20", "--max-flash", least)
    assert result.exit_code == 2
    assert f"bytes of flash, beyond the {least} allowed" in result.output


def test_verify_refuses_layouts_for_c_that_exists(model, tmp_path):
    assert run("export", model, "--target", "host", "--out", tmp_path / "c").exit_code == 0
    given = ("verify", model, "--target", "host", "--vectors", "20", "--source", tmp_path / "c")
    assert run(*given, "--max-flash", "60k").exit_code == 0
    result = run(*given, "--layout", "dense")
    assert (result.exit_code, "leave out the options of export, or --source" in result.output) == (2, True)
