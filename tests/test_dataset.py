"""Datasets from files and arrays: codings, classes, later data of a model, and what is refused."""

from __future__ import annotations

import time

import numpy as np
import pytest

from mip2mcu import dataset as dataset_module
from mip2mcu.dataset import UNKNOWN_LABEL, Dataset
from mip2mcu.decisions import Sign
from mip2mcu.errors import DatasetError, Mip2mcuError, UsageError
from mip2mcu.layers import Dense
from mip2mcu.network import Network
from mip2mcu.quantizer import Affine, Feature, OneHot, Thermometer

TRAIN = "temperature,weather,label\n10.5,sun,good\n-2,rain,bad\n20.25,sun,good\n?,snow,bad\n"


def csv(folder, text, name="data.csv", **options):
    (folder / name).write_text(text)
    return Dataset.read(folder / name, **options)


def npz(folder, _options=None, **arrays):
    np.savez(folder / "data.npz", **arrays)
    return Dataset.read(folder / "data.npz", **(_options or {}))


# ---- arrays --------------------------------------------------------------------------------------------------------


def test_arrays_with_labels():
    data = Dataset.from_arrays([[0, 5], [9, 1]], ["b", "a"], input_range=(0, 9))
    assert data.inputs.tolist() == [[0, 5], [9, 1]]
    assert (data.classes, data.labels.tolist()) == (("a", "b"), [1, 0])
    assert (data.input_low.tolist(), data.input_high.tolist()) == ([0, 0], [9, 9])
    assert (data.rows, data.input_shape, data.quantizer, data.raw) == (2, (2,), None, None)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([10, 9, -1], ("-1", "9", "10")),
        (["10", "9", "-1"], ("-1", "9", "10")),
        ([1.0, 0.0, 2.0], ("0", "1", "2")),
        ([True, False, True], ("False", "True")),
        (["10", "9", "x"], ("10", "9", "x")),
        (["--5", "1", "2"], ("--5", "1", "2")),
        (["１", "1", "2"], ("1", "2", "１")),
        (["7", "007", "1"], ("1", "007", "7")),
    ],
)
def test_classes_are_ordered_by_value_where_all_are_integers_else_by_text(labels, classes):
    assert Dataset.from_arrays(np.zeros((3, 1), int), labels).classes == classes


def test_given_classes_fix_the_order():
    data = Dataset.from_arrays([[0], [1]], ["no", "yes"], classes=("yes", "no", "maybe"))
    assert (data.classes, data.labels.tolist()) == (("yes", "no", "maybe"), [1, 0])


def test_images_keep_their_shape():
    assert Dataset.from_arrays(np.zeros((2, 1, 3, 4), dtype=np.uint8), [0, 1]).input_shape == (1, 3, 4)


def test_the_rows_of_a_subset():
    data = Dataset.from_arrays([[0], [1], [2]], [0, 1, 0])
    assert data.rows_at([2, 0]).inputs.tolist() == [[2], [0]]
    assert data.rows_at(np.array([False, True, False])).labels.tolist() == [1]
    assert data.rows_at([]).rows == 0
    assert data.rows_at([1]).classes == ("0", "1")


def test_everything_is_read_only(tmp_path):
    data = csv(tmp_path, TRAIN)
    for array in (data.inputs, data.labels, data.input_low, data.raw, data.rows_at([0]).raw):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


@pytest.mark.parametrize(
    ("inputs", "labels", "options", "message"),
    [
        ([[300]], [0], {}, r"feature 0 has value 300 in row 0, outside input_range 0\.\.255: quantize the data"),
        ([[0, 1], [0, -1]], [0, 1], {}, "feature 1 has value -1 in row 1"),
        ([[0.5]], [0], {}, "type float64, expected integers"),
        ([["a"]], [0], {}, "expected integers"),
        ([1, 2], [0, 1], {}, r"X has shape \(2,\)"),
        ([[1], [2]], [0], {}, r"inputs of shape \(2, 1\) and labels of shape \(1,\) do not go together"),
        ([[1]], [0.5], {}, "labels that are fractional numbers"),
        ([[1]], [[0]], {}, r"labels of shape \(1, 1\)"),
        ([[1]], [""], {}, "has no label in row 1"),
        ([[1]], ["x"], {"classes": ("a", "b")}, "label 'x' is none of the classes a, b"),
        ([[1]], ["a"], {"classes": ("a", "a")}, "two classes have the same label"),
        ([[1]], ["a"], {"input_range": (0, 2**15)}, r"input_range reaches 0\.\.32768, inputs are at most 32767"),
    ],
)
def test_arrays_that_are_no_dataset(inputs, labels, options, message):
    with pytest.raises(DatasetError, match=message):
        Dataset.from_arrays(np.array(inputs), labels, **options)


def test_an_unsigned_value_does_not_wrap_into_the_range():
    with pytest.raises(UsageError, match="no 64-bit integers"):
        Dataset.from_arrays(np.array([[2**64 - 1]], dtype=np.uint64), [0], input_range=(-1, 1))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"labels": [2]}, r"labels reach 2\.\.2, expected class indices below 2"),
        ({"labels": [-2]}, "labels reach -2"),
        ({"inputs": [1]}, "do not go together"),
        ({"input_low": [0, 0]}, "1 inputs need 1 lower and 1 upper ends of their ranges"),
        ({"classes": ("a", "b\n")}, "the label 'b.n' holds a control character"),
        ({"classes": tuple(map(str, range(1001)))}, "the labels have 1001 different values .* more than 1000 classes"),
    ],
)
def test_fields_that_do_not_go_together(fields, message):
    whole = {"inputs": [[1]], "labels": [0], "classes": ("a", "b"), "input_low": [0], "input_high": [1]}
    with pytest.raises(DatasetError, match=message):
        Dataset(**{**whole, **fields})


# ---- training data -------------------------------------------------------------------------------------------------


def test_a_csv_of_numbers_categories_and_gaps(tmp_path):
    data = csv(tmp_path, TRAIN)
    assert data.classes == ("bad", "good")
    assert data.labels.tolist() == [1, 0, 1, 0]
    assert data.quantizer.features == (
        Feature("temperature", Thermometer(-200, 2025, (1050, 2025)), 1050, 2, "int16_t"),
        Feature("weather", OneHot(("rain", "snow", "sun")), 2, 0, "int16_t"),
    )
    assert data.raw.tolist() == [[1050, 2], [-200, 0], [2025, 2], [1050, 1]]
    assert data.inputs.tolist() == [[1, 0, 0, 0, 1], [0, 0, 1, 0, 0], [1, 1, 0, 0, 1], [1, 0, 0, 1, 0]]
    assert data.input_high.tolist() == [1] * 5
    assert data.notes == ("column 'temperature': 1 missing value takes the median, 10.50",)


def test_affine_inputs(tmp_path):
    data = csv(tmp_path, TRAIN, coding="affine")
    assert data.input_high.tolist() == [255, 1, 1, 1]
    assert data.inputs[:, 0].tolist() == [143, 0, 255, 143]


def test_raw_inputs_share_one_range(tmp_path):
    data = csv(tmp_path, "a,b,label\n1,200,x\n5,100,y\n", coding="raw")
    assert [f.coding for f in data.quantizer.features] == [Affine(1, 200), Affine(1, 200)]
    assert data.inputs.tolist() == [[0, 199], [4, 99]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,label\n1,0.5,x\n5,1,y\n", "column 'b' holds fractions: raw inputs are integers, choose --coding affine"),
        ("a,b,label\n1,300,x\n5,1,y\n", r"reach 1\.\.300, too wide for raw 8-bit inputs: choose --coding affine or"),
    ],
)
def test_raw_inputs_that_are_none(tmp_path, text, message):
    with pytest.raises(DatasetError, match=message):
        csv(tmp_path, text, coding="raw")


def test_eight_bit_arrays_are_taken_as_they_are(tmp_path):
    data = npz(tmp_path, X=np.array([[0, 16], [3, 4]], dtype=np.uint8), y=[1, 0])
    assert data.inputs.tolist() == [[0, 16], [3, 4]]
    assert data.input_high.tolist() == [16, 16]
    assert data.quantizer.raw_type == "uint8_t"


def test_signed_eight_bit_arrays_start_at_zero(tmp_path):
    data = npz(tmp_path, X=np.array([[-100], [27]], dtype=np.int8), y=[1, 0])
    assert (data.inputs.tolist(), data.raw.tolist()) == ([[0], [127]], [[-100], [27]])
    assert data.quantizer.raw_type == "int8_t"


def test_images_of_an_npz_keep_their_shape_where_every_pixel_is_one_input(tmp_path):
    pixels = np.arange(36, dtype=np.uint8).reshape(3, 1, 3, 4)
    assert npz(tmp_path, X=pixels, y=[0, 1, 0]).input_shape == (1, 3, 4)
    assert npz(tmp_path, {"coding": "thermometer"}, X=pixels, y=[0, 1, 0]).input_shape == (24,)


def test_other_arrays_become_thermometer_bits(tmp_path):
    data = npz(tmp_path, {"bits": 2}, X=np.arange(6.0)[:, None] / 4, y=[0, 1] * 3)
    assert data.quantizer.features[0].coding == Thermometer(0, 125, (50, 100))


@pytest.mark.parametrize("step", ["1", "0.37"], ids=["whole numbers", "fractions"])
def test_labels_that_look_like_a_measurement_are_refused(tmp_path, step):
    values = [float(step) * k for k in range(50)]
    text = "".join(f"{k},{v:g}\n" for k, v in enumerate(values))
    with pytest.raises(DatasetError, match=r"of 50 rows are 50 different numbers .* looks like a measurement"):
        csv(tmp_path, "a,label\n" + text)


def test_many_numbered_classes_with_rows_enough_are_classes(tmp_path):
    data = csv(tmp_path, "a,label\n" + "".join(f"{k},{k % 30}\n" for k in range(90)))
    assert len(data.classes) == 30


def test_constant_columns_give_no_input_and_are_told(tmp_path):
    data = csv(tmp_path, "a,b,label\n1,7,x\n2,7,y\n")
    assert data.inputs.tolist() == [[0], [1]]
    assert data.notes == ("1 column is constant and gives no input",)
    with pytest.raises(DatasetError, match=r"every column of .*data.csv is constant: there is nothing to learn from"):
        csv(tmp_path, "a,b,label\n1,7,x\n1,7,y\n")


def test_plain_integers_in_a_declared_range(tmp_path):
    data = csv(tmp_path, "a,b,label\n1,-7,x\n2,8,y\n", input_range=(-8, 8))
    assert (data.inputs.tolist(), data.quantizer) == ([[1, -7], [2, 8]], None)
    assert (data.input_low.tolist(), data.input_high.tolist()) == ([-8, -8], [8, 8])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,label\n1,2,x\n3,99,y\n", r"column 'b' holds 99 in data row 2, outside input_range 0\.\.9: quantize"),
        ("a,b,label\n1,2,x\n3,-1e20,y\n", r"column 'b' holds -1e20 in data row 2, outside input_range 0\.\.9"),
        ("a,b,label\n1,2,x\n3,2.5,y\n", "column 'b' holds 2.5, an integer was expected"),
        ("a,b,label\n1,2,x\n3,,y\n", "column 'b' has no value in data row 2"),
        ("a,b,label\n1,2,x\n3,cat,y\n", "column 'b' holds 'cat' in data row 2"),
    ],
)
def test_plain_integers_that_are_none(tmp_path, text, message):
    with pytest.raises(DatasetError, match=message):
        csv(tmp_path, text, input_range=(0, 9))


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b,label\n1,2,x\n3,4,x\n", {}, "has the one class 'x' only: training needs at least two"),
        ("a,b,label\n1,nan,x\n3,4,y\n", {}, "column 'b' holds 'nan' in data row 1"),
        ("a,b,label\n1,inf,x\n3,4,y\n", {}, "column 'b' holds 'inf' in data row 1"),
        ("a,b,label\n1,,x\n3,?,y\n", {}, "column 'b' has no values at all: remove it"),
        ("a,b,label\n1,1e999,x\n3,4,y\n", {}, "column 'b' holds 1e999, beyond"),
        ("a,b,label\n1,2,x\n3,4,y\n", {"coding": "float"}, "coding 'float' is unknown, choose one of auto, ther"),
        ("a,b,label\n1,2,x\n3,4,y\n", {"bits": 0}, r"0 thermometer bits a column are not possible, choose 1\.\.255"),
        ("a,b,label\n1,2,x\n3,4,y\n", {"bits": 256}, "256 thermometer bits"),
        ("a,b,label\n1,2,x\n3,4,y\n", {"label": "c"}, "has no label column 'c'"),
        ("a,b,label\n1,2,x\n3,4,y\n", {"input_range": (5, 0)}, r"lower end above its upper end: give \(least, most\)"),
    ],
)
def test_training_data_that_are_refused(tmp_path, text, options, message):
    with pytest.raises(DatasetError, match=message) as error:
        csv(tmp_path, text, **options)
    assert "\n" not in str(error.value)


def test_a_label_column_of_measurements_is_told_before_training(tmp_path):
    text = "a,b\n" + "".join(f"1,{i}.5\n" for i in range(1001))
    with pytest.raises(DatasetError, match=r"the labels have 1001 different values .* is it the right column\?"):
        csv(tmp_path, text)


def test_training_data_without_labels_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="has no labels y: training needs them"):
        npz(tmp_path, X=np.zeros((2, 2)))


def test_more_inputs_than_a_layer_has_are_told_before_training(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 10**6, (50, 8000))
    with pytest.raises(DatasetError, match="give 72000 inputs, at most 65535 are possible: choose fewer thermo"):
        npz(tmp_path, {"bits": 9}, X=pixels, y=[0, 1] * 25)


def test_more_inputs_than_fit_in_memory_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_module, "CELL_LIMIT", 15)
    with pytest.raises(DatasetError, match="gives 4 rows of 5 inputs, more than 15 numbers: take fewer rows"):
        csv(tmp_path, TRAIN)


def test_twenty_five_thousand_rows_of_fourteen_columns_are_read_in_seconds(tmp_path):
    rng = np.random.default_rng(0)
    numbers = [np.round(rng.normal(0, 100, 25_000), 2).astype(str) for _ in range(8)]
    texts = [rng.choice(["sun", "rain", "snow", "?"], 25_000) for _ in range(6)]
    rows = np.stack([*numbers, *texts, rng.choice(["yes", "no"], 25_000)], axis=1)
    header = ",".join(f"c{i}" for i in range(14)) + ",label\n"
    start = time.process_time()
    data = csv(tmp_path, header + "\n".join(",".join(row) for row in rows.tolist()))
    assert (data.rows, len(data.quantizer.features)) == (25_000, 14)
    assert time.process_time() - start < 5


# ---- later data ----------------------------------------------------------------------------------------------------


def later(folder, text, **options):
    train = csv(folder, TRAIN)
    return csv(folder, text, "later.csv", like=train, **options)


def test_later_data_take_the_codings_and_classes_of_training(tmp_path):
    data = later(tmp_path, "label,weather,id,temperature\ngood,snow,7,15\nbad,hail,8,-99\n")
    assert data.raw.tolist() == [[1500, 1], [-9900, 3]]
    assert data.inputs.tolist() == [[1, 0, 0, 1, 0], [0, 0, 0, 0, 0]]
    assert data.labels.tolist() == [1, 0]
    assert data.classes == ("bad", "good")


def test_missing_values_of_later_data_are_those_of_training(tmp_path):
    assert later(tmp_path, "temperature,weather,label\n?,?,good\n").raw.tolist() == [[1050, 2]]


def test_later_data_may_have_one_class_only(tmp_path):
    assert later(tmp_path, "temperature,weather,label\n1,sun,bad\n2,sun,bad\n").labels.tolist() == [0, 0]


def test_later_data_without_labels_have_unknown_ones(tmp_path):
    data = later(tmp_path, "weather,temperature\nsun,3\n")
    assert data.labels.tolist() == [UNKNOWN_LABEL]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("temperature,label\n1,good\n", r"lacks the column 'weather' that the model needs \(1 missing in all\)"),
        ("temperature,weather,label\nwarm,sun,good\n", "column 'temperature' holds 'warm' in data row 1, a number"),
        ("temperature,weather,label\nnan,sun,good\n", "column 'temperature' holds 'nan' in data row 1"),
        ("temperature,weather,label\n1,sun,fine\n", "label 'fine' is none of the classes bad, good: correct the row"),
        ("temperature,weather,label,id\n1,sun,good,\n", None),
        ("temperature,weather,class,id\n1,sun,good,7\n", "label '7' is none of the classes bad, good"),
    ],
)
def test_later_data_that_do_not_fit(tmp_path, text, message):
    if message is None:
        assert later(tmp_path, text).labels.tolist() == [1]
        return
    with pytest.raises(DatasetError, match=message):
        later(tmp_path, text)


def test_the_label_column_of_later_data_can_be_named(tmp_path):
    data = later(tmp_path, "class,temperature,weather,id\ngood,1,sun,7\n", label="class")
    assert data.labels.tolist() == [1]


def test_a_network_reads_later_data_like_its_training_data(tmp_path):
    train = csv(tmp_path, TRAIN)
    layer = Dense(np.ones((1, 5)), [0])
    network = Network(train.input_low, train.input_high, (layer,), Sign(), train.classes, (), train.quantizer)
    assert Dataset.read(tmp_path / "data.csv", like=network).inputs.tolist() == train.inputs.tolist()


def test_a_model_of_plain_integers_checks_their_number_and_range(tmp_path):
    train = csv(tmp_path, "a,b,label\n1,2,x\n3,4,y\n", input_range=(0, 9))
    assert csv(tmp_path, "c,d,label\n5,6,y\n", like=train).inputs.tolist() == [[5, 6]]
    with pytest.raises(DatasetError, match="has 1 features a row beside its label column 'b', the model expects 2"):
        csv(tmp_path, "a,b\n1,2\n", like=train)
    with pytest.raises(DatasetError, match="has 1 features a row, the model expects 2: give those that it was trained"):
        npz(tmp_path, {"like": train}, X=np.zeros((1, 1), dtype=int))
    with pytest.raises(DatasetError, match=r"column 'a' holds 10 in data row 1, outside input_range 0\.\.9: correct"):
        csv(tmp_path, "a,b,label\n10,2,x\n", like=train)
    with pytest.raises(DatasetError, match="column 'x1' holds 18446744073709551615 in data row 1, outside input_range"):
        npz(tmp_path, {"like": train}, X=np.array([[1, 2**64 - 1]], dtype=np.uint64))


def test_a_row_out_of_range_is_named_by_its_place_in_the_file_when_rows_are_shuffled(tmp_path):
    (tmp_path / "data.csv").write_text("a,label\n" + "".join(f"{v},{'xy'[v % 2]}\n" for v in range(1, 21)))
    for low, high, outside in ((1, 19, 20), (2, 20, 1)):
        with pytest.raises(DatasetError, match=f"column 'a' holds {outside} in data row {outside}, outside"):
            Dataset.read_split(tmp_path / "data.csv", input_range=(low, high))


@pytest.mark.parametrize(
    ("cell", "input_range"), [("inf", None), ("9" * 61, None), ("warm", (0, 20)), ("", (0, 20)), ("nan", (0, 20))]
)
def test_a_cell_is_named_by_its_place_in_the_file_when_rows_are_shuffled(tmp_path, cell, input_range):
    for bad in range(1, 13):
        rows = [f"{cell if k == bad else k},{'xy'[k % 2]}\n" for k in range(1, 13)]
        (tmp_path / "data.csv").write_text("a,label\n" + "".join(rows))
        with pytest.raises(DatasetError, match=rf"in data row {bad}[,:]"):
            Dataset.read_split(tmp_path / "data.csv", input_range=input_range)


def test_a_number_of_an_array_is_named_by_its_place_when_rows_are_shuffled(tmp_path):
    for bad in range(8):
        X = np.arange(8.0)[:, None]
        X[bad] = np.inf
        np.savez(tmp_path / "data.npz", X=X, y=np.arange(8) % 2)
        with pytest.raises(DatasetError, match=f"holds inf in row {bad + 1}: remove the row"):
            Dataset.read_split(tmp_path / "data.npz")


def test_a_class_that_is_held_out_as_a_whole_is_named(tmp_path):
    (tmp_path / "data.csv").write_text("a,label\n" + "".join(f"{k},{'xy'[k % 2]}\n" for k in range(9)) + "9,z\n")
    with pytest.raises(DatasetError, match="all rows of class 'y' are among the 8 of 10 that are kept for testing"):
        Dataset.read_split(tmp_path / "data.csv", 0.8, seed=1)


def test_later_data_of_a_stored_split_are_its_test_part(tmp_path):
    arrays = {
        "X_train": np.array([[1], [2]], dtype=np.uint8), "y_train": [0, 1],
        "X_test": np.array([[200]], dtype=np.uint8), "y_test": [1],
    }  # fmt: skip
    train = npz(tmp_path, **arrays)
    test = Dataset.read(tmp_path / "data.npz", like=train)
    assert (train.rows, test.rows, test.raw.tolist(), test.inputs.tolist()) == (2, 1, [[200]], [[1]])
    assert Dataset.read(tmp_path / "data.npz", like=train, part="train").rows == 2


@pytest.mark.parametrize("content", [b"", b"\0", b"PK\x03\x04", b"a,b\n1,2", b"a,b\n1,2\n3", b"\xff" * 99, b"[1, 2]"])
def test_no_file_ends_in_a_traceback(tmp_path, content):
    (tmp_path / "data").write_bytes(content)
    with pytest.raises(Mip2mcuError) as error:
        Dataset.read(tmp_path / "data")
    assert "\n" not in str(error.value)
