"""Links against a plain loop over groups, which keeps overlapping tracklets apart by looking at every pair."""

import dataclasses
import itertools

import numpy as np
import pytest

from kreid.evaluation import Reranking, fit_linking, rerank_blocks
from kreid.gallery import TrackletEmbeddings
from kreid.identities import link_tracklets, pair_scores
from kreid.passport import Passport


def overlap(one, other):
    """Whether two tracklets, (camera, video, first, last), show two persons."""
    return one[:2] == other[:2] and max(one[2], other[2]) <= min(one[3], other[3])


def plainly_linked(distances, tracklets, threshold):
    """Join the nearest two groups that may be one person, until none is nearer than the threshold."""
    groups = [[row] for row in range(len(tracklets))]
    heights = []
    while True:
        best = (threshold, None)
        for one, other in itertools.combinations(groups, 2):
            if any(overlap(tracklets[a], tracklets[b]) for a in one for b in other):
                continue
            mean = sum(distances[a, b] for a in one for b in other) / (len(one) * len(other))
            if mean < best[0]:
                best = (mean, (one, other))
        if best[1] is None:
            return sorted(map(sorted, groups)), heights
        one, other = best[1]
        groups = [group for group in groups if group is not one and group is not other] + [one + other]
        heights.append(best[0])


def grouped(persons):
    return sorted(np.flatnonzero(persons == person).tolist() for person in range(1, persons.max() + 1))


def draw(seed, count=16):
    """Tracklets of four persons, in two cameras of two videos each."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(4, 3))
    vectors = centres[rng.integers(4, size=count)] + 0.4 * rng.normal(size=(count, 3))
    starts = rng.integers(1, 60, size=count)
    places = rng.integers(2, size=(count, 2))
    tracklets = [(*place, start, start + 15) for place, start in zip(places.tolist(), starts.tolist(), strict=True)]
    return vectors, tracklets


def arguments(vectors, tracklets):
    cameras, sources, starts, ends = zip(*tracklets, strict=True)
    return vectors, starts, ends, cameras, sources


def euclidean(vectors):
    return np.sqrt(((vectors[:, None] - vectors[None]) ** 2).sum(axis=2))


@pytest.mark.parametrize("seed", range(8))
def test_links_are_those_of_a_plain_loop(seed):
    vectors, tracklets = draw(seed)
    for threshold in (0.6, 1.2, 2.5, 100.0):
        groups, heights = plainly_linked(euclidean(vectors), tracklets, threshold)
        found = link_tracklets(*arguments(vectors, tracklets), threshold=threshold)
        assert grouped(found.persons) == groups
        joined = sorted(link.distance for link in found.links if link.joined)
        np.testing.assert_allclose(joined, sorted(heights), rtol=1e-9)
        for group in groups:
            assert not any(overlap(tracklets[a], tracklets[b]) for a, b in itertools.combinations(group, 2))
    assert found.fewest == len(groups)
    assert len(groups) > 1


def test_an_overlap_counts_for_the_whole_group():
    # 0 and 1 overlap; 2 is nearest to 0, then would bring 1 with it.
    vectors = [[0.0], [0.3], [0.1], [0.35]]
    found = link_tracklets(vectors, [1, 5, 20, 30], [10, 15, 25, 40], threshold=9.0)
    assert found.persons.tolist() == [1, 2, 1, 2]
    assert found.overlapping.tolist() == [
        [False, True, False, False],
        [True, False, False, False],
        [False] * 4,
        [False] * 4,
    ]
    # One frame in common is an overlap; other videos, other cameras and unknown times are none.
    assert link_tracklets([[0.0], [0.1]], [1, 10], [10, 15], threshold=1.0).persons.tolist() == [1, 2]
    assert link_tracklets([[0.0], [0.1]], [1, 11], [10, 15], threshold=1.0).persons.tolist() == [1, 1]
    for other in ({"cameras": ["a", "b"]}, {"sources": ["a", "b"]}):
        assert link_tracklets([[0.0], [0.1]], [1, 10], [10, 15], threshold=1.0, **other).persons.tolist() == [1, 1]
    assert link_tracklets([[0.0], [0.1]], [1, np.nan], [10, np.nan], threshold=1.0).persons.tolist() == [1, 1]
    assert link_tracklets([[0.0], [0.1]], threshold=1.0).persons.tolist() == [1, 1]


def test_distances_are_below_the_threshold():
    assert link_tracklets([[0.0], [1.0]], threshold=1.0).persons.tolist() == [1, 2]
    assert link_tracklets([[0.0], [1.0]], threshold=np.nextafter(1.0, 2)).persons.tolist() == [1, 1]
    assert link_tracklets([[0.0]], threshold=1.0).persons.tolist() == [1]


@pytest.mark.parametrize("threshold", [0.3, 1.2])
@pytest.mark.parametrize("seed", range(3))
def test_margins_and_certainties(seed, threshold):
    vectors, tracklets = draw(seed)
    scale, offset = 3.0, 4.0
    calibration = {"scale": scale, "offset": offset, "prior": 0.5}
    found = link_tracklets(*arguments(vectors, tracklets), threshold=threshold, calibration=calibration)
    distances, groups = euclidean(vectors), grouped(found.persons)

    def probability(distance):
        return 1 / (1 + np.exp(scale * distance - offset))

    for row, tracklet in enumerate(tracklets):
        (own,) = (group for group in groups if row in group)
        if len(own) > 1:
            mean = np.mean([distances[row, other] for other in own if other != row])
            margin, certainty = threshold - mean, probability(mean)
        else:
            permitted = [g for g in groups if g != own and not any(overlap(tracklet, tracklets[other]) for other in g)]
            mean = min((np.mean(distances[row, group]) for group in permitted), default=np.inf)
            margin, certainty = mean - threshold, 1 - probability(mean)
        assert found.margins[row] == pytest.approx(margin, rel=1e-9)
        assert found.certainties[row] == pytest.approx(certainty, rel=1e-9)
    margins = [link.margin for link in found.links]
    assert margins == sorted(margins)
    for link in found.links:
        mean = distances[np.ix_(link.one, link.other)].mean()
        assert link.distance == pytest.approx(mean, rel=1e-9)
        assert link.joined == (mean < threshold)
        assert link.margin == pytest.approx(abs(mean - threshold), rel=1e-9)
        assert link.probability == pytest.approx(probability(mean), rel=1e-9)
        if not link.joined:
            assert list(link.one) in groups and list(link.other) in groups
            assert not any(overlap(tracklets[a], tracklets[b]) for a in link.one for b in link.other)


def test_k_reciprocal_distances():
    vectors, tracklets = draw(4)
    options = Reranking(k1=4, k2=2)
    found = link_tracklets(*arguments(vectors, tracklets), threshold=0.4, linking="k-reciprocal", reranking=options)
    rows = dict(rerank_blocks(vectors, range(len(vectors)), reranking=options))
    distances = np.concatenate([rows[first] for first in sorted(rows)])
    groups, heights = plainly_linked((distances + distances.T) / 2, tracklets, 0.4)
    assert grouped(found.persons) == groups
    joined = sorted(link.distance for link in found.links if link.joined)
    np.testing.assert_allclose(joined, sorted(heights), rtol=1e-9)
    assert len(joined) > 3
    assert np.isnan(found.certainties).all()


def test_a_record_brings_its_labels_and_its_threshold():
    verification = {"metric": "cosine", "threshold": 0.2, "calibration": {"scale": 9.0, "offset": 2.0, "prior": 0.5}}
    record = TrackletEmbeddings(
        [[1.0, 0.0], [1.0, 0.1], [1.0, 0.03], [0.0, 1.0]],
        list("abcd"),
        [0] * 4,
        [1, 1, 2, 2],
        metric="cosine",
        passport=Passport(verification=verification),
        starts=[1.0, 2.0, 1.0, 1.0],
        ends=[3.0, 4.0, 2.0, 2.0],
    )
    found = link_tracklets(record)
    assert (found.persons.tolist(), found.threshold, found.linking) == ([1, 2, 1, 3], 0.2, "distance")
    assert np.isfinite(found.certainties).all()
    assert link_tracklets(record, [1, 5, 1, 1], [2, 6, 2, 2]).persons.tolist() == [1, 1, 1, 2]
    assert link_tracklets(record, threshold=1e-4).persons.tolist() == [1, 2, 3, 4]
    # A threshold for groups comes before the one for pairs.
    both = Passport(verification={**verification, "linking": {"threshold": 1e-4}})
    of_groups = link_tracklets(dataclasses.replace(record, passport=both))
    assert (of_groups.threshold, of_groups.threshold_from) == (1e-4, "model, for groups")
    none = Passport(verification={**verification, "linking": None})
    of_pairs = link_tracklets(dataclasses.replace(record, passport=none))
    assert (of_pairs.threshold, of_pairs.threshold_from) == (0.2, "model, for pairs")
    assert link_tracklets(record, threshold=0.2).threshold_from == "given"
    with pytest.raises(ValueError, match="no threshold for 'same person'"):  # One of another metric is none.
        other = Passport(verification={**both.verification, "metric": "euclidean"})
        link_tracklets(dataclasses.replace(record, passport=other))
    with pytest.raises(ValueError, match="have their own cameras"):
        link_tracklets(record, cameras=[1, 1, 1, 1])
    with pytest.raises(ValueError, match=r"no threshold for them.*Received: threshold=None"):
        link_tracklets(record, linking="k-reciprocal")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"threshold": None}, r"has no threshold.*--threshold.*Received: threshold=None"),
        ({"threshold": 0.0}, "Received: threshold=0.0"),
        ({"threshold": np.inf}, "Received: threshold=inf"),
        ({"linking": "nearest"}, "Received: linking='nearest'"),
        ({"starts": [1, 2]}, "Received: ends=None"),
        ({"starts": [1, 2], "ends": [1, 2, 3]}, r"Received: ends.shape=\(3,\)"),
        ({"starts": [1, 5], "ends": [1, 2]}, r"Received: starts\[1\]=5"),
        ({"cameras": [1]}, r"Received: cameras.shape=\(1,\)"),
        ({"metric": "manhattan"}, "Received: metric='manhattan'"),
        ({"embeddings": []}, r"Received: embeddings.shape=\(0,\)"),
        ({"embeddings": [[0.0], [np.nan]]}, r"Received: .*\[1, 0\]=nan"),
    ],
)
def test_wrong_arguments(wrong, message):
    with pytest.raises(ValueError, match=message):
        link_tracklets(**{"embeddings": [[0.0], [1.0]], "threshold": 1.0, **wrong})


@pytest.mark.parametrize(("metric", "seed"), [("euclidean", 0), ("cosine", 1), ("euclidean", 2)])
def test_the_fitted_threshold_links_best(metric, seed):
    random = np.random.default_rng(seed)
    persons = random.integers(0, 6, 40)
    persons[:2] = -1
    vectors = random.normal(size=(6, 4))[persons] + 0.6 * random.normal(size=(40, 4))

    fitted = fit_linking(vectors, persons, metric)
    joins = sorted(
        link.distance for link in link_tracklets(vectors[2:], metric=metric, threshold=99).links if link.joined
    )
    between = [(low + high) / 2 for low, high in itertools.pairwise([0, *joins, 2 * joins[-1]])][1:]
    # Each distractor is a person of its own.
    known = persons.copy()
    known[known == 0] = 100 + np.arange(np.count_nonzero(known == 0))
    alone = fit_linking(vectors, known, metric)
    assert alone == fitted
    scores = [
        pair_scores(link_tracklets(vectors[2:], metric=metric, threshold=threshold).persons, known[2:])
        for threshold in [fitted["threshold"], *between]
    ]
    assert (fitted["precision"], fitted["recall"], fitted["f1"]) == pytest.approx(scores[0][:3])
    assert 0.3 < fitted["f1"] < 1
    assert fitted["f1"] == pytest.approx(np.nanmax([one.f1 for one in scores]))


def test_a_fitted_threshold_is_between_the_persons():
    walks = [[0.0], [0.2], [1.0], [1.2], [9.0]]
    fitted = fit_linking(walks, [7, 7, 9, 9, 0])
    # Between 0.2, the distance within persons, and 1.0, that of the two.
    assert fitted == {"threshold": pytest.approx(0.6), "precision": 1.0, "recall": 1.0, "f1": 1.0}
    for persons in ([1, 2, 3, 4, 5], [0, 0, 0, 0, 0], [7, 7, 7, 7, 7], [7, -1, 9, -1, 0]):
        assert fit_linking(walks, persons) is None


def test_refusals_of_a_fit():
    with pytest.raises(
        ValueError, match=r"one row of `embeddings`.*Received: embeddings of shape \(2, 1\), persons of shape \(3,\)"
    ):
        fit_linking([[0.0], [1.0]], [1, 2, 3])
    with pytest.raises(ValueError, match="embeddings"):
        fit_linking([[0.0], [np.nan]], [1, 1])


def test_a_threshold_is_fitted_on_some_of_very_many_tracklets(monkeypatch):
    monkeypatch.setattr("kreid.evaluation.linking._MOST_TRACKLETS", 30)
    random = np.random.default_rng(0)
    persons = np.repeat(np.arange(1, 21), 4)
    vectors = 20 * random.normal(size=(21, 5))[persons] + random.normal(size=(80, 5))
    fitted = fit_linking(vectors, persons)
    assert fitted["f1"] == 1 and fitted["recall"] == 1
