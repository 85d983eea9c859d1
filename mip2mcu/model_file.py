"""The model file: a network's fields as JSON and back, with every byte checked on the way in.

The file holds plain JSON with sorted keys and one row of weights a line. Its ``sha256`` is taken over the canonical
form (sorted keys, no spaces, without the ``sha256`` entry itself): layout does not matter, every number does.
A file is untrusted: its size is bounded before it is read, nothing is evaluated, every value is checked by type and
range, and whatever is wrong becomes a `ModelError` of one sentence.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mip2mcu.decisions import CLASS_LIMIT, Argmax, Decision, Sign, Vote
from mip2mcu.errors import ModelError
from mip2mcu.files import check_replaceable
from mip2mcu.filters import Edges, Smooth
from mip2mcu.layers import (
    BIAS_LIMIT,
    UNIT_LIMIT,
    WEIGHT_LIMIT,
    Activation,
    AveragePool,
    Conv2d,
    Dense,
    Layer,
    MaxPool,
    Requantisation,
    SumPool,
)
from mip2mcu.quantizer import DECIMALS_LIMIT, Affine, Coding, Feature, OneHot, Quantizer, Thermometer
from mip2mcu.ranges import INT32_MAX, INT32_MIN, IntArray

FORMAT = "mip2mcu"
VERSION = 1
SIZE_LIMIT = 64 * 1024 * 1024
"""Largest model file in bytes; a chip with 64 KB of flash is a thousand times smaller."""
PIECE_LIMIT = 2**21
"""Most lists, objects and texts of a model file: each costs Python a hundred bytes, so a file of nothing but brackets
would claim gigabytes."""

_DENSE = "kind weights bias activation requantisation"
_ENTRIES = {
    "argmax": "rule",
    "sign": "rule",
    "vote": "rule subset_size by_margin",
    "dense": _DENSE,
    "conv2d": f"{_DENSE} stride padding padding_value",
    "max_pool": "kind window stride",
    "average_pool": "kind window stride",
    "sum_pool": "kind window stride",
    "smooth": "kind",
    "edges": "kind step shift",
    "affine": "kind low high pre mult shift",
    "thermometer": "kind low high thresholds",
    "one_hot": "kind categories",
}
"""The entries of each kind of object in the file."""

_POOLS: dict[str, type[MaxPool] | type[AveragePool] | type[SumPool]] = {
    "max_pool": MaxPool,
    "average_pool": AveragePool,
    "sum_pool": SumPool,
}

T = TypeVar("T")


def encode(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON document (without its ``sha256``) of a network's fields."""
    quantizer: Quantizer | None = fields["quantizer"]
    return {
        "format": FORMAT,
        "version": VERSION,
        "classes": list(fields["classes"]),
        "decision": _encode_decision(fields["decision"]),
        "input_low": fields["input_low"].tolist(),
        "input_high": fields["input_high"].tolist(),
        "input_shape": list(fields["input_shape"]),
        "layers": [_encode_layer(layer) for layer in fields["layers"]],
        "quantizer": None if quantizer is None else [_encode_feature(f) for f in quantizer.features],
    }


def digest(document: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical form of ``document``, in hexadecimal digits."""
    content = {key: value for key, value in document.items() if key != "sha256"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def render(document: Mapping[str, Any]) -> str:
    """The text of the file: indented, keys sorted, every list of numbers on one line, the digest included."""
    text = json.dumps({**document, "sha256": digest(document)}, sort_keys=True, indent=1, ensure_ascii=False)
    number_list = re.compile(r"\[\s*(-?\d+(?:,\s+-?\d+)*)\s*\]")
    return number_list.sub(lambda m: "[" + re.sub(r"\s+", " ", m.group(1)) + "]", text) + "\n"


def check_place(path: str | Path) -> None:
    """Raise `UsageError` where no model file can be written at ``path``, or a file of another kind would be lost."""
    check_replaceable(path, rb'"format"\s*:\s*"%s"' % FORMAT.encode(), "model file")


def parse(path: str | Path) -> dict[str, Any]:
    """Read a model file into its document; raises `ModelError` where it is no intact model file."""
    path = Path(path)
    try:
        with path.open("rb") as stream:
            content = stream.read(SIZE_LIMIT + 1)
    except FileNotFoundError:
        raise ModelError(f"there is no model file {path}: train one with `mip2mcu train DATA --out {path}`") from None
    except OSError as error:
        raise ModelError(f"cannot read the model file {path}: {error.strerror}") from None
    if len(content) > SIZE_LIMIT:
        raise ModelError(f"{path} is larger than {SIZE_LIMIT} bytes, the most that a model file may have")
    if content.count(b"[") + content.count(b"{") + content.count(b'"') // 2 > PIECE_LIMIT:
        raise ModelError(f"{path} holds more than {PIECE_LIMIT} lists, objects and texts, a model file has fewer")
    try:
        document = _loads(content)
        known = digest(document) if isinstance(document, dict) else None
    except json.JSONDecodeError as error:
        fault = f"line {error.lineno}: {error.msg}"
    except UnicodeDecodeError:
        fault = "it is no UTF-8 text"
    except RecursionError:
        fault = "it is nested too deeply"
    except ValueError as error:
        fault = str(error)
    else:
        return _checked(path, document, known)
    raise ModelError(f"{path} is no intact model file ({fault}): train or copy it again")


def _loads(content: bytes) -> Any:
    return json.loads(content.decode("utf-8"), parse_int=_bounded_int, parse_float=_refuse, parse_constant=_refuse)


def _checked(path: Path, document: Any, known: str | None) -> dict[str, Any]:
    """``document`` if it says that it is a model file of this version and its digest is the ``known`` one."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ModelError(f'{path} is no model file of mip2mcu: it has no entry "format": "{FORMAT}"')
    version = document.get("version")
    if type(version) is not int or version != VERSION:
        raise ModelError(f"{path} has format version {_shown(version)}, this mip2mcu reads version {VERSION}")
    if document.get("sha256") != known:
        raise ModelError(
            f"{path} was changed after it was written (its SHA-256 does not match): train or copy it again"
        )
    return document


def decode(document: Mapping[str, Any]) -> dict[str, Any]:
    """The network's fields from a parsed document; raises `ModelError` naming the entry that is wrong."""
    _only(document, "format version sha256 classes decision input_low input_high input_shape layers quantizer")
    classes = _items(document, "classes", _text, CLASS_LIMIT)
    quantizer = _get(document, "quantizer")
    return {
        "classes": classes,
        "decision": _decode_decision(_get(document, "decision"), len(classes)),
        "input_low": _integers(document, "input_low", WEIGHT_LIMIT),
        "input_high": _integers(document, "input_high", WEIGHT_LIMIT),
        "input_shape": tuple(_integers(document, "input_shape", UNIT_LIMIT).tolist()),
        "layers": _items(document, "layers", _decode_layer, 1000),
        "quantizer": None
        if quantizer is None
        else Quantizer(_items(document, "quantizer", _decode_feature, UNIT_LIMIT)),
    }


def _bounded_int(digits: str) -> int:
    if len(digits) > 20:
        raise ValueError(f"{digits[:20]}... is longer than any number of a model")
    return int(digits)


def _refuse(text: str) -> float:
    raise ValueError(f"{text[:20]} is no integer")


# ---- values of the JSON document -----------------------------------------------------------------------------------


def _get(document: Any, key: str) -> Any:
    if not isinstance(document, dict):
        raise ModelError(f"the model file has no object around {key!r}")
    if key not in document:
        raise ModelError(f"the model file lacks the entry {key!r}")
    return document[key]


def _shown(value: Any) -> str:
    """What a message says about a wrong value, however large it is."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return repr(value if not isinstance(value, str) else value[:40])


def _only(document: Any, keys: str) -> None:
    """Refuse entries beyond ``keys``: what is not read would be lost when the network is saved again."""
    unknown = sorted(set(document) - set(keys.split()))
    if unknown:
        raise ModelError(f"the model file has an unknown entry {unknown[0][:40]!r}")


def _kind(entry: Any, key: str, *known: str) -> str:
    """The value of ``key``, which is one of ``known`` and decides which other entries the object has."""
    value = _get(entry, key)
    if value not in known:
        raise ModelError(f"entry {key!r} of the model file is {_shown(value)}, expected one of {', '.join(known)}")
    _only(entry, _ENTRIES[value])
    return str(value)


def _items(document: Any, key: str, convert: Callable[[Any], T], most: int) -> tuple[T, ...]:
    value = _get(document, key)
    if not isinstance(value, list) or len(value) > most:
        raise ModelError(f"entry {key!r} of the model file is no list of at most {most} entries")
    return tuple(convert(entry) for entry in value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ModelError(f"the model file has {_shown(value)} where a text was expected")
    return value


def _integer(document: Any, key: str, least: int, most: int) -> int:
    value = _get(document, key)
    if type(value) is not int or not least <= value <= most:
        raise ModelError(
            f"entry {key!r} of the model file is {_shown(value)}, expected an integer of {least}..{most}"
        )
    return value


def _integers(document: Any, key: str, magnitude: int, dimensions: int = 1) -> IntArray:
    """An integer array; the nesting is checked before numpy sees it, so that no ragged or deep list gets through."""
    value = _get(document, key)
    _check_nesting(value, dimensions, key)
    try:
        array = np.array(value, dtype=np.int64)
    except (ValueError, OverflowError):
        raise ModelError(
            f"entry {key!r} of the model file has rows of unequal length or numbers beyond 64 bits"
        ) from None
    if array.ndim != dimensions or array.size == 0:
        raise ModelError(f"entry {key!r} of the model file is not {dimensions}-dimensional or is empty")
    if array.max() > magnitude or array.min() < -magnitude:
        raise ModelError(
            f"entry {key!r} of the model file reaches {array.min()}..{array.max()}, allowed is ±{magnitude}"
        )
    return array


def _check_nesting(value: Any, dimensions: int, key: str) -> None:
    if not isinstance(value, list):
        raise ModelError(f"entry {key!r} of the model file is not a list nested {dimensions} deep")
    for entry in value:
        if dimensions > 1:
            _check_nesting(entry, dimensions - 1, key)
        elif type(entry) is not int:
            raise ModelError(f"entry {key!r} of the model file holds {_shown(entry)}, expected integers")


def _pair(document: Any, key: str) -> tuple[int, int]:
    values = _integers(document, key, 255)
    if len(values) != 2:
        raise ModelError(f"entry {key!r} of the model file has {len(values)} numbers, expected 2")
    return int(values[0]), int(values[1])


# ---- decisions, layers, features -----------------------------------------------------------------------------------


def _encode_decision(decision: Decision) -> dict[str, Any]:
    if isinstance(decision, Vote):
        return {"rule": "vote", "subset_size": decision.subset_size, "by_margin": decision.by_margin}
    return {"rule": "sign" if isinstance(decision, Sign) else "argmax"}


def _decode_decision(entry: Any, classes: int) -> Decision:
    rule = _kind(entry, "rule", "argmax", "sign", "vote")
    if rule == "argmax":
        return Argmax(classes)
    if rule == "sign":
        return Sign(2)
    by_margin = _get(entry, "by_margin")
    if type(by_margin) is not bool:
        raise ModelError("entry 'by_margin' of the model file is neither true nor false")
    return Vote(classes, _integer(entry, "subset_size", 2, CLASS_LIMIT), by_margin)


def _encode_requantisation(requantisation: Requantisation | None) -> dict[str, Any] | None:
    if requantisation is None:
        return None
    return {name: getattr(requantisation, name).tolist() for name in ("pre", "mult", "shift")}


def _encode_layer(layer: Layer) -> dict[str, Any]:
    if isinstance(layer, Smooth):
        return {"kind": "smooth"}
    if isinstance(layer, Edges):
        return {"kind": "edges", "step": layer.step, "shift": layer.shift}
    if isinstance(layer, MaxPool | AveragePool | SumPool):
        kind = next(name for name, pool in _POOLS.items() if type(layer) is pool)
        return {"kind": kind, "window": list(layer.window), "stride": list(layer.stride)}
    entry: dict[str, Any] = {
        "kind": "dense" if isinstance(layer, Dense) else "conv2d",
        "weights": layer.weights.tolist(),
        "bias": layer.bias.tolist(),
        "activation": layer.activation.value,
        "requantisation": _encode_requantisation(layer.requantisation),
    }
    if isinstance(layer, Conv2d):
        entry.update(stride=list(layer.stride), padding=list(layer.padding), padding_value=layer.padding_value)
    return entry


def _decode_requantisation(entry: Any) -> Requantisation | None:
    value = _get(entry, "requantisation")
    if value is None:
        return None
    parts = _integers(value, "pre", 31), _integers(value, "mult", 32767), _integers(value, "shift", 30)
    _only(value, "pre mult shift")
    return Requantisation(*parts)


def _decode_activation(entry: Any) -> Activation:
    name = _get(entry, "activation")
    if name not in [a.value for a in Activation]:
        raise ModelError(f"the model file names the unknown activation {_shown(name)}")
    return Activation(name)


def _decode_layer(entry: Any) -> Layer:
    kind = _kind(entry, "kind", "dense", "conv2d", *_POOLS, "smooth", "edges")
    if kind == "smooth":
        return Smooth()
    if kind == "edges":
        return Edges(_integer(entry, "step", 1, 64), _integer(entry, "shift", 0, 16))
    if kind in _POOLS:
        return _POOLS[kind](_pair(entry, "window"), _pair(entry, "stride"))
    weights = _integers(entry, "weights", WEIGHT_LIMIT, dimensions=2 if kind == "dense" else 4)
    bias = _integers(entry, "bias", BIAS_LIMIT)
    activation, requantisation = _decode_activation(entry), _decode_requantisation(entry)
    if kind == "dense":
        return Dense(weights, bias, activation, requantisation)
    padding = _integers(entry, "padding", 255)
    if len(padding) != 4:
        raise ModelError(f"entry 'padding' of the model file has {len(padding)} numbers, expected 4")
    return Conv2d(
        weights,
        bias,
        _pair(entry, "stride"),
        tuple(padding.tolist()),
        _integer(entry, "padding_value", -WEIGHT_LIMIT, WEIGHT_LIMIT),
        activation,
        requantisation,
    )


def _encode_coding(coding: Coding) -> dict[str, Any]:
    if isinstance(coding, OneHot):
        return {"kind": "one_hot", "categories": list(coding.categories)}
    if isinstance(coding, Thermometer):
        return {"kind": "thermometer", "low": coding.low, "high": coding.high, "thresholds": list(coding.thresholds)}
    return {
        "kind": "affine",
        "low": coding.low,
        "high": coding.high,
        "pre": coding.pre,
        "mult": coding.mult,
        "shift": coding.shift,
    }


def _encode_feature(feature: Feature) -> dict[str, Any]:
    return {
        "name": feature.name,
        "coding": _encode_coding(feature.coding),
        "missing": feature.missing,
        "decimals": feature.decimals,
        "raw_type": feature.raw_type,
    }


def _decode_coding(entry: Any) -> Coding:
    kind = _kind(entry, "kind", "affine", "thermometer", "one_hot")
    if kind == "one_hot":
        return OneHot(_items(entry, "categories", _text, UNIT_LIMIT))
    low, high = (_integer(entry, end, INT32_MIN, INT32_MAX) for end in ("low", "high"))
    if kind == "thermometer":
        return Thermometer(low, high, _items(entry, "thresholds", _threshold, UNIT_LIMIT))
    return Affine(
        low, high, _integer(entry, "pre", 0, 31), _integer(entry, "mult", 1, 65535), _integer(entry, "shift", 0, 30)
    )


def _threshold(value: Any) -> int:
    if type(value) is not int or not INT32_MIN <= value <= INT32_MAX:
        raise ModelError(f"the model file has a threshold {_shown(value)} that is no 32-bit integer")
    return value


def _decode_feature(entry: Any) -> Feature:
    feature = Feature(
        name=_text(_get(entry, "name")),
        coding=_decode_coding(_get(entry, "coding")),
        missing=_integer(entry, "missing", INT32_MIN, INT32_MAX),
        decimals=_integer(entry, "decimals", 0, DECIMALS_LIMIT),
        raw_type=_text(_get(entry, "raw_type")),
    )
    _only(entry, "name coding missing decimals raw_type")
    return feature
