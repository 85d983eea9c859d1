"""Certificates against exhaustive search: every raw row of small networks is tried."""

import itertools
import sys

import numpy as np
import pytest

from mip2mcu.certify import NORMS, Certificate, RowCertificate, bounds, certify
from mip2mcu.dataset import Dataset
from mip2mcu.decisions import Argmax, Sign, Vote
from mip2mcu.errors import DatasetError, InfeasibleError, UsageError
from mip2mcu.filters import Edges, Smooth
from mip2mcu.ladders import ladders_of
from mip2mcu.layers import Activation, AveragePool, Dense, MaxPool, SumPool
from mip2mcu.mip import program
from mip2mcu.network import Network
from mip2mcu.quantizer import Affine, Feature, OneHot, Quantizer, Thermometer

QUANTIZER = Quantizer(
    (
        Feature("t", Thermometer(0, 9, (2, 3, 7)), 0, raw_type="int8_t"),
        Feature("a", Affine(10, 14), 10, raw_type="int8_t"),
        Feature("c", OneHot(("x", "y")), 0, raw_type="uint8_t"),
        Feature("u", Thermometer(-3, 3, (-1, 1)), 0, raw_type="int8_t"),
    )
)
RAW_RANGES = (range(-1, 11), range(9, 16), None, range(-4, 5))
"""Values that show every level of every feature; the category stays."""

RULES = {
    "sign": (Sign(), 2),
    "argmax": (Argmax(3), 3),
    "vote by margin": (Vote(4, 2, by_margin=True), 4),
    "strict vote": (Vote(4, 2), 4),
    "vote of three by margin": (Vote(4, 3, by_margin=True), 4),
    "strict vote of three": (Vote(4, 3), 4),
}
SIZES = {
    "linf": lambda change: np.abs(change).max(axis=1),
    "l1": lambda change: np.abs(change).sum(axis=1),
    "l0": lambda change: np.count_nonzero(change, axis=1),
}


def network_of(seed: int, rule, classes: int, hidden: tuple[int, ...], quantizer: Quantizer | None = QUANTIZER):
    rng = np.random.default_rng(seed)
    high = quantizer.input_high if quantizer else np.array([3, 2, 4])
    widths = [len(high), *hidden, rule.sums_expected()]
    layers = [
        Dense(
            rng.integers(-3, 4, (units, inputs)),
            rng.integers(-4, 5, units),
            Activation.SIGN if depth < len(hidden) else Activation.NONE,
        )
        for depth, (inputs, units) in enumerate(itertools.pairwise(widths))
    ]
    low = np.zeros(len(high), dtype=np.int64)
    names = tuple(f"k{c}" for c in range(classes))
    return Network(low, high, tuple(layers), rule, names, quantizer=quantizer)


def rows_of(network: Network, seed: int, count: int = 6) -> Dataset:
    """Random rows with the network's own answers as labels, where it has one; the last label is wrong."""
    rng = np.random.default_rng(seed)
    if network.quantizer is None:
        raw = rng.integers(network.input_low, network.input_high + 1, (count, network.inputs))
    else:
        raw = np.stack([rng.integers(0, 2, count) if r is None else rng.choice(r, count) for r in RAW_RANGES], axis=1)
    predicted = network.predict(network.quantize(raw))
    labels = np.minimum(predicted, len(network.classes) - 1)
    labels[-1] = (labels[-1] + 1) % len(network.classes)
    quantized = None if network.quantizer is None else raw
    return Dataset(
        network.quantize(raw), labels, network.classes, network.input_low, network.input_high,
        quantizer=network.quantizer, raw=quantized,
    )  # fmt: skip


def neighbours(network: Network, raw: np.ndarray) -> np.ndarray:
    """Every raw row that the network could see instead, categories fixed."""
    if network.quantizer is None:
        ranges = [range(low, high + 1) for low, high in zip(network.input_low, network.input_high, strict=True)]
    else:
        ranges = [[int(value)] if r is None else r for r, value in zip(RAW_RANGES, raw, strict=True)]
    return np.array(list(itertools.product(*ranges)))


def smallest_change(network: Network, raw: np.ndarray, norm: str) -> int | None:
    tried = neighbours(network, raw)
    predicted = network.predict(network.quantize(raw[None]))[0]
    changed = tried[network.predict(network.quantize(tried)) != predicted]
    return int(SIZES[norm](changed - raw).min()) if len(changed) else None


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("hidden", [(), (4,), (3, 3)], ids=["no hidden layer", "one", "two"])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_the_smallest_change_is_that_of_exhaustive_search(rule, hidden, norm):
    for seed in range(3):
        network = network_of(seed, *rule, hidden)
        data = rows_of(network, seed)
        certificate = certify(network, data, norm=norm, node_limit=10_000)
        for row in certificate.rows:
            if row.right:
                smallest = smallest_change(network, data.raw[row.row], norm)
                assert (row.broken, row.exact) == (smallest, True)
                assert row.safe == (None if smallest is None else smallest - 1)


@pytest.mark.parametrize("norm", NORMS)
def test_inputs_without_quantizer_stay_in_their_ranges(norm):
    for seed in range(4):
        network = network_of(seed, Argmax(3), 3, (3,), quantizer=None)
        data = rows_of(network, seed)
        for row in certify(network, data, norm=norm, node_limit=10_000).rows:
            if row.right:
                assert row.broken == smallest_change(network, data.inputs[row.row], norm)


def test_every_witness_is_checked_and_of_the_size_that_is_stated():
    network = network_of(1, *RULES["vote by margin"], (4,))
    data = rows_of(network, 1, 12)
    for row in certify(network, data, norm="l1", node_limit=10_000).rows:
        if row.witness is not None:
            moved = np.array([row.witness])
            assert network.predict(network.quantize(moved))[0] != row.predicted
            assert SIZES["l1"](moved - data.raw[row.row])[0] == row.broken


def test_wrong_rows_count_at_no_radius():
    network = network_of(0, *RULES["argmax"], ())
    certificate = certify(network, rows_of(network, 0), node_limit=100)
    assert certificate.right == 5
    assert certificate.rows[-1].safe == 0 and certificate.rows[-1].witness is None
    assert certificate.certified(0) == certificate.unbroken(0) == 5
    assert [r.row for r in certificate.rows] == list(range(6))


def test_certified_rows_fall_with_the_radius_and_never_exceed_the_unbroken():
    network = network_of(2, *RULES["argmax"], (4,))
    certificate = certify(network, rows_of(network, 2, 12), node_limit=10_000)
    radii = certificate.radii()
    counts = [certificate.certified(r) for r in radii]
    assert counts == sorted(counts, reverse=True)
    assert counts == [certificate.unbroken(r) for r in radii]


@pytest.mark.parametrize(
    ("radii", "message"),
    [
        ((0, 3), "the radius 3 lies beyond the limit 2: nothing is searched there, drop it or raise the limit"),
        ((-1, 0), "radii -1,0 must ascend from 0 or more"),
        ((1, 1), "radii 1,1 must ascend from 0 or more"),
    ],
)
def test_a_certificate_tells_nothing_about_radii_that_were_not_asked_for(radii, message):
    certificate = Certificate("", "linf", 2, (RowCertificate(0, 0, 0, 2, None, None),))
    assert certificate.as_dict((0, 2))["radii"][1] == {"radius": 2, "certified": 1, "unbroken": 1}
    with pytest.raises(UsageError, match=message):
        certificate.as_dict(radii)


@pytest.mark.parametrize("norm", NORMS)
def test_a_limit_ends_the_search_where_the_caller_has_enough(norm):
    network = network_of(3, *RULES["vote by margin"], (3,))
    data = rows_of(network, 3, 8)
    for row in certify(network, data, norm=norm, limit=1, node_limit=10_000).rows:
        smallest = smallest_change(network, data.raw[row.row], norm)
        if row.right:
            assert row.safe_at(1) == (smallest is None or smallest > 1)
            assert row.safe is None or smallest is None or row.safe < smallest


def test_without_search_both_bounds_stay_true():
    for seed in range(4):
        network = network_of(seed, *RULES["strict vote"], (4,))
        data = rows_of(network, seed)
        for row in certify(network, data, node_limit=0).rows:
            smallest = smallest_change(network, data.raw[row.row], "linf")
            if row.right:
                assert row.safe is None or smallest is None or row.safe < smallest
                assert row.broken is None or row.broken >= smallest


def run_module():
    """The module, whose name in its package is that of a function."""
    return sys.modules["mip2mcu.certify.run"]


def test_no_row_is_tried_twice_when_the_time_is_over(monkeypatch):
    module, tried = run_module(), []
    certify_row = module._certify_row
    monkeypatch.setattr(module, "_certify_row", lambda task, run: tried.append(task.row) or certify_row(task, run))
    network = network_of(3, Argmax(3), 3, (4,))
    certify(network, rows_of(network, 3), time_limit=0.0)
    assert len(tried) == len(set(tried)) > 1


def test_the_result_does_not_depend_on_the_workers():
    network = network_of(1, *RULES["argmax"], (4,))
    data = rows_of(network, 1)
    alone, together = (certify(network, data, node_limit=1000, workers=workers).as_dict() for workers in (1, 2))
    assert alone == together


def test_a_ladder_has_a_threshold_a_change_of_an_input():
    ladders = ladders_of(network_of(0, Sign(), 2, ()))
    assert ladders.start.tolist() == [0, 3, 7, 7, 9]
    assert ladders.thresholds.tolist() == [2, 3, 7, 11, 12, 13, 14, -1, 1]
    assert ladders.inputs.tolist() == [0, 1, 2, 3, 3, 3, 3, 6, 7]
    assert ladders.steps.tolist() == [1] * 9


def test_an_affine_ladder_rises_where_its_coding_does():
    coding = Affine(-1000, 3000, 0, 4177, 16)
    quantizer = Quantizer((Feature("a", coding, 0),))
    network = Network(
        np.zeros(1, int), quantizer.input_high, (Dense(np.array([[1]]), np.array([-9])),), Sign(), ("a", "b"),
        quantizer=quantizer,
    )  # fmt: skip
    ladders = ladders_of(network)
    values = np.arange(-1100, 3100)
    levels = np.array([ladders.levels(np.array([v]))[0] for v in values])
    assert (levels == coding.apply(values)[:, 0]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm": "l2"}, "the norm 'l2' is unknown, choose one of linf, l1, l0"),
        ({"limit": 0}, "a largest radius of 0 is not possible"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments, message):
    network = network_of(0, Sign(), 2, ())
    with pytest.raises(UsageError, match=message):
        certify(network, rows_of(network, 0), **arguments)


def test_other_layers_are_refused_in_words():
    layers = (Dense(np.array([[1, 1]]), np.array([0])), Dense(np.array([[1]]), np.array([0])))
    network = Network(np.zeros(2, int), np.ones(2, int), layers, Sign(), ("a", "b"))
    with pytest.raises(UsageError, match="only networks of dense layers with sign units, behind filters, can be"):
        certify(network, rows_of(network, 0))


FILTERS = {
    "smooth": Smooth(),
    "edges": Edges(1, 1),
    "max": MaxPool((1, 2), (1, 1)),
    "mean": AveragePool((2, 1), (1, 1)),
    "sum": SumPool((2, 2), (1, 1)),
    "pairs": MaxPool((1, 2), (1, 2)),
    "mean of columns": AveragePool((1, 3), (1, 3)),
}


IMAGE, SERIES, CHANNELS = (1, 2, 3), (1, 1, 6), (2, 1, 3)
BEHIND = [(IMAGE, (name,)) for name in FILTERS] + [
    (IMAGE, ("smooth", "edges")),
    (IMAGE, ("smooth", "max")),
    (IMAGE, ("edges", "mean of columns")),
    (SERIES, ("edges",)),
    (SERIES, ("smooth", "pairs")),
    (CHANNELS, ("max",)),
    (CHANNELS, ("smooth", "edges")),
]


def network_behind(shape, names, high: int, hidden: int, rng: np.random.Generator) -> Network:
    filters, behind = [FILTERS[name] for name in names], shape
    for layer in filters:
        behind = layer.output_shape(behind)
    widths = [int(np.prod(behind)), *([hidden] if hidden else []), 3]
    dense = [
        Dense(
            rng.integers(-2, 3, (units, inputs)), rng.integers(-3, 4, units),
            Activation.SIGN if depth < len(widths) - 2 else Activation.NONE,
        )
        for depth, (inputs, units) in enumerate(itertools.pairwise(widths))
    ]  # fmt: skip
    count = int(np.prod(shape))
    return Network(
        np.zeros(count, int), np.full(count, high), (*filters, *dense), Argmax(3), ("a", "b", "c"), input_shape=shape
    )


@pytest.mark.parametrize(("shape", "names"), BEHIND, ids=lambda part: "-".join(map(str, part)))
@pytest.mark.parametrize("norm", NORMS)
def test_behind_filters_the_smallest_change_is_that_of_exhaustive_search(shape, names, norm):
    rng = np.random.default_rng(len(names))
    for seed, hidden in enumerate((0, 3)):
        network = network_behind(shape, names, 2, hidden, rng)
        data = rows_of(network, seed, 4)
        for row in certify(network, data, norm=norm, node_limit=10_000).rows:
            if row.right:
                assert (row.broken, row.exact) == (smallest_change(network, data.inputs[row.row], norm), True)


def stripes(side: int) -> tuple[Network, Dataset]:
    """Two smoothed sums behind sign units, the left half of an image against the right, and one bright row."""
    half = np.where(np.arange(side) < side // 2, 1, -1)
    weights = np.stack([np.tile(half, side), np.tile(half, side)])
    layers = (Smooth(), Dense(weights, np.zeros(2, int), Activation.SIGN), Dense(np.array([[1, 1]]), np.array([1])))
    count = side * side
    network = Network(
        np.zeros(count, int), np.full(count, 3), layers, Sign(), ("a", "b"), input_shape=(1, side, side)
    )  # fmt: skip
    row = np.tile(np.where(half > 0, 2, 1), side)[None]
    return network, Dataset(row, np.array([0]), ("a", "b"), network.input_low, network.input_high)


def test_attacks_behind_filters_are_led_by_sums_and_not_by_their_signs():
    network, data = stripes(4)
    row = certify(network, data, node_limit=0).rows[0]  # no single pixel turns a sign
    assert (row.safe, row.broken) == (0, 1)


def test_attacks_in_parts_are_the_same_attacks(monkeypatch):
    network, data = stripes(6)
    whole = certify(network, data, norm="l1", node_limit=0).rows
    monkeypatch.setattr(bounds, "ATTACKED_CELLS", 100)
    assert certify(network, data, norm="l1", node_limit=0).rows == whole


def test_images_too_large_for_a_program_keep_their_bounds(monkeypatch):
    network, data = stripes(4)
    monkeypatch.setattr(run_module(), "build", lambda *_: pytest.fail("a program was built"))
    monkeypatch.setattr(run_module(), "FILTERED_INPUTS", 15)
    row = certify(network, data, norm="l1", node_limit=100).rows[0]
    assert not row.exact and row.broken is not None


def test_attacks_end_with_the_time_but_for_their_first_moments(monkeypatch):
    network, data = stripes(4)
    tried = []
    attacked = run_module()._Task.attacked
    monkeypatch.setattr(run_module()._Task, "attacked", lambda task, reach: tried.append(0) or attacked(task, reach))
    certify(network, data, time_limit=0.0)
    count = len(tried)
    monkeypatch.setattr(run_module(), "ATTACK_SECONDS", -1.0)
    certify(network, data, time_limit=0.0)
    assert len(tried) == count > 0


def test_cut_edges_and_pixels_behind_a_quantizer_are_modelled():
    coding = Affine(0, 4, 0, 409, 9)  # 0..4 become 0..3, two raw values the same
    quantizer = Quantizer(tuple(Feature(f"p{i}", coding, 0, raw_type="uint8_t") for i in range(4)))
    rng = np.random.default_rng(5)
    for seed in range(4):
        dense = Dense(rng.integers(-1, 2, (3, 4)), [0, 0, 0])
        edges = (Smooth(), Edges(2, 0)) if seed % 2 else (SumPool((1, 1), (1, 1)), Edges(1, 0), MaxPool((1, 2), (1, 2)))
        shape = (1, 2, 2)
        for layer in edges:
            shape = layer.output_shape(shape)
        dense = Dense(rng.integers(-3, 4, (3, int(np.prod(shape)))), rng.integers(-2, 3, 3))
        network = Network(
            np.zeros(4, int), quantizer.input_high, (*edges, dense), Argmax(3), ("a", "b", "c"),
            input_shape=(1, 2, 2), quantizer=quantizer,
        )  # fmt: skip
        raw = rng.integers(0, 5, (4, 4))
        data = Dataset(
            network.quantize(raw), network.predict(network.quantize(raw)), network.classes, network.input_low,
            network.input_high, input_shape=(1, 2, 2), quantizer=quantizer, raw=raw,
        )  # fmt: skip
        tried = np.array(list(itertools.product(range(5), repeat=4)))
        classes = network.predict(network.quantize(tried))
        for row in certify(network, data, norm="l1", node_limit=10_000).rows:
            others = tried[classes != row.predicted]
            smallest = int(np.abs(others - raw[row.row]).sum(axis=1).min()) if len(others) else None
            assert (row.broken, row.exact) == (smallest, True)


@pytest.mark.parametrize("norm", NORMS)
def test_proofs_with_large_factors_are_not_believed(monkeypatch, norm):
    monkeypatch.setattr(program, "FACTOR_LIMIT", 0)
    improved = 0
    for seed in range(4):
        network = network_of(seed, *RULES["argmax"], (4,))
        data = rows_of(network, seed, 8)
        unsearched = certify(network, data, norm=norm, node_limit=0)
        unbelieved = certify(network, data, norm=norm, node_limit=1000)
        assert [row.safe for row in unbelieved.rows] == [row.safe for row in unsearched.rows]
        improved += sum(a.broken != b.broken for a, b in zip(unbelieved.rows, unsearched.rows, strict=True))
    assert improved > 0  # witnesses are checked, so they count


def test_a_proof_that_a_checked_witness_refutes_is_not_believed(monkeypatch):
    def nothing(*_given, **_named):
        raise InfeasibleError("there is none")

    network = network_of(2, *RULES["argmax"], (4,))
    data = rows_of(network, 0, 8)
    unsearched = certify(network, data, node_limit=0)
    assert any(row.broken is not None and not row.exact for row in unsearched.rows)
    monkeypatch.setattr(sys.modules["mip2mcu.certify.run"], "solve_matrix", nothing)
    refuted = [row for row in certify(network, data, node_limit=1000).rows if row.broken is not None]
    assert refuted == [row for row in unsearched.rows if row.broken is not None]


def test_where_sums_are_large_smaller_changes_are_searched_for():
    rng = np.random.default_rng(1)
    layers = (
        Dense(rng.integers(-9000, 9001, (4, 3)), rng.integers(-63_000, 63_001, 4), Activation.SIGN),
        Dense(rng.integers(-3, 4, (2, 4)), [0, 0]),
    )
    network = Network(np.zeros(3, int), np.full(3, 20), layers, Argmax(2), ("a", "b"))
    data = rows_of(network, 0, 12)
    rows = [row for row in certify(network, data, node_limit=10_000).rows if row.right]
    for row in rows:
        smallest = smallest_change(network, data.inputs[row.row], "linf")
        assert row.safe is None or smallest is None or row.safe < smallest <= row.broken
    unsearched = [row for row in certify(network, data, node_limit=0).rows if row.right]
    assert sum(row.safe for row in rows) > sum(row.safe for row in unsearched)


def test_rows_without_labels_are_refused():
    network = network_of(0, Sign(), 2, ())
    data = rows_of(network, 0)
    unlabelled = Dataset(
        data.inputs, np.full(data.rows, -1), data.classes, data.input_low, data.input_high,
        quantizer=data.quantizer, raw=data.raw,
    )  # fmt: skip
    with pytest.raises(DatasetError, match="rows without labels cannot be certified"):
        certify(network, unlabelled)
