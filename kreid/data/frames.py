"""From image files or bytes to `uint8` frames, inside the TensorFlow graph.

Training, evaluation and the served `embed_jpeg` signature all decode here, so
they cannot disagree. TensorFlow has no try/except in a graph, so the functions
on several images run a small inner dataset that skips elements that raise, and
return the positions of the others.
"""

from collections.abc import Callable

import tensorflow as tf

# Of an image; and of images decoded at once, whose decoder needs up to 12 bytes for each: 200 MB.
MAX_PIXELS = 2**24
# Of an image's file.
MAX_BYTES = 2**25
# Images between two copies into the result: a dataset keeps each of its frames and their batch, twice the memory.
_PIECE = 64
# A progressive JPEG is refined scan by scan, usually 10 times, and a scan of a few bytes may visit every pixel: this
# many visits took up to 0.2 s, where 1 MiB of such scans kept a core busy for minutes.
MAX_SCAN_PIXELS = 2**28

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER = 24
# The marker that starts a scan. Within a scan's data its first byte is followed by others only.
_SCAN = b"\xff\xda"
# Scans of more than 10 bytes, the shortest possible: shorter files need no counting.
_SCAN_BYTES = 10
# Counting stops here.
_MOST_SCANS = 1000
# Scans visit whole blocks; those of a sampled colour are up to this wide and high.
_BLOCK = 32


def decode_frame(contents: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
    """Decode one JPEG or PNG and resize it (bilinear, rounded).

    The file's size, the image's size in the header and the number of scans are
    checked before decoding, so that a hostile file cannot allocate gigabytes or
    occupy a core for minutes.

    Every image becomes three channels of 8 bits: grey is repeated, CMYK is
    converted, the upper 8 of 16 bits are used, transparency is dropped. A
    truncated file is an error, even if only its last bytes are missing. The
    EXIF orientation is ignored, because published sets have none and cropping
    tools write upright pixels.

    Args:
        contents: scalar string tensor, the bytes of the file. The content, not
            a file name, distinguishes JPEG from PNG.
        image_size: `(height, width)` of the result.

    Returns:
        `uint8` RGB, `(height, width, 3)`.

    Raises:
        tf.errors.InvalidArgumentError: when run, if the image cannot be decoded,
            has more than `MAX_BYTES` bytes or `MAX_PIXELS` pixels, or its pixels
            times its scans are more than `MAX_SCAN_PIXELS`.

    Example:

    >>> white = tf.io.encode_jpeg(tf.fill((32, 16, 3), tf.constant(255, tf.uint8)))
    >>> tuple(decode_frame(white, (128, 64)).shape)
    (128, 64, 3)
    """
    size = _checked_size(contents)
    with tf.control_dependencies([size]):
        # `decode_jpeg` reads PNG too, and unlike `decode_image` gives a static rank.
        image = tf.io.decode_jpeg(contents, channels=3)
    return fit_frame(image, image_size)


def _checked_size(contents: tf.Tensor) -> tf.Tensor:
    """Return the height and width in an image's header, int64 `(2,)`; raise, when run, if it may not be decoded."""
    length = tf.strings.length(contents)
    checks = [_assertion(length <= MAX_BYTES, "An image's file has too many bytes (MAX_BYTES)", "bytes", length)]
    with tf.control_dependencies(checks):
        # A PNG shorter than its header is decoded as JPEG, which raises.
        has_magic = tf.equal(tf.strings.substr(contents, 0, len(_PNG_MAGIC)), _PNG_MAGIC)
        is_png = has_magic & (length >= _PNG_HEADER)
        size = tf.cond(is_png, lambda: _png_size(contents), lambda: _jpeg_size(contents))
    pixels = tf.reduce_prod(size)
    sensible = tf.reduce_all(size > 0) & (pixels <= MAX_PIXELS)
    message = "An image's header gives a size that is empty or above MAX_PIXELS"
    with tf.control_dependencies([_assertion(sensible, message, "(height, width)", size)]):
        visited = tf.reduce_prod(-(-size // _BLOCK) * _BLOCK)
    may_have_many = tf.cast(length // _SCAN_BYTES, tf.int64) * visited > MAX_SCAN_PIXELS
    scans = tf.cond(may_have_many & ~is_png, lambda: _count_scans(contents), lambda: tf.constant(1, tf.int64))
    few = (scans < _MOST_SCANS) & (scans * visited <= MAX_SCAN_PIXELS)
    message = "A JPEG has too many scans for its size (MAX_SCAN_PIXELS); save it anew"
    with tf.control_dependencies([_assertion(few, message, "scans", scans)]):
        return tf.identity(size)


def _assertion(condition: tf.Tensor, message: str, name: str, value: tf.Tensor) -> tf.Operation:
    # In eager mode the assertion runs at once and there is no operation.
    assertion = tf.debugging.Assert(condition, [f"{message}. Received: {name}=", value])
    return tf.no_op() if assertion is None else assertion


def _count_scans(contents: tf.Tensor) -> tf.Tensor:
    parts = tf.raw_ops.StringSplitV2(input=[contents], sep=_SCAN, maxsplit=_MOST_SCANS).values
    return tf.size(parts, tf.int64) - 1


def fit_frame(image: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
    """Resize an image (bilinear, rounded), as `decode_frame` does after decoding.

    Args:
        image: `uint8` `(any height, any width, 3)`.
        image_size: `(height, width)` of the result.

    Returns:
        `uint8`, `(height, width, 3)`.

    Example:

    >>> tuple(fit_frame(np.zeros((32, 16, 3), "uint8"), (128, 64)).shape)
    (128, 64, 3)
    """
    height, width = image_size
    # An image of the right size is returned unchanged: resizing would only convert it to float32 and back.
    image = tf.cond(
        tf.reduce_all(tf.shape(image)[:2] == (height, width)),
        lambda: image,
        lambda: tf.cast(tf.round(tf.image.resize(image, (height, width), method="bilinear")), tf.uint8),
    )
    return tf.ensure_shape(image, (height, width, 3))


def decode_frames(
    contents: tf.Tensor, image_size: tuple[int, int], parallelism: int | None = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode several images and leave out the unreadable ones.

    Args:
        contents: string tensor `(images,)`, the bytes of the files.
        image_size: `(height, width)` of the result.
        parallelism: optional int, images decoded at once; fewer where they
            could have more than `MAX_PIXELS` pixels together. `None` decodes
            them one by one, which is best inside a dataset that already works
            on several tracklets.

    Returns:
        A tuple `(frames, positions)`: `uint8` `(readable, height, width, 3)`
        and the `int32` positions `(readable,)` of those frames in `contents`,
        in order. Both are empty if no image can be decoded.

    Example:

    >>> white = tf.io.encode_jpeg(tf.fill((32, 16, 3), tf.constant(255, tf.uint8)))
    >>> frames, positions = decode_frames(tf.stack([b"not an image", white]), (128, 64))
    >>> frames.shape[0], positions.numpy().tolist()
    (1, [1])
    """
    count = tf.size(contents)

    def decode_piece(
        start: tf.Tensor, found: tf.Tensor, frames: tf.Tensor, positions: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        piece = contents[start : start + _PIECE]
        at_once = None
        if parallelism is not None:
            at_once = tf.clip_by_value(MAX_PIXELS // tf.reduce_max(_numbers_of_pixels(piece)), 1, parallelism)
        decoded, places = load_readable(piece, lambda image: decode_frame(image, image_size), (*image_size, 3), at_once)
        rows = found + tf.range(tf.size(places))
        # Not `tensor_scatter_nd_update`, which copies the whole result each time.
        frames = tf.raw_ops.InplaceUpdate(x=frames, i=rows, v=decoded)
        positions = tf.raw_ops.InplaceUpdate(x=positions, i=rows, v=start + places)
        return start + _PIECE, found + tf.size(places), frames, positions

    frames = tf.zeros((count, *image_size, 3), tf.uint8)
    state = (tf.constant(0), tf.constant(0), frames, tf.zeros(count, tf.int32))
    _, found, frames, positions = tf.while_loop(
        lambda start, *_: start < count, decode_piece, state, parallel_iterations=1
    )
    return frames[:found], positions[:found]


def _numbers_of_pixels(contents: tf.Tensor) -> tf.Tensor:
    """Return the pixels of each image whose size can be read, and at last 1."""
    # Not `reduce`: it prepares its functions at every run, which takes longer than decoding the images of a tracklet.
    pixels = tf.data.Dataset.from_tensor_slices(contents).map(lambda image: tf.reduce_prod(_checked_size(image)))
    pixels = pixels.ignore_errors().concatenate(tf.data.Dataset.from_tensors(tf.constant(1, tf.int64)))
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    return pixels.batch(tf.size(contents, tf.int64) + 1).with_options(options).get_single_element()


def read_frames(
    paths: tf.Tensor, image_size: tuple[int, int], parallelism: int | None = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Read and decode several image files and leave out the unreadable ones.

    A missing file counts as unreadable.

    Args:
        paths: string tensor `(images,)`.
        image_size: `(height, width)` of the result.
        parallelism: as in `load_readable`.

    Returns:
        A tuple `(frames, positions)` as `decode_frames` returns it.

    Example:

    >>> frames, positions = read_frames(tf.constant(["missing.jpg"]), (128, 64))
    >>> tuple(frames.shape), positions.numpy().tolist()
    ((0, 128, 64, 3), [])
    """
    return load_readable(
        paths, lambda path: decode_frame(tf.io.read_file(path), image_size), (*image_size, 3), parallelism
    )


def load_readable(
    elements: tf.Tensor | tuple[tf.Tensor, ...],
    load: Callable[..., tf.Tensor],
    shape: tuple[int, ...],
    parallelism: int | tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Load several frames or clips, and leave out those whose loading raises.

    Args:
        elements: tensor or tuple of tensors, `(count, ...)` each.
        load: function from one element of each tensor to a `uint8` tensor of `shape`.
        shape: of one frame or clip.
        parallelism: optional number of elements loaded at once, or `tf.data.AUTOTUNE`; `None` loads one by one.

    Returns:
        A tuple `(values, positions)`: the loaded frames or clips, `uint8` `(readable, *shape)`, and their `int32`
        positions `(readable,)`, in order.
    """
    elements = elements if isinstance(elements, tuple) else (elements,)
    count = tf.shape(elements[0])[0]
    # Not `enumerate()`: its zipped iterators halved the rate of short tracklets.
    loaded = tf.data.Dataset.from_tensor_slices((tf.range(count), *elements))
    loaded = loaded.map(
        lambda position, *element: (load(*element), position),
        num_parallel_calls=parallelism,
        deterministic=None if parallelism is None else True,
    ).ignore_errors()
    # One extra element, so that the batch is never empty.
    last = tf.data.Dataset.from_tensors((tf.zeros(shape, tf.uint8), tf.constant(-1, tf.int32)))
    values, positions = loaded.concatenate(last).batch(tf.cast(count, tf.int64) + 1).get_single_element()
    return values[:-1], positions[:-1]


def _png_size(contents: tf.Tensor) -> tf.Tensor:
    # The first chunk of a PNG is its header; width and height follow the 16th byte, big-endian.
    width_height = tf.io.decode_raw(tf.strings.substr(contents, 16, 8), tf.int32, little_endian=False)
    return tf.cast(tf.reverse(width_height, [0]), tf.int64)


def _jpeg_size(contents: tf.Tensor) -> tf.Tensor:
    return tf.image.extract_jpeg_shape(contents, output_type=tf.int64)[:2]
