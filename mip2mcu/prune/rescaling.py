"""What makes a trained network fit its data: clean weights, integer inputs, classes in the data's order."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mip2mcu.dataset import Dataset
from mip2mcu.errors import ModelError
from mip2mcu.layers import Shape
from mip2mcu.prune.float_network import FloatArray, FloatDense, FloatNetwork, FloatPool, Weighted
from mip2mcu.quantizer import Affine

NEGLIGIBLE = 1e-6
"""Weights below this share of their layer's largest are zero: they are the remains of an optimiser, and denormal
numbers among them make linear programs fail."""


def finite(values: ArrayLike, name: str) -> tuple[FloatArray, tuple[str, ...]]:
    """``values`` without NaN and infinite ones, and what was done in words."""
    array = np.array(values, dtype=np.float64)
    broken = ~np.isfinite(array)
    if not broken.any():
        return array, ()
    array[broken] = 0.0
    return array, (f"{name}: {_values(broken)} of {array.size} NaN or infinite, taken as 0",)


def cleaned(weights: ArrayLike, name: str) -> tuple[FloatArray, tuple[str, ...]]:
    """``weights`` without NaN, infinite and negligible values, and what was done in words."""
    array, said = finite(weights, name)
    notes = [*said]
    tiny = (array != 0) & (np.abs(array) < NEGLIGIBLE * np.abs(array).max(initial=0.0))
    if tiny.any():
        notes.append(f"{name}: {_values(tiny)} of {array.size} below {NEGLIGIBLE:g} of the largest, taken as 0")
        array[tiny] = 0.0
    return array, tuple(notes)


def _values(mask: NDArray[np.bool_]) -> str:
    count = int(mask.sum())
    return "1 value" if count == 1 else f"{count} values"


def rescaled(network: FloatNetwork, scale: ArrayLike, offset: ArrayLike) -> FloatNetwork:
    """The network of x that gives what ``network`` gives for ``scale * x + offset``, each (inputs,) or one number.

    See `behind` for what a convolution in front takes.
    """
    inputs = prod(network.input_shape)
    scale, offset = (np.broadcast_to(np.asarray(v, dtype=np.float64), (inputs,)) for v in (scale, offset))
    if (scale == 0).any() or not (np.isfinite(scale).all() and np.isfinite(offset).all()):
        raise ModelError("an input scale must be finite and not 0, an input offset finite")
    first = network.layers[0]
    if not isinstance(first, FloatPool):
        return network.with_layer(0, behind(first, network.input_shape, scale, offset))
    scale, offset = (
        v.reshape(-1) for v in pooled_behind(first, *(v.reshape(network.input_shape) for v in (scale, offset)))
    )
    after = replace(network, layers=network.layers[1:], input_shape=network.shapes[1])
    return replace(network, layers=(first, *rescaled(after, scale, offset).layers))


def behind(layer: Weighted, shape: Shape, scale: FloatArray, offset: FloatArray) -> Weighted:
    """The layer of x, of ``shape``, that gives what ``layer`` gives for ``scale * x + offset``, (inputs,) each.

    A convolution needs one scale and one offset a channel; its padding then stands for the value ``-offset / scale``
    of x, which all channels must share.
    """
    if isinstance(layer, FloatDense):
        return replace(layer, weights=layer.weights * scale, bias=layer.bias + layer.weights @ offset)
    per_channel = [v.reshape(shape[0], -1) for v in (scale, offset)]
    if any(np.ptp(v, axis=1).any() for v in per_channel):
        raise ModelError("a convolution needs one scale and offset of its inputs a channel, not one an input")
    channel_scale, channel_offset = (v[:, 0] for v in per_channel)
    padding = np.zeros(1)
    if any(layer.padding) and (channel_offset.any() or layer.padding_value):
        if not channel_scale.all():
            raise ModelError("a padded convolution cannot follow a scale of 0 with an offset")
        padding = (layer.padding_value - channel_offset) / channel_scale
    if np.ptp(padding) > 1e-9 * max(1.0, np.abs(padding).max()):
        raise ModelError(
            "a padded convolution needs inputs whose channels are all normalised alike: take one mean and one "
            "deviation for all of them"
        )
    return replace(
        layer,
        weights=layer.weights * channel_scale[:, None, None],
        bias=layer.bias + layer.weights.sum(axis=(2, 3)) @ channel_offset,
        padding_value=float(padding[0]),
    )


def pooled_behind(pool: FloatPool, scale: FloatArray, offset: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Scale and offset behind ``pool`` in place of those before it, of the shapes of its outputs and inputs.

    Pooling commutes with one scale and one offset a channel; a maximum only where the scale is positive.
    """
    if any(np.ptp(v.reshape(len(v), -1), axis=1).any() for v in (scale, offset)):
        raise ModelError("pooling needs one scale and offset of its inputs a channel, not one an input")
    if not pool.average and scale.min() <= 0:
        raise ModelError("a maximum pool needs a positive scale of its inputs")
    shape = pool.output_shape(scale.shape)
    return tuple(np.broadcast_to(v[:, :1, :1], shape) for v in (scale, offset))  # type: ignore[return-value]


def permuted_classes(network: FloatNetwork, classes: tuple[str, ...]) -> FloatNetwork:
    """The network with its scores in the order of ``classes``; raises `ModelError` where they are others."""
    last = network.layers[-1]
    assert isinstance(last, FloatDense)
    if last.units != len(classes):
        raise ModelError(
            f"the network gives {last.units} scores, the data have {len(classes)} classes: give data with every class "
            "of the network and no other"
        )
    if not network.classes or network.classes == classes:
        return replace(network, classes=classes)
    if set(network.classes) != set(classes):
        strange = min(set(network.classes) ^ set(classes))
        raise ModelError(f"the class {strange[:40]!r} is known to the network or to the data, but not to both")
    order = [network.classes.index(label) for label in classes]
    reordered = replace(last, weights=last.weights[order], bias=last.bias[order])
    return replace(network, layers=(*network.layers[:-1], reordered), classes=classes)


def fitted_to(network: FloatNetwork, data: Dataset, scale: float = 1.0, offset: float = 0.0) -> FloatNetwork:
    """The network that reads the integer inputs of ``data`` and gives scores in the order of its classes.

    ``network`` expects ``scale * feature + offset``, where a feature is a value in the data's own units.
    """
    network = permuted_classes(network, data.classes)
    expected = prod(network.input_shape)
    features = None if data.quantizer is None else data.quantizer.features
    given = data.inputs.shape[1] if features is None else len(features)
    if given != expected:
        raise ModelError(
            f"the network has {expected} inputs, the data have {given} features: give those that it was trained on"
        )
    if features is None:
        return rescaled(network, scale, offset)
    codings = []
    for feature in features:
        if not isinstance(feature.coding, Affine):
            raise ModelError(
                f"feature {feature.name!r} is no single number for the network: read the data with coding affine or "
                "raw, and give categories as numbers"
            )
        codings.append(feature.coding)
    unit = np.array([10.0**-f.decimals for f in features])
    step = np.array([2.0 ** (c.pre + c.shift) / c.mult for c in codings])
    low = np.array([float(c.low) for c in codings])
    return rescaled(network, scale * unit * step, scale * unit * low + offset)
