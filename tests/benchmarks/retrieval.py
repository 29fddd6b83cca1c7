"""Compare CMC and mAP with a lower bound on their time: a sort of the matrix, and the product of the embeddings.

    python tests/benchmarks/retrieval.py [--rounds 5]
    python tests/benchmarks/retrieval.py --embeddings [--rounds 1] [--queries 3000] [--gallery 100000]

The first scores a matrix of MARS's size and runs `np.argsort` on the same matrix. Target: at most 0.6 of its time, and
less than 64 MiB beyond the matrix.

The second scores embeddings of 512 values and takes their float32 product block by block. Target: at most 5 times its
time, and less than 1 GiB, the embeddings not counted.
"""

import argparse
import statistics
import time
import tracemalloc

import numpy as np

from kreid.evaluation import evaluate, evaluate_embeddings

QUERIES, GALLERY, PERSONS, DISTRACTORS, CAMERAS = 1980, 11310, 636, 3248, 6
FEATURES = 512


def matrix(seed=0):
    """Return distances and labels with MARS's counts; matches are nearer than the rest, but not all."""
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


def embeddings(queries, gallery, seed=0):
    """Return the arguments of `evaluate_embeddings`: some 25 matches per query, of which some are far."""
    random = np.random.default_rng(seed)
    count = max(1, gallery // 30)
    centres = random.standard_normal((count, FEATURES), dtype=np.float32)
    arguments = []
    for rows in (queries, gallery):
        persons = random.integers(1, count + 1, rows)
        vectors = random.standard_normal((rows, FEATURES), dtype=np.float32)
        vectors *= random.uniform(0.5, 4, (rows, 1)).astype(np.float32)
        vectors += centres[persons - 1]
        arguments += [vectors, persons, random.integers(0, CAMERAS, rows)]
    return arguments


def product(queries, gallery, rows=256):
    """Take the product alone, in portions whose results are dropped."""
    for start in range(0, len(queries), rows):
        queries[start : start + rows] @ gallery.T


def seconds(function):
    """Return the seconds that one call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def compare(sides, rounds):
    """Print the median time of each function and its ratio to the first."""
    times = {name: [] for name in sides}
    for round_number in range(rounds + 1):
        for name, function in sides.items():
            taken = seconds(function)
            if round_number:  # The first is a warm-up.
                times[name].append(taken)
    baseline = statistics.median(next(iter(times.values())))
    for name, taken in times.items():
        print(f"{name:24s} {statistics.median(taken):7.3f} s   ratio {statistics.median(taken) / baseline:.3f}")


def peak(function):
    """Return the peak of memory of one call in MiB, without its arguments."""
    tracemalloc.start()
    function()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most / 2**20


def main():
    """Print both sides, the ratio and the peak of memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--embeddings", action="store_true")
    parser.add_argument("--queries", type=int, default=3000)
    parser.add_argument("--gallery", type=int, default=100_000)
    options = parser.parse_args()

    if options.embeddings:
        arguments = embeddings(options.queries, options.gallery)
        compare(
            {
                "product, float32": lambda: product(arguments[0], arguments[3]),
                "evaluate_embeddings": lambda: evaluate_embeddings(*arguments),
            },
            options.rounds,
        )
        print(f"peak                     {peak(lambda: evaluate_embeddings(*arguments)):7.1f} MiB")
        return

    arguments = matrix()
    sides = {"np.argsort": lambda: np.argsort(arguments[0], axis=1)}
    for form in ("standard", "trapezoidal"):
        sides[f"evaluate, {form}"] = lambda form=form: evaluate(*arguments, average_precision=form)
    compare(sides, options.rounds)
    print(f"peak beyond the matrix   {peak(lambda: evaluate(*arguments)):7.1f} MiB")


if __name__ == "__main__":
    main()
