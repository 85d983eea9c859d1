"""`prove`: Frama-C's Eva analyses the generated C for all inputs in range, by abstract interpretation.

Loops are followed to their end, turn by turn, with an interval for every value: the tables are constants, so every
address and every partial sum is known as exactly as the exporter knows it. Of large models the loops over units are
unfolded first: Eva compares each state at a statement with all others there, which takes the square of the turns.

The selftest is analysed for itself, with functions in place of the model's own that take what these were analysed for
and give any result. What Eva cannot exclude is an `Alarm`: a signed overflow, a conversion that changes a value, an
access outside of an array, a pointer that leaves one, a read of what nobody wrote, a division by zero, a shift too far.
No alarm means that no input in range leads to any of them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from mip2mcu.errors import ToolMissingError, VerifyError
from mip2mcu.export import ExportOptions, Target, find_target, generate
from mip2mcu.network import Network
from mip2mcu.resources import resource_folder
from mip2mcu.verify.harness import Files, read_source
from mip2mcu.verify.proof import MODELS, Analysis, Proof
from mip2mcu.verify.proof_driver import proved_model
from mip2mcu.verify.proof_log import read_log

PROOF_SECONDS = 1800
"""Longest that one analysis may take."""

PARTS = {"inference": "proof_main.c", "selftest": "proof_selftest.c"}
"""What is analysed for itself, and its driver. A selftest's text is the same for all layouts with weights in tables."""
_MODEL_HEADER = "proved_model.h"
_PROPERTIES = "properties.csv"
_CALL_OF_LAYER = re.compile(r"\blayer\d+_\w+\(")
_TURNS = 100_000_000
"""More turns than any loop has: all are followed, except where the text says otherwise."""
_UNFOLDED_OPERATIONS = 50_000
"""From so many on, loops over units and channels become as many copies of their body."""
_LOOP_OF_UNITS = re.compile(r"^ +for \((j|channel) = 0U; \1 < (\d+)U; \1\+\+\) \{$", re.MULTILINE)
_UNFOLD_VERSION = 30
"""Of Frama-C: the annotation has another name from then on."""
_OPTIONS = (
    "-no-autoload-plugins", "-load-module", "eva,from,inout,report,scope",
    "-eva", "-eva-min-loop-unroll", str(_TURNS), "-eva-show-slevel", str(_TURNS),
    "-eva-no-print", "-eva-msg-key=-initial-state,-final-states",
    "-warn-signed-downcast", "-warn-invalid-pointer", "-unspecified-access", "-no-unicode",
    "-then", "-report-csv", _PROPERTIES,
)  # fmt: skip


def prove(
    network: Network,
    target: Target | str = "generic",
    *,
    name: str = "model",
    source: str | Path | None = None,
    options: ExportOptions | None = None,
    seconds: float = PROOF_SECONDS,
) -> Proof:
    """Analyse the C of ``network`` for ``target`` under every machine model that it is written for.

    source     folder with exported NAME.c and NAME.h to analyse; None generates the C
    options    how the C is generated
    seconds    longest that one analysis may take

    Alarms are a result, `Proof.alarms`. Raises `ToolMissingError` where Frama-C is not installed, `VerifyError` where
    it could not analyse the text, and what `generate` raises.
    """
    target = find_target(target)
    files = read_source(Path(source), name) if source else generate(network, target, name, options=options).files
    return prove_files(files, network, target, name=name, seconds=seconds)


def prove_files(
    files: Files,
    network: Network,
    target: Target,
    *,
    name: str,
    seconds: float = PROOF_SECONDS,
    machine: str | None = None,
    part: str | None = None,
) -> Proof:
    """`prove` for the text of NAME.c and NAME.h among ``files``.

    machine, part    the only machine model and the only one of `PARTS`; None: all
    """
    version = frama_c_version()
    text = files[f"{name}.c"]
    texts = {key: content for key, content in texts_of(files, network, name).items() if part in (None, key)}
    chosen = machines(target) if machine is None else (machine,)
    if network.operations >= _UNFOLDED_OPERATIONS:
        texts = {key: {**own, f"{name}.c": unfolded(own[f"{name}.c"], version)} for key, own in texts.items()}
    analyses = tuple(_analyse(key, texts[key], name, one, target, seconds) for one in chosen for key in texts)
    return Proof(
        model_sha256=network.sha256,
        target=target.name,
        analyser=version,
        analyses=analyses,
        modelled=tuple(model for model in MODELS if model.occurs_in(text)),
    )


def texts_of(files: Files, network: Network, name: str) -> dict[str, Files]:
    """For each of `PARTS` that the model has, the files that are analysed: the model's, its driver, what that reads.

    A selftest that calls layers by themselves is analysed with the whole text behind it.
    """
    header, text = files[f"{name}.h"], files[f"{name}.c"]
    others, opening, selftest = text.partition(f"#ifndef {name.upper()}_NO_SELFTEST\n")
    lines = [line if line.startswith("#include") else "\n" for line in others.splitlines(keepends=True)]
    found = {"inference": others}
    is_whole = _CALL_OF_LAYER.search(selftest) is not None
    if f" {name}_selftest(" in header:
        found["selftest"] = text if is_whole else f"{''.join(lines[:-1])}#define NOT_INLINED\n{opening}{selftest}"
    names = proved_model(network, name, header) + f"#define PROVED_WHOLE {int(is_whole)}\n"
    shared = {f"{name}.h": header, _MODEL_HEADER: names}
    folder = resource_folder("firmware") / "proof"
    return {
        part: {**shared, f"{name}.c": content, PARTS[part]: (folder / PARTS[part]).read_text(encoding="ascii")}
        for part, content in found.items()
    }


def unfolded(text: str, version: str) -> str:
    """``text`` that asks Frama-C of ``version`` to copy the bodies of loops over units; lines keep their numbers."""
    found = re.search(r"\d+", version)
    phrase = "loop unfold" if found and int(found[0]) >= _UNFOLD_VERSION else "loop pragma UNROLL"

    def annotated(loop: re.Match[str]) -> str:
        return f"/*@ {phrase} {loop[2]}; */ {loop[0].lstrip()}"

    return _LOOP_OF_UNITS.sub(annotated, text)


def machines(target: Target) -> tuple[str, ...]:
    """Frama-C's names of the machine models under which the C for ``target`` must hold."""
    if target.family == "generic":
        return ("gcc_x86_16", "gcc_x86_32")
    if target.family == "host":
        return ("gcc_x86_64",)
    return ("gcc_x86_16",) if target.int_bits < 32 else ("gcc_x86_32",)


def _analyse(part: str, files: Files, name: str, machine: str, target: Target, seconds: float) -> Analysis:
    own = (PARTS[part], f"{name}.c", f"{name}.h")
    defines = ["-Dvolatile=", *(["-D__AVR__"] if target.has_progmem else [])]
    defines += [f"-D{name.upper()}_NO_CHECK"] if part == "selftest" else []
    with tempfile.TemporaryDirectory(prefix="mip2mcu-prove-") as folder:
        for file_name, content in files.items():
            (Path(folder) / file_name).write_text(content, encoding="utf-8")
        flags = " ".join([f"-I{folder}", f"-I{resource_folder('firmware') / 'proof'}", *defines])
        log = _run(["-machdep", machine, f"-cpp-extra-args={flags}", *own[:2], *_OPTIONS], Path(folder), seconds)
        properties = Path(folder) / _PROPERTIES
        table = properties.read_text(encoding="utf-8") if properties.is_file() else ""
    return read_log(part, machine, log, table, own)


def _run(options: Iterable[str], folder: Path, seconds: float) -> str:
    """What Frama-C prints."""
    path = shutil.which("frama-c")
    if path is None:
        raise ToolMissingError(
            "--prove needs Frama-C, not installed: run `apt-get install frama-c-base` on Debian or Ubuntu, "
            "elsewhere `opam install frama-c`"
        )
    try:
        done = subprocess.run(
            [path, *options],
            cwd=folder,
            env=os.environ | {"LC_ALL": "C", "PWD": str(folder)},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise VerifyError(f"Frama-C did not finish within {seconds:g} s: prove a smaller model") from None
    except OSError as error:
        raise ToolMissingError(f"{path} cannot be started: {error.strerror}") from None
    if done.returncode != 0:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()][-8:]
        raise VerifyError("Frama-C could not analyse the model:\n  " + "\n  ".join(lines or ["(no message)"]))
    return done.stdout


@cache
def frama_c_version() -> str:
    """Name and version; raises `ToolMissingError` where Frama-C is not installed."""
    return f"Frama-C {_run(['-version'], Path(tempfile.gettempdir()), 60).strip()}"
