"""Tiny trees of JPEG frames, drawn again for every test."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pipeline_samples import SIZE

from kreid.data.tracklet import Tracklet


def _write_frame(path, seed=0, size=SIZE, colour=None):
    """Write one JPEG: noise of a seed, or a plain colour that compression does not change."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    if colour is not None:
        pixels[:] = colour
    Image.fromarray(pixels).save(path, "JPEG", quality=95, subsampling=0)
    return str(path)


def _truncate(path):
    """Cut a file in half."""
    contents = Path(path).read_bytes()
    Path(path).write_bytes(contents[: len(contents) // 2])


@pytest.fixture
def write_frame():
    """Function: writes one JPEG."""
    return _write_frame


@pytest.fixture
def truncate():
    """Function: cuts a file in half."""
    return _truncate


@pytest.fixture
def make_tracklets(tmp_path):
    """Function: persons, tracklets per person, frames per tracklet -> list of `Tracklet`.

    Frame t of tracklet k of person p is grey of the value `8 * (4 * p + k) + t`, so that a picture tells where it
    comes from.
    """

    def make(persons=4, tracklets=2, frames=6, size=SIZE):
        return [
            Tracklet(
                id=f"train/{person}/{number}",
                person=10 * person + 10,
                camera=number % 3 + 1,
                frames=tuple(
                    _write_frame(
                        tmp_path / f"{person}/{number}/{time}.jpg",
                        size=size,
                        colour=8 * (4 * person + number) + time,
                    )
                    for time in range(frames)
                ),
            )
            for person in range(persons)
            for number in range(tracklets)
        ]

    return make
