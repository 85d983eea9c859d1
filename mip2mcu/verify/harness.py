"""The C harness (firmware/verify_main.c) around a generated model: built here, and spoken to here.

    build     C of a model + harness + start-up  ->  a linked program and the model's object file
    Harness   the program on a runner: integer arrays in, integer arrays out

All frames are little-endian integers in the model's own types, which the program describes on request.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np

from mip2mcu.errors import NoRoomError, UsageError, VerifyError
from mip2mcu.export.targets import Target
from mip2mcu.network import Network
from mip2mcu.ranges import IntArray
from mip2mcu.resources import resource_folder
from mip2mcu.verify.chips import CHIP_LINKS, check_rows, chip_flags, shortage
from mip2mcu.verify.cores import KIB, Core
from mip2mcu.verify.decoding import check_armv6m, check_rv32e
from mip2mcu.verify.footprint import Footprint, measure
from mip2mcu.verify.runners import Runner
from mip2mcu.verify.stack import STACK_FLAG, worst_stack
from mip2mcu.verify.toolchains import Toolchain

_DESCRIBE, _QUANTIZE, _PACK, _INFER, _SELFTEST, _PREDICT, _CHECK, _SUMS = range(1, 9)
_REQUEST = struct.Struct("<2I")
_DESCRIPTION = struct.Struct("<13I64s")
_HARNESS_RAM = 8 * KIB
_HARNESS_FLASH = 8 * KIB
"""What harness, frames and stack take of a core's memory beside the model and one row of everything."""

_FUNCTIONS = ("quantize", "pack", "sums", "scores", "predict", "margin", "selftest", "check")
_TYPES = ("input_t", "raw_t")
_MACROS = (
    "ABI", "MODEL_SHA256", "CLASSES", "INPUTS", "INPUT_LENGTH", "INPUT_PACKED", "SUMS", "SCORES", "RAW_FEATURES",
    "SCRATCH_BYTES", "CHECKED_BYTES",
)  # fmt: skip

Files: TypeAlias = Mapping[str, str]


@dataclass(frozen=True)
class Program:
    """A linked harness, and the object file of the model in it.

    flags          what the model was compiled with
    has_check      the model checks its tables; C that an older exporter wrote does not
    constant_time  the model says that `sums` runs the same instructions whatever the inputs are, once it is optimised
    """

    elf: Path
    model_object: Path
    name: str
    core: Core
    toolchain: Toolchain
    flags: tuple[str, ...]
    has_check: bool = False
    constant_time: bool = False

    def stack(self) -> Mapping[str, int]:
        """Most bytes of stack that each function uses, as the compiler knows them; empty where it does not say."""
        return worst_stack(self.model_object, [f"{self.name}_{function}" for function in _FUNCTIONS])


@dataclass(frozen=True)
class Description:
    """What the compiled model says about itself."""

    abi: int
    classes: int
    inputs: int
    input_length: int
    input_packed: int
    input_bytes: int
    input_signed: int
    sums: int
    scores: int
    raw_features: int
    raw_bytes: int
    raw_signed: int
    scratch_bytes: int
    sha256: str

    @property
    def input_type(self) -> np.dtype:
        """Element of the model's input array."""
        return _integer_type(self.input_bytes, self.input_signed)

    @property
    def raw_type(self) -> np.dtype:
        """Element of the model's array of raw features."""
        return _integer_type(self.raw_bytes, self.raw_signed)


@dataclass(frozen=True, eq=False)
class Results:
    """What the model computes: (rows, sums), (rows, scores), and one entry a row; status is 0 where all is well."""

    sums: IntArray
    scores: IntArray
    predicted: IntArray
    margin: IntArray
    status: IntArray


def _integer_type(width: int, signed: int) -> np.dtype:
    return np.dtype(f"<{'i' if signed else 'u'}{width}")


def build(
    files: Files,
    folder: Path,
    *,
    network: Network,
    name: str,
    target: Target,
    core: Core,
    toolchain: Toolchain,
    optimisation: str = "-O2",
    extra_flags: tuple[str, ...] = (),
) -> Program:
    """Compile the model NAME.c among ``files`` and link it with the harness, all inside ``folder``.

    ``extra_flags`` stand in every call of the compiler. A model that outgrows the memory of the core's board or chip
    gets `Core.roomy`. Raises `VerifyError` with the compiler's message, and where no chip has room.
    """
    if core.simavr_mcu is not None:
        check_rows(network, core)
    for file_name, text in {**files, "tested_model.h": model_under_test(name)}.items():
        (folder / file_name).write_text(text, encoding="utf-8")
    bare = () if core.memory is None else ("-ffreestanding",)
    sections = ("-ffunction-sections", "-fdata-sections")
    chosen = (*chip_flags(toolchain.target_flags(target), core), "-std=c99", optimisation, *extra_flags)
    flags = (*chosen, *sections, *bare)
    whole = (*flags, "-c", *(() if toolchain.name == "zig" else (STACK_FLAG,)))
    model_object = toolchain.compile([folder / f"{name}.c"], whole, folder / "model_under_test.o", folder)
    core = _with_room(network, core, measure(model_object), _scratch_bytes(files[f"{name}.h"], name))
    firmware = resource_folder("firmware")
    sources, links = surroundings(firmware, core, folder)
    kept = ("-g",) if toolchain.name == "zig" else ()  # zig would strip symbols under -Os
    includes = (*kept, f"-I{firmware}", f"-I{folder}")
    elf = toolchain.compile([*sources, model_object], (*flags, *includes, *links), folder / "verify.elf", folder)
    if core.is_armv6m:
        check_armv6m(elf)
    if core.is_rv32e:
        check_rv32e(elf)
    header = files[f"{name}.h"]
    checks, constant = (_declares(header, name, macro) for macro in ("CHECKED_BYTES", "CONSTANT_TIME 1"))
    constant = constant and optimisation != "-O0"
    program = Program(elf, model_object, name, core, toolchain, flags, checks, constant)
    reason = None if core.simavr_mcu is None else shortage(elf, core, max(program.stack().values()))
    if reason is None:
        return program
    if core == core.roomy():
        raise NoRoomError(reason)
    return build(
        files,
        folder,
        network=network,
        name=name,
        target=target,
        core=core.roomy(),
        toolchain=toolchain,
        optimisation=optimisation,
        extra_flags=extra_flags,
    )


def read_source(folder: Path, name: str) -> Files:
    """The exported NAME.h and NAME.c in ``folder``; raises `UsageError` where they cannot be read."""
    files = {}
    for file_name in (f"{name}.h", f"{name}.c"):
        try:
            files[file_name] = (folder / file_name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise UsageError(
                f"{folder} holds no readable {file_name}: name the folder that `mip2mcu export` wrote, and its --name"
            ) from None
    return files


def surroundings(firmware: Path, core: Core, folder: Path) -> tuple[list[Path], tuple[str, ...]]:
    """The sources around a model on ``core`` and the linker's flags; writes memory.ld into ``folder``."""
    main = firmware / "verify_main.c"
    if core.memory is None or core.simavr_mcu is not None:
        return [main, firmware / core.folder / "platform.c"], () if core.memory is None else CHIP_LINKS
    (folder / "memory.ld").write_text(core.memory.linker_script, encoding="utf-8")
    sources = [firmware / "platform_semihosting.c", firmware / "runtime.c", firmware / core.folder / "startup.c"]
    return [main, *sources], bare_metal_links(firmware, core)


def _with_room(network: Network, core: Core, model: Footprint | None, scratch: int) -> Core:
    """``core``, with more memory than its board where model, harness and rows might not fit (estimated from above)."""
    if core.memory is None or model is None or core.simavr_mcu is not None:
        return core
    widest = max(low.size for low, _ in network.layer_ranges)
    raw = 0 if network.quantizer is None else len(network.quantizer.features)
    row = 3 * network.inputs + 4 * raw + 8 * network.layer_ranges[-1][0].size + 4 * len(network.classes)
    ram = model.ram + scratch + row + 4 * widest + _HARNESS_RAM
    flash = model.flash + _HARNESS_FLASH
    return core if ram <= core.memory.ram.length and flash <= core.memory.flash.length else core.roomy()


def bare_metal_links(firmware: Path, core: Core) -> tuple[str, ...]:
    """Linker flags of a program without operating system; memory.ld is found in the folder that the linker runs in."""
    script = firmware / core.folder / "sections.ld"
    return ("-nostdlib", "-T", str(script), "-L.", "-Wl,--gc-sections", f"-Wl,-e,{core.entry}")


def model_under_test(name: str) -> str:
    """The header that gives the model NAME the names that the harness uses, whoever owns the model's scratch memory."""
    macro = name.upper()
    lines = [f'#include "{name}.h"']
    for suffix in _MACROS if macro != "TESTED" else ():
        lines += [f"#ifdef {macro}_{suffix}", f"#define TESTED_{suffix} {macro}_{suffix}", "#endif"]
    lines += [f"#define tested_{suffix} {name}_{suffix}" for suffix in _TYPES]
    lines += [f"#define tested_{suffix}(from, to) {name}_{suffix}((from), (to))" for suffix in ("quantize", "pack")]
    lines.append(f"#define tested_check() {name}_check()")
    lines += [
        f"#if {macro}_SCRATCH_BYTES > 0",
        f"static {name}_scratch_t scratch;",
        *_calls(name, "(input)", "&scratch"),
        f"#elif defined({macro}_STATIC_SCRATCH)",
        f"static void fill(const {name}_input_t input[{macro}_INPUT_LENGTH])",
        "{",
        "    uint32_t i;",
        "",
        f"    for (i = 0U; i < {macro}_INPUT_LENGTH; i++) {{",
        f"        {name}_input[i] = input[i];",
        "    }",
        "}",
        *_calls(name, "", ""),
        "#else",
        *_calls(name, "(input)", ""),
        "#endif",
    ]
    return "\n".join(lines) + "\n"


def _calls(name: str, given: str, scratch: str) -> list[str]:
    """Macros that call the model's functions; without ``given`` inputs they are filled into the model's own array."""
    lines = []
    for function, reads, own in (
        ("sums", True, "sums"),
        ("scores", True, "scores"),
        ("predict", True, ""),
        ("margin", True, ""),
        ("selftest", False, ""),
    ):
        parameters = ", ".join(part for part in ("input" if reads else "", own) if part)
        arguments = ", ".join(part for part in (given if reads else "", own and f"({own})", scratch) if part)
        call = f"{name}_{function}({arguments})"
        filled = call if given or not reads else f"(fill(input), {call})"
        lines.append(f"#define tested_{function}({parameters}) {filled}")
    return lines


def _scratch_bytes(header: str, name: str) -> int:
    """Memory that the model's callers provide, as its header declares it."""
    found = re.search(rf"^#define {name.upper()}_SCRATCH_BYTES ([0-9]+)", header, re.MULTILINE)
    return int(found[1]) if found else 0


def _declares(header: str, name: str, macro: str) -> bool:
    return f"\n#define {name.upper()}_{macro}" in header


@dataclass(frozen=True, eq=False)
class Harness:
    """A program on a runner."""

    program: Program
    runner: Runner

    @cached_property
    def description(self) -> Description:
        """What the model says about itself; raises `VerifyError` where the program does not answer as agreed."""
        answer = self._run(_REQUEST.pack(_DESCRIBE, 1))
        if len(answer) != _DESCRIPTION.size:
            raise VerifyError(f"the harness described its model in {len(answer)} bytes, expected {_DESCRIPTION.size}")
        *numbers, sha256 = _DESCRIPTION.unpack(answer)
        names = [field.name for field in fields(Description) if field.name != "sha256"]
        text = sha256.rstrip(b"\0").decode("ascii", errors="replace")
        return Description(**dict(zip(names, numbers, strict=True)), sha256=text)

    def infer(self, inputs: IntArray) -> Results:
        """Sums, scores, class and margin of network inputs (rows, inputs)."""
        d = self.description
        numbers = self._answers(self.infer_request(inputs), len(inputs), np.dtype("<i4"), d.sums + d.scores + 3)
        sums, scores, rest = np.split(numbers, [d.sums, d.sums + d.scores], axis=1)
        return Results(sums, scores, rest[:, 0], rest[:, 1], rest[:, 2])

    def quantize(self, raw: IntArray) -> IntArray:
        """Elements (rows, input length) of the model's input array for raw features (rows, features)."""
        d = self.description
        return self._answers(self.quantize_request(raw), len(raw), d.input_type, d.input_length)

    def pack(self, inputs: IntArray) -> IntArray:
        """Elements (rows, input length) that the model packs network inputs (rows, inputs) into."""
        d = self.description
        return self._answers(self.pack_request(inputs), len(inputs), d.input_type, d.input_length)

    def selftest(self) -> int:
        """What the model's own selftest returns: 0, or a negative number."""
        return int(self._answers(self.selftest_request(), 1, np.dtype("<i4"), 1)[0, 0])

    def check(self) -> int:
        """What the check of the model's constant tables returns: 0, or a negative number."""
        return int(self._answers(self.check_request(), 1, np.dtype("<i4"), 1)[0, 0])

    def check_request(self) -> bytes:
        """Asks for one call of `check`."""
        return _REQUEST.pack(_CHECK, 1)

    def selftest_request(self) -> bytes:
        """Asks for one call of `selftest`."""
        return _REQUEST.pack(_SELFTEST, 1)

    def infer_request(self, inputs: IntArray) -> bytes:
        """What `infer` sends to the program."""
        return _REQUEST.pack(_INFER, len(inputs)) + self._encoded(inputs)

    def predict_request(self, inputs: IntArray) -> bytes:
        """Asks for one call of `predict` a row and nothing else; for counting."""
        return _REQUEST.pack(_PREDICT, len(inputs)) + self._encoded(inputs)

    def sums_request(self, inputs: IntArray) -> bytes:
        """Asks for one call of `sums` a row and nothing else; for counting."""
        return _REQUEST.pack(_SUMS, len(inputs)) + self._encoded(inputs)

    def quantize_request(self, raw: IntArray) -> bytes:
        """What `quantize` sends to the program."""
        return _REQUEST.pack(_QUANTIZE, len(raw)) + raw.astype(self.description.raw_type).tobytes()

    def pack_request(self, inputs: IntArray) -> bytes:
        """What `pack` sends to the program."""
        return _REQUEST.pack(_PACK, len(inputs)) + inputs.astype(np.uint8).tobytes()

    def elements(self, inputs: IntArray) -> IntArray:
        """The model's input array for network inputs (rows, inputs); packed: bit i % 32 of word i / 32 is input i."""
        d = self.description
        if not d.input_packed:
            return inputs
        bits = np.zeros((len(inputs), 32 * d.input_length), dtype=np.uint8)
        bits[:, : d.inputs] = inputs
        return np.packbits(bits, axis=1, bitorder="little").view("<u4").astype(np.int64)

    def _encoded(self, inputs: IntArray) -> bytes:
        return self.elements(inputs).astype(self.description.input_type).tobytes()

    def _answers(self, request: bytes, rows: int, element: np.dtype, length: int) -> IntArray:
        answer = self._run(request)
        if len(answer) != rows * length * element.itemsize:
            raise VerifyError(
                f"the harness answered {len(answer)} bytes to {rows} rows, expected {rows * length * element.itemsize}"
            )
        return np.frombuffer(answer, dtype=element).astype(np.int64).reshape(rows, length)

    def _run(self, request: bytes) -> bytes:
        return self.runner.run(self.program.elf, self.program.core, request)
