import dataclasses
from pathlib import Path

import numpy as np
import pytest

from kreid.backbones import build
from kreid.data.readers import read_mars
from kreid.gallery import embed, embed_to_file, embed_tracklets
from kreid.models import Baseline, fingerprint
from kreid.synthetic import render_mars

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture(scope="module")
def model():
    return Baseline(build("resnet_tiny", image_size=(64, 32)), num_identities=4)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "mars"
    size = {"tracklets_per_camera": (1, 2), "frames_per_tracklet": (2, 5), "image_size": (64, 32)}
    return read_mars(render_mars(root, train_persons=2, test_persons=3, distractors=1, junk=1, progress=False, **size))


def test_an_interrupted_embedding_continues_and_gives_the_same(model, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(embed, "_PART_FRAMES", 14)
    some, rows = dataset.test[:12], [0, 2]
    whole = embed_to_file(model, some, tmp_path / "whole.npz", query_rows=rows, progress=False)
    reference = embed_tracklets(model, some, progress=False)
    assert (reference.model, reference.passport) == (whole.model, whole.passport)
    np.testing.assert_allclose(whole.embeddings, reference.embeddings, rtol=1e-4, atol=1e-5)

    calls = []
    method = embed._embedded

    def counted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return method(*args, **kwargs)

    monkeypatch.setattr(embed, "_embedded", counted)
    path = tmp_path / "resumed.npz"
    with pytest.raises(KeyboardInterrupt):
        embed_to_file(model, some, path, query_rows=rows, progress=False)
    parts = sorted((tmp_path / "resumed.npz.partial").iterdir())
    assert len(parts) == 2
    assert not path.exists()
    parts[1].write_bytes(parts[1].read_bytes()[:100])  # As a machine that went down would leave it.
    resumed = embed_to_file(model, some, path, query_rows=rows, progress=False)
    total = len(list(embed._parts([len(tracklet) for tracklet in some])))
    assert len(calls) == 3 + total - 1
    np.testing.assert_array_equal(resumed.embeddings, whole.embeddings)
    assert resumed.ids.tolist() == whole.ids.tolist() == [tracklet.id for tracklet in some]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["resumed.npz", "whole.npz"]


def test_two_tracklets_of_one_id_are_refused_before_any_work(model, dataset, tmp_path):
    some = (*dataset.test[:3], dataset.test[1])
    with pytest.raises(ValueError, match=f"its own id.*{dataset.test[1].id}"):
        embed_to_file(model, some, tmp_path / "file.npz", progress=False)
    assert not list(tmp_path.iterdir())


def test_damage_is_named_and_its_share_is_that_of_one_call(model, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(embed, "_PART_FRAMES", 8)
    model = model.with_selection("evenly", 2)
    row = max(range(10), key=lambda number: len(dataset.test[number]))
    bad = [tmp_path / Path(frame).name for frame in dataset.test[row].frames]
    for path in bad:
        path.write_bytes(b"")
    some = list(dataset.test[:10])
    some[row] = dataclasses.replace(some[row], frames=tuple(map(str, bad)))
    # Two frames of each are selected; the damaged tracklet is read whole.
    share = len(bad) / (2 * 9 + len(bad))
    for embed_all in (
        lambda limit: embed_tracklets(model, some, max_damaged=limit, progress=False),
        lambda limit: embed_to_file(model, some, tmp_path / "some.npz", max_damaged=limit, progress=False),
    ):
        with pytest.raises(ValueError, match=f"{len(bad)} of {2 * 9 + len(bad)} frames cannot be read"):
            embed_all(share - 1e-6)
        embeddings = embed_all(share)
        assert len(embeddings) == 9
        assert embeddings.unreadable.tolist() == [some[row].id]
        assert embeddings.damaged_frames.tolist() == sorted(map(str, bad))
        report = embeddings.damage_report().splitlines()
        assert report[0] == f"{len(bad)} damaged frames:"
        assert report[-1] == f"tracklets without a readable frame: {some[row].id}"
        assert embeddings.ids.tolist() == [tracklet.id for number, tracklet in enumerate(some) if number != row]


def test_a_file_is_read_for_the_same_model_and_data_alone(model, dataset, tmp_path, monkeypatch):
    path = tmp_path / "embeddings.npz"
    some = dataset.test[:6]
    first = embed_to_file(model, some, path, progress=False)
    written = path.stat().st_mtime_ns
    np.testing.assert_array_equal(embed_to_file(model, some, path, progress=False).embeddings, first.embeddings)
    assert path.stat().st_mtime_ns == written
    fewer = embed_to_file(model, some[:5], path, progress=False)
    assert len(fewer) == 5
    assert fewer.model == fewer.passport.fingerprint == fingerprint(model)
    twin = Baseline.from_config(model.get_config())  # Other weights.
    assert embed_to_file(twin, some[:5], path, progress=False).model != fewer.model
