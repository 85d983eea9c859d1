"""MISRA C:2012 as far as cppcheck's add-on checks it: programs as it reads them, and what it finds in them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mip2mcu.export import TARGETS, Export
from mip2mcu.resources import resource_folder
from tests.conftest import require

ADVISORY = frozenset(
    (
        "1.2", "2.3", "2.4", "2.5", "2.6", "2.7", "4.2", "5.9", "8.7", "8.9", "8.11", "8.13", "10.5", "11.4", "11.5",
        "12.1", "12.3", "12.4", "13.3", "13.4", "15.1", "15.4", "15.5", "17.5", "17.8", "18.4", "18.5", "19.2", "20.1",
        "20.5", "20.10", "21.12",
    )
)  # fmt: skip
"""The advisory rules among those that the add-on checks; all others are required or mandatory."""

_PLATFORMS = {"avr": "avr8", "generic": "avr8", "host": "unix64"}
_GNU = "-D__GNUC__=12"
_MACROS = {
    "avr": (_GNU, "-D__AVR__=1"),
    "arm": (_GNU, "-D__thumb__=1"),
    "riscv": (_GNU, "-D__riscv=1"),
    "host": (_GNU,),
    "generic": (),
}
"""What the compiler of a family defines; any other compiler's view is that of "generic"."""
_FOUND = re.compile(r"misra-c2012-(\d+\.\d+) ([^:]*):(\d+)")


@dataclass(frozen=True, order=True)
class Finding:
    """A place that breaks a rule."""

    rule: str
    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.rule} {self.file}:{self.line}: {self.text}"


def require_cppcheck() -> None:
    """Skip where cppcheck and its add-on are not installed."""
    require(shutil.which("cppcheck"), "cppcheck is not installed")


def findings_in(sources: Sequence[Path], target: str, *includes: Path, macros: Sequence[str] = ()) -> set[Finding]:
    """What the add-on finds in the program of ``sources`` for ``target``, read as that target's compiler reads it."""
    row = TARGETS[target]
    dsp = ("-D__ARM_FEATURE_DSP=1", "-D__thumb2__=1") if row.has_dsp else ()
    platform = _PLATFORMS.get(row.family, "unix32")
    command = ["cppcheck", "--addon=misra", "--quiet", "--std=c99", f"--platform={platform}", "--max-configs=1"]
    command += ["--template={id} {file}:{line}", *_MACROS[row.family], *dsp, *macros]
    command += [f"-I{folder}" for folder in (*includes, resource_folder("firmware") / "proof")]
    done = subprocess.run([*command, *map(str, sources)], capture_output=True, text=True, check=True)
    assert "misra" in done.stderr, done.stdout + done.stderr  # a program without any finding was not checked
    return {_finding(*found) for found in _FOUND.findall(done.stderr)}


def _finding(rule: str, file: str, line: str) -> Finding:
    text = Path(file).read_text(encoding="ascii").splitlines()[int(line) - 1].strip()
    return Finding(rule, Path(file).name, int(line), text)


def findings_in_model(entry: Export, folder: Path) -> set[Finding]:
    """`findings_in` the C of ``entry``, written to ``folder``."""
    for name, text in entry.files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return findings_in([folder / f"{entry.name}.c"], entry.target.name)


def broken(findings: set[Finding]) -> list[str]:
    """The findings against rules that are not advisory, as text."""
    return [str(finding) for finding in sorted(findings) if finding.rule not in ADVISORY]


def advised(findings: set[Finding]) -> set[str]:
    """The advisory rules among the findings."""
    return {finding.rule for finding in findings} & ADVISORY
