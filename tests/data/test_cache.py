import os

import numpy as np
import pytest
import tensorflow as tf

from kreid.data.cache import FrameCache
from kreid.data.frames import read_frames

SIZE = (24, 12)


@pytest.fixture
def paths(tmp_path, write_frame, truncate):
    """Seventy files, so that there is more than one part; one damaged, one missing, one of another size."""
    made = [write_frame(tmp_path / f"frames/{number}.jpg", seed=number) for number in range(70)]
    truncate(made[3])
    os.unlink(made[66])
    write_frame(made[68], seed=68, size=(40, 31))
    return made


@pytest.fixture(params=["memory", "folder"])
def where(request, tmp_path):
    return "memory" if request.param == "memory" else tmp_path / "cache"


def test_frames_are_those_of_the_files(paths, where):
    cache = FrameCache(paths, SIZE, where)
    cache.fill(progress=False)
    numbers = [69, 3, 0, 0, 66, 68, 64]
    frames, positions = cache.read(tf.constant(numbers))
    expected, expected_positions = read_frames(tf.constant([paths[number] for number in numbers]), SIZE)
    assert positions.numpy().tolist() == expected_positions.numpy().tolist() == [0, 2, 3, 5, 6]
    np.testing.assert_array_equal(frames, expected)


def test_graphs_read_it_too(paths, where):
    cache = FrameCache(paths, SIZE, where)
    cache.fill(progress=False)
    read = tf.data.Dataset.from_tensors(tf.constant([3, 5])).map(cache.read)
    frames, positions = read.get_single_element()
    assert positions.numpy().tolist() == [1]
    np.testing.assert_array_equal(frames, read_frames(tf.constant(paths[5:6]), SIZE)[0])


def test_it_decodes_once(paths, where):
    cache = FrameCache(paths, SIZE, where)
    cache.fill(progress=False)
    before = cache.read(tf.constant([7]))[0].numpy()
    os.unlink(paths[7])
    cache.fill(progress=False)
    np.testing.assert_array_equal(cache.read(tf.constant([7]))[0], before)


def test_empty_it_says_so(paths):
    with pytest.raises(RuntimeError, match=r"call `fill\(\)` first"):
        FrameCache(paths, SIZE, "memory").read(tf.constant([0]))


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_frames_that_cannot_fit_are_refused(paths, where, tmp_path):
    cache = FrameCache(paths, (2**20, 2**20), "memory" if where == "memory" else tmp_path / "cache")
    with pytest.raises(ValueError, match=r"take \d+\.\d GiB .* Received: where="):
        cache.fill(progress=False)
    assert where == "memory" or not list((tmp_path / "cache").iterdir())


class TestOnDisk:
    def files(self, folder):
        return sorted(path.name for path in folder.iterdir())

    def test_the_same_files_are_found_again(self, paths, tmp_path):
        FrameCache(paths, SIZE, tmp_path / "cache").fill(progress=False)
        (name,) = self.files(tmp_path / "cache")
        stamp = (tmp_path / "cache" / name).stat().st_mtime_ns
        FrameCache(paths, SIZE, tmp_path / "cache").fill(progress=False)
        assert (tmp_path / "cache" / name).stat().st_mtime_ns == stamp
        assert (tmp_path / "cache" / name).stat().st_size == 70 * (24 * 12 * 3 + 1)

    def test_a_changed_file_or_size_makes_another(self, paths, tmp_path, write_frame):
        FrameCache(paths, SIZE, tmp_path / "cache").fill(progress=False)
        FrameCache(paths, (12, 24), tmp_path / "cache").fill(progress=False)
        write_frame(paths[0], seed=100)
        cache = FrameCache(paths, SIZE, tmp_path / "cache")
        cache.fill(progress=False)
        assert len(self.files(tmp_path / "cache")) == 3
        np.testing.assert_array_equal(cache.read(tf.constant([0]))[0], read_frames(tf.constant(paths[:1]), SIZE)[0])

    def test_a_truncated_file_is_written_again(self, paths, tmp_path, truncate):
        FrameCache(paths, SIZE, tmp_path / "cache").fill(progress=False)
        (name,) = self.files(tmp_path / "cache")
        truncate(tmp_path / "cache" / name)
        cache = FrameCache(paths, SIZE, tmp_path / "cache")
        cache.fill(progress=False)
        assert self.files(tmp_path / "cache") == [name]
        np.testing.assert_array_equal(cache.read(tf.constant([9]))[0], read_frames(tf.constant(paths[9:10]), SIZE)[0])

    def test_a_file_in_the_folders_place(self, paths):
        with pytest.raises(ValueError, match=r"cannot be created .* Received: where="):
            FrameCache(paths, SIZE, paths[0]).fill(progress=False)

    def test_an_interruption_leaves_nothing(self, paths, tmp_path):
        cache = FrameCache(paths, SIZE, tmp_path / "cache")
        decoded = cache._decoded

        def interrupted(progress):
            yield next(decoded(progress))
            raise KeyboardInterrupt

        cache._decoded = interrupted
        with pytest.raises(KeyboardInterrupt):
            cache.fill(progress=False)
        assert self.files(tmp_path / "cache") == []
