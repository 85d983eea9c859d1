"""Pruning: from a trained ReLU network in floating point to a smaller, exact integer `Network`.

network = fitted_to(read_onnx("net.onnx"), data, scale=1 / 255)
result = prune(network, data, Pruning(keep=0.6, method="subset"), test=test)
result.network, result.steps
"""

from __future__ import annotations

from mip2mcu.prune.arrays import from_sklearn, from_weights, read_npz
from mip2mcu.prune.decoupling import Scoring
from mip2mcu.prune.float_network import FloatConv, FloatDense, FloatNetwork, FloatPool
from mip2mcu.prune.onnx_file import read_onnx
from mip2mcu.prune.quantise import quantise
from mip2mcu.prune.rescaling import fitted_to
from mip2mcu.prune.run import METHODS, Pruned, Pruning, prune, prune_to_fit, transfer, transferred
from mip2mcu.prune.training import Training, trained

__all__ = [
    "METHODS",
    "FloatConv",
    "FloatDense",
    "FloatNetwork",
    "FloatPool",
    "Pruned",
    "Pruning",
    "Scoring",
    "Training",
    "fitted_to",
    "from_sklearn",
    "from_weights",
    "prune",
    "prune_to_fit",
    "quantise",
    "read_npz",
    "read_onnx",
    "trained",
    "transfer",
    "transferred",
]
