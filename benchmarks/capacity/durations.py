"""How long an import job takes: AWS publishes nothing, so these are assumptions, far apart from one another.

Enters: the name of a job, the files in it. Leaves: seconds, the same for the same name. Never: a figure measured on AWS.
"""

import math
import random
from typing import NamedTuple

from benchmarks.capacity.workflow import Duration


class Model(NamedTuple):
    """A model of the duration."""

    name: str
    description: str
    duration: Duration


def fixed(seconds: float) -> Duration:
    """Every job takes this long, whatever is in it."""
    return lambda name, files: seconds


def linear(base_s: float, per_file_s: float) -> Duration:
    """A job takes a time of its own, and some for each file."""
    return lambda name, files: base_s + per_file_s * files


def ragged(median_of: Duration, sigma: float) -> Duration:
    """Log-normal around another model: one job in a hundred takes exp(2.33 sigma) times its median."""
    return lambda name, files: median_of(name, files) * math.exp(random.Random(name).gauss(0, sigma))


MODELS = (
    Model("fixed", "60 s for every job", fixed(60)),
    Model("linear", "30 s and 0.1 s for each file: 60 s for 300", linear(30, 0.1)),
    Model("slow", "60 s and 0.5 s for each file: 210 s for 300", linear(60, 0.5)),
    Model("ragged", "log-normal around linear, sigma 1: one in a hundred takes ten times as long", ragged(linear(30, 0.1), 1.0)),
)
