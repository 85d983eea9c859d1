"""Neighbouring layers that C computes in one pass: a convolution and the pool behind it.

Pooled at once, the convolution's outputs need no memory, and of a window only the largest sum is requantised. Both are
exact: activations never decrease, so the largest of the activations is the activation of the largest sum; of a mean,
every term is requantised before it is added, as in the network.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from mip2mcu.layers import Activation, AveragePool, Conv2d, Layer, MaxPool, Shape
from mip2mcu.ranges import IntArray


@dataclass(frozen=True, eq=False, kw_only=True)
class PooledConv2d(Conv2d):
    """A convolution with a pool behind it whose windows do not overlap."""

    pool: MaxPool | AveragePool

    @property
    def convolution(self) -> Conv2d:
        """The same without the pool."""
        return Conv2d(**_parameters(self))

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape of one row's pooled output."""
        return self.pool.output_shape(super().output_shape(input_shape))

    def forward(self, inputs: IntArray) -> IntArray:
        """Pooled activations."""
        return self.pool.forward(super().forward(inputs))

    def output_range(self, low: IntArray, high: IntArray) -> tuple[IntArray, IntArray]:
        """Exact interval of each output for inputs in [low, high]."""
        return self.pool.output_range(*super().output_range(low, high))


@dataclass(frozen=True, eq=False)
class Step:
    """What one C function computes: ``layer``, from the network's tensor ``reads`` to its tensor ``writes``."""

    layer: Layer
    reads: int
    writes: int


def join_pools(layers: tuple[Layer, ...]) -> tuple[Step, ...]:
    """The layers in order, convolutions joined with the pool behind them where its windows touch without overlap."""
    found: list[Step] = []
    for k, layer in enumerate(layers):
        last = found[-1].layer if found else None
        if isinstance(layer, MaxPool | AveragePool) and type(last) is Conv2d and _can_join(last, layer):
            found[-1] = Step(PooledConv2d(**_parameters(last), pool=layer), k - 1, k + 1)
        else:
            found.append(Step(layer, k, k + 1))
    return tuple(found)


def _can_join(layer: Conv2d, pool: MaxPool | AveragePool) -> bool:
    """Means of signs are left apart: the mean of a tensor without a -1 is a case that nobody needs to be fast."""
    return pool.stride == pool.window and (isinstance(pool, MaxPool) or layer.activation is not Activation.SIGN)


def _parameters(layer: Conv2d) -> dict[str, Any]:
    return {field.name: getattr(layer, field.name) for field in fields(Conv2d)}
