"""Planning of the memory between layers: lifetimes, alignment, who owns it."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mip2mcu.decisions import Argmax
from mip2mcu.export import TARGETS, generate
from mip2mcu.export.layouts import Work
from mip2mcu.export.literals import TYPE_BYTES
from mip2mcu.export.scratch import Home, Region, plan
from mip2mcu.layers import Dense, MaxPool
from mip2mcu.network import Network
from mip2mcu.verify.cores import CORES
from mip2mcu.verify.harness import Harness, build
from mip2mcu.verify.runners import RUNNERS
from mip2mcu.verify.toolchains import find_toolchain
from tests.cnns import lenet, pen
from tests.conftest import require
from tests.export_support import assert_equal_to_network, compile_host, random_rows
from tests.layout_support import linear
from tests.verify_support import require_compiler


def tensors(*lengths, c_type="uint8_t"):
    return [Work(f"hidden{k + 1}", c_type, length) for k, length in enumerate(lengths)]


def no_work(count):
    return [()] * (count + 1)


def test_neighbours_lie_at_opposite_ends():
    scratch = plan(tensors(100, 60, 20), no_work(3))
    assert scratch.tensors == ("bytes", "&bytes[100]", "bytes")
    assert scratch.regions == (Region("bytes", "uint8_t", 160),)


def test_no_more_memory_than_one_layer_needs():
    assert plan(tensors(100, 10, 10, 100), no_work(4)).bytes == 110


def test_a_single_tensor_keeps_its_name():
    assert plan(tensors(7), no_work(1)).regions == (Region("hidden1", "uint8_t", 7),)


def test_types_do_not_share_memory():
    areas = [Work("hidden1", "uint32_t", 2), Work("hidden2", "int8_t", 5), Work("hidden3", "uint32_t", 1)]
    scratch = plan(areas, no_work(3))
    assert scratch.regions == (Region("words", "uint32_t", 2), Region("hidden2", "int8_t", 5))
    assert scratch.tensors == ("words", "hidden2", "words")


def test_work_lies_behind_the_tensor_at_the_beginning():
    work = [(Work("band", "uint8_t", 8),), (Work("band", "uint8_t", 9), Work("more", "uint8_t", 1)), ()]
    scratch = plan(tensors(10, 4), work)
    assert scratch.work == (("&bytes[10]",), ("&bytes[10]", "&bytes[19]"), ())
    assert (scratch.bytes, scratch.tensors) == (24, ("bytes", "&bytes[20]"))


def test_up_to_256_bytes_lie_on_the_stack():
    assert plan(tensors(256), no_work(1)).home is Home.STACK
    assert plan(tensors(257), no_work(1)).home is Home.CALLER


def test_memory_of_the_caller_is_whole_words():
    scratch = plan(tensors(257), no_work(1))
    assert (scratch.caller_bytes, scratch.tensors) == (260, ("scratch->hidden1",))


def test_static_memory_is_not_the_callers():
    scratch = plan(tensors(500), no_work(1), static=True)
    assert (scratch.caller_bytes, scratch.tensors) == (0, ("scratch.hidden1",))


def test_memory_that_a_layer_gets_several_pointers_into_is_hidden_from_compilers():
    scratch = plan(tensors(3, 500), no_work(2), static=True)
    assert (scratch.caller_bytes, scratch.tensors) == (0, ("scratch->bytes", "&scratch->bytes[4]"))
    assert plan(tensors(3), [(), (Work("band", "uint8_t", 8),)], static=True).hidden
    assert not plan(tensors(300), no_work(1), static=True).hidden
    assert plan(tensors(3, 500), no_work(2)).hidden
    assert not plan(tensors(3, 50), no_work(2)).hidden


@given(
    st.lists(st.tuples(st.sampled_from(["uint8_t", "uint32_t"]), st.integers(1, 300)), max_size=6),
    st.lists(st.lists(st.tuples(st.sampled_from(["uint8_t", "int32_t"]), st.integers(1, 90)), max_size=2), max_size=7),
)
def test_what_lives_at_the_same_time_never_overlaps(sizes, areas):
    hidden = [Work(f"hidden{k}", *size) for k, size in enumerate(sizes)]
    work = [tuple(Work(f"work{k}_{n}", *size) for n, size in enumerate(entry)) for k, entry in enumerate(areas)]
    work = (work + no_work(len(hidden)))[: len(hidden) + 1]
    scratch = plan(hidden, work, static=True)
    lengths = {region.name: region.length for region in scratch.regions}
    for k in range(len(work)):
        alive = [*zip(hidden, scratch.tensors, strict=True)][max(0, k - 1) : k + 1]
        taken = {name: np.zeros(length, dtype=int) for name, length in lengths.items()}
        for area, place in [*alive, *zip(work[k], scratch.work[k], strict=True)]:
            name, _, offset = re.sub(r"^&?scratch(\.|->)", "", place).rstrip("]").partition("[")
            start = int(offset or 0)
            assert start + area.length <= lengths[name]
            taken[name][start : start + area.length] += 1
        assert all(count.max() <= 1 for count in taken.values())
    assert all(region.bytes % 4 == 0 for region in scratch.regions)
    assert scratch.bytes == sum(region.length * TYPE_BYTES[region.c_type] for region in scratch.regions)


# ---- the interface -------------------------------------------------------------------------------------------------


def test_big_networks_take_scratch_memory_as_their_last_parameter():
    header = generate(lenet(), "cortex-m4", "digits", layout="0=conv,2=conv").files["digits.h"]
    assert "#define DIGITS_SCRATCH_BYTES 1688 " in header
    assert "typedef struct {\n    int32_t line[28];\n    uint8_t bytes[1576];\n} digits_scratch_t;" in header
    assert "    int32_t sums[DIGITS_SUMS],\n    digits_scratch_t *scratch);" in header


def test_small_networks_need_no_scratch_memory():
    header = generate(pen(), "cortex-m4", "pen").files["pen.h"]
    assert "#define PEN_SCRATCH_BYTES 0 " in header
    assert "scratch_t" not in header


def test_static_scratch_takes_inputs_from_a_global_array():
    export = generate(lenet(), "cortex-m4", "digits", static_scratch=True)
    header = export.files["digits.h"]
    assert "extern digits_input_t digits_input[DIGITS_INPUT_LENGTH];" in header
    assert "int digits_predict(void);" in header
    assert "#define DIGITS_SCRATCH_BYTES 0 " in header
    assert "#define DIGITS_STATIC_SCRATCH 1" in header
    assert "re-entrant" not in header


def test_the_readme_shows_who_provides_the_memory():
    readme = generate(lenet(), "cortex-m4", "digits", layout="0=conv,2=conv").files["README.md"]
    assert "static digits_scratch_t scratch; /* 1688 bytes, free for other use between calls */" in readme
    assert "digits_predict(input, &scratch);" in readme
    assert "Between the layers: 1688 bytes of RAM, which the caller provides as `scratch`." in readme
    readme = generate(lenet(), "cortex-m4", "digits", static_scratch=True).files["README.md"]
    assert "digits_predict();" in readme


@pytest.mark.parametrize(("channels", "static", "flags"), [(4, True, ()), (90, False, ("-flto",))])
def test_no_compiler_drops_a_layer_between_two_places_of_one_memory(channels, static, flags, tmp_path):
    """GCC 12.2 for Cortex-M4 did, at -O2, as long as it knew both addresses."""
    require_compiler("arm-none-eabi-gcc")
    core, target = CORES["cortex-m4"], TARGETS["cortex-m4"]
    require(RUNNERS["unicorn"].is_installed(core), "unicorn is not installed")
    pools = MaxPool((1, 1), (1, 1)), MaxPool((2, 1), (2, 1))
    last = Dense(np.arange(3 * channels).reshape(3, channels) % 5 - 2, [0, 1, 2])
    inputs = 2 * channels
    network = Network([0] * inputs, [255] * inputs, (*pools, last), Argmax(3), tuple("abc"), (channels, 2, 1))
    files = generate(network, target, static_scratch=static).files
    program = build(
        files, tmp_path, network=network, name="model", target=target, core=core,
        toolchain=find_toolchain(target, "arm-none-eabi-gcc"), extra_flags=flags,
    )  # fmt: skip
    rows = random_rows(network, 20, np.random.default_rng(0))
    assert Harness(program, RUNNERS["unicorn"]).infer(rows).sums.tolist() == network.sums(rows).tolist()


@pytest.mark.parametrize("static", [False, True])
def test_networks_without_inner_tensors_work_either_way(static, tmp_path):

    network = linear([[1, -1], [0, 1]])
    (compiled,) = compile_host([generate(network, static_scratch=static)], tmp_path)
    assert_equal_to_network(compiled, network, random_rows(network, 20, np.random.default_rng(0)))
