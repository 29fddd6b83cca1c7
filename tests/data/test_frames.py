import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kreid.data.frame_scan import scan_frames
from kreid.data.frames import MAX_BYTES, MAX_PIXELS, MAX_SCAN_PIXELS, decode_frame, decode_frames, read_frames

SIZE = (20, 10)


def encoded(kind="JPEG", mode="RGB", size=(20, 10), seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, kind)
    return stream.getvalue()


def opened(contents):
    return np.asarray(Image.open(io.BytesIO(contents)).convert("RGB"))


def huge_png(height=100_000, width=100_000):
    png = encoded("PNG")
    return png[:16] + struct.pack(">II", width, height) + png[24:]


def huge_jpeg():
    jpeg = encoded()
    start = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:start] + struct.pack(">HH", 60_000, 60_000) + jpeg[start + 4 :]


def progressive(size, scans):
    """A progressive JPEG of one colour, with this many scans: the last one, of a few bytes, comes again and again."""
    stream = io.BytesIO()
    Image.new("RGB", size[::-1], (200, 100, 50)).save(stream, "JPEG", progressive=True)
    jpeg = stream.getvalue()
    start, end = jpeg.rindex(b"\xff\xda"), jpeg.rindex(b"\xff\xd9")
    return jpeg[:end] + jpeg[start:end] * (scans - jpeg.count(b"\xff\xda")) + jpeg[end:]


BAD = {
    "empty": b"",
    "text": b"hello",
    "truncated JPEG": encoded()[:200],
    "truncated PNG": encoded("PNG")[:200],
    "PNG's first bytes": b"\x89PNG\r\n\x1a\n",
    "JPEG's first bytes": b"\xff\xd8\xff",
    "GIF": encoded("GIF"),
    "huge PNG": huge_png(),
    "PNG of a size that overflows": huge_png(2**31 + 5, 2**31 + 7),
    "PNG of no size": huge_png(0, 10),
    "huge JPEG": huge_jpeg(),
    "JPEG of many scans": progressive((4096, 4096), 17),
    "JPEG of very many scans": progressive((512, 512), 1001),
    "PNG of many bytes": encoded("PNG") + bytes(MAX_BYTES),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_an_image_of_the_asked_size_keeps_its_pixels(kind):
    contents = encoded(kind)
    difference = decode_frame(tf.constant(contents), SIZE).numpy().astype(int) - opened(contents)
    # Two JPEG decoders round differently, most so on noise; PNG is exact.
    assert np.abs(difference).max() <= (4 if kind == "JPEG" else 0)


def test_resize_is_bilinear_between_pixel_centres_and_rounded():
    contents = encoded("PNG", size=(7, 5))
    pixels = opened(contents).astype(float)

    def at(position, count):
        place = np.clip(position, 0, count - 1)
        low = int(np.floor(place))
        return low, min(low + 1, count - 1), place - low

    expected = np.empty((*SIZE, 3))
    for row in range(SIZE[0]):
        for column in range(SIZE[1]):
            top, bottom, down = at((row + 0.5) * 7 / SIZE[0] - 0.5, 7)
            left, right, across = at((column + 0.5) * 5 / SIZE[1] - 0.5, 5)
            upper = pixels[top, left] * (1 - across) + pixels[top, right] * across
            lower = pixels[bottom, left] * (1 - across) + pixels[bottom, right] * across
            expected[row, column] = upper * (1 - down) + lower * down
    result = decode_frame(tf.constant(contents), SIZE)
    assert result.dtype == tf.uint8
    # Half a step of rounding, and a little for float32.
    assert np.abs(result.numpy() - expected).max() <= 0.5 + 1e-3


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "P"), ("PNG", "RGBA"), ("PNG", "L")]
)
def test_other_colour_modes_become_rgb(kind, mode):
    assert decode_frame(tf.constant(encoded(kind, mode)), SIZE).shape == (*SIZE, 3)


@pytest.mark.parametrize("name", BAD)
def test_an_unreadable_image_raises(name):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_frame(tf.constant(BAD[name]), SIZE)


def test_the_limit_is_on_pixels():
    assert 100_000 * 100_000 > 60_000 * 60_000 > MAX_PIXELS
    with pytest.raises(tf.errors.InvalidArgumentError, match="MAX_PIXELS"):
        decode_frame(tf.constant(huge_jpeg()), SIZE)


def test_a_hostile_progressive_jpeg_is_refused_before_decoding():
    hostile = progressive((4096, 4096), 10_000)
    assert len(hostile) < 2**20
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"too many scans.*MAX_SCAN_PIXELS"):
        decode_frame(tf.constant(hostile), SIZE)
    allowed = progressive((4096, 4096), MAX_SCAN_PIXELS // MAX_PIXELS)
    assert decode_frame(tf.constant(allowed), SIZE).shape == (*SIZE, 3)


@pytest.mark.parametrize("size", [(256, 128), (1080, 1920), (4096, 4096)])
def test_progressive_jpegs_of_cameras_are_read(size):
    assert progressive(size, 10).count(b"\xff\xda") == 10
    pixel = decode_frame(tf.constant(progressive(size, 10)), SIZE).numpy()[0, 0]
    assert np.abs(pixel.astype(int) - (200, 100, 50)).max() <= 4


def test_the_check_of_a_data_set_says_why(tmp_path):
    (tmp_path / "scans.jpg").write_bytes(progressive((4096, 4096), 17))
    (tmp_path / "bytes.png").write_bytes(encoded("PNG") + bytes(MAX_BYTES))
    paths = [str(tmp_path / name) for name in ("scans.jpg", "bytes.png")]
    found = scan_frames(paths, workers=1, progress=False).unreadable
    assert found == dict(zip(paths, ("too many scans", "too many bytes"), strict=True))


def test_scans_of_small_images_are_cheap_and_allowed():
    assert decode_frame(tf.constant(progressive((64, 32), 5000)), SIZE).shape == (*SIZE, 3)


def test_markers_in_data_that_is_no_scan_do_not_count():
    # Metadata of a crop, such as a thumbnail's.
    jpeg = encoded(size=(600, 300))
    comment = b"\xff\xda" * 500
    segment = b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment
    assert decode_frame(tf.constant(jpeg[:2] + segment + jpeg[2:]), SIZE).shape == (*SIZE, 3)


@pytest.mark.parametrize("parallelism", [None, 3])
@pytest.mark.parametrize("graph", [False, True])
def test_unreadable_images_are_left_out_and_the_order_is_kept(parallelism, graph):
    good = [encoded("PNG", seed=seed) for seed in range(4)]
    bad = list(BAD.values())
    contents = [bad[0], good[0], *bad[1:5], good[1], good[2], *bad[5:], good[3]]
    decode = tf.function(decode_frames) if graph else decode_frames
    frames, positions = decode(tf.constant(contents), SIZE, parallelism)
    assert positions.dtype == tf.int32
    assert positions.numpy().tolist() == [1, 6, 7, len(contents) - 1]
    np.testing.assert_array_equal(frames.numpy(), np.stack([opened(image) for image in good]))


def test_many_images_are_decoded_piece_by_piece():
    contents = [encoded("PNG", seed=seed, size=SIZE) for seed in range(150)]
    for place in (0, 62, 63, 64, 127, 130, 149):
        contents[place] = b"nothing"
    readable = [place for place, image in enumerate(contents) if image != b"nothing"]
    frames, positions = tf.function(decode_frames)(tf.constant(contents), SIZE, 8)
    assert positions.numpy().tolist() == readable
    np.testing.assert_array_equal(frames.numpy(), np.stack([opened(contents[place]) for place in readable]))


@pytest.mark.parametrize("contents", [[], [b"", b"nothing"]])
def test_nothing_readable(contents):
    frames, positions = decode_frames(tf.constant(contents, tf.string), SIZE)
    assert frames.shape == (0, *SIZE, 3)
    assert positions.shape == (0,)


def test_read_frames_takes_a_missing_file_as_unreadable(tmp_path):
    (tmp_path / "good.png").write_bytes(encoded("PNG"))
    (tmp_path / "empty.jpg").write_bytes(b"")
    paths = [str(tmp_path / name) for name in ("gone.jpg", "good.png", "empty.jpg")]
    frames, positions = read_frames(tf.constant(paths), SIZE)
    assert positions.numpy().tolist() == [1]
    np.testing.assert_array_equal(frames[0].numpy(), opened(encoded("PNG")))


def test_works_in_a_saved_model_loaded_by_a_session(tmp_path):
    module = tf.Module()
    module.decode = tf.function(
        lambda images: dict(zip(("frames", "positions"), decode_frames(images, SIZE, 4), strict=True)),
        input_signature=[tf.TensorSpec([None], tf.string, name="images")],
    )
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=module.decode)
    images = [encoded("PNG"), *BAD.values(), encoded("PNG", seed=1)]
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        signature = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path / "saved")).signature_def
        outputs = {name: info.name for name, info in signature["serving_default"].outputs.items()}
        feed = signature["serving_default"].inputs["images"].name
        results = session.run(outputs, {feed: images})
        nothing = session.run(outputs, {feed: [b"nothing"]})
    assert results["positions"].tolist() == [0, len(images) - 1]
    np.testing.assert_array_equal(results["frames"], np.stack([opened(images[0]), opened(images[-1])]))
    assert nothing["frames"].shape == (0, *SIZE, 3)
