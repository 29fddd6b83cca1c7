import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from kreid.data.check import check_dataset, main
from kreid.data.readers import read_mars
from kreid.synthetic import render_mars

SIZE = (32, 16)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    settings = {"tracklets_per_camera": (1, 2), "frames_per_tracklet": (3, 5), "image_size": SIZE}
    root = tmp_path_factory.mktemp("data") / "mars"
    return render_mars(root, train_persons=3, test_persons=3, distractors=2, junk=2, progress=False, **settings)


@pytest.fixture
def root(rendered, tmp_path):
    """A copy of the data set, to be damaged."""
    copy = tmp_path / "mars"
    for path in sorted(rendered.rglob("*")):
        target = copy / path.relative_to(rendered)
        if path.is_dir():
            target.mkdir(parents=True)
        else:
            target.write_bytes(path.read_bytes())
    return copy


def check(root):
    return check_dataset(root, workers=2, progress=False)


def below(root, *paths):
    return [str(Path(path).relative_to(root)) for path in paths]


def test_an_undamaged_set(rendered):
    dataset = read_mars(rendered)
    everything = dataset.train + dataset.test
    report = check(rendered)
    assert not report.damaged
    assert report.layout == "mars"
    assert (report.tracklets, report.frames) == (len(everything), sum(map(len, everything)))
    assert report.sizes == {"16x32": report.frames}
    kinds = "unreadable empty_files missing lost_tracklets sizes_in_tracklet sizes_in_set other_formats rotated"
    kinds += " unnamed skipped_files persons_in_both remarks"
    assert not any(getattr(report, kind) for kind in kinds.split())
    assert report.one_camera == {"train": (), "test": ()}, "every rendered person is seen by two cameras"
    for row in report.cameras:
        own = [tracklet for tracklet in everything if tracklet.camera == row["camera"]]
        assert row == {
            "camera": own[0].camera,
            "persons": len({tracklet.person for tracklet in own} - {0, -1}),
            "tracklets": len(own),
            "frames": sum(map(len, own)),
            "unreadable": 0,
        }
    assert sum(row["tracklets"] for row in report.cameras) == report.tracklets
    assert f"{len(everything)} tracklets, {report.frames} frames, 0 of them damaged (0.0%)" in report.text()


def test_each_finding_is_named_once_and_in_its_place(root):
    dataset = read_mars(root)
    first, second, third = dataset.train[:3]
    Path(first.frames[0]).write_bytes(b"")
    Path(first.frames[1]).write_bytes(Path(first.frames[1]).read_bytes()[:-50])
    os.unlink(second.frames[0])
    for path in third.frames:
        Path(path).write_bytes(b"<html>not found</html>")
    junk, test = dataset.test[0], dataset.test[-1]
    Image.new("RGB", (20, 40)).save(test.frames[0])
    Image.new("RGB", SIZE[::-1]).save(test.frames[1], "GIF")
    Image.new("RGB", SIZE[::-1]).save(junk.frames[0], "PNG")
    extra = root / "bbox_train" / "0001" / "0001C1T0099F001.jpg"
    Image.new("RGB", SIZE[::-1]).save(extra)
    (root / "bbox_train" / ".hidden.jpg").write_bytes(b"")
    (root / "notes.txt").write_text("no image")

    report = check(root)
    assert report.damaged
    why = dict(zip(below(root, *first.frames[:2]), ("empty file", "JPEG data cut or corrupt"), strict=True))
    why |= dict.fromkeys(below(root, *third.frames), "not an image")
    why |= {below(root, test.frames[1])[0]: "GIF, and only JPEG and PNG are read"}
    assert report.unreadable == why
    assert list(report.empty_files) == below(root, first.frames[0])
    assert list(report.missing) == below(root, second.frames[0])
    assert report.lost_tracklets == (third.id,)
    assert report.other_formats == {below(root, junk.frames[0])[0]: "PNG", below(root, test.frames[1])[0]: "GIF"}
    assert report.sizes_in_set == {below(root, test.frames[0])[0]: "20x40"}
    assert list(report.unnamed) == below(root, extra)
    assert report.sizes == {"16x32": report.frames - len(why) - 2, "20x40": 1}
    unreadable = {row["camera"]: row["unreadable"] for row in report.cameras}
    expected = dict.fromkeys(unreadable, 0)
    for camera, count in ((first.camera, 2), (third.camera, len(third)), (test.camera, 1)):
        expected[camera] += count
    assert unreadable == expected

    text = report.text()
    assert f"unreadable: {len(why)}\n  {below(root, first.frames[0])[0]}: empty file\n" in text
    assert f"named by the index but not on the disk: 1\n  {report.missing[0]}\n" in text
    assert f"on the disk but not named by the index: 1\n  {report.unnamed[0]}\n" in text
    assert "frame sizes: 2: 16x32 (" in text


def write(folder, *sizes):
    folder.mkdir(parents=True)
    for number, size in enumerate(sizes):
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(folder / f"{number}.png")


def test_persons_and_sizes_that_stand_out(tmp_path):
    for person, cameras in {"ada": "ab", "bo": "a", "cy": "ba"}.items():
        for camera in cameras:
            write(tmp_path / "train" / person / camera, (8, 4), (8, 4), (8, 4))
    write(tmp_path / "train" / "bo" / "b" / "1", (9, 4), (9, 4), (8, 4))
    write(tmp_path / "train" / "bo" / "b" / "2", (8, 4), (7, 4))
    write(tmp_path / "train" / "di" / "a" / "1", (8, 4))
    write(tmp_path / "train" / "di" / "a" / "2", (8, 4))
    write(tmp_path / "query" / "eve" / "a", (8, 4))
    write(tmp_path / "query" / "junk" / "a", (8, 4))
    report = check(tmp_path)
    assert report.layout == "folder"
    assert report.one_camera == {"train": ("di",), "test": ("eve",)}
    assert report.one_tracklet == {"train": (), "test": ("eve",)}
    assert [row["camera"] for row in report.cameras] == ["a", "b"]
    # If half a tracklet has one size and half another, most frames have neither.
    assert report.sizes_in_tracklet == {"train/bo/b/1/2.png": "4x8"}
    assert report.sizes_in_set == dict.fromkeys(("train/bo/b/1/0.png", "train/bo/b/1/1.png"), "4x9") | {
        "train/bo/b/2/1.png": "4x7"
    }
    assert not report.damaged
    assert "persons of train in one camera only: 1: di" in report.text()


def test_persons_of_prid_2011(tmp_path):
    for person in range(1, 6):
        for camera in "ab":
            write(tmp_path / "multi_shot" / f"cam_{camera}" / f"person_{person:04d}", (8, 4))
    assert "persons=200 also accepts fewer frames" in check(tmp_path).refusal
    report = check_dataset(tmp_path, persons=200, progress=False)
    assert (report.layout, report.frames, report.damaged, report.unnamed) == ("prid2011", 10, False, ())


def test_files_that_are_not_read(tmp_path):
    write(tmp_path / "train" / "ada" / "a", (8, 4), (8, 4), (8, 4))
    (tmp_path / "train" / "ada" / "a" / "notes.txt").write_text("no frame")
    report = check(tmp_path)
    assert (report.damaged, report.skipped_files) == (False, ("train/ada/a/notes.txt",))
    Image.new("RGB", (4, 8)).save(tmp_path / "train" / "ada" / "a" / "9.webp")
    write(tmp_path / "train" / "ada" / "a" / "@eaDir", (8, 4))
    Image.new("RGB", (4, 8)).save(tmp_path / "train" / "ada" / "lost.png")
    report = check(tmp_path)
    assert report.damaged, "an image that is not read is a frame lost"
    assert report.skipped_files == ("train/ada/a/9.webp", "train/ada/a/notes.txt")
    assert report.unnamed == ("train/ada/lost.png",)
    lines = report.text().splitlines()
    assert lines[lines.index("not read, with extension .webp: 1") + 1] == "  train/ada/a/9.webp"
    assert lines[lines.index("not read, with extension .txt: 1") + 1] == "  train/ada/a/notes.txt"


def test_persons_in_train_and_in_test_and_the_readers_remarks(tmp_path):
    for place in ("train/ada", "train/bo", "query/ada", "query/07", "gallery/7"):
        write(tmp_path / place / "a", (8, 4))
    report = check(tmp_path)
    assert report.persons_in_both == ("ada",)
    assert "in test, so that scores are not re-identification scores: 1: ada" in report.text()
    assert "one person under several names: 7 = 07" in report.text().splitlines()


def test_the_validation_set_of_ls_vid(tmp_path):
    lines = {"train": [], "test": [], "val": []}
    for part, persons in (("train", (1, 2)), ("test", (1, 2)), ("val", (1, 2))):
        for number, (person, camera) in enumerate(((person, camera) for person in persons for camera in (1, 2)), 1):
            prefix = f"tracklet_{part}/{person:04}/{person:04}_{number:04}"
            lines[part].append(f"{prefix} {person}\n")
            file = tmp_path / f"{prefix}_{camera:02}_0003.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", SIZE).save(file)
    (tmp_path / "list_sequence").mkdir()
    for part, text in lines.items():
        (tmp_path / "list_sequence" / f"list_seq_{part}.txt").write_text("".join(text))
    (tmp_path / "test" / "data").mkdir(parents=True)
    table = [[row + 1, row + 1, 1 + row // 2, 1 + row % 2] for row in range(4)]
    for name in ("info_test", "info_val"):
        scipy.io.savemat(tmp_path / "test" / "data" / f"{name}.mat", {name: table, "query": [[1]]})
    report = check(tmp_path)
    assert (report.tracklets, report.frames, report.unnamed) == (12, 12, ())
    # Two persons each to train on, to find and to validate on.
    assert [(row["persons"], row["tracklets"]) for row in report.cameras] == [(6, 6), (6, 6)]
    assert report.one_tracklet == {"train": (), "test": (), "validation": ()}
    assert not report.damaged
    broken = next((tmp_path / "tracklet_val").glob("*/*.png"))
    broken.write_bytes(b"")
    assert check(tmp_path).empty_files == (str(broken.relative_to(tmp_path)),)


def test_names_that_are_not_utf_8(tmp_path, capsys):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/set/train/Jos\xe9/a"))
    write(folder, (8, 4), (8, 4))
    (folder / "1.png").write_bytes(b"")
    file = tmp_path / "report.json"
    assert main([str(tmp_path / "set"), "--json", str(file), "--quiet"]) == 1
    assert "  train/Jos\\udce9/a/1.png: empty file" in capsys.readouterr().out.splitlines()
    assert json.loads(file.read_text())["empty_files"] == [os.fsdecode(b"train/Jos\xe9/a/1.png")]


def test_long_lists_are_cut_only_in_the_text(tmp_path):
    write(tmp_path / "train" / "ada" / "a", *[(8, 4)] * 30)
    for path in (tmp_path / "train" / "ada" / "a").iterdir():
        path.write_bytes(b"")
    report = check(tmp_path)
    assert len(report.unreadable) == len(report.empty_files) == 30
    lines = report.text().splitlines()
    assert lines.count("  and 10 more") == 2
    assert sum(line.endswith(": empty file") for line in lines) == 20


@pytest.mark.parametrize("damaged", [False, True])
def test_the_command_says_by_its_status_whether_something_is_damaged(root, tmp_path, capsys, damaged):
    if damaged:
        Path(read_mars(root).train[0].frames[0]).write_bytes(b"")
    file = tmp_path / "report.json"
    assert main([str(root), "--json", str(file), "--workers", "1", "--quiet"]) == int(damaged)
    report = check(root)
    assert capsys.readouterr().out == report.text() + "\n"
    written = json.loads(file.read_text())
    assert written == json.loads(json.dumps(report.to_dict()))
    assert written["damaged"] is damaged
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mars", "report.json"]


def test_a_damaged_index_is_damage(root, tmp_path, capsys):
    path = root / "info" / "query_IDX.mat"
    path.write_bytes(path.read_bytes()[:50])
    file = tmp_path / "report.json"
    assert main([str(root), "--json", str(file), "--quiet"]) == 1
    assert "The data set cannot be read. query_IDX.mat is damaged" in capsys.readouterr().out
    written = json.loads(file.read_text())
    assert written["damaged"]
    assert written["refusal"].startswith("query_IDX.mat is damaged")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{}/none"], "folder is missing. Received: root='{}/none'"),
        (["{}/empty"], "Received: root='{}/empty'"),
        (["{}/empty", "--json", "{}/none/report.json"], "folder to write to is missing. Received: json="),
        (["{}/empty", "--json", "{}"], "this is a folder. Received: json='{}'"),
        (["{}/empty", "--workers", "0"], "`workers` must be at least 1. Received: workers=0"),
        ([], "the following arguments are required: DIR"),
    ],
)
def test_bad_usage_is_one_sentence(tmp_path, capsys, arguments, message):
    (tmp_path / "empty").mkdir()
    try:
        status = main([argument.format(tmp_path) for argument in arguments])
    except SystemExit as stopped:  # argparse's own
        status = stopped.code
    assert status == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert message.format(tmp_path) in error
    assert not arguments or len(error.splitlines()) == 1


@pytest.mark.slow
def test_the_command_with_a_progress_bar(root):
    damaged = Path(read_mars(root).train[0].frames[0])
    damaged.write_bytes(damaged.read_bytes()[:-100])  # the decoder complains
    ran = subprocess.run([sys.executable, "-m", "kreid.data.check", str(root)], capture_output=True, text=True)
    assert ran.returncode == 1
    report = check(root)
    assert ran.stdout == report.text() + "\n"
    assert ran.stderr.startswith(f"checking: {report.frames} of {report.frames} frames, "), "no complaint of a decoder"
    assert len(ran.stderr.splitlines()) == 1
