"""`make demo` as a stranger runs it, with less time for the solver."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_demo_ends_with_a_proof(tmp_path):
    script = (
        (ROOT / "examples" / "demo.py")
        .read_text(encoding="utf-8")
        .replace('"--time-limit", "45"', '"--time-limit", "10"')
    )
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "digits").symlink_to(ROOT / "examples" / "digits")
    (tmp_path / "examples" / "demo.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "examples/demo.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    summary = done.stdout[done.stdout.index("handwritten digits on a Cortex-M0") :]
    assert re.search(r"accuracy +9[4-9]\.\d\d % of 1,797 digits", summary)
    assert re.search(r"proof +[\d,]+ vectors on the target's instruction set, 0 mismatches", summary)
