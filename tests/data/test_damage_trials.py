"""Damage of every kind in training, embedding and checking, side by side."""

import io
import os
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import scipy.io
from PIL import Image

from kreid.data.augment import Augmentation
from kreid.data.check import check_dataset
from kreid.data.data_report import DataReport
from kreid.data.evaluation_pipeline import EvaluationPipeline
from kreid.data.pipeline import TrainingPipeline
from kreid.data.readers import read_folder, read_mars
from kreid.synthetic import render_mars

SIZE = (24, 12)
PERSONS, CAMERAS = 4, 2


def smooth(seed, size=SIZE):
    """Return an image that JPEG hardly changes."""
    low = np.random.default_rng(seed).integers(0, 256, (3, 2, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(low).resize(size[::-1], Image.Resampling.BICUBIC))


def encoded(image, kind="JPEG", **settings):
    stream = io.BytesIO()
    settings = {"quality": 95, "subsampling": 0, **settings} if kind == "JPEG" else settings
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(stream, kind, **settings)
    return stream.getvalue()


@pytest.fixture
def tree(tmp_path):
    """Function: frames per tracklet -> a folder data set of four persons in two cameras, and its files in order."""

    def make(frames=4, root=None, kind="JPEG"):
        root = root or tmp_path / "own"
        files = []
        for number in range(PERSONS * CAMERAS * frames):
            track, time = divmod(number, frames)
            person, camera = divmod(track, CAMERAS)
            files.append(root / "train" / f"p{person}" / f"c{camera}" / f"{time}.jpg")
            files[-1].parent.mkdir(parents=True, exist_ok=True)
            files[-1].write_bytes(encoded(smooth(number), kind))
        return root, files

    return make


class Outcome(NamedTuple):
    """The results of training, embedding and checking a data set."""

    embedded: dict[str, list[np.ndarray]]
    trained: dict[int, int]
    damaged: set[str]
    lost: set[str]
    report: DataReport


def run_all(root, frames=4, size=SIZE, read=read_folder, sampler="persons", max_damaged=1.0):
    """Train an epoch that reads every frame, embed all, check; the three must agree on the damage."""
    dataset = read(root)
    training = TrainingPipeline(
        dataset.train,
        image_size=size,
        num_frames=frames,
        sampler=sampler,
        batch_size=len(dataset.train),
        persons_per_batch=2,
        tracklets_per_person=2,
        augmentation=Augmentation(flip=0.0, crop_padding=0),
        max_damaged=max_damaged,
    )
    trained = {}
    with training.damage.plainly():
        for _, labels in training.dataset().take(training.steps_per_epoch):
            for label in labels["logits"].numpy().tolist():
                trained[label] = trained.get(label, 0) + 1
    embedding = EvaluationPipeline(dataset.train, size, max_damaged=max_damaged)
    embedded = {}
    with embedding.damage.plainly():
        for inputs, rows in embedding.dataset():
            for clip, length, row in zip(
                inputs["frames"].numpy(), inputs["lengths"].numpy(), rows.numpy(), strict=True
            ):
                embedded[dataset.train[row].id] = list(clip[:length])
    report = check_dataset(root, workers=2, progress=False)
    damaged, lost = set(embedding.damage.counts), set(embedding.damage.tracklets)
    assert set(training.damage.counts) == damaged
    assert set(training.damage.tracklets) == lost == set(report.lost_tracklets)
    assert {f"{root}/{name}" for name in report.unreadable} == damaged
    return Outcome(embedded, trained, damaged, lost, report)


def mean_difference(one, other):
    return np.abs(one.astype(float) - other.astype(float)).mean()


@pytest.mark.parametrize("kind", ["JPEG", pytest.param("PNG", marks=pytest.mark.slow)])
def test_frames_cut_at_random_places(tree, kind):
    root, files = tree(frames=10, kind=kind)
    rng = np.random.default_rng(0)
    cut = sorted(rng.choice(len(files), len(files) // 20, replace=False).tolist())
    for number in cut:
        contents = files[number].read_bytes()
        files[number].write_bytes(contents[: rng.integers(1, len(contents))])
    outcome = run_all(root, frames=10, max_damaged=0.05)
    assert outcome.damaged == {str(files[number]) for number in cut}
    assert outcome.lost == set()
    assert sum(map(len, outcome.embedded.values())) == 76
    assert outcome.report.damaged
    assert not outcome.report.empty_files
    # The other frames have moved up, in order and unchanged.
    track = cut[0] // 10
    rest = [number for number in range(10 * track, 10 * track + 10) if number not in cut]
    for frame, number in zip(outcome.embedded[f"train/p{track // 2}/c{track % 2}"], rest, strict=True):
        assert mean_difference(frame, smooth(number)) < 3

    # With more than 5% either run stops and lists all damaged frames.
    more = next(number for number in range(len(files)) if number not in cut)
    files[more].write_bytes(b"")
    with pytest.raises(ValueError, match=r"(?s)^5 of 80 frames cannot be read, more than the 5\.0% allowed") as error:
        run_all(root, frames=10, max_damaged=0.05)
    assert all(str(files[number]) in str(error.value) for number in [more, *cut])
    outcome = run_all(root, frames=10, max_damaged=0.07)
    assert len(outcome.damaged) == 5
    assert outcome.report.empty_files == (str(files[more].relative_to(root)),)


def test_a_tracklet_without_one_good_frame(tree):
    root, files = tree()
    for file in files[:3]:
        file.write_bytes(b"no image")
    files[3].write_bytes(b"")
    outcome = run_all(root)
    assert outcome.lost == {"train/p0/c0"}
    assert "train/p0/c0" not in outcome.embedded
    assert len(outcome.embedded) == 7
    assert outcome.trained == dict.fromkeys(range(4), 2), "its place is taken by the person's other tracklet"
    assert set(outcome.report.unreadable.values()) == {"not an image", "empty file"}


def test_png_data_under_jpg_names(tree):
    root, files = tree()
    files[0].write_bytes(encoded(smooth(0), "PNG"))
    outcome = run_all(root)
    assert outcome.damaged == set()
    np.testing.assert_array_equal(outcome.embedded["train/p0/c0"][0], smooth(0))
    assert outcome.report.other_formats == {"train/p0/c0/0.jpg": "PNG"}
    assert not outcome.report.damaged


def test_grey_cmyk_and_16_bit_images(tree):
    root, files = tree()
    grey = smooth(7)[..., 0]
    deep = grey.astype(np.uint16) * 256 + np.random.default_rng(0).integers(0, 128, grey.shape, dtype=np.uint16)
    files[0].write_bytes(encoded(grey))
    files[1].write_bytes(encoded(Image.fromarray(smooth(7)).convert("CMYK")))
    files[2].write_bytes(encoded(deep, "PNG"))
    files[3].write_bytes(encoded(grey, "PNG"))
    outcome = run_all(root)
    assert outcome.damaged == set()
    frames = outcome.embedded["train/p0/c0"]
    for number in (0, 2, 3):
        assert (frames[number] == frames[number][..., :1]).all(), "three equal channels"
    assert mean_difference(frames[0][..., 0], grey) < 3
    assert mean_difference(frames[1], smooth(7)) < 3
    np.testing.assert_array_equal(frames[2][..., 0], grey, "the upper byte of 16-bit samples is kept")
    np.testing.assert_array_equal(frames[3][..., 0], grey)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_an_exif_rotation_is_not_followed(tree, kind):
    root, files = tree()
    exif = Image.Exif()
    exif[0x0112] = 6
    files[0].write_bytes(encoded(smooth(0), kind, exif=exif))
    outcome = run_all(root)
    assert outcome.damaged == set()
    assert mean_difference(outcome.embedded["train/p0/c0"][0], smooth(0)) < 3
    assert outcome.report.rotated == ("train/p0/c0/0.jpg",)
    assert not outcome.report.damaged


def test_an_image_of_one_pixel(tree):
    root, files = tree()
    files[0].write_bytes(encoded(np.full((1, 1, 3), 90, np.uint8), "PNG"))
    outcome = run_all(root)
    assert outcome.damaged == set()
    np.testing.assert_array_equal(outcome.embedded["train/p0/c0"][0], np.full((*SIZE, 3), 90, np.uint8))
    assert outcome.report.sizes_in_tracklet == outcome.report.sizes_in_set == {"train/p0/c0/0.jpg": "1x1"}


def test_sixteen_megapixels_are_read_and_seventeen_are_not(tree):
    root, files = tree()
    files[0].write_bytes(encoded(Image.new("RGB", (4_000, 4_000), (10, 20, 30)), "PNG"))
    files[1].write_bytes(encoded(Image.new("L", (8_000, 2_125), 10), "PNG"))
    outcome = run_all(root)
    assert outcome.damaged == {str(files[1])}
    np.testing.assert_array_equal(outcome.embedded["train/p0/c0"][0], np.full((*SIZE, 3), (10, 20, 30), np.uint8))
    assert outcome.report.unreadable == {"train/p0/c0/1.jpg": "too many pixels"}
    assert outcome.report.sizes_in_tracklet == {"train/p0/c0/0.jpg": "4000x4000"}


@pytest.fixture
def as_nobody():
    """Change root to a user with file permissions for the test; this user may enter the folder."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    root = os.geteuid() == 0
    yield folder, (lambda: os.seteuid(65534)) if root else (lambda: None)
    if root:
        os.seteuid(0)
    shutil.rmtree(folder)


def test_a_file_that_may_not_be_read(tree, as_nobody):
    folder, become_nobody = as_nobody
    root, files = tree(root=folder / "own")
    assert run_all(root).damaged == set()
    files[5].chmod(0)
    become_nobody()
    outcome = run_all(root)
    assert outcome.damaged == {str(files[5])}
    assert outcome.report.unreadable == {"train/p0/c1/1.jpg": "permission denied"}


def test_names_with_spaces_other_letters_and_bytes_that_are_no_text(tree):
    root, _ = tree()
    (root / "train" / "p0").rename(root / "train" / "Zoë Ångström 佐藤")
    folder = root / "train" / "Zoë Ångström 佐藤" / "c0"
    (folder / "1.jpg").rename(folder / "größe 1.jpg")
    latin = os.fsdecode(b"gr\xf6\xdfe.jpg")
    (folder / "2.jpg").rename(folder / latin)
    outcome = run_all(root)
    assert outcome.damaged == set()
    assert [len(frames) for frames in outcome.embedded.values()] == [4] * 8
    assert outcome.report.unnamed == ()
    (folder / latin).write_bytes(b"")
    outcome = run_all(root)
    assert outcome.report.empty_files == (f"train/Zoë Ångström 佐藤/c0/{latin}",)


def test_links_in_a_circle(tmp_path):
    root = render_mars(
        tmp_path / "mars", train_persons=4, test_persons=2, distractors=0, junk=0, image_size=(32, 16), progress=False
    )
    first = Path(read_mars(root).train[0].frames[0])
    first.unlink()
    first.symlink_to(first.name)
    (first.parent / "again").symlink_to(root)
    outcome = run_all(root, frames=16, size=(32, 16), read=read_mars, sampler="sequences")
    assert outcome.damaged == {str(first)}
    assert outcome.report.unreadable == {str(first.relative_to(root)): "too many levels of symbolic links"}
    assert outcome.report.unnamed == ()


def test_links_in_a_circle_among_folders(tree):
    root, files = tree()
    files[0].unlink()
    files[0].symlink_to(files[0].name)
    (root / "train" / "p9").symlink_to("p9")
    outcome = run_all(root)
    assert outcome.damaged == {str(files[0])}
    assert outcome.report.unreadable == {"train/p0/c0/0.jpg": "too many levels of symbolic links"}


def test_an_index_that_points_past_its_list(tmp_path):
    root = render_mars(
        tmp_path / "mars", train_persons=2, test_persons=2, distractors=0, junk=0, image_size=(32, 16), progress=False
    )
    path = root / "info" / "tracks_train_info.mat"
    tracks = next(value for key, value in scipy.io.loadmat(path).items() if not key.startswith("__"))
    last = len((root / "info" / "train_name.txt").read_text().split())
    tracks[-1, 1] = last + 1
    scipy.io.savemat(path, {"track_train_info": tracks})
    message = rf"row {len(tracks)} of tracks_train_info\.mat points outside train_name\.txt, which has {last} names"
    with pytest.raises(ValueError, match=message):
        read_mars(root)
    report = check_dataset(root, progress=False)
    assert report.damaged
    assert f"points outside train_name.txt, which has {last} names" in report.refusal
    assert "The data set cannot be read. row" in report.text()
