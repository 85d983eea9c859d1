"""The README's commands and code run as they stand there, with less time for the solver."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import require

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def quicker(text: str) -> str:
    return re.sub(r"(time[_-]limit[ =])45", r"\g<1>10", text)


def first_words(text: str) -> list[str]:
    words = [line.strip(" *").split()[0].rstrip(":") for line in text.splitlines() if line.strip(" *")]
    return [word for word in words if word.isalpha()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("readme")
    (path / "examples").symlink_to(ROOT / "examples")
    return path


@pytest.fixture(scope="module")
def sessions(folder) -> list[tuple[str, str, str]]:
    """Of the worked example's commands: the subcommand, what it prints in ``folder``, what the README shows."""
    found = []
    for session in blocks("console"):
        command, _, shown = session.removeprefix("$ ").partition("\n")
        words = quicker(command).split()
        assert words[0] == "mip2mcu"
        call = [sys.executable, "-m", *words]
        done = subprocess.run(call, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found.append((words[1], done.stdout, shown))
    return found


def test_the_worked_example_prints_what_the_readme_shows(sessions):
    assert len(sessions) == 4
    for subcommand, output, shown in sessions:
        printed, expected = first_words(output), first_words(shown)
        if subcommand == "inspect":  # rows are in order of time, which another network may change
            printed, expected = sorted(printed), sorted(expected)
        assert printed == expected


@pytest.mark.parametrize("code", blocks("python"))
def test_the_python_examples_run(folder, code):
    require("sklearn" not in code or find_spec("sklearn"), "scikit-learn is not installed")
    done = subprocess.run(
        [sys.executable, "-c", quicker(code)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("sessions")
def test_the_five_lines_of_firmware_compile_against_the_exported_files(folder):
    code = next(block for block in blocks("c") if "digits_predict" in block)
    body = code.partition('#include "digits.h"')[2]
    (folder / "five_lines.c").write_text(f'#include "digits.h"\nint main(void)\n{{{body}    return digit;\n}}\n')
    call = [
        sys.executable,
        "-m",
        "ziglang",
        "cc",
        "-std=c99",
        "-Idigits",
        "five_lines.c",
        "digits/digits.c",
        "-o",
        "five_lines",
    ]
    done = subprocess.run(
        call,
        cwd=folder,
        env=os.environ | {"ZIG_LOCAL_CACHE_DIR": str(folder / "zig")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert subprocess.run([folder / "five_lines"], check=False).returncode in range(10)


def test_every_measured_part_is_filled():
    parts = re.findall(r"<!-- begin: (\w+) -->\n(.*?)<!-- end: \1 -->", README, re.DOTALL)
    assert {"example", "tabular"} <= {name for name, _ in parts}
    assert all(len(content) > 100 for _, content in parts)


@pytest.mark.parametrize("path", re.findall(r"\]\(((?!http)[^)]+)\)", README))
def test_linked_files_exist(path):
    assert (ROOT / path).exists()
