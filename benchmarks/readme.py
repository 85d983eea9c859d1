"""Rewrites the measured parts of README.md: `python -m benchmarks.readme [PART ...]`, all parts by default.

A part stands between ``<!-- begin: PART -->`` and ``<!-- end: PART -->``. Tables come from the committed results; the
parts "example" and "inspect" run the same commands and take their output: rewrite both at once.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from benchmarks.kernel_parts import bars_table, networks_table
from benchmarks.results import Row, load, references, shown, table
from mip2mcu.files import write_text

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"

EXAMPLE = (
    "train examples/digits/train.csv --test examples/digits/test.csv "
    "--weight-bound 1 --time-limit 45 --workers 2 --out digits.json",
    "export digits.json --target cortex-m",
    "verify digits.json --target cortex-m --source digits --data examples/digits/test.csv",
    "inspect digits.json --target cortex-m0",
)


@cache
def sessions() -> tuple[str, ...]:
    """The worked example's commands, run in a fresh folder, with what they print."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "examples").symlink_to(ROOT / "examples")
        return tuple(_session(command, folder) for command in EXAMPLE)


def _session(command: str, folder: str) -> str:
    call = [sys.executable, "-m", "mip2mcu", *command.split()]
    done = subprocess.run(call, cwd=folder, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return f"```console\n$ mip2mcu {command}\n{done.stdout.rstrip()}\n```"


def pivot(rows: Sequence[Row]) -> str:
    """One line a task: our accuracy, the references beside it, then the other figures."""
    tasks: dict[str, dict[str, str]] = {}
    for row in rows:
        cells = tasks.setdefault(row.task, {})
        ours = "mip2mcu" if row.references else row.metric
        cells[ours] = shown(row.value, row.unit if row.unit != "instructions" else "")
        for name, value in row.references.items():
            cells[name] = shown(value, row.unit)
    columns = list(dict.fromkeys(name for cells in tasks.values() for name in cells))
    return table(["data", *columns], [[task, *(cells.get(c, "") for c in columns)] for task, cells in tasks.items()])


def pruning() -> str:
    """Selectors by share of units kept, after the refit; then what the larger networks lose."""
    rows = load("oamip")
    digits = [row for row in rows if row.task == "digits" and row.metric.endswith("kept, refit")]
    selectors = ["best subset", *digits[0].references]
    shares = [row.metric.split(", ")[1] for row in digits]
    first = [[name, *(shown(row.references.get(name, row.value), row.unit) for row in digits)] for name in selectors]
    others = [row for row in rows if row.task != "digits"]
    names = list(dict.fromkeys(name for row in others for name in row.references))
    second = [[row.task, row.metric, shown(row.value, row.unit), *references(row, names)] for row in others]
    return "\n\n".join(
        [table(["selector", *shares], first), table(["network", "figure", "best subset", *names], second, 2)]
    )


def inn() -> str:
    """Accuracy and seconds of each training beside the published figures, logistic regression and the bar."""
    rows = load("inn")
    figures = {(row.task, row.metric): row for row in rows}
    trained = []
    for row in (row for row in rows if row.metric.startswith("test accuracy")):
        suffix = row.metric.removeprefix("test accuracy")
        seconds, links = figures[row.task, f"training time{suffix}"], figures[row.task, f"non-zero weights{suffix}"]
        trained.append([
            row.task, f"{suffix}, {float(links.value):,.0f} weights".removeprefix(", "),
            shown(row.value, row.unit), str(row.references.get("paper", "")),
            shown(row.references["logistic regression (float)"], "%"), shown(seconds.value, seconds.unit),
        ])  # fmt: skip
    header = ["task", "network", "mip2mcu", "published", "logistic regression (float)", "training time"]
    parts = [table(header, trained, 2)]
    proved = [_proved_cells(row) for row in rows if " proved" in row.metric]
    if proved:
        parts.append("What switches of the program and lazy samples are worth: the bound that is proved.")
        parts.append(table(["task", "way", "proved", "best network", "time"], proved, 2))
    return "\n\n".join(parts)


def _proved_cells(row: Row) -> list[str]:
    what, way = row.metric.split(", ", 1)
    bound = f"{what.partition(' proved')[0]} {float(row.value):.0f}"
    return [row.task, way, bound, str(row.references.get("incumbent", "none")), shown(row.references["seconds"], "s")]


def checks() -> str:
    """Flash and time of both checks by core."""
    rows = load("checks")
    metrics = list(dict.fromkeys(row.metric for row in rows))
    tasks = dict.fromkeys(row.task for row in rows)
    cells = [[task, *(shown(row.value, row.unit) for row in rows if row.task == task)] for task in tasks]
    return table(["core", *metrics], cells)


FLOAT_MODELS = ("1-NN", "nearest class mean", "RBF-SVM (float)")
"""Columns of the ensembles' tables, on the values that our first trained layer sees."""


def ensembles() -> str:
    """Pair ensembles beside the paper and float models; single pairs by stage; what the chips need."""
    rows = load("bemi")
    figures = {(row.task, row.metric): row for row in rows}
    names = ("paper", *FLOAT_MODELS)
    header = ["images a class", "accuracy (worst to best)", "bar", *names, "links a pair", "time"]
    lines = []
    for row in (row for row in rows if row.metric.startswith("accuracy, ")):
        name = row.metric.removeprefix("accuracy, ")
        worst, best, links, seconds = (
            float(figures[row.task, f"{figure}, {name}"].value)
            for figure in ("worst instance", "best instance", "links a pair", "training time of the ensemble")
        )
        title = name if "augmentation" not in row.task else f"{name}, augmented"
        title = title if title.startswith("t =") else f"{row.task.partition(',')[0]}, {title}"
        title += ", as published" if "as published" in row.task else ""
        accuracy = f"{float(row.value):.1f} % ({worst:.1f} to {best:.1f})"
        lines.append([title, accuracy, row.bar, *references(row, names), f"{links:,.0f}", f"{seconds:.0f} s"])
    return "\n\n".join([table(header, lines), _stages_of_a_pair(rows), _chips(rows)])


def _stages_of_a_pair(rows: Sequence[Row]) -> str:
    """A line a program: accuracy and share of links after each stage, beside float models of the same values."""
    stages = ("SM", "+MM", "+MM+MW")
    figures = {row.metric: row for row in rows if row.task.startswith("4 vs 9")}
    first = f"accuracy after {stages[0]}, "
    programs = [metric.removeprefix(first) for metric in figures if metric.startswith(first)]
    header = ["4 against 9, 10 images a class: accuracy, links", *stages, f"bar after {stages[-1]}", *FLOAT_MODELS]
    lines = []

    def line(program: str, value: Callable[[Row], float]) -> list[str]:
        def cell(stage: str) -> str:
            accuracy, links = (figures[f"{what} after {stage}, {program}"] for what in ("accuracy", "links"))
            return f"{value(accuracy):.1f} %, {value(links):.1f} %"

        return [cell(stage) for stage in stages]

    for program in programs:
        others = figures[first + program].references
        floats = [shown(others[name], "%") for name in FLOAT_MODELS]
        bar = figures[f"accuracy after {stages[-1]}, {program}"].bar
        lines.append([program, *line(program, lambda row: float(row.value)), bar, *floats])
        if "paper" in others:
            theirs = line(program, lambda row: float(row.references["paper"]))
            lines.append(["the paper's figures for it", *theirs, "", *[""] * len(floats)])
    return table(header, lines)


def _chips(rows: Sequence[Row]) -> str:
    """A line a chip."""
    figures = {row.metric: row for row in rows if " on Cortex-M0" in row.task}
    targets = [metric.removeprefix("flash, ") for metric in figures if metric.startswith("flash, ")]
    header = ["t = 10, with input stages, on", "flash", "RAM", "most of one `predict`", "vectors without a mismatch"]
    lines = []
    for target in targets:
        most = next(row for name, row in figures.items() if name.startswith("most ") and name.endswith(target))
        cells = [shown(figures[f"{what}, {target}"].value, "B") for what in ("flash", "RAM with scratch")]
        cells.append(f"{float(most.value):,.0f} {most.metric.split()[1]}")
        cells.append(shown(figures[f"vectors without a mismatch, {target}"].value, ""))
        lines.append([target, *cells])
    return table(header, lines)


def bdnn() -> str:
    """Accuracy beside float models; what robust training buys; the other figures with their bars."""
    rows = load("bdnn")
    beside = [row for row in rows if "majority class" in row.references]
    seconds = {
        row.task: shown(row.value, row.unit) + f" ({row.bar})" * bool(row.bar)
        for row in rows
        if row.metric == "training time"
    }
    names = list(dict.fromkeys(name for row in beside for name in row.references))
    first = [
        [row.task, shown(row.value, row.unit), *(shown(row.references.get(n, ""), "%") for n in names), row.bar,
         seconds.get(row.task, "")]
        for row in beside
    ]  # fmt: skip
    without = "without robust training"
    paired = [row for row in rows if without in row.references]
    theirs = list(dict.fromkeys(name for row in paired for name in row.references if name != without))
    second = [
        [row.task.removesuffix(", robust"), row.metric, shown(row.value, row.unit),
         *(shown(row.references.get(name, ""), row.unit) for name in (without, *theirs)), row.bar]
        for row in paired
    ]  # fmt: skip
    others = [row for row in rows if row not in beside and row not in paired and row.metric != "training time"]
    third = [[row.task, row.metric, shown(row.value, row.unit), row.bar] for row in others]
    tables = [
        (["data", "mip2mcu", *names, "bar", "training time (bar)"], 1, first),
        (["data and coding", "figure", "robust training", "without", *theirs, "bar"], 2, second),
        (["task", "figure", "mip2mcu", "bar"], 2, third),
    ]
    return "\n\n".join(table(header, cells, left) for header, left, cells in tables)


def proofs() -> str:
    """Analyses, alarms and times by model; what `benchmarks.kernels` measures in one line."""
    rows = load("prove")
    names = list(dict.fromkeys(row.task for row in rows if ": " in row.task))
    kernels = [name for name in names if name.startswith("kernels: ")]
    lines = [_proof_line(rows, name, [name]) for name in names if name not in kernels]
    lines.append(_proof_line(rows, "layers and networks of the kernels' benchmark", kernels))
    lines.append(_proof_line(rows, "all", ["all"]))
    return table(["model", *_PROOF_SUMS, "longest analysis"], lines)


def _proof_line(rows: Sequence[Row], title: str, tasks: Sequence[str]) -> list[str]:
    """Of a model or of several."""
    chosen = [row for row in rows if row.task in tasks]
    sums = [sum(int(row.value) for row in chosen if row.metric == metric) for metric in _PROOF_SUMS]
    longest = max((float(row.value) for row in chosen if row.metric == "longest analysis"), default=0.0)
    return [title, *(f"{value:,}" for value in sums), shown(longest, "s") if sums[0] else ""]


_PROOF_SUMS = ("analyses", "analyses to do", "alarms", "assumed conditions")


PARTS: dict[str, Callable[[], str]] = {
    "example": lambda: "\n\n".join(sessions()[:-1]),
    "inspect": lambda: sessions()[-1],
    "tabular": lambda: pivot(load("tabular")),
    "bdnn": bdnn,
    "oamip": pruning,
    "inn": inn,
    "kernels": lambda: networks_table(load("kernels")),
    "kernel bars": lambda: bars_table(load("kernels")),
    "checks": checks,
    "bemi": ensembles,
    "proofs": proofs,
}


def replaced(text: str, part: str, content: str) -> str:
    """``text`` with the content of one part exchanged."""
    pattern = re.compile(rf"(<!-- begin: {part} -->\n).*?(<!-- end: {part} -->)", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"README.md has no part {part!r}")
    return pattern.sub(lambda match: match.group(1) + content + "\n" + match.group(2), text)


def main() -> None:
    text = README.read_text(encoding="utf-8")
    for part in sys.argv[1:] or PARTS:
        text = replaced(text, part, PARTS[part]())
    write_text(README, text)


if __name__ == "__main__":
    main()
