"""The files of a folder of identities, from the command and from Python."""

import json

import numpy as np
import pytest
from identity_samples import WALKS, found_persons, write_camera

from kreid.data import read_folder
from kreid.gallery import TrackletEmbeddings
from kreid.identities import CameraVideo, embed_cameras, link_tracklets, write_accepted, write_identities
from kreid.identities.files import first_and_last
from kreid.tracks import TrackLimits, from_boxmot


def test_other_files(identities):
    record = TrackletEmbeddings.load(identities / "embeddings.npz")
    persons, _ = found_persons(identities)
    assert [persons[person].index(name) >= 0 for person, name in zip(record.persons, record.ids, strict=True)]
    assert record.sources.tolist() == ["hall"] * 3 + ["door"] * 3
    scores = json.loads((identities / "scores.json").read_text())
    assert scores["identities"] == {
        "unit": "boxes", "idf1": 1.0, "idp": 1.0, "idr": 1.0, "idtp": 48, "idfp": 0, "idfn": 0
    }  # fmt: skip
    assert (scores["pairs"]["f1"], scores["pairs"]["true"]) == (1.0, 4)
    names = {"identities.csv", "tracks", "tracker", "embeddings.npz", "identities.json", "scores.json", "review.html"}
    assert {path.name for path in identities.iterdir()} == names
    assert [path.name for path in identities.parent.iterdir()] == ["out"]


def boxmot(camera):
    """What a tracker returned for each frame of a camera."""
    for frame in range(1, 13):
        yield np.array(
            [
                [left, 8, left + 14, 40, track, 0.9, 0, 0]
                for track, (_, first, last, left) in WALKS[camera].items()
                if first <= frame <= last
            ]
        )


@pytest.mark.usefixtures("eagerly")
def test_tracks_need_no_file(model, tmp_path):
    videos = []
    for camera in WALKS:
        images, text = write_camera(tmp_path / "cameras", camera)
        text.unlink()
        videos.append(CameraVideo(str(images), from_boxmot(boxmot(camera)), camera=f"the {camera}"))
    limits = TrackLimits(min_size=(1, 1), min_length=3)
    sightings = embed_cameras(model, videos, limits=limits, progress=False)
    identities = link_tracklets(sightings.embeddings, *first_and_last(sightings.embeddings))
    out = tmp_path / "out"
    write_identities(out, sightings, identities)
    persons, rows = found_persons(out)
    assert (len(persons), rows["door-2"]["camera"]) == (3, "the door")
    state = json.loads((out / "identities.json").read_text())
    persons = [{"person": int(n), "accepted": True, "tracklets": names} for n, names in state["persons"].items()]
    decisions = tmp_path / "decisions.json"
    decisions.write_text(json.dumps({"format": 1, "run": state["run"], "persons": persons}))
    write_accepted(out, decisions, tmp_path / "data", progress=False)
    dataset = read_folder(tmp_path / "data")
    assert len(dataset.train) == 6
    assert sorted(dataset.camera_names.values()) == ["the door", "the hall"]
    with pytest.raises(FileExistsError, match="remove this one"):
        write_identities(out, sightings, identities)
