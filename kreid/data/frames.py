"""From image files or bytes to `uint8` frames, inside the TensorFlow graph.

Training, evaluation and the served `embed_jpeg` signature all decode here, so
they cannot disagree. TensorFlow has no try/except in a graph, so the functions
on several images run a small inner dataset that skips elements that raise, and
return the positions of the others.
"""

from collections.abc import Callable

import tensorflow as tf

MAX_PIXELS = 40_000_000

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER = 24


def decode_frame(contents: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
    """Decode one JPEG or PNG and resize it (bilinear, rounded).

    The size in the image's header is checked before decoding, so that a few
    hostile bytes cannot allocate gigabytes.

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
        tf.errors.InvalidArgumentError: when run, if the image cannot be decoded
            or its header gives more than `MAX_PIXELS` pixels.

    Example:

    >>> white = tf.io.encode_jpeg(tf.fill((32, 16, 3), tf.constant(255, tf.uint8)))
    >>> tuple(decode_frame(white, (128, 64)).shape)
    (128, 64, 3)
    """
    # A PNG shorter than its header is decoded as JPEG, which raises.
    has_magic = tf.equal(tf.strings.substr(contents, 0, len(_PNG_MAGIC)), _PNG_MAGIC)
    is_png = has_magic & (tf.strings.length(contents) >= _PNG_HEADER)
    size = tf.cond(is_png, lambda: _png_size(contents), lambda: _jpeg_size(contents))
    allowed = tf.debugging.Assert(
        tf.reduce_all(size > 0) & (tf.reduce_prod(size) <= MAX_PIXELS),
        ["The image header gives a size that is empty or above MAX_PIXELS. Received: (height, width)=", size],
    )
    with tf.control_dependencies([allowed] if allowed is not None else []):
        # `decode_jpeg` reads PNG too, and unlike `decode_image` gives a static rank.
        image = tf.io.decode_jpeg(contents, channels=3)
    return fit_frame(image, image_size)


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
        parallelism: optional int, images decoded at once (or
            `tf.data.AUTOTUNE`). `None` decodes them one by one, which is
            best inside a dataset that already works on several tracklets.

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
    return load_readable(contents, lambda image: decode_frame(image, image_size), (*image_size, 3), parallelism)


def read_frames(
    paths: tf.Tensor, image_size: tuple[int, int], parallelism: int | None = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Read and decode several image files and leave out the unreadable ones.

    A missing file counts as unreadable.

    Args:
        paths: string tensor `(images,)`.
        image_size: `(height, width)` of the result.
        parallelism: as in `decode_frames`.

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
    parallelism: int | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Load several frames or clips, and leave out those whose loading raises.

    Args:
        elements: tensor or tuple of tensors, `(count, ...)` each.
        load: function from one element of each tensor to a `uint8` tensor of `shape`.
        shape: of one frame or clip.
        parallelism: as in `decode_frames`.

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
        deterministic=True if parallelism else None,
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
