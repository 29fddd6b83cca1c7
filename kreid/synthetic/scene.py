"""Render one tracklet: a person's passage through one camera, with other people, obstacles, blur and noise."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from kreid.synthetic import cameras as cameras_module, people, walker

_Pen = ImageDraw.ImageDraw
_Box = tuple[float, float, float, float]

# Frames are drawn larger on a canvas with room around the person, then cut out and shrunk, for smooth edges.
_OVERSAMPLING = 1.6
_CANVAS = (1.25, 1.4)
_GROUND, _BODY = 0.90, 0.66
# Frames developed at a time; more would need memory without being faster.
_TOGETHER = 16
_KINDS = ("person", "distractor", "junk")


class _Passage(NamedTuple):
    """All that is drawn at random of a person's passage through a camera."""

    walk: walker.Walk | None
    others: list[tuple[walker.Walk, list[float], float]]
    reach: float
    obstacle: Callable[[_Pen, int], None] | None
    boxes: list[_Box]
    background: Callable[[int], Image.Image]
    matrix: tuple[float, ...]
    table: Sequence[int]
    blur: float
    shift: list[list[int]]
    small: tuple[int, int]

    def near(self, t: int) -> list[tuple[walker.Walk, float]]:
        """Return the other people near a frame's box, and their y."""
        left, right = self.boxes[t][0] - self.reach, self.boxes[t][2] + self.reach
        return [(other, y) for other, x, y in self.others if left < x[t] < right]

    def draw_front(self, canvas: Image.Image, pen: _Pen, t: int) -> None:
        """Draw what is before the person."""
        for other, y in self.near(t):
            if y >= 0:
                other.draw(canvas, pen, t)
        if self.obstacle is not None:
            self.obstacle(pen, t)


class Stage:
    """A renderer of tracklets, with the backgrounds and the noise of the cameras.

    Args:
        image_size: `(height, width)` of the frames.
        seed: int, of the cameras' backgrounds and noise.
    """

    def __init__(self, image_size: tuple[int, int], seed: int) -> None:
        self.image_size = image_size
        height, width = image_size
        self.height = round(_CANVAS[0] * _OVERSAMPLING * height)
        self.width = round(_CANVAS[1] * _OVERSAMPLING * width)
        self.panoramas: dict[int, Image.Image] = {}
        self.noise: dict[int, Image.Image] = {}
        for number, camera in cameras_module.CAMERAS.items():
            size = (self.height, 10 * self.width)
            self.panoramas[number] = cameras_module.panorama(camera, size, [seed, 1, number])
            grain = np.random.default_rng([seed, 2, number]).normal(128, camera.noise, (2 * height, 2 * width, 1))
            self.noise[number] = Image.fromarray(np.repeat(np.clip(np.rint(grain), 0, 255).astype(np.uint8), 3, axis=2))

    def tracklet(
        self, person: people.Person, number: int, frames: int, rng: np.random.Generator, kind: str = "person"
    ) -> Iterator[Image.Image]:
        """Render one person's passage through one camera.

        Args:
            person: a `people.Person`.
            number: int, the camera, 1 to 6.
            frames: int, number of frames.
            rng: `np.random.Generator` that only this tracklet uses.
            kind: `"person"`, `"distractor"` (half of them show no person) or `"junk"` (badly cut boxes).

        Yields:
            RGB `PIL.Image.Image` of the stage's image size, in order of time.

        Raises:
            ValueError: if the kind is unknown.
        """
        passage = self._passage(person, number, frames, rng, kind)

        def shoot(t: int) -> Image.Image:
            canvas = passage.background(t)
            pen = ImageDraw.Draw(canvas)
            for other, y in passage.near(t):
                if y < 0:
                    other.draw(canvas, pen, t)
            if passage.walk is not None:
                passage.walk.draw(canvas, pen, t)
            passage.draw_front(canvas, pen, t)
            return canvas.resize(passage.small, Image.Resampling.BOX, box=passage.boxes[t])

        for start in range(0, frames, _TOGETHER):
            shots = [shoot(t) for t in range(start, min(start + _TOGETHER, frames))]
            yield from self._develop(shots, passage, self.noise[number], passage.shift[start : start + _TOGETHER])

    def visible_shares(
        self, person: people.Person, number: int, frames: int, rng: np.random.Generator, kind: str = "person"
    ) -> list[float]:
        """Return which share of the person in the box of each frame is not behind other people or an obstacle.

        Args:
            person: see `tracklet`.
            number: see `tracklet`.
            frames: see `tracklet`.
            rng: see `tracklet`.
            kind: see `tracklet`.

        Returns:
            One float from 0 to 1 per frame; 0 where the box shows nothing of the person.

        Raises:
            ValueError: if the kind is unknown.
        """
        passage = self._passage(person, number, frames, rng, kind)
        shares = []
        for t in range(frames):
            body = np.zeros((1, 1), bool) if passage.walk is None else self._drawn(passage.walk.draw, passage, t)
            front = self._drawn(passage.draw_front, passage, t)
            shares.append(float((body & ~front).sum()) / max(1.0, float(body.sum())))
        return shares

    def _drawn(self, draw: Callable[[Image.Image, _Pen, int], None], passage: "_Passage", t: int) -> np.ndarray:
        """Return the pixels of a frame's box that are drawn on: those that look the same on black and on white."""
        pictures = []
        for ground in ("black", "white"):
            canvas = Image.new("RGB", (self.width, self.height), ground)
            draw(canvas, ImageDraw.Draw(canvas), t)
            left, top, right, bottom = map(round, passage.boxes[t])
            pictures.append(np.asarray(canvas)[top:bottom, left:right])
        return (pictures[0] == pictures[1]).all(axis=2)

    def _passage(
        self, person: people.Person, number: int, frames: int, rng: np.random.Generator, kind: str
    ) -> "_Passage":
        if kind not in _KINDS:
            raise ValueError(f"`kind` must be one of {_KINDS}. Received: kind={kind!r}")
        camera = cameras_module.CAMERAS[number]
        empty = kind == "distractor" and rng.random() < 0.5
        walk = None if empty else self._walk(person, camera, frames, rng)
        others = [] if rng.random() < 0.62 else [self._passer(camera, frames, rng) for _ in range(rng.integers(1, 3))]
        obstacle = self._obstacle(frames, rng) if rng.random() < (0.6 if kind == "junk" else 0.28) else None
        boxes = self._boxes(camera, frames, rng, kind)
        background = self._background(number, frames, rng)
        matrix, table = cameras_module.colour_response(camera, rng)
        blur = rng.uniform(0.5, 2.2) if rng.random() < 0.3 else 0.0
        shift = rng.integers(0, self.image_size, size=(frames, 2)).tolist()
        sharp = min(1.0, camera.resolution * rng.uniform(0.8, 1.1))
        height, width = self.image_size
        small = (max(8, round(width * sharp)), max(16, round(height * sharp)))
        ground = _GROUND * self.height
        if walk is not None:
            walk.place(self.width / 2, ground, boxes)
        for other, x, y in others:
            other.place(x, ground + y, boxes)
        reach = 0.3 * _BODY * self.height
        return _Passage(walk, others, reach, obstacle, boxes, background, matrix, table, blur, shift, small)

    def _walk(
        self,
        person: people.Person,
        camera: cameras_module.Camera,
        frames: int,
        rng: np.random.Generator,
        size: float = 1.0,
    ) -> walker.Walk:
        facing = camera.facing + (np.pi if rng.random() < camera.reversed_odds else 0.0) + rng.normal(0, 0.3)
        turn = np.linspace(0, rng.normal(0, 0.25), frames)
        phase = rng.uniform(0, 2 * np.pi) + np.arange(frames) * rng.uniform(0.5, 0.7) * person.cadence
        elevation = camera.elevation + rng.uniform(-0.05, 0.05)
        return walker.walk(person, facing + turn, phase, elevation, size * _BODY * self.height)

    def _passer(
        self, camera: cameras_module.Camera, frames: int, rng: np.random.Generator
    ) -> tuple[walker.Walk, list[float], float]:
        """Draw another person: a walk, its x in each frame and its y; below 0 it is behind the person."""
        other = self._walk(people.draw_person(rng), camera, frames, rng, rng.uniform(0.8, 1.1))
        side = rng.choice((-1, 1))
        start = side * rng.uniform(0.2, 0.9)
        x = 0.5 + start - side * np.linspace(0, rng.uniform(-0.3, 1.4), frames)
        return other, (x * self.width).tolist(), float(rng.uniform(-0.12, 0.09) * self.height)

    def _background(self, number: int, frames: int, rng: np.random.Generator) -> Callable[[int], Image.Image]:
        panorama = self.panoramas[number]
        room = panorama.width - self.width
        speed = rng.uniform(-0.06, 0.06) * self.width
        start = rng.uniform(abs(speed) * frames, max(abs(speed) * frames + 1, room - abs(speed) * frames))
        left = np.clip(start + speed * np.arange(frames), 0, room).astype(int).tolist()
        return lambda t: panorama.crop((left[t], 0, left[t] + self.width, self.height))

    def _boxes(self, camera: cameras_module.Camera, frames: int, rng: np.random.Generator, kind: str) -> list[_Box]:
        """Draw the detector's boxes on the canvas, `(left, top, right, bottom)` per frame."""
        jitter = camera.jitter * rng.uniform(0.5, 1.5)
        wander = rng.normal(0, 1, (frames, 4))
        for t in range(1, frames):
            wander[t] = 0.75 * wander[t - 1] + 0.66 * wander[t]
        height = 1.12 * _BODY * np.exp(rng.normal(0, 0.06) + jitter * wander[:, 0])
        aspect = 0.42 * np.exp(rng.normal(0, 0.1) + 0.5 * jitter * wander[:, 1])
        middle = _GROUND - 0.47 * _BODY + rng.normal(0, 0.015) + 0.5 * jitter * wander[:, 2]
        centre = 0.5 + rng.normal(0, 0.04) + jitter * wander[:, 3]
        if kind == "junk" or rng.random() < 0.16:
            # The box has only a part of the person: the feet, the head or one side is cut off.
            share, cut = (rng.uniform(0.3, 0.5) if kind == "junk" else rng.uniform(0.5, 0.8)), rng.integers(3)
            if cut < 2:
                middle = middle + (0.5 - share / 2) * height * (-1 if cut == 0 else 1)
                height = height * share
                aspect = aspect / share**0.6
            else:
                centre = centre + rng.choice((-1, 1)) * rng.uniform(0.12, 0.28 if kind == "person" else 0.5)
        high = np.minimum(height, 0.98) * self.height
        wide = np.minimum(high * aspect, 0.98 * self.width)
        left = np.clip(centre * self.width - wide / 2, 0, self.width - wide)
        top = np.clip(middle * self.height - high / 2, 0, self.height - high)
        return np.stack([left, top, left + wide, top + high], axis=1).tolist()

    def _obstacle(self, frames: int, rng: np.random.Generator) -> Callable[[_Pen, int], None]:
        kind = rng.integers(5)
        colour = tuple(int(c) for c in rng.integers(40, 190, 3))
        unit = self.width / 10
        speed = rng.uniform(-0.5, 0.5) * unit * (0 if kind == 1 else 1)
        x = (rng.uniform(0.1, 0.9) * self.width + speed * (np.arange(frames) - frames / 2)).tolist()
        floor = rng.uniform(0.86, 1.0) * self.height
        leaves = rng.normal(0, 1, (12, 2)) * (2 * unit, 1.6 * unit) + (0, -1.2 * unit)
        green = (int(rng.integers(30, 80)), int(rng.integers(70, 130)), int(rng.integers(20, 60)))

        def pole(pen: _Pen, t: int) -> None:
            pen.rectangle([x[t] - 0.5 * unit, 0, x[t] + 0.5 * unit, self.height], fill=colour)

        def railing(pen: _Pen, t: int) -> None:
            for y in (0.68, 0.8):
                pen.rectangle([0, y * floor, self.width, y * floor + 0.35 * unit], fill=colour)
            pen.rectangle([x[t], 0.68 * floor, x[t] + 0.5 * unit, self.height], fill=colour)

        def bush(pen: _Pen, t: int) -> None:
            for a, b in leaves.tolist():
                pen.ellipse([x[t] + a - unit, floor + b - unit, x[t] + a + unit, floor + b + unit], fill=green)

        def bicycle(pen: _Pen, t: int) -> None:
            r = 2.6 * unit
            for wheel in (x[t] - 1.4 * r, x[t] + 1.4 * r):
                pen.ellipse([wheel - r, floor - 2 * r, wheel + r, floor], outline=(30, 30, 32), width=3)
            frame = [(x[t] - 1.4 * r, floor - r), (x[t] - 0.5 * r, floor - 2.4 * r), (x[t] + 0.9 * r, floor - 2.3 * r)]
            pen.line([*frame, (x[t] + 1.4 * r, floor - r)], fill=colour, width=5)
            pen.line([frame[1], (x[t], floor - r), frame[2]], fill=colour, width=5)

        def car(pen: _Pen, t: int) -> None:
            pen.rounded_rectangle([x[t] - 7 * unit, floor - 3.4 * unit, x[t] + 3 * unit, floor], unit, fill=colour)

        return (pole, railing, bush, bicycle, car)[kind]

    def _develop(
        self,
        shots: Sequence[Image.Image],
        passage: _Passage,
        noise: Image.Image,
        shift: Sequence[Sequence[int]],
    ) -> Iterator[Image.Image]:
        """Apply the camera's colours, blur and noise to the shots, and resize them to the frames' size."""
        width, height = shots[0].size
        # All in one image, one below the other, because Pillow's `point` has a high cost per call.
        strip = Image.new("RGB", (width, len(shots) * height))
        for i, shot in enumerate(shots):
            strip.paste(shot, (0, i * height))
        strip = strip.convert("RGB", passage.matrix).point(passage.table)
        if passage.blur:
            strip = strip.filter(ImageFilter.BoxBlur((passage.blur * width / 64, 0)))
        size = self.image_size[::-1]
        for i, (top, left) in enumerate(shift):
            image = strip.crop((0, i * height, width, (i + 1) * height))
            image = ImageChops.add(image, noise.crop((left, top, left + width, top + height)), 1, -128)
            yield image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)
