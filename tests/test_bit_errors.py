"""Planted bit errors: a bit that flips in the flash of a model, in any layout on any target, is noticed on the device.

Every bit of every table on the host, where memory can be changed in place; on the emulated cores some bits of every
table, in the linked program.
"""

import ctypes
import mmap
import re
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from unicorn import UcError

from mip2mcu.decisions import Argmax
from mip2mcu.errors import ExportError, VerifyError
from mip2mcu.export import TARGETS, generate
from mip2mcu.export.layouts import LAYOUTS
from mip2mcu.layers import Activation, Conv2d, Dense, MaxPool, Requantisation
from mip2mcu.network import Network
from mip2mcu.quantizer import Affine, Feature, OneHot, Quantizer, Thermometer
from mip2mcu.verify.cores import core_for
from mip2mcu.verify.harness import Harness, build
from mip2mcu.verify.runners import find_runner
from mip2mcu.verify.runners.image import read_image
from mip2mcu.verify.runners.unicorn import UnicornRunner
from mip2mcu.verify.toolchains import find_toolchain
from tests.conftest import require
from tests.export_support import compile_host
from tests.test_probing import pairs
from tests.verify_support import require_compiler

UNITS = 24


def layouts_of(target):
    """The layouts that the target has for a hidden layer of sign units, those for binary inputs first."""
    layer = Dense(np.eye(UNITS, dtype=int), np.zeros(UNITS), Activation.SIGN)
    last = Dense(np.ones((1, UNITS), dtype=int), [0])
    network = Network(np.zeros(UNITS), np.ones(UNITS), (layer, layer, last), Argmax(1), ("a",))

    def takes(layout):
        with suppress(ExportError):
            generate(network, target, layout=f"bit_planes,{layout},dense")
            return True
        return False

    return sorted((name for name in LAYOUTS if takes(name)), key=lambda name: not name.startswith("bit_"))


def chain(target):
    """One layer a layout behind a quantizer with bits: sign units, then some that are requantised."""
    rng = np.random.default_rng(3)
    features = [Feature(f"t{i}", Thermometer(0, 99, tuple(range(5 + i, 95, 9))), 0, 0, "int16_t") for i in range(6)]
    quantizer = Quantizer((*features, Feature("o", OneHot(("a", "b", "c")), 3, 0, "int16_t")))
    order = [*layouts_of(target), "dense", "dense"]
    layers, inputs = [], quantizer.width
    for _ in order[:-2]:
        weights = rng.integers(-1, 2, (UNITS, inputs))
        layers.append(Dense(weights, rng.integers(-3, 4, UNITS), Activation.SIGN))
        inputs = UNITS
    scale = Requantisation(rng.integers(0, 2, UNITS), rng.integers(2000, 30000, UNITS), rng.integers(9, 12, UNITS))
    layers.append(Dense(rng.integers(-1, 2, (UNITS, UNITS)), rng.integers(0, 9, UNITS), Activation.RELU, scale))
    layers.append(Dense(rng.integers(-99, 100, (3, UNITS)), [5, -6, 7]))
    high = quantizer.input_high
    network = Network(np.zeros_like(high), high, tuple(layers), Argmax(3), tuple("abc"), quantizer=quantizer)
    return network, ",".join(order)


def images(target):
    """A convolution, a pool and an affine quantizer's table."""
    rng = np.random.default_rng(4)
    features = tuple(Feature(f"a{i}", Affine(0, 500 + i, 0, 30000 + i, 16), 0, 0, "int16_t") for i in range(36))
    first = Conv2d(rng.integers(-3, 4, (3, 1, 3, 3)), [5, -4, 3], (1, 1), (0, 0, 0, 0), 0, Activation.SIGN)
    layers = (first, MaxPool((2, 2), (2, 2)), Dense(rng.integers(-9, 10, (3, 12)), [1, 2, 3]))
    high = Quantizer(features).input_high
    return (
        Network(np.zeros_like(high), high, layers, Argmax(3), tuple("abc"), (1, 6, 6), quantizer=Quantizer(features)),
        "conv_dsp,auto,auto" if TARGETS[target].has_dsp else "conv,auto,auto",
    )


def coded():
    """Sparse ternary units whose sums are spread around 0, in front of three sums."""
    rng = np.random.default_rng(1)
    weights = np.where(rng.random((8, 40)) < 0.3, rng.integers(-1, 2, (8, 40)), 0)
    first = Dense(weights, -(weights.sum(axis=1) * 255) // 2 + rng.integers(-2, 3, 8), Activation.SIGN)
    last = Dense(rng.integers(-1, 2, (3, 8)), rng.integers(-3, 4, 3))
    return Network(np.zeros(40), np.full(40, 255), (first, last), Argmax(3), tuple("abc"))


SUBJECTS = {"every dense layout": chain, "convolution": images}


def test_the_subjects_have_tables_of_every_layout_that_has_any():
    layouts = set()
    for target in ("cortex-m55", "avr"):
        for subject in SUBJECTS.values():
            network, layout = subject(target)
            program = generate(network, target, layout=layout).program
            layouts |= {layer.lowered.layout for layer in program.layers if layer.lowered.tables}
    assert layouts == set(LAYOUTS) - {"pool", "filter", "unrolled"}


# ---- every bit, on the host ----------------------------------------------------------------------------------------


def changeable(library: Path, names, known: str):
    """Addresses of the static tables ``names`` of an open library, made writable; ``known`` is one of its functions."""
    from elftools.elf.elffile import ELFFile

    with library.open("rb") as stream:
        symbols = {s.name: s for s in ELFFile(stream).get_section_by_name(".symtab").iter_symbols()}
        base = ctypes.cast(getattr(ctypes.CDLL(str(library)), known), ctypes.c_void_p).value
        base -= symbols[known]["st_value"]
    libc = ctypes.CDLL(None, use_errno=True)
    for name in names:
        first = base + symbols[name]["st_value"]
        page = first - first % mmap.PAGESIZE
        length = first + symbols[name]["st_size"] - page
        assert libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(length), mmap.PROT_READ | mmap.PROT_WRITE) == 0
    return {name: base + symbols[name]["st_value"] for name in names}


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_bit_of_every_table_is_watched(subject, tmp_path):
    require(sys.platform == "linux", "memory is made writable as Linux does it")
    network, layout = SUBJECTS[subject]("host")
    entry = generate(network, "host", "model", layout=layout)
    (compiled,) = compile_host([entry], tmp_path)
    tables = {table.name: table for table in entry.program.tables}
    places = changeable(tmp_path / "models.so", tables, "model_check")
    flipped, missed = 0, []
    for name, address in places.items():
        memory = (ctypes.c_uint8 * tables[name].bytes).from_address(address)
        for bit in range(8 * tables[name].bytes):
            memory[bit // 8] ^= 1 << bit % 8
            if compiled.check() == 0:
                missed.append((name, bit))
            memory[bit // 8] ^= 1 << bit % 8
            flipped += 1
    assert compiled.check() == 0
    assert (flipped, missed) == (8 * entry.program.check.bytes, [])
    assert flipped > 1500


# ---- some bits of every table, on every core -----------------------------------------------------------------------

CORES = ("cortex-m0", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55", "avr", "rv32imc", "rv32ec")


def planted(program: Path, address: int, bit: int, folder: Path) -> Path:
    """A copy of ``program`` with one bit of its flash changed: bit ``bit`` of what lies from ``address`` on."""
    from elftools.elf.elffile import ELFFile

    content = bytearray(program.read_bytes())
    with program.open("rb") as stream:
        for segment in ELFFile(stream).iter_segments("PT_LOAD"):
            offset = address + bit // 8 - segment["p_paddr"]
            if 0 <= offset < segment["p_filesz"]:
                content[segment["p_offset"] + offset] ^= 1 << bit % 8
    changed = folder / "planted.elf"
    changed.write_bytes(content)
    assert content != program.read_bytes()
    return changed


WAYS = [
    *((core, None, "every dense layout") for core in CORES),
    *((core, "zig", "every dense layout") for core in ("cortex-m0", "rv32imc")),
    *((core, None, "convolution") for core in ("cortex-m0", "cortex-m4")),
]


@pytest.mark.parametrize(("target", "named", "subject"), WAYS)
def test_a_flipped_bit_in_the_flash_of_a_core_is_noticed(target, named, subject, tmp_path):
    row, core = TARGETS[target], core_for(TARGETS[target])
    require_compiler(named or row.compiler)
    network, layout = SUBJECTS[subject](target)
    entry = generate(network, target, "model", layout=layout)
    program = build(
        entry.files, tmp_path, network=network, name="model", target=row, core=core,
        toolchain=find_toolchain(row, named),
    )  # fmt: skip
    harness = Harness(program, find_runner(program.core))
    assert harness.check() == 0
    symbols = read_image(program.elf).symbols
    rng = np.random.default_rng(CORES.index(target))
    for table in rng.permutation(np.array(entry.program.tables, dtype=object))[:16]:
        bit = int(rng.integers(0, 8 * table.bytes))
        changed = planted(program.elf, symbols[table.name], bit, tmp_path)
        answer = harness.runner.run(changed, program.core, harness.check_request())
        assert int.from_bytes(answer, "little", signed=True) == -1, (table.name, bit)


# ---- weights in code -----------------------------------------------------------------------------------------------


def code_places(program: Path):
    """Address and bytes of each function that computes a layer."""
    from elftools.elf.elffile import ELFFile

    with program.open("rb") as stream:
        symbols = list(ELFFile(stream).get_section_by_name(".symtab").iter_symbols())
    layers = [s for s in symbols if s.name.startswith("layer") and s["st_info"]["type"] == "STT_FUNC"]
    return [(symbol["st_value"] & ~1, symbol["st_size"]) for symbol in layers]


def answer_to(request, program, core):
    """What the harness answers; None where the program faults or never ends."""
    try:
        return UnicornRunner(seconds=1).run(program, core, request)
    except (VerifyError, UcError):
        return None


FLIPPED = [("cortex-m0", "coded"), ("cortex-m4", "coded"), ("rv32imc", "coded"), ("cortex-m0", "deep")]


@pytest.mark.parametrize(("target", "subject"), FLIPPED)
def test_a_flipped_bit_in_straight_line_code_is_noticed_faults_or_changes_no_result(target, subject, tmp_path):
    row, core, network = TARGETS[target], core_for(TARGETS[target]), pairs() if subject == "deep" else coded()
    require_compiler(row.compiler)
    entry = generate(network, target, "model", layout="unrolled")
    found = entry.program.selftest.probes.values()
    assert sum(probes.noticed for probes in found) == sum(probes.changes for probes in found) > 200
    program = build(
        entry.files, tmp_path, network=network, name="model", target=row, core=core, toolchain=find_toolchain(row)
    )
    harness = Harness(program, UnicornRunner())
    rng = np.random.default_rng(5)
    rows = rng.integers(0, network.input_high + 1, (200, network.inputs))
    rows[100:] *= rng.random((100, network.inputs)) < 0.3
    infer, passed = harness.infer_request(rows), bytes(4)
    right = answer_to(infer, program.elf, core)
    assert answer_to(harness.selftest_request(), program.elf, core) == passed
    places, noticed = code_places(program.elf), 0
    for _ in range(60):
        address, size = places[rng.integers(len(places))]
        changed = planted(program.elf, address, int(rng.integers(0, 8 * size)), tmp_path)
        if answer_to(harness.selftest_request(), changed, core) == passed:
            results = answer_to(infer, changed, core)
            assert results is None or len(results) != len(right) or results == right
        else:
            noticed += 1
    assert noticed > 40


def in_code(network, target):
    """The export whose weights all stand in code, and where their signs stand in its text."""
    require_compiler(TARGETS[target].compiler)
    entry = generate(network, target, "model", layout="unrolled")
    return entry, [found.start() for found in re.finditer(r"[+-](?==? (\(\w+\))?value)", entry.files["model.c"])]


def selftest_with_other_sign(entry, network, at, folder):
    """What the selftest says on the target's core when the sign at ``at`` is the other one."""
    row, text = entry.target, entry.files["model.c"]
    files = {**entry.files, "model.c": text[:at] + ("-" if text[at] == "+" else "+") + text[at + 1 :]}
    program = build(
        files, folder, network=network, name="model", target=row, core=core_for(row), toolchain=find_toolchain(row)
    )
    return Harness(program, find_runner(program.core)).selftest()


@pytest.mark.parametrize("target", CORES)
def test_a_weight_with_another_sign_in_straight_line_code_fails_the_selftest_of_every_core(target, tmp_path):
    network = coded()
    entry, places = in_code(network, target)
    assert selftest_with_other_sign(entry, network, places[len(places) // 2], tmp_path) == -1


@pytest.mark.parametrize("target", ["cortex-m0", "avr"])
def test_a_weight_with_another_sign_in_a_deep_layer_fails_the_selftest(target, tmp_path):
    network = pairs()
    entry, places = in_code(network, target)
    deep = [at for at in places if at > entry.files["model.c"].index("layer1_part0(")]
    assert len(deep) == np.count_nonzero(network.layers[1].weights) + np.count_nonzero(network.layers[2].weights)
    for at in deep[:: len(deep) // 4]:
        assert selftest_with_other_sign(entry, network, at, tmp_path) == -1
