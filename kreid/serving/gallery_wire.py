"""The messages of kreid's gallery service, `protos/gallery.proto`, and their check before they are parsed.

The compiled file holds descriptors alone, so it fits any version of protobuf; Python modules that protoc writes demand
one at least as new as protoc.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kreid.gallery.embeddings import TrackletEmbeddings
from kreid.gallery.nearest import Match
from kreid.gallery.where import Where
from kreid.serving.refusal import RequestRefused
from kreid.serving.tensors import varint

GALLERY_SERVICE = "kreid.gallery.v1.GalleryService"
# Tracklets of a request, and matches of an answer.
MAX_ROWS = 1024
MAX_MATCHES = 100_000
# Fields of a request, and values of its lists of numbers.
MAX_FIELDS = 100_000

_PACKAGE = "kreid.gallery.v1"
_COMPILED = Path(__file__).parent / "protos" / "gallery.binpb"
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_LISTS = ("ids", "persons", "cameras", "not_cameras", "sources")


def method(name: str) -> str:
    """Return gRPC's name of a method.

    Example:

    >>> method("Search")
    '/kreid.gallery.v1.GalleryService/Search'
    """
    return f"/{GALLERY_SERVICE}/{name}"


@functools.cache
def messages() -> dict[str, Any]:
    r"""Return the message classes by name; the first call builds them.

    Example:

    >>> messages()["SearchRequest"](count=3).SerializeToString()
    b'\x18\x03'
    """
    from google.protobuf import descriptor_pool, message_factory

    # Not the default pool, in which a program's own stubs of this file may be.
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(_file().SerializeToString())
    return {
        message.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{message.name}"))
        for message in _file().message_type
    }


def show_to_reflection() -> None:
    """Add the file to protobuf's default pool, from which gRPC's reflection answers."""
    from google.protobuf import descriptor_pool

    descriptor_pool.Default().AddSerializedFile(_file().SerializeToString())


def parse(name: str, body: bytes) -> Any:
    """Parse a request within bounds of memory.

    Args:
        name: of the message.
        body: the request.

    Returns:
        The message.

    Raises:
        RequestRefused: if it is no such message, has too many fields, or a field that this version does not know: a
            condition that is passed over would choose more tracklets.

    Example:

    >>> parse("StatsRequest", bytes([0x48, 1]))
    Traceback (most recent call last):
    ...
    kreid.serving.refusal.RequestRefused: This server knows no field 9 in kreid.gallery.v1.StatsRequest: leave it
    out, or upgrade the server.
    """
    from google.protobuf.message import DecodeError

    _check_fields(name, body)
    try:
        return messages()[name].FromString(body)
    except (DecodeError, UnicodeDecodeError) as error:
        raise RequestRefused("INVALID_ARGUMENT", f"The request is no {_PACKAGE}.{name}.") from error


def fill_where(message: Any, where: Where) -> None:
    """Write conditions into a `Where` message, changed in place."""
    for name in _LISTS:
        values = getattr(where, name)
        if values is not None:
            getattr(message, name).SetInParent()
            getattr(message, name).values.extend(values)
    for name in ("since", "until"):
        if getattr(where, name) is not None:
            setattr(message, name, getattr(where, name))
    message.tags.update(where.tags or {})


def read_where(message: Any) -> Where:
    """Return the conditions of a `Where` message.

    Raises:
        ValueError: if a condition is impossible.
    """
    fields: dict[str, Any] = {name: list(getattr(message, name).values) for name in _LISTS if message.HasField(name)}
    fields |= {name: getattr(message, name) for name in ("since", "until") if message.HasField(name)}
    return Where(**fields, tags=dict(message.tags) or None)


def fill_labels(message: Any, record: TrackletEmbeddings, row: int) -> None:
    """Write the labels of a tracklet into a `Tracklet` message, changed in place."""
    message.id = str(record.ids[row])
    message.person, message.camera = int(record.persons[row]), int(record.cameras[row])
    message.source = str(record.sources[row])
    _fill_times(message, float(record.starts[row]), float(record.ends[row]))
    message.tags.update(record.tags[row])


def fill_match(message: Any, match: Match) -> None:
    """Write a match into a `Match` message, changed in place."""
    message.id, message.person, message.camera = match.id, match.person, match.camera
    message.distance, message.source = match.distance, match.source
    _fill_times(message, match.start, match.end)
    message.tags.update(match.tags)


def read_match(message: Any) -> Match:
    """Return the match of a `Match` message."""
    start, end = read_times(message)
    return Match(
        message.id, message.person, message.camera, message.distance, start, end, message.source, dict(message.tags)
    )


def read_times(message: Any) -> tuple[float, float]:
    """Return start and end of a `Tracklet` or `Match` message, NaN where unknown."""
    start, end = (getattr(message, name) if message.HasField(name) else np.nan for name in ("start", "end"))
    return start, end


def _fill_times(message: Any, start: float, end: float) -> None:
    for name, value in (("start", start), ("end", end)):
        if not np.isnan(value):
            setattr(message, name, value)


@functools.cache
def _file() -> Any:
    from google.protobuf import descriptor_pb2

    (file,) = descriptor_pb2.FileDescriptorSet.FromString(_COMPILED.read_bytes()).file
    return file


class _Field(NamedTuple):
    """What the check knows of a field.

    Args:
        kinds: of the wire that it may have.
        message: name of its message; empty for other types.
        many: whether each byte may be a value.
    """

    kinds: tuple[int, ...]
    message: str = ""
    many: bool = False


@functools.cache
def _fields() -> dict[str, dict[int, _Field]]:
    """Return the fields of each message, by its full name and their numbers."""
    from google.protobuf import descriptor_pb2

    proto = descriptor_pb2.FieldDescriptorProto
    fixed = {proto.TYPE_DOUBLE: _EIGHT_BYTES, proto.TYPE_FLOAT: _FOUR_BYTES}
    found: dict[str, dict[int, _Field]] = {}

    def add(message: Any, prefix: str) -> None:
        name = f"{prefix}.{message.name}"
        found[name] = {}
        for field in message.field:
            if field.type in (proto.TYPE_MESSAGE, proto.TYPE_STRING, proto.TYPE_BYTES):
                found[name][field.number] = _Field((_LENGTH,), field.type_name.lstrip("."))
                continue
            kind = fixed.get(field.type, _VARINT)
            packed = field.label == proto.LABEL_REPEATED
            found[name][field.number] = _Field((kind, _LENGTH) if packed else (kind,), many=kind == _VARINT)
        for nested in message.nested_type:  # the entries of maps
            add(nested, name)

    for message in _file().message_type:
        add(message, _PACKAGE)
    return found


def _check_fields(name: str, body: bytes) -> None:
    """Check a serialised message without parsing it; bytes that are no message pass, and the parser refuses them."""
    left = MAX_FIELDS
    parts = [(0, len(body), f"{_PACKAGE}.{name}")]
    while parts:
        place, end, message = parts.pop()
        fields = _fields()[message]
        while place < end:
            tag, place = varint(body, place, end)
            kind, number = tag & 7, tag >> 3
            if number == 0 or kind > _FOUR_BYTES:
                return  # no message
            field = fields.get(number)
            if field is None or kind not in field.kinds:
                raise RequestRefused(
                    "INVALID_ARGUMENT",
                    f"This server knows no field {number}{' of this type' if field else ''} in {message}: leave it "
                    "out, or upgrade the server.",
                )
            left -= 1
            if kind == _LENGTH:
                size, place = varint(body, place, end)
                if field.message and place + size <= end:
                    parts.append((place, place + size, field.message))
                elif field.many:
                    left -= size
                place += size
            elif kind == _VARINT:
                _, place = varint(body, place, end)
            else:
                place += 8 if kind == _EIGHT_BYTES else 4
            if left < 0:
                raise RequestRefused(
                    "INVALID_ARGUMENT",
                    f"A request may have at most {MAX_FIELDS} fields and values; send it in parts.",
                )
