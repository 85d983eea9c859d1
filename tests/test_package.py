"""What `import mip2mcu` offers."""

from __future__ import annotations

import subprocess
import sys


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
