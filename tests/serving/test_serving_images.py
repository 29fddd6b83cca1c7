"""Images in forms that the server cannot read are recognised by the client."""

import base64
import io

import numpy as np
import pytest

pytest.importorskip("grpc")

from PIL import Image
from serving_samples import encode, random_tracklet

from kreid.serving import EmbeddingClient
from kreid.serving.images import check_images, image_format

FRAME = random_tracklet(0, 1)[0]
JPEG = encode(FRAME)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "AVIF"])
def test_formats_are_recognised(name):
    Image.init()
    if name not in Image.SAVE:
        pytest.skip(f"Pillow writes no {name} here")
    assert image_format(encode(FRAME, name)) == {"WEBP": "WebP", "JPEG2000": "JPEG 2000"}.get(name, name)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF"])
def test_base64_is_recognised(name):
    image = encode(FRAME, name)
    assert image_format(base64.b64encode(image)) == image_format(base64.urlsafe_b64encode(image)) == "Base64"


def test_damaged_files_pass_for_the_server_to_skip():
    images = [b"damaged", b"", JPEG[:100], bytearray(JPEG), memoryview(JPEG)]
    assert check_images(0, images) == [b"damaged", b"", JPEG[:100], JPEG, JPEG]
    assert check_images(0, [encode(FRAME, "WEBP"), JPEG]) == [encode(FRAME, "WEBP"), JPEG]
    assert check_images(0, []) == []


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (JPEG, r"Tracklet 1 must be a list .* Received: bytes of \d+, beginning b.\\xff\\xd8"),
        ("frame.jpg", "Tracklet 1 must be a list .* Received: str of 9"),
        ([JPEG, "frame.jpg"], r"Image 1 of tracklet 1 .*; read the file with open\(path, 'rb'\)"),
        ([io.BytesIO(JPEG)], r"Image 0 of tracklet 1 .*; call its read\(\)\. Received: BytesIO"),
        ([Image.fromarray(FRAME)], "Image 0 of tracklet 1 .*; encode it first. Received: Image"),
        (FRAME[None], "Image 0 of tracklet 1 .*; send decoded frames with embed_frames. Received: ndarray"),
        ([JPEG, base64.b64encode(JPEG)], r"Image 1 of tracklet 1 is Base64 .* base64\.b64decode\(text\)"),
        ([base64.b64encode(JPEG).decode()], "decode Base64 with base64.b64decode"),
        ([b"data:image/jpeg;base64," + base64.b64encode(JPEG)], "Image 0 of tracklet 1 is Base64"),
        ([b"damaged", encode(FRAME, "WEBP")], "image 1 of tracklet 1 is WebP; convert it"),
        ([encode(FRAME, "GIF")] * 2, "image 0 of tracklet 1 is GIF; convert it"),
    ],
    ids=["bytes", "path", "paths", "file", "picture", "array", "base64", "base64 text", "data URL", "WebP", "GIF"],
)
def test_other_forms_are_refused_with_the_fix(server, images, message):
    with EmbeddingClient(server.target, timeout=None) as client, pytest.raises(ValueError, match=message):
        client.embed_images([[JPEG], images])


def test_a_flat_list_is_refused(server):
    with EmbeddingClient(server.target, timeout=None) as client:
        for tracklets in ([JPEG, JPEG], JPEG, "folder"):
            with pytest.raises(ValueError, match="Tracklet 0 must be a list with the bytes of one file per frame"):
                client.embed_images(tracklets)


def test_the_array_of_one_tracklet_is_refused(server):
    frames = random_tracklet(0, 2)
    with EmbeddingClient(server.target, timeout=None) as client:
        with pytest.raises(ValueError, match=r"Tracklet 0 must be uint8 \(frames, 64, 32, 3\)"):
            client.embed_frames(frames)
        assert np.isfinite(client.embed_frames([frames])).all()
