"""`generate` and `export`: what they refuse, what they write, what they decide."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from mip2mcu.decisions import Argmax, Sign, Vote
from mip2mcu.errors import ExportError
from mip2mcu.export import export, generate
from mip2mcu.layers import Activation, Conv2d, Dense, MaxPool
from mip2mcu.network import Network


def linear(weights, bias=None, low=0, high=255, decision=None) -> Network:
    weights = np.array(weights)
    units, inputs = weights.shape
    decision = decision or Argmax(units)
    bias = np.zeros(units) if bias is None else np.array(bias)
    classes = tuple(f"c{c}" for c in range(decision.classes))
    return Network(np.full(inputs, low), np.full(inputs, high), (Dense(weights, bias),), decision, classes)


def layouts(network, **options):
    return [layer.lowered.layout for layer in generate(network, **options).program.layers]


# ---- decisions about layouts and types -----------------------------------------------------------------------------


def test_wide_weights_on_eight_bit_inputs_are_dense():
    assert layouts(linear([[99, -77, 50, 13], [-8, 101, -3, 64]])) == ["dense"]


def test_binary_inputs_with_few_bits_a_weight_are_planes():
    assert layouts(linear(np.ones((16, 640), dtype=int), high=1)) == ["bit_planes"]


def test_wide_weights_on_few_binary_inputs_are_dense_because_that_is_smaller():
    assert layouts(linear([[99, -77, 50, 13], [-8, 101, -3, 64]], high=1)) == ["dense"]


def test_inputs_of_planes_are_packed_words():
    program = generate(linear(np.ones((2, 40), dtype=int), high=1), layout="bit_planes").program
    assert (program.packed, program.input.c_type, program.input.length) == (True, "uint32_t", 2)


def test_sign_units_are_packed_for_planes_and_bytes_for_dense_weights():
    hidden = Dense(np.ones((40, 4)), np.zeros(40), Activation.SIGN)
    wide = np.random.default_rng(0).integers(100, 128, (2, 40))
    for last, encoding in ((np.ones((2, 40)), "bits"), (wide, "values")):
        network = Network(np.zeros(4), np.full(4, 9), (hidden, Dense(last, np.zeros(2))), Argmax(2), ("a", "b"))
        layout = "dense,bit_planes" if encoding == "bits" else "dense"
        assert generate(network, layout=layout).program.layers[0].output.encoding.value == encoding


def test_one_plane_for_binary_weights_two_for_ternary():
    for weights, tables in (([1, -1] * 16, 4), ([1, 0] * 16, 8)):
        layer = generate(linear([weights], high=1, decision=Sign()), layout="bit_planes").program.layers[0]
        assert layer.details.planes.bytes == tables


@pytest.mark.parametrize(
    ("weight", "inputs", "target", "c_type"),
    [(1, 100, "cortex-m", "int32_t"), (1, 100, "generic", "int16_t"), (2, 100, "generic", "int32_t")],
)
def test_accumulators_are_as_narrow_as_the_target_gains_from(weight, inputs, target, c_type):
    network = linear([[weight] * inputs], decision=Sign())
    assert generate(network, target, layout="dense").program.layers[0].lowered.sum_type == c_type


def test_weights_beyond_int8_take_int16_tables():
    for least, c_type in ((-128, "int8_t"), (-129, "int16_t")):
        program = generate(linear([[127, least]], decision=Sign()), layout="dense").program
        assert program.tables[0].c_type == c_type


def test_equal_biases_need_no_table():
    program = generate(linear([[1, 2], [3, 4]], [7, 7]), layout="dense").program
    assert [table.name for table in program.tables] == ["layer0_weights"]


def test_partial_sums_not_only_totals_decide_the_range():
    layer = generate(linear([[100, -100]], high=10, decision=Sign()), layout="dense").program.layers[0]
    assert (layer.lowered.sum_low, layer.lowered.sum_high) == (-1000, 1000)


# ---- refusals ------------------------------------------------------------------------------------------------------


def test_a_sum_beyond_int32_is_refused_with_the_numbers():
    with pytest.raises(ExportError, match=r"layer 0 can reach 2147483393\.\.2147483648, beyond int32_t"):
        generate(linear([[1]], [2**31 - 255], decision=Sign()))


def test_a_partial_sum_beyond_int32_is_refused_even_if_the_total_fits():
    network = linear([[1, -1]], [2**31 - 256], decision=Sign())
    generate(network)
    network = linear([[1, -1]], [2**31 - 255], decision=Sign())
    with pytest.raises(ExportError, match="2147483648, beyond int32_t"):
        generate(network)


def test_a_layout_that_would_overflow_on_its_way_leaves_the_layer_to_others():
    network = linear([[-1, 1]], [2**31 - 151], low=100, high=200)
    with pytest.raises(ExportError, match=r"layer 0 can reach 2147483397\.\.2147483697, beyond int32_t"):
        generate(network, layout="sparse_index8")  # positive weights come first
    assert generate(network, layout="dense").program.layers[0].lowered.sum_high == 2**31 - 51
    assert generate(network)


def test_a_difference_of_scores_beyond_int32_is_refused():
    with pytest.raises(ExportError, match=r"the difference of two scores can reach 0\.\.3000000255, beyond int32_t"):
        generate(linear([[1], [1]], [-1_500_000_000, 1_500_000_000]))


def test_the_absolute_value_of_the_least_int32_is_refused():
    with pytest.raises(ExportError, match=r"the margin can reach 0\.\.2147483648"):
        generate(linear([[1]], [-(2**31)], decision=Sign()))


def test_a_strength_beyond_int32_is_refused_only_where_ties_go_by_margin():
    weights, bias = [[1]] * 3, [2_000_000_000] * 3
    generate(linear(weights, bias, decision=Vote(3)))
    with pytest.raises(ExportError, match=r"strength of a class can reach -4000000510\.\.4000000510, beyond"):
        generate(linear(weights, bias, decision=Vote(3, 2, True)))


def test_a_forced_layout_leaves_convolutions_and_pools_to_theirs():
    layers = (
        Conv2d(np.ones((2, 1, 3, 3)), np.zeros(2), activation=Activation.SIGN),
        MaxPool((2, 2), (1, 1)),
        Dense(np.ones((2, 18)), np.zeros(2)),
    )
    network = Network(np.zeros(36), np.ones(36), layers, Argmax(2), ("a", "b"), input_shape=(1, 6, 6))
    assert layouts(network, layout="dense") == ["conv", "pool", "dense"]


def test_a_forced_layout_that_does_not_fit_says_why():
    with pytest.raises(ExportError, match=r"bit_planes takes binary inputs only, these lie in 0\.\.255"):
        generate(linear([[1, -1]], decision=Sign()), layout="bit_planes")


def test_an_unknown_layout_is_refused_with_the_known_ones():
    with pytest.raises(ExportError, match="no layout 'spiral': choose one of bit_planes, dense"):
        generate(linear([[1, -1]], decision=Sign()), layout="spiral")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "no C identifier"),
        ("2fast", "no C identifier"),
        ("a-b", "no C identifier"),
        ("größe", "no C identifier"),
        ("a\n", "no C identifier"),
        ("../evil", "no C identifier"),
        ("_model", "reserved in C and C\\+\\+"),
        ("my__model", "reserved in C and C\\+\\+"),
        ("while", "keyword"),
        ("Namespace", "keyword"),
        ("uint8_t", "standard library"),
        ("int_fast16_t", "standard library"),
        ("stdint", "standard library"),
        ("m" * 64, "at most 63"),
    ],
)
def test_names_that_c_cannot_bear_are_refused(name, reason):
    with pytest.raises(ExportError, match=f"{reason}.*: choose a.* --name"):
        generate(linear([[1, -1]], decision=Sign()), name=name)


@pytest.mark.parametrize("name", ["layer0", "selftest", "quantizer0", "count", "A", "iris_2"])
def test_names_that_resemble_internal_ones_are_exact_all_the_same(name, tmp_path):
    from tests.export_support import assert_equal_to_network, compile_host, random_rows

    network = linear(np.eye(3, dtype=int), decision=Vote(3, 2, True))
    (compiled,) = compile_host([generate(network, "host", name)], tmp_path)
    assert_equal_to_network(compiled, network, random_rows(network, 20, np.random.default_rng(0)))


# ---- files ---------------------------------------------------------------------------------------------------------


def test_export_writes_three_files_and_makes_the_folder(tmp_path):
    result = export(linear([[1, -1]], decision=Sign()), "cortex-m", tmp_path / "out", "digits")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["README.md", "digits.c", "digits.h"]
    assert (tmp_path / "out" / "digits.c").read_text() == result.files["digits.c"]


def test_generated_files_are_replaced(tmp_path):
    export(linear([[1, -1]], decision=Sign()), "cortex-m", tmp_path, "digits")
    result = export(linear([[1, -2]], decision=Sign()), "cortex-m0", tmp_path, "digits")
    assert (tmp_path / "digits.h").read_text() == result.files["digits.h"]


@pytest.mark.parametrize("file_name", ["digits.h", "digits.c", "README.md"])
def test_a_foreign_file_is_never_replaced_and_nothing_is_written(file_name, tmp_path):
    (tmp_path / file_name).write_text("# My notes on code Generated by mip2mcu for the target cortex-m\n")
    with pytest.raises(ExportError, match=f"{file_name} is in the way and was not generated by mip2mcu"):
        export(linear([[1, -1]], decision=Sign()), "cortex-m", tmp_path, "digits")
    assert [p.name for p in tmp_path.iterdir()] == [file_name]
    assert (tmp_path / file_name).read_text().startswith("# My notes")


def test_a_folder_in_the_way_is_refused(tmp_path):
    (tmp_path / "digits.c").mkdir()
    with pytest.raises(ExportError, match=r"digits\.c: it is a folder"):
        export(linear([[1, -1]], decision=Sign()), "cortex-m", tmp_path, "digits")
    assert [p.name for p in tmp_path.iterdir()] == ["digits.c"]


def test_a_missing_parent_folder_is_refused(tmp_path):
    with pytest.raises(ExportError, match=r"the folder .*missing does not exist, create it first"):
        export(linear([[1, -1]], decision=Sign()), "cortex-m", tmp_path / "missing" / "out", "digits")
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_the_folder_should_be_is_refused(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ExportError, match="it is a file, name a folder"):
        export(linear([[1, -1]], decision=Sign()), "cortex-m", tmp_path / "out", "digits")


def test_a_path_that_the_system_refuses_is_a_clear_error(tmp_path):
    with pytest.raises(ExportError, match="cannot write into"):
        export(linear([[1, -1]], decision=Sign()), "cortex-m", tmp_path / ("x" * 300), "digits")


def test_importing_export_imports_no_solver():
    code = "import sys, mip2mcu.export; sys.exit(any(m.split('.')[0] in ('pyomo', 'highspy') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
