"""ONNX files as chains of operators: what is constant is computed here, what is left is one `Node` after another.

Weights may lie in the file or in another one beside it, as PyTorch writes them. Nothing outside of the folder is read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mip2mcu.errors import ModelError
from mip2mcu.layers import UNIT_LIMIT, Shape
from mip2mcu.prune.float_network import FloatArray

SIZE_LIMIT = 256 * 1024**2
"""Most bytes of an ONNX file, and of the weights beside it: far beyond what a microcontroller holds."""
COMPUTED_LIMIT = 2**24
"""Most values of a constant that is computed from others."""

Constant = NDArray[Any]


@dataclass(frozen=True)
class Node:
    """An operator: its kind, its name for messages, attributes, and the constants among its inputs by position."""

    kind: str
    name: str
    attributes: dict[str, Any]
    constants: dict[int, Constant]

    @property
    def label(self) -> str:
        """Kind and name, as messages say them."""
        return f"{self.kind} (node {self.name!r})"

    def constant(self, position: int) -> FloatArray:
        """The constant input at ``position``; raises `ModelError` where other operators compute it."""
        if position not in self.constants:
            raise ModelError(f"{self.label} reads its input {position} from other operators: it must be a constant")
        return self.constants[position]

    def axes(self, position: int) -> list[int]:
        """Axes as an attribute or, in newer files, as the constant input at ``position``."""
        given = self.attributes.get("axes")
        if given is None and position in self.constants:
            given = self.constants[position].reshape(-1).tolist()
        if given is None:
            raise ModelError(f"{self.label} does not name its axes")
        return [int(axis) for axis in given]

    def expect(self, name: str, default: Any, *allowed: Any) -> None:
        """Refuse the node where its attribute has another value."""
        value = self.attributes.get(name, default)
        if value not in (default, *allowed):
            raise ModelError(f"{self.label} has {name} {value!r}, supported is {default!r}")


class Graph:
    """An ONNX file: the shape of one row of its only input, and its operators."""

    def __init__(self, path: str | Path) -> None:
        """Reads the file; raises `ModelError` where it is none, too large, or without a fixed input."""
        try:
            import onnx  # noqa: PLC0415  (an optional extra)
        except ImportError:
            raise ModelError("reading ONNX files needs the package onnx: pip install 'mip2mcu[onnx]'") from None
        self._path, self._onnx, self._left = Path(path), onnx, SIZE_LIMIT
        self._graph = _parsed(self._path, onnx).graph
        self.input_shape = _input_shape(self._graph, {tensor.name for tensor in self._graph.initializer})

    def nodes(self, kinds: Collection[str], shape: Callable[[], Shape]) -> Iterator[Node]:
        """The operators from input to output; ``shape`` gives that of one row of what the last of them gave.

        Raises `ModelError` for branches and for operators that are neither among ``kinds`` nor on constants only.
        """
        self._check_kinds(kinds)
        constants = {tensor.name: self._array(tensor) for tensor in self._graph.initializer}
        value = next(entry.name for entry in self._graph.input if entry.name not in constants)
        output, seen = self._graph.output[0].name, {value: shape()}
        for position, raw in enumerate(self._graph.node):
            node = self._node(raw, position, constants)
            others = {name for name in raw.input if name and name not in constants}
            if node.kind == "Shape" and raw.input[0] in seen:
                node.constants[0] = np.empty((1, *seen[raw.input[0]]), dtype=np.bool_)
                others = set()
            if not others:
                constants[raw.output[0]] = _computed(node)
                continue
            if others != {value}:
                raise ModelError(self._branch(min(others - {value})))
            yield node
            value = raw.output[0]
            seen[value] = shape()
            if value == output:
                return
        raise ModelError(f"no chain of operators leads to the output {output!r}")

    def _check_kinds(self, kinds: Collection[str]) -> None:
        strange = [
            f"{raw.op_type} (node {raw.name or f'#{position}'!r})"
            for position, raw in enumerate(self._graph.node)
            if raw.domain or raw.op_type not in (*kinds, *_COMPUTED)
        ]
        if strange:
            more = f" and {len(strange) - 8} more" if len(strange) > 8 else ""
            raise ModelError(
                f"unsupported operators: {', '.join(strange[:8])}{more}; supported are {', '.join(sorted(kinds))}"
            )

    def _branch(self, name: str) -> str:
        readers = sum(name in raw.input and raw.op_type != "Shape" for raw in self._graph.node)
        return f"{readers} operators read {name!r}: the network must be a chain without branches"

    def _node(self, raw: Any, position: int, constants: dict[str, Constant]) -> Node:
        attributes = {a.name: self._attribute(a) for a in raw.attribute}
        known = {p: constants[name] for p, name in enumerate(raw.input) if name in constants}
        return Node(raw.op_type, raw.name or f"#{position}", attributes, known)

    def _attribute(self, attribute: Any) -> Any:
        """The value of an ONNX attribute in Python's types."""
        field_of = {1: "f", 2: "i", 3: "s", 4: "t", 6: "floats", 7: "ints"}
        value = getattr(attribute, field_of.get(attribute.type, "s"))
        if attribute.type == 4:
            return self._array(value)
        return list(value) if attribute.type in (6, 7) else value.decode() if isinstance(value, bytes) else value

    def _array(self, tensor: Any) -> Constant:
        proto = self._onnx.TensorProto
        if tensor.data_location == proto.EXTERNAL:
            inside = proto()
            inside.CopyFrom(tensor)
            inside.ClearField("external_data")
            inside.ClearField("data_location")
            inside.raw_data = self._external(tensor)
            tensor = inside
        array: Constant = self._onnx.numpy_helper.to_array(tensor)
        return array

    def _external(self, tensor: Any) -> bytes:
        """The bytes of a tensor that lie in a file beside the ONNX file."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = Path(entries.get("location", ""))
        folder = self._path.resolve().parent
        place = (folder / location).resolve()
        if location.is_absolute() or ".." in location.parts or folder not in place.parents:
            raise ModelError(
                f"{self._path} keeps {tensor.name!r} in {str(location)!r}, outside of its folder: export the network "
                "with weights inside"
            )
        kind = self._onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        length = int(entries.get("length", prod(tensor.dims) * kind.itemsize))
        if not 0 <= length <= self._left:
            raise ModelError(f"the weights of {self._path} are larger than {SIZE_LIMIT} bytes")
        self._left -= length
        try:
            with place.open("rb") as stream:
                stream.seek(int(entries.get("offset", 0)))
                content = stream.read(length)
        except OSError as error:
            raise ModelError(
                f"{self._path} keeps {tensor.name!r} in {location.name}, which cannot be read ({error.strerror}): copy "
                "both files into one folder, or export the network with weights inside"
            ) from None
        if len(content) != length:
            raise ModelError(f"{place.name} ends before the weights {tensor.name!r} do: export the network again")
        return content


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
    if not model.graph.node or not model.graph.output:
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
    return shape


# ---- constants -----------------------------------------------------------------------------------------------------


def _computed(node: Node) -> Constant:
    """What an operator on constants gives."""
    if node.kind not in _COMPUTED:
        raise ModelError(f"{node.label} computes with constants only: let the exporter fold constants")
    result = np.asarray(_COMPUTED[node.kind](node, *node.constants.values()))
    if result.size > COMPUTED_LIMIT:
        raise ModelError(f"{node.label} computes {result.size} constants, more than {COMPUTED_LIMIT}")
    return result


def _constant(node: Node, *_: Constant) -> Any:
    names = ("value", "value_float", "value_floats", "value_int", "value_ints")
    for name in names:
        if name in node.attributes:
            return node.attributes[name]
    raise ModelError(f"{node.label} holds no numbers")


def _gathered(node: Node, values: Constant, indices: Constant) -> Constant:
    axis = node.attributes.get("axis", 0)
    if values.size // max(1, values.shape[axis]) * indices.size > COMPUTED_LIMIT:
        raise ModelError(f"{node.label} computes more than {COMPUTED_LIMIT} constants")
    return np.take(values, indices, axis)


def _unsqueezed(node: Node, values: Constant, *_: Constant) -> Constant:
    return np.expand_dims(values, tuple(node.axes(1)))


def _squeezed(node: Node, values: Constant, *_: Constant) -> Constant:
    return np.squeeze(values, tuple(node.axes(1)))


def _shape_of(node: Node, values: Constant) -> Constant:
    return np.array(values.shape[node.attributes.get("start", 0) : node.attributes.get("end")], dtype=np.int64)


_COMPUTED: dict[str, Callable[..., Any]] = {
    "Cast": lambda node, values: values,
    "Concat": lambda node, *parts: np.concatenate(parts, node.attributes["axis"]),
    "Constant": _constant,
    "Gather": _gathered,
    "Identity": lambda node, values: values,
    "Shape": _shape_of,
    "Squeeze": _squeezed,
    "Transpose": lambda node, values: np.transpose(values, node.attributes.get("perm")),
    "Unsqueeze": _unsqueezed,
}
"""What is computed where all inputs are constants: shapes of reshaped values, weights that are stored transposed."""
