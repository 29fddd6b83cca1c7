"""Measure exported files of other runtimes beside the SavedModel: rank-1, mAP and speed, in one run.

    python tests/benchmarks/runtimes.py RUN --data DIR [--formats onnx litert:int8]

Each format, with its precision after a colon, is exported from the run's model and embeds the test set of --data, read
once. Printed for each are the size of the file, rank-1 and mAP, the largest relative difference of an embedding to the
SavedModel's, and the median milliseconds to embed one tracklet of 8 frames, with the ratio of the SavedModel's time to
its own (more than 1: faster). Without --data only sizes and speeds. Rounds of all sides alternate.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import kreid
from kreid._quiet import import_tensorflow
from kreid.runs import FinishedRun
from kreid.runtimes import FORMATS, export

EVERY = ["saved_model", *(f"{name}:{precision}" for name in FORMATS for precision in FORMATS[name].precisions)]


def opened(model, sides, folder):
    """Export the model to each side; return the opened exports by side."""
    found = {}
    for side in sides:
        form, _, precision = side.partition(":")
        try:
            if form == "saved_model":
                path = kreid.serving.export_model(model, folder / side, warmup=False)
            else:
                path = export(model, folder / side, form, precision=precision or "float32")
        except (ValueError, ImportError) as error:
            print(f"{side}: {error}")
            continue
        found[side] = kreid.load_export(path)
    return found


def megabytes(exported):
    """Return the size of an export."""
    folder = exported.path if exported.path.is_dir() else exported.path.parent
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20


def seconds(exports, rounds):
    """Return the median seconds to embed a tracklet of 8 frames, by side."""
    size = next(iter(exports.values())).image_size
    frames = np.random.default_rng(0).integers(0, 256, (1, 8, *size, 3)).astype("uint8")
    times = {side: [] for side in exports}
    for number in range(rounds + 2):  # The first two are not counted.
        for side, exported in exports.items():
            started = time.perf_counter()
            exported.embed(frames)
            if number > 1:
                times[side].append(time.perf_counter() - started)
    return {side: statistics.median(values) for side, values in times.items()}


def difference(embeddings, reference):
    """Return the largest relative difference of an embedding."""
    norms = np.linalg.norm(reference, axis=1)
    return np.max(np.linalg.norm(embeddings - reference, axis=1) / norms)


def main():
    """Print a line for each side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run's folder, or a .keras file")
    parser.add_argument("--data", type=Path, help="a data set in any known layout")
    parser.add_argument("--formats", nargs="+", default=EVERY, help="default: all")
    parser.add_argument("--protocol", default="mars", help="of the scores (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    import_tensorflow()
    model = FinishedRun(options.run).model if options.run.is_dir() else kreid.load_model(options.run, compile=False)
    sides = ["saved_model", *(side for side in options.formats if side != "saved_model")]
    dataset = None if options.data is None else kreid.data.read_dataset(options.data)
    with tempfile.TemporaryDirectory() as folder:
        exports = opened(model, sides, Path(folder))
        medians = seconds(exports, options.rounds)
        reference = None
        for side, exported in exports.items():
            line = f"{side:<18} {megabytes(exported):7.1f} MB"
            if dataset is not None:
                protocols, embedded = kreid.evaluation.evaluate_model(exported, dataset, progress=False)
                reference = embedded.embeddings if reference is None else reference
                result = protocols[options.protocol]
                line += f"  rank-1 {100 * result.cmc[1]:6.2f}  mAP {100 * result.map:6.2f}"
                line += f"  difference {difference(embedded.embeddings, reference):.1e}"
            ratio = medians["saved_model"] / medians[side]
            print(f"{line}  {1000 * medians[side]:8.1f} ms  {ratio:5.2f} x SavedModel", flush=True)


if __name__ == "__main__":
    main()
