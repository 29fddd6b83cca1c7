"""How unlike the frames of a tracklet are, by the model's embeddings of single frames."""

import dataclasses

import numpy as np

from kreid.evaluation.variances import frame_variances
from kreid.gallery import embed_tracklets
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
    singles, numbers = [], []
    for number, tracklet in enumerate(measured.tracklets):
        if tracklet.person <= 0:
            continue
        for place in np.linspace(0, len(tracklet) - 1, min(_FRAMES, len(tracklet))).round().astype(int).tolist():
            one = dataclasses.replace(tracklet, id=f"{tracklet.id}, frame {place}", frames=(tracklet.frames[place],))
            singles.append(one)
            numbers.append(number)
    if not singles:
        return "Variance of single frames: no tracklet shows a known person."
    tracklet_numbers = dict(zip((one.id for one in singles), numbers, strict=True))
    # A frame that cannot be read was counted when the tracklets were embedded.
    embedded = embed_tracklets(measured.run.model, singles, max_damaged=1.0, progress=progress)
    vectors = embedded.embeddings.astype(float)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    of_frames = [tracklet_numbers[name] for name in embedded.ids.tolist()]
    variances = frame_variances(vectors, of_frames, embedded.persons)
    return (
        f"Variance of {len(vectors)} single frames' embeddings, scaled to length 1: "
        f"{variances.within_tracklets:.3f} within tracklets, {variances.between_tracklets:.3f} between the tracklets "
        f"of a person, {variances.between_persons:.3f} between persons."
    )
