"""What proofs only assume (annotations "admit") holds: by extremes in plain integers, and in C that checks itself."""

from __future__ import annotations

import ctypes
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from mip2mcu.export import ExportOptions, generate
from mip2mcu.layers import Conv2d, Dense
from mip2mcu.resources import resource_folder
from tests.cnns import pen
from tests.export_support import assert_equal_to_network, compile_host, random_rows
from tests.layout_support import network_of
from tests.test_prove import WIDE, bits_of, layers_of

ADMIT = re.compile(r"/\*@ admit (\w+): ([^;]*); \*/")
COUNTER = '#include "model.h"\nextern int violations;\nint violations = 0;\n'


def checked(condition: str) -> str:
    """C that counts violations of an ACSL condition such as ``-3 <= sum <= 5``."""
    parts = [part.strip() for part in condition.split("<=")]
    pairs = " && ".join(f"({left} <= {right})" for left, right in pairwise(parts))
    return f"if (!({pairs})) {{ violations++; }}"


def with_checks(entry, spoiled=None):
    """An export whose C counts each assumed condition that does not hold; ``spoiled`` changes the conditions."""
    change = spoiled or (lambda condition: condition)
    text = ADMIT.sub(lambda found: checked(change(found[2])), entry.files["model.c"])
    return replace(entry, files={**entry.files, "model.c": text.replace('#include "model.h"\n', COUNTER, 1)})


def one_less(condition: str) -> str:
    """The condition with its upper bound lowered by one."""
    left, _, high = condition.rpartition("<=")
    return f"{left}<= {int(high) - 1}"


def subjects():
    """A network, a target and a layout for each text that assumes something."""
    for layout, target in (("dense/fast", "cortex-m0"), ("dense_dsp", "cortex-m4")):
        for high in (1, 255):
            yield layers_of(WIDE, 21, high), target, f"{layout},dense"
    for layout in ("bit_planes", "bit_planes/compact"):
        for values in ((-1, 1), WIDE):
            for target in ("generic", "cortex-m0", "cortex-m4"):
                yield bits_of(values, 95), target, f"{layout},bit_planes"
    yield network_of(Dense(bits_of((-1, 1), 95).layers[0].weights, [0] * 5), high=1), "avr", "bit_planes"
    yield pen(), "cortex-m4", "0=conv_dsp"


def extreme_rows(network):
    """Rows at which sums of the first layer are largest and smallest: every unit's of a dense one, else the corners."""
    first, low, high = network.layers[0], network.input_low, network.input_high
    if not isinstance(first, Dense):
        return np.stack([low, high])
    up = np.where(first.weights > 0, high, low)
    return np.concatenate([up, low + high - up])


def compiled_with(entry, folder):
    """The opened library, and its number of violations."""
    if entry.target.has_progmem:
        header = (resource_folder("firmware") / "proof" / "avr" / "pgmspace.h").read_text(encoding="ascii")
        text = entry.files["model.c"].replace("#include <avr/pgmspace.h>", f"#define __FRAMAC__ 1\n{header}")
        entry = replace(entry, files={**entry.files, "model.c": text})
    compiled = compile_host([entry], folder)[0]
    return compiled, lambda: ctypes.c_int.in_dll(ctypes.CDLL(str(folder / "models.so")), "violations").value


ASSUMING = {
    "macros.j2": {"dense_offset", "dense_dsp"},
    "layouts/bit_planes.j2": {"bit_planes_bytes", "bit_planes_calls", "bit_planes_rows", "bit_planes_shared"},
    "layouts/bit_planes_bytes.c.j2": {"bit_planes_bytes"},
    "layouts/conv_sums_dsp.c.j2": {"conv"},
}
"""Templates with such annotations, and the partials that print them: themselves, or by the macros of `MACROS`."""
MACROS = {"exact_sum(": "macros.j2", "sum_up(": "layouts/bit_planes.j2"}


def test_every_kind_of_text_that_assumes_something_is_among_the_subjects():
    folder = resource_folder("templates")
    texts = {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*.j2")}
    assert {name for name, text in texts.items() if "/*@ admit" in text} == set(ASSUMING)
    for macro, home in MACROS.items():
        calls = {name for name, text in texts.items() if macro in text and name != home}
        assert calls == {f"layouts/{partial}.c.j2" for partial in ASSUMING[home]}
    partials = set()
    for network, target, layout in subjects():
        program = generate(network, target, "model", options=ExportOptions(layout=layout)).program
        partials |= {layer.lowered.partial for layer in program.layers}
    assert set().union(*ASSUMING.values()) <= partials


SUBJECTS = [pytest.param(*case, id=f"{case[2]}-{case[1]}-{number}") for number, case in enumerate(subjects())]


@pytest.mark.parametrize(("network", "target", "layout"), SUBJECTS)
def test_what_proofs_assume_holds_at_every_extreme_and_one_less_does_not(network, target, layout, tmp_path):
    entry = generate(network, target, "model", options=ExportOptions(layout=layout))
    assert ADMIT.findall(entry.files["model.c"])
    rows = np.concatenate([extreme_rows(network), random_rows(network, 100, np.random.default_rng(1))])
    (tmp_path / "spoiled").mkdir()
    compiled, violations = compiled_with(with_checks(entry), tmp_path)
    assert_equal_to_network(compiled, network, rows)
    assert violations() == 0
    compiled, violations = compiled_with(with_checks(entry, one_less), tmp_path / "spoiled")
    assert_equal_to_network(compiled, network, rows)
    is_attained = isinstance(network.layers[0], Dense)
    assert (violations() > 0) >= is_attained


# ---- ranges of sums, without the exporter's own --------------------------------------------------------------------


def extremes(layer, low, high):
    """Least and greatest sum of any unit, prefixes and the bias alone included: plain integers, input by input."""
    least, most = [], []
    for row, bias in zip(layer.weights.reshape(layer.weights.shape[0], -1).tolist(), layer.bias.tolist(), strict=True):
        total_low = total_high = bias
        for i, weight in enumerate(row):
            ends = (weight * low[i % len(low)], weight * high[i % len(high)])
            total_low, total_high = total_low + min(ends), total_high + max(ends)
        least.append(total_low)
        most.append(total_high)
    return min(least), max(most)


@pytest.mark.parametrize(("network", "target", "layout"), SUBJECTS)
def test_assumed_sums_contain_every_sum_of_the_layer(network, target, layout):
    text = generate(network, target, "model", options=ExportOptions(layout=layout)).files["model.c"]
    for part in re.split(r"\n/\* (?=Layer \d|Sums of)", text)[1:]:
        layer = network.layers[int(re.search(r"ayer (\d+)", part)[1])]
        for name, condition in ADMIT.findall(part):
            if name == "exact_sum":
                low, high = (end.reshape(-1).tolist() for end in network.layer_ranges[network.layers.index(layer)])
                if isinstance(layer, Conv2d):
                    low, high = [min(low)], [max(high)]
                least, most = extremes(layer, low, high)
                first, _, last = condition.split("<=")
                assert int(first) <= least <= most <= int(last)
