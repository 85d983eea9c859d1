from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from mip2mcu.cli import main
from mip2mcu.cli_prune import METHOD_NAMES
from mip2mcu.dataset import Dataset
from mip2mcu.errors import DatasetError, ModelError, UsageError
from mip2mcu.evaluation import evaluate
from mip2mcu.mip.solver import Solver
from mip2mcu.network import Network
from mip2mcu.prune import METHODS, Pruning, Scoring, Training, prune, prune_to_fit, trained, transfer, transferred
from mip2mcu.prune.budget import bytes_for, kept_units
from mip2mcu.prune.float_network import FloatPool
from mip2mcu.prune.training import _slopes, random_network
from tests.float_networks import conv_network, dense_network, labelled_by


def loss(network, inputs, labels):
    scores = network.scores(inputs)
    return (np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(labels)), labels]).mean()


@pytest.mark.parametrize("make", [dense_network, conv_network, lambda: conv_network(average=True)])
def test_slopes_are_differences_of_the_loss(make):
    network, rng = make(), np.random.default_rng(0)
    inputs, labels = rng.uniform(0, 0.5, (6, int(np.prod(network.input_shape)))), rng.integers(0, 3, 6)
    slopes = _slopes(network, inputs, labels)
    for position, k in enumerate(network.weighted):
        layer = network.at(k)
        for matrix_part, shape in ((True, layer.matrix.shape), (False, layer.bias.shape)):
            at = tuple(int(rng.integers(0, side)) for side in shape)
            ends = []
            for step in (1e-5, -1e-5):
                matrix, bias = layer.matrix.copy(), layer.bias.copy()
                (matrix if matrix_part else bias)[at] += step
                ends.append(loss(network.with_layer(k, layer.with_matrix(matrix, bias)), inputs, labels))
            slope = slopes[2 * position + (not matrix_part)][at]
            assert slope == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-6)


def test_a_network_learns_what_another_one_knows():
    teacher = dense_network((4, 6, 3))
    data = labelled_by(teacher, rows=400, high=255)
    start = random_network(dense_network((4, 16, 3)).layers, (4,))
    network = trained(start, data.inputs.astype(float), data.labels, Training(epochs=30, rate=0.02))
    assert start.accuracy(data.inputs, data.labels) < 0.9 < network.accuracy(data.inputs, data.labels)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_network_of_the_wanted_size(method):
    network = dense_network((6, 10, 8, 3))
    data = labelled_by(network, rows=300)
    result = prune(network, data, Pruning(0.5, method), test=data, solver=Solver(time_limit=3))
    assert [step.name for step in result.steps] == ["float", "pruned", "refitted", "quantised"]
    assert [step.widths for step in result.steps] == [(10, 8), (5, 4), (5, 4), (5, 4)]
    assert result.steps[0].accuracy == 1.0
    assert result.steps[-1].accuracy == result.steps[-1].test_accuracy == evaluate(result.network, data).accuracy
    assert result.steps[-1].bytes == bytes_for(network, (5, 4))
    assert json.dumps(result.as_dict())


def test_all_steps_of_a_convolutional_network():
    network = conv_network()
    data = labelled_by(network, rows=300)
    pruning = Pruning(0.8, "spread", lossless=True, fine_tune=3)
    result = prune(network, data, pruning, solver=Solver(time_limit=3))
    names = ["float", "lossless", "pruned", "refitted", "fine-tuned", "quantised"]
    assert [step.name for step in result.steps] == names
    assert result.steps[-1].test_accuracy is None
    assert abs(result.steps[-1].accuracy - result.steps[-2].accuracy) < 0.03


def test_the_same_call_gives_the_same_network():
    network = dense_network((6, 10, 8, 3))
    data = labelled_by(network)
    first, second = (prune(network, data, Pruning(0.5, "oamip")).network.sha256 for _ in range(2))
    assert first == second


def test_a_limit_of_flash_is_kept_with_as_many_units_as_fit():
    network = dense_network((6, 30, 20, 3))
    data = labelled_by(network)

    def measure(made):
        return 100 + sum(layer.weights.size + 8 * layer.units for layer in made.layers)

    result = prune_to_fit(network, data, Pruning(method="spread"), 700, measure)
    assert 600 < measure(result.network) <= 700
    with pytest.raises(UsageError, match="120 bytes of flash are too few: the smallest share possible takes 150"):
        prune_to_fit(network, data, Pruning(method="spread"), 120, measure)
    with pytest.raises(UsageError, match="a network without hidden layers takes 142"):
        prune_to_fit(dense_network((6, 3)), labelled_by(dense_network((6, 3))), Pruning(), 120, measure)


def test_a_limit_of_flash_is_kept_after_lossless_removal_too():
    network = dense_network((6, 30, 20, 3))
    first = network.layers[0]
    network = network.with_layer(0, first.with_matrix(np.where(np.arange(30)[:, None] < 9, -1.0, first.matrix),
                                                      np.where(np.arange(30) < 9, -1.0, first.bias)))  # fmt: skip

    def measure(made):
        return sum(layer.weights.size + 8 * layer.units for layer in made.layers)

    pruning = Pruning(method="spread", lossless=True)
    result = prune_to_fit(network, labelled_by(network), pruning, 600, measure)
    assert result.whole.widths == (21, 20)
    assert 540 < measure(result.network) <= 600


def test_budgets_in_words():
    network = dense_network((6, 30, 20, 3))
    assert [kept_units(network, keep) for keep in (0.6, "60%", "60 %", "0.6", "1.0")] == [(18, 12)] * 4 + [(30, 20)]
    assert kept_units(network, "24,12") == (24, 12)
    assert kept_units(network, "30") == (18, 12)
    assert kept_units(network, "30", multiple=4) == (16, 12)
    assert kept_units(network, "2") == (1, 1)
    for keep in ("500 bytes", "500b", "500 B"):
        counts = kept_units(network, keep)
        assert bytes_for(network, counts) <= 500 < bytes_for(network, [n + 1 for n in counts])
    assert kept_units(network, "1k") == kept_units(network, "1024 bytes") == kept_units(network, "1 kB")


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ("1", "1 units are too few: the smallest share possible takes 2"),
        ("60", "there are 50 units, not 60: give fewer, or a share such as 60%"),
        ("30 bytes", "30 bytes of parameters are too few: the smallest share possible takes"),
        ("24,12,3", "3 numbers of units for 2 hidden layers"),
        ("24,21", "21 of 20 units cannot be kept: give a number from 1 to 20"),
        ("24,0", "0 of 20 units cannot be kept"),
        ("", "'' is nothing to keep"),
        ("60%%", "is nothing to keep"),
        ("-3", "'-3' is nothing to keep: give a share such as 60%, units such as 36 or 24,12, or 2000 bytes"),
        ("nan", "a share of nan % cannot be kept"),
        ("101%", "a share of 101 % cannot be kept"),
    ],
)
def test_budgets_that_cannot_be_meant(keep, message):
    with pytest.raises(UsageError, match=message):
        kept_units(dense_network((6, 30, 20, 3)), keep)


def test_units_that_are_no_multiple_are_refused():
    with pytest.raises(UsageError, match="24 units are no multiple of 5"):
        kept_units(dense_network((6, 30, 20, 3)), "24,10", multiple=5)


@pytest.mark.parametrize("keep", ["24,12", "30", "60%", "500 bytes", 0.6])
def test_multiples_that_no_layer_has_are_refused(keep):
    network = dense_network((6, 30, 20, 3))
    with pytest.raises(UsageError, match="cannot come in multiples of 0: give a number of at least 1"):
        kept_units(network, keep, multiple=0)
    with pytest.raises(UsageError, match=r"in multiples of 31 where the widest .* has 30: give a number of at most 30"):
        kept_units(network, keep, multiple=31)


def test_a_layer_that_is_narrower_than_the_multiple_stays_whole_and_that_is_said():
    network = dense_network((6, 16, 5, 3))
    assert [kept_units(network, keep, multiple=8) for keep in (0.3, 0.9, "13")] == [(8, 5), (16, 5), (8, 5)]
    result = prune(network, labelled_by(network), Pruning(0.3, method="spread", multiple=8))
    assert result.steps[-1].widths == (8, 5)
    assert "layers of 5 units are narrower than 8: they stay whole" in result.notes


def test_a_threshold_of_scores():
    network = dense_network((6, 10, 8, 3))
    data = labelled_by(network)
    result = prune(network, data, Pruning(method="oamip", scoring=Scoring(threshold=0.1)))
    found = result.selection
    assert all((own[kept] >= 0.1).all() for own, kept in zip(found.scores, found.kept, strict=True))
    with pytest.raises(UsageError, match="scores lie between 0 and 1"):
        Scoring(threshold=1.5)


def test_a_mask_is_transferred_to_other_data_by_training():
    network = dense_network((6, 32, 16, 3))
    data, other = labelled_by(network), labelled_by(dense_network((6, 4, 3), seed=5))
    selection = prune(network, data, Pruning(0.5, "spread")).selection
    fresh = random_network(network.layers, (6,), seed=1)
    moved = transferred(fresh, selection, other, Training(epochs=40, rate=0.02))
    assert moved.widths == (16, 8)
    assert moved.accuracy(other.inputs, other.labels) > 0.8


def test_a_transfer_ends_with_a_network_for_the_other_data():
    network = dense_network((6, 32, 16, 3))
    data, other = labelled_by(network), labelled_by(dense_network((6, 4, 5), seed=5), rows=400)
    result = prune(network, data, Pruning("24", "spread"))
    moved = transfer(result, other, 40, test=other)
    assert [step.name for step in moved.steps] == ["transferred", "quantised"]
    assert (moved.floating.widths, moved.network.classes) == ((16, 8), other.classes)
    assert moved.steps[-1].test_accuracy > 0.6
    with pytest.raises(UsageError, match="at least 1 epoch"):
        transfer(result, other, 0)
    with pytest.raises(ModelError, match="6 inputs, the rows to transfer to have 4"):
        transfer(result, labelled_by(dense_network((4, 3))), 1)
    with pytest.raises(ModelError, match=r"the initial network has \(5, 4\) units"):
        transfer(result, data, 1, initial=dense_network())


def test_values_that_overflow_are_refused():
    network = dense_network()
    data = labelled_by(network)
    vast = network.with_layer(0, network.layers[0].with_matrix(network.layers[0].matrix * 1e200, np.zeros(5)))
    with pytest.raises(ModelError, match="check its weights, and --input-scale"):
        prune(vast, data, Pruning())


def test_options_that_cannot_be_meant():
    thresholded = {"scoring": Scoring(threshold=0.1), "multiple": 4}
    for options in ({"method": "magic"}, {"repair": "glue"}, {"fine_tune": -1}, {"keep": None}, thresholded):
        with pytest.raises(UsageError):
            Pruning(**options)
    network = dense_network()
    with pytest.raises(UsageError, match="smallest share possible"):
        prune(network, labelled_by(network), Pruning(0.05))
    unlabelled = Dataset(np.zeros((2, 6)), [-1, -1], ("0", "1", "2"), np.zeros(6), np.ones(6))
    with pytest.raises(DatasetError, match="--label"):
        prune(network, unlabelled, Pruning())


@pytest.mark.parametrize("method", METHODS)
def test_a_network_without_hidden_layers_is_quantised(method):
    network = dense_network((6, 3))
    data = labelled_by(network)
    result = prune(network, data, Pruning(0.5, method, lossless=True, fine_tune=1))
    assert result.network.layers[0].weights.shape == (3, 6)
    assert result.steps[-1].accuracy > 0.9


def test_accuracies_of_large_data_are_those_of_rows_spread_evenly(monkeypatch):
    network = dense_network()
    data = labelled_by(network, rows=100)
    wrong = Dataset(data.inputs, np.where(np.arange(100) % 2, data.labels, (data.labels + 1) % 3), data.classes,
                    data.input_low, data.input_high)  # fmt: skip
    monkeypatch.setattr("mip2mcu.prune.run.MEASURED_ROWS", 50)
    assert 0.3 < prune(network, wrong, Pruning(1.0, "random")).steps[0].accuracy < 0.7


# ---- command line


def files(tmp_path, network, high=15):
    data = labelled_by(network, rows=200, high=high)
    arrays = {f"weights_{i}": network.at(k).matrix for i, k in enumerate(network.weighted)}
    arrays |= {f"bias_{i}": network.at(k).bias for i, k in enumerate(network.weighted)}
    np.savez(tmp_path / "net.npz", **arrays)
    lines = [",".join([*map(str, row), str(label)]) for row, label in zip(data.inputs, data.labels, strict=True)]
    header = ",".join([f"x{i}" for i in range(data.inputs.shape[1])] + ["label"])
    (tmp_path / "data.csv").write_text("\n".join([header, *lines]) + "\n")
    return str(tmp_path / "net.npz"), str(tmp_path / "data.csv"), str(tmp_path / "pruned.json")


def run(*arguments):
    return CliRunner().invoke(main, ["prune", *arguments])


def test_the_command_prunes_and_writes_a_model(tmp_path):
    net, data, out = files(tmp_path, dense_network((6, 10, 8, 3)))
    done = run(net, "--data", data, "--test", data, "--out", out, "--keep", "50%", "--method", "spread")
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.output.splitlines()]
    assert ["float", "10-8", "185", "740", "100.00", "%", "100.00", "%"] in lines
    assert [line[:4] for line in lines if line and line[0] == "quantised"] == [["quantised", "5-4", "74", "146"]]
    assert Network.load(out).layers[0].units == 5


def test_the_command_in_json_with_a_limit_of_flash(tmp_path):
    net, data, out = files(tmp_path, dense_network((6, 30, 20, 3)))
    done = run(net, "--data", data, "--out", out, "--max-flash", "1100", "--method", "magnitude", "--json")
    assert done.exit_code == 0, done.output
    assert [step["name"] for step in json.loads(done.output)["steps"]] == ["float", "pruned", "refitted", "quantised"]


def test_scales_may_be_fractions_and_wrong_ones_are_noticed(tmp_path):
    net, data, out = files(tmp_path, dense_network())
    scaled = run(net, "--data", data, "--out", out, "--input-scale", "15/15", "--keep", "100%", "--method", "random")
    assert ["float", "5-4", "74", "296", "100.00", "%", "-"] in [line.split() for line in scaled.output.splitlines()]
    wrong = run(net, "--data", data, "--out", out, "--input-scale=-40", "--keep", "1.0", "--method", "random")
    assert "was it trained on scaled inputs? See --input-scale" in wrong.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--keep", "60%", "--max-flash", "4k"], "give one of them"),
        (["--threshold", "0.1"], "about the scores of --method oamip"),
        (["--keep", "most"], "'most' is nothing to keep: give a share such as 60%"),
        (["--keep", "24,12"], "24 of 5 units cannot be kept"),
        (["--multiple-of", "64"], "in multiples of 64 where the widest of all hidden layers has 5"),
        (["--multiple-of", "0", "--keep", "3,3"], "0 is not in the range x>=1"),
        (["--transfer", "data.csv", "--fine-tune", "0"], "give --fine-tune at least 1 epoch"),
        (["--max-flash", "10"], "10 bytes of flash are too few: the smallest share possible takes"),
        (["--target", "chip"], "there is no target 'chip'"),
        (["--method", "spread", "--decouple", "classes"], "--decouple is about the scores of --method oamip"),
        (["--method", "oamip", "--images", "2"], "give --decouple classes too"),
        (["--method", "oamip", "--threshold", "nan"], "scores lie between 0 and 1"),
        (["--initial", "net.npz"], "--initial is what --transfer begins with"),
        (["--input-scale", "1e200"], "check its weights, and --input-scale"),
        (["--keep", "5%"], "the smallest share possible is 12.5 %"),
        (["--input-scale", "1/0"], "'1/0' is no number such as 0.5 or 1/255"),
        (["--input-scale", "0"], "finite and not 0"),
        (["--input-range", "9,0"], "is not LOW,HIGH"),
        (["--input-range", "a,b"], "'a,b' is not LOW,HIGH such as 0,255"),
        (["--input-range", "0,9"], "outside input_range 0..9"),
        (["--out", "missing/net.json"], "the folder missing does not exist"),
    ],
)
def test_bad_input_ends_in_one_sentence(tmp_path, arguments, message):
    net, data, out = files(tmp_path, dense_network())
    done = run(net, "--data", data, *([] if "--out" in arguments else ["--out", out]), *arguments)
    assert done.exit_code == 2
    assert message in done.output.replace("\n", " ")
    assert "Traceback" not in done.output


def test_the_command_says_which_test_rows_saturate(tmp_path):
    net, data, out = files(tmp_path, dense_network())
    lines = (tmp_path / "data.csv").read_text().splitlines()
    (tmp_path / "test.csv").write_text("\n".join([lines[0], "99,1,2,3,4,5,0", *lines[1:9]]) + "\n")
    done = run(net, "--data", data, "--test", str(tmp_path / "test.csv"), "--out", out, "--method", "random")
    assert "1 of 9 test rows have values beyond the range of the data, they saturate" in done.output


def test_the_command_transfers_a_mask(tmp_path):
    net, data, out = files(tmp_path, dense_network((6, 10, 8, 3)))
    options = ["--out", out, "--keep", "8", "--method", "spread", "--transfer", data, "--initial", net, "--test", data]
    done = run(net, "--data", data, *options, "--fine-tune", "2")
    assert done.exit_code == 0, done.output
    steps = [line for line in done.output.splitlines() if line.startswith(data)]
    assert [line.split()[1:3] for line in steps][-2:] == [["transferred", "4-4"], ["quantised", "4-4"]]
    assert Network.load(out).layers[0].units == 4
    described = json.loads(run(net, "--data", data, *options, "--fine-tune", "1", "--json").output)
    assert [step["name"] for step in described["transfer"][0]["steps"]] == ["transferred", "quantised"]


def test_initial_weights_that_do_not_fit_are_refused_before_the_work(tmp_path):
    net, data, out = files(tmp_path, dense_network((6, 10, 8, 3)))
    (tmp_path / "other").mkdir()
    other = files(tmp_path / "other", dense_network((6, 9, 8, 3)))[0]
    options = ["--data", data, "--out", out, "--transfer", data, "--time-limit", "1e6", "--initial"]
    assert "the initial network has (9, 8) units" in run(net, *options, other).stderr
    assert "leave one of them out" in run(net, *options, net, "--lossless").stderr


def test_a_mask_cannot_be_transferred_to_data_of_another_shape(tmp_path):
    net, data, out = files(tmp_path, dense_network((6, 10, 8, 3)))
    (tmp_path / "narrow.csv").write_text("a,b,label\n1,2,x\n2,1,y\n1,1,x\n")
    done = run(net, "--data", data, "--out", out, "--transfer", str(tmp_path / "narrow.csv"))
    assert (done.exit_code, "2 inputs a row" in done.output) == (2, True)


def test_files_that_are_no_models_are_not_replaced(tmp_path):
    net, data, _ = files(tmp_path, dense_network())
    before = (tmp_path / "data.csv").read_text()
    done = run(net, "--data", data, "--out", data, "--method", "random")
    assert (done.exit_code, (tmp_path / "data.csv").read_text()) == (2, before)
    assert "is no model file and is not replaced" in done.output


def test_the_command_knows_all_methods():
    assert tuple(METHODS) == METHOD_NAMES


def test_pools_have_no_parameters():
    assert random_network(conv_network().layers, (1, 8, 8)).layers[1] == FloatPool((2, 2), (2, 2))
