"""Measure frames per second of the JPEG decoder's two methods, and how far their pixels differ.

    python tests/benchmarks/decoding.py [--root FOLDER] [--runs 5]

`--root` is a folder of MARS's layout; without it, frames of the synthetic renderer are decoded.
"""

import argparse
import os
import statistics
import tempfile
import time

import numpy as np

from kreid.data import read_mars
from kreid.synthetic import render_mars

WAYS = ("INTEGER_FAST", "INTEGER_ACCURATE")


def seconds(dataset):
    """Return the seconds of one pass."""
    started = time.perf_counter()
    for _ in dataset:
        pass
    return time.perf_counter() - started


def main():
    """Print both rates, their ratio, and the difference in grey levels of 255."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="folder of MARS's layout")
    parser.add_argument("--frames", type=int, default=4000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    import tensorflow as tf

    def decoded(way):
        frames = tf.data.Dataset.from_tensor_slices(contents)
        return frames.map(lambda jpeg: tf.io.decode_jpeg(jpeg, channels=3, dct_method=way))

    with tempfile.TemporaryDirectory() as scratch:
        root = options.root or render_mars(scratch, progress=False)
        paths = [path for tracklet in read_mars(root).train for path in tracklet.frames][: options.frames]
        contents = tf.stack([tf.io.read_file(path) for path in paths])
    apart = [
        np.abs(one.astype(int) - other).ravel()
        for one, other in zip(*(decoded(way).take(500).as_numpy_iterator() for way in WAYS), strict=True)
    ]
    apart = np.concatenate(apart)
    taken = {way: [] for way in WAYS}
    for _ in range(options.runs):
        for way in WAYS:
            taken[way].append(seconds(decoded(way).batch(64)))
    for way in WAYS:
        print(f"{way}: {len(paths) / statistics.median(taken[way]):,.0f} frames/s")
    ratio = statistics.median(slow / fast for fast, slow in zip(*taken.values(), strict=True))
    print(f"the fast method is {ratio:.2f} times as fast")
    print(
        f"values differ by {apart.mean():.2f} of 255 on average, {apart.max()} at most, {(apart > 0).mean():.0%} differ"
    )


if __name__ == "__main__":
    main()
