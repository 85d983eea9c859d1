"""Pruning: from a trained ReLU network in floating point to a smaller, exact integer `Network`.

network = fitted_to(read_onnx("net.onnx"), data, scale=1 / 255)
quantise(network, data)
"""

from __future__ import annotations

from mip2mcu.prune.arrays import from_sklearn, from_weights, read_npz
from mip2mcu.prune.float_network import FloatConv, FloatDense, FloatNetwork, FloatPool
from mip2mcu.prune.onnx_file import read_onnx
from mip2mcu.prune.quantise import quantise
from mip2mcu.prune.rescaling import fitted_to

__all__ = [
    "FloatConv",
    "FloatDense",
    "FloatNetwork",
    "FloatPool",
    "fitted_to",
    "from_sklearn",
    "from_weights",
    "quantise",
    "read_npz",
    "read_onnx",
]
