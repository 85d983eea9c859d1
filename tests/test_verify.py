"""`verify`, end to end: nothing differs, a planted error is caught, and what cannot be compared is said plainly."""

import hashlib
import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from mip2mcu.decisions import Argmax
from mip2mcu.errors import ModelError, ToolMissingError, UsageError, VerifyError
from mip2mcu.export import TARGETS, export
from mip2mcu.export.options import ExportOptions
from mip2mcu.layers import Dense
from mip2mcu.network import Network
from mip2mcu.verify import verification as verification_module
from mip2mcu.verify import verify
from mip2mcu.verify.comparison import check_description, chunk_rows
from mip2mcu.verify.harness import Description
from mip2mcu.verify.vectors import input_chunks
from tests.verify_support import (
    binary_quantized_network,
    linear_network,
    packed_network,
    quantized_network,
    require_compiler,
    require_qemu,
    sign_network,
    two_class_network,
    vote_network,
)

NETWORKS = {
    "linear": linear_network(),
    "sign units": sign_network(),
    "vote": vote_network(),
    "two classes": two_class_network(),
    "packed inputs": packed_network(),
    "one input": linear_network(inputs=1, classes=2),
    "one class": linear_network(inputs=3, classes=1),
    "quantizer": quantized_network(),
    "quantizer with packed inputs": binary_quantized_network(),
}


def wide_network(inputs=5000):
    """16-bit inputs, more than fit 16 KB of RAM twice over."""
    weights = np.random.default_rng(0).integers(-1, 2, (2, inputs))
    ends = np.full(inputs, 32767)
    return Network(-ends, ends, (Dense(weights, [5, -5]),), Argmax(2), ("a", "b"))


def data_of(inputs, raw=None):
    """What `verify` reads of a Dataset."""
    return SimpleNamespace(inputs=np.asarray(inputs), raw=None if raw is None else np.asarray(raw))


# ---- nothing differs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["host", "cortex-m"])
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_c_equals_python(network, target):
    report = verify(network, target, vectors=3000)
    assert (report.mismatches, report.first_mismatch, report.vectors) == (0, None, 3000)
    assert report.sizes.library_calls == ()


def test_packing_is_compared_where_inputs_are_packed():
    report = verify(packed_network(), "host", vectors=300)
    assert (report.mismatches, report.packed) == (0, 300)


@pytest.mark.parametrize("optimisation", ["-O0", "-Os", "-O3"])
def test_c_equals_python_at_every_optimisation(optimisation):
    report = verify(sign_network(), "cortex-m", vectors=500, optimisation=optimisation)
    assert report.mismatches == 0
    assert optimisation in report.flags


def test_sanitizers_watch_the_host(tmp_path):
    require_compiler("gcc")
    report = verify(sign_network(), "host", vectors=500, toolchain="gcc", sanitize=True)
    assert report.mismatches == 0
    assert "-fsanitize=address,undefined" in report.flags
    export(linear_network(), "host", tmp_path, "model")
    source = tmp_path / "model.c"
    text = source.read_text()
    assert text.count("return 0;") > 0
    source.write_text(text.replace("return 0;", "return (int)(input[0] << 24) / 2 + INT32_MAX;", 1))
    with pytest.raises(VerifyError, match="runtime error: signed integer overflow"):
        verify(linear_network(), "host", vectors=500, source=tmp_path, toolchain="gcc", sanitize=True)


def test_sanitizers_are_refused_on_a_core():
    with pytest.raises(UsageError, match="sanitizers run on the host only, not on cortex-m0"):
        verify(linear_network(), "cortex-m", sanitize=True)


@pytest.mark.parametrize(
    ("target", "toolchain"),
    [
        ("host", "gcc"),
        ("host", "clang"),
        ("host", "zig"),
        ("cortex-m", "arm-none-eabi-gcc"),
        ("cortex-m", "zig"),
        ("cortex-m3", "arm-none-eabi-gcc"),
        ("cortex-m4", "zig"),
        ("cortex-m7", "zig"),
        ("rv32imc", "zig"),
        ("rv32imc", "riscv64-unknown-elf-gcc"),
    ],
)
def test_c_equals_python_under_every_compiler(target, toolchain):
    require_compiler(toolchain)
    report = verify(vote_network(), target, vectors=1000, toolchain=toolchain)
    assert report.mismatches == 0
    assert "zig" in report.toolchain if toolchain == "zig" else "zig" not in report.toolchain


def test_qemu_compares_when_it_is_asked_for():
    require_qemu()
    report = verify(sign_network(), "cortex-m", vectors=3000, runner="qemu")
    assert report.mismatches == 0
    assert report.runner.endswith("(microbit)")
    assert report.costs["predict"].maximum > 0


def test_rows_of_the_data_are_compared_and_counted_apart():
    network = quantized_network()
    raw = np.array([[5, 7, 3], [-200, 60, 0], [900, 30, 2]])
    report = verify(network, "host", data_of(network.quantize(raw), raw), vectors=100)
    assert report.vectors_by_kind["data"] == 3
    assert report.quantized_by_kind["data"] == 3
    assert report.vectors == 103


def test_inputs_of_16_bits_and_rows_beyond_the_boards_memory():
    report = verify(wide_network(), "cortex-m", vectors=50)
    assert (report.mismatches, report.vectors) == (0, 50)


@pytest.mark.parametrize("name", ["tested", "model", "platform", "runtime", "main", "TESTED"])
def test_names_that_the_harness_uses_itself_do_no_harm(name):
    assert verify(quantized_network(), "cortex-m", vectors=10, name=name).mismatches == 0


def test_the_same_run_gives_the_same_report():
    first, second = (verify(sign_network(), "cortex-m", vectors=200, seed=4) for _ in range(2))
    assert first.as_dict() == second.as_dict()
    assert first.as_text() == second.as_text()


# ---- what is reported ----------------------------------------------------------------------------------------------


def test_the_report_is_json_with_the_promised_keys():
    report = json.loads(json.dumps(verify(binary_quantized_network(), "cortex-m", vectors=300).as_dict()))
    assert report["mismatches"] == 0
    assert report["vectors"] == 300
    assert report["packed_rows"] == 300
    assert report["quantized_rows"] > 300
    assert report["flash_bytes"] == report["sections"]["code"] + report["sections"]["constants"]
    assert report["ram_bytes"] == 0
    assert sorted(report["instructions"]) == ["check", "pack", "predict", "quantize", "selftest", "sums"]
    assert report["instructions"]["sums"]["max"] < report["instructions"]["predict"]["min"]
    assert 0 < report["instructions"]["predict"]["min"] <= report["instructions"]["predict"]["max"]
    assert 0 < report["stack_bytes"]["predict"] < 1000


def test_the_report_says_what_was_searched_for_and_what_cannot_be():
    report = verify(sign_network(), "host", vectors=10_000)
    assert report.as_dict()["searched"]["extremes"] == {"wanted": 16, "found": 15, "impossible": 1, "missing": 0}
    assert "extremes 15 of 16 (1 impossible), thresholds 10 of 10" in report.as_text()


def test_sizes_are_told_by_function_and_table_and_those_of_the_checks_apart():
    report = verify(binary_quantized_network(), "cortex-m", vectors=30).as_dict()
    assert {"model_predict", "model_quantize", "model_pack", "layer0_apply"} <= set(report["functions"])
    assert report["objects"]["quantizer0_thresholds"] == 45
    assert not {name for name in (*report["functions"], *report["objects"]) if "check" in name or "selftest" in name}
    assert report["sections"]["code"] >= sum(report["functions"].values())
    assert 60 < report["checks_flash_bytes"]["check"] < 130
    assert report["checks_flash_bytes"]["check"] < report["checks_flash_bytes"]["selftest"] < 600


def test_the_text_names_target_compiler_kinds_and_costs():
    text = verify(sign_network(), "cortex-m", vectors=300, toolchain="zig").as_text()
    for part in ("run as cortex-m0 on unicorn", "zig", "-mcpu=cortex_m0", "300 vectors: ", " random", "bytes of stack"):
        assert part in text
    assert text.splitlines()[-1] == "mismatches   0"


# ---- planted errors ------------------------------------------------------------------------------------------------


def plant(network, folder, old, new):
    """Export and replace the only number ``old`` in the C by ``new``."""
    export(network, "cortex-m", folder, "planted", options=ExportOptions(max_unroll_bytes=0))
    source = folder / "planted.c"
    text, found = re.subn(rf"(?<![\w-]){old}\b", str(new), source.read_text(), flags=re.MULTILINE)
    assert found == 1, f"{found} places hold {old}"
    source.write_text(text)


def one_odd_weight(weight):
    return Network(
        [0, 0, 0], [9, 9, 9], (Dense([[5, weight, 1], [2, -3, 4]], [0, 1]),), Argmax(2), ("a", "b")
    )


@pytest.mark.parametrize("target", ["host", "cortex-m"])
def test_a_planted_wrong_weight_is_caught_with_input_expected_and_got(target, tmp_path):
    right, wrong = one_odd_weight(113), one_odd_weight(112)
    plant(right, tmp_path, 113, 112)
    report = verify(right, target, vectors=500, name="planted", source=tmp_path)
    rows = np.concatenate([rows for _, rows in input_chunks(right, None, 500, 0, chunk_rows(right))])
    differing = (right.sums(rows) != wrong.sums(rows)).any(axis=1).sum()
    first = report.first_mismatch
    assert differing > 200
    assert report.mismatches == differing + 2  # the selftest and the check of the tables fail too
    assert first.quantity == "sums"
    row = np.array([first.input])
    assert first.expected == tuple(right.sums(row)[0])
    assert first.got == tuple(wrong.sums(row)[0])
    lines = report.as_text().splitlines()
    assert lines[-4:] == [
        f"sums differ on {first.kind} row {first.row}:",
        f"  input     {' '.join(map(str, first.input))}",
        f"  expected  {' '.join(map(str, first.expected))}",
        f"  got       {' '.join(map(str, first.got))}",
    ]


def test_a_weight_that_only_matters_on_rare_inputs_is_caught(tmp_path):
    # The input that the wrong weight meets is 0 in all rows of the data.
    network = Network([0, 0], [0, 1], (Dense([[5, 113], [2, 4]], [7, 1]),), Argmax(2), ("a", "b"))
    plant(network, tmp_path, 113, 112)
    assert verify(network, "host", data_of([[0, 0]] * 5), vectors=4, name="planted", source=tmp_path).mismatches > 0


def test_a_planted_wrong_threshold_is_caught_in_quantize(tmp_path):
    network = quantized_network()
    coding = replace(network.quantizer.features[1].coding, thresholds=(10, 23, 30))
    features = (network.quantizer.features[0], replace(network.quantizer.features[1], coding=coding))
    quantizer = replace(network.quantizer, features=(*features, network.quantizer.features[2]))
    network = replace(network, quantizer=quantizer)
    plant(network, tmp_path, 23, 24)
    report = verify(network, "host", vectors=100, name="planted", source=tmp_path)
    assert report.first_mismatch.quantity == "quantize"
    assert report.first_mismatch.input[1] == 23


def test_exported_files_are_what_is_verified(tmp_path):
    network = sign_network()
    export(network, "cortex-m", tmp_path, "signs")
    report = verify(network, "cortex-m", vectors=100, name="signs", source=tmp_path)
    assert report.mismatches == 0
    assert report.sources == digests(tmp_path)


def test_the_digest_is_that_of_the_file_whatever_its_line_ends_are(tmp_path):
    export(sign_network(), "host", tmp_path, "signs")
    for path in (tmp_path / "signs.c", tmp_path / "signs.h"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    report = verify(sign_network(), "host", vectors=10, name="signs", source=tmp_path)
    assert (report.mismatches, report.sources) == (0, digests(tmp_path))


def digests(folder):
    """SHA-256 of the C in ``folder`` by name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.[ch]")}


# ---- what cannot be compared ---------------------------------------------------------------------------------------


def test_c_of_another_model_is_refused(tmp_path):
    export(linear_network(seed=7), "host", tmp_path, "model")
    with pytest.raises(VerifyError, match=r"was generated from model \w{12}\.\.\., not from \w{12}\.\.\.: export this"):
        verify(linear_network(seed=8), "host", vectors=10, source=tmp_path)


DESCRIBED = Description(
    abi=1, classes=3, inputs=70, input_length=3, input_packed=1, input_bytes=4, input_signed=0, sums=3, scores=3,
    raw_features=0, raw_bytes=0, raw_signed=0, scratch_bytes=0, sha256=packed_network().sha256,
)  # fmt: skip


def test_c_that_describes_its_model_is_taken():
    check_description(packed_network(), SimpleNamespace(description=DESCRIBED), "digits")


@pytest.mark.parametrize("name", ["abi", "classes", "inputs", "input_length", "sums", "scores", "raw_features"])
def test_c_with_another_number_in_its_header_is_refused(name):
    value = getattr(DESCRIBED, name)
    edited = SimpleNamespace(description=replace(DESCRIBED, **{name: value + 1}))
    with pytest.raises(VerifyError, match=f"the C in digits declares {name} {value + 1}, its model has {value}:"):
        check_description(packed_network(), edited, "digits")


def test_packed_c_without_its_macro_is_refused():
    edited = SimpleNamespace(description=replace(DESCRIBED, input_packed=0))
    with pytest.raises(VerifyError, match="declares input_length 3, its model has 70: export"):
        check_description(packed_network(), edited, "digits")


def test_a_folder_without_the_c_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match=r"holds no readable digits\.h"):
        verify(linear_network(), "host", name="digits", source=tmp_path)


def test_c_that_does_not_compile_shows_the_compilers_words(tmp_path):
    export(linear_network(), "host", tmp_path, "model")
    (tmp_path / "model.c").write_text("#error broken on purpose\n")
    with pytest.raises(VerifyError, match=r"could not compile model\.c:\n.*broken on purpose"):
        verify(linear_network(), "host", vectors=10, source=tmp_path)


def test_data_of_another_width_is_a_model_error():
    with pytest.raises(ModelError, match=r"inputs have shape \(4, 2\), the network expects \(rows, 6\)"):
        verify(linear_network(), "host", data_of(np.zeros((4, 2), dtype=int)))


def test_data_outside_the_range_is_a_model_error():
    with pytest.raises(ModelError, match=r"input 0 of row 0 is 256, outside its range 0\.\.255"):
        verify(linear_network(), "host", data_of(np.full((1, 6), 256)))


def test_qemus_small_board_refuses_a_large_model():
    require_qemu()
    with pytest.raises(VerifyError, match="may not fit 256 KB of flash and 16 KB of RAM, which qemu's microbit has"):
        verify(wide_network(), "cortex-m", vectors=10, runner="qemu")


@pytest.mark.parametrize("vectors", [0, 10**10 + 1])
def test_no_vectors_or_too_many_are_refused(vectors):
    with pytest.raises(UsageError, match=f"{vectors} vectors cannot be compared: ask for 1..10000000000"):
        verify(linear_network(), "host", vectors=vectors)


def test_a_target_that_nothing_here_runs_is_a_usage_error():
    with pytest.raises(UsageError, match="no core here runs code for target 'z80'"):
        verify(linear_network(), replace(TARGETS["host"], name="z80"))


def test_missing_tools_are_named_before_anything_is_compiled(monkeypatch):
    monkeypatch.setattr(verification_module, "find_toolchain", find_no_toolchain)
    with pytest.raises(ToolMissingError):
        verify(linear_network(), "cortex-m")


def test_without_pyelftools_the_error_comes_before_anything_is_compiled(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "elftools" else find_spec(name))
    monkeypatch.setattr(verification_module, "build", None)
    for target in ("cortex-m", "rv32ec"):
        with pytest.raises(ToolMissingError, match="needs pyelftools, not installed: run `pip install pyelftools`"):
            verify(linear_network(), target)


def test_the_host_is_verified_without_pyelftools(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "elftools" else find_spec(name))
    report = verify(linear_network(), "host", vectors=50)
    assert (report.mismatches, report.vectors, report.sizes) == (0, 50, None)


def find_no_toolchain(target, name):
    raise ToolMissingError("none")


def test_importing_verify_imports_no_solver_and_no_emulator():
    code = "import sys, mip2mcu.verify; print({'pyomo', 'highspy', 'unicorn', 'elftools'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
