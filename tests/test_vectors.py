"""Vectors: what each kind promises, exactly."""

import tracemalloc

import numpy as np
import pytest

from mip2mcu.decisions import Argmax
from mip2mcu.layers import Activation, Dense
from mip2mcu.network import Network
from mip2mcu.quantizer import Affine, Feature, OneHot, Quantizer, Thermometer, fit_affine
from mip2mcu.verify.comparison import chunk_rows
from mip2mcu.verify.hunting import hunt, random_rows, reach
from mip2mcu.verify.vectors import affine_steps, input_chunks, raw_chunks
from tests.verify_support import linear_network, quantized_network, sign_network, vote_network

NETWORKS = [linear_network(), sign_network(), vote_network(), sign_network(inputs=40, high=1), quantized_network()]


def collect(chunks):
    kinds: dict[str, list] = {}
    for kind, rows in chunks:
        kinds.setdefault(kind, []).append(rows)
    return {kind: np.concatenate(parts) for kind, parts in kinds.items()}


def generated(network, count=2000, data=None, seed=0, chunk_rows=512):
    return collect(input_chunks(network, data, count, seed, chunk_rows))


@pytest.mark.parametrize("network", NETWORKS)
def test_every_row_respects_the_input_ranges(network):
    for rows in generated(network).values():
        network.check_inputs(rows)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("count", [1, 7, 1000, 3001])
def test_exactly_the_wished_number_of_rows_is_generated(network, count):
    assert sum(len(rows) for rows in generated(network, count).values()) == count


def test_few_vectors_are_shared_by_all_kinds():
    kinds = {"corners", "extremes", "thresholds", "two_way_ties", "neighbours", "random"}
    assert set(generated(sign_network(), 24)) == kinds


def test_data_rows_come_first_and_all_of_them():
    network = linear_network()
    data = random_rows(network, 700, np.random.default_rng(9))
    kinds = generated(network, 100, data)
    assert next(iter(kinds)) == "data"
    np.testing.assert_array_equal(kinds["data"], data)
    assert sum(len(rows) for rows in kinds.values()) == 800


def test_chunks_are_bounded():
    assert max(len(rows) for _, rows in input_chunks(linear_network(), None, 5000, 0, 300)) <= 300


def test_a_million_vectors_take_no_more_memory_than_twenty_thousand():
    network = sign_network(inputs=40)
    rows = chunk_rows(network)
    hunted = hunt(network)
    peaks = []
    for count in (20_000, 1_000_000):
        tracemalloc.start()
        assert sum(len(part) for _, part in input_chunks(network, None, count, 0, rows, hunted)) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] < 2**26


def test_neighbours_differ_from_a_row_that_was_searched_for_in_one_to_four_inputs():
    network = sign_network()
    hunted = hunt(network)
    origins = np.concatenate(list(hunted.rows.values()))
    rows = collect(input_chunks(network, None, 2000, 0, 512, hunted))["neighbours"]
    assert len(rows) > 300
    nearest = np.array([(origins != row).sum(axis=1).min() for row in rows])
    assert nearest.max() <= 4


def test_the_same_seed_gives_the_same_rows_and_another_seed_others():
    first, second, other = (generated(sign_network(), seed=seed)["random"] for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, second)
    assert (first[:100] != other[:100]).any()


def test_corners_of_two_inputs_are_all_four_and_the_point_nearest_to_zero():
    network = Network([-3, 1], [5, 2], (Dense([[1, 1], [0, 1]], [0, 0]),), Argmax(2), ("a", "b"))
    assert generated(network)["corners"].tolist() == [[-3, 1], [-3, 2], [0, 1], [5, 1], [5, 2]]


def test_extremes_attain_the_exact_range_of_every_unit():
    network = sign_network()
    low, high = network.layers[0].sum_range(network.input_low, network.input_high)
    sums = network.layers[0].sums(generated(network)["extremes"])
    np.testing.assert_array_equal(sums.min(axis=0), low)
    np.testing.assert_array_equal(sums.max(axis=0), high)


def test_thresholds_put_every_hidden_unit_at_exactly_0_and_minus_1():
    network = sign_network()
    sums = network.layers[0].sums(generated(network)["thresholds"])
    assert (sums == 0).any(axis=0).all()
    assert (sums == -1).any(axis=0).all()


def test_thresholds_are_found_in_the_second_layer_too():
    rng = np.random.default_rng(0)
    hidden = [Dense(rng.integers(-1, 2, (8, 12)), rng.integers(-9, 9, 8), Activation.SIGN)]
    hidden.append(Dense(rng.choice([-1, 1], (4, 8)), [0, -1, 1, 0], Activation.SIGN))
    network = Network(
        np.zeros(12, int), np.full(12, 7), (*hidden, Dense(rng.choice([-1, 1], (2, 4)), [0, 1])), Argmax(2), ("a", "b")
    )
    rows = generated(network)["thresholds"]
    sums = hidden[1].sums(hidden[0].forward(rows))
    parity = (np.abs(hidden[1].weights).sum(axis=1) + hidden[1].bias) % 2
    for j, odd in enumerate(parity):
        assert (sums[:, j] == (-1 if odd else 0)).any()


def test_ties_hold_equal_best_scores():
    network = linear_network()
    scores = np.sort(network.scores(generated(network)["two_way_ties"]), axis=1)
    assert len(scores) >= 100
    assert (scores[:, -1] == scores[:, -2]).all()


def test_votes_tie_three_ways():
    network = vote_network()
    for kind, count in (("two_way_ties", 2), ("three_way_ties", 3)):
        scores = network.scores(generated(network)[kind])
        assert ((scores == scores.max(axis=1, keepdims=True)).sum(axis=1) == count).all()


@pytest.mark.parametrize("wanted", [-1020, -511, -1, 0, 1, 510])
def test_reach_always_succeeds_with_ternary_weights(wanted):
    rng = np.random.default_rng(0)
    weights = np.array([[1, -1, 0, 1, -1, -1]] * 50)
    starts = rng.integers(0, 256, (50, 6))
    wanted = max(wanted, -765)
    rows, reached = reach(weights, np.full(50, wanted), starts, np.zeros(6, int), np.full(6, 255))
    assert reached.all()
    assert (rows @ weights[0] == wanted).all()
    assert rows.min() >= 0
    assert rows.max() <= 255


def test_reach_admits_that_an_even_weight_misses_odd_sums():
    _, reached = reach(np.array([[2, -4]]), np.array([3]), np.array([[1, 1]]), np.zeros(2, int), np.full(2, 9))
    assert not reached.any()


@pytest.mark.parametrize("coding", [Affine(10, 14), fit_affine(-300, 700), fit_affine(-(2**31), 2**31 - 1)])
def test_affine_steps_are_where_the_input_changes(coding):
    steps = affine_steps(coding)
    np.testing.assert_array_equal(coding.apply(steps)[:, 0], np.arange(1, coding.input_high + 1))
    np.testing.assert_array_equal(coding.apply(steps - 1)[:, 0], np.arange(coding.input_high))


def raw_values(coding, raw_type="int16_t", missing=0):
    quantizer = Quantizer((Feature("f", coding, missing, 0, raw_type),))
    return set(collect(raw_chunks(quantizer, None, 1, 0, 100))["thresholds"][:, 0].tolist())


def test_thermometer_thresholds_are_met_from_both_sides():
    assert raw_values(Thermometer(0, 50, (10, 30)), missing=7) == {
        -32768, -32767, -1, 0, 1, 7, 9, 10, 11, 29, 30, 31, 49, 50, 51, 32766, 32767,
    }  # fmt: skip


def test_unseen_categories_are_tried():
    assert raw_values(OneHot(("x", "y"))) == {-32768, -32767, -1, 0, 1, 2, 3, 32766, 32767}


def test_raw_rows_stay_within_the_c_type():
    assert raw_values(Affine(0, 255), "uint8_t") <= set(range(256))
    rows = collect(raw_chunks(quantized_network().quantizer, None, 500, 0, 100))
    assert len(rows["random"]) == 500
    assert min(part.min() for part in rows.values()) >= -32768
    assert max(part.max() for part in rows.values()) <= 32767
