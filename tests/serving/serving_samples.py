"""Made-up tracklets for the serving tests."""

import io

import numpy as np
from PIL import Image

IMAGE_SIZE = (64, 32)


def encode(array, kind="JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


def random_tracklet(seed, frames, size=IMAGE_SIZE):
    return np.random.default_rng(seed).integers(0, 256, (frames, *size, 3), dtype=np.uint8)
