"""`Network`: the exact integer network, the one truth that formulations, generated C and every core are compared with.

    raw --quantizer--> inputs --layers--> sums --decision--> scores, class, margin

Immutable, integers throughout; see `mip2mcu.layers` and `mip2mcu.decisions` for the arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from mip2mcu.decisions import CLASS_LIMIT, Decision
from mip2mcu.errors import ModelError
from mip2mcu.files import write_text
from mip2mcu.layers import UNIT_LIMIT, Conv2d, Dense, Layer, Shape
from mip2mcu.model_file import decode, digest, encode, parse, render
from mip2mcu.quantizer import Quantizer, text_fault
from mip2mcu.ranges import IntArray, frozen

INPUT_LIMIT = 2**15 - 1
"""Largest magnitude of a network input (an unsigned 8-bit input is the usual case)."""
OPERATION_LIMIT = 2**30
"""Most multiply-additions of one inference; a small microcontroller would need minutes for them."""


@dataclass(frozen=True, eq=False)
class Network:
    """An integer network with its input ranges, layers, decision rule and (optionally) quantizer.

    input_low, input_high   int64 (inputs,): the range of each input
    layers                  applied in order to tensors of ``input_shape``
    decision                `Argmax`, `Sign` or `Vote`, over the last layer's sums
    classes                 labels, one a class
    input_shape             (inputs,) or (channels, rows, columns); default (inputs,)
    quantizer               raw features to inputs; None where the inputs are the raw integers
    """

    input_low: IntArray
    input_high: IntArray
    layers: tuple[Layer, ...]
    decision: Decision
    classes: tuple[str, ...]
    input_shape: Shape = ()
    quantizer: Quantizer | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_low", frozen(self.input_low))
        object.__setattr__(self, "input_high", frozen(self.input_high))
        object.__setattr__(self, "layers", tuple(self.layers))
        object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "input_shape", tuple(self.input_shape) or (len(self.input_low),))
        self._check_inputs()
        self._check_classes()
        self._check_layers()
        self._check_ranges()

    def _check_inputs(self) -> None:
        low, high = self.input_low, self.input_high
        if low.ndim != 1 or low.shape != high.shape or not 1 <= len(low) <= UNIT_LIMIT:
            raise ModelError(
                f"a network needs 1..{UNIT_LIMIT} inputs with one lower and one upper end each, got {low.shape} "
                f"lower and {high.shape} upper ends"
            )
        if (low > high).any() or low.min() < -INPUT_LIMIT or high.max() > INPUT_LIMIT:
            raise ModelError(f"input ranges must ascend and stay within -{INPUT_LIMIT}..{INPUT_LIMIT}")
        if len(self.input_shape) not in (1, 3) or min(self.input_shape) < 1 or prod(self.input_shape) != len(low):
            raise ModelError(
                f"input shape {self.input_shape} is neither ({len(low)},) nor (channels, rows, columns) of {len(low)} "
                "inputs"
            )
        if self.quantizer is not None and (
            self.quantizer.width != len(low) or low.any() or (self.quantizer.input_high != high).any()
        ):
            raise ModelError("the quantizer's outputs do not match the number or ranges of the network's inputs")

    def _check_classes(self) -> None:
        if not 1 <= len(self.classes) <= CLASS_LIMIT:
            raise ModelError(f"a network needs 1..{CLASS_LIMIT} classes, not {len(self.classes)}")
        for label in self.classes:
            if fault := text_fault(label):
                raise ModelError(f"the class label {str(label)[:40]!r} {fault}")
        if len(set(self.classes)) != len(self.classes):
            raise ModelError("two classes have the same label")
        if self.decision.classes != len(self.classes):
            raise ModelError(f"the decision rule is for {self.decision.classes} classes, not {len(self.classes)}")

    def _check_layers(self) -> None:
        if not self.layers:
            raise ModelError("a network needs at least one layer")
        for shape in self.shapes:
            if prod(shape) > UNIT_LIMIT:
                raise ModelError(f"a tensor of shape {shape} has more than {UNIT_LIMIT} elements")
        count = self.operations
        if count > OPERATION_LIMIT:
            raise ModelError(f"one inference takes {count} operations, at most {OPERATION_LIMIT} are possible")
        last = self.layers[-1]
        if not isinstance(last, Dense) or last.activation.value != "none":
            raise ModelError("the last layer must be dense and without activation")
        if last.units != self.decision.sums_expected():
            raise ModelError(f"the decision rule expects {self.decision.sums_expected()} sums, not {last.units}")

    def _check_ranges(self) -> None:
        for low, high in self.layer_ranges[1:-1]:
            if low.min() < -INPUT_LIMIT or high.max() > INPUT_LIMIT:
                raise ModelError(f"an inner layer's outputs reach {low.min()}..{high.max()}, beyond {INPUT_LIMIT}")
        for (low, high), layer in zip(self.layer_ranges, self.layers, strict=False):
            if isinstance(layer, Dense | Conv2d) and layer.requantisation is not None:
                top = layer.sum_range(low, high)[1]
                per_unit = np.maximum(top.reshape(len(top), -1).max(axis=1), 0)
                if (per_unit >> layer.requantisation.pre).max() > 65535:
                    raise ModelError("a requantised sum exceeds 65535 after its first shift: raise `pre`")

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Shape of the inputs and of each layer's output."""
        shapes = [self.input_shape]
        for layer in self.layers:
            shapes.append(layer.output_shape(shapes[-1]))
        return tuple(shapes)

    @cached_property
    def layer_ranges(self) -> tuple[tuple[IntArray, IntArray], ...]:
        """Exact interval (low, high) of the inputs and of each layer's outputs, in the tensors' shapes."""
        ranges = [(self.input_low.reshape(self.input_shape), self.input_high.reshape(self.input_shape))]
        for layer in self.layers:
            ranges.append(layer.output_range(*ranges[-1]))
        return tuple(ranges)

    @property
    def inputs(self) -> int:
        """Number of network inputs."""
        return len(self.input_low)

    @property
    def unclassified(self) -> int:
        """What `predict` returns where the rule leaves a row unclassified: the number of classes."""
        return len(self.classes)

    def check_inputs(self, inputs: IntArray) -> IntArray:
        """``inputs`` as int64 (rows, inputs); raises `ModelError` where a value lies outside its range."""
        inputs = np.asarray(inputs)
        if inputs.ndim != 2 or inputs.shape[1] != self.inputs:
            raise ModelError(f"inputs have shape {inputs.shape}, the network expects (rows, {self.inputs})")
        if inputs.dtype.kind not in "iub":
            raise ModelError(f"inputs are of type {inputs.dtype}, the network takes integers: quantize them first")
        outside = np.argwhere((inputs < self.input_low) | (inputs > self.input_high))
        if len(outside):
            k, i = outside[0]
            raise ModelError(
                f"input {i} of row {k} is {inputs[k, i]}, outside its range {self.input_low[i]}..{self.input_high[i]}"
            )
        return inputs.astype(np.int64)

    def quantize(self, raw: IntArray) -> IntArray:
        """Inputs (rows, inputs) of raw integers (rows, features); without a quantizer the raw values are checked."""
        if self.quantizer is None:
            return self.check_inputs(raw)
        raw = frozen(raw)
        if raw.ndim != 2 or raw.shape[1] != len(self.quantizer.features):
            raise ModelError(f"raw rows have shape {raw.shape}, expected (rows, {len(self.quantizer.features)})")
        return self.quantizer.quantize(raw)

    def activations(self, inputs: IntArray) -> list[IntArray]:
        """Outputs of every layer, (rows, *shape) each; the last entry are the sums."""
        values = self.check_inputs(inputs).reshape(-1, *self.input_shape)
        outputs = []
        for layer in self.layers:
            values = layer.forward(values)
            outputs.append(values)
        return outputs

    def sums(self, inputs: IntArray) -> IntArray:
        """The last layer's sums, int64 (rows, sums)."""
        return self.activations(inputs)[-1]

    def scores(self, inputs: IntArray) -> IntArray:
        """Scores by the decision rule, int64 (rows, scores)."""
        return self.decision.scores(self.sums(inputs))

    def predict(self, inputs: IntArray) -> IntArray:
        """Class index of each row, `unclassified` where the rule says so."""
        return self.decision.predict(self.sums(inputs))

    def margin(self, inputs: IntArray) -> IntArray:
        """First minus second score of each row."""
        return self.decision.margin(self.sums(inputs))

    @property
    def operations(self) -> int:
        """Multiply-additions of one inference; of pooling layers, the values read."""
        return sum(layer.operations(shape) for layer, shape in zip(self.layers, self.shapes, strict=False))

    @property
    def weight_count(self) -> int:
        """Number of weights, zeros included, biases not."""
        return sum(layer.weights.size for layer in self.layers if hasattr(layer, "weights"))

    @property
    def link_count(self) -> int:
        """Number of non-zero weights."""
        return sum(int(np.count_nonzero(layer.weights)) for layer in self.layers if hasattr(layer, "weights"))

    @property
    def weight_values(self) -> dict[int, int]:
        """How often each weight occurs, zeros included, in ascending order."""
        every = [layer.weights.reshape(-1) for layer in self.layers if hasattr(layer, "weights")]
        values, counts = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *every]), return_counts=True)
        return dict(zip(values.tolist(), counts.tolist(), strict=True))

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the canonical form: the model's identity in files, generated C and reports."""
        return digest(encode(self._fields()))

    def save(self, path: str | Path) -> None:
        """Write the network as JSON, atomically; the same network gives the same bytes."""
        write_text(path, render(self.as_document()))

    @classmethod
    def load(cls, path: str | Path) -> Network:
        """Read and validate a network written by `save`; raises `ModelError` for anything else."""
        return cls.from_document(parse(path))

    def as_document(self) -> dict[str, Any]:
        """The content of a model file in plain values, for JSON."""
        return encode(self._fields())

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Network:
        """The inverse of `as_document`; raises `ModelError` for anything else."""
        return cls(**decode(document))

    def _fields(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}
