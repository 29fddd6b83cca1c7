"""Cost of a table's rows: multiplications, and measured speed side by side."""

import statistics
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kreid.models.cost import count_macs

if TYPE_CHECKING:
    from kreid.models import TrackletModel

# A tracklet of MARS-like length, and how often each row embeds a batch of them.
FRAMES = 8
TRACKLETS = 8
ROUNDS = 7


class RowCost(NamedTuple):
    """Cost of embedding a tracklet of 8 frames, of which a row may select fewer.

    Args:
        gmac: 10^9 multiply-accumulate operations, see `kreid.models.count_macs`.
        frames_per_second: frames embedded per second, the median over rounds.
    """

    gmac: float
    frames_per_second: float


def measure_costs(models: Mapping[str, "TrackletModel"]) -> dict[str, RowCost]:
    """Count and time models side by side.

    In each of several rounds every model embeds the same batch once, so that what else the machine does meets all
    models alike.

    Args:
        models: by name.

    Returns:
        A dict from the name to its `RowCost`.
    """
    seconds: dict[str, list[float]] = {name: [] for name in models}
    random = np.random.default_rng(0)
    batches = {
        name: random.integers(0, 256, (TRACKLETS, FRAMES, *model.image_size, 3), dtype=np.uint8)
        for name, model in models.items()
    }
    for number in range(ROUNDS + 1):
        for name, model in models.items():
            started = time.perf_counter()
            model.embed(batches[name])
            if number:  # The first round traces the graphs.
                seconds[name].append(time.perf_counter() - started)
    return {
        name: RowCost(
            gmac=count_macs(model, FRAMES) / 1e9,
            frames_per_second=TRACKLETS * min(model.test_frames or FRAMES, FRAMES) / statistics.median(seconds[name]),
        )
        for name, model in models.items()
    }
