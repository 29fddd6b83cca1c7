"""Two cameras as folders of images: walkers in plain colours, whose persons are known."""

import csv
import json

import numpy as np
from PIL import Image

COLOURS = {"red": (210, 40, 40), "green": (40, 190, 60), "blue": (40, 60, 210)}
FRAMES, SIZE = 12, (48, 64)
# Camera -> track -> person, first and last frame, left edge.
WALKS = {
    "hall": {3: ("red", 1, 6, 4), 4: ("green", 1, 12, 24), 5: ("red", 8, 12, 44)},
    "door": {1: ("green", 1, 6, 4), 2: ("blue", 1, 12, 24), 7: ("red", 3, 9, 44)},
}
PERSONS = {"red": ["hall-3", "hall-5", "door-7"], "green": ["hall-4", "door-1"], "blue": ["door-2"]}
NUMBERS = {"red": 11, "green": 12, "blue": 13}
LIMITS = ["--min-size", "1", "1", "--min-length", "3"]


def crop_of(person, frame, height=32, width=14):
    shade = np.random.default_rng([frame, *COLOURS[person]]).integers(-12, 12, (height, width, 3))
    return np.clip(np.array(COLOURS[person]) + shade, 0, 255).astype(np.uint8)


def write_camera(folder, camera, name=None):
    """Write the images of a camera, and the tracker's text; return both paths."""
    images = folder / (name or camera)
    images.mkdir(parents=True)
    lines = []
    for frame in range(1, FRAMES + 1):
        picture = np.full((*SIZE, 3), 128, np.uint8)
        for track, (person, first, last, left) in WALKS[camera].items():
            if first <= frame <= last:
                picture[8:40, left : left + 14] = crop_of(person, frame)
                lines.append(f"{frame},{track},{left},8,14,32,0.9,-1,-1,-1\n")
        Image.fromarray(picture).save(images / f"{frame:06}.png")
    tracks = folder / f"{name or camera}.txt"
    tracks.write_text("".join(lines))
    return images, tracks


def write_truth(folder, camera):
    """Write the true persons of a camera as MOT text, one id per person in both cameras."""
    lines = [
        f"{frame},{NUMBERS[person]},{left},8,14,32,1\n"
        for person, first, last, left in WALKS[camera].values()
        for frame in range(first, last + 1)
    ]
    lines.append(f"{FRAMES},99,0,0,9,9,0\n")  # A box that does not count.
    path = folder / f"{camera}_truth.txt"
    path.write_text("".join(lines))
    return path


def found_persons(folder):
    """The tracklets of each person in the table, and its lines by tracklet."""
    with open(folder / "identities.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    persons = {}
    for row in rows:
        persons.setdefault(int(row["person"]), []).append(row["tracklet"])
    return persons, {row["tracklet"]: row for row in rows}


def page_data(path):
    """The data of a review page."""
    text = path.read_text(encoding="utf-8")
    return json.loads(text.split('id="data">')[1].split("</script>")[0])
