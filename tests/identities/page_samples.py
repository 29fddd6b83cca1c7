"""Tracklets with pictures, and names that HTML and scripts would interpret."""

import io

import numpy as np
from PIL import Image

from kreid.gallery import TrackletEmbeddings
from kreid.identities import link_tracklets

HOSTILE = "</script><img src=x onerror=document.title='run'>&"
# Id, camera, first and last frame, place on a line.
TRACKLETS = [
    ("hall-1", "hall", 1, 40, 0.0),
    ("hall-2", "hall", 20, 60, 3.0),
    ("hall-3", "hall", 70, 90, 0.3),
    (f"door-4{HOSTILE}", HOSTILE, 5, 30, 0.1),
    (f"door-5{HOSTILE}", HOSTILE, 40, 70, 4.2),
    ("gate-6", "gate", 1, 9, 9.0),
]
# With the threshold 1: the first person has rows 0, 2 and 3; the nearest others are rows 1 and 4, at 1.2.
PERSONS = [1, 2, 1, 1, 3, 4]


def record():
    ids, cameras, first, last, places = zip(*TRACKLETS, strict=True)
    names = list(dict.fromkeys(cameras))
    return TrackletEmbeddings(
        [[place] for place in places],
        list(ids),
        [0] * len(ids),
        [names.index(camera) for camera in cameras],
        sources=list(cameras),
        tags=tuple(
            {"track": str(row), "camera": camera, "first_frame": str(start), "last_frame": str(end)}
            for row, (camera, start, end) in enumerate(zip(cameras, first, last, strict=True))
        ),
    )


def linked(embeddings):
    return link_tracklets(
        embeddings,
        [start for _, _, start, _, _ in TRACKLETS],
        [end for *_, end, _ in TRACKLETS],
        threshold=1.0,
        calibration={"scale": 4.0, "offset": 4.0, "prior": 0.5},
    )


def pictures(embeddings):
    def jpeg(row):
        content = io.BytesIO()
        Image.fromarray(np.full((96, 192, 3), 40 * row, np.uint8)).save(content, "JPEG")
        return content.getvalue()

    return {name: jpeg(row) for row, name in enumerate(embeddings.ids.tolist())}
