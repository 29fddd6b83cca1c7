"""The size of the frames that `make_tracklets` writes, and where a read frame comes from."""

import numpy as np

SIZE = (24, 12)


def sources(frames):
    """Return (person, tracklet, time) of every frame, from its shade of grey."""
    shade = np.rint(frames.mean(axis=(-3, -2, -1))).astype(int)
    assert np.abs(frames.astype(int) - shade[..., None, None, None]).max() <= 2
    return shade // 32, shade // 8 % 4, shade % 8
