"""Videos of coloured boxes on grey, written without loss, so that crops are known to the pixel."""

import av
import keras
import numpy as np
from PIL import Image

import kreid
from kreid.data.readers import read_tracklet_folders
from kreid.tracks import TrackLimits

SIZE = (48, 64)
FRAMES = 12
ALL = TrackLimits(min_size=(1, 1), min_length=1)
# For each id: place in frame 1, motion, height and width, first and last frame.
WALKERS = {
    3: ((4, 4), (0, 3), (24, 12), 1, 12),
    7: ((26, 50), (1, -2), (14, 10), 3, 9),
    -2: ((2, 30), (2, 0), (8, 8), 1, 4),
}


def box_of(number, frame):
    """Top, left, height and width."""
    (top, left), (down, across), (height, width), _, _ = WALKERS[number]
    return top + down * (frame - 1), left + across * (frame - 1), height, width


def there(number):
    return range(WALKERS[number][3], WALKERS[number][4] + 1)


def look(number, frame, height, width):
    """Return a walker's crop: a colour per walker, shaded rows, and the frame's number in the blue channel."""
    picture = np.full((height, width, 3), (40 * (abs(number) % 5), 0, 10 * frame), np.uint8)
    picture[..., 1] = 3 * np.arange(height)[:, None] + np.arange(width)
    return picture


def picture_of(frame):
    picture = np.full((*SIZE, 3), 128, np.uint8)
    for number in WALKERS:
        if frame in there(number):
            top, left, height, width = box_of(number, frame)
            picture[top : top + height, left : left + width] = look(number, frame, height, width)
    return picture


def write_video(path, pictures, codec="ffv1", pix_fmt="bgr0", rotation=None, **options):
    with av.open(str(path), "w", options={"movflags": "faststart"} if path.suffix == ".mp4" else {}) as file:
        stream = file.add_stream(codec, rate=10, options=options)
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], pix_fmt
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for picture in pictures:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
    return path


def write_tracks(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def crops_in(folder):
    """Crops by the name of their tracklet and the frame's number."""
    return {
        (entry.name, int(path.rsplit("/", 1)[1][:-4])): np.asarray(Image.open(path))
        for entry in read_tracklet_folders(folder)
        for path in entry.frames
    }


def model_of(**settings):
    keras.utils.set_random_seed(0)
    backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32), last_stride=1)
    return kreid.models.Baseline(backbone, 5, **settings)
