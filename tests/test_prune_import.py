from __future__ import annotations

import numpy as np
import pytest

from mip2mcu.errors import DatasetError, ModelError
from mip2mcu.prune.arrays import from_sklearn, from_weights, read_npz
from tests.conftest import require

try:
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler
except ImportError:
    MLPClassifier = None


def fitted(classes, *scalers, **options):
    require(MLPClassifier, "scikit-learn is not installed")
    rng = np.random.default_rng(0)
    X = rng.normal(3, 2, (80, 5))
    y = np.array(classes)[(X @ rng.normal(size=(5, len(classes)))).argmax(axis=1)]
    model = MLPClassifier((6, 4), max_iter=15, random_state=0, **options)
    return make_pipeline(*scalers, model).fit(X, y), X


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("classes", [["a", "b", "c"], [7, 2]])
def test_an_mlp_classifier_predicts_the_same(classes):
    pipeline, X = fitted(classes, StandardScaler(), MinMaxScaler())
    network = from_sklearn(pipeline)
    assert network.classes == tuple(str(c) for c in sorted(classes))
    predicted = np.array(network.classes)[network.scores(X).argmax(axis=1)]
    assert (predicted == pipeline.predict(X).astype(str)).all()


@pytest.mark.filterwarnings("ignore")
def test_estimators_that_are_no_relu_networks_are_refused():
    with pytest.raises(ModelError, match="activation 'tanh'"):
        from_sklearn(fitted(["a", "b", "c"], activation="tanh")[0])
    with pytest.raises(ModelError, match="MLPClassifier is no fitted"):
        from_sklearn(MLPClassifier())
    pipeline, _ = fitted(["a", "b"])
    pipeline.steps.insert(0, ("codes", OneHotEncoder()))
    with pytest.raises(ModelError, match="OneHotEncoder cannot be folded"):
        from_sklearn(pipeline)


def test_npz_round_trip(tmp_path):
    network = from_weights([[[1, 2], [3, 4]], [[1, 0], [0, 1]]], [[0, 0], [1, -1]], ["no", "yes"])
    arrays = {f"weights_{k}": layer.weights for k, layer in enumerate(network.layers)}
    arrays |= {f"bias_{k}": layer.bias for k, layer in enumerate(network.layers)}
    np.savez(tmp_path / "net.npz", classes=np.array(["no", "yes"]), **arrays)
    read = read_npz(tmp_path / "net.npz")
    assert read.classes == ("no", "yes")
    assert read.scores(np.array([[1.0, 1.0]])).tolist() == [[4, 6]]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"weights_0": np.eye(2)}, "expected weights_0"),
        ({"weights_0": np.eye(2), "bias_0": np.zeros(2), "extra": np.zeros(2)}, "extra, weights_0"),
        ({"weights_0": np.zeros(2), "bias_0": np.zeros(2)}, "weights_0 is of type float64 and shape"),
        ({"weights_0": np.array([["a"]]), "bias_0": np.zeros(1)}, "weights_0 is of type <U1"),
        ({"weights_0": np.eye(2), "bias_0": np.zeros(3)}, "3 biases stand at 2 units"),
        ({"weights_0": np.eye(2), "bias_0": np.zeros(2), "classes": np.array(["a"])}, "1 classes but 2 scores"),
    ],
)
def test_npz_files_that_hold_something_else_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "net.npz", **arrays)
    with pytest.raises(ModelError, match=message):
        read_npz(tmp_path / "net.npz")


def test_npz_files_are_not_trusted(tmp_path):
    np.savez(tmp_path / "net.npz", weights_0=np.array([print], dtype=object))
    with pytest.raises(DatasetError, match="Python objects"):
        read_npz(tmp_path / "net.npz")
    with pytest.raises(DatasetError, match="there is no file"):
        read_npz(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("weights")
    with pytest.raises(DatasetError, match="no NPZ file"):
        read_npz(tmp_path / "text.npz")
