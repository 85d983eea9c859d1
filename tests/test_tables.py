"""CSV and NPZ files as people and programs write them, and everything that is wrong with some."""

from __future__ import annotations

import io
import time
import zipfile

import numpy as np
import pytest

from mip2mcu import tables
from mip2mcu.errors import DatasetError
from mip2mcu.tables import is_not_finite, is_number, label_texts, read_table


def csv(folder, text, **options):
    path = folder / "data.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(path, **options)


def npz(folder, _options=None, **arrays):
    np.savez(folder / "data.npz", **arrays)
    return read_table(folder / "data.npz", **(_options or {}))


def sentence(error):
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


# ---- CSV that is read ----------------------------------------------------------------------------------------------


def test_a_csv_becomes_columns_of_text(tmp_path):
    table = csv(tmp_path, "a,b,label\n1,x,yes\n2.5,y,no\n")
    assert table.names == ("a", "b")
    assert table.columns == (("1", "2.5"), ("x", "y"))
    assert table.labels == ("yes", "no")
    assert (table.rows, table.shape) == (2, (2,))


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbfa,b,label\n1,x,yes\n",
        b"a,b,label\r\n1,x,yes\r\n",
        b"a,b,label\r1,x,yes\r",
        b"a,b,label\n1,x,yes",
        b"\n\na,b,label\n\n1,x,yes\n   \n\n",
        b" a , b,label \n1 ,\tx, yes\n",
        b'"a","b","label"\n"1","x","yes"\n',
    ],
    ids=["byte order mark", "CRLF", "CR", "no last line end", "blank lines", "spaces", "quotes"],
)
def test_the_same_table_in_many_spellings(tmp_path, text):
    table = csv(tmp_path, text)
    assert (table.names, table.columns, table.labels) == (("a", "b"), (("1",), ("x",)), ("yes",))


def test_quoted_cells_hold_commas_quotes_and_line_ends(tmp_path):
    table = csv(tmp_path, 'a,b,label\n"1,5","say ""hi""",yes\n2,"two\nlines",no\n')
    assert table.columns == (("1,5", "2"), ('say "hi"', "two\nlines"))


def test_missing_values_stay_text(tmp_path):
    assert csv(tmp_path, "a,b,label\n,?,yes\n").columns == (("",), ("?",))


def test_the_label_column_is_the_one_called_label(tmp_path):
    assert csv(tmp_path, "label,a,b\nyes,1,2\n").labels == ("yes",)


def test_without_that_name_the_label_is_the_last_column(tmp_path):
    table = csv(tmp_path, "a,b,species\n1,2,cat\n")
    assert (table.names, table.labels) == (("a", "b"), ("cat",))


def test_the_label_column_can_be_named(tmp_path):
    table = csv(tmp_path, "a,species,b\n1,cat,2\n", label="species")
    assert (table.names, table.columns, table.labels) == (("a", "b"), (("1",), ("2",)), ("cat",))


def test_columns_match_a_model_by_their_header(tmp_path):
    table = csv(tmp_path, "id,b,target,a\n7,2,cat,1\n", label="target", features=["a", "b"])
    assert (table.names, table.columns, table.labels) == (("a", "b"), (("1",), ("2",)), ("cat",))


def test_a_table_of_nothing_but_a_model_s_features_has_no_labels(tmp_path):
    table = csv(tmp_path, "b,a\n2,1\n", features=["a", "b"])
    assert (table.columns, table.labels) == ((("1",), ("2",)), None)


def test_the_label_of_a_models_table_is_the_last_column_that_is_no_feature(tmp_path):
    assert csv(tmp_path, "id,a,species,b\n7,1,cat,2\n", features=["a", "b"]).labels == ("cat",)
    assert csv(tmp_path, "label,a,b,id\ncat,1,2,7\n", features=["a", "b"]).labels == ("cat",)


def test_numbered_columns_are_a_header(tmp_path):
    assert csv(tmp_path, "0,1,2,label\n5,6,7,yes\n").names == ("0", "1", "2")
    assert csv(tmp_path, "1990,1995,label\n5,6,yes\n").names == ("1990", "1995")


# ---- CSV that is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is empty"),
        (b"\n\n  \n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"a,b,label\n", "has a header but no rows"),
        (b"a,b,label\n\n\n", "has a header but no rows"),
        (b"1,2,3\n4,5,6\n", "has no header: its first line holds values (1, 2, 3)"),
        (b"5.1,3.5,1.4,setosa\n4.9,3.0,1.4,setosa\n", "has no header: its first line holds values (5.1, 3.5, 1.4)"),
        (b"39, State-gov, 77516, 13,<=50K\n", "has no header"),
        (b"b,30.83,0,u,g\n", "has no header"),
        (b"?,x,yes\n1,y,no\n", "has no header"),
        (b"a\n1\n", "has a single column 'a': values must be separated by commas"),
        (b"a;b;label\n1;2;yes\n", "has a single column 'a;b;label': values must be separated by commas"),
        (b"a\tb\tlabel\n1\t2\tyes\n", "values must be separated by commas"),
        (b",a,label\n0,1,yes\n", "has no name for column 1"),
        (b"a,b,label,\n1,2,yes,\n", "has no name for column 4"),
        (b"a,b,a,label\n1,2,3,yes\n", "has 2 columns named 'a': rename them"),
        (b"a,a ,label\n1,2,yes\n", "has 2 columns named 'a'"),
        (b"a,b,label\n1,2,yes\n1,2\n", "line 3: 2 values where the header has 3 columns"),
        (b"a,b,label\n1,2,yes,\n", "line 2: 4 values where the header has 3 columns"),
        (b'a,b,label\n"1\n\n",2,yes\n1,2,3,4\n', "line 5: 4 values"),
        (b"a,b,label\n1,2,\n", "has no label in data row 1: remove the row or label it"),
        (b"a,b,label\n1,2,yes\n\n1,2,?\n", "has no label in data row 2"),
        (b'a,b,label\n1,"2,yes\n1,2,no\n', "is no well-formed CSV after line 1: unexpected end of data"),
        (b'a,b,label\n1,"2"x,yes\n', "is no well-formed CSV after line 1"),
        (b"a,b,label\n1," + b"2" * 200_000 + b",yes\n", "is no well-formed CSV after line 1: field larger than"),
        (b"a,b,label\n1,\xe9,yes\n", "is no UTF-8 text: save it as CSV in UTF-8, or as NPZ"),
        ("a,b,label\n1,2,yes\n".encode("utf-16"), "is no UTF-8 text"),
        ("a,b,label\n1,2,yes\n".encode("utf-16-le"), "that holds a control character"),
        (b"a\x00,b,label\n1,2,yes\n", "has a column name 'a\\x00' that holds a control character or broken Unicode"),
        (b"a," + b"b" * 1001 + b",label\n1,2,yes\n", "that has 1001 characters, at most 1000 are possible: rename it"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "is no UTF-8 text"),
        (b"\x93NUMPY\x01\x00v\x00", "is no UTF-8 text"),
    ],
)
def test_a_csv_that_is_none_says_why(tmp_path, text, message):
    with pytest.raises(DatasetError) as error:
        csv(tmp_path, text)
    assert message in sentence(error)


def test_a_label_column_that_is_not_there(tmp_path):
    with pytest.raises(DatasetError, match="has no label column 'species', its last columns are a, b, c"):
        csv(tmp_path, "a,b,c\n1,2,3\n", label="species")


def test_a_column_that_the_model_needs_is_not_there(tmp_path):
    with pytest.raises(DatasetError, match=r"lacks the column 'x' that the model needs \(2 missing in all\)"):
        csv(tmp_path, "a,b,label\n1,2,3\n", features=["a", "x", "y"])


def test_tens_of_thousands_of_columns_take_no_minute(tmp_path):
    names = [f"c{i}" for i in range(60_000)]
    text = ",".join([*names, "label"]) + "\n" + "1," * 60_000 + "yes\n"
    start = time.process_time()
    assert len(csv(tmp_path, text, features=names[::-1]).columns) == 60_000
    with pytest.raises(DatasetError, match="columns named 'a'"):
        csv(tmp_path, ",".join("ab" * 30_000) + "\n")
    assert time.process_time() - start < 5


def test_more_columns_than_a_layer_has_inputs_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="has 70000 columns, at most 65535 features are possible"):
        csv(tmp_path, ",".join(f"c{i}" for i in range(70_000)) + "\n")


def test_more_values_than_fit_in_memory_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "CELL_LIMIT", 8)
    with pytest.raises(DatasetError, match="has more than 8 values: take fewer rows"):
        csv(tmp_path, "a,b,label\n" + "1,2,yes\n" * 3)


def test_a_path_that_is_no_file(tmp_path):
    with pytest.raises(DatasetError, match="there is no data file"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(DatasetError, match="is a folder, name a CSV or NPZ file"):
        read_table(tmp_path)
    with pytest.raises(DatasetError, match="File name too long"):
        read_table(tmp_path / ("x" * 300))


def test_a_file_beyond_the_size_limit_is_not_read(tmp_path):
    with (tmp_path / "huge.csv").open("wb") as stream:
        stream.truncate(tables.FILE_LIMIT + 1)
    with pytest.raises(DatasetError, match="has 1073741825 bytes, more than the limit of 1073741824"):
        read_table(tmp_path / "huge.csv")


# ---- numbers as text -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["0", "-1", "+1", "1.", ".5", "1.50", "1e5", "1E-5", "1.5e+0300", "007"])
def test_a_number(text):
    assert is_number(text)


@pytest.mark.parametrize(
    "text",
    ["", ".", "-", "e5", "1e", "1e12345", "1_000", "1,5", "0x10", "١٢", "１２", "1 2", " 1", "nan", "--1", "1.2.3"],
)
def test_no_number(text):
    assert not is_number(text)


def test_a_long_text_is_no_number_at_once():
    start = time.process_time()
    assert not is_number("9" * 130_000 + "x")
    assert time.process_time() - start < 1


@pytest.mark.parametrize("text", ["nan", "NaN", "-inf", "+Infinity", "INF"])
def test_spellings_of_what_is_not_finite(text):
    assert is_not_finite(text)


# ---- NPZ that is read ----------------------------------------------------------------------------------------------


def test_an_npz_has_numbered_columns_and_text_labels(tmp_path):
    table = npz(tmp_path, X=np.array([[1, 2], [3, 4]], dtype=np.uint8), y=np.array([7, 9]))
    assert table.names == ("x0", "x1")
    assert [column.tolist() for column in table.columns] == [[1, 3], [2, 4]]
    assert table.labels == ("7", "9")


def test_images_keep_their_shape(tmp_path):
    table = npz(tmp_path, X=np.zeros((3, 1, 2, 4)), y=np.arange(3))
    assert (table.shape, len(table.columns), table.rows) == ((1, 2, 4), 8, 3)


def test_a_stored_split_gives_the_part_that_is_asked_for(tmp_path):
    arrays = {"X_train": [[1]], "y_train": [1], "X_test": [[2], [3]], "y_test": [0, 1]}
    assert npz(tmp_path, **arrays).columns[0].tolist() == [1]
    assert npz(tmp_path, {"part": "test"}, **arrays).columns[0].tolist() == [2, 3]


def test_an_npz_without_y_has_no_labels(tmp_path):
    assert npz(tmp_path, X=np.zeros((2, 2))).labels is None


def test_compressed_arrays_of_any_byte_order(tmp_path):
    np.savez_compressed(tmp_path / "data.npz", X=np.array([[1.5, 2]], dtype=">f4"), y=np.array(["cat"]))
    table = read_table(tmp_path / "data.npz")
    assert [column.tolist() for column in table.columns] == [[1.5], [2.0]]
    assert table.labels == ("cat",)


def test_the_features_of_a_model_name_the_columns(tmp_path):
    assert npz(tmp_path, {"features": ["a", "b"]}, X=np.zeros((1, 2))).names == ("a", "b")


@pytest.mark.parametrize(
    ("labels", "texts"),
    [
        ([1, 0], ("1", "0")),
        ([1.0, -2.0], ("1", "-2")),
        ([True, False], ("True", "False")),
        (["a ", " b"], ("a", "b")),
        ([b"a", "é".encode()], ("a", "é")),
        (np.array([2**64 - 1], dtype=np.uint64), ("18446744073709551615",)),
    ],
)
def test_labels_of_any_type_become_text(labels, texts):
    assert label_texts("data", np.array(labels)) == texts


# ---- NPZ that is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "holds nothing: expected X and y, or X_train, y_train, X_test, y_test"),
        ({"data": [[1]], "target": [1]}, "holds data, target: expected X and y"),
        ({"X_train": [[1]], "y_train": [1]}, "holds X_train, y_train: expected X and y"),
        ({"X": [1, 2], "y": [1, 2]}, "X has shape (2,), expected (rows, features)"),
        ({"X": 3, "y": [1, 2]}, "X has shape ()"),
        ({"X": np.zeros((0, 3)), "y": []}, "X has shape (0, 3)"),
        ({"X": np.zeros((3, 0)), "y": [1, 2, 3]}, "X has shape (3, 0)"),
        ({"X": [["a"]], "y": [1]}, "X is of type <U1, expected numbers"),
        ({"X": [[1j]], "y": [1]}, "X is of type complex128, expected numbers"),
        ({"X": np.zeros((1, 1), dtype="M8[s]"), "y": [1]}, "X is of type datetime64[s]"),
        ({"X": np.zeros((1, 1), dtype=[("a", "i4")]), "y": [1]}, "expected numbers"),
        ({"X": np.zeros((1, 70000), dtype=np.int8), "y": [1]}, "has 70000 features a row, at most 65535"),
        ({"X": [[1], [2]], "y": [1]}, "has 2 rows in X but 1 labels in y"),
        ({"X": [[1], [2]], "y": [[1], [2]]}, "has labels of shape (2, 1) and type int64"),
        ({"X": [[1]], "y": [0.5]}, "labels that are fractional numbers; mip2mcu classifies"),
        ({"X": [[1]], "y": [np.nan]}, "labels that are fractional numbers"),
        ({"X": [[1]], "y": [1e300]}, "labels that are fractional numbers"),
        ({"X": [[1]], "y": [""]}, "has no label in row 1"),
        ({"X": [[1], [2]], "y": ["a", "?"]}, "has no label in row 2"),
        ({"X": [[1]], "y": [1j]}, "type complex128, expected integers or text"),
    ],
)
def test_arrays_that_are_no_data_say_why(tmp_path, arrays, message):
    with pytest.raises(DatasetError) as error:
        npz(tmp_path, **{name: np.array(value) for name, value in arrays.items()})
    assert message in sentence(error)


def test_a_model_of_another_width_is_told(tmp_path):
    with pytest.raises(DatasetError, match="has 2 features a row, the model expects 3"):
        npz(tmp_path, {"features": ["a", "b", "c"]}, X=np.zeros((1, 2)))


@pytest.mark.parametrize("name", ["X", "y"])
def test_pickled_objects_are_never_loaded(tmp_path, name):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    arrays = {"X": np.zeros((1, 1)), "y": np.zeros(1), name: np.array([[Bomb()]], dtype=object)}
    with pytest.raises(DatasetError, match=f"no NPZ file of plain numeric arrays .{name}.npy holds Python objects"):
        npz(tmp_path, **arrays)
    assert not (tmp_path / "executed").exists()


def archive(path, compression=zipfile.ZIP_STORED, **entries):
    with zipfile.ZipFile(path, "w", compression) as target:
        for name, content in entries.items():
            target.writestr(name.replace("_npy", ".npy"), content)
    return path


def header(shape, dtype="<f8", data=b"", **entries):
    """The bytes of a .npy file with this header, however little follows."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape, **entries})
    return stream.getvalue() + data


@pytest.mark.parametrize("name", ["X_npy", "X"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header((10**12, 10)), "promises 80000000000000 bytes and has 128"),
        (header((10**18, 10**18), "|V0"), "promises"),
        (header((-1, -5), data=bytes(40)), "promises 40 bytes and has 168"),
        (header((2, 2), data=bytes(31)), "expected 32 bytes got 31"),
        (header((1, 1), "|O"), "holds Python objects"),
        (b"", "magic"),
        (b"\x93NUMPY", "magic"),
        (b"\x93NUMPY\x07\x00" + bytes(100), "Cannot parse header"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "EOF"),
        (b"\x93NUMPY\x01\x00\x04\x00{[]}", "plain numeric arrays"),
        (b"\x93NUMPY\x01\x00\x00\x20" + b"-" * 8191 + b"1", "plain numeric arrays"),
        (b"\x93NUMPY\x01\x00\x00\x20" + b"(" * 8192, "plain numeric arrays"),
        (b"just text", "magic"),
    ],
)
def test_an_array_that_lies_about_itself_is_refused(tmp_path, name, content, message):
    path = archive(tmp_path / "data.npz", **{name: content})
    with pytest.raises(DatasetError) as error:
        read_table(path)
    assert message in sentence(error)
    assert "is no NPZ file of plain numeric arrays" in str(error.value)


def test_a_bomb_of_honest_headers_is_refused_by_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "CELL_LIMIT", 10**6)
    zeros = header((1001, 1000), "|u1", bytes(1001 * 1000))
    path = archive(tmp_path / "data.npz", zipfile.ZIP_DEFLATED, X_npy=zeros)
    assert path.stat().st_size < 5000
    with pytest.raises(DatasetError, match=r"X.npy of shape \(1001, 1000\) is larger than 1000000 values: take fewer"):
        read_table(path)


def test_an_entry_that_is_not_asked_for_is_not_unpacked(tmp_path):
    path = archive(tmp_path / "data.npz", X_npy=header((1, 1), data=bytes(8)), other_npy=header((10**15,)))
    assert read_table(path).rows == 1


@pytest.mark.parametrize("position", [140, 150, 200])
def test_a_damaged_archive_is_one_sentence(tmp_path, position):
    np.savez_compressed(tmp_path / "good.npz", X=np.arange(100.0).reshape(10, 10))
    content = bytearray((tmp_path / "good.npz").read_bytes())
    content[position : position + 8] = b"\xff" * 8
    (tmp_path / "data.npz").write_bytes(content)
    with pytest.raises(DatasetError, match="is no NPZ file of plain numeric arrays"):
        read_table(tmp_path / "data.npz")


def test_a_truncated_archive_is_one_sentence(tmp_path):
    np.savez(tmp_path / "good.npz", X=np.zeros((10, 10)), y=np.zeros(10))
    content = (tmp_path / "good.npz").read_bytes()
    for length in range(1, len(content), 37):
        (tmp_path / "data.npz").write_bytes(content[:length])
        with pytest.raises(DatasetError) as error:
            read_table(tmp_path / "data.npz")
        sentence(error)


def test_a_spreadsheet_is_no_npz(tmp_path):
    path = archive(tmp_path / "data.xlsx", **{"[Content_Types].xml": "<xml/>", "xl/workbook.xml": "<xml/>"})
    with pytest.raises(DatasetError, match=r"holds \[Content_Types\].xml, xl/workbook.xml: expected X and y"):
        read_table(path)
