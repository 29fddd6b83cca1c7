import subprocess
import sys

from track_samples import write_tracks

from kreid.data.readers import read_tracklet_folders
from kreid.tracks.__main__ import main


def test_command_line(video, tmp_path, capsys):
    lines = [f"{frame - 1},5,4,4,12,24,0.9" for frame in range(1, 13)]
    path = write_tracks(tmp_path / "tracks.txt", lines)
    arguments = [str(video), str(path), "--out", str(tmp_path / "new/out"), "--quiet", "--min-size", "24", "12"]
    assert main(arguments) == 2
    assert "--first-frame 0" in capsys.readouterr().err
    assert main([*arguments, "--first-frame", "0", "--stride", "4", "--min-length", "3", "--person", "bo"]) == 0
    assert "1 tracklets, 3 frames\nboxes left out: 9 outside the stride of 4" in capsys.readouterr().out
    (entry,) = read_tracklet_folders(tmp_path / "new/out/gallery")
    assert entry.name == "bo/hall/hall-5"
    assert [frame.rsplit("/", 1)[1] for frame in entry.frames] == ["000001.png", "000005.png", "000009.png"]


def test_importing_does_without_av():
    code = "import sys; sys.modules['av'] = None; import kreid.tracks; print('keras' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


def test_skipped_lines_are_in_the_summary(video, tmp_path, capsys):
    lines = [f"{frame},5,4,4,12,24,0.9" for frame in range(1, 13)]
    path = write_tracks(tmp_path / "tracks.txt", ["frame,id,x,y,w,h,conf", *lines, "12,5,9,9,9,9,0.1"])
    arguments = [str(video), str(path), "--out", str(tmp_path / "out"), "--quiet", "--min-size", "24", "12"]
    assert main(arguments) == 2
    assert "1 of 13 lines of the tracks are invalid" in capsys.readouterr().err
    assert main([*arguments, "--max-damaged", "0.1"]) == 0
    output = capsys.readouterr()
    assert "skipped lines of the tracks: 1\n  line 14: frame=12, id=5 already has a box, in line 13\n" in output.out
    assert output.err == ""
