import itertools
import json
import tracemalloc

import numpy as np
import pytest

from kreid.evaluation import (
    equal_error_rate,
    fit_verification,
    identify,
    pair_distances,
    rates_at,
    retrieval,
    roc,
    threshold_at,
    verification,
)


def tracklets(seed=0, count=90, persons=12, spread=1.2):
    """Returns embeddings, persons (-1 junk, 0 distractors) and cameras; distances in steps, so that many are tied."""
    random = np.random.default_rng(seed)
    labels = random.integers(-1, persons + 1, count)
    centres = random.normal(size=(persons + 2, 3)) * 3
    embeddings = np.round(centres[labels + 1] + spread * random.normal(size=(count, 3)))
    return embeddings.astype("float32"), labels, random.integers(0, 3, count)


def distance(a, b, metric):
    if metric == "euclidean":
        return np.float32(np.sqrt(((a - b) ** 2).sum()))
    norms = np.sqrt((a**2).sum() * (b**2).sum())
    return np.float32(1 - (a @ b) / norms if norms else 1.0)


def oracle(embeddings, persons, cameras, metric="euclidean"):
    """Two sorted lists, of genuine and of impostor distances, from all pairs one by one."""
    genuine, impostors = [], []
    exact = embeddings.astype("float64")
    for a in range(len(exact)):
        for b in range(a):
            if -1 in (persons[a], persons[b]):
                continue
            if persons[a] != persons[b]:
                impostors.append(distance(exact[a], exact[b], metric))
            elif persons[a] != 0 and cameras[a] != cameras[b]:
                genuine.append(distance(exact[a], exact[b], metric))
    return np.sort(genuine), np.sort(impostors)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("block_bytes", [1, 3_000, 2**26])
def test_all_pairs_one_by_one(monkeypatch, metric, block_bytes):
    monkeypatch.setattr(verification, "_BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(verification, "_ROWS", 1 if block_bytes == 1 else 4)
    embeddings, persons, cameras = tracklets()
    embeddings[4] = 0.0  # Under the cosine 1 from everything.
    genuine, impostors = oracle(embeddings, persons, cameras, metric)
    pairs = pair_distances(embeddings, persons, cameras, metric, tail=0.2)
    np.testing.assert_allclose(pairs.genuine, genuine, atol=1e-6)
    assert pairs.num_impostors == len(impostors)
    np.testing.assert_allclose(pairs.nearest_impostors, impostors[: int(np.floor(0.2 * len(impostors))) + 1], atol=1e-6)
    if metric == "euclidean":  # Whole numbers below the root: equal distances are equal in the oracle too.
        np.testing.assert_array_equal(pairs.nearer, [np.sum(impostors < value) for value in genuine])
        np.testing.assert_array_equal(pairs.as_near, [np.sum(impostors <= value) for value in genuine])


def test_the_curve_holds_every_threshold():
    embeddings, persons, cameras = tracklets()
    genuine, impostors = oracle(embeddings, persons, cameras)
    curve = roc(pair_distances(embeddings, persons, cameras))
    for threshold, match, non_match in zip(*curve, strict=True):
        assert match == np.mean(impostors < threshold)
        assert non_match == np.mean(genuine >= threshold)
    # Between two points of the curve the false non-match rate is that of either.
    for threshold in np.unique(np.concatenate([genuine, impostors])):
        after = np.searchsorted(curve.thresholds, threshold)
        assert np.mean(genuine >= threshold) == curve.false_non_match_rate[after]
    assert (np.diff(curve.false_match_rate) >= 0).all() and (np.diff(curve.false_non_match_rate) <= 0).all()


@pytest.mark.parametrize("spread", [0.01, 0.8, 1.2, 4.0])
def test_equal_error_rate_on_the_curve_of_all_thresholds(spread):
    embeddings, persons, cameras = tracklets(spread=spread)
    genuine, impostors = oracle(embeddings, persons, cameras)
    points = []
    for threshold in [*np.unique(np.concatenate([genuine, impostors])), np.inf]:
        points.append((np.mean(impostors < threshold), np.mean(genuine >= threshold)))
    for (match, non_match), (match_after, non_match_after) in itertools.pairwise(points):
        if match - non_match < 0 <= match_after - non_match_after:
            way = (non_match - match) / ((match_after - match) + (non_match - non_match_after))
            expected = match + way * (match_after - match)
    assert equal_error_rate(pair_distances(embeddings, persons, cameras)) == pytest.approx(expected, rel=1e-9)


def test_threshold_is_the_highest_that_keeps_the_rate():
    embeddings, persons, cameras = tracklets(count=150)
    genuine, impostors = oracle(embeddings, persons, cameras)
    pairs = pair_distances(embeddings, persons, cameras, tail=0.3)
    for rate in (1 / len(impostors), 0.001, 0.01, 0.1, 0.29):
        threshold = threshold_at(pairs, rate)
        assert np.mean(impostors < threshold) <= rate < np.mean(impostors <= threshold)
        found = rates_at(embeddings, persons, cameras, threshold=threshold, draws=20)
        assert found.false_match.mean == pytest.approx(np.mean(impostors < threshold), rel=1e-12)
        assert found.false_non_match.mean == pytest.approx(np.mean(genuine >= threshold), rel=1e-12)
        assert (found.num_genuine, found.num_impostors) == (len(genuine), len(impostors))


@pytest.mark.parametrize("block_bytes", [1, 2**26])
def test_intervals_from_the_pairs_of_drawn_persons(monkeypatch, block_bytes):
    monkeypatch.setattr(verification, "_BLOCK_BYTES", block_bytes)
    embeddings, persons, cameras = tracklets(count=60)
    exact = embeddings.astype("float64")
    # Persons in the order of their labels, each distractor one, those last named first.
    labels = [("distractor", -row) if person == 0 else (person, 0) for row, person in enumerate(persons)]
    names = sorted({label for label in labels if label[0] == "distractor"}, key=lambda name: name[1])
    names += sorted({label for label in labels if label[0] != "distractor" and label[0] > 0})
    counts = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), 50)
    drawn = []
    for times in counts:
        weight = dict(zip(names, times, strict=True))
        sums = np.zeros((2, 2))
        for a in range(len(exact)):
            for b in range(a):
                if -1 in (persons[a], persons[b]):
                    continue
                near = distance(exact[a], exact[b], "euclidean") < 3.5
                if persons[a] != persons[b]:
                    sums[0] += weight[labels[a]] * weight[labels[b]] * np.array([near, 1])
                elif persons[a] and cameras[a] != cameras[b]:
                    sums[1] += weight[labels[a]] * np.array([not near, 1])
        drawn.append(sums[:, 0] / sums[:, 1])
    found = rates_at(embeddings, persons, cameras, threshold=3.5, draws=50)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    np.testing.assert_allclose([found.false_match.low, found.false_non_match.low], low, rtol=1e-9)
    np.testing.assert_allclose([found.false_match.high, found.false_non_match.high], high, rtol=1e-9)
    assert found.num_persons == len(names)


def test_no_error_seen_is_not_an_error_rate_of_nothing():
    embeddings = np.array([[0.0], [0.1], [5.0], [5.1], [9.0], [9.1]])
    found = rates_at(embeddings, [1, 1, 2, 2, 3, 3], [0, 1, 0, 1, 0, 1], threshold=1.0)
    assert found.false_match[:2] == found.false_non_match[:2] == (0.0, 0.0)
    assert found.false_match.high == pytest.approx(3.0 / 12, rel=0.01)
    assert found.false_non_match.high == pytest.approx(3.0 / 3, rel=0.01)


def test_what_a_model_keeps():
    embeddings, persons, cameras = tracklets(count=150)
    fitted = json.loads(
        json.dumps(fit_verification(embeddings, persons, cameras, false_match_rate=0.01, fitted_on="twelve persons"))
    )
    pairs = pair_distances(embeddings, persons, cameras)
    assert fitted["threshold"] == threshold_at(pairs, 0.01)
    assert fitted["equal_error_rate"] == equal_error_rate(pairs)
    assert (fitted["metric"], fitted["false_match_rate"]) == ("euclidean", 0.01)
    assert fitted["fitted_on"]["who"] == "twelve persons"
    assert fitted["fitted_on"]["impostor_pairs"] == pairs.num_impostors
    low, high = fitted["false_non_match_interval"]
    assert low <= fitted["false_non_match_rate"] <= high


def test_memory_does_not_grow_with_the_pairs(monkeypatch):
    monkeypatch.setattr(verification, "_BLOCK_BYTES", 2**18)
    embeddings, persons, cameras = tracklets(count=3_000, persons=500)
    tracemalloc.start()
    pair_distances(embeddings, persons, cameras, tail=0.001)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * 2**20 < 4 * 3_000**2 / 2


def test_refusals():
    embeddings, persons, cameras = tracklets()
    pairs = pair_distances(embeddings, persons, cameras, tail=0.01)
    with pytest.raises(ValueError, match=r"takes 1000000 impostor pairs to see one, but there are \d+; choose"):
        threshold_at(pairs, 1e-6)
    with pytest.raises(ValueError, match=r"measure with tail=0.1. Received: false_match_rate=0.1"):
        threshold_at(pairs, 0.1)
    with pytest.raises(ValueError, match="Received: false_match_rate=0"):
        threshold_at(pairs, 0)
    with pytest.raises(ValueError, match="Received: tail=0"):
        pair_distances(embeddings, persons, cameras, tail=0)
    with pytest.raises(ValueError, match=r"Received: embeddings.shape=\(89, 3\), 90 persons"):
        pair_distances(embeddings[1:], persons, cameras)
    with pytest.raises(ValueError, match="Genuine pairs need a person in two cameras"):
        pair_distances(embeddings, persons, np.zeros_like(cameras))
    with pytest.raises(ValueError, match=r"Impostor pairs need two persons. Received: 90 tracklets of 1"):
        pair_distances(embeddings, np.ones_like(persons), cameras)
    with pytest.raises(ValueError, match="Received: threshold=nan"):
        rates_at(embeddings, persons, cameras, threshold=np.nan)
    with pytest.raises(ValueError, match="Received: share=1"):
        rates_at(embeddings, persons, cameras, threshold=1.0, share=1)
    for bad in (np.nan, np.inf):
        embeddings[7, 1] = bad
        with pytest.raises(ValueError, match=r"must be finite.*Received: embeddings\[7, "):
            pair_distances(embeddings, persons, cameras)


def open_set(seed=1):
    """Returns queries and gallery, three rows each; persons 7 to 9 are not in the gallery."""
    embeddings, persons, cameras = tracklets(seed, count=120, persons=9)
    random = np.random.default_rng(seed)
    query = random.random(120) < 0.4
    gallery = ~query & (persons < 7)
    return [values[part] for part in (query, gallery) for values in (embeddings, persons, cameras)]


@pytest.mark.parametrize("block_bytes", [1, 2**27])
def test_open_set_search_entry_by_entry(monkeypatch, block_bytes):
    monkeypatch.setattr(retrieval, "_BLOCK_BYTES", block_bytes)
    arguments = open_set()
    expected = []
    for embedding, person, camera in zip(*arguments[:3], strict=True):
        listed = []
        for column, (other, label, place) in enumerate(zip(*arguments[3:], strict=True)):
            if label != -1 and not (label == person and place == camera):
                found = distance(embedding.astype(float), other.astype(float), "euclidean")
                listed.append((found, column, bool(label == person and person > 0)))
        listed.sort()
        ranks = [rank for rank, entry in enumerate(listed, start=1) if entry[2]]
        expected.append((listed[0][0], listed[ranks[0] - 1][0] if ranks else np.nan, ranks[0] if ranks else 0))
    nearest, match, rank = np.array(expected).T
    result = identify(*arguments)
    np.testing.assert_array_equal(result.nearest, nearest)
    np.testing.assert_array_equal(result.match, match)
    np.testing.assert_array_equal(result.match_rank, rank)
    assert (result.num_matched, result.num_unmatched) == ((rank > 0).sum(), (rank == 0).sum())
    for rate in (0.1, 0.25, 0.5):
        threshold = result.threshold_at(rate)
        alarms = np.mean(nearest[rank == 0] < threshold)
        assert alarms <= rate < np.mean(nearest[rank == 0] <= threshold)
        for within in (1, 5):
            hits = [r <= within and d < threshold for r, d in zip(rank, match, strict=True) if r]
            assert result.rates_at(threshold, within) == (alarms, np.mean(hits))


def test_open_set_refusals():
    arguments = open_set()
    result = identify(*arguments)
    with pytest.raises(ValueError, match="takes 1000 queries without a match to see one"):
        result.threshold_at(0.001)
    with pytest.raises(ValueError, match="Received: rank=0"):
        result.rates_at(1.0, rank=0)
    nobody = [values[:0] for values in arguments[3:]]
    with pytest.raises(ValueError, match=r"The gallery holds nothing but junk. Received: 0"):
        identify(*arguments[:3], *nobody)
    with pytest.raises(ValueError, match="Received: 0 with, 1 without"):
        identify([[0.0] * 3], [9], [0], *arguments[3:])
    arguments[0][2] = np.nan
    with pytest.raises(ValueError, match=r"must be finite.*query_embeddings\[2, "):
        identify(*arguments)
