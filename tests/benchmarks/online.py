"""Compare one more frame of a growing tracklet with embedding the whole tracklet again, for each system.

    python tests/benchmarks/online.py [--frames 8 32 128] [--runs 5] [--backbone resnet50] [--size 256 128]

One side adds a frame to a `kreid.models.OnlineTracklet` and asks for the embedding, the other calls `model.embed` with
all frames, the new one included. Random weights; both sides get the same frames and take turns. Prints medians, the
median of the ratios, the largest difference of the two embeddings, and the kept bytes.
"""

import argparse
import time

import numpy as np

from kreid import backbones, models

# The system, and the last stride of its recipe.
SYSTEMS = {
    "Baseline": (models.Baseline, 1),
    "GLTR": (models.GLTR, 2),
    "TACAN": (models.TACAN, 2),
    "STA": (models.STA, 1),
    "MG-RAFA": (models.MGRAFA, 1),
    "RTF": (models.RTF, 2),
}


def timed(function):
    """Return the seconds of a call, and its result."""
    started = time.perf_counter()
    result = function()
    return time.perf_counter() - started, result


def measure(model, count, runs):
    """Return the seconds of both sides for each run, the largest relative difference, and the kept bytes."""
    frames = np.random.default_rng(0).integers(0, 256, (count + runs, *model.image_size, 3)).astype("uint8")
    # A tracklet in the midst of its growth: near `max_frames` some choices need no new frame.
    tracklet = models.OnlineTracklet(model, max_frames=4 * (count + runs), settle_frames=1)
    tracklet.add(frames[: count - 1])

    def one_more(frame):
        tracklet.add(frame)
        return tracklet.embedding()

    seconds, difference = [], 0.0
    for run in range(runs + 1):
        length = count + run
        online, found = timed(lambda length=length: one_more(frames[length - 1]))
        again, expected = timed(lambda length=length: model.embed(frames[None, :length])[0])
        difference = max(difference, float(np.abs(found - expected).max() / np.abs(expected).max()))
        if run:  # The first is a warm-up.
            seconds.append((online, again))
    return np.array(seconds), difference, tracklet.nbytes


def main(argv=None):
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[8, 32, 128], help="frames of the tracklet")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--size", type=int, nargs=2, default=[256, 128], help="height and width of the frames")
    options = parser.parse_args(argv)
    for name, (system, last_stride) in SYSTEMS.items():
        backbone = backbones.build(options.backbone, image_size=tuple(options.size), last_stride=last_stride)
        model = system(backbone, 2)
        for count in options.frames:
            seconds, difference, kept = measure(model, count, options.runs)
            online, again = np.median(seconds, axis=0)
            ratio = np.median(seconds[:, 0] / seconds[:, 1])
            print(
                f"{name:9s}{count:4d} frames: one more {1000 * online:8.1f} ms, all again {1000 * again:8.1f} ms, "
                f"ratio {ratio:.3f}, difference {difference:.1e}, kept {kept / 2**20:.1f} MiB",
                flush=True,
            )


if __name__ == "__main__":
    main()
