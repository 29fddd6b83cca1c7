"""Print whether a model's attention looks where a rendered person is visible.

    kreid synthetic ROOT
    python tests/benchmarks/rendered_attention.py ROOT RUN [RUN ...] [--frames 8]

ROOT is a rendering, in which the visible share of the person is known in each frame, RUN a run of any system whose
attention weights frames. Tracklets are thinned evenly to `--frames`. *Occluded* tracklets are those whose visible share
differs by 0.3 or more between frames. For them:

- rho: Spearman's correlation of a tracklet's weights with the visible shares of its frames, the mean over tracklets,
  and the share of tracklets in which it is above 0. Weights are those of the model's first attention over frames,
  added up over its other axes, such as stripes or positions.
- mAP (`mars`) of the occluded queries, with the model's weights and with equal ones, and the paired 95% interval of the
  difference over queries.
"""

import argparse
import dataclasses
import pathlib

import numpy as np

PROTOCOL, RANGE = "mars", 0.3


def main(argv=None):
    """Print a line for each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", metavar="ROOT")
    parser.add_argument("runs", metavar="RUN", nargs="+")
    parser.add_argument("--frames", type=int, default=8)
    options = parser.parse_args(argv)

    import kreid
    from kreid.data.clips import evenly
    from kreid.data.readers import read_mars

    dataset = read_mars(options.root)
    test = [
        dataclasses.replace(one, frames=tuple(one.frames[i] for i in evenly(len(one), options.frames)))
        for one in dataset.test
    ]
    dataset = dataclasses.replace(dataset, test=tuple(test))
    by_name = kreid.synthetic.visible_shares(options.root)
    shares = {one.id: np.array([by_name[pathlib.Path(frame).name] for frame in one.frames]) for one in test}
    occluded = {id for id, share in shares.items() if np.ptp(share) >= RANGE}
    print(f"{len(occluded)} of {len(test)} tracklets are occluded, {len(dataset.query_rows)} queries")
    for run in options.runs:
        model = kreid.runs.FinishedRun(run).model
        print(f"{pathlib.Path(run).name}: {line_of(model, dataset, shares, occluded)}", flush=True)


def line_of(model, dataset, shares, occluded):
    """Return the figures of a model as text."""
    from kreid.evaluation import evaluate_model, paired_bootstrap
    from kreid.models import with_uniform_attention

    rho = correlations(model, [one for one in dataset.test if one.id in occluded and one.person > 0], shares)
    own, equal = (evaluate_model(one, dataset, progress=False) for one in (model, with_uniform_attention(model)))
    rows = [row for row, id in enumerate(own.embeddings.query_ids) if id in occluded]
    precisions = [100 * one.protocols[PROTOCOL].average_precision[rows] for one in (own, equal)]
    difference = paired_bootstrap(*precisions)
    return (
        f"rho {np.mean(rho):+.2f}, above 0 in {np.mean(np.array(rho) > 0):.0%} of {len(rho)}; {len(rows)} queries: mAP "
        f"{np.nanmean(precisions[0]):.1f}, equal weights {np.nanmean(precisions[1]):.1f}, difference "
        f"{difference.mean:+.1f} ({difference.low:+.1f} to {difference.high:+.1f})"
    )


def correlations(model, tracklets, shares):
    """Return Spearman's correlation of weights and visible shares in each tracklet; 0 for equal weights."""
    from scipy.stats import spearmanr

    from kreid.data.evaluation_pipeline import EvaluationPipeline
    from kreid.models.attention import time_weights
    from kreid.models.uniform_attention import temporal_attentions

    over_frames = {name: model.attentions[name].axes for name in temporal_attentions(model)}
    # GLTR averages its frames, after its self-attention.
    name = "self_attention" if "self_attention" in over_frames else None
    name = name or next(one for one, axes in over_frames.items() if {"frame", "clip_frame"} & set(axes))
    axes = over_frames[name]
    pipeline = EvaluationPipeline(tracklets, model.image_size, batch_frames=64, select=model.selection.positions)
    found = []
    for inputs, rows in pipeline.dataset():
        batch = {key: values.numpy() for key, values in inputs.items()}
        values = model.explainer.predict_on_batch(batch)[name]
        for row, number in enumerate(rows.numpy().tolist()):
            share = shares[tracklets[number].id]
            share = share[model.selection.positions(len(share))]
            weights = time_weights(values[row], axes, len(share), model.part_frames)
            if np.ptp(share) > 0:  # The model may select frames that are equally visible.
                equal = np.ptp(weights) < 1e-6 * weights.max()
                found.append(0.0 if equal else float(spearmanr(weights, share)[0]))
    return found


if __name__ == "__main__":
    main()
