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
        ([("Relu", ["x"], "1", {}), ("Add", ["x", "1"], "y", {})], [1, 4], "2 operators read 'x'"),
        ([("Identity", ["x"], "y", {})], [1, 4], "no layer with weights"),
        ([("Conv", ["x", "k"], "y", {"group": 2})], [1, 2, 4, 4], "group 2, supported is 1"),
        ([("MaxPool", ["x"], "y", {"kernel_shape": [2, 2], "pads": [1, 1, 1, 1]})], [1, 2, 4, 4], "without padding"),
        ([("MaxPool", ["x"], "y", {})], [1, 2, 4, 4], "does not fit its inputs"),
        ([("Conv", ["x", "k"], "1", {}), ("AveragePool", ["1"], "y", {"kernel_shape": [2, 2]})], [1, 1, 4, 4],
         "put the Relu in front"),
        ([("Gemm", ["x", "a"], "1", {}), ("Reshape", ["1", "flat"], "y", {})], [1, 4], "only to"),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_named_with_its_node(tmp_path, nodes, shape, message):
    constants = {"a": normal(4, 3), "k": normal(2, 1, 2, 2), "flat": np.array([3, 3, 1])}
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


def test_weights_in_other_files_are_refused(tmp_path):
    path = written(tmp_path / "net.onnx", [GEMM], {"a": normal(4, 3)}, [1, 4])
    model = onnx.load(path)
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], location="../secret")
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="keeps 'a' in another file"):
        read_onnx(path)


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
