"""From data to verified C: trains on the handwritten digits, exports for any Cortex-M, verifies, sums up.

Run by `make demo`; every step is the command that it prints. Results land in build/demo.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "build" / "demo"
SHADES = " .:-=+*#%@"


def announce(*arguments: str) -> list[str]:
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    print(f"\n{bold}$ mip2mcu {' '.join(arguments)}{plain}", flush=True)
    return [sys.executable, "-m", "mip2mcu", *arguments]


def mip2mcu(*arguments: str) -> None:
    subprocess.run(announce(*arguments), cwd=ROOT, check=True)


def answer(*arguments: str) -> dict:
    done = subprocess.run([*announce(*arguments), "--json"], cwd=ROOT, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def picture(path: Path, row: int) -> list[str]:
    with path.open(newline="") as stream:
        cells = list(csv.DictReader(stream))[row]
    pixels = [int(cells[f"r{r}c{c}"]) for r in range(8) for c in range(8)]
    lines = ["".join(2 * SHADES[min(9, p * 10 // 17)] for p in pixels[8 * r : 8 * r + 8]) for r in range(8)]
    return [*lines, f"labelled {cells['label']}".center(16)]


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    train, test = "examples/digits/train.csv", "examples/digits/test.csv"
    model, folder = "build/demo/digits.json", "build/demo/digits"
    workers = str(min(4, os.cpu_count() or 1))
    began = time.monotonic()
    print("Handwritten digits, 8 x 8 pixels, by 43 writers:\n")
    for line in zip(*(picture(ROOT / test, row) for row in (0, 3, 4, 12)), strict=True):
        print("    " + "    ".join(line))
    mip2mcu(
        "train",
        train,
        "--test",
        test,
        "--out",
        model,
        "--weight-bound",
        "1",
        "--time-limit",
        "45",
        "--workers",
        workers,
    )
    mip2mcu("export", model, "--target", "cortex-m", "--out", folder)
    mip2mcu("verify", model, "--source", folder, "--data", test, "--target", "host")
    report = answer("verify", model, "--source", folder, "--data", test, "--target", "cortex-m")
    evaluation = answer("evaluate", model, test)
    instructions, stack = report["instructions"], report["stack_bytes"]
    print(f"""
    handwritten digits on a Cortex-M0, from data to verified C in {time.monotonic() - began:.0f} s

      accuracy     {100 * evaluation["accuracy"]:.2f} % of {evaluation["rows"]:,} digits by writers unknown to training
      flash        {report["flash_bytes"]:,} bytes of code and tables
      RAM          {report["ram_bytes"]} bytes static, {stack["predict"]} bytes of stack
      inference    {instructions["predict"]["max"]:,} instructions
      quantizing   {instructions["quantize"]["max"]:,} instructions
      proof        {report["vectors"]:,} vectors on the target's instruction set, {report["mismatches"]} mismatches

    Add {folder}/digits.h and digits.c to a firmware; call digits_quantize and digits_predict.
    The generated code is yours to use without conditions.""")


if __name__ == "__main__":
    main()
