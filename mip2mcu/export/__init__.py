"""From a network to dependency-free C99: `generate` in memory, `export` into a folder."""

from __future__ import annotations

from mip2mcu.export.inspection import Inspection, inspect
from mip2mcu.export.options import ExportOptions
from mip2mcu.export.program import Program
from mip2mcu.export.targets import TARGETS, Target, find_target
from mip2mcu.export.writer import Export, export, generate

__all__ = [
    "TARGETS", "Export", "ExportOptions", "Inspection", "Program", "Target", "export", "find_target", "generate",
    "inspect",
]  # fmt: skip
