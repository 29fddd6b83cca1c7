"""Print what majority pooling wins back in long tracklets: all tracklets of a person in a camera, joined.

    python tests/benchmarks/long_tracklets.py ROOT MODEL [--frames 64] [--kinds another_person] [--seed 0]
                                             [--threshold 0.25]

ROOT is a data set in any layout that kreid reads, MODEL a run or a model of the system baseline. The tracklets of a
person in a camera are one after the other in a joined one, which is thinned evenly to `--frames`; those of unknown
persons stay as they are. Scores are those of the `mars` protocol, with 3 bad frames of 8, the same draw for all lines;
`closed` is the share of the gap between average pooling and the average of the good frames alone.
"""

import argparse
import dataclasses
from collections import defaultdict

import numpy as np

PROTOCOL, BAD = "mars", 3


def joined(dataset):
    """Return a data set of joined test tracklets."""
    from kreid.data.tracklet import DISTRACTOR

    groups = defaultdict(list)
    for row, tracklet in enumerate(dataset.test):
        key = row if tracklet.person <= DISTRACTOR else (tracklet.person, tracklet.camera)
        groups[key].append(row)
    test, queries, asked = [], [], set(dataset.query_rows)
    for rows in groups.values():
        whole = tuple(frame for row in rows for frame in dataset.test[row].frames)
        if asked.intersection(rows):
            queries.append(len(test))
        test.append(dataclasses.replace(dataset.test[rows[0]], frames=whole))
    return dataclasses.replace(dataset, test=tuple(test), query_rows=tuple(queries))


def main(argv=None):
    """Print a table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", metavar="ROOT")
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--kinds", nargs="+", default=["another_person", "other_persons", "covered"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threshold", type=float, default=0.25, help="of majority pooling")
    options = parser.parse_args(argv)

    import kreid
    from kreid.data.readers import read_dataset
    from kreid.evaluation import evaluate_bad_frames

    dataset, model = joined(read_dataset(options.root)), kreid.load_model(options.model)
    lengths = [min(options.frames, len(one)) for one in dataset.test if one.person > 0]
    print(
        f"{len(lengths)} tracklets of {min(lengths)} to {max(lengths)} frames, mean {np.mean(lengths):.1f}", flush=True
    )
    lines = {
        pooling: evaluate_bad_frames(
            model.with_pooling(pooling, pooling_threshold=options.threshold),
            dataset,
            kinds=options.kinds,
            counts=[BAD],
            seed=options.seed,
            most_frames=options.frames,
            progress=False,
        )
        for pooling in ("agreement", "majority")
    }
    for agreement, majority in zip(lines["agreement"].scores, lines["majority"].scores, strict=True):
        values = {
            "average": majority.average,
            "agreement": agreement.model,
            "majority": majority.model,
            "oracle": majority.oracle,
        }
        maps = ", ".join(f"{name} {100 * result[PROTOCOL].map:.1f}" for name, result in values.items())
        closed = majority.gap_closed(PROTOCOL)
        print(f"{majority.kind:16s} {maps}{'' if closed is None else f', closed {closed:.0%}'}", flush=True)


if __name__ == "__main__":
    main()
