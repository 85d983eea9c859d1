"""Model files: the round trip, and that whatever is wrong with a file becomes one sentence."""

from __future__ import annotations

import copy
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mip2mcu.decisions import Argmax, Sign, Vote
from mip2mcu.errors import ModelError
from mip2mcu.layers import Activation, AveragePool, Conv2d, Dense, MaxPool, Requantisation
from mip2mcu.model_file import PIECE_LIMIT, SIZE_LIMIT, digest
from mip2mcu.network import Network
from mip2mcu.quantizer import Affine, Feature, OneHot, Quantizer, Thermometer


def with_every_part():
    """A network whose file has every kind of entry: a quantizer of all codings, all layers, a vote."""
    features = (
        Feature("température", Thermometer(-50, 90, (10, 50)), 0, 1, "int16_t"),
        Feature("kind", OneHot(("x", "y")), 1, 0, "uint8_t"),
        Feature("pressure", Affine(0, 1000, 2, 255, 8), 500, 0, "int32_t"),
        *[Feature(f"p{i}", Affine(0, 9), 0) for i in range(4)],
    )
    quantizer = Quantizer(features)
    rule = Requantisation(pre=[1, 1], mult=[3, 3], shift=[2, 2])
    layers = (
        Conv2d(np.ones((2, 1, 2, 2)), [1, 2], (1, 1), (0, 1, 0, 0), 3, Activation.RELU, rule),
        MaxPool((1, 1), (1, 1)),
        AveragePool((1, 2), (1, 1)),
        Dense(np.ones((3, 8)), [-9, 0, 9], Activation.SIGN),
        Dense([[1, 2, 3], [0, -1, 0], [1, 1, 1]], [0, 1, -1]),
    )
    decision = Vote(3, by_margin=True)
    return Network(np.zeros(9), quantizer.input_high, layers, decision, ("a", "b", "c"), (1, 3, 3), quantizer)


def plain():
    return Network([0, 0], [3, 3], (Dense([[1, -1], [2, 0]], [0, -3]),), Argmax(2), ("no", "yes"))


def saved(network, folder):
    network.save(folder / "model.json")
    return json.loads((folder / "model.json").read_text())


def load(content, folder, *, sign=True):
    """Load ``content`` as a model file; a hostile author computes the right digest."""
    if sign:
        content["sha256"] = digest(content)
    path = folder / "model.json"
    path.write_text(json.dumps(content))
    return Network.load(path)


def refused(path_or_text, folder):
    """The one sentence with which a file of this text is refused."""
    path = folder / "hostile.json"
    path.write_bytes(path_or_text if isinstance(path_or_text, bytes) else path_or_text.encode())
    with pytest.raises(ModelError) as error:
        Network.load(path)
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


# ---- what is written -----------------------------------------------------------------------------------------------


def test_every_part_comes_back(tmp_path):
    network = with_every_part()
    network.save(tmp_path / "a.json")
    again = Network.load(tmp_path / "a.json")
    again.save(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert again.sha256 == network.sha256
    assert again.quantizer == network.quantizer
    assert again.decision == network.decision
    rows = np.random.default_rng(0).integers(0, network.input_high + 1, (50, 9))
    assert again.sums(rows).tolist() == network.sums(rows).tolist()


def test_the_file_of_a_small_network(tmp_path):
    plain().save(tmp_path / "model.json")
    text = (tmp_path / "model.json").read_text()
    assert text.startswith('{\n "classes": [\n  "no",\n  "yes"\n ],\n "decision": {\n  "rule": "argmax"\n },\n')
    assert '"input_high": [3, 3],\n' in text
    assert '   "weights": [\n    [1, -1],\n    [2, 0]\n   ]\n' in text
    assert text.endswith(' "version": 1\n}\n')


def test_the_digest_is_that_of_the_canonical_form():
    assert digest({"b": [1, 2], "a": "é", "sha256": "anything"}) == digest({"a": "é", "b": [1, 2]})
    assert digest({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_layout_does_not_matter(tmp_path):
    content = saved(plain(), tmp_path)
    (tmp_path / "compact.json").write_text(json.dumps(content, separators=(",", ":")))
    assert Network.load(tmp_path / "compact.json").sha256 == content["sha256"]


def test_the_digest_in_the_file_is_the_network_s(tmp_path):
    assert saved(with_every_part(), tmp_path)["sha256"] == with_every_part().sha256


def test_labels_with_any_printable_text_come_back(tmp_path):
    labels = ('a"b\\c', "[1,\n 2]".replace("\n", ""))
    network = Network([0], [1], (Dense([[1]], [0]),), Sign(), labels)
    network.save(tmp_path / "model.json")
    assert Network.load(tmp_path / "model.json").classes == labels


# ---- files that are none -------------------------------------------------------------------------------------------


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(ModelError, match=r"there is no model file .*: train one with `mip2mcu train DATA --out"):
        Network.load(tmp_path / "model.json")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ModelError, match=r"cannot read the model file .*: Is a directory"):
        Network.load(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_no_intact_file(tmp_path, share):
    with_every_part().save(tmp_path / "model.json")
    text = (tmp_path / "model.json").read_bytes()
    message = refused(text[: int(len(text) * share)], tmp_path)
    assert "is no intact model file (line " in message
    assert message.endswith("train or copy it again")


def test_every_single_truncation_is_refused(tmp_path):
    plain().save(tmp_path / "model.json")
    text = (tmp_path / "model.json").read_bytes()
    for length in range(len(text) - 2):
        refused(text[:length], tmp_path)


def test_a_changed_number_is_noticed(tmp_path):
    plain().save(tmp_path / "model.json")
    text = (tmp_path / "model.json").read_text()
    assert "its SHA-256 does not match" in refused(text.replace("[2, 0]", "[2, 1]"), tmp_path)


def test_a_missing_digest_is_noticed(tmp_path):
    content = saved(plain(), tmp_path)
    del content["sha256"]
    assert "its SHA-256 does not match" in refused(json.dumps(content), tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"\xff\xfe{\x00}\x00", "it is no UTF-8 text"),
        (b"\x89PNG\r\n\x1a\n", "it is no UTF-8 text"),
        (b'{"format": "mip2mcu", "x": NaN}', "NaN is no integer"),
        (b'{"format": "mip2mcu", "x": -Infinity}', "-Infinity is no integer"),
        (b'{"format": "mip2mcu", "x": 1.5}', "1.5 is no integer"),
        (b'{"format": "mip2mcu", "x": 1e999}', "1e999 is no integer"),
        (b'{"x": ' + b"9" * 5000 + b"}", r"99999999999999999999... is longer than any number of a model"),
        (b'{"x": ' + b"[" * 100_000, "it is nested too deeply"),
        (b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "it is nested too deeply"),
        (b'{"x": ' + b'{"x": ' * 100_000 + b"0" + b"}" * 100_001, "it is nested too deeply"),
        (b"{'x': 1}", "line 1"),
        (b'{"a": 1,}', "line 1"),
        (b"\xef\xbb\xbf{}", "line 1"),
    ],
)
def test_what_is_no_json_of_integers_says_why(tmp_path, text, reason):
    assert f"is no intact model file ({reason}" in refused(text, tmp_path)


@pytest.mark.parametrize("depth", range(900, 1000, 7))
def test_no_depth_of_nesting_ends_in_a_traceback(tmp_path, depth):
    refused('{"format": "mip2mcu", "version": ' + "[" * depth + "]" * depth + "}", tmp_path)
    refused('{"format": ' + "[" * depth + "]" * depth + "}", tmp_path)


@pytest.mark.parametrize("text", ["[]", "3", '"mip2mcu"', "null", "{}", '{"format": "onnx"}', '{"format": ["a"]}'])
def test_other_json_is_no_model(tmp_path, text):
    assert 'is no model file of mip2mcu: it has no entry "format": "mip2mcu"' in refused(text, tmp_path)


@pytest.mark.parametrize(
    ("version", "shown"), [(2, "2"), (0, "0"), (True, "True"), ("1", "'1'"), (None, "None"), ([1], "a list")]
)
def test_another_version_is_named(tmp_path, version, shown):
    content = {**saved(plain(), tmp_path), "version": version}
    with pytest.raises(ModelError, match=f"has format version {shown}, this mip2mcu reads version 1"):
        load(content, tmp_path)


def test_a_file_beyond_the_size_limit_is_not_read(tmp_path):
    with (tmp_path / "huge.json").open("wb") as stream:
        stream.truncate(SIZE_LIMIT + 1)
    with pytest.raises(ModelError, match="is larger than 67108864 bytes"):
        Network.load(tmp_path / "huge.json")


@pytest.mark.parametrize("piece", [b"[],", b"{},", b'"a",'])
def test_a_file_of_brackets_is_refused_before_it_becomes_gigabytes(tmp_path, piece):
    text = b"[" + piece * PIECE_LIMIT + b"0]"
    assert "holds more than 2097152 lists, objects and texts" in refused(text, tmp_path)


def test_a_five_megabyte_model_loads_in_seconds_and_little_memory(tmp_path):
    weights = np.random.default_rng(0).integers(-127, 128, (1400, 784))
    layers = (Dense(weights, np.zeros(1400), Activation.SIGN), Dense(np.ones((1, 1400)), [0]))
    Network(np.zeros(784), np.ones(784), layers, Sign(), ("a", "b")).save(tmp_path / "model.json")
    size = (tmp_path / "model.json").stat().st_size
    assert 5_000_000 < size < 6_000_000
    code = """
import resource, sys, time
from mip2mcu.network import Network
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
Network.load(sys.argv[1])
print(time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model.json")], capture_output=True, text=True, check=True
    )
    seconds, kilobytes = map(float, run.stdout.split())
    assert seconds < 5
    assert kilobytes < 200_000


# ---- entries that are wrong, in a file with the right digest ---------------------------------------------------------


def changed(content, path, value):
    """A copy of ``content`` with the entry at ``path`` replaced, or removed where ``value`` is ``...``."""
    content = copy.deepcopy(content)
    target = content
    for key in path[:-1]:
        target = target[key]
    if value is ...:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return content


TEN_TIMES_NESTED = [[[[[[[[[[1]]]]]]]]]]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("classes",), "abc", "entry 'classes' of the model file is no list of at most 1000 entries"),
        (("classes",), ["a"] * 1001, "is no list of at most 1000 entries"),
        (("classes",), ["a", "b", 3], "has 3 where a text was expected"),
        (("classes",), ["a", "b", None], "has None where a text was expected"),
        (("classes",), ["a", "b", ["c"]], "has a list where a text was expected"),
        (("classes",), ["a", "b", "b"], "two classes have the same label"),
        (("classes",), ["a", "b", "\ud800"], "broken Unicode"),
        (("classes",), ["a", "b", "\x1b[2J"], "control character"),
        (("classes",), ["a", "b", "c" * 1001], "has 1001 characters"),
        (("classes",), [], "a vote over subsets of 2 of 0 classes does not exist"),
        (("classes",), ..., "lacks the entry 'classes'"),
        (("quantizer",), ..., "lacks the entry 'quantizer'"),
        (("decision",), [], "no object around 'rule'"),
        (("decision",), {}, "lacks the entry 'rule'"),
        (("decision", "rule"), "VOTE", "'rule' of the model file is 'VOTE', expected one of argmax, sign, vote"),
        (("decision", "rule"), ["vote"], "is a list, expected one of argmax"),
        (("decision", "rule"), "sign", "unknown entry 'by_margin'"),
        (("decision", "by_margin"), 1, "'by_margin' of the model file is neither true nor false"),
        (("decision", "subset_size"), True, "'subset_size' of the model file is True, expected an integer of 2..1000"),
        (("decision", "subset_size"), 1001, "is 1001, expected an integer of 2..1000"),
        (("decision", "subset_size"), 4, "a vote over subsets of 4 of 3 classes does not exist"),
        (("decision", "more"), 1, "unknown entry 'more'"),
        (("more",), 1, "unknown entry 'more'"),
        (("x" * 5000,), 1, "unknown entry 'xxxx"),
        (("input_low",), None, "'input_low' of the model file is not a list nested 1 deep"),
        (("input_low",), {}, "is not a list nested 1 deep"),
        (("input_low",), [], "is not 1-dimensional or is empty"),
        (("input_low",), [[0] * 9], "holds a list, expected integers"),
        (("input_low", 0), True, "'input_low' of the model file holds True, expected integers"),
        (("input_low", 0), "0", "holds '0', expected integers"),
        (("input_low", 0), None, "holds None, expected integers"),
        (("input_low", 0), -32768, "reaches -32768..0, allowed is ±32767"),
        (("input_low", 0), 2**63, "numbers beyond 64 bits"),
        (("input_low", 0), -(10**18), "reaches -1000000000000000000..0"),
        (("input_low", 0), 1, "the quantizer's outputs do not match"),
        (("input_high",), [1], "needs 1..65535 inputs with one lower and one upper end each"),
        (("input_shape",), [-1, -3, 3], "is neither"),
        (("input_shape",), [9], "a convolution over 1 channels has inputs of shape (9,)"),
        (("input_shape",), [1, 9], "is neither"),
        (("input_shape",), [65536, 1, 1], "reaches 1..65536, allowed is ±65535"),
        (("layers",), {}, "'layers' of the model file is no list of at most 1000 entries"),
        (("layers",), [], "at least one layer"),
        (("layers",), [[]], "no object around 'kind'"),
        (("layers",), [{}] * 1001, "is no list of at most 1000 entries"),
        (("layers", 0), None, "no object around 'kind'"),
        (("layers", 0, "kind"), "conv3d", "is 'conv3d', expected one of dense, conv2d, max_pool, average_pool"),
        (("layers", 0, "kind"), {"a": 1}, "is an object, expected one of dense"),
        (("layers", 0, "kind"), "dense", "unknown entry 'padding'"),
        (("layers", 0, "name"), "conv", "unknown entry 'name'"),
        (("layers", 0, "weights"), TEN_TIMES_NESTED, "'weights' of the model file holds a list, expected integers"),
        (("layers", 0, "weights"), [[1, 2]], "'weights' of the model file is not a list nested 2 deep"),
        (("layers", 0, "weights"), [[[[1, 2], [3]]]], "rows of unequal length"),
        (("layers", 0, "weights"), [[[[]]]], "is not 4-dimensional or is empty"),
        (("layers", 0, "weights", 0, 0, 0, 0), False, "holds False, expected integers"),
        (("layers", 0, "weights", 0, 0, 0, 0), 32768, "allowed is ±32767"),
        (("layers", 0, "bias", 0), 2**40 + 1, "allowed is ±1099511627776"),
        (("layers", 0, "bias"), [1], "bias has shape (1,), expected one entry for each of 2 units"),
        (("layers", 0, "stride"), [1], "'stride' of the model file has 1 numbers, expected 2"),
        (("layers", 0, "stride"), [0, 1], "must be pairs of numbers of 1..255"),
        (("layers", 0, "padding"), [0, 0, 0], "'padding' of the model file has 3 numbers, expected 4"),
        (("layers", 0, "padding"), [255, 255, 255, 255], "each below the kernel's sides (2, 2)"),
        (("layers", 0, "padding_value"), "0", "'padding_value' of the model file is '0', expected an integer"),
        (("layers", 0, "activation"), "tanh", "the unknown activation 'tanh'"),
        (("layers", 0, "activation"), [], "the unknown activation a list"),
        (("layers", 0, "activation"), "sign", "a RELU layer, and no other, carries a requantisation"),
        (("layers", 0, "requantisation"), None, "a RELU layer, and no other, carries a requantisation"),
        (("layers", 0, "requantisation"), 3, "no object around 'pre'"),
        (("layers", 0, "requantisation", "pre"), [1], "three lists of one length"),
        (("layers", 0, "requantisation", "shift"), [0, 0], "shift reaches 0..0"),
        (("layers", 0, "requantisation", "zero"), 1, "unknown entry 'zero'"),
        (("layers", 1, "window"), [4, 4], "a window of (4, 4) does not fit into"),
        (("layers", 1, "window"), [256, 1], "allowed is ±255"),
        (("layers", 1, "padding"), [0, 0, 0, 0], "unknown entry 'padding'"),
        (("layers", 4), {"kind": "max_pool", "window": [1, 1], "stride": [1, 1]}, "pooling needs inputs of shape"),
        (("quantizer",), [], "a quantizer needs at least one feature"),
        (("quantizer",), None, None),
        (("quantizer",), {}, "'quantizer' of the model file is no list"),
        (("quantizer", 0), [], "no object around 'name'"),
        (("quantizer", 0, "name"), "kind", "two raw features have the same name"),
        (("quantizer", 0, "name"), 7, "has 7 where a text was expected"),
        (("quantizer", 0, "name"), "a\nb", "control character"),
        (("quantizer", 0, "decimals"), 10, "is 10, expected an integer of 0..9"),
        (("quantizer", 0, "missing"), 2**31, "'missing' of the model file is 2147483648"),
        (("quantizer", 0, "missing"), 32768, "beyond its raw type int16_t"),
        (("quantizer", 0, "raw_type"), "double", "raw type 'double' is not one of"),
        (("quantizer", 0, "unit"), "K", "unknown entry 'unit'"),
        (("quantizer", 0, "coding"), 1, "no object around 'kind'"),
        (("quantizer", 0, "coding", "kind"), "spline", "is 'spline', expected one of affine, thermometer, one_hot"),
        (("quantizer", 0, "coding", "thresholds"), [50, 10], "thermometer thresholds must ascend strictly"),
        (("quantizer", 0, "coding", "thresholds"), [True, 50], "a threshold True that is no 32-bit integer"),
        (("quantizer", 0, "coding", "thresholds"), [10], "the quantizer's outputs do not match"),
        (("quantizer", 0, "coding", "extra"), 0, "unknown entry 'extra'"),
        (("quantizer", 1, "coding", "categories"), ["x", "x"], "a category is listed twice"),
        (("quantizer", 1, "coding", "categories"), ["x", 1], "has 1 where a text was expected"),
        (("quantizer", 2, "coding", "mult"), 0, "is 0, expected an integer of 1..65535"),
        (("quantizer", 2, "coding", "high"), 2**31, "'high' of the model file is 2147483648"),
        (("quantizer", 2, "coding", "shift"), 0, "an affine coding without shift multiplies by 1, not by 255"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path, path, value, message):
    content = changed(saved(with_every_part(), tmp_path), path, value)
    if message is None:
        assert load(content, tmp_path).quantizer is None
        return
    with pytest.raises(ModelError) as error:
        load(content, tmp_path)
    assert message in str(error.value)
    assert len(str(error.value)) < 300


def test_a_vote_of_astronomic_size_is_refused(tmp_path):
    content = saved(with_every_part(), tmp_path)
    content["classes"] = [str(i) for i in range(1000)]
    content["decision"]["subset_size"] = 500
    with pytest.raises(ModelError, match="the decision rule expects"):
        load(content, tmp_path)


def test_a_convolution_over_padding_that_claims_a_hundred_gigabytes_is_refused(tmp_path):
    content = saved(with_every_part(), tmp_path)
    layer = content["layers"][0]
    layer.update(weights=[[[[1]]] * 60000], bias=[0], padding=[255] * 4, stride=[255, 255], activation="none")
    layer["requantisation"] = None
    content.update(
        quantizer=None, input_low=[0] * 60000, input_high=[1] * 60000, input_shape=[60000, 1, 1], layers=[layer]
    )
    with pytest.raises(ModelError, match="each below the kernel's sides"):
        load(content, tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_entry_replaced_by_anything_is_a_network_or_one_sentence(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    content = saved(with_every_part(), folder)
    path, here = [], content
    while isinstance(here, dict | list) and here and (not path or data.draw(st.integers(0, 4))):
        keys = sorted(here) if isinstance(here, dict) else range(len(here))
        path.append(data.draw(st.sampled_from(keys)))
        here = here[path[-1]]
    try:
        load(changed(content, path, data.draw(JSON)), folder)
    except ModelError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 400
