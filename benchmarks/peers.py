"""What the same network costs in other C: a plain int8 loop, and the generators that PyPI offers.

    plain_subject     dense int8 weights, two nested loops, as one writes them by hand
    emlearn_subject   what emlearn generates for scikit-learn's MLPClassifier (float32)
    refusals          what the other generators say to that classifier
"""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
import warnings
from pathlib import Path

import numpy as np

from benchmarks.measure import Subject
from mip2mcu.export import Target, find_target
from mip2mcu.layers import Activation, Dense
from mip2mcu.network import Network
from mip2mcu.ranges import IntArray

GENERATORS = ("emlearn", "m2cgen", "micromlgen")


# ---- a plain loop --------------------------------------------------------------------------------------------------


def plain_subject(name: str, network: Network, rows: IntArray, target: Target | str) -> Subject:
    """Dense layers as nested loops over int8_t weights; hidden units give signs or requantised bytes."""
    lines = ["#include <stdint.h>"]
    progmem = find_target(target).has_progmem
    lines += ["#include <avr/pgmspace.h>"] if progmem else ["#define PROGMEM"]
    read = "(int8_t)pgm_read_byte(&{})" if progmem else "{}"
    for k, layer in enumerate(network.layers):
        assert isinstance(layer, Dense)
        lines += _tables(k, layer)
    lines += [f"int {name}_predict(const uint8_t input[{network.inputs}])", "{"]
    lines += ["    int32_t best = INT32_MIN;", "    int32_t sum;", "    int found = 0;", "    int i, j;"]
    hidden = network.layers[:-1]
    lines += [f"    {_hidden_type(layer)} hidden{k}[{layer.units}];" for k, layer in enumerate(hidden)]
    for k, layer in enumerate(network.layers):
        source = f"hidden{k - 1}" if k else "input"
        weight = read.format(f"weights{k}[j][i]")
        lines += [f"    for (j = 0; j < {layer.units}; j++) {{", f"        sum = bias{k}[j];"]
        lines += [f"        for (i = 0; i < {layer.weights.shape[1]}; i++) {{"]
        lines += [f"            sum += {weight} * {source}[i];", "        }", *_finish(k, layer), "    }"]
    lines += ["    return found;", "}", ""]
    return Subject(
        name=name,
        files={f"{name}.c": "\n".join(lines)},
        declare=f"int {name}_predict(const uint8_t input[]);\nstatic uint8_t {name}_row[{network.inputs}];\n"
        f"static int32_t {name}_out[1];",
        statements=(
            f"platform_read({name}_row, sizeof({name}_row));",
            f"{name}_out[0] = {name}_predict({name}_row);",
            f"platform_write({name}_out, sizeof({name}_out));",
        ),
        frames=tuple(row.astype("u1").tobytes() for row in rows),
        answers=network.predict(rows).astype("<i4").tobytes(),
        counted=(f"{name}_predict",),
        linked=(f"{name}_predict",),
    )


def _tables(k: int, layer: Dense) -> list[str]:
    units, inputs = layer.weights.shape
    rows = ",\n".join("{" + ", ".join(map(str, row)) + "}" for row in layer.weights.tolist())
    bias = ", ".join(map(str, layer.bias.tolist()))
    return [
        f"static const int8_t weights{k}[{units}][{inputs}] PROGMEM = {{{rows}}};",
        f"static const int32_t bias{k}[{units}] = {{{bias}}};",
    ]


def _hidden_type(layer: Dense) -> str:
    return "int8_t" if layer.activation is Activation.SIGN else "uint8_t"


def _finish(k: int, layer: Dense) -> list[str]:
    if layer.activation is Activation.SIGN:
        return [f"        hidden{k}[j] = (sum >= 0) ? 1 : -1;"]
    if layer.requantisation is None:
        return ["        if (sum > best) {", "            best = sum;", "            found = j;", "        }"]
    pre, mult, shift = (int(values[0]) for values in vars(layer.requantisation).values())
    return [
        "        {",
        f"            uint32_t scaled = ((uint32_t)(sum > 0 ? sum : 0) >> {pre}) * {mult}U;",
        f"            scaled = (scaled + ((uint32_t)1 << {shift - 1})) >> {shift};",
        f"            hidden{k}[j] = (uint8_t)(scaled > 255U ? 255U : scaled);",
        "        }",
    ]


# ---- generators ----------------------------------------------------------------------------------------------------


def installed(generator: str) -> bool:
    """Whether the package can be imported."""
    return importlib.util.find_spec(generator) is not None


def classifier(network: Network):
    """scikit-learn's MLPClassifier with the shape and, scaled to the usual range, the weights of ``network``."""
    from sklearn.neural_network import MLPClassifier  # noqa: PLC0415  (an optional dependency)

    inputs, hidden = network.inputs, [layer.units for layer in network.layers[:-1]]
    classes = len(network.classes)
    rng = np.random.default_rng(0)
    model = MLPClassifier(tuple(hidden), max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one step of training does not converge, nor need it
        model.fit(rng.random((2 * classes, inputs)), np.arange(2 * classes) % classes)
    model.coefs_ = [layer.weights.T / 127.0 for layer in network.layers]
    model.intercepts_ = [layer.bias / 127.0 for layer in network.layers]
    return model


def emlearn_subject(name: str, network: Network, rows: IntArray, target: Target | str) -> Subject:
    """emlearn's float32 code as it comes by default; its other kind ("inline") fails for this network in 0.23."""
    import emlearn  # noqa: PLC0415  (an optional dependency)

    model = classifier(network)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # it compiles for the host, in ./tmp
        header = emlearn.convert(model, method="loadable").save(name=name)
    features = (rows / 255.0).astype("<f4")
    call = f"{name}_predict({name}_row, {network.inputs})"
    return Subject(
        name=name,
        files={f"{name}.c": header},
        declare=f"int32_t {name}_predict(const float *values, int32_t length);\n"
        f"static float {name}_row[{network.inputs}];\nstatic int32_t {name}_out[1];",
        statements=(
            f"platform_read({name}_row, sizeof({name}_row));",
            f"{name}_out[0] = {call};",
            f"platform_write({name}_out, sizeof({name}_out));",
        ),
        frames=tuple(row.tobytes() for row in features),
        answers=_answers(model, features),
        counted=(f"{name}_predict",),
        linked=(f"{name}_predict",),
        flags=(f"-I{Path(emlearn.includedir)}", *_FLOAT_FLAGS.get(find_target(target).name, ())),
        libraries=(Path("-lm"), Path("-lc")),
    )


def _answers(model, features: np.ndarray) -> bytes:
    with np.errstate(under="ignore"):  # probabilities next to 0
        return model.predict(features).astype("<i4").tobytes()


_FLOAT_FLAGS = {
    "cortex-m4": ("-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"),
    "cortex-m7": ("-mfloat-abi=hard", "-mfpu=fpv5-d16"),
    "cortex-m33": ("-mfloat-abi=hard", "-mfpu=fpv5-sp-d16"),
    "rv32imc": ("--specs=picolibc.specs",),
    "rv32ec": ("--specs=picolibc.specs",),
}
"""Floating-point units, where cores may have one; the C library, where the compiler does not find it by itself."""


def refusals(network: Network) -> dict[str, str]:
    """What each installed generator that takes no neural network says to one."""
    found = {}
    model = classifier(network)
    if installed("m2cgen"):
        import m2cgen  # noqa: PLC0415  (an optional dependency)

        found["m2cgen"] = _refusal(lambda: m2cgen.export_to_c(model))
    if installed("micromlgen"):
        import micromlgen  # noqa: PLC0415  (an optional dependency)

        found["micromlgen"] = _refusal(lambda: micromlgen.port(model))
    if installed("emlearn"):
        import emlearn  # noqa: PLC0415  (an optional dependency)

        fixed = {"method": "loadable", "use_fixedpoint": True}
        found["emlearn, fixed point"] = _refusal(lambda: emlearn.convert(model, **fixed))
    return found


def _refusal(call) -> str:
    try:
        call()
    except (NotImplementedError, TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "accepts it"
