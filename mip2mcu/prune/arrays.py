"""Trained networks from arrays: scikit-learn's estimators, and NPZ files of weights."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mip2mcu.errors import ModelError
from mip2mcu.prune.float_network import FloatArray, FloatDense, FloatLayer, FloatNetwork
from mip2mcu.prune.rescaling import cleaned, rescaled
from mip2mcu.tables import label_texts, read_arrays

_ENTRY = re.compile(r"(weights|bias)_([0-9]{1,3})")


def from_weights(
    weights: Sequence[ArrayLike], biases: Sequence[ArrayLike], classes: Sequence[object] = ()
) -> FloatNetwork:
    """A network of dense layers with ReLU between them; weights (units, inputs) and biases (units,), one a layer."""
    if not weights or len(weights) != len(biases):
        raise ModelError(f"{len(weights)} arrays of weights and {len(biases)} of biases make no network")
    layers: list[FloatLayer] = []
    notes: list[str] = []
    for k, (matrix, bias) in enumerate(zip(weights, biases, strict=True)):
        clean_matrix, first = cleaned(matrix, f"weights of layer {k}")
        clean_bias, second = cleaned(bias, f"biases of layer {k}")
        notes += [*first, *second]
        layers.append(FloatDense(clean_matrix, clean_bias, relu=k < len(weights) - 1))
    return FloatNetwork(tuple(layers), (np.shape(weights[0])[1],), tuple(str(c) for c in classes), tuple(notes))


def read_npz(path: str | Path) -> FloatNetwork:
    """Read ``weights_0, bias_0, weights_1, ...`` (as for `from_weights`) and, if present, ``classes`` (classes,)."""
    arrays = read_arrays(Path(path))
    strange = [name for name in arrays if name != "classes" and not _ENTRY.fullmatch(name)]
    count = sum(name.startswith("weights_") for name in arrays)
    missing = [name for k in range(count) for name in (f"weights_{k}", f"bias_{k}") if name not in arrays]
    if strange or missing or not count or len(arrays) - ("classes" in arrays) != 2 * count:
        raise ModelError(
            f"{path} holds {', '.join(sorted(arrays))[:80] or 'nothing'}: expected weights_0 (units, inputs), bias_0 "
            "(units,), weights_1, ..."
        )
    for name, array in arrays.items():
        if name != "classes" and (array.dtype.kind not in "iuf" or array.ndim != 1 + name.startswith("w")):
            raise ModelError(f"{path}: {name} is of type {array.dtype} and shape {array.shape}, expected numbers")
    classes = label_texts(str(path), arrays["classes"]) if "classes" in arrays else ()
    return from_weights(
        [arrays[f"weights_{k}"] for k in range(count)], [arrays[f"bias_{k}"] for k in range(count)], classes
    )


def from_sklearn(estimator: Any) -> FloatNetwork:
    """The network of a fitted ``MLPClassifier`` with ReLU, alone or behind scalers in a ``Pipeline``.

    Scalers are StandardScaler, MinMaxScaler and MaxAbsScaler; they are folded into the first layer.
    """
    steps = [step for _, step in estimator.steps] if hasattr(estimator, "steps") else [estimator]
    *scalers, classifier = [step for step in steps if step not in (None, "passthrough")]
    if not hasattr(classifier, "coefs_") or not hasattr(classifier, "classes_"):
        raise ModelError(f"{type(classifier).__name__} is no fitted MLPClassifier: call fit, or give another estimator")
    if classifier.activation != "relu" and len(classifier.coefs_) > 1:
        raise ModelError(f"the MLPClassifier has activation {classifier.activation!r}: train it with activation='relu'")
    weights = [np.asarray(w).T for w in classifier.coefs_]
    biases = [np.asarray(b) for b in classifier.intercepts_]
    if len(classifier.classes_) == 2:
        weights[-1], biases[-1] = two_scores(weights[-1], biases[-1])
    elif getattr(classifier, "out_activation_", "softmax") == "logistic":
        raise ModelError("the MLPClassifier gives several labels a row: mip2mcu gives each row one class")
    network = from_weights(weights, biases, label_texts("classes_", np.asarray(classifier.classes_)))
    for scaler in reversed(scalers):
        network = rescaled(network, *_affine_of(scaler, network.input_shape[0]))
    return network


def two_scores(weights: FloatArray, bias: FloatArray) -> tuple[FloatArray, FloatArray]:
    """One score s, positive for the second class, as two: 0 and s."""
    return np.concatenate([np.zeros_like(weights), weights]), np.concatenate([np.zeros_like(bias), bias])


def _affine_of(scaler: Any, inputs: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scale and offset (inputs,) of what a fitted scaler does."""
    name, ones, zeros = type(scaler).__name__, np.ones(inputs), np.zeros(inputs)
    if name == "StandardScaler" and hasattr(scaler, "scale_"):
        scale = ones if scaler.scale_ is None else 1.0 / scaler.scale_
        return scale, zeros if scaler.mean_ is None else -scaler.mean_ * scale
    if name == "MinMaxScaler" and hasattr(scaler, "scale_"):
        return np.asarray(scaler.scale_), np.asarray(scaler.min_)
    if name == "MaxAbsScaler" and hasattr(scaler, "scale_"):
        return 1.0 / scaler.scale_, zeros
    raise ModelError(f"{name} cannot be folded into a network: take a fitted StandardScaler or MinMaxScaler")
