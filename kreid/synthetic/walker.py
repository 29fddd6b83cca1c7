"""A person's pose over time, projected into one camera as polygons and pictures of the torso."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw

from kreid.synthetic.people import Person

_Colour = tuple[int, int, int]
# A point `(sideways, up, forward)`; each coordinate is a number or `[frames]`.
_Point = Sequence[Any]

_SHOULDER = 0.80
_BODY_TOP = 0.83
_HEAD = 0.915
# The outline of a capsule (a thick line with round ends): five points around each end, as angles from its axis.
_ANGLES = np.deg2rad([90, 45, 0, -45, -90, -90, -135, -180, -225, -270])
_ALONG, _ACROSS = np.cos(_ANGLES).astype(np.float32)[:, None, None], np.sin(_ANGLES).astype(np.float32)[:, None, None]
_IS_CORNER = (np.abs(np.cos(_ANGLES) * np.sin(_ANGLES)) > 0.1)[:, None]
_VIEWS_STEP = 0.25
# Parts this many pixels outside a box can still colour it, because Pillow draws polygons slightly too wide.
_MARGIN = 2
_MOST_PARTS = 40


@dataclass
class Walk:
    """One person's walk through one camera: call `place`, then `draw` for each frame.

    Attributes:
        outlines: x and y, float32 `[points, parts, frames]` each, in pixels from the point on the ground below the
            hips.
        colours: one colour per part.
        order: int `[frames, parts + 1]`, parts from far to near; the index `parts` is the torso.
        views: pictures of the torso from several angles, `(image, mask)` each.
        view: int `[frames]`, the index in `views` of each frame.
        corners: `[frames, 2]`, position of the torso's upper left corner.
        polygons: float32 `[frames, parts, points, 2]`, the outlines on the canvas; `place` sets it.
    """

    outlines: tuple[np.ndarray, np.ndarray]
    colours: list[_Colour]
    order: list[list[int]]
    views: list[tuple[Image.Image, Image.Image]]
    view: list[int]
    corners: Any
    polygons: np.ndarray | None = None

    def place(self, x: ArrayLike, y: ArrayLike, boxes: ArrayLike) -> None:
        """Place the walker on a canvas, and drop the parts outside the boxes.

        Args:
            x: horizontal position of the walker in pixels, a number or `[frames]`.
            y: vertical position of the ground in pixels, a number or `[frames]`.
            boxes: `[frames, 4]`, the left, top, right and bottom of the visible part of the canvas.
        """
        across, down = self.outlines[0] + np.asarray(x, np.float32), self.outlines[1] + np.asarray(y, np.float32)
        self.polygons = np.empty((*across.T.shape, 2), dtype=np.float32)
        self.polygons[..., 0], self.polygons[..., 1] = across.T, down.T
        self.corners = np.rint(self.corners + np.stack(np.broadcast_arrays(x, y), axis=-1)).astype(int).tolist()
        left, top, right, bottom = np.transpose(boxes)
        visible = (across.max(axis=0) > left - _MARGIN) & (across.min(axis=0) < right + _MARGIN)
        visible &= (down.max(axis=0) > top - _MARGIN) & (down.min(axis=0) < bottom + _MARGIN)
        torso = len(self.colours)
        self.order = [
            [part for part in parts if part == torso or is_visible[part]]
            for parts, is_visible in zip(self.order, visible.T.tolist(), strict=True)
        ]

    def draw(self, canvas: Image.Image, pen: ImageDraw.ImageDraw, frame: int) -> None:
        """Draw one frame.

        Args:
            canvas: RGB `PIL.Image.Image`, changed in place.
            pen: the `PIL.ImageDraw.ImageDraw` of `canvas`.
            frame: int, frame of the walk.

        Raises:
            ValueError: before `place`.
        """
        if self.polygons is None:
            raise ValueError("Call `place` before `draw`. Received: polygons=None")
        polygons = self.polygons[frame]
        torso = len(self.colours)
        for part in self.order[frame]:
            if part == torso:
                image, mask = self.views[self.view[frame]]
                canvas.paste(image, self.corners[frame], mask)
            else:
                pen.polygon(polygons[part], fill=self.colours[part])


def walk(person: Person, facing: np.ndarray, phase: np.ndarray, elevation: float, height: float) -> Walk:
    """Pose a person in each frame and project the poses into a camera.

    Args:
        person: a `people.Person`.
        facing: radians `[frames]`; at 0 the person faces the camera.
        phase: radians `[frames]` of the gait; 2 pi is two steps.
        elevation: radians by which the camera looks down.
        height: pixels from the ground to the top of the head.

    Returns:
        A `Walk`.
    """
    parts = _Parts(facing, elevation, height)
    _legs(parts, person, phase)
    # Raise the hips so that the lower foot is on the ground.
    rise = 0.012 - parts.lowest()
    _arms(parts, person, phase)
    _head(parts, person)
    _bag(parts, person, phase)
    outlines = parts.outlines(rise)
    order = np.argsort(np.concatenate([parts.depths(), np.zeros((1, len(phase)))]), axis=0, kind="stable").T
    bins = np.rint(facing / _VIEWS_STEP).astype(int)
    names = sorted(set(bins.tolist()))
    views = _torso_views(person, [b * _VIEWS_STEP for b in names], parts.scale, elevation)
    view = [names.index(b) for b in bins.tolist()]
    top = -(_BODY_TOP + rise) * parts.scale * np.cos(elevation)
    half = np.array([views[i][0].width / 2 for i in view])
    sway = 0.006 * parts.scale * np.sin(phase)
    return Walk(outlines, parts.colours, order.tolist(), views, view, np.stack([sway - half, top], axis=1))


class _Parts:
    """Capsules in body coordinates (sideways, up, forward; shares of the height), and their projection."""

    def __init__(self, facing: np.ndarray, elevation: float, height: float) -> None:
        self.frames = len(facing)
        self.cos, self.sin = np.cos(facing), np.sin(facing)
        self.tilt = elevation
        self.scale = float(height / np.cos(elevation))
        # One array with frames last, filled part by part: many small arrays, or short rows, would be too slow.
        self.points = np.zeros((3, 2, _MOST_PARTS, self.frames), dtype=np.float32)
        self.radii = np.zeros((2, _MOST_PARTS, self.frames), dtype=np.float32)
        self.colours: list[_Colour] = []
        self.biases: list[float] = []
        self.boxes: list[bool] = []

    def add(
        self,
        start: _Point,
        end: _Point,
        radius: Any,
        colour: _Colour,
        bias: float = 0.0,
        end_radius: float | None = None,
        box: bool = False,
    ) -> None:
        """Add a capsule between two points."""
        part = len(self.colours)
        for i in range(3):
            self.points[i, 0, part] = start[i]
            self.points[i, 1, part] = end[i]
        self.radii[0, part] = radius
        self.radii[1, part] = radius if end_radius is None else end_radius
        self.colours.append(colour)
        self.biases.append(bias)
        self.boxes.append(box)

    def wide(self, sideways: float, forward: float) -> np.ndarray:
        """Return the half width in the image, `[frames]`, from the half widths from the front and from the side."""
        return np.sqrt((sideways * self.cos) ** 2 + (forward * self.sin) ** 2)

    def lowest(self) -> np.ndarray:
        """Return the height of the lowest end of a part, `[frames]`."""
        return self.points[1, 1, : len(self.colours)].min(axis=0)

    def depths(self) -> np.ndarray:
        """Return the nearness of each part's middle plus its bias, `[parts, frames]`."""
        sideways, _, forward = self.points[:, :, : len(self.colours)].mean(axis=1)
        return forward * self.cos - sideways * self.sin + np.array(self.biases)[:, None]

    def outlines(self, rise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the capsules' outlines in pixels: x and y, float32 `[points, parts, frames]` each."""
        parts = len(self.colours)
        x, y = self._project(self.points[:, :, :parts], rise)
        along_x, along_y = x[1] - x[0], y[1] - y[0]
        length = np.maximum(np.sqrt(along_x * along_x + along_y * along_y), 1e-6)
        along_x, along_y = along_x / length, along_y / length
        reach = np.where(np.array(self.boxes) & _IS_CORNER, 1.35, 1.0).astype(np.float32)[..., None]
        # The first half of the points is around the end, the second around the start.
        half = len(_ANGLES) // 2
        radii = np.repeat(self.radii[::-1, :parts] * np.float32(self.scale), half, axis=0)
        x, y = np.repeat(x[::-1], half, axis=0), np.repeat(y[::-1], half, axis=0)
        x += (along_x * _ALONG - along_y * _ACROSS) * reach * radii
        y += (along_y * _ALONG + along_x * _ACROSS) * reach * radii
        return x, y

    def _project(self, points: np.ndarray, rise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sideways, up, forward = points[0], points[1] + rise, points[2]
        x = sideways * self.cos + forward * self.sin
        nearness = forward * self.cos - sideways * self.sin
        y = nearness * np.sin(self.tilt) - up * np.cos(self.tilt)
        return (x * self.scale).astype(np.float32), (y * self.scale).astype(np.float32)


def _legs(parts: _Parts, person: Person, phase: np.ndarray) -> None:
    thigh, shin = 0.52 * person.legs, 0.48 * person.legs
    thick = 0.05 * person.limb
    cloth = thick * person.lower_width
    for side in (-1, 1):
        swing = person.stride * np.sin(phase + (0 if side > 0 else np.pi))
        bend = 0.12 + 1.1 * person.stride * np.maximum(0, np.cos(phase + (0 if side > 0 else np.pi))) ** 2
        hip = (side * 0.55 * person.hip, person.legs, 0.0)
        knee = (hip[0], person.legs - thigh * np.cos(swing), thigh * np.sin(swing))
        back = swing - bend
        ankle = (hip[0] * 0.9, knee[1] - shin * np.cos(back), knee[2] + shin * np.sin(back))
        toe = (ankle[0], ankle[1] - 0.004, ankle[2] + 0.075)
        near = -2.0
        parts.add(ankle, toe, 0.02, person.shoe, near)
        if person.lower == "trousers":
            parts.add(knee, ankle, cloth * 0.78, person.lower_colour, near, cloth * 0.6)
            parts.add(hip, knee, cloth * 1.15, person.lower_colour, near + 0.01, cloth * 0.8)
        else:
            bare = person.stocking or person.skin
            parts.add(knee, ankle, thick * 0.68, bare, near, thick * 0.45)
            parts.add(hip, knee, thick, bare, near + 0.01, thick * 0.75)
            if person.lower == "shorts":
                hem = _between(hip, knee, 0.8)
                parts.add(hip, hem, cloth * 1.2, person.lower_colour, near + 0.02, cloth * 1.1)
        if person.side_stripe:
            visible = np.clip(-side * parts.sin * 1.5, 0, 1)
            edge = side * cloth * 0.75
            upper, middle, lower = ((p[0] + edge * k, p[1], p[2]) for p, k in ((hip, 1.1), (knee, 0.9), (ankle, 0.7)))
            parts.add(upper, middle, 0.012 * visible, person.side_stripe, near + 0.05)
            parts.add(middle, lower, 0.012 * visible, person.side_stripe, near + 0.05)


def _between(start: _Point, end: _Point, share: float) -> tuple[Any, ...]:
    return tuple(s + share * (e - s) for s, e in zip(start, end, strict=True))


def _hand(person: Person, phase: np.ndarray, side: int) -> tuple[_Point, _Point, _Point]:
    """Return shoulder, elbow and hand of one arm, which swings against the leg on its side."""
    upper, lower = 0.47 * person.arm, 0.45 * person.arm
    swing = -person.swing * np.sin(phase + (0 if side > 0 else np.pi))
    out = side * person.shoulder
    shoulder = (out * 0.95, _SHOULDER - 0.01, 0.0)
    elbow = (out * 1.15, shoulder[1] - upper * np.cos(swing), upper * np.sin(swing))
    bent = swing + person.elbow
    hand = (out * 1.12, elbow[1] - lower * np.cos(bent), elbow[2] + lower * np.sin(bent))
    return shoulder, elbow, hand


def _arms(parts: _Parts, person: Person, phase: np.ndarray) -> None:
    thick = 0.034 * person.limb
    for side in (-1, 1):
        shoulder, elbow, hand = _hand(person, phase, side)
        # From the front and the back the arms are next to the torso and in front of its edge.
        near = 0.03
        colour = person.sleeve_colour
        parts.add(hand, hand, thick * 0.75, person.skin, near + 0.002)
        if person.sleeve == 1:
            parts.add(elbow, hand, thick * 1.05, colour, near + 0.0025, thick * 0.8)
            parts.add(shoulder, elbow, thick * 1.1, colour, near + 0.003, thick * 1.05)
            continue
        parts.add(shoulder, elbow, thick * 0.85, person.skin, near, thick * 0.75)
        parts.add(elbow, hand, thick * 0.75, person.skin, near + 0.001, thick * 0.55)
        if person.sleeve:
            parts.add(shoulder, _between(shoulder, elbow, 0.75), thick * 1.1, colour, near + 0.003, thick * 1.05)


def _head(parts: _Parts, person: Person) -> None:
    size, lean = person.head, person.stoop
    parts.add((0, 0.8, 0.0), (0, 0.87, lean), 0.028, person.skin, 0.02)
    top, low = (0, _HEAD + 0.018, lean), (0, _HEAD - 0.02, lean + 0.012)
    parts.add(low, top, size * 0.72, person.skin, 0.4, size * 0.82)
    if person.hair_style == "bald":
        return
    colour = person.cap if person.hair_style == "cap" else person.hair
    crown = (0, _HEAD + 0.036, lean - 0.016)
    parts.add((0, _HEAD + 0.02, lean - 0.05), crown, size * 0.66, colour, 0.43, size * 0.8)
    parts.add((0, _HEAD - 0.022, lean - 0.035), crown, size * 0.7, colour, 0.41, size * 0.85)
    # The face is visible only from the front, below the hair.
    parts.add((0, _HEAD - 0.026, lean + 0.04), (0, _HEAD - 0.002, lean + 0.045), size * 0.6, person.skin, 0.4)
    if person.hair_style == "cap":
        parts.add((0, _HEAD + 0.03, lean + 0.03), (0, _HEAD + 0.026, lean + 0.09), 0.016, colour, 0.46)
    if person.hair_style == "bob":
        for side in (-1, 0, 1):
            root = side * size * 0.6
            parts.add((root, _HEAD, lean - 0.03), (root, _HEAD - 0.07, lean - 0.035), size * 0.4, colour, 0.4)
    if person.hair_style == "long":
        for side in (-1, 0, 1):
            root = side * size * 0.55
            parts.add((root, _HEAD, lean - 0.04), (root, _HEAD - 0.18, lean - 0.075), size * 0.42, colour, 0.02)
    if person.hair_style == "tail":
        parts.add((0, _HEAD + 0.02, lean - 0.07), (0, _HEAD - 0.1, lean - 0.1), size * 0.3, colour, 0.02, size * 0.2)


def _bag(parts: _Parts, person: Person, phase: np.ndarray) -> None:
    size, colour = person.bag_size, person.bag_colour
    if person.bag == "backpack":
        half = parts.wide(0.075 * size, 0.04 * size)
        back = -0.105
        parts.add((0, 0.75, back), (0, 0.75 - 0.13 * size, back), half, colour, 0.0, box=True)
        small = parts.wide(0.05 * size, 0.012)
        top, low = (0, 0.66 - 0.05 * size, back - 0.05), (0, 0.66 - 0.08 * size, back - 0.05)
        parts.add(top, low, small, person.bag_pocket, box=True)
    elif person.bag == "messenger":
        half = parts.wide(0.03, 0.07 * size)
        out = person.bag_side * (person.shoulder + 0.03)
        hem = person.legs + 0.02
        parts.add((out, hem + 0.02, -0.03), (out, hem - 0.06 * size, -0.03), half, colour, 0.05, box=True)
    elif person.bag == "tote":
        hand = _hand(person, phase, person.bag_side)[2]
        half = parts.wide(0.025, 0.07 * size)
        parts.add(hand, (hand[0], hand[1] - 0.06, hand[2]), 0.008, colour, 0.05)
        upper, lower = (hand[0], hand[1] - 0.1, hand[2]), (hand[0], hand[1] - 0.1 - 0.08 * size, hand[2])
        parts.add(upper, lower, half, colour, 0.06, box=True)
        spot = parts.wide(0.002, 0.03 * size)
        parts.add((hand[0], hand[1] - 0.12, hand[2]), (hand[0], hand[1] - 0.13, hand[2]), spot, person.bag_pocket, 0.07)


def _torso_views(
    person: Person, angles: Sequence[float], scale: float, elevation: float
) -> list[tuple[Image.Image, Image.Image]]:
    """Return an image and its mask of the torso from each angle, with the garments wrapped around it."""
    knots = np.arange(len(person.texture))
    source = np.linspace(0, knots[-1], max(2, round(person.body * scale * np.cos(elevation))))
    lateral, sagittal = np.interp(source, knots, person.lateral), np.interp(source, knots, person.sagittal)
    columns = person.texture.shape[1]
    texels, first = person.texture.reshape(-1, 3), source.astype(np.intp)[:, None] * columns
    pieces = []
    for facing in angles:
        half = np.sqrt((lateral * np.cos(facing)) ** 2 + (sagittal * np.sin(facing)) ** 2).astype(np.float32) * scale
        reach = int(np.ceil(half.max()))
        x = (np.arange(2 * reach, dtype=np.float32) + 0.5 - reach)[None] / half[:, None]
        inside = np.abs(x) <= 1
        x = np.clip(x, -1, 1)
        column = ((np.arcsin(x) - facing) * (columns / (2 * np.pi))).astype(np.intp) % columns
        shade = 0.7 + 0.3 * np.sqrt(1 - x**2)
        picture = texels.take(first + column, axis=0) * shade[..., None]
        pieces.append((Image.fromarray(picture.astype(np.uint8)), Image.fromarray(inside)))
    return pieces
