"""How unlike the frames of a tracklet are, by the model's embeddings of single frames."""

import numpy as np

from kreid.evaluation.variances import frame_variances
from kreid.gallery import embed_frames
from kreid.report.measure import Measured

# Frames of each tracklet, spread evenly.
_FRAMES = 8


def frame_variances_text(measured: Measured, progress: bool = True) -> str:
    """Embed single frames of the test tracklets, and return the parts of their variance as a sentence.

    Args:
        measured: the run's scores.
        progress: show a progress bar.

    Returns:
        A line for a terminal; see `kreid.evaluation.frame_variances`.
    """
    known = [tracklet for tracklet in measured.tracklets if tracklet.person > 0]
    if not known:
        return "Variance of single frames: no tracklet shows a known person."
    # A frame that cannot be read was counted when the tracklets were embedded.
    embedded = embed_frames(measured.run.model, known, most=_FRAMES, max_damaged=1.0, progress=progress)
    vectors = np.concatenate([one.vectors for one in embedded]).astype(float)
    lengths = [len(one.vectors) for one in embedded]
    of_frames = np.repeat(np.arange(len(known)), lengths)
    persons = np.repeat([tracklet.person for tracklet in known], lengths)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    variances = frame_variances(vectors, of_frames, persons)
    return (
        f"Variance of {len(vectors)} single frames' embeddings, scaled to length 1: "
        f"{variances.within_tracklets:.3f} within tracklets, {variances.between_tracklets:.3f} between the tracklets "
        f"of a person, {variances.between_persons:.3f} between persons."
    )
