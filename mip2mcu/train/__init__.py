"""Training: from a data set to an exact integer network by mixed-integer programming.

trained = train(dataset, "linear", time_limit=60, workers=2)
trained.network, trained.report
"""

from __future__ import annotations

from mip2mcu.train.registry import FORMULATIONS
from mip2mcu.train.run import DEFAULT_TIME_LIMIT, formulation_named, train, write_models
from mip2mcu.train.trained import Trained, TrainingReport

__all__ = [
    "DEFAULT_TIME_LIMIT",
    "FORMULATIONS",
    "Trained",
    "TrainingReport",
    "formulation_named",
    "train",
    "write_models",
]
