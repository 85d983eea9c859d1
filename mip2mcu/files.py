"""Files are written whole or not at all."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from mip2mcu.errors import UsageError


def check_writable(path: str | Path) -> Path:
    """``path`` if a file can be written there; raises `UsageError` for a missing folder or a folder of that name.

    To be called before long work, so that nothing is lost at its end.
    """
    path = Path(path)
    try:
        _check_place(path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}, choose another name") from None
    return path


def _check_place(path: Path) -> None:
    if not path.parent.is_dir():
        raise UsageError(f"cannot write {path}: the folder {path.parent} does not exist, create it first")
    if path.is_dir():
        raise UsageError(f"cannot write {path}: it is a folder, name a file")
    if path.exists() and not path.is_file():
        raise UsageError(f"cannot write {path}: it is a device or pipe, name a file")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"cannot write {path}: the folder {path.parent} is not writable")
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".mip2mcu.")  # permissions do not tell everything
    os.close(handle)
    os.unlink(temporary)


def check_replaceable(path: str | Path, mark: bytes, what: str) -> Path:
    """`check_writable`; raises `UsageError` too where a file of another kind than ``what`` would be lost.

    mark   a regular expression that is found in every file of that kind
    """
    place = check_writable(path)
    try:
        content = place.read_bytes() if place.exists() else b""
    except OSError as error:
        raise UsageError(f"cannot read {place}, which is in the way: {error.strerror}") from None
    if content and not re.search(mark, content):
        raise UsageError(f"{place} is no {what} and is not replaced: choose another name, or remove it")
    return place


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` in UTF-8 with Unix line ends; readers see the old file or the new one, never a part.

    Raises `UsageError` where the file cannot be written: a missing folder, a full disk.
    """
    path = check_writable(path)
    try:
        _write_whole(path.resolve(), text)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}, free some space or choose another place") from None


def _write_whole(path: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".mip2mcu.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
