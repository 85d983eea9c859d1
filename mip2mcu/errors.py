"""The exceptions that mip2mcu raises on purpose.

    Mip2mcuError                one clear sentence; the command line prints it and exits with status 2
    ├── UsageError              an option or argument that cannot be meant
    ├── DatasetError            data that cannot be read, or that do not fit the model
    ├── ModelError              a network or a model file that breaks a rule of the format
    ├── SolverError             a solver that is missing, refuses, or fails
    │   └── NoSolutionError     the solver ended without any feasible point
    │       └── InfeasibleError the solver proved that there is none
    ├── ExportError             a network that cannot become C for the target, or a folder that cannot be written
    └── VerifyError             a comparison that could not be carried out
        ├── NoRoomError         a program that fits no chip or board of its core
        └── ToolMissingError    no compiler or emulator for the target is installed

A mismatch between C and Python is a *result* of verification (`Report.mismatches`), not an exception.
"""

from __future__ import annotations


class Mip2mcuError(Exception):
    """Base of every error that is meant for the user: the message is one sentence with the way out."""


class UsageError(Mip2mcuError):
    """An option or argument that cannot be meant."""


class DatasetError(Mip2mcuError):
    """Data that cannot be read, or that do not fit the model."""


class ModelError(Mip2mcuError):
    """A network or a model file that breaks a rule of the format."""


class SolverError(Mip2mcuError):
    """A solver that is missing, refuses its options, or fails."""


class NoSolutionError(SolverError):
    """The solver ended without any feasible point."""


class InfeasibleError(NoSolutionError):
    """The solver proved that there is no feasible point."""


class ExportError(Mip2mcuError):
    """A network that cannot become C for the target, or a folder that cannot be written."""


class VerifyError(Mip2mcuError):
    """A comparison that could not be carried out."""


class NoRoomError(VerifyError):
    """A program that fits no chip or board of its core."""


class ToolMissingError(VerifyError):
    """No compiler or emulator for the target is installed."""
