"""The header that firmware/proof/*.c read: a model's names as tested_, its prototypes, its inputs' ranges."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mip2mcu.export.packing import pack_bits
from mip2mcu.network import Network

_MACROS = ("INPUT_LENGTH", "INPUT_PACKED", "INPUTS", "SUMS", "SCORES", "RAW_FEATURES")
_RAW_RANGES = {"uint8_t": (0, 255), "int8_t": (-128, 127), "int16_t": (-(2**15), 2**15 - 1)}
_INT32 = ("(-2147483647L - 1L)", "2147483647L")


def proved_model(network: Network, name: str, header: str) -> str:
    """The text of proved_model.h for the model whose NAME.h has the text ``header``."""
    macro = name.upper()
    given = {found[1]: found[2] for found in re.finditer(rf"^#define {macro}_([A-Z_0-9]+) (\S+)", header, re.MULTILINE)}
    found = re.findall(rf"^typedef (\w+) {name}_(input|raw)_t;", header, re.MULTILINE)
    types = {kind: c_type for c_type, kind in found}
    lines = [f'#include "{name}.h"']
    lines += [f"#define TESTED_{key} {macro}_{key}" for key in _MACROS if key in given]
    lines += [f"#define tested_{kind}_t {name}_{kind}_t" for kind in ("input", "raw")]
    lines += [f"#define PROVED_RESULTS {_results(given)}"]
    lines += _calls(name, given.get("SCRATCH_BYTES", "0") != "0", "STATIC_SCRATCH" in given)
    lines += [f"#define PROVED_{of[1].upper()} {' '.join(of[0].split())}" for of in _prototypes(name, header)]
    lines += ["#define TESTED_CHECK"] * (f" {name}_check(" in header)
    is_packed = given.get("INPUT_PACKED") == "1"
    is_like_bytes = not is_packed and types["input"].endswith("8_t") and _is_of_one_range(network)
    lines.append(f"#define PROVED_LIKE_BYTES {int(is_like_bytes)}")
    if is_packed:
        lines.append(_table("uint32_t", "proved_bits", _bits(network)))
    else:
        lines.append(_table("int32_t", "proved_low", network.input_low))
        lines.append(_table("int32_t", "proved_high", network.input_high))
    if "raw" in types:
        low, high = _RAW_RANGES.get(types["raw"], _INT32)
        lines += [f"#define PROVED_RAW_LOW {low}", f"#define PROVED_RAW_HIGH {high}"]
    return "\n".join(lines) + "\n"


def _bits(network: Network) -> list[str]:
    """Of each word, all bits up to the last that an input can set: so `<=` compares sets of them."""
    words = pack_bits(network.input_high[None])[0].tolist()
    return [f"0x{(1 << word.bit_length()) - 1:08X}U" for word in words]


def _prototypes(name: str, header: str) -> Iterable[re.Match[str]]:
    """Of the functions that a selftest calls."""
    return re.finditer(rf"^\w+ {name}_(sums|scores|predict|margin|quantize)\([^)]*\)(?=;)", header, re.MULTILINE)


def _is_of_one_range(network: Network) -> bool:
    """True where all inputs have the range of the first, which is not negative."""
    low, high = network.input_low, network.input_high
    return bool((low == low[0]).all() and (high == high[0]).all() and low[0] >= 0)


def _results(given: dict[str, str]) -> int:
    """One more than the largest result of predict."""
    return int(given["CLASSES"]) + ("UNCLASSIFIED" in given)


def _calls(name: str, is_scratch: bool, is_static: bool) -> list[str]:
    """Where inputs and scratch memory come from, and macros that call the model's functions with them."""
    macro, given, last = name.upper(), "" if is_static else "(input)", "&scratch" if is_scratch else ""
    array = f"*const input = {name}_input;" if is_static else f"input[{macro}_INPUT_LENGTH];"
    own = f"#define PROVED_OWN_INPUT {name}_input_t {name}_input[{macro}_INPUT_LENGTH];"
    lines = [
        f"#define PROVED_INPUT {f'{name}_input' if is_static else 'input'}",
        *([own] if is_static else []),
        f"#define TESTED_SCRATCH {f'{name}_scratch_t scratch;' if is_scratch else ''}".rstrip(),
        f"#define TESTED_INPUT tested_input_t {array}",
    ]
    functions = (("sums", "(sums)"), ("scores", "(scores)"), ("predict", ""), ("margin", ""))
    for function, filled in functions:
        parameters = ", ".join(part for part in ("input", filled.strip("()")) if part)
        arguments = ", ".join(part for part in (given, filled, last) if part)
        lines.append(f"#define tested_{function}({parameters}) {name}_{function}({arguments})")
    lines += [f"#define tested_{function} {name}_{function}" for function in ("quantize", "pack")]
    lines.append(f"#define tested_check() {name}_check()")
    return [*lines, f"#define tested_selftest() {name}_selftest({last})"]


def _table(c_type: str, name: str, values: Iterable[object]) -> str:
    rows = list(map(str, values))
    return f"static const {c_type} {name}[{len(rows)}] = {{\n    " + ",\n    ".join(rows) + "\n};"
