"""What is installed of all that verification can use, what each is for, and one command a system for the rest.

To add a tool: one row in `TOOLS`.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mip2mcu.export.targets import TARGETS
from mip2mcu.verify.cores import core_for
from mip2mcu.verify.elf import can_read
from mip2mcu.verify.runners import RUNNERS, runners_for
from mip2mcu.verify.toolchains import find_toolchains

_COMMANDS = {
    "pip": "python -m pip install",
    "apt": "sudo apt-get install",
    "brew": "brew install",
    "winget": "winget install",
}
"""What installs packages, by the name that `Tool.packages` uses."""
_VERSION_SECONDS = 30


@dataclass(frozen=True)
class Tool:
    """Something that can be installed.

    program     its name on the path; empty for a Python package
    package     of Python; empty for a program
    purpose     what it is for
    packages    what to install, by system: "pip", "apt", "brew", "winget"; several packages with spaces between
    """

    name: str
    purpose: str
    program: str = ""
    package: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """What it says about itself; empty where it is not there."""
        if self.package:
            return _package_version(self.package)
        if self.name == "simavr":
            core = core_for(TARGETS["avr"])
            runner = RUNNERS["simavr"]
            return runner.version(core).removesuffix(f" ({core.simavr_mcu})") if runner.is_installed(core) else ""
        return _program_version(self.program)


def _package(name: str, purpose: str) -> Tool:
    return Tool(name, purpose, package=name, packages={"pip": name})


TOOLS: tuple[Tool, ...] = (
    _package("ziglang", "compiler for the host, Cortex-M and RV32 (extra verify)"),
    _package("unicorn", "emulator of Cortex-M0 to M33 and RV32 (extra verify)"),
    _package("pyelftools", "reads compiled programs: every emulated core, sizes (extra verify)"),
    Tool("gcc", "compiler for the host, sanitizers, plug-ins", "gcc", packages={"apt": "gcc libc6-dev", "brew": "gcc"}),
    Tool(
        "clang",
        "second compiler for the host",
        "clang",
        packages={"apt": "clang", "brew": "llvm", "winget": "LLVM.LLVM"},
    ),
    Tool(
        "arm-none-eabi-gcc",
        "compiler for Cortex-M",
        "arm-none-eabi-gcc",
        packages={"apt": "gcc-arm-none-eabi", "brew": "gcc-arm-embedded", "winget": "Arm.GnuArmEmbeddedToolchain"},
    ),
    Tool(
        "riscv64-unknown-elf-gcc",
        "compiler for RV32",
        "riscv64-unknown-elf-gcc",
        packages={"apt": "gcc-riscv64-unknown-elf", "brew": "riscv-software-src/riscv/riscv-gnu-toolchain"},
    ),
    Tool(
        "avr-gcc", "compiler for AVR", "avr-gcc", packages={"apt": "gcc-avr avr-libc", "brew": "osx-cross/avr/avr-gcc"}
    ),
    Tool(
        "qemu-system-arm",
        "emulator of Cortex-M0 to M55",
        "qemu-system-arm",
        packages={"apt": "qemu-system-arm", "brew": "qemu", "winget": "SoftwareFreedomConservancy.QEMU"},
    ),
    Tool(
        "qemu-system-riscv32",
        "emulator of RV32",
        "qemu-system-riscv32",
        packages={"apt": "qemu-system-misc", "brew": "qemu", "winget": "SoftwareFreedomConservancy.QEMU"},
    ),
    Tool(
        "simavr",
        "emulator of AVR, with true cycles (compiled here, by gcc, clang or ziglang)",
        packages={"apt": "libsimavr-dev libelf-dev", "brew": "osx-cross/avr/simavr"},
    ),
    Tool("frama-c", "static proof of the generated C", "frama-c", packages={"apt": "frama-c-base"}),
    Tool("cppcheck", "MISRA C check", "cppcheck", packages={"apt": "cppcheck", "brew": "cppcheck"}),
    _package("scikit-learn", "what benchmarks compare with (extra benchmarks)"),
    _package("distributed", "training on a Dask cluster"),
    _package("pytest", "the tests (extra test)"),
    _package("hypothesis", "the tests (extra test)"),
)
"""Every optional tool, those that help most first."""
REQUIRED = ("numpy", "click", "jinja2", "pyomo", "highspy")
"""Packages that mip2mcu does not run without."""


@dataclass(frozen=True)
class Diagnosis:
    """What this machine has.

    required    version by package that is always needed
    tools       every tool with its version, empty where it is missing
    targets     by target: what compiles for it, what runs it; an empty list where nothing does
    """

    required: Mapping[str, str]
    tools: Sequence[tuple[Tool, str]]
    targets: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]

    @property
    def missing(self) -> list[Tool]:
        """What is not installed."""
        return [tool for tool, version in self.tools if not version]

    @property
    def commands(self) -> dict[str, str]:
        """One command a system that installs what is missing and that system has."""
        commands = {}
        for system, command in _COMMANDS.items():
            packages = [part for tool in self.missing for part in tool.packages.get(system, "").split()]
            if packages:
                commands[system] = " ".join([command, *dict.fromkeys(packages)])
        return commands

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "python": sys.version.split()[0],
            "required": dict(self.required),
            "tools": {
                tool.name: {"version": version or None, "purpose": tool.purpose} for tool, version in self.tools
            },
            "targets": {
                name: {"compilers": list(compilers), "runners": list(runners), "ready": bool(compilers and runners)}
                for name, (compilers, runners) in self.targets.items()
            },
            "install": self.commands,
        }


def diagnose() -> Diagnosis:
    """Look at everything; starts each tool once to ask for its version."""
    return Diagnosis(
        required={name: _package_version(name) for name in REQUIRED},
        tools=[(tool, tool.version) for tool in TOOLS],
        targets={name: _ready(name) for name in TARGETS},
    )


def _ready(name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the compilers and of the runners of a target that are usable."""
    target = TARGETS[name]
    core = core_for(target)
    readable = core.memory is None or can_read()
    runners = [runner.name for runner in runners_for(core) if readable and runner.is_installed(core)]
    return tuple(toolchain.name for toolchain in find_toolchains(target)), tuple(runners)


def _package_version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _program_version(program: str) -> str:
    """The first line of what ``program --version`` prints, else ``installed``."""
    path = shutil.which(program)
    if path is None:
        return ""
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, errors="replace", timeout=_VERSION_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = done.stdout.strip().splitlines()
    return lines[0].strip() if lines else "installed"
