"""C compilers: which there are, and one way to call them.

A machine with nothing but pip has ``python -m ziglang cc`` (extra "verify"), a clang that compiles and links for the
host, Cortex-M and RV32. Compilers that are installed come first, because they are the ones that firmware is built with.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mip2mcu.errors import ToolMissingError, UsageError, VerifyError
from mip2mcu.export.targets import Target

COMPILE_SECONDS = 600
"""Limit of one call; the first call of zig builds its support library, which takes a minute on a slow machine."""
_SHOWN_LINES = 6

_GNU_COMPILERS = {
    "host": ("gcc", "clang"),
    "generic": ("gcc", "clang"),
    "arm": ("arm-none-eabi-gcc",),
    "riscv": ("riscv64-unknown-elf-gcc",),
    "avr": ("avr-gcc",),
}
_ZIG_FAMILIES = ("host", "generic", "arm", "riscv")
_PACKAGES = {
    "gcc": "gcc",
    "clang": "clang",
    "arm-none-eabi-gcc": "gcc-arm-none-eabi",
    "riscv64-unknown-elf-gcc": "gcc-riscv64-unknown-elf",
    "avr-gcc": "gcc-avr and avr-libc",
}


@dataclass(frozen=True)
class Toolchain:
    """A compiler driver that also links.

    name       "gcc", "clang", "arm-none-eabi-gcc", "riscv64-unknown-elf-gcc", "avr-gcc" or "zig"
    command    how to call it
    """

    name: str
    command: tuple[str, ...]

    @property
    def version(self) -> str:
        """The first line of what the compiler says about itself; empty where it cannot be started."""
        return _version(self.command)

    def target_flags(self, target: Target) -> tuple[str, ...]:
        """Flags that choose the core of ``target``; zig would keep frame pointers, which no other -O2 does."""
        if self.name == "zig":
            return (*target.clang_flags, "-fomit-frame-pointer")
        return target.clang_flags if self.name == "clang" else target.gcc_flags

    def compile(self, sources: Sequence[Path], flags: Sequence[str], output: Path, folder: Path) -> Path:
        """Compile (with ``-c`` among the flags) or also link ``sources`` into ``output``, in the folder ``folder``.

        Raises `VerifyError` with the compiler's first lines.
        """
        call = [*self.command, *flags, *map(str, sources), "-o", str(output)]
        if "-nostdlib" in flags:
            call.append("-lgcc")  # the compiler's own helpers (division, ...); zig knows its own by this name too
        done = _run(call, folder)
        if done.returncode != 0 or not output.is_file():
            lines = [line for line in done.stderr.splitlines() if line.strip()][:_SHOWN_LINES]
            names = ", ".join(source.name for source in sources)
            raise VerifyError(f"{self.name} could not compile {names}:\n  " + "\n  ".join(lines or ["(no message)"]))
        return output


def find_toolchains(target: Target) -> tuple[Toolchain, ...]:
    """Every compiler on this machine that serves ``target``, the preferred one first."""
    found = []
    for name in _GNU_COMPILERS.get(target.family, ()):
        path = shutil.which(name)
        if path is not None and Toolchain(name, (path,)).version:
            found.append(Toolchain(name, (path,)))
    if target.family in _ZIG_FAMILIES and importlib.util.find_spec("ziglang") is not None:
        found.append(Toolchain("zig", (sys.executable, "-m", "ziglang", "cc")))
    return tuple(found)


def find_toolchain(target: Target, name: str | None = None) -> Toolchain:
    """The preferred compiler for ``target``, or the one called ``name``.

    Raises `ToolMissingError` where there is none, `UsageError` for a name that no compiler for ``target`` has.
    """
    known = (*_GNU_COMPILERS.get(target.family, ()), *(("zig",) if target.family in _ZIG_FAMILIES else ()))
    if name is not None and name not in known:
        raise UsageError(f"no known compiler for target {target.name!r} is called {name!r}; known: {', '.join(known)}")
    for toolchain in find_toolchains(target):
        if name in (None, toolchain.name):
            return toolchain
    if name is not None:
        raise ToolMissingError(f"{name} is not installed: {_advice((name,))}")
    raise ToolMissingError(
        f"target {target.name!r} needs {' or '.join(known)} to compile, not installed: {_advice(known)}"
    )


def _advice(names: Sequence[str]) -> str:
    """How to get any one of the compilers ``names``."""
    advice = []
    if "zig" in names:
        advice.append("run `pip install ziglang` for a compiler that serves every target but AVR")
    packages = [_PACKAGES[name] for name in names if name in _PACKAGES]
    if packages:
        advice.append(f"install {' or '.join(packages)} with your system's package manager")
    return ", or ".join(advice)


def _run(call: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"LC_ALL": "C", **zig_cache()}
    try:
        return subprocess.run(
            call,
            cwd=folder,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=COMPILE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise VerifyError(f"{call[0]} did not finish within {COMPILE_SECONDS} s") from None
    except OSError as error:
        raise ToolMissingError(f"{call[0]} cannot be started: {error.strerror}") from None


@cache
def _version(command: tuple[str, ...]) -> str:
    folder = Path(tempfile.gettempdir())
    done = _run([*command, "--version"], folder)
    if done.returncode != 0 or not done.stdout:
        return ""
    first = done.stdout.splitlines()[0].strip()
    if command[-2:] == ("ziglang", "cc"):
        return f"zig {_run([*command[:-1], 'version'], folder).stdout.strip()} ({first})"
    return first


@cache
def zig_cache() -> dict[str, str]:
    """Environment that keeps zig's cache in the user's cache folder (never in the project), where runs share it."""
    folder = cache_folder("zig")
    return {"ZIG_GLOBAL_CACHE_DIR": str(folder), "ZIG_LOCAL_CACHE_DIR": str(folder / "local")}


@cache
def cache_folder(name: str) -> Path:
    """The folder ``name`` among this program's in the user's cache; a temporary one where that cannot be written."""
    folder = _cache_root() / "mip2mcu" / name
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        folder = Path(tempfile.mkdtemp(prefix=f"mip2mcu-{name}-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _cache_root() -> Path:
    home = Path(os.path.expanduser("~"))
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    if sys.platform == "darwin":
        return home / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
