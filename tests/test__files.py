"""Write files and folders completely or not at all."""

import errno
import json
import os
import zipfile
from pathlib import Path

import pytest

from kreid import load_model
from kreid._files import check_place, check_unpacked_size, replacing, write_atomically
from kreid.gallery import TrackletEmbeddings


class TestReplacing:
    def test_a_file_appears_at_the_end_under_its_name(self, tmp_path):
        with replacing(tmp_path / "model.keras") as temporary:
            temporary.write_text("new")
            assert temporary.parent == tmp_path and temporary.suffix == ".keras"
            assert not (tmp_path / "model.keras").exists()
        assert (tmp_path / "model.keras").read_text() == "new"
        assert os.listdir(tmp_path) == ["model.keras"]

    def test_a_failed_file_leaves_the_old_one_and_nothing_else(self, tmp_path):
        path = tmp_path / "model.keras"
        path.write_text("old")
        with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt
        assert path.read_text() == "old"
        assert os.listdir(tmp_path) == ["model.keras"]

    def test_a_folder_appears_at_the_end(self, tmp_path):
        with replacing(tmp_path / "tree") as temporary:
            (temporary / "inner").mkdir(parents=True)
        assert (tmp_path / "tree/inner").is_dir()
        assert os.listdir(tmp_path) == ["tree"]

    def test_a_folder_that_holds_something_is_not_replaced(self, tmp_path):
        (tmp_path / "tree/old").mkdir(parents=True)
        with pytest.raises(OSError, match="not empty"), replacing(tmp_path / "tree") as temporary:
            temporary.mkdir()
        assert (tmp_path / "tree/old").is_dir()
        assert os.listdir(tmp_path) == ["tree"]

    def test_the_working_directory_is_replaced_if_it_is_empty(self, tmp_path, monkeypatch):
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        with replacing(".") as temporary:
            (temporary / "inner").mkdir(parents=True)
        assert os.listdir(tmp_path) == ["here"]
        assert os.listdir(tmp_path / "here") == ["inner"]

    def test_a_failed_folder_is_deleted(self, tmp_path):
        with pytest.raises(ValueError, match="stop"), replacing(tmp_path / "tree") as temporary:
            (temporary / "inner").mkdir(parents=True)
            raise ValueError("stop")
        assert os.listdir(tmp_path) == []

    def test_a_block_that_writes_nothing_fails(self, tmp_path):
        with pytest.raises(FileNotFoundError), replacing(tmp_path / "absent"):
            pass

    def test_a_long_name_is_no_obstacle(self, tmp_path):
        name = 251 * "n" + ".txt"
        write_atomically(tmp_path / name, "text")
        assert os.listdir(tmp_path) == [name]


class TestWriteAtomically:
    def test_text_replaces_text(self, tmp_path):
        path = tmp_path / "state.json"
        write_atomically(path, "old")
        write_atomically(str(path), "größer")
        assert path.read_bytes() == "größer".encode()

    @pytest.mark.parametrize("content", [b"bytes", bytearray(b"bytes"), memoryview(b"bytes")])
    def test_bytes_are_written_as_they_are(self, tmp_path, content):
        write_atomically(tmp_path / "data", content)
        assert (tmp_path / "data").read_bytes() == b"bytes"

    def test_content_of_another_kind_leaves_the_old_file(self, tmp_path):
        write_atomically(tmp_path / "data", b"old")
        with pytest.raises(TypeError):
            write_atomically(tmp_path / "data", None)
        assert (tmp_path / "data").read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["data"]

    def test_a_name_that_is_no_utf_8_is_written_with_a_backslash(self, tmp_path):
        name = os.fsdecode(b"Jos\xe9.jpg")
        write_atomically(tmp_path / "page.html", f"<p>{name}</p>")
        assert (tmp_path / "page.html").read_text() == "<p>Jos\\udce9.jpg</p>"

    @pytest.mark.parametrize("ascii_only", [True, False])
    def test_a_name_that_is_no_utf_8_survives_json(self, tmp_path, ascii_only):
        name = os.fsdecode(b"Jos\xe9.jpg")
        write_atomically(tmp_path / "data.json", json.dumps([name], ensure_ascii=ascii_only))
        assert json.loads((tmp_path / "data.json").read_text()) == [name]


def test_a_place_is_checked_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "new", tmp_path / "new" / "folder", tmp_path / "file"):
        check_place(path)
    with pytest.raises(NotADirectoryError, match=r"file is a file; give another path\. Received: path="):
        check_place(tmp_path / "file" / "new")
    with pytest.raises(OSError, match=r"mount point cannot be replaced; give a folder inside it\. Received: path='/'"):
        check_place("/")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_that_cannot_be_written_to(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="cannot be written to"):
        check_place(tmp_path / "new")


def hdf5s_error(path, content):
    """HDF5 gives the reason in its text alone."""
    raise OSError(
        f"Can't write data (file write failed: errno = {errno.ENOSPC}, error message = 'No space left on device'"
    )


@pytest.mark.parametrize("write", [Path.write_bytes, hdf5s_error])
def test_a_full_disk_is_named_and_leaves_the_old_file(write, tmp_path):
    path = tmp_path / "model.weights.h5"
    path.write_bytes(b"old")
    full = pytest.raises(OSError, match=r"The disk is full.*Received: path='.*model\.weights\.h5', \d+ bytes free")
    with full, replacing(path) as temporary:
        # A device that is always full.
        temporary.symlink_to("/dev/full")
        write(temporary, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["model.weights.h5"]


def test_a_zip_file_that_unpacks_to_much_more_is_refused(tmp_path):
    for name, compression, size in (("stored", zipfile.ZIP_STORED, 2**25), ("small", zipfile.ZIP_DEFLATED, 2**20)):
        with zipfile.ZipFile(tmp_path / name, "w", compression) as file:
            file.writestr("arrays", bytes(size))
        check_unpacked_size(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "bomb", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("arrays", bytes(2**25))
    with pytest.raises(ValueError, match=rf"unpacks to {2**25} bytes.*Received: path='.*bomb' of \d+ bytes"):
        check_unpacked_size(tmp_path / "bomb")
    with pytest.raises(ValueError, match="unpacks to"):
        load_model(tmp_path / "bomb")
    with pytest.raises(ValueError, match="unpacks to"):
        TrackletEmbeddings.load(tmp_path / "bomb")
    (tmp_path / "text").write_text("no zip file")
    check_unpacked_size(tmp_path / "text")
