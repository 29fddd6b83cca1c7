"""The conformance suite against a server of another system, image size, model name and version, behind a token.

Once as it is, once as it merges requests.
"""

import os
import re
import subprocess
import sys

import pytest
from served_galleries import people

pytest.importorskip("grpc")
pytest.importorskip("tensorflow_serving.apis")

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("batch", [1, 8])
def test_the_suite_asks_any_address(repository, tmp_path, certificates, batch):
    import kreid
    from kreid.gallery import GalleryModel, MemoryGallery
    from kreid.passport import Passport
    from kreid.serving import EmbeddingServer, export_model

    model = kreid.models.GLTR(kreid.backbones.build("resnet_tiny", image_size=(96, 48)), 4)
    calibration = {"offset": 4.0, "scale": 1.0, "prior": 0.5}
    verification = {"metric": model.metric, "threshold": 1.0, "calibration": calibration}
    made = {"metric": model.metric, "model": kreid.models.fingerprint(model)}
    stored = people(9, dimension=model.embedding_dim, **made, passport=Passport(verification=verification))
    gallery = MemoryGallery(GalleryModel.of(stored))
    gallery.add(stored)
    for version in (6, 8):
        export_model(model, tmp_path / "export", version=version, verification=verification, gallery=gallery)
    (tmp_path / "token").write_text("0123456789abcdef-token\n")
    server = EmbeddingServer(
        tmp_path / "export",
        port=0,
        name="gltr",
        versions="all",
        labels={"best": 6},
        batch=batch,
        tls_cert=certificates["server"].path,
        tls_key=certificates["server"].key_path,
        token_file=tmp_path / "token",
    )
    options = {"--model": "gltr", "--label": "best", "--tls-ca": certificates["authority"].path}
    options["--token-file"] = tmp_path / "token"
    with server:
        command = [
            sys.executable,
            "-m",
            "pytest",
            "tests/serving/test_conformance.py",
            "-q",
            "-rs",
            "-m",
            "conformance",
        ]
        command += ["-p", "no:cacheprovider", "--address", server.target]
        command += [str(word) for option in options.items() for word in option]
        env = {**os.environ, "PYTHONPATH": str(repository)}
        ran = subprocess.run(command, cwd=repository, env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout
    # Nothing is skipped: this server has all signatures, a gallery, labels, health and fingerprints.
    assert re.search(r"\n5\d passed in", ran.stdout), ran.stdout
