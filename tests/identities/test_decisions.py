"""From the decisions of the review page to a folder data set."""

import json

import numpy as np
import pytest
from identity_samples import WALKS, crop_of
from PIL import Image

from kreid.data import read_folder
from kreid.identities.__main__ import main


@pytest.fixture
def decisions(identities, tmp_path):
    """Function: a change to the decisions -> the path of their file."""
    state = json.loads((identities / "identities.json").read_text())

    def write(change=lambda read: None):
        persons = [
            {"person": int(person), "accepted": len(names) > 1, "tracklets": names}
            for person, names in state["persons"].items()
        ]
        read = {"format": 1, "run": state["run"], "persons": persons}
        read = change(read) or read
        path = tmp_path / "decisions.json"
        path.write_text(json.dumps(read))
        return str(path)

    return write


@pytest.fixture
def run(identities, tmp_path, capsys):
    """Function: decisions, arguments -> the exit status and what was printed."""

    def call(path, *arguments, folder=identities):
        status = main([str(folder), "--decisions", path, "--out", str(tmp_path / "data"), "--quiet", *arguments])
        output = capsys.readouterr()
        return status, output.out + output.err

    return call


def test_accepted_persons_are_a_data_set(decisions, run, tmp_path):
    status, text = run(decisions())
    assert (status, text) == (
        0, f"{tmp_path / 'data'}: 2 persons, 5 tracklets, 36 frames; 1 persons were not accepted\n"
    )  # fmt: skip
    dataset = read_folder(tmp_path / "data")
    assert sorted(dataset.person_names.values()) == ["p0001", "p0002"]
    assert sorted(dataset.camera_names.values()) == ["door", "hall"]
    assert len(dataset.train) == 5 and not dataset.test
    looks = {"p0001": "red", "p0002": "green"}
    for tracklet in dataset.train:
        *_, person, camera, name, _ = tracklet.frames[0].split("/")
        colour, first, last, _ = WALKS[camera][int(name.split("-")[1])]
        assert (dataset.person_names[tracklet.person], looks[person]) == (person, colour)
        for frame, path in zip(range(first, last + 1), tracklet.frames, strict=True):
            np.testing.assert_array_equal(np.asarray(Image.open(path)), crop_of(colour, frame))


def test_another_split_and_format(decisions, run, tmp_path):
    assert run(decisions(), "--split", "gallery", "--format", "jpg")[0] == 0
    assert len(list((tmp_path / "data/gallery").glob("*/*/*/*.jpg"))) == 36
    status, text = run(decisions())
    assert status == 2
    assert "Give a new folder or remove this one; it has gallery" in text


def edit(field, value, person=0):
    def change(read):
        read["persons"][person][field] = value

    return change


def join_overlapping(read):
    one, other = read["persons"][:2]
    one["tracklets"] += other["tracklets"]
    read["persons"].remove(other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda read: read.update(run="0" * 64), "tracklets of another run"),
        (lambda read: read.update(format=2), "Received: decisions="),
        (lambda read: read.pop("persons"), "no file that the review page saved"),
        (lambda read: [1], "no file that the review page saved"),
        (edit("person", 0), "no number from 1"),
        (edit("person", 2), "with a person twice"),
        (edit("tracklets", ["hall-3"]), "about tracklet"),
        (edit("tracklets", ["../x"]), "about tracklet"),
        (join_overlapping, "split person 1 on the page"),
        (lambda read: [each.update(accepted=False) for each in read["persons"]] and None, "No person is accepted"),
    ],
)
def test_decisions_that_do_not_fit(change, message, decisions, run, tmp_path):
    status, text = run(decisions(change))
    assert status == 2
    assert message in text, text
    assert "Received: " in text
    assert not (tmp_path / "data").exists()


def test_other_wrong_usage(decisions, run, identities, cameras, tmp_path):
    assert "is missing" in run("none.json")[1]
    assert "was not written by `kreid identify`" in run(decisions(), folder=tmp_path)[1]
    assert "Received: folder=" in run(decisions(), "--truth", "x")[1]
    stored = ["--embeddings", str(identities / "embeddings.npz"), "--out", str(tmp_path / "stored")]
    assert main(stored) == 0
    assert "made from embeddings" in run(decisions(), folder=tmp_path / "stored")[1]
