"""Proves that compiled C computes what the network computes: `verify` and its `Report`.

    toolchains   compilers, found and called            cores     what code runs on
    harness      the C around a model, and its frames   runners/  the host, unicorn, QEMU
    vectors      rows that hunt for differences         comparison, footprint, report
    elf          opens what compilers wrote
"""

from __future__ import annotations

from mip2mcu.verify.report import Cost, Mismatch, Report
from mip2mcu.verify.verification import DEFAULT_VECTORS, verify

__all__ = ["DEFAULT_VECTORS", "Cost", "Mismatch", "Report", "verify"]
