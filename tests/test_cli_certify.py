"""`mip2mcu certify` as a person calls it."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from mip2mcu import Dataset, train
from mip2mcu.cli import main

ROWS = "".join(f"{v},{9 - v},{'low' if v < 5 else 'high'}\n" for v in range(10))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("certify")
    (folder / "rows.csv").write_text("a,b,label\n" + ROWS)
    train(Dataset.read(folder / "rows.csv"), node_limit=0).network.save(folder / "model.json")
    return folder


def certify(folder: Path, *arguments: str):
    return CliRunner().invoke(main, ["certify", str(folder / "model.json"), str(folder / "rows.csv"), *arguments])


def test_a_table_of_radii_is_printed(folder):
    result = certify(folder, "--node-limit", "100", "--radii", "0,2,30")
    assert result.exit_code == 0
    assert "10 rows, 10 right; the smallest change is known for 10 of them" in result.output
    assert "     0   100.00 %    100.00 %" in result.output
    assert "    30     0.00 %      0.00 %" in result.output


def test_rows_that_are_safe_up_to_the_limit_are_told_as_such(folder):
    result = certify(folder, "--node-limit", "100", "--limit", "1", "--radii", "0,1")
    assert "the smallest change is known, or proved larger than the limit 1, for 10 of them" in result.output


def test_json_report_and_plot_say_the_same(folder):
    result = certify(
        folder, "--node-limit", "100", "--json", "--report", str(folder / "r.json"), "--plot", str(folder / "p.svg")
    )
    document = json.loads(result.stdout)
    assert document == json.loads((folder / "r.json").read_text())
    assert [row["row"] for row in document["certificates"]] == list(range(10))
    assert document["radii"][0] == {"radius": 0, "certified": 10, "unbroken": 10}
    paths = ElementTree.fromstring((folder / "p.svg").read_text()).findall("{http://www.w3.org/2000/svg}path")
    assert len(paths) == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--limit", "0"), "Error: a largest radius of 0 is not possible: give a whole number of 1..281474976710656\n"),
        (
            ("--limit", "999999999999999"),
            "Error: a largest radius of 999999999999999 is not possible: give a whole number of 1..281474976710656\n",
        ),
        (("--radii", "3,1"), "Error: radii 3,1 must ascend from 0 or more, such as 0,1,2,5\n"),
        (
            ("--limit", "2", "--radii", "1,5"),
            "Error: the radius 5 lies beyond the limit 2: nothing is searched there, drop it or raise the limit\n",
        ),
        (("--time-limit", "-1"), "Error: a time limit of -1.0 seconds is not possible: give 0 or more\n"),
    ],
)
def test_bad_options_end_with_one_sentence_and_status_2(folder, arguments, message):
    result = certify(folder, *arguments)
    assert (result.exit_code, result.stderr) == (2, message)


def test_only_its_own_files_are_replaced(folder):
    rows, report, plot = ((folder / name) for name in ("rows.csv", "again.json", "again.svg"))
    before = rows.read_text()
    for option in ("--report", "--plot"):
        refused = certify(folder, option, str(rows))
        assert (refused.exit_code, "is not replaced: choose another name" in refused.stderr) == (2, True)
    assert rows.read_text() == before
    notes = folder / "notes.txt"
    notes.write_text("plots say <text>certified accuracy (line)</text>")
    assert "notes.txt is no plot of certified accuracy" in certify(folder, "--plot", str(notes)).stderr
    for _ in range(2):
        assert certify(folder, "--rows", "1", "--report", str(report), "--plot", str(plot)).exit_code == 0
    assert "give each a file of its own" in certify(folder, "--report", "both", "--plot", "both").stderr


def test_a_missing_folder_is_told_before_the_work(folder):
    result = certify(folder, "--report", str(folder / "none" / "r.json"))
    assert result.exit_code == 2
    assert "the folder" in result.stderr and "does not exist" in result.stderr
