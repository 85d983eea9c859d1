"""What came out of a static proof: `Proof`, one `Analysis` a machine model, and a `Model` for what Eva cannot see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

_MACHINES = {
    "gcc_x86_16": "int of 16 bits",
    "gcc_x86_32": "int and pointers of 32 bits",
    "gcc_x86_64": "int of 32 bits, pointers of 64",
}
_SHOWN = 20


@dataclass(frozen=True)
class Model:
    """Something that the analyser cannot look into: the ``pattern`` that shows it in C, and what it is taken for."""

    pattern: str
    name: str
    meaning: str

    def occurs_in(self, text: str) -> bool:
        """True where the C uses it."""
        return self.pattern in text


MODELS = (
    Model("pgm_read_", "pgm_read_byte, _word, _dword", "flash is read like other memory"),
    Model("next_byte(", "next_byte (LPM)", "reads a byte, moves the pointer on"),
    Model("next_word(", "next_word (LPM)", "reads a word, moves the pointer on"),
    Model("bits_agree(", "bits_agree (LPM, EOR)", "the same in C"),
    Model("bits_agree_masked(", "bits_agree_masked (LPM, EOR, AND)", "the same in C"),
    Model("__builtin_clz", "__builtin_clz", "the loop that other compilers get"),
    Model("multiply_add(", "multiply_add (LPM, MUL, ADD)", "the same in C"),
    Model("smlad", "SMLAD, SXTB16, UXTB16", "the C that compilers without them get"),
    Model("signed_word(", "signed_word", "conversion of a sum modulo 2^32, in C that defines it"),
    Model("signed_half(", "signed_half", "conversion of a sum modulo 2^16, in C that defines it"),
    Model(">> 31);\n#endif", "bits_spread (arithmetic shift)", "the same in C that defines it"),
    Model("volatile", "volatile", "an ordinary access"),
    Model('__asm__("" ', "empty assembler statements", "no effect"),
    Model('__asm__ __volatile__("" ', "empty assembler statements", "no effect"),
)
"""Everything of the kind that generated C contains; tests compare each with what it stands for."""


@dataclass(frozen=True)
class Alarm:
    """What the analyser could not exclude: where, and the condition that it could not prove."""

    file: str
    line: int
    function: str
    kind: str
    condition: str

    def as_text(self) -> str:
        """One line, as compilers write them."""
        return f"{self.file}:{self.line}: {self.kind} in {self.function}: {self.condition}"


@dataclass(frozen=True)
class Analysis:
    """One run under one machine model.

    part         of the text: the inference, with quantizer and check, or the selftest
    alarms       none: the proof
    assumed      conditions in the text that the analysis rests on, by annotations "admit"
    functions    analysed, of all in the model and its driver
    statements   reached, of all in those functions; the others are never executed
    checks       conditions on results that were proved
    """

    part: str
    machine: str
    alarms: tuple[Alarm, ...]
    assumed: tuple[str, ...]
    functions: tuple[int, int]
    statements: tuple[int, int]
    checks: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def as_text(self) -> str:
        """One line, and one an alarm."""
        lines = [
            f"{len(self.alarms)} alarms, {self.part}, {_MACHINES[self.machine]} ({self.machine}): "
            f"{self.functions[0]} functions, {self.statements[0]} of {self.statements[1]} statements reached, "
            f"{self.checks} checks of results proved"
        ]
        lines += [f"  {alarm.as_text()}" for alarm in self.alarms[:_SHOWN]]
        if len(self.alarms) > _SHOWN:
            lines.append(f"  ... and {len(self.alarms) - _SHOWN} more")
        return "\n".join(lines)


@dataclass(frozen=True)
class Proof:
    """The static analysis of a model's C for all inputs in range.

    analyser   name and version
    modelled   what the analyser could not look into, and what it was taken for
    """

    model_sha256: str
    target: str
    analyser: str
    analyses: tuple[Analysis, ...]
    modelled: tuple[Model, ...]

    @property
    def alarms(self) -> int:
        """Conditions that could not be proved, under all machine models; 0 is the proof."""
        return sum(len(analysis.alarms) for analysis in self.analyses)

    @property
    def assumed(self) -> tuple[str, ...]:
        """Conditions that the proof rests on, each once."""
        return tuple(dict.fromkeys(entry for analysis in self.analyses for entry in analysis.assumed))

    def as_dict(self) -> Mapping[str, Any]:
        """Plain values for JSON, the same for the same run."""
        return {
            "model_sha256": self.model_sha256,
            "target": self.target,
            "analyser": self.analyser,
            "alarms": self.alarms,
            "analyses": [analysis.as_dict() for analysis in self.analyses],
            "modelled": {model.name: model.meaning for model in self.modelled},
            "assumed": list(self.assumed),
        }

    def as_text(self) -> str:
        """A summary that a person reads."""
        lines = [f"analysed     by {self.analyser}, Eva: all inputs in range, all raw features, the selftest"]
        lines += [f"{'proof':<13}{analysis.as_text()}" for analysis in self.analyses]
        lines += [f"{'modelled':<13}{model.name}: {model.meaning}" for model in self.modelled]
        lines += [f"{'assumed':<13}{entry}" for entry in self.assumed]
        return "\n".join(lines)
