"""The benchmark of kernels: arithmetic of its bars, its tables, and one network through all of it."""

from __future__ import annotations

import shutil
from importlib.util import find_spec

import numpy as np
import pytest

from benchmarks import kernels, results
from benchmarks.kernel_bars import SIZE, SPEED
from benchmarks.kernel_parts import bars_table
from benchmarks.kernel_tasks import WEIGHTS, entropy_bytes, layer_tasks, network_task, network_tasks
from benchmarks.kernels import beside_others, grid_rows, layout_choices, summary_rows
from benchmarks.readme import PARTS
from benchmarks.results import FOLDER, Row
from tests.conftest import require

TASK = "64-16-10, weights -1..1, 25 % of weights, 8-bit inputs"


def _row(metric: str, value: float, unit: str, references: dict[str, float], bar: str = "", task: str = TASK) -> Row:
    return Row(f"{task}, cortex-m0", metric, value, unit, "lower", references, bar)


def test_entropy_of_half_zeros_and_quarters_is_a_bit_and_a_half():
    assert entropy_bytes(np.array([[0, 0, 1, -1]] * 8)) == 6.0


def test_the_layer_with_known_figures_has_880_bytes_of_entropy():
    layer = layer_tasks()[0].network.layers[0]
    assert np.count_nonzero(layer.weights) == 1232
    assert round(entropy_bytes(layer.weights)) == 880


def test_the_grid_has_every_shape_density_and_kind_once():
    names = [task.name for task in network_tasks()]
    assert len(names) == len(set(names)) == 2 * 4 * len(WEIGHTS) * 2
    assert TASK in names


def test_summary_compares_the_choice_with_the_best_layout_and_not_with_other_programs():
    rows = [
        _row("instructions for --optimize speed (dense)", 110, "instructions", {"predicted": 99, "csr8/fast": 100,
             "plain int8 loop": 50}),
        _row("flash for --optimize size (dense)", 206, "B", {"predicted": 200, "speed": 400, "csr8/compact": 200}),
    ]  # fmt: skip
    found = {row.metric: row.value for row in summary_rows(rows, ["cortex-m0"])}
    assert list(found.values()) == [10.0, 3.0, 10.0, 10.0]


def test_a_choice_that_nothing_measured_beats_is_the_best():
    rows = [
        _row("instructions for --optimize speed (dense)", 100, "instructions", {"predicted": 100, "csr8/fast": 120}),
        _row("flash for --optimize size (dense)", 200, "B", {"predicted": 200}),
    ]
    assert [row.value for row in summary_rows(rows, ["cortex-m0"])] == [0.0, 0.0, 0.0, 0.0]


def test_the_table_of_bars_shows_the_worst_figure_of_each_core():
    layer = "784 -> 16 ternary, 1,232 weights"
    rows = [
        _row("csr8, instructions", 900, "instructions", {"CSR": 1000}, "<= 1,050", layer),
        _row("dense, instructions", 500, "instructions", {"int8": 1000}, "<= 1,050", layer),
        _row("dense, bytes of weights", 1000, "B", {"int8": 1000}, "<= 1,050", layer),
        _row("speed over the best dense int8 code", 8.46, "x", {"dense": 9}, ">= 8", layer),
        _row("flash for --optimize size (dense)", 510, "B", {"best known": 500}, "<= 500", "64-16-10, int8"),
    ]
    lines = bars_table(rows).splitlines()
    cells = [line.removesuffix(" |").split(" | ")[1] for line in lines[2:]]
    assert lines[0] == "| bar | Cortex-M0 |"
    assert cells == ["0.90", "1.00", "", "8.5", "", "1.02", "", "", ""]


def test_a_run_for_one_core_keeps_the_results_of_others(monkeypatch, tmp_path):
    for module in (kernels, results):
        monkeypatch.setattr(module, "FOLDER", tmp_path)
    rows = {core: Row(f"{TASK}, {core}", "flash", k, "B") for k, core in enumerate(("avr", "cortex-m0", "rv32ec"))}
    results.store("kernels", [rows["avr"], rows["cortex-m0"], Row("64-16-10 in other generators", "m2cgen", "no", "")])
    again = Row(f"{TASK}, cortex-m0", "flash", 9, "B")
    assert beside_others([again, rows["rv32ec"]], ["cortex-m0", "rv32ec"]) == [again, rows["rv32ec"], rows["avr"]]


def test_the_committed_figures_make_the_readme_s_tables():
    assert {"kernels", "kernel bars"} <= set(PARTS)
    if (FOLDER / "kernels.json").exists():
        assert "Cortex-M" in PARTS["kernels"]()
        assert "Cortex-M" in PARTS["kernel bars"]()


def test_the_planner_and_its_nearest_rivals_are_measured():
    choices = layout_choices(network_task(64, 0.25, "ternary", "8-bit"), "cortex-m0", 1)
    assert list(choices)[:2] == ["speed", "size"]
    assert "dense/fast" in choices
    fastest = next(name for name in choices if name.endswith("/fast"))
    assert choices["speed"] is SPEED
    assert choices["size"] is SIZE
    assert choices[fastest].layout in (None, f"{fastest},auto")


@pytest.fixture(scope="module")
def tools():
    require(find_spec("unicorn") and find_spec("elftools"), "unicorn and pyelftools count instructions")
    require(shutil.which("arm-none-eabi-gcc"), "arm-none-eabi-gcc is not installed")


def test_a_network_is_measured_beside_a_plain_loop(tools, tmp_path):
    task = network_task(64, 0.25, "ternary", "8-bit")
    known = tmp_path / "known.jsonl"
    rows = grid_rows([task], ["cortex-m0"], known, most=1, workers=1)
    assert [row.unit for row in rows] == ["instructions", "B", "B"]
    assert rows[0].task == f"{TASK}, cortex-m0"
    assert rows[0].value < rows[0].references["dense/fast"] < rows[0].references["plain int8 loop"]
    assert rows[1].value < rows[1].references["dense/fast"]
    assert grid_rows([task], ["cortex-m0"], known, most=1, workers=1) == rows
    assert len(summary_rows(rows, ["cortex-m0"])) == 4
