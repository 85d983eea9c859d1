"""mip2mcu: integer neural networks trained by mixed-integer programming, as verified C for microcontrollers.

    from mip2mcu import Dataset, Network, train, export, verify

    data = Dataset.read("train.csv")
    network = train(data, time_limit=60).network
    network.save("digits.json")
    export(network, target="cortex-m", out="digits", name="digits")
    assert verify(network, target="cortex-m", data=data).mismatches == 0

Stages are packages of the same names, `mip2mcu.train`, `mip2mcu.export`, `mip2mcu.verify` and `mip2mcu.certify`. Here
the names are their functions, loaded at first use: exporting and verifying never load a solver.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mip2mcu.dataset import Dataset
from mip2mcu.errors import Mip2mcuError
from mip2mcu.evaluation import Evaluation, evaluate
from mip2mcu.network import Network
from mip2mcu.version import __version__

if TYPE_CHECKING:
    from mip2mcu.certify import certify
    from mip2mcu.export import export
    from mip2mcu.train import train
    from mip2mcu.verify import verify

__all__ = [
    "Dataset", "Evaluation", "Mip2mcuError", "Network", "__version__",
    "certify", "evaluate", "export", "train", "verify",
]  # fmt: skip


class _Stage:
    """The function of a stage, which has the name of its package.

    As a data descriptor it stands before the attribute that Python sets when the package of that name is imported.
    """

    def __set_name__(self, _owner: type, name: str) -> None:
        self.name = name

    def __get__(self, _module: ModuleType, _owner: type) -> Any:
        return getattr(import_module(f"mip2mcu.{self.name}"), self.name)

    def __set__(self, _module: ModuleType, _package: ModuleType) -> None:
        return


class _Package(ModuleType):
    certify = _Stage()
    export = _Stage()
    train = _Stage()
    verify = _Stage()


sys.modules[__name__].__class__ = _Package
