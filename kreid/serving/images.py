"""Recognise the formats of images by their first bytes.

The exported graph reads JPEG and PNG. It skips all other formats as unreadable and cannot report the reason.
"""

from __future__ import annotations

from collections.abc import Iterable

READABLE = ("JPEG", "PNG")

_FORMATS = (
    (0, b"\xff\xd8", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (8, b"WEBP", "WebP"),
    (0, b"GIF8", "GIF"),
    (0, b"BM", "BMP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
    (4, b"ftyp", "MP4"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\x93NUMPY", "NumPy"),
    (0, b"%PDF", "PDF"),
)
# Beginnings of such files in Base64 (standard or for URLs), and of data URLs.
_BASE64 = (b"/9j/", b"_9j_", b"iVBORw0KGg", b"UklGR", b"R0lGOD", b"data:image/")


def image_format(contents: bytes) -> str | None:
    """Return the format of a file's contents.

    Args:
        contents: the bytes of a file.

    Returns:
        A name such as `"JPEG"`, `"WebP"` or `"Base64"`; `None` for an unknown format.

    Example:

    >>> image_format(b"RIFF....WEBPVP8 "), image_format(b"/9j/4AAQSkZJRg=="), image_format(b"damaged")
    ('WebP', 'Base64', None)
    """
    if contents.startswith(_BASE64):
        return "Base64"
    for start, magic, name in _FORMATS:
        if contents[start : start + len(magic)] == magic:
            return name
    return None


def check_images(row: int, images: Iterable[object]) -> list[bytes]:
    """Check one tracklet before it is sent.

    Damaged files pass: the server skips them and counts the others.

    Args:
        row: number of the tracklet, for messages.
        images: the bytes of its files.

    Returns:
        The images as a list of bytes.

    Raises:
        ValueError: if the tracklet is not a list, an element is not the bytes of a file, or no element is a JPEG or
            PNG and one has another known format.
    """
    if isinstance(images, bytes | bytearray | memoryview | str):
        raise ValueError(
            f"Tracklet {row} must be a list with the bytes of one file per frame; put the images of a tracklet into a "
            f"list: [[image, ...], ...]. Received: {_description(images)}"
        )
    contents = []
    for place, image in enumerate(images):
        if not isinstance(image, bytes | bytearray | memoryview):
            raise ValueError(
                f"Image {place} of tracklet {row} must be the bytes of a JPEG or PNG file; {_fix(image)}. "
                f"Received: {_description(image)}"
            )
        contents.append(bytes(image))
    formats = [image_format(image) for image in contents]
    for place, name in enumerate(formats):
        if name == "Base64":
            raise ValueError(
                f"Image {place} of tracklet {row} is Base64 text; send the file's bytes, base64.b64decode(text). "
                f"Received: {_description(contents[place])}"
            )
    other = next((place for place, name in enumerate(formats) if name is not None), None)
    if other is not None and not set(formats) & set(READABLE):
        raise ValueError(
            f"The server reads JPEG and PNG, and image {other} of tracklet {row} is {formats[other]}; convert it, or "
            f"decode it and use embed_frames. Received: {_description(contents[other])}"
        )
    return contents


def _fix(image: object) -> str:
    if isinstance(image, str):
        return "read the file with open(path, 'rb').read(), or decode Base64 with base64.b64decode(text)"
    if hasattr(image, "read"):
        return "call its read()"
    if hasattr(image, "shape"):
        return "send decoded frames with embed_frames"
    return "encode it first"


def _description(value: object) -> str:
    if isinstance(value, bytes | bytearray | memoryview | str):
        return f"{type(value).__name__} of {len(value)}, beginning {value[:16]!r}"
    return type(value).__name__
