"""The same network gives the same C and the same evidence, wherever, whenever and in whatever language it is made."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import require

SCRIPT = """
import hashlib, locale, pathlib, sys, time
from mip2mcu.export import export
from mip2mcu.verify import evidence, verify
from tests.test_probing import NETWORKS
from tests.verify_support import binary_quantized_network, quantized_network, vote_network

locale.setlocale(locale.LC_ALL, "")
folder = pathlib.Path(sys.argv[1])
networks = [quantized_network(), binary_quantized_network(), vote_network(), NETWORKS["bits"]]
for number, network in enumerate(networks):
    for target in ("cortex-m", "avr", "generic"):
        export(network, target, folder / f"{target}{number}", "model", layout="unrolled" if number == 3 else None)
reports = [verify(networks[0], "host", vectors=300), verify(networks[0], "host", vectors=300, toolchain="gcc")]
evidence.write_documents([folder / "evidence.json", folder / "evidence.md"], reports)
for path in sorted(folder.rglob("*.*")):
    print(path.relative_to(folder), hashlib.sha256(path.read_bytes()).hexdigest())
"""

PLACES = {
    "here": {},
    "another language and time zone": {"LC_ALL": "de_DE.UTF-8", "LANGUAGE": "de", "TZ": "Pacific/Chatham"},
    "another encoding and order of sets": {
        "LC_ALL": "POSIX",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONHASHSEED": "12345",
    },
}


def made_in(place, folder):
    """Digest of every file that the script writes."""
    variables = dict(PLACES[place])
    if "de_DE" in variables.get("LC_ALL", "") and "de_DE.utf8" not in _locales():
        variables["LC_ALL"] = "C.UTF-8"
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONHASHSEED": "0", **variables}
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def _locales():
    return subprocess.run(["locale", "-a"], capture_output=True, text=True, check=False).stdout.split()


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """The folder of what was made here, and its digests."""
    require(shutil.which("gcc"), "gcc is not installed")
    folder = tmp_path_factory.mktemp("home") / "out"
    return folder, made_in("here", folder)


@pytest.mark.parametrize("place", [place for place in PLACES if place != "here"])
def test_the_same_bytes_come_out_in(place, here, tmp_path):
    assert made_in(place, tmp_path / "another folder, with blanks and ü") == here[1]
    assert len(here[1]) == 4 * 3 * 3 + 2


def test_no_file_names_a_place(here):
    folder, _ = here
    words = [str(folder), str(folder.parent), str(Path.home()), str(Path(__file__).parents[1]), "/tmp/"]
    texts = {path: path.read_text(encoding="utf-8") for path in folder.rglob("*.*")}
    assert [(path, word) for path, text in texts.items() for word in words if word in text] == []
