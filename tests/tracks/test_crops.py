import numpy as np
import pytest
from track_samples import ALL

from kreid.data.readers import read_tracklet_folders
from kreid.tracks import cut_tracklets
from kreid.tracks.crops import names_of


def test_names(video, tracks, tmp_path):
    cut_tracklets(
        video, tracks, tmp_path / "a", limits=ALL, split="train", person="anna", camera="c{id}", progress=False
    )
    names = [entry.name for entry in read_tracklet_folders(tmp_path / "a/train")]
    assert names == ["anna/c3/hall-3", "anna/c7/hall-7", "anna/c-2/hall--2"]
    for wrong in ("{name}", "", ".{id}", "a/{id}", "{id", "{}"):
        with pytest.raises(ValueError, match="Received: camera="):
            cut_tracklets(video, tracks, tmp_path / "b", limits=ALL, camera=wrong, progress=False)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(("person", "number"), [("{id}", 0), ("{id}", -1), ("0{id}", 0), ("00-{id}", 1)])
def test_persons_that_would_be_read_as_distractors_or_junk(person, number):
    with pytest.raises(ValueError, match=r"is read as a distractor or junk.*Received: person="):
        names_of("hall", np.array([5, number]), person, "{video}")


@pytest.mark.parametrize("person", ["distractor", "junk", "0000"])
def test_persons_that_are_meant_as_distractors_or_junk(person):
    assert names_of("hall", np.array([5]), person, "c1") == [(person, "c1", "hall-5")]
