import itertools
import json

import numpy as np
import pytest
from pair_samples import distance, oracle, tracklets

from kreid.evaluation import (
    equal_error_rate,
    fit_calibration,
    fit_linking,
    fit_verification,
    pair_distances,
    pairs,
    rates_at,
    roc,
    threshold_at,
)


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
    measured = pair_distances(embeddings, persons, cameras, tail=0.3)
    for rate in (1 / len(impostors), 0.001, 0.01, 0.1, 0.29):
        threshold = threshold_at(measured, rate)
        assert np.mean(impostors < threshold) <= rate < np.mean(impostors <= threshold)
        measured_rates = rates_at(embeddings, persons, cameras, threshold=threshold, draws=20)
        assert measured_rates.false_match.mean == pytest.approx(np.mean(impostors < threshold), rel=1e-12)
        assert measured_rates.false_non_match.mean == pytest.approx(np.mean(genuine >= threshold), rel=1e-12)
        assert (measured_rates.num_genuine, measured_rates.num_impostors) == (len(genuine), len(impostors))


@pytest.mark.parametrize("block_bytes", [1, 2**26])
def test_intervals_from_the_pairs_of_drawn_persons(monkeypatch, block_bytes):
    monkeypatch.setattr(pairs, "_BLOCK_BYTES", block_bytes)
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
    measured_rates = rates_at(embeddings, persons, cameras, threshold=3.5, draws=50)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    np.testing.assert_allclose([measured_rates.false_match.low, measured_rates.false_non_match.low], low, rtol=1e-9)
    np.testing.assert_allclose([measured_rates.false_match.high, measured_rates.false_non_match.high], high, rtol=1e-9)
    assert measured_rates.num_persons == len(names)


def test_no_error_seen_is_not_an_error_rate_of_nothing():
    embeddings = np.array([[0.0], [0.1], [5.0], [5.1], [9.0], [9.1]])
    measured_rates = rates_at(embeddings, [1, 1, 2, 2, 3, 3], [0, 1, 0, 1, 0, 1], threshold=1.0)
    assert measured_rates.false_match[:2] == measured_rates.false_non_match[:2] == (0.0, 0.0)
    assert measured_rates.false_match.high == pytest.approx(3.0 / 12, rel=0.01)
    assert measured_rates.false_non_match.high == pytest.approx(3.0 / 3, rel=0.01)


def test_what_a_model_keeps():
    embeddings, persons, cameras = tracklets(count=150)
    fitted = json.loads(
        json.dumps(fit_verification(embeddings, persons, cameras, false_match_rate=0.01, fitted_on="twelve persons"))
    )
    measured = pair_distances(embeddings, persons, cameras)
    assert fitted["threshold"] == threshold_at(measured, 0.01)
    assert fitted["equal_error_rate"] == equal_error_rate(measured)
    assert (fitted["metric"], fitted["false_match_rate"]) == ("euclidean", 0.01)
    assert fitted["fitted_on"]["who"] == "twelve persons"
    assert fitted["fitted_on"]["impostor_pairs"] == measured.num_impostors
    low, high = fitted["false_non_match_interval"]
    assert low <= fitted["false_non_match_rate"] <= high
    assert fitted["linking"] == fit_linking(embeddings, persons)


def test_groups_need_ten_persons_in_two_cameras():
    persons = np.repeat(np.arange(1, 12), 2)
    cameras = np.arange(22) % 2
    embeddings = 10.0 * persons[:, None] + cameras[:, None]
    for alone, count in ((1, 10), (2, 9)):
        one_camera = np.where(persons <= alone, 0, cameras)
        labels = embeddings, persons, one_camera
        linking = fit_verification(*labels, false_match_rate=0.1, fitted_on=f"{count} persons")["linking"]
        # Those of one camera are linked, too; the next person is 10 away.
        expected = {"threshold": pytest.approx(5.5), "precision": 1, "recall": 1, "f1": 1}
        assert linking == (expected if count == 10 else None)


def test_the_calibration_is_the_likeliest():
    embeddings, persons, cameras = tracklets()
    genuine, impostors = (np.asarray(values, float) for values in oracle(embeddings, persons, cameras))
    fitted = fit_calibration(embeddings, persons, cameras)

    def loss(scale, offset):
        total = 0.0
        for distances, target in ((genuine, 1 - 1 / (len(genuine) + 2)), (impostors, 1 / (len(impostors) + 2))):
            chance = 1 / (1 + np.exp(scale * distances - offset))
            total += -np.mean(target * np.log(chance) + (1 - target) * np.log(1 - chance)) / 2
        return total

    best = loss(fitted["scale"], fitted["offset"])
    for step in (0.01, -0.01):
        assert best < loss(fitted["scale"] * (1 + step), fitted["offset"])
        assert best < loss(fitted["scale"], fitted["offset"] * (1 + step))
    assert fit_verification(embeddings, persons, cameras, false_match_rate=0.01, fitted_on="x")["calibration"] == fitted


def test_the_calibration_says_how_many_pairs_show_one_person():
    # Persons in two cameras, the second view a little off the first.
    rng = np.random.default_rng(0)
    places = rng.normal(0, 1, (150, 8))
    embeddings = np.concatenate([places, places + rng.normal(0, 0.6, places.shape)])
    persons, cameras = np.tile(np.arange(1, 151), 2), np.repeat([0, 1], 150)
    genuine, impostors = (np.asarray(values, float) for values in oracle(embeddings, persons, cameras))
    fitted = fit_calibration(embeddings, persons, cameras)
    distances = np.concatenate([genuine, impostors])
    weights = np.concatenate([np.full(len(genuine), 1 / len(genuine)), np.full(len(impostors), 1 / len(impostors))])
    chances = 1 / (1 + np.exp(fitted["scale"] * distances - fitted["offset"]))
    for low, high in ((0, 0.1), (0.1, 0.5), (0.5, 0.9), (0.9, 1)):
        chosen = (chances >= low) & (chances < high)
        share = weights[chosen][: np.count_nonzero(chosen[: len(genuine)])].sum() / weights[chosen].sum()
        assert abs(share - np.average(chances[chosen], weights=weights[chosen])) < 0.1


def test_a_calibration_stays_finite_and_never_rises_with_the_distance():
    persons, cameras = [1, 1, 2, 2, 3, 3], [0, 1] * 3
    apart = fit_calibration([[0.0], [0.1], [50.0], [50.1], [90.0], [90.1]], persons, cameras)
    assert 0 < apart["scale"] < np.inf and np.isfinite(apart["offset"])
    assert 1 / (1 + np.exp(apart["scale"] * 0.1 - apart["offset"])) > 0.5
    assert 1 / (1 + np.exp(apart["scale"] * 39.9 - apart["offset"])) < 0.5
    # Persons look less alike than strangers.
    backwards = fit_calibration([[0.0], [50.0], [0.1], [50.1], [0.2], [50.2]], persons, cameras)
    assert backwards["scale"] == 0
    # All distances are 0.
    assert fit_calibration(np.zeros((6, 1)), persons, cameras)["scale"] >= 0


def test_bad_arguments_are_named():
    embeddings, persons, cameras = tracklets()
    measured = pair_distances(embeddings, persons, cameras, tail=0.01)
    with pytest.raises(ValueError, match=r"takes 1000000 impostor pairs to see one, but there are \d+; choose"):
        threshold_at(measured, 1e-6)
    with pytest.raises(ValueError, match=r"measure with tail=0.1. Received: false_match_rate=0.1"):
        threshold_at(measured, 0.1)
    with pytest.raises(ValueError, match="Received: false_match_rate=0"):
        threshold_at(measured, 0)
    with pytest.raises(ValueError, match="Received: threshold=nan"):
        rates_at(embeddings, persons, cameras, threshold=np.nan)
    with pytest.raises(ValueError, match="Received: share=1"):
        rates_at(embeddings, persons, cameras, threshold=1.0, share=1)
