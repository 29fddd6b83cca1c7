"""Six cameras that differ in colours, viewpoint, background and sharpness."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter


@dataclass(frozen=True)
class Camera:
    """One camera.

    Attributes:
        facing: radians; at 0 people walk towards the camera, at pi away from it.
        reversed_odds: share of people who walk the other way.
        elevation: radians by which the camera looks down.
        gain: contrast of red, green and blue.
        offset: added to red, green and blue.
        mix: share of the other channels that leaks into each.
        gamma: exponent of the response.
        saturation: 0 gives grey.
        resolution: share of the crop's size that the sensor resolves.
        noise: standard deviation in grey levels.
        jitter: random motion of the detector's boxes, as a share of the box.
        ground: colours of the ground and of the scenery.
        scenery: kind of scenery behind the ground.
        horizon: upper edge of the ground, as a share of the image height from the top.
    """

    facing: float
    reversed_odds: float
    elevation: float
    gain: tuple[float, float, float]
    offset: tuple[float, float, float]
    mix: float
    gamma: float
    saturation: float
    resolution: float
    noise: float
    jitter: float
    ground: tuple[tuple[int, int, int], tuple[int, int, int]]
    scenery: str
    horizon: float


# Facing, reversed, elevation; gain, offset, mix, gamma, saturation; resolution, noise, jitter; ground, scenery, horizon
CAMERAS = {
    1: Camera(0.15, 0.25, 0.20, (1.02, 1.00, 0.97), (0, 0, 0), 0.02, 1.00, 1.00, 1.00, 3.0, 0.035,
              ((136, 132, 128), (84, 98, 78)), "trees", 0.34),
    2: Camera(1.50, 0.50, 0.12, (1.04, 0.99, 0.93), (3, 1, -1), 0.03, 0.96, 0.97, 0.80, 4.0, 0.050,
              ((150, 136, 126), (118, 108, 104)), "wall", 0.40),
    3: Camera(3.00, 0.25, 0.30, (0.95, 0.98, 1.04), (0, 1, 3), 0.03, 1.05, 0.95, 0.70, 4.0, 0.040,
              ((122, 126, 130), (80, 88, 98)), "glass", 0.26),
    4: Camera(0.85, 0.50, 0.25, (0.98, 1.02, 0.96), (1, 2, 0), 0.02, 1.00, 1.06, 0.90, 4.0, 0.045,
              ((116, 128, 104), (136, 140, 140)), "fence", 0.30),
    5: Camera(-1.10, 0.50, 0.10, (0.91, 0.90, 0.91), (8, 8, 9), 0.05, 1.00, 0.86, 0.60, 5.0, 0.060,
              ((150, 148, 144), (160, 154, 146)), "shops", 0.44),
    6: Camera(2.50, 0.35, 0.48, (1.02, 0.97, 1.01), (-2, -3, -1), 0.03, 1.12, 1.03, 0.50, 6.0, 0.060,
              ((104, 100, 104), (80, 76, 84)), "cars", 0.12),
}  # fmt: skip

# Bricks and panes need some pixels, so smaller backgrounds are painted at this height and shrunk.
_LEAST_HEIGHT = 256
_SURFACES = np.array(
    [(140, 138, 134), (104, 104, 108), (168, 162, 152), (98, 112, 80), (150, 118, 102), (74, 76, 82)], dtype=np.float32
)


def colour_response(camera: Camera, rng: np.random.Generator) -> tuple[tuple[float, ...], list[int]]:
    """Draw the change of colours by the camera and by the light of one tracklet.

    Args:
        camera: a `Camera`.
        rng: `np.random.Generator`.

    Returns:
        A tuple `(matrix, table)`: 12 numbers for Pillow's `Image.convert("RGB", matrix)`, and the 768 numbers for its
        `Image.point`.
    """
    exposure = np.exp(rng.normal(0, 0.09))
    tint = np.exp(rng.normal(0, 0.03, 3))
    light = np.array(camera.gain) * tint * exposure
    grey = np.full((3, 3), 1 / 3)
    leak = (1 - 1.5 * camera.mix) * np.eye(3) + 1.5 * camera.mix * grey
    saturation = camera.saturation * np.exp(rng.normal(0, 0.08))
    colours = leak @ (saturation * np.eye(3) + (1 - saturation) * grey)
    matrix = np.concatenate([light[:, None] * colours, np.array(camera.offset)[:, None]], axis=1)
    gamma = camera.gamma * np.exp(rng.normal(0, 0.06))
    table = np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
    return tuple(float(m) for m in matrix.ravel()), 3 * table.tolist()


def panorama(camera: Camera, size: tuple[int, int], seed: int | Sequence[int]) -> Image.Image:
    """Paint the background of one camera.

    Args:
        camera: a `Camera`.
        size: `(height, width)` in pixels.
        seed: int, or a sequence of ints.

    Returns:
        An RGB `PIL.Image.Image`.
    """
    rng = np.random.default_rng(seed)
    target, scale = size, max(1.0, _LEAST_HEIGHT / size[0])
    height, width = size = round(size[0] * scale), round(size[1] * scale)
    ground, behind = (np.array(c, dtype=np.float32) for c in camera.ground)
    horizon = int(camera.horizon * height)
    rows = np.arange(height, dtype=np.float32)[:, None, None] / height
    near = np.where(rows * height < horizon, 0.0, 1.0)
    base = near * _surfaces(rng, ground, size) * (0.82 + 0.3 * rows) + (1 - near) * behind
    # Sun and shade at a large scale, unevenness and grain at smaller ones.
    relief = 0.3 * _clouds(rng, (3, width // 160), size) + 0.16 * _clouds(rng, (8, width // 40), size)
    relief += 0.14 * _clouds(rng, (height // 4, width // 8), size)
    image = Image.fromarray(np.clip(base + relief[..., None], 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    _SCENERY[camera.scenery](draw, rng, width, height, horizon, behind)
    _paving(draw, width, height, horizon, ground * 0.86, camera)
    image = image.filter(ImageFilter.BoxBlur(height / 320))
    return image if size == tuple(target) else image.resize(target[::-1], Image.Resampling.BOX)


def _clouds(rng: np.random.Generator, cells: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Return a smooth random relief, float32 `[height, width]` from -128 to 127."""
    coarse = Image.fromarray(rng.integers(0, 256, cells, dtype=np.uint8))
    return np.asarray(coarse.resize(size[::-1], Image.Resampling.BICUBIC), dtype=np.float32) - 128


def _surfaces(rng: np.random.Generator, ground: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the ground's colours, float32 `[height, width, 3]`: the camera's, and stretches that all cameras share."""
    height, width = size
    colours = np.empty((1, width, 3), dtype=np.float32)
    x = 0
    while x < width:
        stretch = int(height * rng.uniform(0.2, 0.9))
        shared = _SURFACES[rng.integers(len(_SURFACES))]
        colours[:, x : x + stretch] = ground if rng.random() < 0.4 else 0.25 * ground + 0.75 * shared
        x += stretch
    # Edges between stretches are slanted.
    skew = (np.arange(height)[:, None] * rng.uniform(-0.6, 0.6)).astype(int)
    return colours[0, (np.arange(width)[None] + skew) % width]


def _shade(
    rng: np.random.Generator, colour: np.ndarray | tuple[int, int, int], low: float = 0.6, high: float = 1.4
) -> tuple[int, ...]:
    return tuple(int(c) for c in np.clip(np.asarray(colour) * rng.uniform(low, high), 0, 255))


def _paving(
    draw: ImageDraw.ImageDraw, width: int, height: int, horizon: int, ground: np.ndarray, camera: Camera
) -> None:
    colour = tuple(int(c) for c in ground)
    y, step = float(horizon), height * 0.02
    while y < height:
        draw.line([(0, y), (width, y)], fill=colour)
        y, step = y + step, step * 1.5
    if camera.scenery in ("wall", "shops", "glass"):
        for x in range(-height, width + height, height // 5):
            draw.line([(x, horizon), (x + (x % 7 - 3) * height // 24, height)], fill=colour)


def _trees(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, width: int, height: int, horizon: int, behind: np.ndarray
) -> None:
    for x in range(0, width, height // 5):
        draw.rectangle([x, horizon // 3, x + height // 40, horizon + height // 20], fill=_shade(rng, (80, 64, 52)))
        for _ in range(6):
            cx, cy, r = x + rng.normal(0, height / 10), rng.uniform(0, horizon), height * rng.uniform(0.03, 0.09)
            draw.ellipse([cx - r, cy - r, cx + r, cy + r], fill=_shade(rng, behind))


def _wall(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, width: int, height: int, horizon: int, behind: np.ndarray
) -> None:
    brick = height // 20
    for row, y in enumerate(range(0, horizon, brick // 2)):
        for x in range(-(row % 2) * brick // 2, width, brick):
            draw.rectangle([x + 1, y + 1, x + brick - 1, y + brick // 2 - 1], fill=_shade(rng, behind, 0.8, 1.2))
    for x in range(0, width, height):
        draw.rectangle([x, 0, x + height // 4, horizon], fill=_shade(rng, (70, 60, 56)))


def _glass(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, width: int, height: int, horizon: int, behind: np.ndarray
) -> None:
    pane = height // 6
    for x in range(0, width, pane):
        draw.rectangle([x + 2, 0, x + pane - 2, horizon - 2], fill=_shade(rng, behind, 0.6, 1.9))
        draw.line([(x, horizon), (x + pane, 0)], fill=_shade(rng, behind, 1.2, 1.6), width=2)


def _fence(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, width: int, height: int, horizon: int, behind: np.ndarray
) -> None:
    for x in range(0, width, height // 3):
        r = height * rng.uniform(0.05, 0.12)
        draw.ellipse([x, horizon - 2 * r, x + 3 * r, horizon], fill=_shade(rng, (70, 104, 60)))
    for x in range(0, width, height // 24):
        bar = _shade(rng, behind, 0.7, 1.1)
        draw.line([(x, horizon - height // 6), (x, horizon + height // 14)], fill=bar, width=2)
    for y in (horizon - height // 7, horizon + height // 24):
        draw.line([(0, y), (width, y)], fill=_shade(rng, behind, 0.7, 1.0), width=3)


def _shops(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, width: int, height: int, horizon: int, behind: np.ndarray
) -> None:
    for x in range(0, width, height // 3):
        draw.rectangle([x, 0, x + height // 3, horizon], fill=_shade(rng, behind, 0.5, 1.2))
        draw.rectangle([x + 6, height // 12, x + height // 5, horizon], fill=_shade(rng, (60, 64, 72)))
        sign = tuple(int(c) for c in rng.integers(40, 240, 3))
        draw.rectangle([x, height // 40, x + height // 3 - 6, height // 12], fill=sign)


def _cars(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, width: int, height: int, horizon: int, behind: np.ndarray
) -> None:
    for x in range(0, width, int(height * 0.55)):
        colour = _shade(rng, ((150, 150, 154), (120, 40, 40), (50, 60, 90), (190, 190, 186))[rng.integers(4)], 0.8, 1.1)
        y, w, h = horizon + height * rng.uniform(-0.04, 0.16), height * 0.46, height * 0.13
        draw.rounded_rectangle([x, y, x + w, y + h], radius=h / 3, fill=colour)
        draw.rounded_rectangle([x + w * 0.2, y - h * 0.6, x + w * 0.8, y + h * 0.3], radius=h / 4, fill=(44, 48, 56))
        for wheel in (0.2, 0.8):
            cx = x + w * wheel
            draw.ellipse([cx - h * 0.3, y + h * 0.7, cx + h * 0.3, y + h * 1.3], fill=(24, 24, 26))


_SCENERY = {"trees": _trees, "wall": _wall, "glass": _glass, "fence": _fence, "shops": _shops, "cars": _cars}
