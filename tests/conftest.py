"""Shared by all tests: what a test needs from the machine, and golden files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="write golden files instead of comparing with them")


@pytest.fixture
def update_golden(request) -> bool:
    return request.config.getoption("--update-golden")


def require(condition: object, reason: str) -> None:
    """Skip the test with ``reason`` unless ``condition``; with REQUIRE_ALL=1 fail instead."""
    if condition:
        return
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(f"REQUIRE_ALL=1 forbids skipping: {reason}")
    pytest.skip(reason)


@pytest.fixture
def data_folder() -> Path:
    """Folder of the benchmark data, named by MIP2MCU_DATA."""
    folder = os.environ.get("MIP2MCU_DATA")
    require(folder and Path(folder).is_dir(), "MIP2MCU_DATA names no folder with the benchmark data")
    return Path(str(folder))
