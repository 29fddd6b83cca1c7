"""Find rendered persons across six cameras, and score the result: videos of known persons, tracks, `kreid identify`.

    make demo
    python recipes/identify_rendered.py --model demo/run --data demo/mars --folder demo/identify

The walkers of a rendered test set pass through the videos of their cameras in lanes, several at once, and each of their
tracklets is a track. The folder gets a folder of images, the tracks and the true persons for each camera, and `found`,
which `kreid identify` writes.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

import numpy as np
from PIL import Image

from kreid.data import Tracklet
from kreid.data.readers import read_mars
from kreid.identities.__main__ import main as identify
from kreid.tracks import Tracks, write_tracks

LANES, GAP = 4, 12
GROUND = (118, 116, 112)


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, write the cameras, and find the persons; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", required=True, help="a run's folder, a .keras file or an export")
    add("--data", required=True, help="a rendered set in MARS's layout")
    add("--folder", required=True, type=pathlib.Path, help="new folder")
    add("--persons", type=int, default=20, help="test persons to find (default: 20)")
    options, rest = parser.parse_known_args(argv)
    tracklets = [tracklet for tracklet in read_mars(options.data).test if tracklet.person > 0]
    persons = sorted({tracklet.person for tracklet in tracklets})[: options.persons]
    arguments = [options.model, "--out", str(options.folder / "found"), *rest]
    options.folder.mkdir(parents=True)
    for camera in sorted({tracklet.camera for tracklet in tracklets}):
        seen = [each for each in tracklets if each.camera == camera and each.person in persons]
        if seen:
            arguments += write_camera(options.folder, f"camera-{camera}", seen, np.random.default_rng(camera))
    return identify(arguments)


def write_camera(folder: pathlib.Path, name: str, tracklets: Sequence[Tracklet], rng: np.random.Generator) -> list[str]:
    """Write the images, the tracks and the truth of one camera; return the arguments that name them."""
    height, width = np.asarray(Image.open(tracklets[0].frames[0])).shape[:2]
    free, last_seen = np.ones(LANES, int), dict.fromkeys((each.person for each in tracklets), 0)
    boxes: dict[int, list[tuple[str, int]]] = {}
    rows = []
    for track, place in enumerate(rng.permutation(len(tracklets)).tolist(), start=1):
        tracklet = tracklets[place]
        lane = int(free.argmin())
        # A person is in one place at a time.
        start = max(int(free[lane]), last_seen[tracklet.person] + 1)
        for number, path in enumerate(tracklet.frames, start=start):
            left = GAP + lane * (width + GAP)
            boxes.setdefault(number, []).append((path, left))
            rows.append((number, track, tracklet.person, left, GAP, width, height))
        free[lane] = last_seen[tracklet.person] = start + len(tracklet)
        free[lane] += int(rng.integers(1, GAP))
    images = folder / name
    images.mkdir()
    for number in range(1, max(boxes) + 1):
        picture = Image.new("RGB", (GAP + LANES * (width + GAP), height + 2 * GAP), GROUND)
        for path, left in boxes.get(number, []):
            with Image.open(path) as crop:
                picture.paste(crop, (left, GAP))
        picture.save(images / f"{number:06}.png")
    frames, ids, persons, *corners = np.array(rows).T
    write_tracks(folder / f"{name}.txt", Tracks(frames, ids, np.stack(corners, axis=1)))
    write_tracks(folder / f"{name}_truth.txt", Tracks(frames, persons, np.stack(corners, axis=1)))
    tracks, truth = (str(folder / f"{name}{ending}.txt") for ending in ("", "_truth"))
    return ["--video", str(images), "--tracks", tracks, "--truth", truth]


if __name__ == "__main__":
    sys.exit(main())
