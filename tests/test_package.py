"""What `import mip2mcu` offers."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

from tests.conftest import require


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_stage_names_are_functions_however_the_packages_were_imported():
    code = """
import mip2mcu.train.linear, mip2mcu.export.layouts, mip2mcu.verify.vectors
import mip2mcu
from mip2mcu import Dataset, Network, train, export, verify
print(*(type(f).__name__ for f in (train, export, verify, mip2mcu.train)))
"""
    assert python(code) == "function function function function"


def test_importing_the_package_loads_no_solver_and_no_template_engine():
    code = "import mip2mcu, sys; print({'pyomo', 'highspy', 'jinja2', 'unicorn'} & set(sys.modules))"
    assert python(code) == "set()"


def test_exporting_and_verifying_load_no_solver():
    code = "from mip2mcu import export, verify; import sys; print({'pyomo', 'highspy'} & set(sys.modules))"
    assert python(code) == "set()"


def test_the_docstring_works(tmp_path):
    code = f"""
from mip2mcu import Dataset, Network, train, export, verify
import os
os.chdir({str(tmp_path)!r})
open("train.csv", "w").write("a,label\\n1,x\\n2,x\\n8,y\\n9,y\\n")
data = Dataset.read("train.csv")
network = train(data, time_limit=10).network
network.save("digits.json")
export(network, target="cortex-m", out="digits", name="digits")
print(verify(network, target="host", data=data).mismatches, Network.load("digits.json").sha256 == network.sha256)
"""
    assert python(code) == "0 True"


def test_an_installed_wheel_finds_its_templates_and_cost_tables(tmp_path):
    """Built by the project's own backend, unpacked as an installer does it, and used from elsewhere."""
    require(find_spec("hatchling") is not None, "hatchling is not installed")
    root = Path(__file__).parents[1]
    build = f"import os; os.chdir({str(root)!r}); from hatchling.build import build_wheel; "
    wheel = python(f"{build}print(build_wheel({str(tmp_path)!r}))").splitlines()[-1]
    with zipfile.ZipFile(tmp_path / wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = f"""
import os, sys
os.chdir({str(tmp_path)!r})
sys.path.insert(0, {str(tmp_path / "site")!r})
import numpy as np
from mip2mcu import Network, export
from mip2mcu.decisions import Argmax
from mip2mcu.export.cost_table import CORES, costs_on
from mip2mcu.layers import Dense
network = Network(np.zeros(2), np.ones(2), (Dense(np.eye(2, dtype=int), [0, 0]),), Argmax(2), ("a", "b"))
print(export.__globals__["__file__"].startswith({str(tmp_path)!r}), *CORES, all(map(costs_on, CORES)))
print(export(network, "avr", "out", "tiny").program.plan.is_priced)
"""
    assert python(code).split() == ["True", "avr", "cortex-m0", "cortex-m4", "rv32ec", "rv32imc", "True", "True"]
