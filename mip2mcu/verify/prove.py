"""`prove`: Frama-C's Eva analyses the generated C for all inputs in range, by abstract interpretation.

Loops are followed to their end, turn by turn, with an interval for every value: the tables are constants, so every
address and every partial sum is known as exactly as the exporter knows it. What Eva cannot exclude is an `Alarm`:
a signed overflow, a conversion that changes a value, an access outside of an array, a pointer that leaves one, a read
of what nobody wrote, a division by zero, a shift too far. No alarm means that no input in range leads to any of them.
"""

from __future__ import annotations

import os
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

_MAIN = "proof_main.c"
_MODEL_HEADER = "proved_model.h"
_PROPERTIES = "properties.csv"
_TURNS = 100_000_000
"""More turns than any loop has: all are followed, except where the text says otherwise."""
_OPTIONS = (
    "-eva", "-eva-min-loop-unroll", str(_TURNS), "-eva-no-print", "-eva-msg-key=-initial-state,-final-states",
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
) -> Proof:
    """`prove` for the text of NAME.c and NAME.h among ``files``; ``machine`` is the only machine model, None: all."""
    chosen = machines(target) if machine is None else (machine,)
    version = frama_c_version()
    text = files[f"{name}.c"]
    with tempfile.TemporaryDirectory(prefix="mip2mcu-prove-") as folder:
        for file_name, content in {**files, _MODEL_HEADER: proved_model(network, name, files[f"{name}.h"])}.items():
            (Path(folder) / file_name).write_text(content, encoding="utf-8")
        shutil.copy(resource_folder("firmware") / "proof" / _MAIN, folder)
        analyses = tuple(_analyse(Path(folder), name, one, target, seconds) for one in chosen)
    return Proof(
        model_sha256=network.sha256,
        target=target.name,
        analyser=version,
        analyses=analyses,
        modelled=tuple(model for model in MODELS if model.occurs_in(text)),
    )


def machines(target: Target) -> tuple[str, ...]:
    """Frama-C's names of the machine models under which the C for ``target`` must hold."""
    if target.family == "generic":
        return ("gcc_x86_16", "gcc_x86_32")
    if target.family == "host":
        return ("gcc_x86_64",)
    return ("gcc_x86_16",) if target.int_bits < 32 else ("gcc_x86_32",)


def _analyse(folder: Path, name: str, machine: str, target: Target, seconds: float) -> Analysis:
    includes = [f"-I{folder}", f"-I{resource_folder('firmware') / 'proof'}"]
    flags = " ".join([*includes, "-Dvolatile=", *(["-D__AVR__"] if target.has_progmem else [])])
    call = ["-machdep", machine, f"-cpp-extra-args={flags}", _MAIN, f"{name}.c", *_OPTIONS]
    log = _run(call, folder, seconds)
    properties = folder / _PROPERTIES
    table = properties.read_text(encoding="utf-8") if properties.is_file() else ""
    return read_log(machine, log, table, (_MAIN, f"{name}.c", f"{name}.h"))


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
    if done.returncode != 0:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()][-8:]
        raise VerifyError("Frama-C could not analyse the model:\n  " + "\n  ".join(lines or ["(no message)"]))
    return done.stdout


@cache
def frama_c_version() -> str:
    """Name and version; raises `ToolMissingError` where Frama-C is not installed."""
    return f"Frama-C {_run(['-version'], Path(tempfile.gettempdir()), 60).strip()}"
