"""The evidence that `verify --report` files: complete, the same for the same run, never written half."""

import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from mip2mcu.errors import UsageError, VerifyError
from mip2mcu.export import export
from mip2mcu.verify import Cost, Mismatch, Report, evidence, verify
from mip2mcu.verify.cores import CORES
from mip2mcu.verify.footprint import Footprint
from mip2mcu.verify.proof import Alarm, Analysis, Model, Proof
from mip2mcu.verify.runners import find_runner
from tests.conftest import require
from tests.verify_support import require_compiler, sign_network

REPORT = Report(
    model_sha256="5e" * 32,
    target="cortex-m",
    core="cortex-m0",
    runner="unicorn 2.1.4 (ARM_CORTEX_M0)",
    toolchain="gcc 12.2.1",
    flags=("-mcpu=cortex-m0", "-O2"),
    seed=7,
    mismatches=0,
    first_mismatch=None,
    vectors_by_kind={"corners": 4, "random": 1996},
    quantized_by_kind={},
    packed=2000,
    sizes=Footprint(1234, 500, 0, 8, ("__mulsi3",), {"digits_predict": 82}, {"layer0_weights": 500}),
    scratch_bytes=300,
    costs={"predict": Cost(40, "instructions", 910, 1020, 48), "pack": Cost(40, "instructions", 77, 77, None)},
    sources={"digits.c": "c0" * 32, "digits.h": "0c" * 32},
    checks_flash={"check": 90, "selftest": 402},
)
MARKDOWN = f"""\
# Verification

|  |  |
|---|---|
| model SHA-256 | `{"5e" * 32}` |
| generator | mip2mcu 0.1.0 |
| targets | cortex-m |
| vectors | 2,000 |
| mismatches | **0** |

## cortex-m

|  |  |
|---|---|
| run as | cortex-m0 on unicorn 2.1.4 (ARM_CORTEX_M0) |
| compiler | gcc 12.2.1 |
| flags | `-mcpu=cortex-m0 -O2` |
| SHA-256 of digits.c | `{"c0" * 32}` |
| SHA-256 of digits.h | `{"0c" * 32}` |
| vectors | 2,000: 4 corners, 1,996 random |
| rows packed | 2,000 |
| seed | 7 |
| mismatches | **0** |
| flash | 1,734 bytes |
| RAM | 308 bytes, 300 of them scratch memory that the caller provides |
| sections | .text 1,234, .rodata 500, .data 0, .bss 8 |
| check adds | 90 bytes of flash, unless it is left out |
| selftest adds | 402 bytes of flash, unless it is left out |
| library functions | __mulsi3 |
| proof | not asked for |

| one call of | takes | constant | rows | stack |
|---|---|---|---|---|
| predict | 910 to 1,020 instructions | no | 40 | 48 bytes |
| pack | 77 instructions | as counted | 40 | unknown |

| function or table | bytes |
|---|---|
| `digits_predict` | 82 |
| `layer0_weights` | 500 |
"""


def test_the_document_for_people_is_this():
    assert evidence.as_markdown([REPORT]) == MARKDOWN


def test_the_document_for_programs_adds_up_its_targets():
    document = json.loads(evidence.as_json([REPORT, REPORT]))
    assert (document["schema"], document["generator"]) == (1, "mip2mcu 0.1.0")
    assert (document["vectors"], document["mismatches"], len(document["targets"])) == (4000, 0, 2)
    assert document["targets"][0]["sources"] == {"digits.c": "c0" * 32, "digits.h": "0c" * 32}
    assert document["targets"][0]["proof"] is None


def test_the_generator_bears_the_version_of_the_package():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    assert evidence.as_dict([REPORT])["generator"] == f"mip2mcu {project['project']['version']}"


def test_several_ways_to_one_target_have_titles_of_their_own():
    other = replace(REPORT, flags=("-mcpu=cortex-m0", "-Os"), runner="qemu 7.2 (microbit)")
    text = evidence.as_markdown([REPORT, other, replace(REPORT, target="avr")])
    titles = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert titles == [
        "cortex-m, gcc -O2, unicorn 2.1.4 (ARM_CORTEX_M0)", "cortex-m, gcc -Os, qemu 7.2 (microbit)", "avr"
    ]  # fmt: skip
    assert "| targets | cortex-m, avr |" in text


def test_no_report_is_no_evidence(tmp_path):
    with pytest.raises(VerifyError, match="nothing was verified"):
        evidence.write_documents([tmp_path / "out.md"], [])


def test_a_mismatch_is_shown_with_its_input():
    mismatch = Mismatch("sums", "random", 3, (1, 2), (5,), (6,))
    failed = Report(**(vars(REPORT) | {"mismatches": 9, "first_mismatch": mismatch}))
    text = evidence.as_markdown([failed])
    assert "| mismatches | **9** |" in text
    assert "sums differ on random row 3:\n  input     1 2\n  expected  5\n  got       6\n```" in text


def test_a_proof_is_part_of_both_documents():
    alarm = Alarm("digits.c", 12, "digits_predict", "index bound", "best < 3")
    analysis = Analysis("inference", "gcc_x86_32", (alarm,), ("count <= 9",), (3, 3), (40, 41), 5)
    proof = Proof("5e" * 32, "cortex-m", "Frama-C 25.0", (analysis,), (Model("clz", "clz", "a loop"),))
    proved = Report(**(vars(REPORT) | {"proof": proof}))
    text = evidence.as_markdown([proved])
    assert "| analysed by | Frama-C 25.0 |" in text
    assert "| proof, inference, gcc_x86_32 | 1 alarms, inference, int and pointers of 32 bits " in text
    assert "| modelled | clz: a loop |" in text
    assert "| assumed | count <= 9 |" in text
    assert "digits.c:12: index bound in digits_predict: best < 3" in text
    assert json.loads(evidence.as_json([proved]))["targets"][0]["proof"]["alarms"] == 1
    assert not proved.passed


def test_two_runs_give_the_same_bytes_and_name_no_place():
    runs = []
    for _ in range(2):
        reports = [verify(sign_network(), target, vectors=200) for target in ("host", "cortex-m")]
        runs.append(evidence.as_json(reports) + evidence.as_markdown(reports))
    assert runs[0] == runs[1]
    assert not re.search(r"[\s\"(]/\w", runs[0])  # no absolute path


def test_documents_are_written_in_the_form_that_their_ending_names(tmp_path):
    paths = [tmp_path / "out.json", tmp_path / "out.md"]
    evidence.write_documents(paths, [REPORT])
    assert json.loads(paths[0].read_text()) == evidence.as_dict([REPORT])
    assert paths[1].read_text() == MARKDOWN


def test_other_endings_and_missing_folders_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"'out\.txt': name a file that ends in \.json or \.md"):
        evidence.check_paths([tmp_path / "out.txt"])
    with pytest.raises(UsageError, match="does not exist, create it first"):
        evidence.check_paths([tmp_path / "missing" / "out.md"])


# ---- claims --------------------------------------------------------------------------------------------------------


def test_a_selftest_that_is_too_long_to_be_counted_is_costed_all_the_same():
    lines = REPORT.as_text().splitlines()
    assert "selftest     too long to be counted, adds 402 bytes of flash" in lines
    assert "check        too long to be counted, adds 90 bytes of flash" in lines
    assert "too long" not in replace(REPORT, costs={}).as_text()


def test_constant_time_by_structure_is_told_from_constant_counts():
    costs = {"sums": Cost(40, "instructions", 900, 900, 16), "pack": REPORT.costs["pack"]}
    report = replace(REPORT, constant_time=True, costs=costs)
    assert report.passed
    assert "900 instructions | by structure, and as counted | 40 | 16 bytes |" in evidence.as_markdown([report])
    assert "sums         900 instructions (the same on 40 rows, constant time by its structure)" in report.as_text()
    assert "pack         77 instructions (the same on 40 rows)" in report.as_text()


def test_a_claim_that_the_counts_contradict_fails():
    report = replace(REPORT, constant_time=True, costs={"sums": Cost(40, "cycles", 900, 903, 16)})
    assert not report.passed
    assert report.contradiction.startswith("sums is said to take constant time, but took 900 to 903 cycles")
    assert report.contradiction in report.as_text()
    assert f"**Contradicted:** {report.contradiction}." in evidence.as_markdown([report])
    assert not evidence.as_dict([REPORT, report])["passed"]


def test_a_model_whose_time_depends_on_its_inputs_does_not_claim_otherwise(tmp_path):
    network = sign_network()
    export(network, "avr", tmp_path, "model", layout="dense")
    assert "#define MODEL_CONSTANT_TIME 0\n" in (tmp_path / "model.h").read_text()
    header = (tmp_path / "model.h").read_text().replace("CONSTANT_TIME 0", "CONSTANT_TIME 1")
    (tmp_path / "model.h").write_text(header)
    require_compiler("avr-gcc")
    require(find_runner(CORES["avr"]).can_count(CORES["avr"]), "nothing counts cycles of AVR here")
    report = verify(network, "avr", vectors=200, source=tmp_path)
    assert (report.mismatches, report.passed) == (0, False)
    assert "but took" in report.contradiction
