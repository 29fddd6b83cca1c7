"""The variance of frames' embeddings, split by tracklet and person, against plain loops in float64."""

import numpy as np
import pytest

from kreid.evaluation import frame_variances


def drawn(rng):
    """Frames of 5 persons, distractors and junk, in tracklets of 1 to 4 frames, in random order."""
    rows = [
        (tracklet, person)
        for tracklet, person in enumerate(rng.integers(-1, 6, 30).tolist())
        for _ in range(rng.integers(1, 5))
    ]
    tracklets, persons = np.array(rows)[rng.permutation(len(rows))].T
    return rng.normal(size=(len(rows), 7)), tracklets, persons


def test_parts_against_loops():
    x, tracklets, persons = drawn(np.random.default_rng(0))
    known = [i for i in range(len(x)) if persons[i] > 0]
    mean = np.mean([x[i] for i in known], axis=0)
    parts = np.zeros(3)
    for i in known:
        tracklet = np.mean([x[j] for j in known if tracklets[j] == tracklets[i]], axis=0)
        person = np.mean([x[j] for j in known if persons[j] == persons[i]], axis=0)
        for part, step in enumerate((x[i] - tracklet, tracklet - person, person - mean)):
            parts[part] += (step @ step) / len(known)
    variances = frame_variances(x, tracklets, persons)
    np.testing.assert_allclose(variances, parts, rtol=1e-12)
    np.testing.assert_allclose(sum(variances), np.mean([(x[i] - mean) @ (x[i] - mean) for i in known]), rtol=1e-12)


def test_equal_frames_have_no_variance_within():
    x = np.repeat([[1.0, 0.0], [0.0, 1.0]], 3, axis=0)
    assert frame_variances(x, [0, 0, 0, 1, 1, 1], [4, 4, 4, 9, 9, 9]) == (0.0, 0.0, 0.5)
    assert frame_variances(x, [0, 0, 0, 1, 1, 1], [4] * 6) == (0.0, 0.5, 0.0)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (([[0.0], [1.0]], [0, 1], [1]), r"Received: embeddings of shape \(2, 1\), tracklets of shape \(2,\), persons"),
        (([[0.0], [np.nan]], [0, 1], [1, 1]), r"embeddings\[1, 0\]=nan"),
        (([[0.0], [1.0]], [0, 1], [0, -1]), "frames of known persons"),
        (([[0.0], [1.0]], [3, 3], [1, 2]), "Received: tracklet 3 of persons 1 and 2"),
    ],
)
def test_refusals(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        frame_variances(*arguments)
