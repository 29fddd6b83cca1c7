"""Compare k-reciprocal re-ranking at MARS's size with the usual dense form, each in a separate process.

    python tests/benchmarks/reranking.py [--rounds 3]
    python tests/benchmarks/reranking.py --large

Target: 8 times faster than the dense form in less than a quarter of its memory, equal to 1e-5. The large run has
MSMT17's size, 11,659 queries and 82,161 gallery entries of 512 features, embedded at random around 3,060 persons, and
is scored under every protocol: in less than 4 GiB and 5 minutes.

The dense form ranks distances of float32. Where the distances of two neighbours differ by its rounding alone, they may
change places, and the distances that depend on them differ; the share of these is printed too.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

QUERIES, GALLERY, FEATURES, PERSONS = 1980, 11310, 128, 636
LARGE_QUERIES, LARGE_GALLERY, LARGE_FEATURES, LARGE_PERSONS, LARGE_CAMERAS = 11659, 82161, 512, 3060, 15


def embedded(tracklets, features, persons, seed=0):
    """Return embeddings around a centre for each person, and the persons."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, persons, tracklets)
    centres = random.standard_normal((persons, features), dtype=np.float32)
    noise = random.standard_normal((tracklets, features), dtype=np.float32)
    return centres[labels] + noise, labels


def dense(queries, gallery, k1=20, k2=6, lambda_=0.3):
    """Re-rank with whole matrices: all distances, their argsort, and a row of weights per tracklet, in float32."""
    rows = np.concatenate([queries, gallery])
    squares = np.einsum("nd,nd->n", rows, rows)
    distances = np.maximum(squares[:, None] + squares - 2 * rows @ rows.T, 0)
    np.fill_diagonal(distances, 0)
    distances = distances / distances.max(axis=1, keepdims=True)
    ranking = np.argsort(distances, axis=1).astype(np.int32)
    weights = np.zeros_like(distances)

    def mutual(row, count):
        nearest = ranking[row, :count]
        return nearest[(ranking[nearest, :count] == row).any(axis=1)]

    half = round(k1 / 2) + 1
    for row in range(len(rows)):
        own = mutual(row, k1 + 1)
        members = [own]
        for candidate in own:
            others = mutual(candidate, half)
            if len(np.intersect1d(others, own)) > 2 / 3 * len(others):
                members.append(others)
        members = np.unique(np.concatenate(members))
        kernel = np.exp(-distances[row, members])
        weights[row, members] = kernel / kernel.sum()
    distances = distances[: len(queries)]
    averaged = np.empty_like(weights)
    for row in range(len(rows)):
        averaged[row] = weights[ranking[row, :k2]].mean(axis=0)
    del weights
    holders = [np.flatnonzero(column) for column in averaged.T]
    result = np.empty_like(distances)
    for row in range(len(queries)):
        shared = np.zeros(len(rows), np.float32)
        for column in np.flatnonzero(averaged[row]):
            held = holders[column]
            shared[held] += np.minimum(averaged[row, column], averaged[held, column])
        result[row] = (1 - lambda_) * (1 - shared / (2 - shared)) + lambda_ * distances[row]
    return result[:, len(queries) :]


def measure(form, rounds, path):
    """Print seconds and the process's peak of memory as JSON; save the distances."""
    from kreid.evaluation import evaluate_reranked, rerank_embeddings

    measured = {}
    if form == "large":
        rows, persons = embedded(LARGE_QUERIES + LARGE_GALLERY, LARGE_FEATURES, LARGE_PERSONS)
        cameras = np.random.default_rng(1).integers(0, LARGE_CAMERAS, len(rows))
        start = time.perf_counter()
        scores = evaluate_reranked(rows, persons, cameras, np.arange(LARGE_QUERIES), progress=True)
        times, processor = [time.perf_counter() - start], [time.process_time()]
        measured["map"] = {name: result.map for name, result in scores.items()}
    else:
        rows, _ = embedded(QUERIES + GALLERY, FEATURES, PERSONS)
        function = {"dense": dense, "kreid": rerank_embeddings}[form]
        small, _ = embedded(300, FEATURES, 20)
        function(small[:50], small[50:])  # A warm-up.
        times, processor = [], []
        for _ in range(rounds):
            start, used = time.perf_counter(), time.process_time()
            result = function(rows[:QUERIES], rows[QUERIES:])
            times.append(time.perf_counter() - start)
            processor.append(time.process_time() - used)
        np.save(path, result)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    measured |= {"seconds": statistics.median(times), "processor": statistics.median(processor), "peak": peak}
    print(json.dumps(measured))


def in_a_process(form, rounds=1, path=""):
    """Run `measure` in a separate process and return what it prints."""
    command = [sys.executable, __file__, "--measure", form, "--rounds", str(rounds), "--keep", str(path)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main():
    """Print both sides, the ratios and the largest difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--keep", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure, options.rounds, options.keep)
        return
    if options.large:
        large = in_a_process("large")
        scores = ", ".join(f"{name} mAP {100 * value:.1f}" for name, value in large["map"].items())
        print(f"{LARGE_QUERIES + LARGE_GALLERY} x {LARGE_FEATURES}, scored by blocks: {scores}")
        print(f"{large['seconds']:.0f} s, peak {large['peak'] / 2**30:.2f} GiB (target: 300 and 4)")
        return
    with tempfile.TemporaryDirectory() as folder:
        sides = {form: Path(folder) / f"{form}.npy" for form in ("dense", "kreid")}
        measured = {form: in_a_process(form, options.rounds, path) for form, path in sides.items()}
        difference = np.abs(np.load(sides["dense"]) - np.load(sides["kreid"]))
    for form, figures in measured.items():
        seconds = f"{figures['seconds']:7.2f} s   of processors {figures['processor']:7.2f} s"
        print(f"{form:6s} {seconds}   peak {figures['peak'] / 2**20:6.0f} MiB")
    time_ratio, processor_ratio, memory_ratio = (
        measured["dense"][key] / measured["kreid"][key] for key in ("seconds", "processor", "peak")
    )
    print(f"ratio  {time_ratio:7.2f}     of processors {processor_ratio:7.2f}     memory {memory_ratio:.2f}")
    print("target: 8 in time, 4 in memory")
    print(f"largest difference {difference.max():.1e}; beyond 1e-5: {np.mean(difference > 1e-5):.1e} of the distances")


if __name__ == "__main__":
    main()
