"""firmware/: the ready project runs an exported model, the harness is warning-free, nothing is built inside."""

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mip2mcu.decisions import Argmax
from mip2mcu.export import TARGETS, export
from mip2mcu.layers import Dense
from mip2mcu.network import Network
from mip2mcu.quantizer import Feature, Quantizer, Thermometer
from mip2mcu.resources import resource_folder
from mip2mcu.verify.cores import CORES
from mip2mcu.verify.runners.qemu import QemuRunner
from mip2mcu.verify.runners.unicorn import UnicornRunner
from mip2mcu.verify.toolchains import zig_cache
from tests.conftest import require
from tests.verify_support import built, require_compiler, require_qemu, sign_network

FIRMWARE = resource_folder("firmware")
EXAMPLE = Path(__file__).parent.parent / "examples" / "digits" / "test.csv"
ZIG = {
    "CC": f"{sys.executable} -m ziglang cc",
    "CPU": "-target thumb-freestanding-eabi -mcpu=cortex_m0",
}
WARNINGS = (
    "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wsign-conversion", "-Wshadow", "-Wmissing-prototypes",
    "-Wcast-qual", "-Wundef", "-Wdouble-promotion", "-Werror",
)  # fmt: skip


def digits_network():
    """Random weights behind thermometer bits of 64 pixels: the interface of the digits example."""
    quantizer = Quantizer(tuple(Feature(f"r{i // 8}c{i % 8}", Thermometer(0, 16, (4, 9, 13)), 0) for i in range(64)))
    rng = np.random.default_rng(0)
    layer = Dense(rng.integers(-1, 2, (10, quantizer.width)), rng.integers(-9, 10, 10))
    high = quantizer.input_high
    return Network(np.zeros_like(high), high, (layer,), Argmax(10), tuple("0123456789"), quantizer=quantizer)


def example_rows(count):
    with EXAMPLE.open(newline="") as stream:
        rows = list(csv.DictReader(stream))[:count]
    return np.array([[int(row[f"r{i // 8}c{i % 8}"]) for i in range(64)] for row in rows])


def make_demo(folder, variables):
    """Build the demo around `digits_network`; returns the program."""
    require(shutil.which("make"), "make is not installed")
    export(digits_network(), "cortex-m", folder / "digits", "digits")
    variables = {"MODEL": folder / "digits", "CFLAGS": "-O2 -Wall -Werror"} | variables
    settings = [f"{name}={value}" for name, value in variables.items()]
    call = ["make", "-C", str(FIRMWARE / "cortex-m-demo"), *settings]
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", **zig_cache()}
    done = subprocess.run(call, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "digits" / "build" / "demo.elf"


def expected_text():
    network = digits_network()
    classes = network.predict(network.quantize(example_rows(5)))
    assert len(set(classes.tolist())) > 1
    return "".join(f"row {k}: class {c}\n" for k, c in enumerate(classes))


@pytest.mark.parametrize("compiler", ["arm-none-eabi-gcc", "zig"])
def test_the_ready_project_prints_what_the_network_predicts(compiler, tmp_path):
    require_compiler(compiler)
    program = make_demo(tmp_path, ZIG if compiler == "zig" else {})
    assert UnicornRunner().console(program, CORES["cortex-m0"]) == expected_text()


def test_the_ready_project_runs_on_qemus_board(tmp_path):
    require_qemu()
    program = make_demo(tmp_path, ZIG)
    assert QemuRunner().console(program, CORES["cortex-m0"]) == expected_text()


def test_the_projects_rows_are_the_first_of_the_example():
    text = (FIRMWARE / "cortex-m-demo" / "rows.h").read_text()
    numbers = text[text.index("= {") :].replace("{", " ").replace("}", " ").replace(";", " ").replace("=", " ")
    values = [int(part) for part in numbers.replace("#endif", "").replace(",", " ").split()]
    np.testing.assert_array_equal(np.array(values).reshape(-1, 64), example_rows(5))


def test_the_readme_shows_the_calls_that_main_makes():
    main = (FIRMWARE / "cortex-m-demo" / "main.c").read_text()
    readme = (FIRMWARE / "cortex-m-demo" / "README.md").read_text()
    for line in ("input_t input[DIGITS_INPUT_LENGTH];", "(void)digits_quantize(raw, input);", "digits_predict(input);"):
        assert line in main
        assert line in readme


def test_nothing_is_built_inside_firmware():
    allowed = {".c", ".h", ".ld", ".md", ""}
    assert {path.suffix for path in FIRMWARE.rglob("*") if path.is_file()} <= allowed
    assert [path.name for path in FIRMWARE.rglob("*") if path.is_file() and not path.suffix] == ["Makefile"]


@pytest.mark.parametrize(
    ("compiler", "flags"),
    [
        ("gcc", ()),
        ("clang", ()),
        ("arm-none-eabi-gcc", ("-mcpu=cortex-m0", "-mthumb", "-ffreestanding")),
        ("arm-none-eabi-gcc", ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-ffreestanding")),
        ("arm-none-eabi-gcc", ("-mcpu=cortex-m55", "-mthumb", "-mfloat-abi=hard", "-ffreestanding")),
        ("riscv64-unknown-elf-gcc", ("-march=rv32imc", "-mabi=ilp32", "-ffreestanding")),
        ("riscv64-unknown-elf-gcc", ("-march=rv32ec", "-mabi=ilp32e", "-ffreestanding")),
        ("avr-gcc", ("-mmcu=atmega328p", "-ffreestanding")),
    ],
)
def test_the_c_around_a_model_compiles_without_a_warning(compiler, flags, tmp_path):
    require_compiler(compiler)
    built(sign_network(), TARGETS["host"], tmp_path)  # writes tested_model.h
    bare = ("runtime.c", "platform_semihosting.c")
    around = {
        "gcc": ("host/platform.c",),
        "clang": ("host/platform.c",),
        "arm-none-eabi-gcc": ("cortex-m/startup.c", *bare),
        "riscv64-unknown-elf-gcc": ("riscv/startup.c", *bare),
        "avr-gcc": ("avr/platform.c",),
    }
    sources = [FIRMWARE / name for name in ("verify_main.c", *around[compiler])]
    includes = (f"-I{FIRMWARE}", f"-I{tmp_path}")
    call = [compiler, "-std=c99", "-O2", *WARNINGS, *flags, *includes, "-c", *map(str, sources)]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("source", ["avr/simulator.c", "qemu/count.c"])
def test_what_runs_on_the_computer_compiles_without_a_warning(compiler, source, tmp_path):
    require_compiler(compiler)
    require(source != "avr/simulator.c" or Path("/usr/include/simavr").is_dir(), "libsimavr-dev is not installed")
    files = ("-c", str(FIRMWARE / source), "-o", str(tmp_path / "tool.o"))
    call = [compiler, "-std=c99", "-O2", "-fPIC", *WARNINGS, *files]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
