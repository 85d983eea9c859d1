"""Static proof: every layout holds for all inputs, planted errors are found, models equal what they stand for."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from click.testing import CliRunner

from mip2mcu.cli import main
from mip2mcu.decisions import Vote
from mip2mcu.errors import ToolMissingError
from mip2mcu.export import TARGETS, ExportOptions, generate
from mip2mcu.export.layouts import LAYOUTS
from mip2mcu.filters import Edges, Smooth
from mip2mcu.layers import Activation, AveragePool, Dense
from mip2mcu.network import Network
from mip2mcu.resources import resource_folder
from mip2mcu.verify import prove as prove_module
from mip2mcu.verify.cores import core_for
from mip2mcu.verify.harness import Harness, build
from mip2mcu.verify.proof import MODELS
from mip2mcu.verify.prove import PARTS, machines, prove, prove_files
from mip2mcu.verify.runners import RUNNERS
from mip2mcu.verify.toolchains import find_toolchain
from tests.cnns import pen
from tests.conftest import require
from tests.export_support import assert_equal_to_network, compile_host, random_rows
from tests.layout_support import network_of
from tests.test_layout_filters import filtered
from tests.test_layout_pool import pooled
from tests.verify_support import (
    binary_quantized_network,
    linear_network,
    quantized_network,
    two_class_network,
    vote_network,
)

WIDE = (-3, -2, -1, 1, 2, 3)


def layers_of(values, inputs=21, high=255) -> Network:
    """A hidden layer of sign units and an output layer, weights out of ``values`` and 0, half of them 0."""
    rng = np.random.default_rng(4)

    def draw(shape):
        return np.where(rng.random(shape) < 0.5, rng.choice(values, shape), 0)

    hidden = Dense(draw((5, inputs)), rng.integers(-20, 20, 5), Activation.SIGN)
    return network_of(hidden, Dense(draw((3, 5)), [0, 1, 2]), high=high)


def bits_of(values, inputs=70) -> Network:
    """The same for inputs of one bit."""
    return layers_of(values, inputs, high=1)


CASES = {
    "dense": layers_of(WIDE),
    "dense_dsp": layers_of(WIDE),
    "bit_planes": bits_of((-1, 1)),
    "bit_columns,bit_planes": bits_of((-1, 1), 40),
    "sparse_delta8": layers_of((-1, 1)),
    "sparse_index8": layers_of((-1, 1)),
    "sparse_index16": layers_of((-1, 1)),
    "grouped_delta8": layers_of(WIDE),
    "grouped_index8": layers_of(WIDE),
    "grouped_index16": layers_of(WIDE),
    "csr8": layers_of(WIDE),
    "ternary2": layers_of((-1, 1)),
    "compressed": layers_of(WIDE),
    "unrolled": layers_of(WIDE),
    "conv": pen(),
    "pool": pooled(AveragePool((2, 2), (1, 2)), (1, 4, 5)),
    "filter": filtered([Smooth(), Edges(2, 2)], (1, 6, 6)),
}
"""A network for each layout, and the layouts of its layers; of the last three every layer has its own."""
OWN = ("conv", "pool", "filter")


@pytest.fixture(scope="module", autouse=True)
def _frama_c():
    require(shutil.which("frama-c"), "frama-c is not installed")


def proof_of(network, target, layout):
    return prove(network, target, options=ExportOptions(layout=None if layout in OWN else layout))


def assert_clean(proof):
    assert proof.alarms == 0, proof.as_text()
    assert all(analysis.checks >= {"inference": 4, "selftest": 2}[analysis.part] for analysis in proof.analyses)
    assert all(analysis.functions[0] == analysis.functions[1] for analysis in proof.analyses)


# ---- proofs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", CASES)
def test_every_layout_holds_with_int_of_16_and_of_32_bits(layout):
    target = "cortex-m4" if layout.endswith("_dsp") else "generic"
    proof = proof_of(CASES[layout], target, layout)
    assert_clean(proof)
    assert [(a.machine, a.part) for a in proof.analyses] == list(product(machines(TARGETS[target]), PARTS))


def test_no_layout_is_left_out():
    """Convolutions by SMLAD take minutes: they are proved in longer runs."""
    assert set(LAYOUTS) - {"conv_dsp"} == {name for case in CASES for name in case.split(",")}


@pytest.mark.parametrize("layout", ["dense", "bit_planes", "bit_columns,bit_planes", "sparse_delta8", "compressed"])
def test_avr_text_holds_with_flash_as_memory(layout):
    proof = proof_of(CASES[layout], "avr", layout)
    assert_clean(proof)
    assert "pgm_read_byte, _word, _dword" in [model.name for model in proof.modelled]


@pytest.mark.parametrize("target", ["cortex-m0", "cortex-m4", "host"])
def test_kernels_of_wider_cores_hold(target):
    proof = proof_of(CASES["bit_columns,bit_planes"], target, "bit_columns,bit_planes")
    assert_clean(proof)
    assert [analysis.part for analysis in proof.analyses] == ["inference", "selftest"]


def margin_vote() -> Network:
    rng = np.random.default_rng(2)
    layer = Dense(rng.integers(-2, 3, (12, 4)), rng.integers(-3, 4, 12))
    return Network(np.zeros(4), np.full(4, 9), (layer,), Vote(4, 3, by_margin=True), tuple("abcd"))


@pytest.mark.parametrize(
    "network", [quantized_network(), binary_quantized_network(), vote_network(), margin_vote(), two_class_network()]
)
def test_quantizers_and_decision_rules_hold(network):
    assert_clean(prove(network, "cortex-m0"))


def test_the_counts_that_a_proof_rests_on_are_named():
    assert proof_of(CASES["bit_planes"], "generic", "bit_planes").assumed == ("count <= 33", "count <= 3")


# ---- what a proof rests on -----------------------------------------------------------------------------------------


_READERS = (
    "bit_planes", "bit_columns,bit_planes", "compressed", "dense", "sparse_delta8", "sparse_index16", "ternary2",
    "unrolled",
)  # fmt: skip
MODELLED = {layout: CASES[layout] for layout in _READERS}


@pytest.mark.parametrize("target", ["avr", "cortex-m0", "cortex-m4"])
@pytest.mark.parametrize("layout", MODELLED)
def test_models_equal_what_they_stand_for_on_the_core(layout, target, tmp_path):
    network, row = MODELLED[layout], TARGETS[target]
    core = core_for(row)
    runner = RUNNERS["simavr" if target == "avr" else "unicorn"]
    require(runner.is_installed(core), f"{runner.name} is not installed")
    files = dict(generate(network, row, "model", options=ExportOptions(layout=layout)).files)
    files["model.c"] = f"#define __FRAMAC__ 1\n{files['model.c']}"
    program = build(
        files, tmp_path, network=network, name="model", target=row, core=core, toolchain=find_toolchain(row)
    )
    harness, rows = Harness(program, runner), random_rows(network, 20, np.random.default_rng(3))
    results = harness.infer(rows)
    np.testing.assert_array_equal(results.sums, network.sums(rows))
    np.testing.assert_array_equal(results.predicted, network.predict(rows))
    assert harness.selftest() == 0


@pytest.mark.parametrize("layout", MODELLED)
def test_flash_as_memory_gives_what_flash_gives(layout, tmp_path):
    entry = generate(MODELLED[layout], "avr", "model", options=ExportOptions(layout=layout))
    header = (resource_folder("firmware") / "proof" / "avr" / "pgmspace.h").read_text(encoding="ascii")
    text = entry.files["model.c"].replace("#include <avr/pgmspace.h>", f"#define __FRAMAC__ 1\n{header}")
    compiled = compile_host([replace(entry, files={**entry.files, "model.c": text})], tmp_path)[0]
    assert_equal_to_network(compiled, MODELLED[layout], random_rows(MODELLED[layout], 30, np.random.default_rng(5)))


def test_no_assembler_is_left_without_a_model():
    for path in sorted((resource_folder("templates") / "support").glob("*.j2")):
        text = path.read_text(encoding="ascii")
        assert ("__asm__" in text or "__builtin" in text) <= ("__FRAMAC__" in text or "HAS_DSP" in text), path.name


def test_everything_modelled_is_reported():
    entry = generate(MODELLED["bit_planes"], "avr", "model", options=ExportOptions(layout="bit_planes"))
    found = [model.name for model in MODELS if model.occurs_in(entry.files["model.c"])]
    assert found[:1] == ["pgm_read_byte, _word, _dword"]
    assert "bits_agree_masked (LPM, EOR, AND)" in found


# ---- planted errors ------------------------------------------------------------------------------------------------

_LOOP = "i++) {\n            sum"
_DRAW = "i++) {\n        uint32_t drawn"
DENSE = linear_network(inputs=6, classes=3)
PLANTED = {
    "one input too many": (f"i < 6U; {_LOOP}", f"i < 7U; {_LOOP}", {"index bound", "mem access", "pointer value"}),
    "a sum too narrow": ("sum = (int16_t)(sum", "sum = (int8_t)(sum", {"signed downcast"}),
    "a sum without bias": ("int16_t sum = layer0_bias[j];", "int16_t sum;", {"initialization"}),
    "a class too many": ("return (int)best;", "return (int)best + 1;", {"user check"}),
    "a selftest without the last input": (f"i < 6U; {_DRAW}", f"i < 5U; {_DRAW}", {"user check"}),
    "no end": ("    row = &row[6];", "    row = &row[6];\n        j = 0U;", {"mem access", "pointer value"}),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_errors_are_found(name):
    old, new, kinds = PLANTED[name]
    files = dict(generate(DENSE, "generic", "model", options=ExportOptions(layout="dense")).files)
    assert files["model.c"].count(old) == 1, files["model.c"]
    files["model.c"] = files["model.c"].replace(old, new)
    proof = prove_files(files, DENSE, TARGETS["cortex-m0"], name="model")
    alarms = [alarm for analysis in proof.analyses for alarm in analysis.alarms]
    assert proof.alarms > 0
    assert {alarm.kind for alarm in alarms} & kinds, proof.as_text()
    assert alarms[0].line > 1


@pytest.mark.parametrize("name", ["one input too many", "a sum too narrow", "a sum without bias", "no end"])
def test_planted_errors_are_found_in_unfolded_loops(name, monkeypatch):
    monkeypatch.setattr(prove_module, "_UNFOLDED_OPERATIONS", 0)
    test_planted_errors_are_found(name)


@pytest.mark.parametrize("layout", ["dense", "csr8", "ternary2", "conv"])
def test_unfolded_loops_hold(layout, monkeypatch):
    monkeypatch.setattr(prove_module, "_UNFOLDED_OPERATIONS", 0)
    test_every_layout_holds_with_int_of_16_and_of_32_bits(layout)


def test_unfolding_adds_annotations_alone():
    text = generate(pen(), "generic", "model").files["model.c"]
    for version, phrase in (("Frama-C 25.0 (Manganese)", "loop pragma UNROLL"), ("Frama-C 30.0 (Zinc)", "loop unfold")):
        changed = prove_module.unfolded(text, version)
        annotations = re.findall(r"/\*@ (\D+) \d+; \*/ for", changed)
        assert len(annotations) > 1 and set(annotations) == {phrase}
        without = [re.sub(r"/\*@ loop \D+ \d+; \*/ for", "for", line).strip() for line in changed.splitlines()]
        assert without == [line.strip() for line in text.splitlines()]


# ---- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path):
    DENSE.save(tmp_path / "tiny.json")
    return str(tmp_path / "tiny.json")


def run(*arguments):
    return CliRunner().invoke(main, ["verify", *map(str, arguments), "--target", "host", "--vectors", "50"])


def test_verify_proves_on_request(model):
    result = run(model, "--prove")
    assert result.exit_code == 0, result.output
    for part in PARTS:
        line = rf"^proof +0 alarms, {part}, int of 32 bits, pointers of 64 \(gcc_x86_64\)"
        assert re.search(line, result.output, re.MULTILINE)
    assert re.search(r"^analysed +by Frama-C \d+", result.output, re.MULTILINE)


def test_verify_fails_where_the_proof_fails(model, tmp_path):
    result = CliRunner().invoke(main, ["export", model, "--target", "host", "--out", str(tmp_path / "c")])
    assert result.exit_code == 0, result.output
    path = tmp_path / "c" / "tiny.c"
    text = path.read_text()
    path.write_text(text.replace("    return (int)best;", "    (void)(sums[0] << 31);\n    return (int)best;"))
    result = run(model, "--prove", "--source", tmp_path / "c", "--json")
    assert result.exit_code == 1, result.output
    report = json.loads(result.output)
    assert report["mismatches"] == 0 < report["proof"]["alarms"]
    assert "tiny_predict" in {alarm["function"] for alarm in report["proof"]["analyses"][0]["alarms"]}


def test_without_frama_c_the_way_to_it_is_told(monkeypatch):
    prove_module.frama_c_version.cache_clear()
    monkeypatch.setattr(prove_module.shutil, "which", lambda name: None)
    with pytest.raises(ToolMissingError, match="apt-get install frama-c-base"):
        prove(DENSE, "generic")
