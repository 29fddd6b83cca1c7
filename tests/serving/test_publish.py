"""Versions are published whole, one each by exporters at once, and the oldest are removed."""

import errno
import threading

import pytest

from kreid.cli import main
from kreid.gallery import LanceGallery
from kreid.models import fingerprint
from kreid.serving import export_model, publish, read_card
from kreid.serving.publish import publishing, remove_old_versions, versions


def complete(folder, *numbers):
    for number in numbers:
        (folder / str(number)).mkdir()
        (folder / str(number) / "saved_model.pb").write_bytes(b"a graph")


def test_the_oldest_complete_versions_are_removed(tmp_path):
    complete(tmp_path, 2, 9, 10, 11)
    (tmp_path / "3").mkdir()  # A version that somebody copies.
    (tmp_path / "notes").mkdir()
    assert remove_old_versions(tmp_path, keep=2) == [2, 9]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10", "11", "3", "notes"]
    assert remove_old_versions(tmp_path, keep=1, published=10) == []
    assert remove_old_versions(tmp_path, keep=5) == []


@pytest.mark.parametrize("keep", [0, -1, True, 1.5, "2"])
def test_at_least_one_version_stays(tmp_path, model, keep):
    complete(tmp_path, 1)
    with pytest.raises(ValueError, match=r"positive integer.* Received: keep="):
        export_model(model, tmp_path, version=2, keep=keep)
    assert versions(tmp_path) == [1]


def test_exporters_at_once_publish_a_version_each(tmp_path):
    complete(tmp_path, 4)
    together = threading.Barrier(8)
    found, errors = [], []

    def publish(number):
        try:
            with publishing(tmp_path, None) as (temporary, published):
                temporary.mkdir()
                (temporary / "saved_model.pb").write_text(str(number))
                together.wait()
            found.append((int(published[0].name), number))
            remove_old_versions(tmp_path, keep=3, published=int(published[0].name))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert sorted(version for version, _ in found) == list(range(5, 13))
    assert {10, 11, 12} <= set(versions(tmp_path))
    remove_old_versions(tmp_path, keep=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10", "11", "12"]
    for version, number in found:
        if version >= 10:
            assert (tmp_path / str(version) / "saved_model.pb").read_text() == str(number)


def test_a_number_that_is_removed_meanwhile_is_not_given_again(tmp_path, monkeypatch):
    complete(tmp_path, 4)

    def late_look(directory):
        number = max(versions(directory)) + 1
        # Others publish, and remove what is old, between the look and the name.
        other = threading.Thread(target=others)
        other.start()
        other.join(0.2)
        waiting.append(other)
        return number

    def others():
        for _ in range(3):
            with publishing(tmp_path, None) as (temporary, _):
                temporary.mkdir()
                (temporary / "saved_model.pb").write_text("other")
            remove_old_versions(tmp_path, keep=1)

    waiting = []
    looks = iter([late_look])
    real = publish.next_version
    monkeypatch.setattr(publish, "next_version", lambda directory: next(looks, real)(directory))
    with publishing(tmp_path, None) as (temporary, published):
        temporary.mkdir()
        (temporary / "saved_model.pb").write_text("mine")
    waiting[0].join()
    assert published[0].name == "5"
    assert versions(tmp_path) == [8]


def test_where_folders_cannot_be_locked_versions_are_published_and_removed(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(errno.EBADF, "a network file system")

    monkeypatch.setattr(publish.fcntl, "flock", refused)
    complete(tmp_path, 1, 2)
    with publishing(tmp_path, None) as (temporary, published):
        temporary.mkdir()
        (temporary / "saved_model.pb").write_text("third")
    assert published[0].name == "3"
    assert remove_old_versions(tmp_path, keep=1) == [1, 2]
    assert remove_old_versions(tmp_path / "missing", keep=1) == []


def test_of_two_exporters_of_one_version_one_fails_and_nothing_is_overwritten(tmp_path):
    refused = pytest.raises(ValueError, match=r"not overwritten; the next free one is 2\. Received: version=1")
    with refused, publishing(tmp_path, 1) as (temporary, _):
        temporary.mkdir()
        (temporary / "saved_model.pb").write_text("late")
        complete(tmp_path, 1)
    assert (tmp_path / "1" / "saved_model.pb").read_bytes() == b"a graph"
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_a_file_of_a_versions_name_is_passed_over(tmp_path):
    (tmp_path / "1").write_text("a file")
    with publishing(tmp_path, None) as (temporary, published):
        temporary.mkdir()
    assert published == [tmp_path / "2"]


def test_names_that_no_server_reads_are_no_versions(tmp_path):
    for name in (str(2**63), "-3", "01x", "7"):
        (tmp_path / name).mkdir()
    assert versions(tmp_path) == [7]


def test_the_command_keeps_the_newest_versions_and_names_what_lacks(tmp_path, model, fixed_gallery, capsys):
    out = tmp_path / "out"
    out.mkdir()
    complete(out, 1, 2)
    model.save(tmp_path / "model.keras")
    pytest.importorskip("lance", reason="galleries on the disk need pylance")
    gallery = LanceGallery.create(tmp_path / "hall", fixed_gallery.model)
    gallery.add(fixed_gallery.read())
    options = ["--out", str(out), "--keep", "2", "--gallery", str(tmp_path / "hall")]
    assert main(["export", str(tmp_path / "model.keras"), *options]) == 0
    assert versions(out) == [2, 3]
    assert read_card(out / "3")["fingerprint"] == fingerprint(model)
    assert read_card(out / "3")["gallery"] == {"tracklets": 12, "persons": 4, "threshold": 0.9, "count": 5}
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "With search: the export holds the embeddings of 12 tracklets of the gallery.",
        "Without same_person: No threshold was fitted; see kreid.evaluation.fit_verification.",
        f"Exported model: {out / '3'}",
    ]
