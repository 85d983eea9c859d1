"""Reads what Frama-C prints, and the table of its report plug-in, into an `Analysis`."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence

from mip2mcu.errors import VerifyError
from mip2mcu.verify.proof import Alarm, Analysis

_PROVED = ("Valid", "Considered valid")
_END = (r"\true", "user check")
"""The last check of the driver: reached where every call before it can return."""
_FUNCTIONS = re.compile(r"(\d+) functions? analyzed \(out of (\d+)\)")
_STATEMENTS = re.compile(r"(\d+) statements? reached \(out of (\d+)\)")
_WARNING = re.compile(
    r"^\[([\w:-]+)\] (?:(\S+?):(\d+): )?(?:Warning|User Error|Error|Failure): *([^\n]*(?:\n  [^\n]*)*)", re.MULTILINE
)
_REPEATED = "eva:alarm"
"""Category of the warnings that stand in the table too."""


def read_log(part: str, machine: str, log: str, table: str, files: Sequence[str]) -> Analysis:
    """What was found in ``files``; raises `VerifyError` for output of another kind than expected."""
    rows = [row for row in csv.DictReader(io.StringIO(table), delimiter="\t") if row["file"] in files]
    if not any((row["property"], row["property kind"]) == _END for row in rows):
        raise VerifyError(f"Frama-C did not report on the end of the driver:\n{log[-2000:]}")
    return Analysis(
        part=part,
        machine=machine,
        alarms=(*(_alarm(row) for row in rows if row["status"] not in _PROVED), *_warnings(log)),
        assumed=tuple(dict.fromkeys(r["property"] for r in rows if r["property kind"] == "user hypothesis")),
        functions=_pair(_FUNCTIONS, log),
        statements=_pair(_STATEMENTS, log),
        checks=sum(row["property kind"] == "user check" and row["status"] == "Valid" for row in rows),
    )


def _alarm(row: dict[str, str]) -> Alarm:
    """``Dead`` is what nothing reaches: a call before it can never return."""
    kind = row["property kind"].replace("_", " ")
    kind = f"{kind} never reached" if row["status"] == "Dead" else kind
    return Alarm(row["file"], int(row["line"]), row["function"], kind, row["property"])


def _warnings(log: str) -> Iterator[Alarm]:
    """Whatever else made the analyser doubt."""
    for category, file, line, text in _WARNING.findall(log):
        if category != _REPEATED:
            yield Alarm(file or "Frama-C", int(line or 0), category, "warning", " ".join(text.split()))


def _pair(pattern: re.Pattern[str], log: str) -> tuple[int, int]:
    found = pattern.search(log)
    if found is None:
        raise VerifyError(f"Frama-C printed no summary:\n{log[-2000:]}")
    return int(found[1]), int(found[2])
