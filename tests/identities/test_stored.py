"""A folder of identities is read again."""

import pytest
from identity_samples import found_persons, page_data

from kreid.identities.__main__ import main
from kreid.identities.files import read_state


def test_a_folder_is_linked_again_without_a_model(identities, truth, tmp_path, capsys):
    again = [str(identities), *truth, "--quiet", "--out"]
    assert main([*again, str(tmp_path / "same")]) == 0
    for name in ("identities.csv", "identities.json", "scores.json", "tracks/hall.txt", "tracks/door.txt"):
        assert (tmp_path / "same" / name).read_bytes() == (identities / name).read_bytes(), name
    data, expected = (page_data(folder / "review.html") for folder in (tmp_path / "same", identities))
    assert all("picture" in tracklet for tracklet in data["tracklets"])
    for page in (data, expected):
        for tracklet in page["tracklets"]:  # Other frames of the same walker.
            del tracklet["picture"], tracklet["width"]
    assert data == expected
    assert main([*again, str(tmp_path / "many"), "--threshold", "1e-9"]) == 0
    assert len(found_persons(tmp_path / "many")[0]) == 6
    capsys.readouterr()
    for more, message in ((["--stride", "2"], "limits=TrackLimits"), (truth[:2], "3 of --truth, 2 videos")):
        assert main([*again, str(tmp_path / "wrong"), *more]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "wrong").exists()


def test_a_folder_of_embeddings_has_no_truth(identities, truth, tmp_path, capsys):
    stored = ["--embeddings", str(identities / "embeddings.npz"), "--out", str(tmp_path / "stored")]
    assert main(stored) == 0
    assert main([str(tmp_path / "stored"), "--out", str(tmp_path / "again")]) == 0
    table = (tmp_path / "again/identities.csv").read_text()
    assert table == (identities / "identities.csv").read_text()
    assert main([str(tmp_path / "stored"), *truth, "--out", str(tmp_path / "scored")]) == 2
    assert "2 of --truth, 0 videos" in capsys.readouterr().err


def test_damaged_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no identities\.json"):
        read_state(tmp_path)
    for text, message in (("{", "is damaged"), ("[]", "is damaged"), ('{"format": 9}', "another version of kreid")):
        (tmp_path / "identities.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_state(tmp_path)
