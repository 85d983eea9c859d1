"""The reference semantics: literal values, the differential test against a naive evaluator, and what is refused."""

from __future__ import annotations

import json
import time
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mip2mcu.decisions import Argmax, Sign, Vote
from mip2mcu.errors import ModelError, UsageError
from mip2mcu.layers import Activation, AveragePool, Conv2d, Dense, MaxPool, Requantisation
from mip2mcu.model_file import encode, render
from mip2mcu.network import Network
from mip2mcu.quantizer import Affine, Feature, OneHot, Quantizer, Thermometer
from tests import naive
from tests.networks import decisions, networks_with_rows, quantizers


def tiny(**changes):
    """Two inputs of 0..3, two hidden sign units, two classes."""
    fields = {
        "input_low": [0, 0],
        "input_high": [3, 3],
        "layers": (
            Dense([[1, -1], [2, 0]], [0, -3], Activation.SIGN),
            Dense([[1, 1], [-1, 1]], [0, 0]),
        ),
        "decision": Argmax(2),
        "classes": ("no", "yes"),
    }
    return Network(**{**fields, **changes})


# ---- literal values ------------------------------------------------------------------------------------------------


def test_two_layers_by_hand():
    network = tiny()
    inputs = np.array([[0, 0], [0, 1], [2, 1], [3, 3]])
    hidden, sums = network.activations(inputs)
    assert hidden.tolist() == [[1, -1], [-1, -1], [1, 1], [1, 1]]
    assert sums.tolist() == [[0, -2], [-2, 0], [2, 0], [2, 0]]
    assert network.predict(inputs).tolist() == [0, 1, 0, 0]
    assert network.margin(inputs).tolist() == [2, 2, 2, 2]


def test_the_ranges_of_every_layer_are_exact():
    network = tiny()
    (_, _), (hidden_low, hidden_high), (low, high) = network.layer_ranges
    assert (hidden_low.tolist(), hidden_high.tolist()) == ([-1, -1], [1, 1])
    assert (low.tolist(), high.tolist()) == ([-2, -2], [2, 2])


def test_no_rows_give_no_results():
    network = tiny()
    nothing = np.zeros((0, 2), dtype=np.int64)
    assert network.predict(nothing).tolist() == []
    assert network.scores(nothing).shape == (0, 2)
    assert network.margin(nothing).tolist() == []


def test_no_rows_pass_through_tensors_and_votes():
    layers = (Conv2d(np.ones((1, 1, 2, 2)), [0]), MaxPool((1, 1), (1, 1)), Dense(np.ones((3, 1)), [0, 0, 0]))
    network = Network([0] * 4, [9] * 4, layers, Vote(3, by_margin=True), ("a", "b", "c"), (1, 2, 2))
    nothing = np.zeros((0, 4), dtype=np.int64)
    assert network.predict(nothing).tolist() == []
    assert network.margin(nothing).tolist() == []


def test_counts():
    network = tiny()
    assert (network.inputs, network.weight_count, network.link_count, network.operations) == (2, 8, 7, 8)
    assert network.unclassified == 2
    assert network.shapes == ((2,), (2,), (2,))


def test_arrays_of_a_network_are_read_only():
    network = tiny()
    for array in (network.input_low, network.layers[0].weights, network.layers[0].bias):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 7


def test_lists_given_to_a_network_are_copied():
    weights = np.array([[1, 1], [1, 0]])
    network = tiny(layers=(Dense(weights, [0, 0]),))
    weights[0, 0] = 9
    assert network.layers[0].weights.tolist() == [[1, 1], [1, 0]]


def test_solver_results_that_are_whole_floats_are_taken():
    assert Dense(np.array([[1.0, -2.0]]), np.array([3.0])).weights.tolist() == [[1, -2]]


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, 1e300])
def test_a_fractional_weight_is_refused_and_not_cut(value):
    with pytest.raises(UsageError, match="no 64-bit integers"):
        Dense([[1.0, value]], [0])


# ---- two evaluators ------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(networks_with_rows())
def test_naive_evaluator_agrees_on_sums_scores_class_and_margin(case):
    network, rows = case
    content = json.loads(render_of(network))
    sums = [naive.sums(content, row.tolist()) for row in rows]
    assert network.sums(rows).tolist() == sums
    assert network.scores(rows).tolist() == [naive.scores(content, total) for total in sums]
    assert network.predict(rows).tolist() == [naive.predict(content, total) for total in sums]
    assert network.margin(rows).tolist() == [naive.margin(content, total) for total in sums]


@settings(max_examples=200, deadline=None)
@given(quantizers(), st.data())
def test_naive_evaluator_agrees_on_quantized_inputs(quantizer, data):
    content = {"quantizer": feature_entries(quantizer)}
    raw = data.draw(
        st.lists(
            st.lists(st.integers(-3000, 3000), min_size=len(quantizer.features), max_size=len(quantizer.features)),
            min_size=1,
            max_size=8,
        )
    )
    assert quantizer.quantize(np.array(raw)).tolist() == [naive.quantize(content, row) for row in raw]


@pytest.mark.parametrize("decision", [d for n in (2, 3, 4) for d in decisions(n)], ids=str)
def test_naive_evaluator_agrees_on_every_small_combination_of_sums(decision):
    count = decision.sums_expected()
    values = (-1, 0, 1) if count <= 6 else (-1, 1)
    sums = np.array(list(product(values, repeat=min(count, 8))))
    if count > 8:
        rng = np.random.default_rng(0)
        sums = rng.integers(-1, 2, (5000, count))
    content = {"classes": list(range(decision.classes)), "decision": decision_entry(decision)}
    rows = [row.tolist() for row in sums]
    assert decision.scores(sums).tolist() == [naive.scores(content, row) for row in rows]
    assert decision.predict(sums).tolist() == [naive.predict(content, row) for row in rows]
    assert decision.margin(sums).tolist() == [naive.margin(content, row) for row in rows]


@settings(max_examples=100, deadline=None)
@given(networks_with_rows(rows=20))
def test_every_activation_lies_in_its_range(case):
    network, rows = case
    for values, (low, high) in zip(network.activations(rows), network.layer_ranges[1:], strict=True):
        assert (values >= low).all()
        assert (values <= high).all()


@settings(max_examples=100, deadline=None)
@given(networks_with_rows(rows=1))
def test_a_saved_network_comes_back_identical(tmp_path_factory, case):
    network, rows = case
    path = tmp_path_factory.mktemp("model") / "model.json"
    network.save(path)
    again = Network.load(path)
    assert again.sha256 == network.sha256
    assert again.sums(rows).tolist() == network.sums(rows).tolist()
    text = path.read_bytes()
    again.save(path)
    assert path.read_bytes() == text


def render_of(network):
    return render(encode({name: getattr(network, name) for name in network.__dataclass_fields__}))


def decision_entry(decision):
    if isinstance(decision, Vote):
        return {"rule": "vote", "subset_size": decision.subset_size, "by_margin": decision.by_margin}
    return {"rule": "sign" if isinstance(decision, Sign) else "argmax"}


def feature_entries(quantizer):
    """The JSON of a quantizer: that of a network which only passes its inputs on."""
    count = quantizer.width
    layer = Dense(np.ones((1, count)), [0])
    one = Network(np.zeros(count), quantizer.input_high, (layer,), Sign(), ("a", "b"), (), quantizer)
    return json.loads(render_of(one))["quantizer"]


# ---- inputs --------------------------------------------------------------------------------------------------------


def test_an_input_outside_its_range_is_refused_with_its_place():
    with pytest.raises(ModelError, match=r"input 1 of row 2 is 4, outside its range 0\.\.3"):
        tiny().predict(np.array([[0, 0], [1, 1], [2, 4]]))


def test_an_unsigned_input_beyond_int64_is_outside_its_range():
    with pytest.raises(ModelError, match=r"input 0 of row 0 is 18446744073709551615, outside"):
        tiny(input_low=[-3, -3]).predict(np.array([[2**64 - 1, 0]], dtype=np.uint64))


def test_inputs_of_the_wrong_width_are_refused():
    with pytest.raises(ModelError, match=r"inputs have shape \(1, 3\), the network expects \(rows, 2\)"):
        tiny().predict(np.array([[0, 0, 0]]))


def test_float_inputs_are_refused():
    with pytest.raises(ModelError, match="inputs are of type float64"):
        tiny().predict(np.array([[0.0, 1.0]]))


def test_bytes_and_booleans_are_inputs():
    assert tiny().predict(np.array([[0, 1]], dtype=np.uint8)).tolist() == [1]
    assert tiny().predict(np.array([[False, True]])).tolist() == [1]


def test_raw_rows_pass_the_quantizer():
    quantizer = Quantizer((Feature("t", Thermometer(0, 90, (10, 50)), 0), Feature("k", OneHot(("x", "y")), 0)))
    network = Network([0] * 4, [1] * 4, (Dense([[1, 2, 4, 8]], [-5]),), Sign(), ("low", "high"), (), quantizer)
    assert network.quantize(np.array([[9, 0], [50, 1], [99, 7]])).tolist() == [[0, 0, 1, 0], [1, 1, 0, 1], [1, 1, 0, 0]]


def test_raw_rows_of_the_wrong_width_are_refused():
    quantizer = Quantizer((Feature("t", Affine(0, 9), 0),))
    network = Network([0], [9], (Dense([[1]], [-5]),), Sign(), ("low", "high"), (), quantizer)
    with pytest.raises(ModelError, match=r"raw rows have shape \(1, 2\), expected \(rows, 1\)"):
        network.quantize(np.array([[1, 2]]))


def test_without_a_quantizer_raw_rows_are_inputs():
    assert tiny().quantize(np.array([[0, 3]])).tolist() == [[0, 3]]


def test_ten_thousand_images_are_classified_within_two_seconds_of_a_core():
    rng = np.random.default_rng(1)
    hidden = Dense(rng.integers(-1, 2, (100, 784)), np.zeros(100), Activation.SIGN)
    last = Dense(rng.integers(-1, 2, (10, 100)), np.zeros(10))
    network = Network(np.zeros(784), np.full(784, 255), (hidden, last), Argmax(10), tuple("0123456789"))
    images = rng.integers(0, 256, (10_000, 784), dtype=np.uint8)
    start = time.process_time()
    network.predict(images)
    assert time.process_time() - start < 2


# ---- what is no network --------------------------------------------------------------------------------------------


def relu(pre, units=2):
    return Requantisation([pre] * units, [1] * units, [1] * units)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": ()}, "at least one layer"),
        ({"classes": ("a",)}, "the decision rule is for 2 classes, not 1"),
        ({"classes": ("a", "a")}, "two classes have the same label"),
        ({"classes": (0, 1)}, "the class label '0' is no text"),
        ({"classes": ("a", "b\n")}, "holds a control character"),
        ({"classes": ("a", "\ud800")}, "broken Unicode"),
        ({"classes": ("a", "b" * 1001)}, "has 1001 characters, at most 1000"),
        ({"decision": Sign()}, "the decision rule expects 1 sums, not 2"),
        ({"decision": Argmax(3), "classes": ("a", "b", "c")}, "the decision rule expects 3 sums, not 2"),
        ({"input_low": [0], "input_high": [3]}, "2 weights a unit but 1 inputs"),
        ({"input_low": [0, 4]}, "input ranges must ascend"),
        ({"input_high": [3, 2**15]}, "stay within -32767..32767"),
        ({"input_low": [], "input_high": []}, "needs 1..65535 inputs"),
        ({"input_shape": (-1, -2)}, r"input shape \(-1, -2\) is neither"),
        ({"input_shape": (1, 1, -2)}, "is neither"),
        ({"input_shape": (2, 1)}, "is neither"),
        ({"input_shape": (3,)}, "is neither"),
        ({"layers": (Dense([[1, 1], [1, 1]], [0, 0], Activation.SIGN),)}, "must be dense and without activation"),
        ({"layers": (Dense([[1, 1], [1, 1]], [0, 40000]), Dense([[1, 1], [1, 1]], [0, 0]))}, "reach 0..40006, beyond"),
        (
            {
                "layers": (
                    Dense([[32767, 32767], [0, 0]], [0, 0], Activation.RELU, relu(1)),
                    Dense([[1, 1], [1, 1]], [0, 0]),
                )
            },
            "exceeds 65535 after its first shift: raise `pre`",
        ),
        ({"quantizer": Quantizer((Feature("a", Affine(0, 3), 0),))}, "the quantizer's outputs do not match"),
        ({"input_shape": (2, 1, 1), "layers": (MaxPool((2, 1), (1, 1)), Dense([[1]], [0]))}, "does not fit into"),
        (
            {
                "input_low": [-1, 0],
                "input_shape": (2, 1, 1),
                "layers": (AveragePool((1, 1), (1, 1)), Dense([[1, 1], [1, 1]], [0, 0])),
            },
            "average pooling rounds non-negative values only, its inputs reach -1",
        ),
    ],
)
def test_a_network_that_breaks_a_rule_is_refused(changes, message):
    with pytest.raises(ModelError, match=message):
        tiny(**changes)


def test_a_layer_that_stands_twice_is_checked_at_both_places():
    twice = Dense([[5000]], [0], Activation.RELU, Requantisation([0], [2], [1]))
    wide = Dense([[100]], [0])
    with pytest.raises(ModelError, match="exceeds 65535"):
        Network([0], [1], (twice, wide, twice, Dense([[1]], [0])), Sign(), ("a", "b"))


def test_an_inference_of_too_many_operations_is_refused():
    wide = Conv2d(np.ones((64, 64, 1, 1)), np.zeros(64))
    side = Conv2d(np.ones((64, 1, 1, 1)), np.zeros(64))
    layers = (side, *[wide] * 300, Dense(np.ones((1, 64000)), [0]))
    with pytest.raises(ModelError, match=r"one inference takes \d+ operations, at most 1073741824"):
        Network(np.zeros(1000), np.ones(1000), layers, Sign(), ("a", "b"), (1, 25, 40))
