"""Targets: facts about each, C for each without a warning, and nothing needed from a library but products."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from mip2mcu.decisions import Argmax, Vote
from mip2mcu.errors import ExportError
from mip2mcu.export import TARGETS, Target, find_target, generate
from mip2mcu.export.flash import FlashReader
from mip2mcu.export.layouts import LAYOUTS
from mip2mcu.export.literals import Table
from mip2mcu.filters import Smooth
from mip2mcu.layers import Activation, AveragePool, Conv2d, Dense, MaxPool, Requantisation
from mip2mcu.network import Network
from mip2mcu.quantizer import Affine, Feature, Quantizer
from mip2mcu.verify.footprint import measure
from tests.conftest import require
from tests.export_support import compile_quietly, random_network, write

HELPERS = {
    "avr": {"__mulsi3", "__mulhisi3", "__umulhisi3", "__muluhisi3", "__mulshisi3", "__usmulhisi3"},
    "rv32ec": {"__mulsi3"},
}
"""The compiler's products, on cores that have no instruction for products of 32 bits."""


def test_every_target_is_found_by_its_own_name():
    assert [find_target(name).name for name in TARGETS] == list(TARGETS)


def test_the_families_are_those_that_runners_know():
    assert {target.family for target in TARGETS.values()} <= {"host", "arm", "avr", "riscv", "generic"}


def test_any_cortex_m_means_the_smallest():
    assert TARGETS["cortex-m"].gcc_flags == TARGETS["cortex-m0"].gcc_flags == ("-mcpu=cortex-m0", "-mthumb")


def test_clang_knows_cores_by_underscores():
    assert TARGETS["cortex-m4"].clang_flags == ("-target", "thumb-freestanding-eabi", "-mcpu=cortex_m4")


def test_indices_are_16_bits_where_int_is():
    assert (TARGETS["generic"].index_type, TARGETS["host"].index_type) == ("uint16_t", "uint32_t")


def test_a_target_of_ones_own_is_taken_as_it_is():
    own = Target("my-chip", "generic", "a chip")
    assert find_target(own) is own


def test_an_unknown_target_is_refused_with_the_known_ones():
    with pytest.raises(ExportError, match=r"no target 'cortex-m99': choose one of host, cortex-m, .*generic"):
        find_target("cortex-m99")


def test_every_target_of_a_small_core_is_there():
    assert list(TARGETS) == [
        "host", "cortex-m", "cortex-m0", "cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33",
        "cortex-m55", "avr", "rv32imc", "rv32ec", "generic",
    ]  # fmt: skip


def test_cores_have_what_their_architecture_has():
    assert [name for name, t in TARGETS.items() if t.has_dsp] == ["cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55"]
    assert [name for name, t in TARGETS.items() if t.has_vector] == ["cortex-m55"]
    assert [name for name, t in TARGETS.items() if not t.has_multiply] == ["avr", "rv32ec", "generic"]
    assert [name for name, t in TARGETS.items() if t.has_progmem] == ["avr"]


# ---- constants in flash --------------------------------------------------------------------------------------------


def entries(c_type):
    return Table("t", c_type, (1, 2))


@pytest.mark.parametrize(
    ("c_type", "read"),
    [
        ("uint8_t", "pgm_read_byte(&t[i])"),
        ("int8_t", "(int8_t)pgm_read_byte(&t[i])"),
        ("uint16_t", "pgm_read_word(&t[i])"),
        ("int16_t", "(int16_t)pgm_read_word(&t[i])"),
        ("uint32_t", "pgm_read_dword(&t[i])"),
        ("int32_t", "(int32_t)pgm_read_dword(&t[i])"),
    ],
)
def test_a_read_from_progmem_has_the_type_of_the_table(c_type, read):
    assert FlashReader(progmem=True).pick(entries(c_type), "i") == read
    assert FlashReader(progmem=False).pick(entries(c_type), "i") == "t[i]"


def test_a_constant_column_needs_no_read():
    assert FlashReader(progmem=True).pick("7U", "j") == "7U"


def test_a_pointer_into_progmem_is_read_without_taking_an_address():
    assert FlashReader(progmem=True).flash(entries("int16_t"), "*entry") == "(int16_t)pgm_read_word(entry)"


def test_every_table_of_the_avr_target_is_in_progmem():
    text = generate(random_network(3), "avr", "model").files["model.c"]
    tables = [line for line in text.splitlines() if line.startswith("static const")]
    assert tables
    assert all(line.endswith("] PROGMEM = {") for line in tables)
    assert "#include <avr/pgmspace.h>" in text


# ---- limits --------------------------------------------------------------------------------------------------------


def wide(inputs, units, weight=100):
    """One layer of random weights behind bits."""
    weights = np.random.default_rng(0).integers(-weight, weight + 1, (units, inputs))
    classes = tuple(f"c{c}" for c in range(units))
    return Network(np.zeros(inputs), np.full(inputs, 255), (Dense(weights, np.zeros(units)),), Argmax(units), classes)


def test_a_table_beyond_avrs_largest_array_is_refused():
    with pytest.raises(ExportError, match=r"needs a table of 33000 bytes, an array of avr has at most 32767"):
        generate(wide(1100, 30), "avr", layout="dense")


def test_constants_beyond_avrs_reach_are_refused():
    layers = tuple(
        Dense(np.random.default_rng(k).integers(-100, 101, (150, 150)), np.zeros(150), Activation.SIGN)
        for k in range(3)
    )
    network = replace(wide(150, 150), layers=(*layers[:2], replace(layers[2], activation=Activation.NONE)))
    with pytest.raises(ExportError, match=r"take 67500 bytes at least, target avr reads at most 65024: choose"):
        generate(network, "avr", layout="dense")


@pytest.mark.parametrize("target", ["avr", "generic"])
@pytest.mark.parametrize("static", [False, True], ids=["re-entrant", "static"])
def test_more_bits_than_an_array_has_bytes_where_int_is_16_bits_wide_are_packed_all_the_same(target, static, tmp_path):
    network = Network(np.zeros(33_000), np.ones(33_000), (Dense(np.eye(2, 33_000), [0, 0]),), Argmax(2), ("a", "b"))
    entry = generate(network, target, "wide", layout="bit_planes", static_scratch=static)
    assert "int wide_pack(\n    const uint8_t bits[],\n" in entry.files["wide.h"]
    assert "wide_pack(" not in entry.files["README.md"]
    main = tmp_path / "main.c"
    main.write_text('#include "wide.h"\n\nint main(void)\n{\n' + example_of(entry) + "    return class_index;\n}\n")
    command = [TARGETS["avr"].compiler, "-std=c99", "-mmcu=atmega2560", "-Os", "-Wmissing-prototypes"]
    for source in [*write([entry], tmp_path), main]:
        compile_quietly(command, [source], "-c", "-o", str(source.with_suffix(".o")))


def example_of(entry):
    """The statements of the example in a generated README."""
    return entry.files["README.md"].split("```")[1].split("\n\n", 1)[1]


def test_as_many_bits_as_an_array_has_bytes_are_declared_in_number():
    network = Network(np.zeros(32_767), np.ones(32_767), (Dense(np.eye(2, 32_767), [0, 0]),), Argmax(2), ("a", "b"))
    assert "const uint8_t bits[WIDE_INPUTS]," in generate(network, "avr", "wide", layout="bit_planes").files["wide.h"]


@pytest.mark.parametrize(("by_margin", "size"), [(False, 84), (True, 108)])
def test_sums_and_votes_that_do_not_fit_one_frame_are_refused(by_margin, size):
    network = replace(wide(4, 15), decision=Vote(6, 2, by_margin), classes=tuple("abcdef"))
    target = replace(TARGETS["avr"], object_limit=size)
    generate(network, target)
    with pytest.raises(ExportError, match=f"memory for sums and votes takes {size} bytes, an array of avr has at most"):
        generate(network, replace(target, object_limit=size - 1))


def test_raw_features_beyond_avrs_largest_array_are_refused():
    feature = Feature("f", Affine(0, 255), missing=0, raw_type="int32_t")
    features = tuple(replace(feature, name=f"f{i}") for i in range(8_192))
    quantizer = Quantizer(features)
    weights = np.eye(2, 8_192, dtype=int)
    network = replace(wide(8_192, 2), layers=(Dense(weights, [0, 0]),), quantizer=quantizer)
    with pytest.raises(ExportError, match="the array of raw features takes 32768 bytes, an array of avr has at most"):
        generate(network, "avr", layout="sparse_delta8")


def test_tensors_that_lie_side_by_side_beyond_avrs_largest_object_are_refused():
    scale = Requantisation(np.array([0]), np.array([1]), np.array([1]))
    same = Conv2d(np.ones((1, 1, 1, 1), dtype=int), [0], (1, 1), (0, 0, 0, 0), 0, Activation.RELU, scale)
    last = Dense(np.eye(2, 140 * 140), [0, 0])
    layers = (same, same, same, last)
    network = Network(np.zeros(140**2), np.full(140**2, 9), layers, Argmax(2), ("a", "b"), (1, 140, 140))
    with pytest.raises(ExportError, match=r"the scratch memory takes \d+ bytes, an array of avr has at most 32767"):
        generate(network, "avr")


def test_an_array_beyond_16_bit_indices_is_refused_there_and_taken_elsewhere():
    layer = Conv2d(np.ones((1, 1, 3, 3), dtype=int), [0], (1, 8), (2, 2, 2, 2), 0, Activation.SIGN)
    last = Dense(np.ones((1, 257 * 33), dtype=int), [0])
    network = Network(np.zeros(255**2), np.ones(255**2), (layer, last), Argmax(1), ("one",), (1, 255, 255))
    assert "band[67081]" in generate(network, "cortex-m").files["model.c"]
    with pytest.raises(ExportError, match=r"the array band of 67081 elements, an index of generic counts to 65535"):
        generate(network, "generic")


# ---- every layout on every target ----------------------------------------------------------------------------------


def small_cnn():
    """Smoothing, convolution with requantised outputs, both pools, a convolution of sign units, a dense layer."""
    rng = np.random.default_rng(7)
    scale = Requantisation(np.array([2, 0]), np.array([300, 177]), np.array([9, 11]))
    first = Conv2d(rng.integers(-3, 4, (2, 1, 3, 3)), [5, -4], (1, 1), (1, 1, 1, 1), 2, Activation.RELU, scale)
    second = Conv2d(rng.integers(-1, 2, (3, 2, 2, 2)), [1, 0, -1], (1, 1), (0, 0, 0, 0), 0, Activation.SIGN)
    layers = (Smooth(), first, MaxPool((2, 2), (2, 2)), AveragePool((2, 2), (1, 1)), second)
    last = Dense(rng.integers(-2, 3, (3, 3 * 2 * 2)), [0, 1, 2])
    return Network(np.zeros(64), np.full(64, 255), (*layers, last), Argmax(3), tuple("abc"), (1, 8, 8))


def dense_networks():
    """8-bit and binary inputs, ternary and few-bit weights, sign units and requantised units."""
    rng = np.random.default_rng(8)
    for high, limit in ((255, 1), (1, 1), (255, 7)):
        first = Dense(rng.integers(-limit, limit + 1, (9, 300)), rng.integers(-50, 51, 9), Activation.SIGN)
        last = Dense(rng.integers(-1, 2, (3, 9)), rng.integers(-5, 6, 3))
        yield Network(np.zeros(300), np.full(300, high), (first, last), Argmax(3), tuple("abc"))


DISTINCT = ("generic", "host", "cortex-m0", "cortex-m4", "rv32imc", "rv32ec", "avr")
"""Targets whose C differs by more than comments."""


def every_export(target):
    """Each layout for all layers of a network or its first, and what the exporter chooses for networks of all kinds."""
    networks = [small_cnn(), *(random_network(seed) for seed in range(3))]
    exports = [generate(network, target, f"any{k}") for k, network in enumerate(networks)]
    exports.append(generate(random_network(4), target, "fixed", static_scratch=True))
    with suppress(ExportError):
        exports.append(generate(small_cnn(), target, "pairs", layout="1=conv_dsp,4=conv_dsp"))
    for k, network in enumerate(islice(dense_networks(), 3 if target.name in DISTINCT else 2)):
        for layout in LAYOUTS:
            for named in ([layout] if k == 0 else []) + [f"{layout},dense"]:
                with suppress(ExportError):
                    exports.append(generate(network, target, f"{layout}{k}", layout=named))
                    break
    return exports


@pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))
def test_c_for_every_target_has_no_warning_no_variables_and_needs_products_at_most(target, tmp_path):
    require(shutil.which(target.compiler), f"{target.compiler} is not installed")
    exports = every_export(target)
    possible = set(LAYOUTS) - (set() if target.has_dsp else {"conv_dsp", "dense_dsp"})
    assert {layer.lowered.layout for entry in exports for layer in entry.program.layers} == possible
    flags = ["-Wmissing-prototypes", "-O2", "-ffreestanding", "-ffunction-sections", "-fdata-sections", "-c"]
    for source in write(exports, tmp_path):
        compiled = source.with_suffix(".o")
        compile_quietly([target.compiler, "-std=c99", *target.gcc_flags], [source], *flags, "-o", str(compiled))
        footprint = measure(compiled)
        undefined, helpers = undefined_symbols(target, compiled), HELPERS.get(target.name, set())
        assert set(footprint.library_calls) <= helpers
        if source.name == "fixed.c":
            assert footprint.data == 0
            assert undefined - {"__do_clear_bss"} <= helpers
        else:
            assert (footprint.data, footprint.bss) == (0, 0), source.name
            assert undefined <= helpers, source.name


def undefined_symbols(target, compiled):
    nm = target.compiler.removesuffix("gcc") + "nm"
    done = subprocess.run([nm, "-u", str(compiled)], capture_output=True, text=True, check=True)
    return {line.split()[-1] for line in done.stdout.splitlines()}
