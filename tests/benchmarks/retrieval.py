"""CMC and mAP of a matrix of MARS's size beside `np.argsort` of the same matrix.

    python tests/benchmarks/retrieval.py [--rounds 5]

To reach: at most 0.6 of the time of argsort, and less than 64 MiB beyond the matrix.
"""

import argparse
import statistics
import time
import tracemalloc

import numpy as np

from kreid.evaluation import evaluate

QUERIES, GALLERY, PERSONS, DISTRACTORS, CAMERAS = 1980, 11310, 636, 3248, 6


def matrix(seed=0):
    """Returns distances and labels with MARS's counts; matches are nearer than the rest, but not all."""
    random = np.random.default_rng(seed)
    gallery_persons = np.concatenate(
        [np.zeros(DISTRACTORS, int), random.integers(1, PERSONS + 1, GALLERY - DISTRACTORS)]
    )
    random.shuffle(gallery_persons)
    gallery_cameras = random.integers(0, CAMERAS, GALLERY)
    query_persons = random.integers(1, PERSONS + 1, QUERIES)
    query_cameras = random.integers(0, CAMERAS, QUERIES)
    distances = random.random((QUERIES, GALLERY), dtype=np.float32)
    distances += query_persons[:, None] != gallery_persons[None, :]
    distances += random.random((QUERIES, GALLERY), dtype=np.float32)
    return distances, query_persons, query_cameras, gallery_persons, gallery_cameras


def seconds(function):
    """Returns the seconds that one call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main():
    """Prints both sides, the ratio and the peak of memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    arguments = matrix()

    sides = {"np.argsort": lambda: np.argsort(arguments[0], axis=1)}
    for form in ("standard", "trapezoidal"):
        sides[f"evaluate, {form}"] = lambda form=form: evaluate(*arguments, average_precision=form)
    times = {name: [] for name in sides}
    for round_number in range(rounds + 1):
        for name, function in sides.items():
            taken = seconds(function)
            if round_number:  # The first is a warm-up.
                times[name].append(taken)
    baseline = statistics.median(times["np.argsort"])
    for name, taken in times.items():
        print(f"{name:24s} {statistics.median(taken):7.3f} s   ratio {statistics.median(taken) / baseline:.3f}")

    tracemalloc.start()
    evaluate(*arguments)
    print(f"peak beyond the matrix   {tracemalloc.get_traced_memory()[1] / 2**20:7.1f} MiB")


if __name__ == "__main__":
    main()
