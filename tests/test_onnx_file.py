from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mip2mcu.cli import main
from mip2mcu.errors import ModelError
from mip2mcu.prune.onnx_file import OPERATORS, read_onnx
from tests.conftest import require

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError:
    onnx = None

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _needs_onnx():
    require(onnx, "the package onnx is not installed")


def written(path, nodes, constants, shape, output="y"):
    """An ONNX file of ``nodes`` (kind, inputs, output, attributes) with one input x."""
    made = [helper.make_node(k, i, [o], name=f"{k}_{n}", **a) for n, (k, i, o, a) in enumerate(nodes)]
    tensors = [numpy_helper.from_array(np.asarray(v, dtype=v.dtype), name) for name, v in constants.items()]
    graph = helper.make_graph(
        made,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        tensors,
    )
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    return path


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def reference(path, rows):
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(onnx.load(path)).run(None, {"x": rows.astype(np.float32)})[0]


def test_dense_layers_as_gemm_and_matmul(tmp_path):
    nodes = [
        ("Gemm", ["x", "a", "ab"], "1", {"transB": 1, "alpha": 0.5, "beta": 2.0}),
        ("Relu", ["1"], "2", {}),
        ("MatMul", ["2", "b"], "3", {}),
        ("Add", ["bb", "3"], "4", {}),
        ("Relu", ["4"], "5", {}),
        ("Dropout", ["5"], "6", {}),
        ("Gemm", ["6", "c"], "7", {}),
        ("Softmax", ["7"], "y", {}),
    ]
    constants = {"a": normal(6, 5), "ab": normal(6), "b": normal(6, 4), "bb": normal(4), "c": normal(4, 3)}
    network = read_onnx(written(tmp_path / "net.onnx", nodes, constants, ["batch", 5]))
    rows = normal(20, 5)
    scores = np.exp(network.scores(rows))
    want = reference(tmp_path / "net.onnx", rows)
    assert network.widths == (6, 4)
    assert np.allclose(scores / scores.sum(axis=1, keepdims=True), want, atol=1e-5)


def image_nodes():
    nodes = [
        ("Sub", ["x", "mean"], "1", {}),
        ("Div", ["1", "deviation"], "2", {}),
        ("Conv", ["2", "a"], "3", {"pads": [0, 0, 0, 0], "strides": [1, 1]}),
        ("BatchNormalization", ["3", "gain", "shift", "mu", "var"], "4", {}),
        ("MaxPool", ["4"], "5", {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Relu", ["5"], "6", {}),
        ("Conv", ["6", "b", "bb"], "7", {"auto_pad": "SAME_UPPER"}),
        ("Relu", ["7"], "8", {}),
        ("AveragePool", ["8"], "9", {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Reshape", ["9", "flat"], "10", {}),
        ("Gemm", ["10", "c", "cb"], "y", {"transB": 1}),
    ]
    constants = {
        "mean": normal(2, 1, 1), "deviation": np.abs(normal(1, 2, 1, 1)) + 1, "a": normal(4, 2, 3, 3),
        "gain": normal(4), "shift": normal(4), "mu": normal(4), "var": np.abs(normal(4)),
        "b": normal(5, 4, 2, 2), "bb": normal(5), "flat": np.array([0, -1]), "c": normal(3, 20), "cb": normal(3),
    }  # fmt: skip
    return nodes, constants


def test_convolutions_pools_and_folded_normalisations(tmp_path):
    nodes, constants = image_nodes()
    path = written(tmp_path / "net.onnx", nodes, constants, ["batch", 2, 10, 10])
    rows = normal(7, 2, 10, 10)
    network = read_onnx(path)
    assert network.input_shape == (2, 10, 10)
    assert network.widths == (4, 5)
    assert np.allclose(network.scores(rows.reshape(7, -1)), reference(path, rows), atol=1e-4)


def test_one_score_becomes_two_classes(tmp_path):
    nodes = [("Gemm", ["x", "a"], "1", {}), ("Sigmoid", ["1"], "y", {})]
    network = read_onnx(written(tmp_path / "net.onnx", nodes, {"a": np.array([[1.0], [-1.0]])}, [1, 2]))
    assert network.scores(np.array([[3.0, 1.0]])).tolist() == [[0, 2]]
    assert "second where s is positive" in network.notes[0]


def test_nan_weights_are_cleaned_and_said(tmp_path):
    nodes = [("Gemm", ["x", "a"], "y", {})]
    network = read_onnx(written(tmp_path / "net.onnx", nodes, {"a": np.array([[np.nan, 1], [1e-40, 2]])}, [1, 2]))
    assert network.layers[0].weights.tolist() == [[0, 0], [1, 2]]
    assert network.notes[0] == "weights of Gemm (node 'Gemm_0'): 1 value of 4 NaN or infinite, taken as 0"


GEMM = ("Gemm", ["x", "a"], "y", {})


@pytest.mark.parametrize(
    ("nodes", "shape", "message"),
    [
        ([("Tanh", ["x"], "1", {}), ("Erf", ["1"], "y", {})], [1, 4], r"Tanh \(node 'Tanh_0'\), Erf \(node 'Erf_1'\)"),
        ([GEMM], [1, "length"], r"dynamic or empty shape \[1, length\]"),
        ([GEMM], [1, 5], r"Gemm \(node 'Gemm_0'\): a dense layer has 4 weights a unit but 5 inputs"),
        ([("Gemm", ["x", "a"], "1", {"transA": 1}), ("Relu", ["1"], "y", {})], [1, 4], "transA 1"),
        ([("Gemm", ["x", "x"], "y", {})], [1, 4], "must be a constant"),
        ([("Relu", ["x"], "1", {}), ("Gemm", ["1", "a"], "y", {})], [1, 4], "before the first layer"),
        ([("Softmax", ["x"], "1", {}), ("Gemm", ["1", "a"], "y", {})], [1, 4], "must be the end"),
        ([("Gemm", ["x", "a"], "1", {}), ("Add", ["x", "1"], "y", {})], [1, 4], "2 operators read 'x'"),
        ([("Identity", ["x"], "y", {})], [1, 4], "no layer with weights"),
        ([("Conv", ["x", "k"], "y", {"group": 2})], [1, 2, 4, 4], "group 2, supported is 1"),
        ([("MaxPool", ["x"], "y", {"kernel_shape": [2, 2], "pads": [1, 1, 1, 1]})], [1, 2, 4, 4], "without padding"),
        ([("MaxPool", ["x"], "y", {})], [1, 2, 4, 4], "does not fit its inputs"),
        ([("Conv", ["x", "k"], "1", {}), ("AveragePool", ["1"], "y", {"kernel_shape": [2, 2]})], [1, 1, 4, 4],
         "put the Relu in front"),
        ([("Conv", ["x", "k"], "1", {"dilations": [2, 2]}), ("Relu", ["1"], "y", {})], [1, 1, 4, 4], "dilations"),
        ([("Conv", ["x", "k"], "y", {"strides": [0, 1]})], [1, 1, 4, 4], "at least 1"),
        ([("Conv", ["x", "k"], "y", {"pads": [-1, 0, 0, 0]})], [1, 1, 4, 4], "at least 1 and 0"),
        ([("Conv", ["x", "k"], "y", {"pads": [9999, 9999, 0, 0]})], [1, 1, 4, 4], "more than 65535"),
        ([("Conv", ["x", "k"], "y", {})], [1, 4], "expected .channels, rows, columns."),
        ([("MaxPool", ["x"], "y", {"kernel_shape": [0, 2]})], [1, 2, 4, 4], "give at least 1"),
        ([("Conv", ["x", "k"], "1", {}), ("Relu", ["1"], "2", {}), ("Add", ["2", "one"], "3", {}),
          ("Conv", ["3", "k2"], "y", {"pads": [1, 1, 1, 1]})], [1, 1, 4, 4], "normalise before the Relu"),
        ([("Gemm", ["x", "a"], "1", {}), ("Relu", ["1"], "2", {}), ("Add", ["2", "one"], "3", {}),
          ("Relu", ["3"], "y", {})], [1, 4], "follows a normalisation"),
        ([("Gemm", ["x", "a"], "1", {}), ("Relu", ["1"], "2", {}), ("Add", ["2", "one"], "y", {})], [1, 4],
         "end the network with its scores"),
        ([("Transpose", ["x"], "1", {"perm": [0, 2, 3, 1]}), ("Conv", ["1", "k"], "y", {})], [1, 2, 3, 1],
         "feed channels first"),
        ([("Transpose", ["x"], "1", {"perm": [1, 0]}), ("Gemm", ["1", "a"], "y", {})], [1, 4], "moves the batch"),
        ([("ReduceMean", ["x"], "1", {"axes": [1]}), ("Gemm", ["1", "a"], "y", {})], [1, 4, 2, 2], "rows and columns"),
        ([("Gather", ["x", "flat"], "y", {})], [1, 4], "Gather"),
        ([("Gemm", ["x", "a"], "1", {}), ("Reshape", ["1", "flat"], "y", {})], [1, 4], "only to"),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_named_with_its_node(tmp_path, nodes, shape, message):
    constants = {"a": normal(4, 3), "k": normal(2, 1, 2, 2), "k2": normal(2, 2, 2, 2), "one": np.ones(1)}
    constants["flat"] = np.array([3, 2, 1])
    with pytest.raises(ModelError, match=message):
        read_onnx(written(tmp_path / "net.onnx", nodes, constants, shape))


def test_damaged_files_are_refused(tmp_path):
    path = written(tmp_path / "net.onnx", [GEMM], {"a": normal(4, 3)}, [1, 4])
    content = path.read_bytes()
    for name, text in (("cut", content[: len(content) // 2]), ("text", b"weights"), ("empty", b"")):
        (tmp_path / name).write_bytes(text)
        with pytest.raises(ModelError, match="ONNX file"):
            read_onnx(tmp_path / name)
    with pytest.raises(ModelError, match="there is no file"):
        read_onnx(tmp_path / "none.onnx")


def outside(path, location, **entries):
    """The file at ``path`` with its weights ``a`` said to lie at ``location``."""
    model = onnx.load(path, load_external_data=False)
    tensor = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, location=location, **entries)
    content, tensor.data_location = tensor.raw_data, TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    path.write_bytes(model.SerializeToString())
    return content


def test_weights_beside_the_file_are_read(tmp_path):
    path = written(tmp_path / "net.onnx", [GEMM], {"a": normal(4, 3)}, [1, 4])
    want = read_onnx(path).layers[0].weights
    content = outside(path, "net.onnx.data", offset=64)
    with pytest.raises(ModelError, match=r"keeps 'a' in net.onnx.data, which cannot be read \(No such file"):
        read_onnx(path)
    (tmp_path / "net.onnx.data").write_bytes(bytes(64) + content)
    assert (read_onnx(path).layers[0].weights == want).all()
    (tmp_path / "net.onnx.data").write_bytes(content)
    with pytest.raises(ModelError, match=r"net\.onnx\.data ends before the weights 'a' do"):
        read_onnx(path)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "", "link", "sub/../../secret"])
def test_weights_outside_of_the_folder_are_refused(tmp_path, location):
    (tmp_path / "secret").write_bytes(bytes(48))
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "link").symlink_to(tmp_path / "secret")
    path = written(tmp_path / "net" / "net.onnx", [GEMM], {"a": normal(4, 3)}, [1, 4])
    outside(path, location)
    with pytest.raises(ModelError, match=r"outside of its folder|holds damaged"):
        read_onnx(path)


def test_weights_that_are_said_to_be_vast_are_refused(tmp_path):
    path = written(tmp_path / "net.onnx", [GEMM], {"a": normal(4, 3)}, [1, 4])
    outside(path, "net.onnx.data", length=2**40)
    with pytest.raises(ModelError, match="are larger than"):
        read_onnx(path)


def same(path, shape, constants, *nodes):
    """The network read from ``nodes`` computes what ONNX's reference evaluator computes."""
    rows = normal(6, *shape)
    read = read_onnx(written(path, nodes, constants, ["batch", *shape]))
    assert np.allclose(read.scores(rows.reshape(6, -1)), reference(path, rows).reshape(6, -1), atol=1e-4)
    return read


def test_normalised_activations_go_into_the_layer_behind(tmp_path):
    norm = {"g": normal(4), "s": normal(4), "m": normal(4), "v": np.abs(normal(4)), "c": np.abs(normal(4, 1, 1)),
            "k": normal(4, 1, 3, 3), "k2": normal(5, 4, 2, 2), "a": normal(5, 3), "h": normal(4, 6), "w": normal(6, 3)}
    norm["v6"] = np.abs(normal(5)) + 0.1
    norm |= {f"{name}5": normal(5) for name in "gsm"}
    batch = ("BatchNormalization", ["2", "g", "s", "m", "v"], "3", {})
    same(tmp_path / "conv.onnx", (1, 6, 6), norm,
         ("Conv", ["x", "k"], "1", {}), ("Relu", ["1"], "2", {}), batch, ("Mul", ["3", "c"], "4", {}),
         ("AveragePool", ["4"], "5", {"kernel_shape": [2, 2]}), ("Conv", ["5", "k2"], "6", {}),
         ("Relu", ["6"], "7", {}),
         ("BatchNormalization", ["7", "g5", "s5", "m5", "v6"], "8", {}), ("GlobalAveragePool", ["8"], "9", {}),
         ("Flatten", ["9"], "10", {}), ("Gemm", ["10", "a"], "y", {}))  # fmt: skip
    same(tmp_path / "dense.onnx", (4,), norm,
         ("Identity", ["x"], "2", {}), batch, ("Gemm", ["3", "h"], "4", {}), ("Relu", ["4"], "5", {}),
         ("Gemm", ["5", "w"], "y", {}))  # fmt: skip


def test_a_maximum_of_negatively_scaled_values_is_refused(tmp_path):
    nodes = [("Mul", ["x", "c"], "1", {}), ("MaxPool", ["1"], "y", {"kernel_shape": [2, 2]})]
    with pytest.raises(ModelError, match="positive scale"):
        read_onnx(written(tmp_path / "net.onnx", nodes, {"c": -np.ones(1)}, [1, 1, 4, 4]))


def test_channels_last_as_tensorflow_writes_it(tmp_path):
    constants = {"k": normal(4, 1, 3, 3), "flat": np.array([-1, 16]), "a": normal(16, 3), "b": normal(3)}
    read = same(tmp_path / "net.onnx", (6, 6, 1), constants,
                ("Transpose", ["x"], "1", {"perm": [0, 3, 1, 2]}), ("Conv", ["1", "k"], "2", {"strides": [2, 2]}),
                ("Relu", ["2"], "3", {}), ("Transpose", ["3"], "4", {"perm": [0, 2, 3, 1]}),
                ("Reshape", ["4", "flat"], "5", {}), ("MatMul", ["5", "a"], "6", {}),
                ("Add", ["6", "b"], "y", {}))  # fmt: skip
    assert read.input_shape == (1, 6, 6)


def test_shapes_that_are_computed_and_weights_that_are_stored_transposed(tmp_path):
    constants = {"k": normal(4, 1, 3, 3), "first": np.array(0), "axes": np.array([0]), "rest": np.array([-1]),
                 "w": normal(3, 64)}  # fmt: skip
    same(tmp_path / "net.onnx", (1, 6, 6), constants,
         ("Conv", ["x", "k"], "1", {}), ("Relu", ["1"], "2", {}), ("Shape", ["2"], "3", {}),
         ("Gather", ["3", "first"], "4", {}), ("Unsqueeze", ["4", "axes"], "5", {}),
         ("Concat", ["5", "rest"], "6", {"axis": 0}), ("Reshape", ["2", "6"], "7", {}),
         ("Transpose", ["w"], "8", {"perm": [1, 0]}), ("MatMul", ["7", "8"], "y", {}))  # fmt: skip


def test_means_over_rows_and_columns_and_asymmetric_pads(tmp_path):
    constants = {"k": normal(4, 2, 3, 2), "w": normal(4, 3), "axes": np.array([2, 3])}
    for name, mean in (("a", ["2"]), ("b", ["2", "axes"])):
        attributes = {"keepdims": 0} | ({"axes": [-1, -2]} if name == "a" else {})
        nodes = [("Conv", ["x", "k"], "1", {"pads": [0, 1, 2, 0], "strides": [2, 1]}), ("Relu", ["1"], "2", {}),
                 ("ReduceMean", mean, "3", attributes), ("Gemm", ["3", "w"], "y", {})]  # fmt: skip
        if name == "a":
            same(tmp_path / "a.onnx", (2, 6, 5), constants, *nodes)
        else:
            assert read_onnx(written(tmp_path / "b.onnx", nodes, constants, [1, 2, 6, 5])).widths == (4,)


def test_division_by_zero_is_cleaned_and_said(tmp_path, recwarn):
    nodes = [("Div", ["x", "c"], "1", {}), ("Gemm", ["1", "a"], "y", {})]
    network = read_onnx(written(tmp_path / "net.onnx", nodes, {"c": np.array([1.0, 0]), "a": normal(2, 3)}, [1, 2]))
    assert network.layers[0].weights[:, 1].tolist() == [0, 0, 0]
    assert network.notes[0] == "Div (node 'Div_0'): 1 value of 2 NaN or infinite, taken as 0"
    assert not recwarn.list


def test_features_of_very_different_size_keep_their_scales(tmp_path):
    nodes = [("Mul", ["x", "c"], "1", {}), ("Gemm", ["1", "a"], "y", {})]
    network = read_onnx(written(tmp_path / "net.onnx", nodes, {"c": np.array([1.0, 1e-9]), "a": np.eye(2)}, [1, 2]))
    assert network.layers[0].weights.tolist() == [[1, 0], [0, 1e-9]]


def test_every_operator_that_is_said_to_be_supported_is_one_of_onnx():
    assert all(onnx.defs.has(kind) for kind in OPERATORS)


def test_the_shipped_lenet_is_read():
    network = read_onnx(Path(__file__).parent.parent / "examples" / "lenet" / "lenet5.onnx")
    assert network.input_shape == (1, 28, 28)
    assert network.widths == (6, 16, 120, 84)
    assert network.parameters == 61_706


def test_from_onnx_to_verified_c_by_commands(tmp_path):
    nodes, constants = image_nodes()
    path = written(tmp_path / "net.onnx", nodes, constants, ["batch", 2, 10, 10])
    network = read_onnx(path)
    images = RNG.integers(0, 256, (120, 2, 10, 10)).astype(np.uint8)
    labels = network.scores(images.reshape(120, -1) / 255).argmax(axis=1)
    labels[:3] = [0, 1, 2]  # every class occurs
    np.savez(tmp_path / "data.npz", X=images, y=labels)
    data, out = str(tmp_path / "data.npz"), str(tmp_path / "pruned.json")
    command = ["prune", str(path), "--data", data, "--input-scale", "1/255", "--keep", "75%", "--out", out]
    done = CliRunner().invoke(main, [*command, "--time-limit", "3"])
    assert done.exit_code == 0, done.output
    assert ["refitted", "3-4"] in [line.split()[:2] for line in done.output.splitlines()]
    done = CliRunner().invoke(main, ["verify", out, "--target", "host", "--vectors", "30", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["mismatches"] == 0
