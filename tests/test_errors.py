"""The exception tree is the one that its module draws."""

from __future__ import annotations

import inspect
import re

from mip2mcu import errors
from mip2mcu.errors import Mip2mcuError, NoSolutionError, SolverError, ToolMissingError, VerifyError


def classes():
    return {name: c for name, c in vars(errors).items() if inspect.isclass(c) and issubclass(c, Exception)}


def test_every_error_is_a_mip2mcu_error():
    assert all(issubclass(error, Mip2mcuError) for error in classes().values())


def test_no_error_hides_behind_a_builtin_one():
    assert Mip2mcuError.__mro__ == (Mip2mcuError, Exception, BaseException, object)
    assert (NoSolutionError.__base__, ToolMissingError.__base__) == (SolverError, VerifyError)


def test_the_tree_in_the_docstring_names_every_error_below_its_base():
    drawn, above = {}, []
    for indent, name in re.findall(r"^    ([ │├└─]*)(\w+Error)\b", errors.__doc__, flags=re.MULTILINE):
        depth = len(indent) // 4
        above[depth:] = [name]
        drawn[name] = above[depth - 1] if depth else "Exception"
    assert drawn == {name: error.__base__.__name__ for name, error in classes().items()}


def test_every_error_says_what_it_is():
    assert all(error.__doc__ and error.__doc__.endswith(".") for error in classes().values())
