"""Measure how far colours alone get on the synthetic test set, next to a trained model.

Renders the default set (or takes ROOT) and prints rank-1 and mAP of a colour histogram and of the mean colour
under the cross-camera protocol; both must stay under 40% rank-1. `--model PATH.keras` adds a trained model.

    python tests/benchmarks/synthetic_difficulty.py [ROOT] [--model PATH.keras] [--seed 0]
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from kreid.data.readers import read_mars
from kreid.evaluation.retrieval import evaluate
from kreid.synthetic import render_mars

LIMIT = 0.40


def main(arguments=None):
    """Print one line per matcher; exit 1 when colour alone passes the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?", help="a MARS tree; default: render the default test set")
    parser.add_argument("--model", help="a trained model, as saved by model.save")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        root = options.root or render_mars(Path(scratch, "mars"), seed=options.seed)
        dataset = read_mars(root)
        queries, gallery = dataset.queries, dataset.gallery()
        persons = {t.person for t in queries}
        print(
            f"{root}: {len(persons)} persons, {len(queries)} queries, {len(gallery)} gallery tracklets, "
            f"{sum(map(len, dataset.test))} test frames"
        )
        colours = [describe(t.frames) for t in (*queries, *gallery)]
        histograms = np.array([c[0] for c in colours])
        means = np.array([c[1] for c in colours])
        worst = max(
            report("colour histogram, chi-square", chi_square(histograms, len(queries)), queries, gallery),
            report("colour histogram, L1", manhattan(histograms, len(queries)), queries, gallery),
            report("mean RGB", manhattan(means, len(queries)), queries, gallery),
        )
        if options.model:
            report(f"model {options.model}", model_distances(options.model, queries, gallery), queries, gallery)
    if worst >= LIMIT:
        raise SystemExit(f"colour alone reaches {worst:.1%} rank-1; the limit is {LIMIT:.0%}")


def describe(frames):
    """Return the histogram of 8 x 8 x 8 colours of the upper and lower half, and the mean colour, over the frames."""
    histogram, mean = np.zeros((2, 512)), np.zeros(3)
    for path in frames:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        mean += pixels.mean(axis=(0, 1))
        bins = (pixels >> 5).astype(int) @ (64, 8, 1)
        for half, part in enumerate(np.array_split(bins, 2)):
            histogram[half] += np.bincount(part.ravel(), minlength=512) / part.size
    return histogram.ravel() / len(frames), mean / len(frames)


def chi_square(vectors, queries):
    """Return chi-square distances `[queries, gallery]`."""
    gallery = vectors[queries:]
    return np.stack([((q - gallery) ** 2 / (q + gallery + 1e-12)).sum(axis=1) for q in vectors[:queries]])


def manhattan(vectors, queries):
    """Return L1 distances `[queries, gallery]`."""
    return np.stack([np.abs(q - vectors[queries:]).sum(axis=1) for q in vectors[:queries]])


def model_distances(path, queries, gallery):
    """Return distances of a trained model's embeddings, in its metric."""
    import keras

    import kreid.models  # noqa: F401 - registers the classes of the saved model
    from kreid.distances import distance_matrix
    from kreid.gallery import embed_tracklets

    model = keras.models.load_model(path)
    vectors = embed_tracklets(model, (*queries, *gallery)).embeddings
    return distance_matrix(vectors[: len(queries)], vectors[len(queries) :], metric=model.metric)


def report(name, distances, queries, gallery):
    """Print and return rank-1 under the cross-camera protocol."""
    result = evaluate(
        distances,
        np.array([t.person for t in queries]),
        np.array([t.camera for t in queries]),
        np.array([t.person for t in gallery]),
        np.array([t.camera for t in gallery]),
    )
    print(f"{name:32s} rank-1 {result.cmc[1]:6.1%}  mAP {result.map:6.1%}  ({result.num_valid} queries)")
    return result.cmc[1]


if __name__ == "__main__":
    main()
