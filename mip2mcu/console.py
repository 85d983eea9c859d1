"""What the command line prints: tables, the confusion matrix, a live line of progress."""

from __future__ import annotations

import shutil
import sys
import time
import unicodedata
from collections.abc import Sequence
from typing import Any

import click

from mip2mcu.decisions import VOTE_STATUSES
from mip2mcu.evaluation import Evaluation
from mip2mcu.network import Network


def printable(text: str, width: int = 40) -> str:
    """``text`` from a file, safe for a terminal: control characters replaced, cut at ``width`` characters."""
    clean = "".join(
        c if unicodedata.category(c)[0] not in "CZ" or c == " " else "\N{REPLACEMENT CHARACTER}" for c in text
    )
    return clean if len(clean) <= width else clean[: width - 1] + "…"


def percent(share: float) -> str:
    """A share as per cent with two digits, such as ``96.83 %``."""
    return f"{100 * share:.2f} %"


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Such as ``1 row`` and ``2 rows``."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Columns side by side: the first ``left`` of them aligned left, the others right."""
    lines = [list(header), *[list(row) for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]

    def render(line: list[str]) -> str:
        cells = [c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))]
        return "  ".join(cells).rstrip()

    return "\n".join([render(lines[0]), "  ".join("-" * w for w in widths), *[render(line) for line in lines[1:]]])


def accuracy_line(evaluation: Evaluation) -> str:
    """Such as ``96.83 %  (1740 of 1797 rows; always the most frequent class: 10.18 %)``."""
    text = f"{percent(evaluation.accuracy)}  ({evaluation.correct} of {evaluation.rows} rows"
    if evaluation.unclassified:
        text += f", {evaluation.unclassified} unclassified"
    return text + f"; always the most frequent class: {percent(evaluation.majority)})"


def confusion_table(evaluation: Evaluation) -> str:
    """True class by predicted class; at most 30 classes, beyond that the matrix would not fit a screen."""
    names = [printable(name, 12) for name in evaluation.classes]
    if len(names) > 30:
        return f"(confusion matrix of {len(names)} classes: use --json)"
    counts = evaluation.confusion.tolist()
    header = ["true \\ predicted", *names]
    if evaluation.unclassified:
        header.append("none")
    rows = [
        [name, *(str(c) if c else "." for c in row[: len(header) - 1])] for name, row in zip(names, counts, strict=True)
    ]
    return table(header, rows)


def saturation_lines(evaluation: Evaluation) -> list[str]:
    """One line for the features whose values go beyond what training has seen."""
    beyond = [(n, s) for n, s in zip(evaluation.feature_names, evaluation.saturated, strict=True) if s]
    if not beyond:
        return []
    named = ", ".join(f"{printable(name, 20)} ({count})" for name, count in beyond[:8])
    more = f" and {len(beyond) - 8} more features" if len(beyond) > 8 else ""
    return [f"beyond the training range (saturated or unseen), rows a feature: {named}{more}"]


def vote_lines(evaluation: Evaluation) -> list[str]:
    """How the votes of an ensemble went, one line a status that occurs."""
    if not evaluation.statuses:
        return []
    counts = [(count, text) for count, text in zip(evaluation.statuses, VOTE_STATUSES, strict=True)]
    shown = [[str(n), percent(count / evaluation.rows), text] for n, (count, text) in enumerate(counts) if count]
    return ["", table(["status", "rows", "how the vote went"], shown, left=0)]


def links_line(network: Network) -> str:
    """Weights that are not zero and how often each value occurs; of more than 8 values the most frequent."""
    counts = {value: count for value, count in network.weight_values.items() if value}
    most = sorted(sorted(counts, key=lambda value: (-counts[value], value))[:8])
    text = f"{network.link_count} of {network.weight_count} weights are not zero"
    if most:
        text += ": " + ", ".join(f"{counts[value]} are {value}" for value in most)
    return text + (f", {len(counts) - 8} other values" if len(counts) > 8 else "")


def links_of(network: Network) -> dict[str, Any]:
    """The same for JSON."""
    values = {str(value): count for value, count in network.weight_values.items()}
    return {"links": network.link_count, "weights": network.weight_count, "weight_values": values}


def margins_line(evaluation: Evaluation) -> str:
    """Such as ``least 1, quartiles 2, 3, 3, largest 3``."""
    least, *quartiles, largest = evaluation.margins
    return f"least {least}, quartiles {', '.join(map(str, quartiles))}, largest {largest}"


class LiveLine:
    """One line that is rewritten in place on a terminal; elsewhere a line every ``seconds`` at most.

    As a context it is gone at the end, errors included.
    """

    def __init__(self, seconds: float = 5.0) -> None:
        """Begin with an empty line."""
        self._terminal = sys.stderr.isatty()
        self._seconds = seconds
        self._last = 0.0
        self._shown = 0

    def __enter__(self) -> LiveLine:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def show(self, text: str) -> None:
        """Replace the line by ``text``, on a terminal cut to its width: a wrapped line could not be rewritten."""
        now = time.monotonic()
        if now - self._last < (0.1 if self._terminal else self._seconds):
            return
        self._last = now
        text = printable(text, shutil.get_terminal_size().columns - 1 if self._terminal else 300)
        if self._terminal:
            click.echo("\r" + text.ljust(self._shown), nl=False, err=True)
            self._shown = len(text)
        else:
            click.echo(text, err=True)

    def silent(self, _event: object) -> None:
        """Show nothing."""

    def clear(self) -> None:
        """Remove the line from a terminal."""
        if self._terminal and self._shown:
            click.echo("\r" + " " * self._shown + "\r", nl=False, err=True)
            self._shown = 0
