"""Programs of this computer that emulation needs: compiled from firmware/ when first used, kept in the user's cache.

A file's name there holds a hash of its source, its flags and the compiler, so that none is ever out of date.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from functools import cache
from pathlib import Path

from mip2mcu.errors import VerifyError
from mip2mcu.export.targets import TARGETS
from mip2mcu.resources import resource_folder
from mip2mcu.verify.toolchains import Toolchain, cache_folder, find_toolchains


@cache
def host_tool(source: str, flags: tuple[str, ...]) -> Path | None:
    """The program (or shared object) made of ``source``, a path under firmware/.

    None where no compiler of this computer can make it; what is missing then (a compiler, a header, a library) depends
    on the tool, whose user says what to install.
    """
    file = resource_folder("firmware") / source
    for toolchain in find_toolchains(TARGETS["host"]):
        built = _built(file, ("-std=c99", "-O2", *flags), toolchain)
        if built is not None:
            return built
    return None


def _built(source: Path, flags: tuple[str, ...], toolchain: Toolchain) -> Path | None:
    key = "\0".join([source.read_text(encoding="utf-8"), *flags, toolchain.version])
    folder = cache_folder("tools")
    tool = folder / f"{source.stem}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    if tool.is_file():
        return tool
    with tempfile.TemporaryDirectory(dir=folder) as name:
        try:
            built = toolchain.compile([source], flags, Path(name) / tool.name, Path(name))
        except VerifyError:
            return None
        os.replace(built, tool)  # whole or not at all, for other processes may make the same
    return tool
