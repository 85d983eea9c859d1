"""Every target at once, and what is installed: one table, and a reason for everything that is missing."""

import json
import shutil

import pytest
from click.testing import CliRunner

from mip2mcu.cli import main
from mip2mcu.errors import ExportError, NoRoomError, ToolMissingError, VerifyError
from mip2mcu.export import TARGETS
from mip2mcu.verify import doctor, everywhere, verification
from mip2mcu.verify.doctor import Tool, diagnose
from mip2mcu.verify.everywhere import all_ways, verify_everywhere
from mip2mcu.verify.verification import Way
from tests.verify_support import require_qemu, sign_network

NETWORK = sign_network()
FEW = (Way(TARGETS["host"], "host"), Way(TARGETS["cortex-m0"], "unicorn"), Way(TARGETS["rv32ec"], "unicorn"))


@pytest.fixture
def few_ways(monkeypatch):
    monkeypatch.setattr(everywhere, "all_ways", lambda: iter(FEW))


@pytest.fixture
def model(tmp_path):
    NETWORK.save(tmp_path / "model.json")
    return str(tmp_path / "model.json")


def called(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def failing(monkeypatch, error):
    """`verify` fails with ``error`` on Cortex-M0."""
    verify_way = everywhere.verify_way

    def verify_or_fail(subject, way):
        if way.target.name == "cortex-m0":
            raise error
        return verify_way(subject, way)

    monkeypatch.setattr(everywhere, "verify_way", verify_or_fail)


# ---- every target --------------------------------------------------------------------------------------------------


def test_all_ways_are_every_target_every_emulator_and_every_host_compiler():
    ways = list(all_ways())
    assert {way.target.name for way in ways} == set(TARGETS)
    assert {way.runner for way in ways if way.target.name == "cortex-m4"} == {"unicorn", "qemu"}
    assert {way.optimisation for way in ways if way.toolchain == "clang" and not way.sanitize} == {
        "-O0", "-Os", "-O2", "-O3",
    }  # fmt: skip
    assert [way.toolchain for way in ways if way.sanitize] == ["gcc", "clang"]


def test_one_table_tells_of_every_way(few_ways, model):
    result = called("verify", model, "--target", "all", "--vectors", 20)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [tuple(line.split()[:2]) for line in lines[2:5]] == [(way.target.name, way.runner) for way in FEW]
    assert lines[-1] == "mismatches  0 in 60 vectors, 3 ways of compiling and running; none skipped"


def test_what_is_skipped_is_said_with_its_reason(few_ways, model, monkeypatch):
    failing(monkeypatch, ToolMissingError("needs a thing, not installed: run `get thing`"))
    result = called("verify", model, "--target", "all", "--vectors", 20)
    assert result.exit_code == 0, result.output
    assert "skipped     cortex-m0 on unicorn: needs a thing, not installed: run `get thing`" in result.output
    assert result.stdout.splitlines()[-1].endswith("2 ways of compiling and running; 1 skipped")


def test_what_is_not_installed_is_said_once_for_all_ways_with_what_to_install(model, monkeypatch):
    cores = [TARGETS["cortex-m0"], TARGETS["rv32imc"]]
    ways = [Way(TARGETS["host"], "host", "zig"), *(Way(core, "qemu") for core in cores)]
    monkeypatch.setattr(everywhere, "all_ways", lambda: iter([*ways, Way(TARGETS["host"], "host", "gcc")]))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    result = called("verify", model, "--target", "all", "--vectors", 20)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[4:] == [
        "skipped     cortex-m0 on qemu; rv32imc on qemu: qemu is not installed: install qemu-system-arm (for RISC-V "
        "qemu-system-misc) with your system's package manager",
        "skipped     host on host, gcc -O2: gcc is not installed: install gcc with your system's package manager",
        "install     `mip2mcu doctor` gives one command that installs what is missing",
        "mismatches  0 in 20 vectors, 1 ways of compiling and running; 3 skipped",
    ]


def test_c_is_made_once_a_target_and_the_same_program_is_counted_once(monkeypatch):
    require_qemu()
    found = []
    for name in ("generate", "count_costs"):
        original = getattr(verification, name)
        monkeypatch.setattr(
            verification, name, lambda *given, name=name, original=original, **more: (
                found.append(name), original(*given, **more)
            )[1]
        )  # fmt: skip
    ways = [Way(TARGETS["cortex-m0"], runner) for runner in ("unicorn", "qemu")]
    monkeypatch.setattr(everywhere, "all_ways", lambda: iter(ways))
    reports = [report for _, report in verify_everywhere(NETWORK, vectors=30).reports]
    assert found == ["generate", "count_costs"]
    assert reports[0].costs == reports[1].costs
    assert [report.runner.split()[0] for report in reports] == ["unicorn", "QEMU"]


@pytest.mark.parametrize("error", [NoRoomError("no room"), ExportError("no C")])
def test_what_a_target_cannot_hold_is_skipped_too(few_ways, monkeypatch, error):
    failing(monkeypatch, error)
    sweep = verify_everywhere(NETWORK, vectors=30)
    assert [(entry.way.target.name, entry.reason) for entry in sweep.skipped] == [("cortex-m0", str(error))]


def test_a_program_that_fails_is_an_error_and_never_skipped(few_ways, monkeypatch):
    failing(monkeypatch, VerifyError("the program fails at address 0"))
    with pytest.raises(VerifyError, match="cortex-m0 on unicorn: the program fails at address 0"):
        verify_everywhere(NETWORK, vectors=30)


def test_nothing_installed_is_an_error(monkeypatch):
    monkeypatch.setattr(everywhere, "all_ways", lambda: iter(FEW[1:2]))
    failing(monkeypatch, ToolMissingError("none"))
    with pytest.raises(ToolMissingError, match="mip2mcu doctor"):
        verify_everywhere(NETWORK, vectors=30)


def test_json_holds_every_report_and_what_was_skipped(few_ways, model, monkeypatch, tmp_path):
    failing(monkeypatch, ToolMissingError("none"))
    evidence = tmp_path / "all.md"
    result = called("verify", model, "--target", "all", "--vectors", 60, "--json", "--report", evidence)
    content = json.loads(result.output)
    assert (content["mismatches"], content["vectors"]) == (0, 120)
    assert [entry["target"] for entry in content["ways"]] == ["host", "rv32ec"]
    assert content["skipped"] == [{"way": "cortex-m0 on unicorn", "reason": "none"}]
    assert evidence.read_text().count("\n## ") == 2


@pytest.mark.parametrize(
    "option",
    [("--runner", "qemu"), ("--toolchain", "zig"), ("--optimisation", "Os"), ("--sanitize",), ("--source", ".")],
)
def test_options_of_one_target_do_not_go_with_all(model, option):
    result = called("verify", model, "--target", "all", *option)
    assert result.exit_code == 2
    assert f"{option[0]} goes with one target" in result.output


def test_the_command_line_chooses_runner_compiler_and_optimisation(model):
    options = ("--runner", "unicorn", "--toolchain", "zig", "--optimisation", "Os", "--vectors", 30, "--json")
    report = json.loads(called("verify", model, "--target", "cortex-m", *options).output)
    assert (report["toolchain"][:3], "-Os" in report["flags"]) == ("zig", True)
    assert report["runner"].startswith("unicorn")


# ---- doctor --------------------------------------------------------------------------------------------------------


def test_doctor_lists_tools_targets_and_commands():
    result = called("doctor")
    assert result.exit_code == 0, result.output
    for part in ("ziglang", "qemu-system-arm", "simavr", "highspy", "what it is for", "cortex-m55"):
        assert part in result.output


def test_doctor_as_json_says_which_targets_are_ready():
    content = json.loads(called("doctor", "--json").output)
    assert set(content["targets"]) == set(TARGETS)
    assert content["targets"]["host"]["ready"]
    assert content["tools"]["pyelftools"]["version"]
    assert all(content["required"].values())


def test_one_command_a_system_installs_all_that_is_missing(monkeypatch):
    tools = (
        Tool("here", "", package="numpy", packages={"pip": "numpy"}),
        Tool("gone", "", package="no-such-package", packages={"pip": "no-such-package"}),
        Tool("one", "", "no-such-program", packages={"apt": "one two", "brew": "same"}),
        Tool("other", "", "neither-this", packages={"apt": "two three", "brew": "same"}),
    )
    monkeypatch.setattr(doctor, "TOOLS", tools)
    assert diagnose().commands == {
        "pip": "python -m pip install no-such-package",
        "apt": "sudo apt-get install one two three",
        "brew": "brew install same",
    }


def test_a_bare_machine_is_told_what_every_target_lacks(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    found = diagnose()
    assert found.targets["avr"][0] == ()
    assert found.targets["host"] == (("zig",), ("host",))
    assert "gcc-arm-none-eabi" in found.commands["apt"]


def test_every_tool_can_be_installed_somehow():
    assert all(tool.packages for tool in doctor.TOOLS)
    assert len({tool.name for tool in doctor.TOOLS}) == len(doctor.TOOLS)
