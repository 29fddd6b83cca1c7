"""A person's constant appearance, drawn from a palette that all persons share."""

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Few colours, mostly dull, so that colour alone does not identify a person.
FABRICS = np.array(
    [
        (226, 226, 222),  # white
        (34, 34, 38),  # black
        (124, 126, 128),  # grey
        (38, 48, 84),  # navy
        (176, 46, 50),  # red
        (122, 160, 202),  # light blue
        (196, 176, 142),  # beige
        (66, 98, 66),  # green
        (212, 150, 166),  # pink
        (206, 176, 66),  # yellow
    ],
    dtype=np.float32,
)
# Odds are percentages.
TOP_ODDS = (22, 18, 14, 11, 8, 8, 7, 4, 4, 4)
BOTTOM_ODDS = (5, 30, 18, 26, 1, 6, 11, 3, 0, 0)
BAG_ODDS = (8, 34, 16, 14, 10, 4, 8, 2, 2, 2)
SKIN = np.array([(226, 184, 156), (206, 160, 128), (160, 112, 82), (98, 66, 48)], dtype=np.float32)
HAIR = np.array([(28, 24, 24), (58, 42, 32), (128, 92, 54), (150, 148, 146)], dtype=np.float32)

PATTERNS = ("plain", "hoops", "stripes", "checks", "dots", "block", "halves", "sash", "jacket", "band")
PATTERN_ODDS = (24, 13, 8, 11, 6, 9, 5, 6, 12, 6)
LOWER = ("trousers", "shorts", "skirt")
HAIR_STYLES = ("short", "bald", "bob", "long", "tail", "cap")
BAGS = ("none", "backpack", "messenger", "tote", "waist")

TEXTURE_ROWS, TEXTURE_COLUMNS = 64, 160
_DOWN = np.linspace(0.0, 1.0, TEXTURE_ROWS)
_ROUND = np.linspace(0.0, 2 * np.pi, TEXTURE_COLUMNS, endpoint=False)


@dataclass(frozen=True)
class Person:
    """One person's appearance. Lengths are shares of the body height, angles are radians.

    The attributes not listed are colours (triples from 0 to 255), proportions, or choices from this module's lists.

    Attributes:
        texture: uint8 `[rows, columns, 3]`, the unrolled garments of the torso, from the shoulders to the lowest hem;
            column 0 is the middle of the chest and the columns run once around the body.
        lateral: float `[rows]`, half width of the torso from the front.
        sagittal: float `[rows]`, half width of the torso from the side.
        body: length of the torso.
    """

    skin: tuple[int, int, int]
    hair: tuple[int, int, int]
    hair_style: str
    cap: tuple[int, int, int]
    head: float
    legs: float
    arm: float
    limb: float
    shoulder: float
    hip: float
    texture: NDArray[np.uint8]
    lateral: NDArray[np.float64]
    sagittal: NDArray[np.float64]
    body: float
    pattern: str
    sleeve: float
    sleeve_colour: tuple[int, int, int]
    lower: str
    lower_colour: tuple[int, int, int]
    lower_width: float
    side_stripe: tuple[int, int, int] | None
    stocking: tuple[int, int, int] | None
    shoe: tuple[int, int, int]
    bag: str
    bag_colour: tuple[int, int, int]
    bag_pocket: tuple[int, int, int]
    bag_size: float
    bag_side: int
    cadence: float
    stride: float
    swing: float
    elbow: float
    stoop: float


def draw_person(rng: np.random.Generator) -> Person:
    """Draw one person.

    Args:
        rng: `np.random.Generator`; the same state gives the same person.

    Returns:
        A `Person`.
    """
    top, second = _fabric(rng, TOP_ODDS), _fabric(rng, TOP_ODDS)
    while np.abs(top - second).sum() < 90:
        second = _fabric(rng, TOP_ODDS)
    bottom = _fabric(rng, BOTTOM_ODDS)
    pattern = _pick(rng, PATTERNS, PATTERN_ODDS)
    lower = _pick(rng, LOWER, (60, 22, 18))
    hair_style = _pick(rng, HAIR_STYLES, (40, 6, 14, 16, 12, 12))
    bag = _pick(rng, BAGS, (34, 28, 18, 14, 6))
    bag_colour = _fabric(rng, BAG_ODDS)
    bag_pocket = _fabric(rng, BAG_ODDS)
    bag_side = (-1, 1)[rng.integers(2)]
    legs = rng.uniform(0.45, 0.52)
    build = rng.normal(1.0, 0.14)
    build = float(np.clip(build, 0.78, 1.4))
    shoulder = 0.118 * build * rng.uniform(0.92, 1.08)
    hip = 0.088 * build * rng.uniform(0.92, 1.1)
    belly = rng.uniform(0.85, 1.05) * build**0.7
    # The torso runs from the shoulders (0.83 of the height) to the hem of shirt, coat or skirt.
    shirt_end = legs - _pick(rng, (-0.005, 0.05, 0.14), (55, 35, 10))
    skirt_end = legs - rng.uniform(0.16, 0.3)
    hem = min(shirt_end, skirt_end) if lower == "skirt" else shirt_end
    body = 0.83 - hem
    flare = rng.uniform(1.05, 1.6) if lower == "skirt" else rng.uniform(1.0, 1.15)

    below = 0.83 - _DOWN * body
    waist = legs + 0.12
    knots = np.array([hem - 0.01, legs, waist, 0.74, 0.8, 0.83])
    sideways = [hip * flare, hip * 1.06, 0.82 * hip * belly + 0.01, shoulder * 0.9, shoulder, shoulder * 0.45]
    forward = [hip * 0.8 * flare, hip * 0.82, 0.066 * belly, 0.072 * belly, 0.06, 0.035]

    texture = _garment(rng, pattern, top, second)
    if rng.random() < 0.35:
        _logo(texture, rng, second, centre=0.0, body=body)
    if rng.random() < 0.3:
        _logo(texture, rng, second, centre=np.pi, body=body)
    if lower == "skirt":
        skirt_starts = int(TEXTURE_ROWS * (0.83 - max(shirt_end, legs + 0.02)) / body)
        skirt = _garment(rng, ("plain", "stripes", "checks", "band")[rng.integers(4)], bottom, top)
        texture[:, skirt_starts:] = skirt[:, skirt_starts:]
    _paint_straps(texture, bag, bag_side, bag_colour, body, legs)

    sleeve = _pick(rng, (0.0, 0.5, 1.0), (10, 45, 45))
    stripe = second if lower == "trousers" and rng.random() < 0.2 else None
    stocking = bottom * 0.6 if lower == "skirt" and rng.random() < 0.35 else None
    return Person(
        skin=_triple(_pick(rng, SKIN, (40, 36, 14, 10))),
        hair=_triple(_pick(rng, HAIR, (58, 26, 10, 6))),
        hair_style=hair_style,
        cap=_triple(_fabric(rng, BAG_ODDS)),
        head=float(rng.uniform(0.06, 0.07)),
        legs=float(legs),
        arm=float(rng.uniform(0.36, 0.42)),
        limb=float(build**0.8 * rng.uniform(0.9, 1.1)),
        shoulder=float(shoulder),
        hip=float(hip),
        texture=np.stack(np.clip(texture, 0, 255).astype(np.uint8), axis=-1),
        lateral=np.interp(below, knots, sideways),
        sagittal=np.interp(below, knots, forward),
        body=float(body),
        pattern=pattern,
        sleeve=sleeve,
        sleeve_colour=_triple(second if pattern in ("block", "jacket") and rng.random() < 0.4 else top),
        lower=lower,
        lower_colour=_triple(bottom),
        lower_width=float(rng.uniform(0.85, 1.35)),
        side_stripe=None if stripe is None else _triple(stripe),
        stocking=None if stocking is None else _triple(stocking),
        shoe=_triple(_fabric(rng, BAG_ODDS)),
        bag=bag,
        bag_colour=_triple(bag_colour),
        bag_pocket=_triple(bag_pocket),
        bag_size=float(rng.uniform(0.8, 1.25)),
        bag_side=bag_side,
        cadence=float(rng.uniform(0.85, 1.15)),
        stride=float(rng.uniform(0.32, 0.58)),
        swing=float(rng.uniform(0.1, 0.65)),
        elbow=_pick(rng, (0.15, 0.4, 1.3), (50, 35, 15)),
        stoop=float(rng.uniform(0.0, 0.05)),
    )


def _pick(rng: np.random.Generator, values: Any, odds: Sequence[int]) -> Any:
    """Draw one of the values with these percentages; faster than `rng.choice`, which checks its arguments."""
    return values[bisect(tuple(accumulate(odds)), 100 * rng.random())]


def _fabric(rng: np.random.Generator, odds: Sequence[int]) -> np.ndarray:
    return _pick(rng, FABRICS, odds) + rng.normal(0, 5, 3).astype(np.float32)


def _triple(colour: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = (min(max(round(c), 0), 255) for c in colour.tolist())
    return red, green, blue


def _garment(rng: np.random.Generator, pattern: str, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Draw float32 `[3, rows, columns]`, one pattern of two colours around the whole body."""
    v, angle = _DOWN[:, None], _ROUND[None]
    front = (angle + np.pi) % (2 * np.pi) - np.pi
    bands, ribs = int(rng.integers(3, 8)), int(rng.integers(6, 13))
    edge = rng.uniform(0.3, 0.6)
    if pattern == "hoops":
        mask = (v * bands) % 1 < edge
    elif pattern == "stripes":
        mask = (angle / (2 * np.pi) * ribs) % 1 < edge
    elif pattern == "checks":
        mask = ((v * bands) % 1 < 0.5) ^ ((angle / (2 * np.pi) * ribs) % 1 < 0.5)
    elif pattern == "dots":
        mask = ((v * bands) % 1 - 0.5) ** 2 + ((angle / (2 * np.pi) * ribs) % 1 - 0.5) ** 2 < 0.09
    elif pattern == "block":
        mask = v < edge
    elif pattern == "halves":
        mask = front > 0
    elif pattern == "sash":
        mask = np.abs(v - 0.45 - 0.35 * np.sin(angle)) < 0.1
    elif pattern == "jacket":
        mask = (np.abs(front) < 0.16 + 0.3 * edge) & (v < 0.9)
    elif pattern == "band":
        mask = np.abs(v - edge) < 0.08
    else:
        mask = np.zeros_like(v, dtype=bool)
    # sin(9v + wave) by the addition theorem, with one sine per row and column instead of one per point.
    wave = 3 * np.sin(angle * 2 + rng.uniform(0, 6))
    folds = 1 + 0.05 * (np.sin(9 * v) * np.cos(wave) + np.cos(9 * v) * np.sin(wave))
    return (np.where(mask, second[:, None, None], first[:, None, None]) * folds).astype(np.float32)


def _logo(texture: np.ndarray, rng: np.random.Generator, colour: np.ndarray, centre: float, body: float) -> None:
    rows, columns = np.ogrid[:TEXTURE_ROWS, :TEXTURE_COLUMNS]
    angle = (columns / TEXTURE_COLUMNS * 2 * np.pi - centre + np.pi) % (2 * np.pi) - np.pi
    x = angle / rng.uniform(0.4, 0.6)
    y = (rows / TEXTURE_ROWS - 0.12 / body) / (rng.uniform(0.05, 0.08) / body)
    shape = rng.integers(4)
    if shape == 0:
        mask = x**2 + y**2 < 1
    elif shape == 1:
        mask = (np.abs(x) < 0.9) & (np.abs(y) < 0.35)
    elif shape == 2:
        mask = (np.abs(x) < (y + 1) / 2) & (y < 1)
    else:
        mask = ((np.abs(x) < 0.25) | (np.abs(y) < 0.25)) & (np.abs(x) < 1) & (np.abs(y) < 1)
    np.copyto(texture, colour[:, None, None], where=mask)


def _paint(texture: np.ndarray, rows: tuple[float, float], angle: float, width: float, colour: np.ndarray) -> None:
    first, last = int(rows[0] * TEXTURE_ROWS), int(rows[1] * TEXTURE_ROWS)
    centre, half = angle / (2 * np.pi) * TEXTURE_COLUMNS, width / (2 * np.pi) * TEXTURE_COLUMNS
    columns = np.arange(int(centre - half), int(centre + half) + 1) % TEXTURE_COLUMNS
    texture[:, first:last, columns] = colour[:, None, None] * 0.9


def _paint_straps(texture: np.ndarray, bag: str, side: int, colour: np.ndarray, body: float, legs: float) -> None:
    """Paint the part of a bag that lies on the garments."""
    if bag == "waist":
        row = int(TEXTURE_ROWS * (0.83 - legs - 0.05) / body)
        texture[:, row : row + 5] = colour[:, None, None] * 0.8
    if bag == "backpack":
        for angle in (0.55, -0.55):
            _paint(texture, rows=(0.0, min(1.0, 0.24 / body)), angle=angle, width=0.16, colour=colour)
    if bag == "messenger":
        _strap(texture, side, colour * 0.85, end=(0.83 - legs) / body)


def _strap(texture: np.ndarray, side: int, colour: np.ndarray, end: float) -> None:
    """Paint a strap from the far shoulder across chest and back to the hip on `side`."""
    rows = np.arange(TEXTURE_ROWS)[:, None] / TEXTURE_ROWS / end
    angle = np.arange(TEXTURE_COLUMNS)[None] / TEXTURE_COLUMNS * 2 * np.pi
    mask = np.abs(rows - 0.5 - 0.5 * side * np.sin(angle)) < 0.07
    np.copyto(texture, colour[:, None, None], where=mask)
