"""Trained networks from ONNX files: chains of the operators in `OPERATORS`, whatever framework wrote them.

Constants that are added or multiplied, and batch normalisations, are folded into the layer before them, or into the one
behind them where they normalise inputs or activations. Transposed and reshaped values are read in the order in which
the layers before give them. A Softmax or Sigmoid at the end is left out, as it does not change the largest score.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path

import numpy as np

from mip2mcu.errors import ModelError
from mip2mcu.layers import UNIT_LIMIT, Shape
from mip2mcu.prune.arrays import two_scores
from mip2mcu.prune.float_network import FloatArray, FloatConv, FloatDense, FloatLayer, FloatNetwork, FloatPool, Weighted
from mip2mcu.prune.onnx_graph import Graph, Node
from mip2mcu.prune.rescaling import behind, cleaned, finite, pooled_behind
from mip2mcu.ranges import IntArray


@dataclass
class _Chain:
    """What has been read so far.

    shape    of the current value
    order    the current value, flattened, holds the last layer's outputs in this order; None: as they are
    waiting  scale and offset, both of ``shape``, that the next layer must take in
    """

    input_shape: Shape
    shape: Shape
    layers: list[FloatLayer] = field(default_factory=list)
    order: IntArray | None = None
    waiting: tuple[FloatArray, FloatArray] | None = None
    notes: list[str] = field(default_factory=list)
    ended: str = ""

    def clean(self, values: FloatArray, name: str) -> FloatArray:
        """Weights without what no program can take; what was done goes into the notes."""
        array, notes = cleaned(values, name)
        self.notes += notes
        return array

    def finite(self, values: FloatArray, node: Node) -> FloatArray:
        """The same for factors and summands, whose sizes may differ widely."""
        array, notes = finite(values, node.label)
        self.notes += notes
        return array

    @property
    def linear(self) -> Weighted | None:
        """The layer whose sums the current value is, in their order."""
        last = self.layers[-1] if self.layers else None
        if last is None or isinstance(last, FloatPool) or last.relu or self.waiting or self.order is not None:
            return None
        return last

    def image(self, node: Node) -> None:
        """Make sure that the current value is an image as the layers before give it."""
        if len(self.shape) != 3:
            raise ModelError(f"{node.label} reads values of shape {self.shape}, expected (channels, rows, columns)")
        if self.order is not None or (self.layers and self.shape != self._given):
            raise ModelError(f"{node.label} reads an image whose values were moved: feed channels first, (N, C, H, W)")
        if not self.layers:
            self.input_shape = self.shape

    @property
    def _given(self) -> Shape:
        shape = self.input_shape
        for layer in self.layers:
            shape = tuple(layer.output_shape(shape))
        return shape

    def append(self, layer: FloatLayer) -> None:
        """``layer`` gives the current value from now on."""
        self.layers.append(layer)
        if prod(self._given) > UNIT_LIMIT:
            raise ModelError(f"a layer gives {prod(self._given)} values, more than {UNIT_LIMIT}")
        self.shape, self.order, self.waiting = self._given, None, None

    def wait(self, scale: FloatArray, offset: FloatArray) -> None:
        """Multiply by ``scale`` and add ``offset`` in the layer that comes next; arrays for a batch of one row."""
        before = self.waiting or (np.ones(self.shape), np.zeros(self.shape))
        full = [np.broadcast_to(v, (1, *self.shape))[0] for v in (scale, offset)]
        self.waiting = before[0] * full[0], before[1] * full[0] + full[1]

    def moved(self, order: IntArray) -> None:
        """The current value takes the shape of ``order``, which says where each of its elements was."""
        flat = order.reshape(-1)
        before = np.arange(len(flat)) if self.order is None else self.order
        self.order = None if (before[flat] == np.arange(len(flat))).all() else before[flat]
        self.shape = order.shape
        if self.waiting:
            scale, offset = (v.reshape(-1)[order] for v in self.waiting)
            self.waiting = scale, offset


def read_onnx(path: str | Path) -> FloatNetwork:
    """Read a trained classifier from an ONNX file; raises `ModelError` for whatever is not supported."""
    graph = Graph(path)
    chain = _Chain(graph.input_shape, graph.input_shape)
    try:
        for node in graph.nodes(OPERATORS, lambda: chain.shape):
            _apply(chain, node)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise ModelError(f"{path} holds damaged constants or nodes: {_line(error)}") from None
    return _finished(chain)


def _apply(chain: _Chain, node: Node) -> None:
    if chain.ended and node.kind not in _IGNORED:
        raise ModelError(f"{node.label} follows {chain.ended}, which must be the end of the network")
    try:
        with np.errstate(all="ignore"):  # what is not finite is cleaned and said
            OPERATORS[node.kind](chain, node)
    except ModelError as error:
        raise ModelError(str(error) if node.label in str(error) else f"{node.label}: {error}") from None
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise ModelError(f"{node.label} does not fit its inputs: {_line(error)}") from None


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def _finished(chain: _Chain) -> FloatNetwork:
    if not chain.layers:
        raise ModelError("the network has no layer with weights")
    last = chain.layers[-1]
    if chain.waiting or chain.order is not None:
        raise ModelError("behind the last layer values are still moved or normalised: end the network with its scores")
    if isinstance(last, FloatDense) and last.units == 1:
        weights, bias = two_scores(last.weights, last.bias)
        chain.layers[-1] = replace(last, weights=weights, bias=bias)
        chain.notes.append("the one score s is taken as two classes: the second where s is positive")
    return FloatNetwork(tuple(chain.layers), chain.input_shape, notes=tuple(chain.notes))


# ---- operators -----------------------------------------------------------------------------------------------------


def _add_dense(chain: _Chain, weights: FloatArray, bias: FloatArray, node: Node) -> None:
    """A dense layer; one that follows another without ReLU between them becomes one with it."""
    weights, bias = chain.clean(weights, f"weights of {node.label}"), chain.clean(bias, f"biases of {node.label}")
    if prod(chain.shape) != weights.shape[1]:
        raise ModelError(f"a dense layer has {weights.shape[1]} weights a unit but {prod(chain.shape)} inputs")
    layer = FloatDense(weights, bias, relu=False)
    if chain.waiting:
        scale, offset = (v.reshape(-1) for v in chain.waiting)
        layer = replace(layer, weights=weights * scale, bias=bias + weights @ offset)
    if chain.order is not None:
        layer = replace(layer, weights=layer.weights[:, np.argsort(chain.order)])
    before = chain.layers[-1] if chain.layers else None
    if isinstance(before, FloatDense) and not before.relu:
        chain.layers.pop()
        layer = FloatDense(layer.weights @ before.weights, layer.weights @ before.bias + layer.bias, relu=False)
    elif isinstance(before, FloatConv) and not before.relu:
        raise ModelError(f"{node.label} follows a Conv without Relu: only the last layer is without")
    elif not chain.layers:
        chain.input_shape = chain.input_shape if len(chain.input_shape) in (1, 3) else (prod(chain.input_shape),)
    chain.append(layer)


def _gemm(chain: _Chain, node: Node) -> None:
    node.expect("transA", 0)
    weights = node.constant(1) * node.attributes.get("alpha", 1.0)
    weights = weights if node.attributes.get("transB", 0) else weights.T
    beta = node.attributes.get("beta", 1.0)
    bias = node.constant(2) * beta if 2 in node.constants else np.zeros(len(weights))
    _add_dense(chain, weights, np.broadcast_to(bias.reshape(-1), (len(weights),)), node)


def _matmul(chain: _Chain, node: Node) -> None:
    weights = node.constant(1)
    if weights.ndim != 2:
        raise ModelError(f"{node.label} multiplies by an array of shape {weights.shape}, expected two dimensions")
    _add_dense(chain, weights.T, np.zeros(weights.shape[1]), node)


def _arithmetic(chain: _Chain, node: Node) -> None:
    """x + c, x - c, x * c or x / c: into the layer before, else into the one behind."""
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
    if (layer := chain.linear) is None:
        chain.wait(chain.finite(scale, node), chain.finite(offset, node))
        return
    per_unit = [_per_unit(v, layer, node) for v in (scale, offset)]
    _fold(chain, layer, chain.finite(per_unit[0], node), chain.finite(per_unit[1], node))


def _per_unit(values: FloatArray, layer: FloatDense | FloatConv, node: Node) -> FloatArray:
    """One value a unit or channel, from an array that is broadcast against (1, units) or (1, channels, 1, 1)."""
    trailing = 2 if isinstance(layer, FloatConv) else 0
    if values.size == 1:
        return np.full(layer.units, float(values.reshape(-1)[0]))
    if values.size != layer.units or values.shape[-trailing - 1 :] != (layer.units, *(1,) * trailing):
        raise ModelError(f"{node.label} has a constant of shape {values.shape}, expected one value a unit or channel")
    return values.reshape(-1)


def _fold(chain: _Chain, layer: FloatDense | FloatConv, scale: FloatArray, offset: FloatArray) -> None:
    chain.layers[-1] = layer.with_matrix(layer.matrix * scale[:, None], layer.bias * scale + offset)


def _batch_norm(chain: _Chain, node: Node) -> None:
    node.expect("training_mode", 0)
    gain, shift, mean, variance = (np.asarray(node.constant(p), dtype=np.float64) for p in (1, 2, 3, 4))
    scale = gain / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
    scale, offset = chain.finite(scale, node), chain.finite(shift - mean * scale, node)
    if (layer := chain.linear) is not None:
        _fold(chain, layer, scale, offset)
    else:
        trailing = (1,) * (len(chain.shape) - 1)
        chain.wait(scale.reshape(-1, *trailing), offset.reshape(-1, *trailing))


def _conv(chain: _Chain, node: Node) -> None:
    node.expect("group", 1)
    weights = chain.clean(node.constant(1), f"weights of {node.label}")
    chain.image(node)
    if weights.ndim != 4:
        raise ModelError(f"{node.label} has {weights.ndim - 2} dimensions of space, expected 2")
    node.expect("dilations", [1, 1])
    bias = node.constant(2) if 2 in node.constants else np.zeros(len(weights))
    if chain.layers and not isinstance(chain.layers[-1], FloatPool) and not chain.layers[-1].relu:
        raise ModelError(f"{node.label} follows a layer without Relu: only the last layer is without")
    layer: Weighted = FloatConv(
        weights,
        chain.clean(bias, f"biases of {node.label}"),
        _pair(node.attributes.get("strides", [1, 1])),
        _padding(node, chain.shape, weights.shape[2:]),
        relu=False,
    )
    layer.output_shape(chain.shape)  # raises where it does not fit
    if chain.waiting:
        layer = _conv_behind(chain, node, layer)
    chain.append(layer)


def _conv_behind(chain: _Chain, node: Node, layer: Weighted) -> Weighted:
    assert chain.waiting
    made = behind(layer, chain.shape, *(v.reshape(-1) for v in chain.waiting))
    if isinstance(made, FloatConv) and made.padding_value:
        if any(not isinstance(before, FloatPool) for before in chain.layers):
            raise ModelError(f"{node.label} pads values that were shifted after a Relu: normalise before the Relu")
        chain.notes.append(f"{node.label} pads with what stands for 0 after the inputs' normalisation, rounded")
    return made


def _padding(node: Node, shape: Shape, kernel: Shape) -> tuple[int, int, int, int]:
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


def _pool(chain: _Chain, node: Node) -> None:
    average = "Average" in node.kind
    chain.image(node)
    if average and chain.layers and not isinstance(chain.layers[-1], FloatPool) and not chain.layers[-1].relu:
        raise ModelError(f"{node.label} stands before a Relu: put the Relu in front of it")
    if node.kind.startswith("Global"):
        _add_pool(chain, FloatPool(_pair(list(chain.shape[1:])), _pair(list(chain.shape[1:])), average))
        return
    window = _pair(node.attributes["kernel_shape"])
    node.expect("dilations", [1, 1])
    node.expect("ceil_mode", 0)
    if any(_padding(node, chain.shape, window)):
        raise ModelError(f"{node.label} pads its input: pooling is supported without padding")
    _add_pool(chain, FloatPool(window, _pair(node.attributes.get("strides", [1, 1])), average))


def _add_pool(chain: _Chain, pool: FloatPool) -> None:
    waiting = None if chain.waiting is None else pooled_behind(pool, *chain.waiting)
    chain.append(pool)
    chain.waiting = waiting


def _mean(chain: _Chain, node: Node) -> None:
    """A mean over rows and columns is a global pool."""
    axes = sorted(axis % (len(chain.shape) + 1) for axis in node.axes(1))
    if axes != [2, 3]:
        raise ModelError(f"{node.label} takes means over the axes {axes}, supported are rows and columns, [2, 3]")
    _pool(chain, replace(node, kind="GlobalAveragePool"))
    if not node.attributes.get("keepdims", 1):
        _reshape(chain, chain.shape[:1])


def _relu(chain: _Chain, node: Node) -> None:
    if chain.waiting and chain.layers:
        raise ModelError(f"{node.label} follows a normalisation that no Gemm, MatMul or Conv before it can take in")
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


def _flatten(chain: _Chain, node: Node) -> None:
    node.expect("axis", 1)
    _reshape(chain, (prod(chain.shape),))


def _reshaped(chain: _Chain, node: Node) -> None:
    if 1 not in node.constants:
        raise ModelError(f"{node.label} reshapes to a shape that other operators compute: export with a fixed shape")
    target = [int(side) for side in node.constants[1].reshape(-1)]
    sides = [chain.shape[i] if side == 0 and i < len(chain.shape) else side for i, side in enumerate(target[1:])]
    count = prod(chain.shape)
    if sides.count(-1) == 1:
        sides[sides.index(-1)] = count // max(1, -prod(sides))
    if not sides or min(sides) < 1 or prod(sides) != count:
        raise ModelError(f"{node.label} reshapes {chain.shape} to {target}: only to (batch, ...) is supported")
    _reshape(chain, tuple(sides))


def _reshape(chain: _Chain, shape: Shape) -> None:
    chain.moved(np.arange(prod(shape)).reshape(shape))


def _transposed(chain: _Chain, node: Node) -> None:
    given = np.arange(prod(chain.shape)).reshape(1, *chain.shape)
    axes = node.attributes.get("perm", list(range(given.ndim))[::-1])
    if axes[0] != 0:
        raise ModelError(f"{node.label} moves the batch: only the other dimensions may be transposed")
    chain.moved(given.transpose(axes)[0])


def _unsqueezed(chain: _Chain, node: Node) -> None:
    """Dimensions of 1 that come or go."""
    change = np.squeeze if node.kind == "Squeeze" else np.expand_dims
    chain.moved(change(np.arange(prod(chain.shape)).reshape(1, *chain.shape), tuple(node.axes(1)))[0])


def _skip(_chain: _Chain, _node: Node) -> None:
    """Operators that do nothing when a network is used."""


def _end(chain: _Chain, node: Node) -> None:
    chain.ended = node.label


_IGNORED = ("Dropout", "Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze")
OPERATORS: dict[str, Callable[[_Chain, Node], None]] = {
    "Add": _arithmetic,
    "AveragePool": _pool,
    "BatchNormalization": _batch_norm,
    "Conv": _conv,
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
    "ReduceMean": _mean,
    "Relu": _relu,
    "Reshape": _reshaped,
    "Sigmoid": _end,
    "Softmax": _end,
    "Squeeze": _unsqueezed,
    "Sub": _arithmetic,
    "Transpose": _transposed,
    "Unsqueeze": _unsqueezed,
}
"""What is understood, by ONNX name."""
