"""Print how well starting weights find persons before any training, by image size and last stride.

    python tests/benchmarks/starting_weights.py ROOT [FILE ...] [--backbone mobilenet_v2] [--sizes 128x64 192x96]

ROOT is a folder of MARS's layout; a FILE is a checkpoint that `kreid convert` takes, whose backbone is found by its
tensors. The embedding is the average of the last maps of all frames, compared by cosine; the scores are those of the
`mars` protocol. The first rows are of random values (`--backbone`, one seed), at the first size alone.
"""

import argparse
import os
from pathlib import Path

PROTOCOL = "mars"


def architecture_of(path):
    """Return the name of the backbone that a checkpoint fits."""
    from kreid import backbones
    from kreid.backbones.checkpoints import LAYOUTS

    refusals = []
    for name in LAYOUTS:
        try:
            backbones.load_checkpoint(backbones.build(name, image_size=(96, 96)), path)
        except ValueError as error:
            refusals.append(f"{name}: {error}")
        else:
            return name
    raise SystemExit("\n".join([f"{path} fits no backbone.", *refusals]))


def scores(tracklets, queries, backbone, size, last_stride, weights):
    """Return rank-1 and mAP in per cent."""
    import keras

    from kreid import backbones, models
    from kreid.evaluation import evaluate_test
    from kreid.gallery import embed_tracklets

    keras.utils.set_random_seed(0)
    network = backbones.build(backbone, image_size=size, last_stride=last_stride, weights=weights)
    model = models.Baseline(network, 2, embedding_from="pooled")
    embeddings = embed_tracklets(model, tracklets, query_rows=queries)
    result = evaluate_test(embeddings)[PROTOCOL]
    keras.backend.clear_session()
    return 100 * result.cmc[1], 100 * result.map


def image_size(text):
    """Return `(height, width)` of text such as `128x64`."""
    height, width = text.split("x")
    return int(height), int(width)


def main(argv=None):
    """Print a table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", metavar="ROOT")
    parser.add_argument("files", metavar="FILE", nargs="*", type=Path)
    parser.add_argument("--backbone", default="mobilenet_v2", help="of the random values")
    parser.add_argument("--sizes", nargs="+", type=image_size, default=[(128, 64), (192, 96), (256, 128)])
    options = parser.parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from kreid.data import read_mars

    dataset = read_mars(options.root)
    print("| weights | backbone | frames | last stride | rank-1 | mAP |\n|---|---|---|---|---|---|")
    for file in (None, *options.files):
        backbone = options.backbone if file is None else architecture_of(file)
        for size in options.sizes[:1] if file is None else options.sizes:
            for last_stride in (2, 1):
                rank1, mean_ap = scores(dataset.test, dataset.query_rows, backbone, size, last_stride, file)
                print(
                    f"| {'random values' if file is None else file.name} | {backbone} | {size[0]}x{size[1]} | "
                    f"{last_stride} | {rank1:.1f} | {mean_ap:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
