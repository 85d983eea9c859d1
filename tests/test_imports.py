"""The import graph: who may know whom, no cycle, and what the small machine that only exports need not install."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import mip2mcu

PACKAGE = Path(mip2mcu.__file__).parent

ROWS = [
    "errors version",
    "files resources progress",
    "ranges",
    "filters norms",
    "layers quantizer",
    "decisions",
    "model_file",
    "network ladders",
    "tables",
    "columns",
    "dataset",
    "stages augmentation selection",
    "evaluation",
    "parallel",
    "cluster",
    "mip",
    "train",
    "prune certify",
    "export",
    "verify",
    "__init__",
    "console",
    "cli_options",
    "cli_inspect",
    "cli_train cli_certify cli_prune cli_verify",
    "cli",
    "__main__",
]
"""A module imports only from rows above its own; a package is one row, whose modules may import each other."""

ONLY_WITH_A_SOLVER = {"mip", "train", "prune", "certify"}
SOLVER_PACKAGES = {"pyomo", "highspy"}


def dotted(path):
    """The name of a module below ``mip2mcu``: "train.linear", "train" for train/__init__.py, "__init__" for the top."""
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return name.removesuffix(".__init__")


MODULES = {dotted(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(name, *, inside_functions):
    """Full dotted names that the module ``name`` imports, without those for type checkers only."""
    found, pending = set(), list(ast.parse(MODULES[name].read_text()).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively; write the full name"
            for alias in node.names:
                longer = f"{node.module}.{alias.name}"
                found.add(longer if longer.removeprefix("mip2mcu.") in MODULES else node.module)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
        elif inside_functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            pending += list(ast.iter_child_nodes(node))
    return found


def own_imports(name, *, inside_functions):
    """Those of `imports` that are modules of this package, below ``mip2mcu``; the package itself is "__init__"."""
    full = imports(name, inside_functions=inside_functions)
    below = {other.removeprefix("mip2mcu.") for other in full if other.startswith("mip2mcu.")}
    return below | ({"__init__"} if "mip2mcu" in full else set())


def row(name):
    top = name.split(".")[0]
    for number, names in enumerate(ROWS):
        if top in names.split():
            return number
    return pytest.fail(f"mip2mcu/{top} has no row: place it in ROWS of this test, above all that import it")


def test_a_module_imports_only_from_rows_above_its_own():
    wrong = [
        f"{name} imports {other}"
        for name in MODULES
        for other in sorted(own_imports(name, inside_functions=True))
        if other.split(".")[0] != name.split(".")[0] and row(other) >= row(name)
    ]
    assert wrong == []


def test_there_is_no_import_cycle():
    graph = {name: own_imports(name, inside_functions=False) - {name} for name in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("import cycle: " + " -> ".join(error.args[1]))


def test_only_the_packages_that_solve_name_a_solver():
    wrong = [
        f"{name} imports {other}"
        for name in MODULES
        if name.split(".")[0] not in ONLY_WITH_A_SOLVER
        for other in sorted(imports(name, inside_functions=True))
        if other.split(".")[0] in SOLVER_PACKAGES
    ]
    assert wrong == []


@pytest.mark.parametrize("name", ["mip2mcu", "mip2mcu.network", "mip2mcu.dataset", "mip2mcu.export", "mip2mcu.verify"])
def test_importing_it_imports_no_solver(name):
    code = f"import sys, {name}; print(sorted({{m.split('.')[0] for m in sys.modules}} & {SOLVER_PACKAGES}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.stdout, run.stderr) == ("[]\n", "")
