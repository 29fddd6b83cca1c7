"""One small exported model and one running server for all serving tests."""

import pytest
from served_galleries import people
from serving_samples import IMAGE_SIZE


@pytest.fixture(scope="session")
def model():
    import keras

    from kreid import backbones, models

    keras.utils.set_random_seed(7)
    return models.Baseline(backbones.build("resnet_tiny", image_size=IMAGE_SIZE), num_identities=5)


@pytest.fixture(scope="session")
def fixed_gallery(model):
    """The gallery inside the export: 12 tracklets of persons 0 (unknown) to 4."""
    from kreid.gallery import GalleryModel, MemoryGallery
    from kreid.models import fingerprint

    gallery = MemoryGallery(GalleryModel(fingerprint(model), model.embedding_dim, str(model.metric), threshold=0.9))
    gallery.add(people(12, dimension=model.embedding_dim, metric=str(model.metric), model=fingerprint(model)))
    return gallery


@pytest.fixture(scope="session")
def base_path(model, fixed_gallery, tmp_path_factory):
    from kreid.serving import export_model

    path = tmp_path_factory.mktemp("exports") / "tiny"
    export_model(model, path, version=3, gallery=fixed_gallery, gallery_count=3)
    return path


@pytest.fixture(scope="session")
def server(base_path):
    from kreid.gallery import GalleryModel, MemoryGallery
    from kreid.serving import EmbeddingServer, read_card

    gallery = MemoryGallery(GalleryModel.from_card(read_card(base_path / "3")))
    with EmbeddingServer(base_path, port=0, labels={"stable": 3}, gallery=gallery) as running:
        yield running


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """Certificates by name, each also in PEM files."""
    pytest.importorskip("cryptography")
    from certificates import Certificate

    folder = tmp_path_factory.mktemp("certificates")
    authority, stranger = Certificate(folder, "authority"), Certificate(folder, "stranger")
    return {
        "authority": authority,
        "stranger": stranger,
        "server": Certificate(folder, "server", authority, ["localhost", "127.0.0.1"]),
        "elsewhere": Certificate(folder, "elsewhere", authority, ["gpu7.example"]),
        "client": Certificate(folder, "client", authority),
        "strange client": Certificate(folder, "strange_client", stranger),
    }


@pytest.fixture(scope="session")
def small_export(tmp_path_factory):
    """One SavedModel that loads in a moment; see `small_exports`."""
    from small_exports import write_small_export

    folder = tmp_path_factory.mktemp("small") / "export"
    write_small_export(folder)
    return folder


@pytest.fixture(scope="session")
def small_path(small_export, tmp_path_factory):
    """A base path with version 3 of it."""
    from small_exports import copy_version

    folder = tmp_path_factory.mktemp("small-versions")
    copy_version(small_export, folder, 3)
    return folder
