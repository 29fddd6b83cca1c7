"""The signature `search` equals the search of the gallery that it was made of."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from served_galleries import people

from kreid.gallery import GalleryModel, MemoryGallery
from kreid.passport import Passport
from kreid.serving import search_signature
from kreid.serving.search_signature import FixedGallery
from kreid.serving.signatures import Limits

LIMITS = Limits(rows=64, frames_per_tracklet=8, frames_per_batch=64, frames_at_once=8)
CALIBRATED = {"calibration": {"scale": 3.0, "offset": 2.0}}


def gallery_of(record):
    gallery = MemoryGallery(GalleryModel.of(record))
    gallery.add(record)
    return gallery


def function_of(gallery, count=5, verification=None):
    fixed = FixedGallery.of(gallery, gallery.model, count)
    search, _ = search_signature.search_signature(fixed, LIMITS, verification)
    return lambda rows: {name: value.numpy() for name, value in search(np.asarray(rows, np.float32)).items()}


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("group", [1 << 20, 300], ids=["one group", "groups of rows"])
def test_an_answer_equals_that_of_the_gallery(metric, group, monkeypatch):
    monkeypatch.setattr(search_signature, "_GROUP_DISTANCES", group)
    stored = people(90, dimension=8, metric=metric)
    twins = np.concatenate([stored.embeddings[:80], stored.embeddings[:10]])  # Equal distances: the ids decide.
    stored = dataclasses.replace(stored, embeddings=twins, persons=np.arange(90) % 11)
    queries = people(30, seed=1, dimension=8, metric=metric, prefix="q")
    rows = np.concatenate([queries.embeddings[:20], stored.embeddings[:10]])  # Distances of zero.
    queries = dataclasses.replace(queries, embeddings=rows)
    every = gallery_of(stored).search_many(queries, 7, by_person=True, threshold=None)
    limit = float(np.median([matches[3].distance for matches in every]))
    passport = dataclasses.replace(stored.passport, verification={"metric": metric, "threshold": limit})
    gallery = gallery_of(dataclasses.replace(stored, passport=passport))
    near = gallery.search_many(queries, 7, by_person=True)
    assert len({len(matches) for matches in near}) > 3
    answer = function_of(gallery, 7, CALIBRATED)(rows)
    for row in range(30):
        expected = np.array([match.distance for match in every[row]])
        np.testing.assert_allclose(answer["distance"][row], expected, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(answer["probability"][row], 1 / (1 + np.exp(3 * expected - 2)), rtol=1e-5)
        missing = 7 - len(near[row])
        assert answer["person"][row].tolist() == [match.person for match in near[row]] + [-1] * missing
        assert answer["tracklet"][row].tolist() == [match.id.encode() for match in near[row]] + [b""] * missing


def test_a_row_is_answered_as_if_it_were_alone():
    stored = people(40, dimension=8)
    search = function_of(gallery_of(stored))
    rows = people(9, seed=1, dimension=8).embeddings
    together = search(np.concatenate([rows, rows[:1], rows[:1]]))  # Padded with the first row.
    for row in range(9):
        alone = search(rows[[row]])
        assert together["person"][row].tolist() == alone["person"][0].tolist()
        np.testing.assert_allclose(together["distance"][row], alone["distance"][0], rtol=1e-6)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_a_row_without_an_embedding_finds_nobody(metric):
    stored = people(20, metric=metric, passport=Passport())
    rows = np.full((5, 4), 1e20, np.float32)
    rows[0], rows[1, 2], rows[3], rows[4] = np.nan, np.inf, stored.embeddings[0], 0.0
    answer = function_of(gallery_of(stored))(rows)
    for row in (0, 1, 2):
        assert answer["person"][row].tolist() == [-1] * 5
        assert answer["tracklet"][row].tolist() == [b""] * 5
        assert np.isnan(answer["distance"][row]).all()
    # Without a threshold, all count.
    assert answer["tracklet"][3][0] == b"t0"
    assert (answer["person"][3] >= 0).all()
    # Zeros have no direction.
    assert np.isnan(answer["distance"][4]).all() == (metric == "cosine")


def test_there_are_no_more_answers_than_persons():
    stored = people(6, persons=[3, 3, 0, 0, 9, 9])  # Each tracklet of an unknown person counts.
    answer = function_of(gallery_of(stored), count=9)(stored.embeddings[:1])
    assert answer["distance"].shape == (1, 4)
    assert FixedGallery.of(gallery_of(stored), gallery_of(stored).model, 9).to_dict() == {
        "tracklets": 6,
        "persons": 2,
        "threshold": 0.7,
        "count": 4,
    }


@pytest.mark.parametrize("shape", [(0, 4), (65, 4), (2, 3)])
def test_a_batch_beyond_the_limits_is_an_error(shape):
    search = function_of(gallery_of(people(5)))
    with pytest.raises((tf.errors.InvalidArgumentError, TypeError, ValueError)):
        search(np.zeros(shape))


def test_a_gallery_that_does_not_fit_is_refused(monkeypatch):
    gallery = gallery_of(people(5))
    other = dataclasses.replace(gallery.model, fingerprint="ab" * 32)
    with pytest.raises(ValueError, match=r"Embed the gallery's tracklets again .* the export has model='abababababab'"):
        FixedGallery.of(gallery, other)
    with pytest.raises(
        ValueError, match=r"holds a gallery of 1 to 10000 tracklets; .* Received: a gallery of 0 tracklets"
    ):
        FixedGallery.of(MemoryGallery(gallery.model), gallery.model)
    with pytest.raises(ValueError, match="Received: gallery_count=0"):
        FixedGallery.of(gallery, gallery.model, 0)
    monkeypatch.setattr(search_signature, "MAX_VALUES", 16)
    with pytest.raises(ValueError, match="An export of 4 features holds a gallery of 1 to 4 tracklets"):
        FixedGallery.of(gallery, gallery.model)
