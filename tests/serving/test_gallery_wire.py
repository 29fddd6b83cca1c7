"""The messages of the gallery service, and their check before they are parsed."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("google.protobuf")

from google.protobuf import descriptor_pb2

from kreid.gallery import TrackletEmbeddings, Where
from kreid.gallery.nearest import Match
from kreid.serving import gallery_wire
from kreid.serving.refusal import RequestRefused

TYPES = gallery_wire.messages()


def test_the_compiled_file_is_up_to_date(repository, tmp_path):
    if importlib.util.find_spec("grpc_tools") is None:
        pytest.skip("grpcio-tools, which compiles the .proto file, is not installed")
    source, written = "kreid/serving/protos/gallery.proto", tmp_path / "gallery.binpb"
    # By itself: its protobuf and TensorFlow's do not bear each other in one process.
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--descriptor_set_out={written}", source]
    subprocess.run(command, cwd=repository, check=True)
    compiled = descriptor_pb2.FileDescriptorSet.FromString(written.read_bytes())
    kept = descriptor_pb2.FileDescriptorSet.FromString((repository / source).with_suffix(".binpb").read_bytes())
    assert kept == compiled


@pytest.mark.parametrize(
    "where",
    [
        Where(),
        Where(ids=["a", "ü"], persons=[0, 2**63 - 1], cameras=[-(2**63)], not_cameras=[3], sources=[""]),
        Where(ids=[], persons=[], cameras=[], sources=[]),
        Where(since=-1.5, until=0.1, tags={"coat": "red", "bag": ""}),
    ],
)
def test_conditions_keep_their_meaning(where):
    message = TYPES["Where"]()
    gallery_wire.fill_where(message, where)
    assert gallery_wire.read_where(TYPES["Where"].FromString(message.SerializeToString())) == where


@pytest.mark.parametrize("times", [(1.5, 2.5), (np.nan, 2.5), (0.0, np.nan)])
def test_matches_and_labels_keep_their_values(times):
    match = Match("t1", 2**40, -3, 0.1, *times, "Höfe.mp4", {"coat": "red"})
    message = TYPES["Match"]()
    gallery_wire.fill_match(message, match)
    np.testing.assert_equal(gallery_wire.read_match(message), match)
    record = TrackletEmbeddings(
        [[0.0]], ["t1"], [2**40], [-3], starts=times[:1], ends=times[1:], sources=["Höfe.mp4"], tags=[{"coat": "red"}]
    )
    tracklet = TYPES["Tracklet"]()
    gallery_wire.fill_labels(tracklet, record, 0)
    assert (tracklet.id, tracklet.person, tracklet.camera, tracklet.source) == ("t1", 2**40, -3, "Höfe.mp4")
    np.testing.assert_equal(gallery_wire.read_times(tracklet), times)
    assert dict(tracklet.tags) == {"coat": "red"}


def test_every_field_of_every_message_passes_the_check():
    """Each field once, also unpacked where a list may be."""
    tracklet = TYPES["Tracklet"](
        id="a", embedding=[1.0, 2.0], images=[b"", b"x"], person=-1, camera=2, start=0.0, end=1.0, source="s"
    )
    tracklet.tags["a"] = "b"
    where = TYPES["Where"](since=1.0, until=2.0)
    gallery_wire.fill_where(where, Where(ids=["a"], persons=[1], cameras=[2], not_cameras=[3], sources=["s"]))
    search = TYPES["SearchRequest"](
        queries=[tracklet] * 2,
        fingerprint="f",
        count=3,
        where=where,
        other_cameras=True,
        max_distance=1.0,
        by_person=True,
        metric="cosine",
    )
    unpacked = b"\x0a\x06\x0a\x01a\x15\0\0\x80\x3f"[:1] + b"\x05\x15\0\0\x80\x3f"
    for name, body in [
        ("SearchRequest", search.SerializeToString()),
        ("SearchRequest", unpacked),
        ("AddRequest", TYPES["AddRequest"](tracklets=[tracklet], fingerprint="f", metric="m").SerializeToString()),
        ("DeleteRequest", TYPES["DeleteRequest"](where=where, compact=True).SerializeToString()),
        ("StatsRequest", TYPES["StatsRequest"](verify=True).SerializeToString()),
        ("StatsRequest", b""),
    ]:
        assert gallery_wire.parse(name, body) == TYPES[name].FromString(body)


def test_any_bytes_are_parsed_or_refused():
    random = np.random.default_rng(0)
    whole = TYPES["SearchRequest"](
        queries=[TYPES["Tracklet"](id="abc", embedding=[1.0] * 8, tags={"a": "b"})] * 3,
        where=TYPES["Where"](tags={"c": "d"}),
    ).SerializeToString()
    refused = 0
    for _ in range(2000):
        body = bytearray(whole)
        for place in random.integers(0, len(body), random.integers(1, 4)):
            body[place] = random.integers(256)
        try:
            gallery_wire.parse("SearchRequest", bytes(body[: random.integers(1, len(body) + 1)]))
        except RequestRefused as error:
            assert error.code == "INVALID_ARGUMENT"
            refused += 1
    assert 500 < refused < 2000
