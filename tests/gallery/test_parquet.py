"""Parquet files of galleries that are damaged, newer or others'."""

import json

import gallery_samples as samples
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kreid.gallery import GalleryModel, MemoryGallery


@pytest.fixture
def gallery(tmp_path):
    record = samples.people(50, dimension=16)
    gallery = MemoryGallery(GalleryModel.of(record))
    gallery.add(record)
    gallery.export_parquet(tmp_path / "x.parquet")
    return gallery


def test_others_read_the_file(gallery, tmp_path):
    table = pq.read_table(tmp_path / "x.parquet")
    record = samples.people(50, dimension=16)
    assert table.column("id").to_pylist() == record.ids.tolist()
    assert table.column("embedding").to_pylist() == record.embeddings.tolist()


def test_a_failed_export_leaves_the_older_file(gallery, tmp_path):
    before = (tmp_path / "x.parquet").read_bytes()
    with pytest.raises(ValueError, match="has 'camera'"):
        gallery.export_parquet(tmp_path / "x.parquet", {"camera": [1]})
    assert (tmp_path / "x.parquet").read_bytes() == before


def test_files_that_cannot_be_imported(gallery, tmp_path):
    whole = tmp_path / "x.parquet"
    table = pq.read_table(whole)
    about = json.loads(table.schema.metadata[b"kreid_gallery"])
    newer = table.replace_schema_metadata({b"kreid_gallery": json.dumps({**about, "format": 2})})
    pq.write_table(newer, tmp_path / "newer.parquet")
    pq.write_table(table.replace_schema_metadata({}), tmp_path / "others.parquet")
    pq.write_table(table.drop_columns(["camera"]), tmp_path / "fewer.parquet")
    changed = table.set_column(1, table.schema.field("person"), pa.array([1] * 50))
    pq.write_table(changed, tmp_path / "changed.parquet")
    (tmp_path / "cut.parquet").write_bytes(whole.read_bytes()[:2000])
    (tmp_path / "text.parquet").write_text("text")
    other = MemoryGallery(gallery.model)
    with pytest.raises(ValueError, match=r"newer kreid wrote this file: upgrade.*format=2"):
        other.import_parquet(tmp_path / "newer.parquet")
    for name in ("others", "fewer", "changed", "cut", "text"):
        with pytest.raises(ValueError, match=f"damaged, or was not written by a gallery's export.*{name}.parquet"):
            other.import_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(FileNotFoundError, match=r"none\.parquet"):
        other.import_parquet(tmp_path / "none.parquet")
    assert other.count() == 0
