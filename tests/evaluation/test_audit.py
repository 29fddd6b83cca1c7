"""Every fault is put into clean results, and found in them alone."""

import re

import numpy as np
import pytest
from audit_samples import results

from kreid.distances import distance_matrix
from kreid.evaluation import AUDITED, PROTOCOLS, audit, evaluate, evaluate_test
from kreid.evaluation.audit import parse_reported

APART, WITHIN = results()
NUM_QUERIES = len(APART["query_persons"])
# Where each query is in the gallery.
PLACES = np.array(
    [int(np.flatnonzero((WITHIN["gallery_embeddings"] == q).all(1))[0]) for q in APART["query_embeddings"]]
)


def in_distances(given, metric="euclidean"):
    """Returns the results with distances in place of embeddings."""
    labels = {name: values for name, values in given.items() if not name.endswith("embeddings")}
    return {**labels, "distances": distance_matrix(given["query_embeddings"], given["gallery_embeddings"], metric)}


def kinds(found, faults_only=True):
    return {finding.kind for finding in found.findings if finding.is_fault or not faults_only}


def printed(found, protocols_only=True):
    return {s.name: (s.rank1, s.map, s.num_valid) for s in found.scores if s.is_protocol or not protocols_only}


def unit(given):
    return {
        name: values / np.linalg.norm(values, axis=1, keepdims=True) if name.endswith("embeddings") else values
        for name, values in given.items()
    }


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_protocols_are_those_of_the_evaluation(metric):
    persons, cameras = WITHIN["gallery_persons"], WITHIN["gallery_cameras"]
    expected = evaluate_test(WITHIN["gallery_embeddings"], persons, cameras, PLACES, metric)
    for given in (APART, WITHIN):
        scores = printed(audit(**given, metric=metric))
        assert list(scores) == list(AUDITED)
        for name in PROTOCOLS:
            one = expected[name]
            np.testing.assert_allclose(scores[name], (one.cmc[1], one.map, one.num_valid), rtol=1e-12)
        market = evaluate(**in_distances(APART, metric), average_precision="trapezoidal")
        np.testing.assert_allclose(scores["market"], (market.cmc[1], market.map, market.num_valid), rtol=1e-12)
    assert len({round(score[1], 4) for score in scores.values()}) == 4


@pytest.mark.parametrize("seed", range(4))
def test_clean_results_have_no_faults(seed):
    apart, within = results(seed=seed)
    for given in (apart, within, in_distances(apart), in_distances(within)):
        found = audit(**given)
        assert not found.has_faults, found.text()
        assert kinds(found, faults_only=False) == (
            {"queries_in_gallery"} if given["gallery_persons"] is within["gallery_persons"] else set()
        )


def test_distances_without_the_queries_lack_two_protocols():
    found = audit(**in_distances(APART))
    assert list(printed(found)) == ["standard", "market"]
    assert list(found.missing) == ["mars", "with_queries"]
    assert "mars          not scored: it takes distances among the queries" in found.text()
    assert list(printed(audit(**in_distances(WITHIN)))) == list(AUDITED)


def changed(given, **arrays):
    return {**given, **arrays}


def constant(given, side, value=1):
    return changed(given, **{f"{side}_cameras": np.full_like(given[f"{side}_cameras"], value)})


def with_nan(given):
    rows = given["gallery_embeddings"].copy()
    rows[7, 3] = np.nan
    return changed(given, gallery_embeddings=rows)


def twice(given, persons_too=True):
    again = np.arange(5)
    more = {
        name: np.concatenate([values, values[again]])
        for name, values in given.items()
        if name.startswith("gallery") and not (name == "gallery_persons" and not persons_too)
    }
    if not persons_too:
        more["gallery_persons"] = np.concatenate([given["gallery_persons"], given["gallery_persons"][again] + 1])
    return changed(given, **more)


def shuffled(values, seed=1):
    return np.random.default_rng(seed).permutation(values)


FAULTS = {
    "shifted gallery": (
        lambda: changed(APART, gallery_cameras=np.roll(APART["gallery_cameras"], 2)),
        {"misaligned_cameras"},
        "gallery_cameras fit better when shifted by -2",
    ),
    "shifted queries": (
        lambda: changed(APART, query_cameras=np.roll(APART["query_cameras"], -1)),
        {"misaligned_cameras"},
        "query_cameras fit better when shifted by 1:",
    ),
    "shifted distances": (
        lambda: in_distances(changed(APART, gallery_cameras=np.roll(APART["gallery_cameras"], 1))),
        {"misaligned_cameras"},
        "gallery_cameras fit better when shifted by -1:",
    ),
    "shuffled": (
        lambda: changed(APART, gallery_cameras=shuffled(APART["gallery_cameras"])),
        {"misaligned_cameras"},
        "as by chance",
    ),
    "shifted beside the queries": (
        lambda: changed(WITHIN, gallery_cameras=np.roll(WITHIN["gallery_cameras"], 1)),
        {"misaligned_cameras", "misaligned_labels", "queries_match_themselves"},
        "each finds itself as a match",
    ),
    "persons out of line": (
        lambda: changed(WITHIN, gallery_persons=np.roll(WITHIN["gallery_persons"], 9)),
        {"misaligned_labels", "queries_as_other_persons"},
        "in the gallery as another person",
    ),
    "swapped cameras": (
        lambda: changed(APART, query_cameras=APART["gallery_cameras"], gallery_cameras=APART["query_cameras"]),
        {"swapped_cameras"},
        "query_cameras and gallery_cameras are swapped",
    ),
    "swapped labels": (
        lambda: changed(
            APART,
            query_cameras=APART["query_persons"],
            query_persons=APART["query_cameras"],
            gallery_cameras=APART["gallery_persons"],
            gallery_persons=APART["gallery_cameras"],
        ),
        {"swapped_persons_and_cameras"},
        "persons and cameras may be swapped",
    ),
    "numbers of tracklets": (
        lambda: changed(APART, gallery_cameras=np.arange(len(APART["gallery_cameras"]))),
        {"swapped_persons_and_cameras"},
        "the cameras are numbers of frames or tracklets",
    ),
    "per frame": (
        lambda: changed(APART, gallery_cameras=np.repeat(APART["gallery_cameras"], 9)),
        {"per_frame_cameras"},
        f"gallery_cameras holds {9 * len(APART['gallery_cameras'])} cameras for {len(APART['gallery_cameras'])} track",
    ),
    "one camera": (lambda: constant(constant(APART, "query"), "gallery"), {"constant_cameras"}, "All cameras are 1"),
    "one camera of the gallery": (
        lambda: constant(APART, "gallery"),
        {"constant_cameras"},
        "All gallery_cameras are 1",
    ),
    "one camera of the queries": (lambda: constant(APART, "query", 9), {"constant_cameras"}, "All query_cameras are 9"),
    "persons as cameras": (
        lambda: changed(
            APART,
            query_cameras=APART["query_persons"] // 2,
            gallery_cameras=APART["gallery_persons"] // 2,
        ),
        {"one_camera_per_person"},
        "Each person is in one camera",
    ),
    "NaN": (lambda: with_nan(APART), {"not_finite"}, "1 of .* the first is row 7"),
    "infinite distance": (
        lambda: changed(in_distances(APART), distances=np.where(in_distances(APART)["distances"] > 9, np.inf, 1.0)),
        {"not_finite"},
        "rows of distances hold NaN or infinities",
    ),
    "duplicates": (
        lambda: twice(APART),
        {"duplicates_in_gallery"},
        "5 of .* duplicates .*, 0 of them as another person",
    ),
    "duplicates in distances": (lambda: in_distances(twice(APART)), {"duplicates_in_gallery"}, "5 of .* duplicates"),
    "duplicates of others": (
        lambda: twice(APART, persons_too=False),
        {"duplicates_in_gallery"},
        "5 of them as another person",
    ),
    "lengths in cosine": (
        lambda: changed(APART, metric="cosine"),
        {"unnormalised_cosine"},
        "ranks by the norms too",
    ),
    "inner products": (
        lambda: changed(
            in_distances(APART),
            distances=1 - APART["query_embeddings"] @ APART["gallery_embeddings"].T,
            metric="cosine",
        ),
        {"unnormalised_cosine"},
        "Cosine distances are 0 to 2, and these run from -",
    ),
    "inner products of embeddings": (
        lambda: changed(APART, distances=1 - APART["query_embeddings"] @ APART["gallery_embeddings"].T),
        {"unnormalised_cosine"},
        "1 - the inner products of embeddings that are not normalised",
    ),
    "similarities": (
        lambda: changed(in_distances(APART), distances=-in_distances(APART)["distances"]),
        {"similarities"},
        "Give 1 - similarity",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_alone(name):
    build, expected, sentence = FAULTS[name]
    found = audit(**build())
    assert kinds(found) == expected, found.text()
    assert found.has_faults

    assert any(re.search(sentence, finding.text) for finding in found.findings)


def test_swapped_cameras_are_scored_in_their_places():
    build, _, _ = FAULTS["swapped cameras"]
    assert printed(audit(**build())) == printed(audit(**APART))


def test_normalised_embeddings_have_a_cosine():
    assert not audit(**unit(APART), metric="cosine").has_faults


def test_queries_of_one_camera_each_side_are_worth_a_note():
    given = constant(constant(APART, "query", 1), "gallery", 2)
    found = audit(**given)
    assert kinds(found) == set()
    assert kinds(found, faults_only=False) == {"one_camera_each"}


def test_distances_of_nothing_known_are_worth_a_note():
    random = np.random.default_rng(0).random((NUM_QUERIES, len(APART["gallery_persons"])))
    given = changed(APART, distances=in_distances(APART)["distances"] * random)
    assert kinds(audit(**given), faults_only=False) >= {"unknown_distances"}
    for metric in ("euclidean", "cosine"):
        given = changed(unit(APART), distances=in_distances(unit(APART), metric)["distances"], metric=metric)
        assert not kinds(audit(**given), faults_only=False)


def percent(score):
    return f"{100 * score[0]:.1f}/{100 * score[1]:.1f}"


def test_the_protocol_that_prints_the_reported_scores():
    for given in (APART, WITHIN):
        for name, score in printed(audit(**given)).items():
            found = audit(**given, reported=percent(score))
            assert [(one.name, one.distances) for one in found.matches] == [(name, "Euclidean distances")]
            assert f"printed by {name} with Euclidean distances" in found.text()


def test_reported_scores_of_another_distance_or_in_the_other_order():
    found = audit(**APART, reported=percent(printed(audit(**APART, metric="cosine"))["mars"]))
    assert [(one.name, one.distances) for one in found.matches] == [("mars", "cosine distances")]
    rank1, mean, _ = printed(audit(**APART))["mars"]
    found = audit(**APART, reported=f"{100 * mean:.3f}/{100 * rank1:.0f}")
    assert [one.name for one in found.matches] == ["mars"]
    assert "if they are read as mAP/rank-1" in found.text()


def test_reported_scores_of_a_mistake():
    # Without the rule the nearest tracklet is that of the same camera.
    distances = in_distances(WITHIN)["distances"].copy()
    distances[np.arange(NUM_QUERIES), PLACES] = np.inf
    nearest = WITHIN["gallery_persons"][distances.argmin(axis=1)] == APART["query_persons"]
    found = audit(**WITHIN, reported="99.9/1")
    none = [score for score in found.scores if score.name == "no rule"]
    np.testing.assert_allclose([score.rank1 for score in none], nearest.mean())
    assert "printed by none of these; the nearest is" in found.text()
    again = audit(**WITHIN, reported=percent((none[0].rank1, none[0].map)))
    assert [(one.name, one.is_protocol) for one in again.matches] == [("no rule", False)]
    assert "printed by no rule" in again.text()


def test_reported_scores_of_a_list_of_frames():
    build, _, _ = FAULTS["per frame"]
    given = build()
    count = len(given["gallery_persons"])
    wrong = changed(WITHIN, gallery_cameras=np.repeat(WITHIN["gallery_cameras"], 9))
    cut = changed(WITHIN, gallery_cameras=wrong["gallery_cameras"][: len(WITHIN["gallery_persons"])])
    expected = printed(audit(**cut))["with_queries"]
    found = audit(**wrong, reported=percent(expected))
    assert set(found.missing) == set(AUDITED)
    assert "per-frame" in {one.name for one in found.matches}
    assert len(given["gallery_cameras"]) == 9 * count


def test_plain_data():
    found = audit(**constant(APART, "gallery"), reported="50/50")
    data = found.to_dict()
    assert data["reported"] == [50.0, 50.0]
    assert [score["name"] for score in data["scores"]][:4] == list(AUDITED)
    assert data["findings"][0]["kind"] == "constant_cameras"


@pytest.mark.parametrize("text", ["", "85.3", "85.3,81.2", "a/b", "101/50", "0.853/0.812", "85/81/80", "-1/50"])
def test_reported_scores_are_percents(text):
    with pytest.raises(ValueError, match=r"rank-1 and mAP in percent.*Received: reported="):
        parse_reported(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query_persons": APART["query_persons"][:-1]}, r"one label per tracklet\. Received: query_persons of "),
        ({"gallery_cameras": APART["gallery_cameras"][:-1]}, "Received: gallery_cameras of "),
        ({"gallery_persons": np.repeat(APART["gallery_persons"], 2)}, "Received: gallery_persons of "),
        ({"query_cameras": APART["query_cameras"] + 0.5}, "`query_cameras` are whole numbers"),
        ({"query_cameras": APART["query_cameras"].astype(str)}, "`query_cameras` are whole numbers"),
        ({"gallery_embeddings": None}, r"or their distances\. Received: query_embeddings"),
        ({"gallery_embeddings": None, "query_embeddings": None}, "Received: neither"),
        ({"gallery_embeddings": np.zeros((3, 2))}, "do not fit each other"),
        ({"distances": np.zeros((3, 2))}, "do not fit each other"),
        ({"gallery_embeddings": np.zeros(3)}, "is an array of rows"),
        ({"gallery_embeddings": np.zeros((0, 16))}, "is an array of rows"),
        ({"metric": "manhattan"}, "Received: metric='manhattan'"),
    ],
)
def test_wrong_input_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        audit(**{**APART, **change})
