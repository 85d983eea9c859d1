"""The command line as a user meets it: exit statuses, one-sentence errors, nothing half-written."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mip2mcu.cli import main
from mip2mcu.decisions import Argmax, Vote
from mip2mcu.errors import UsageError
from mip2mcu.layers import Dense
from mip2mcu.network import Network
from mip2mcu.verify import evidence

ROWS = "a,b,kind,label\n1,5,x,no\n2,6,x,no\n3,4,y,no\n10,5,x,yes\n11,6,y,yes\n12,4,y,yes\n"


def run(*arguments: str | Path):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(result) -> str:
    """The one sentence of a refusal."""
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    lines = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    return lines[0].removeprefix("Error: ")


@pytest.fixture
def table(tmp_path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text(ROWS)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    (folder / "rows.csv").write_text(ROWS)
    path = folder / "tiny.json"
    assert run("train", folder / "rows.csv", "--out", path, "--time-limit", "10").exit_code == 0
    return path


@pytest.fixture(scope="module")
def plain_model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    (folder / "rows.csv").write_text("a,b,label\n1,2,x\n20,29,y\n")
    path = folder / "plain.json"
    assert run("train", folder / "rows.csv", "--out", path, "--input-range", "0,29", "--node-limit", "0").exit_code == 0
    return path


def test_train_reports_accuracy_size_and_proof(table, tmp_path):
    result = run("train", table, "--test", table, "--out", tmp_path / "m.json", "--time-limit", "10")
    assert result.exit_code == 0
    assert "train accuracy  100.00 %  (6 of 6 rows; always the most frequent class: 50.00 %)" in result.output
    assert "test  accuracy  100.00 %" in result.output
    assert "are proved optimal" in result.output
    assert (tmp_path / "m.json").is_file()


def test_train_prints_json_for_programs(table, tmp_path):
    result = run("train", table, "--out", tmp_path / "m.json", "--time-limit", "10", "--json")
    answer = json.loads(result.stdout)
    assert answer["train"]["accuracy"] == 1.0
    assert answer["report"]["status"] == "optimal"
    assert answer["model_sha256"] == json.loads((tmp_path / "m.json").read_text())["sha256"]


def test_holdout_keeps_rows_for_testing(table, tmp_path):
    result = run("train", table, "--out", tmp_path / "m.json", "--holdout", "0.34", "--json", "--time-limit", "5")
    answer = json.loads(result.stdout)
    assert (answer["train"]["rows"], answer["test"]["rows"]) == (4, 2)


def test_write_model_writes_lp_beside_the_training(table, tmp_path):
    run("train", table, "--out", tmp_path / "m.json", "--write-model", tmp_path / "m.lp", "--time-limit", "5")
    assert "wins_by_margin" in (tmp_path / "m.lp").read_text()
    assert (tmp_path / "m.json").is_file()


def test_export_verify_evaluate_inspect(model, table, tmp_path):
    exported = run("export", model, "--target", "host", "--out", tmp_path / "c", "--json")
    assert json.loads(exported.output)["files"] == ["README.md", "tiny.c", "tiny.h"]
    verified = run(
        "verify", model, "--target", "host", "--source", tmp_path / "c", "--data", table, "--vectors", "50", "--json"
    )
    assert verified.exit_code == 0
    assert json.loads(verified.output)["mismatches"] == 0
    assert json.loads(run("evaluate", model, table, "--json").output)["correct"] == 6
    assert "weights are not zero: " in run("evaluate", model, table).output
    assert json.loads(run("inspect", model, "--json").output)["classes"] == ["no", "yes"]


def test_verify_fails_on_a_planted_wrong_weight(model, tmp_path):
    run("export", model, "--target", "host", "--max-unroll-bytes", "0", "--out", tmp_path / "c")
    source = tmp_path / "c" / "tiny.c"
    text = source.read_text()
    planted = re.sub(
        r"(layer0_\w+\[\d*\] = \{\s*)(0x[0-9A-F]+U|-?\d+)",
        lambda m: m.group(1) + ("0x0000000FU" if m.group(2).startswith("0x") else str(int(m.group(2)) + 1)),
        text,
        count=1,
    )
    assert planted != text
    source.write_text(planted)
    result = run("verify", model, "--target", "host", "--source", tmp_path / "c", "--vectors", "200")
    assert result.exit_code == 1
    assert "expected" in result.output and "got" in result.output and "input" in result.output


def test_verify_files_its_evidence(model, tmp_path):
    paths = [tmp_path / "evidence.json", tmp_path / "evidence.md"]
    arguments = [argument for path in paths for argument in ("--report", path)]
    assert run("verify", model, "--target", "host", "--vectors", "50", *arguments).exit_code == 0
    document = json.loads(paths[0].read_text())
    assert (document["vectors"], document["mismatches"], len(document["targets"])) == (50, 0, 1)
    assert paths[1].read_text().startswith("# Verification\n")


def test_a_report_that_cannot_be_written_is_refused_before_anything_runs(model, tmp_path):
    refused(run("verify", model, "--report", tmp_path / "evidence.pdf"))
    assert not list(tmp_path.glob("*.pdf"))


def test_a_report_replaces_reports_alone(model, tmp_path):
    kept = model.read_text()
    assert "is no report of mip2mcu and is not replaced" in refused(run("verify", model, "--report", model))
    assert model.read_text() == kept
    for path in (tmp_path / "evidence.json", tmp_path / "evidence.md"):
        for _ in range(2):
            assert run("verify", model, "--target", "host", "--vectors", "5", "--report", path).exit_code == 0


@pytest.mark.parametrize("label", ["| generator | mip2mcu ", '"generator": "mip2mcu ', "# Verification"])
def test_a_model_is_never_taken_for_a_report_whatever_its_classes_are_called(label, tmp_path):
    path = tmp_path / "model.json"
    Network([0], [9], (Dense([[1], [2]], [0, 1]),), Argmax(2), ("a", label)).save(path)
    kept = path.read_text()
    with pytest.raises(UsageError, match="is no report of mip2mcu and is not replaced"):
        evidence.check_paths([path])
    assert path.read_text() == kept


def test_an_lp_file_replaces_lp_files_alone(table, tmp_path):
    kept = table.read_text()
    options = ("--node-limit", "0", "--out", tmp_path / "m.json", "--write-model")
    notes = tmp_path / "notes.txt"
    notes.write_text("Pyomo begins with \\* Source Pyomo model name=unknown *\\")
    for foreign in (table, notes):
        assert "is no LP file of Pyomo and is not replaced" in refused(run("train", table, *options, foreign))
    assert table.read_text() == kept
    for _ in range(2):
        assert run("train", table, *options, tmp_path / "m.lp").exit_code == 0


def test_targets_and_formulations_are_listed():
    assert "cortex-m0" in json.loads(run("targets", "--json").output)
    assert {"linear", "inn"} <= set(json.loads(run("formulations", "--json").output))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("a,label\n", "has a header but no rows"),
        ("a,label\n1,x\n2,x\n", "has the one class 'x' only: training needs at least two"),
        ("a,label\n1,x\nnan,y\n", "column 'a' holds 'nan' in data row 2"),
        ("a,label\n1,x\ninf,y\n", "column 'a' holds 'inf' in data row 2"),
        ("a,label\n1,x\n2,3,y\n", "line 3: 3 values where the header has 2 columns"),
        ("1,2\n3,4\n", "has no header"),
    ],
)
def test_bad_training_data(text, sentence, tmp_path):
    (tmp_path / "bad.csv").write_text(text)
    assert sentence in refused(run("train", tmp_path / "bad.csv", "--out", tmp_path / "m.json"))
    assert list(tmp_path.iterdir()) == [tmp_path / "bad.csv"]


def test_missing_data_file(tmp_path):
    assert "there is no data file" in refused(run("train", tmp_path / "none.csv", "--out", tmp_path / "m.json"))


def test_missing_parent_folder_is_found_before_training(table, tmp_path):
    sentence = refused(run("train", table, "--out", tmp_path / "no" / "m.json"))
    assert "does not exist, create it first" in sentence


def test_text_in_a_numeric_column_of_the_test_data(model, tmp_path):
    (tmp_path / "t.csv").write_text("a,b,kind,label\n1,high,x,no\n")
    assert "column 'b' holds 'high' in data row 1, a number of at most 60 characters was expected" in refused(
        run("evaluate", model, tmp_path / "t.csv")
    )


def test_value_outside_the_declared_range(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,label\n1,2,x\n3,300,y\n")
    sentence = refused(run("train", tmp_path / "t.csv", "--out", tmp_path / "m.json", "--input-range", "0,255"))
    assert "column 'b' holds 300 in data row 2, outside input_range 0..255" in sentence


@pytest.mark.parametrize("command", ["evaluate", "certify", "verify"])
@pytest.mark.parametrize("value", ["30", "99999999999999999999"])
def test_value_outside_the_range_of_a_model(command, value, plain_model, tmp_path):
    (tmp_path / "t.csv").write_text(f"a,b,label\n1,2,x\n3,{value},y\n")
    assert refused(run(command, plain_model, *(["--data"] if command == "verify" else []), tmp_path / "t.csv")) == (
        f"column 'b' holds {value} in data row 2, outside input_range 0..29: "
        "correct the row, or make the model anew with a wider --input-range"
    )


def test_a_feature_that_was_taken_for_the_label_is_named(plain_model, tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    sentence = refused(run("evaluate", plain_model, tmp_path / "t.csv"))
    assert "has 1 features a row beside its label column 'b', the model expects 2" in sentence
    assert "a label column, the last one or named with --label" in sentence


def test_wrong_number_of_features(model, tmp_path):
    (tmp_path / "t.csv").write_text("a,kind,label\n1,x,no\n")
    assert "lacks the column 'b'" in refused(run("evaluate", model, tmp_path / "t.csv"))


def test_truncated_model(model, tmp_path):
    text = model.read_text()
    (tmp_path / "half.json").write_text(text[: len(text) // 2])
    assert "is no intact model file" in refused(run("inspect", tmp_path / "half.json"))


def test_edited_model(model, tmp_path):
    (tmp_path / "edited.json").write_text(model.read_text().replace('"no"', '"maybe"'))
    assert "was changed after it was written" in refused(run("export", tmp_path / "edited.json"))


def test_missing_model(tmp_path):
    assert "there is no model file" in refused(run("inspect", tmp_path / "none.json"))


def test_foreign_file_is_never_replaced(model, tmp_path):
    (tmp_path / "tiny.c").write_text("int mine;\n")
    sentence = refused(run("export", model, "--out", tmp_path))
    assert "is in the way and was not generated by mip2mcu" in sentence
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tiny.c"]
    assert (tmp_path / "tiny.c").read_text() == "int mine;\n"


@pytest.mark.parametrize("name", ["int", "2fast", "a-b", "class", "_x", ""])
def test_bad_names(name, model, tmp_path):
    sentence = refused(run("export", model, "--out", tmp_path / "c", "--name", name))
    assert repr(name) in sentence or "name" in sentence
    assert not (tmp_path / "c").exists()


def test_unknown_target_lists_the_known(model):
    assert "choose one of host, cortex-m" in refused(run("export", model, "--target", "z80"))


def test_unknown_formulation_and_option(table, tmp_path):
    out = ("--out", tmp_path / "m.json")
    assert "formulation 'magic' is unknown, choose one of linear" in refused(
        run("train", table, *out, "--formulation", "magic")
    )
    assert "has no option 'depth'" in refused(run("train", table, *out, "--option", "depth=3"))


def test_solver_that_is_not_installed(table, tmp_path):
    sentence = refused(run("train", table, "--out", tmp_path / "m.json", "--solver", "gurobi"))
    assert "gurobi" in sentence and "install" in sentence


def test_unknown_solver_option(table, tmp_path):
    sentence = refused(run("train", table, "--out", tmp_path / "m.json", "--solver-option", "no_such_thing=1"))
    assert "no_such_thing" in sentence


@pytest.mark.parametrize("option", ["--holdout", "--time-limit"])
@pytest.mark.parametrize("value", ["nan", "inf", "-1"])
def test_numbers_that_are_none(option, value, table, tmp_path):
    refused(run("train", table, "--out", tmp_path / "m.json", option, value))
    assert not (tmp_path / "m.json").exists()


@pytest.mark.parametrize("vectors", ["0", "10000000001"])
def test_vectors_that_cannot_be_compared_are_refused(vectors, model):
    sentence = refused(run("verify", model, "--target", "host", "--vectors", vectors))
    assert sentence == f"{vectors} vectors cannot be compared: ask for 1..10000000000"


def test_a_seed_below_zero_is_refused(model):
    refused(run("verify", model, "--target", "host", "--seed", "-5"))


def test_the_name_in_c_comes_from_the_file(model, tmp_path):
    spaced = tmp_path / "größe 2 (neu).json"
    spaced.write_bytes(model.read_bytes())
    answer = json.loads(run("export", spaced, "--out", tmp_path / "c", "--json").output)
    assert answer["name"] == "gr_e_2_neu"


def test_a_file_name_without_c_identifier_asks_for_a_name(model, tmp_path):
    (tmp_path / "1.json").write_bytes(model.read_bytes())
    assert "'1.json' gives no C identifier: choose one with --name" in refused(run("export", tmp_path / "1.json"))


@pytest.mark.parametrize(("text", "hidden"), [("2,2", [2, 2]), ("2", [2])])
def test_hidden_layers_as_an_option_of_the_formulation(text, hidden, table, tmp_path):
    arguments = ("--formulation", "inn", "--option", f"hidden={text}", "--node-limit", "0", "--json")
    answer = json.loads(run("train", table, "--out", tmp_path / "m.json", *arguments).stdout)
    assert answer["report"]["options"]["hidden"] == hidden


def test_formulations_are_listed_with_the_meaning_of_their_options():
    text = run("formulations").output
    assert "weight_bound   P: weights are whole numbers in {-P..P}" in text
    assert "Defaults: hidden (4,), weight_bound None, weights integer, objective max-correct" in text


def test_output_that_cannot_be_written_is_one_sentence(model):
    with open("/dev/full", "w") as full:
        call = [sys.executable, "-m", "mip2mcu", "inspect", str(model)]
        done = subprocess.run(call, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: the operating system refused: ") and "Traceback" not in done.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_keeps_the_best_network(workers, tmp_path):
    rows = [f"{k * 37 % 101},{k * 53 % 97},{k * 71 % 89},{'xyz'[k * k % 7 % 3]}" for k in range(120)]
    (tmp_path / "rows.csv").write_text("a,b,c,label\n" + "\n".join(rows) + "\n")
    call = [sys.executable, "-m", "mip2mcu", "train", str(tmp_path / "rows.csv"), "--out", str(tmp_path / "m.json")]
    call += ["--formulation", "inn", "--ensemble", "pairs", "--time-limit", "100", "--workers", workers]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None and process.stderr.readline()  # training has begun
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    assert "stopped before its limits: the best network until then" in out
    assert run("inspect", tmp_path / "m.json").exit_code == 0


def test_ctrl_c_is_no_mismatch(model, monkeypatch):
    def interrupted(_path):
        raise KeyboardInterrupt

    monkeypatch.setattr(Network, "load", interrupted)
    result = run("verify", model)
    assert (result.exit_code, result.output) == (130, "Error: interrupted, and ended without a result\n")


def test_module_runs_as_a_program():
    done = subprocess.run([sys.executable, "-m", "mip2mcu", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("mip2mcu, version ")


def test_train_with_stages_augmentation_medoids_and_a_strict_vote(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(36) % 3
    images = rng.integers(0, 40, (36, 64)).astype(np.uint8)
    for k, label in enumerate(labels):
        images.reshape(-1, 8, 8)[k, 1 + 2 * label] = 220
    np.savez(tmp_path / "rows.npz", X=images, y=labels)
    options = ("--stage", "smooth", "--stage", "edges:2", "--augment", "1", "--medoids", "8", "--vote", "strict")
    path = tmp_path / "rows.npz"
    result = run("train", path, "--shape", "8x8", *options, "--node-limit", "0", "--out", tmp_path / "m.json")
    assert result.exit_code == 0, result.output
    assert "24 rows" in result.output
    network = Network.load(tmp_path / "m.json")
    assert [type(layer).__name__ for layer in network.layers] == ["Smooth", "Edges", "Dense"]
    assert network.decision == Vote(3, 2, by_margin=False)
    answer = run("evaluate", tmp_path / "m.json", path)
    assert answer.exit_code == 0
    assert "how the vote went" in answer.output
    assert "most votes, right" in answer.output
    assert "--shape 28x28" in refused(run("train", path, "--stage", "edges:2", "--out", tmp_path / "n.json"))
    assert "there is no stage" in refused(run("train", path, "--shape", "8x8", "--stage", "blur"))


def test_objective_and_compression_are_options_of_the_hidden_layers(tmp_path):
    data = tmp_path / "xor.csv"
    data.write_text("a,b,label\n0,0,x\n0,1,y\n1,0,y\n1,1,x\n")
    given = ["--formulation", "inn", "--hidden", "3", "--objective", "sat-margin", "--compress", "weighted"]
    result = run("train", str(data), *given, "--alpha", "0.01", "--node-limit", "50", "--out", str(tmp_path / "m.json"))
    assert result.exit_code == 0
    assert "inn:" in result.output
    refused = run("train", str(data), "--objective", "sat-margin", "--out", str(tmp_path / "m.json"))
    assert refused.exit_code == 2
    assert "formulation 'linear' has no option 'objective'" in refused.output
