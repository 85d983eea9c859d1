"""Trained networks from ONNX files: chains of the operators in `OPERATORS`, whatever framework wrote them.

Constants before the first layer (Mul, Div, Sub, Add: how inputs are normalised) and batch normalisations are folded
into the layers beside them; a Softmax or Sigmoid at the end is left out, as it does not change the largest score.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from mip2mcu.errors import ModelError
from mip2mcu.layers import UNIT_LIMIT, Shape
from mip2mcu.prune.arrays import two_scores
from mip2mcu.prune.float_network import FloatArray, FloatConv, FloatDense, FloatLayer, FloatNetwork, FloatPool
from mip2mcu.prune.rescaling import cleaned, rescaled

SIZE_LIMIT = 256 * 1024**2
"""Largest ONNX file in bytes: far beyond what a microcontroller holds."""


@dataclass
class _Chain:
    """What has been read so far: the layers, the shape they give, and what waits for the first layer."""

    input_shape: Shape
    layers: list[FloatLayer] = field(default_factory=list)
    scale: FloatArray = field(default_factory=lambda: np.ones(1))
    offset: FloatArray = field(default_factory=lambda: np.zeros(1))
    notes: list[str] = field(default_factory=list)
    flat: bool = False
    ended: str = ""

    @property
    def shape(self) -> Shape:
        shape = self.input_shape
        for layer in self.layers:
            shape = tuple(layer.output_shape(shape))
        return (prod(shape),) if self.flat else shape

    def clean(self, values: FloatArray, name: str) -> FloatArray:
        array, notes = cleaned(values, name)
        self.notes += notes
        return array

    def last_linear(self, node: _Node) -> FloatDense | FloatConv:
        """The layer whose sums the next operator reads."""
        if not self.layers or isinstance(self.layers[-1], FloatPool) or self.layers[-1].relu:
            raise ModelError(f"{node.label} stands at a place where it cannot be folded into a Gemm or Conv before it")
        return self.layers[-1]


@dataclass(frozen=True)
class _Node:
    """An operator: its kind, its name for messages, attributes, and the constants among its inputs by position."""

    kind: str
    name: str
    attributes: dict[str, Any]
    constants: dict[int, FloatArray]

    @property
    def label(self) -> str:
        return f"{self.kind} (node {self.name!r})"

    def constant(self, position: int) -> FloatArray:
        if position not in self.constants:
            raise ModelError(f"{self.label} reads its input {position} from other operators: it must be a constant")
        return self.constants[position]

    def expect(self, name: str, default: Any, *allowed: Any) -> None:
        """Refuse the node where its attribute has another value."""
        value = self.attributes.get(name, default)
        if value not in (default, *allowed):
            raise ModelError(f"{self.label} has {name} {value!r}, supported is {default!r}")


def read_onnx(path: str | Path) -> FloatNetwork:
    """Read a trained classifier from an ONNX file; raises `ModelError` for whatever is not supported."""
    try:
        import onnx  # noqa: PLC0415  (an optional extra)
        from onnx import numpy_helper  # noqa: PLC0415
    except ImportError:
        raise ModelError("reading ONNX files needs the package onnx: pip install 'mip2mcu[onnx]'") from None
    model = _parsed(Path(path), onnx)

    def array(tensor: Any) -> FloatArray:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ModelError(f"{path} keeps {tensor.name!r} in another file: export the network with weights inside")
        return numpy_helper.to_array(tensor)

    shape = _input_shape(model.graph, {tensor.name for tensor in model.graph.initializer})
    try:
        constants = {tensor.name: array(tensor) for tensor in model.graph.initializer}
        nodes = _chain_of_nodes(model.graph, constants, array)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise ModelError(f"{path} holds damaged constants or nodes: {str(error).splitlines()[0][:120]}") from None
    chain = _Chain(shape)
    for node in nodes:
        if chain.ended and node.kind not in _IGNORED:
            raise ModelError(f"{node.label} follows {chain.ended}, which must be the end of the network")
        try:
            OPERATORS[node.kind](chain, node)
            _ = chain.shape  # raises where the new layer does not fit
        except ModelError as error:
            raise ModelError(str(error) if node.label in str(error) else f"{node.label}: {error}") from None
        except (TypeError, ValueError, IndexError, KeyError) as error:
            raise ModelError(f"{node.label} does not fit its inputs: {str(error).splitlines()[0][:120]}") from None
    return _finished(chain)


def _parsed(path: Path, onnx: Any) -> Any:
    try:
        with path.open("rb") as stream:
            content = stream.read(SIZE_LIMIT + 1)
    except FileNotFoundError:
        raise ModelError(f"there is no file {path}") from None
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from None
    if len(content) > SIZE_LIMIT:
        raise ModelError(f"{path} is larger than {SIZE_LIMIT} bytes: no microcontroller holds such a network")
    try:
        model = onnx.load_model_from_string(content)
    except Exception:  # protobuf has its own tree of errors
        raise ModelError(f"{path} is no intact ONNX file: export the network again") from None
    if not model.graph.node:
        raise ModelError(f"{path} is no ONNX file with a network in it: export the network again")
    return model


def _input_shape(graph: Any, constants: set[str]) -> Shape:
    """Shape of one row: the graph's only input without its first dimension, the batch."""
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1:
        raise ModelError(f"the network has {len(inputs)} inputs ({', '.join(v.name for v in inputs)[:80]}), expected 1")
    sides = inputs[0].type.tensor_type.shape.dim
    shape = tuple(int(side.dim_value) if side.HasField("dim_value") else 0 for side in sides[1:])
    if not shape or min(shape) < 1 or prod(shape) > UNIT_LIMIT:
        shown = [side.dim_param or str(side.dim_value) if side.ByteSize() else "?" for side in sides]
        raise ModelError(
            f"input {inputs[0].name!r} has the dynamic or empty shape [{', '.join(shown)}]: only the first dimension, "
            "the batch, may be open; export with a fixed size"
        )
    while len(shape) > 3 and shape[0] == 1:
        shape = shape[1:]
    return shape if len(shape) in (1, 3) else (1, *shape) if len(shape) == 2 else (prod(shape),)


def _chain_of_nodes(graph: Any, constants: dict[str, Any], to_array: Callable[[Any], Any]) -> list[_Node]:
    """The operators from input to output; raises `ModelError` for branches and for kinds that are not supported."""
    nodes = []
    for position, node in enumerate(graph.node):
        label = node.name or f"#{position}"
        attributes = {a.name: _attribute(a) for a in node.attribute}
        if node.op_type == "Constant" and "value" in attributes:
            constants[node.output[0]] = to_array(attributes["value"])
        else:
            nodes.append((node, label, attributes))
    strange = [f"{n.op_type} (node {label!r})" for n, label, _ in nodes if n.op_type not in OPERATORS or n.domain]
    if strange:
        more = f" and {len(strange) - 8} more" if len(strange) > 8 else ""
        raise ModelError(
            f"unsupported operators: {', '.join(strange[:8])}{more}; supported are {', '.join(sorted(OPERATORS))}"
        )
    value, chain = next(v.name for v in graph.input if v.name not in constants), []
    waiting = list(nodes)
    while value != graph.output[0].name:
        readers = [entry for entry in waiting if value in entry[0].input]
        if len(readers) != 1:
            raise ModelError(f"{len(readers)} operators read {value!r}: the network must be a chain without branches")
        node, label, attributes = readers[0]
        waiting.remove(readers[0])
        known = {p: np.asarray(constants[name]) for p, name in enumerate(node.input) if name in constants}
        chain.append(_Node(node.op_type, label, attributes, known))
        value = node.output[0]
    return chain


def _attribute(attribute: Any) -> Any:
    """The value of an ONNX attribute in Python's types."""
    field_of = {1: "f", 2: "i", 3: "s", 4: "t", 6: "floats", 7: "ints"}
    value = getattr(attribute, field_of.get(attribute.type, "s"))
    return list(value) if attribute.type in (6, 7) else value.decode() if isinstance(value, bytes) else value


def _finished(chain: _Chain) -> FloatNetwork:
    if not chain.layers:
        raise ModelError("the network has no layer with weights")
    last = chain.layers[-1]
    if isinstance(last, FloatDense) and last.units == 1:
        weights, bias = two_scores(last.weights, last.bias)
        chain.layers[-1] = replace(last, weights=weights, bias=bias)
        chain.notes.append("the one score s is taken as two classes: the second where s is positive")
    network = FloatNetwork(tuple(chain.layers), chain.input_shape, notes=tuple(chain.notes))
    if (chain.scale == 1).all() and not chain.offset.any():
        return network
    return rescaled(network, _spread(chain.scale, chain), _spread(chain.offset, chain))


def _spread(values: FloatArray, chain: _Chain) -> FloatArray:
    """One value an input: ``values`` as numpy broadcasts them against a batch of inputs."""
    return np.broadcast_to(values, (1, *chain.input_shape)).reshape(-1)


# ---- operators -----------------------------------------------------------------------------------------------------


def _add_dense(chain: _Chain, weights: FloatArray, bias: FloatArray, node: _Node) -> None:
    """A dense layer; one that follows another without ReLU between them becomes one with it."""
    weights, bias = chain.clean(weights, f"weights of {node.label}"), chain.clean(bias, f"biases of {node.label}")
    before = chain.layers[-1] if chain.layers else None
    if isinstance(before, FloatDense) and not before.relu:
        chain.layers[-1] = FloatDense(weights @ before.weights, weights @ before.bias + bias, relu=False)
    elif isinstance(before, FloatConv) and not before.relu:
        raise ModelError(f"{node.label} follows a Conv without Relu: only the last layer is without")
    else:
        chain.layers.append(FloatDense(weights, bias, relu=False))
    chain.flat = False


def _gemm(chain: _Chain, node: _Node) -> None:
    node.expect("transA", 0)
    weights = node.constant(1) * node.attributes.get("alpha", 1.0)
    weights = weights if node.attributes.get("transB", 0) else weights.T
    beta = node.attributes.get("beta", 1.0)
    bias = node.constant(2) * beta if 2 in node.constants else np.zeros(len(weights))
    _add_dense(chain, weights, np.broadcast_to(bias.reshape(-1), (len(weights),)), node)


def _matmul(chain: _Chain, node: _Node) -> None:
    weights = node.constant(1)
    if weights.ndim != 2:
        raise ModelError(f"{node.label} multiplies by an array of shape {weights.shape}, expected two dimensions")
    _add_dense(chain, weights.T, np.zeros(weights.shape[1]), node)


def _arithmetic(chain: _Chain, node: _Node) -> None:
    """x + c, x - c, x * c or x / c: on the inputs, or on the sums of a layer."""
    position = 0 if 0 in node.constants else 1
    value = np.asarray(node.constant(position), dtype=np.float64)
    if position == 0 and node.kind in ("Sub", "Div"):
        raise ModelError(f"{node.label} has its constant in front: x - c and x / c are supported")
    scale: FloatArray = np.ones(1)
    offset: FloatArray = np.zeros(1)
    if node.kind in ("Add", "Sub"):
        offset = value if node.kind == "Add" else -value
    else:
        scale = value if node.kind == "Mul" else 1.0 / value
    if not chain.layers:
        chain.scale, chain.offset = chain.scale * scale, chain.offset * scale + offset
        return
    layer = chain.last_linear(node)
    per_unit = [_per_unit(v, layer, node) for v in (scale, offset)]
    _fold(chain, layer, chain.clean(per_unit[0], node.label), chain.clean(per_unit[1], node.label))


def _per_unit(values: FloatArray, layer: FloatDense | FloatConv, node: _Node) -> FloatArray:
    """One value a unit or channel, from an array that is broadcast against (1, units) or (1, channels, 1, 1)."""
    trailing = 2 if isinstance(layer, FloatConv) else 0
    if values.size == 1:
        return np.full(layer.units, float(values.reshape(-1)[0]))
    if values.size != layer.units or values.shape[-trailing - 1 :] != (layer.units, *(1,) * trailing):
        raise ModelError(f"{node.label} has a constant of shape {values.shape}, expected one value a unit or channel")
    return values.reshape(-1)


def _fold(chain: _Chain, layer: FloatDense | FloatConv, scale: FloatArray, offset: FloatArray) -> None:
    chain.layers[-1] = layer.with_matrix(layer.matrix * scale[:, None], layer.bias * scale + offset)


def _batch_norm(chain: _Chain, node: _Node) -> None:
    node.expect("training_mode", 0)
    layer = chain.last_linear(node)
    gain, shift, mean, variance = (np.asarray(node.constant(p), dtype=np.float64) for p in (1, 2, 3, 4))
    scale = gain / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
    _fold(chain, layer, chain.clean(scale, node.label), chain.clean(shift - mean * scale, node.label))


def _conv(chain: _Chain, node: _Node) -> None:
    node.expect("group", 1)
    weights = chain.clean(node.constant(1), f"weights of {node.label}")
    if weights.ndim != 4 or len(chain.shape) != 3:
        raise ModelError(f"{node.label} has {weights.ndim - 2} dimensions of space on {chain.shape}, expected 2")
    node.expect("dilations", [1, 1])
    bias = node.constant(2) if 2 in node.constants else np.zeros(len(weights))
    if chain.layers and not isinstance(chain.layers[-1], FloatPool) and not chain.layers[-1].relu:
        raise ModelError(f"{node.label} follows a layer without Relu: only the last layer is without")
    layer = FloatConv(
        weights,
        chain.clean(bias, f"biases of {node.label}"),
        _pair(node.attributes.get("strides", [1, 1])),
        _padding(node, chain.shape, weights.shape[2:]),
        relu=False,
    )
    if max(layer.padding) and (chain.offset.any() and not chain.layers):
        chain.notes.append(f"{node.label} pads with what stands for 0 after the inputs' normalisation, rounded")
    chain.layers.append(layer)


def _padding(node: _Node, shape: Shape, kernel: Shape) -> tuple[int, int, int, int]:
    """(top, left, bottom, right), as ONNX orders them."""
    automatic = node.attributes.get("auto_pad", "NOTSET")
    if automatic == "VALID":
        return (0, 0, 0, 0)
    if automatic == "NOTSET":
        top, left, bottom, right = (int(p) for p in node.attributes.get("pads", [0, 0, 0, 0]))
        return top, left, bottom, right
    if automatic not in ("SAME_UPPER", "SAME_LOWER"):
        raise ModelError(f"{node.label} has auto_pad {automatic!r}, supported are NOTSET, VALID and SAME")
    strides = node.attributes.get("strides", [1, 1])
    totals = [max(0, (-(-s // d) - 1) * d + k - s) for s, d, k in zip(shape[1:], strides, kernel, strict=True)]
    small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
    first, last = (small, large) if automatic == "SAME_UPPER" else (large, small)
    return first[0], first[1], last[0], last[1]


def _pair(values: list[int]) -> tuple[int, int]:
    first, second = (int(v) for v in values)
    return first, second


def _pool(chain: _Chain, node: _Node) -> None:
    average = "Average" in node.kind
    if len(chain.shape) != 3:
        raise ModelError(f"{node.label} reads values of shape {chain.shape}, expected (channels, rows, columns)")
    if average and chain.layers and not isinstance(chain.layers[-1], FloatPool) and not chain.layers[-1].relu:
        raise ModelError(f"{node.label} stands before a Relu: put the Relu in front of it")
    if node.kind.startswith("Global"):
        chain.layers.append(FloatPool(_pair(list(chain.shape[1:])), _pair(list(chain.shape[1:])), average))
        return
    window = _pair(node.attributes["kernel_shape"])
    node.expect("dilations", [1, 1])
    node.expect("ceil_mode", 0)
    if any(_padding(node, chain.shape, window)):
        raise ModelError(f"{node.label} pads its input: pooling is supported without padding")
    chain.layers.append(FloatPool(window, _pair(node.attributes.get("strides", [1, 1])), average))


def _relu(chain: _Chain, node: _Node) -> None:
    pools = []
    while chain.layers and isinstance(chain.layers[-1], FloatPool) and not chain.layers[-1].average:
        pools.append(chain.layers.pop())  # a maximum and ReLU may change places
    if chain.layers and not isinstance(chain.layers[-1], FloatPool):
        chain.layers[-1] = replace(chain.layers[-1], relu=True)
    elif chain.layers or pools:
        raise ModelError(f"{node.label} does not follow a Gemm, MatMul or Conv")
    else:
        raise ModelError(f"{node.label} stands before the first layer")
    chain.layers += reversed(pools)


def _flatten(chain: _Chain, node: _Node) -> None:
    count = prod(chain.shape)
    if node.kind == "Flatten":
        node.expect("axis", 1)
    elif 1 in node.constants:
        target = node.constants[1].reshape(-1).tolist()
        if len(target) == 4 and not chain.layers and prod(int(s) for s in target[1:]) == count:
            chain.input_shape = tuple(int(s) for s in target[1:])
            return
        if len(target) != 2 or target[1] not in (count, -1):
            raise ModelError(f"{node.label} reshapes to {target}: only to (batch, {count}) is supported")
    else:
        raise ModelError(f"{node.label} reshapes to a shape that other operators compute: export with a fixed shape")
    chain.flat = True


def _skip(_chain: _Chain, _node: _Node) -> None:
    """Operators that do nothing when a network is used."""


def _end(chain: _Chain, node: _Node) -> None:
    chain.ended = node.label


_IGNORED = ("Dropout", "Identity", "Flatten", "Reshape")
OPERATORS: dict[str, Callable[[_Chain, _Node], None]] = {
    "Add": _arithmetic,
    "AveragePool": _pool,
    "BatchNormalization": _batch_norm,
    "Conv": _conv,
    "Constant": _skip,
    "Div": _arithmetic,
    "Dropout": _skip,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _pool,
    "GlobalMaxPool": _pool,
    "Identity": _skip,
    "LogSoftmax": _end,
    "MatMul": _matmul,
    "MaxPool": _pool,
    "Mul": _arithmetic,
    "Relu": _relu,
    "Reshape": _flatten,
    "Sigmoid": _end,
    "Softmax": _end,
    "Sub": _arithmetic,
}
"""What is understood, by ONNX name."""
