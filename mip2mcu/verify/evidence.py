"""The evidence of a verification as a file: what was compared, with what, on which cores, and what came out.

One document holds any number of targets of one model. It has no date, no path and no host name, so that two runs on the
same tools give the same bytes, and a difference between two documents is a difference in what was verified.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mip2mcu.errors import UsageError, VerifyError
from mip2mcu.files import check_replaceable, write_text
from mip2mcu.verify.proof import Proof
from mip2mcu.verify.report import Report, searched_text
from mip2mcu.version import __version__

SCHEMA = 1
"""Number of the JSON document's form; it grows when a reader would have to change."""
_MARK = rb'\A(\{\s*"generator": "mip2mcu |# Verification\s+\|  \|  \|\s+\|---\|---\|\s+\| model SHA-256 \| )'
"""How a document begins and no other file does, as a regular expression: further down, other files may quote names."""


def as_dict(reports: Sequence[Report]) -> dict[str, Any]:
    """The document as plain values: what holds for all ``reports``, and one entry a target."""
    return {
        "schema": SCHEMA,
        "generator": f"mip2mcu {__version__}",
        "model_sha256": reports[0].model_sha256,
        "vectors": sum(report.vectors for report in reports),
        "mismatches": sum(report.mismatches for report in reports),
        "passed": all(report.passed for report in reports),
        "targets": [report.as_dict() for report in reports],
    }


def as_json(reports: Sequence[Report]) -> str:
    """The document for programs."""
    return json.dumps(as_dict(reports), indent=2, sort_keys=True) + "\n"


def as_markdown(reports: Sequence[Report]) -> str:
    """The document for people."""
    whole = as_dict(reports)
    facts = {
        "model SHA-256": f"`{whole['model_sha256']}`",
        "generator": whole["generator"],
        "targets": ", ".join(dict.fromkeys(report.target for report in reports)),
        "vectors": f"{whole['vectors']:,}",
        "mismatches": f"**{whole['mismatches']:,}**",
    }
    lines = ["# Verification", "", *_table(("", ""), facts.items())]
    for report, title in zip(reports, _titles(reports), strict=True):
        lines += ["", f"## {title}", "", *_section(report)]
    return "\n".join(lines) + "\n"


def _titles(reports: Sequence[Report]) -> list[str]:
    """The target of each; its compiler, optimisation and runner too where there are several of one target."""
    several = {report.target for report in reports if [r.target for r in reports].count(report.target) > 1}
    return [_long_title(report) if report.target in several else report.target for report in reports]


def _long_title(report: Report) -> str:
    levels = [flag for flag in report.flags if flag.startswith("-O")]
    return ", ".join([report.target, " ".join([report.toolchain.split(" ")[0], *levels]), report.runner])


_FORMS: dict[str, Callable[[Sequence[Report]], str]] = {".json": as_json, ".md": as_markdown}


def check_paths(paths: Iterable[str | Path]) -> tuple[Path, ...]:
    """``paths`` of documents to be written; to be called before long work.

    Raises `UsageError` for an ending that is neither .json nor .md, where no file can be written, and where one of
    another kind would be lost.
    """
    checked = tuple(Path(path) for path in paths)
    for path in checked:
        if path.suffix.lower() not in _FORMS:
            raise UsageError(f"a report cannot be written as {path.name!r}: name a file that ends in .json or .md")
        check_replaceable(path, _MARK, "report of mip2mcu")
    return checked


def write_documents(paths: Iterable[str | Path], reports: Sequence[Report]) -> None:
    """Write the document of ``reports``, all of one model, to each of ``paths``, in the form that its ending names.

    Raises `VerifyError` where there is no report: nothing was verified.
    """
    checked = check_paths(paths)
    if checked and not reports:
        raise VerifyError("nothing was verified, so there is nothing to report: `mip2mcu doctor` lists what is missing")
    for path in checked:
        write_text(path, _FORMS[path.suffix.lower()](reports))


# ---- Markdown ------------------------------------------------------------------------------------------------------


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    return [_row(header), "|" + "---|" * len(header), *map(_row, rows)]


def _row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def _section(report: Report) -> list[str]:
    lines = _table(("", ""), _facts(report).items())
    if report.costs:
        lines += ["", *_table(("one call of", "takes", "constant", "rows", "stack"), _cost_rows(report))]
    if report.sizes is not None and report.sizes.functions:
        rows = [*report.sizes.functions.items(), *report.sizes.objects.items()]
        lines += ["", *_table(("function or table", "bytes"), [(f"`{name}`", f"{size:,}") for name, size in rows])]
    if report.contradiction is not None:
        lines += ["", f"**Contradicted:** {report.contradiction}."]
    if report.first_mismatch is not None:
        lines += ["", "```", report.first_mismatch.as_text(), "```"]
    if report.proof is not None and report.alarms:
        lines += ["", "```", *(alarm.as_text() for a in report.proof.analyses for alarm in a.alarms), "```"]
    return lines


def _facts(report: Report) -> dict[str, str]:
    facts = {
        "run as": f"{report.core} on {report.runner}",
        "compiler": report.toolchain,
        "flags": f"`{' '.join(report.flags)}`",
        **{f"SHA-256 of {name}": f"`{digest}`" for name, digest in report.sources.items()},
        "vectors": _kinds(report.vectors_by_kind, report.vectors),
    }
    if report.searched:
        facts["searched for"] = searched_text(report.searched)
    if report.quantized_by_kind:
        facts["raw rows quantized"] = _kinds(report.quantized_by_kind, sum(report.quantized_by_kind.values()))
    if report.packed:
        facts["rows packed"] = f"{report.packed:,}"
    facts["seed"] = str(report.seed)
    facts["mismatches"] = f"**{report.mismatches:,}**"
    facts |= _sizes(report)
    return facts | ({"proof": "not asked for"} if report.proof is None else _proof(report.proof))


def _sizes(report: Report) -> dict[str, str]:
    sizes = report.sizes
    if sizes is None:
        return {}
    parts = {".text": sizes.code, ".rodata": sizes.constants, ".data": sizes.data, ".bss": sizes.bss}
    facts = {
        "flash": f"{sizes.flash:,} bytes",
        "RAM": f"{report.ram_bytes:,} bytes, {report.scratch_bytes:,} of them scratch memory that the caller provides",
        "sections": ", ".join(f"{name} {size:,}" for name, size in parts.items()),
    }
    for name, added in report.checks_flash.items():
        facts[f"{name} adds"] = f"{added:,} bytes of flash, unless it is left out"
    if sizes.library_calls:
        facts["library functions"] = ", ".join(sizes.library_calls)
    return facts


def _cost_rows(report: Report) -> Iterable[tuple[str, ...]]:
    for name, cost in report.costs.items():
        span = f"{cost.maximum:,}" if cost.constant else f"{cost.minimum:,} to {cost.maximum:,}"
        stack = "unknown" if cost.stack_bytes is None else f"{cost.stack_bytes:,} bytes"
        constant = "as counted" if cost.constant else "no"
        if report.constant_time and name == "sums":
            constant = f"by structure, {'and ' if cost.constant else 'but not '}as counted"
        yield name, f"{span} {cost.unit}", constant, f"{cost.rows:,}", stack


def _kinds(counts: Mapping[str, int], total: int) -> str:
    parts = [f"{count:,} {kind.replace('_', ' ')}" for kind, count in counts.items()]
    return f"{total:,}: {', '.join(parts)}"


def _proof(proof: Proof) -> dict[str, str]:
    """What the analyser found, and what it rests on."""
    facts = {f"proof, {a.part}, {a.machine}": a.as_text().splitlines()[0] for a in proof.analyses}
    facts = {"analysed by": proof.analyser} | facts
    if proof.modelled:
        facts["modelled"] = "; ".join(f"{model.name}: {model.meaning}" for model in proof.modelled)
    if proof.assumed:
        facts["assumed"] = "; ".join(proof.assumed)
    return facts
