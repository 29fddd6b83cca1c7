"""Measure the synthetic renderer's frames per second on one core, with drawing, JPEG and writing.

The process is pinned to one core and renders a small tree several times; the median is compared with 1,000 frames/s.
Time is wall time; CPU time is printed next to it, for a shared machine. The trees are removed at the
end only: ext4 is slow (0.5 ms a file) to make files for minutes after many were deleted. For the same reason run it
in a quiet folder: `TMPDIR=/dev/shm` leaves the disk out.

    python tests/benchmarks/rendering.py [--runs 5] [--persons 60]
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from kreid.synthetic import render_mars

TARGET = 1000


def main():
    """Print the rate of every run and their median."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--persons", type=int, default=60, help="train persons of one run")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    walls, cpus = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for run in range(options.runs):
            wall, cpu = time.perf_counter(), time.process_time()
            root = render_mars(
                Path(scratch, str(run)), train_persons=options.persons, test_persons=5, seed=run, progress=False
            )
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            frames = sum(len(Path(root, "info", f"{s}_name.txt").read_text().splitlines()) for s in ("train", "test"))
            walls.append(frames / wall)
            cpus.append(frames / cpu)
            print(f"run {run + 1}: {frames} frames, {walls[-1]:.0f} frames/s, {cpus[-1]:.0f} per CPU second")
    rate, cpu_rate = statistics.median(walls), statistics.median(cpus)
    print(f"median: {rate:.0f} frames/s on one core ({cpu_rate:.0f} per CPU second)")
    print(f"ratio to the target of {TARGET}: {rate / TARGET:.2f}")


if __name__ == "__main__":
    main()
