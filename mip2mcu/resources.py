"""Finds the folders `templates/` and `firmware/`: inside an installed wheel, or beside the package in a checkout."""

from __future__ import annotations

from pathlib import Path

from mip2mcu.errors import Mip2mcuError

_PACKAGE = Path(__file__).resolve().parent


def resource_folder(name: str) -> Path:
    """The folder ``name`` ("templates" or "firmware") of this installation.

    A wheel carries the folders under ``mip2mcu/_resources``; an editable install has them at the top of the checkout.
    """
    for folder in (_PACKAGE / "_resources" / name, _PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise Mip2mcuError(f"this installation of mip2mcu lacks its folder {name!r}: reinstall the package")
