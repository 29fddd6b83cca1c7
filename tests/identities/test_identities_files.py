"""The table of identities."""

import csv

import numpy as np
import pytest

from kreid.gallery import TrackletEmbeddings
from kreid.identities import link_tracklets
from kreid.identities.files import check_new_folder, first_and_last, identity_table


def record(**labels):
    return TrackletEmbeddings([[0.0], [5.0], [0.1]], ["a", 'b,"', "c"], [0] * 3, [1, 1, 2], **labels)


def test_the_lines_of_a_person_follow_each_other():
    embeddings = record(starts=[1795776990.25, 1.0, np.nan], ends=[1795776999.5, 2.0, np.nan])
    first, last = first_and_last(embeddings)
    identities = link_tracklets(embeddings, first, last, threshold=1.0)
    header, *rows = csv.reader(identity_table(embeddings, identities).splitlines())
    assert header == ["person", "tracklet", "camera", "first_frame", "last_frame", "margin", "certainty"]
    assert rows == [
        ["1", "a", "1", "1795776990.25", "1795776999.5", "0.9", ""],
        ["1", "c", "2", "", "", "0.9", ""],
        ["2", 'b,"', "1", "1", "2", "3.95", ""],
    ]


def test_frames_of_the_tags_come_before_times():
    tags = tuple({"first_frame": str(frame), "last_frame": str(frame + 9), "camera": "hall"} for frame in (1, 11, 21))
    embeddings = record(starts=[9.0] * 3, ends=[9.0] * 3, tags=tags)
    assert [ends.tolist() for ends in first_and_last(embeddings)] == [[1, 11, 21], [10, 20, 30]]
    unnamed = record(starts=[9.0] * 3, ends=[9.5] * 3, tags=(*tags[:2], {}))
    assert [ends.tolist() for ends in first_and_last(unnamed)] == [[9.0] * 3, [9.5] * 3]


def test_new_folders(tmp_path):
    check_new_folder(tmp_path)
    check_new_folder(tmp_path / "none")
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / ".gitkeep").touch()
    (tmp_path / "file").touch()
    for path, message in (
        (tmp_path / "hidden", r"it has \.gitkeep"),
        (tmp_path, "it has file"),
        (tmp_path / "file", "this is a file"),
    ):
        with pytest.raises(FileExistsError, match=message):
            check_new_folder(path)
    with pytest.raises(NotADirectoryError, match="file is a file; give another path"):
        check_new_folder(tmp_path / "file" / "new" / "folder")
