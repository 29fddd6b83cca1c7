import numpy as np
import pytest
from track_samples import ALL, SIZE, box_of, look, model_of, there

from kreid.data.readers import read_tracklet_folders
from kreid.data.tracklet import Tracklet
from kreid.gallery import TrackletEmbeddings, embed_tracklets
from kreid.tracks import TrackLimits, cut_tracklets, embed_tracks
from kreid.tracks.cuts import plan_cuts


@pytest.mark.parametrize("settings", [{}, {"test_selection": "evenly", "test_frames": 3}])
def test_embeddings_are_those_of_the_folders(video, tracks, tmp_path, settings):
    model = model_of(**settings)
    limits = TrackLimits(min_size=(1, 1), min_length=5)
    seen = []
    embedded = embed_tracks(
        model,
        video,
        tracks,
        tmp_path / "out.npz",
        limits=limits,
        batch_frames=16,
        watch=lambda *one: seen.append(one),
        progress=False,
    )
    cut_tracklets(video, tracks, tmp_path / "out", limits=limits, progress=False)
    entries = read_tracklet_folders(tmp_path / "out/gallery")
    assert embedded.ids.tolist() == [entry.name for entry in entries]
    expected = embed_tracklets(model, [Tracklet(e.name, 1, 1, e.frames) for e in entries], progress=False).embeddings
    np.testing.assert_allclose(embedded.embeddings, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert (embedded.persons.tolist(), embedded.cameras.tolist(), embedded.metric) == ([1, 2], [1, 1], model.metric)
    spans = {3: ("1", "12"), 7: ("3", "9")}
    tags = [{"track": str(n), "first_frame": first, "last_frame": last} for n, (first, last) in spans.items()]
    assert (embedded.sources.tolist(), list(embedded.tags)) == (["hall"] * 2, tags)
    selected = {n: model.selection.positions(len(there(n))) for n in spans}
    watched = sorted((n, frame) for n, frame, _ in seen)
    assert watched == [(n, there(n)[place]) for n in spans for place in selected[n].tolist()]
    for number, frame, crop in seen:
        np.testing.assert_array_equal(crop, look(number, frame, *box_of(number, frame)[2:]))
    np.testing.assert_array_equal(TrackletEmbeddings.load(tmp_path / "out.npz").embeddings, embedded.embeddings)
    with pytest.raises(FileExistsError, match=r"remove this one\. Received: path="):
        embed_tracks(model, video, tracks, tmp_path / "out.npz", progress=False)


def test_memory_is_bounded_beforehand(video, tracks):
    # In frame 9 the first walker has 9 frames and the second 7; the third is already embedded.
    cuts = plan_cuts(tracks, SIZE, ALL)
    assert cuts.most_at_once == 16
    assert cuts.thinned(lambda length: np.array([length - 1])).most_at_once == 1
    with pytest.raises(ValueError, match=r"store up to 16 frames at once.*Received: frames_in_memory=15"):
        embed_tracks(model_of(), video, tracks, limits=ALL, frames_in_memory=15, progress=False)
