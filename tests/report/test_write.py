"""A report's folder: embeddings that are read again, and refused folders."""

import os
import re
import shutil
from pathlib import Path

import pytest
from page_reader import Page

from kreid.report import write_report

pytestmark = pytest.mark.usefixtures("eagerly")


def write(run, **options):
    return write_report(run, progress=False, **options)


def test_a_second_report_embeds_nothing_again(report, runs, monkeypatch):
    import kreid.gallery.embed

    monkeypatch.setattr(kreid.gallery.embed, "_embedded", None)  # Calling it fails.
    before = (report / "report.json").read_text(encoding="utf-8")
    write(runs[0], rerank=True, compare=runs[1])
    assert (report / "report.json").read_text(encoding="utf-8") == before


@pytest.mark.slow
def test_a_test_across_data_sets_is_named_unless_it_is_the_own_folder(runs, tree, tmp_path):
    same, copy = tmp_path / "same", tmp_path / "copy"
    same.symlink_to(tree)
    shutil.copytree(tree, copy)
    for number, (data, across) in enumerate([(tree, False), (same, False), (copy, True)]):
        out = tmp_path / str(number)
        write(runs[1], data=data, out=out)
        assert (f"The run was trained on {tree}: unless" in "".join(Page(out / "index.html").texts)) == across


def test_the_summary_has_scores_and_cluster_diameter(runs, report, tmp_path):
    # In a copy, which has the embeddings: other tests read the report with every option.
    _, measured = write(runs[0], out=shutil.copytree(report, tmp_path / "report"))
    lines = measured.summary().splitlines()
    assert any("mAP" in line for line in lines)
    assert f"Cluster diameter {measured.diameter:.3f}:" in measured.summary()


def test_a_person_whose_folder_is_no_utf8_is_reported(make_run, tree, tmp_path):
    data = tmp_path / "people"
    images = sorted((tree / "bbox_test").glob("0*/*.jpg"))
    for name in (b"Jos\xe9", b"anna", b"maria"):
        for part, camera in (("query", b"a"), ("gallery", b"b")):
            folder = os.path.join(os.fsencode(data / part), name, camera)
            os.makedirs(folder)
            for number in range(3):
                shutil.copy(images.pop(), os.path.join(folder, b"%d.jpg" % number))
    run = make_run("baseline", name="latin", data="folder", data_dir=data)
    path, measured = write(run)
    text = path.read_text(encoding="utf-8")
    assert "Jos\\udce9" in text
    assert any("Jos\udce9" in name for name in measured.embeddings.ids.tolist())
    again, _ = write(run)
    assert again.read_text(encoding="utf-8") == text


class TestRefusals:
    def test_no_run(self, tmp_path):
        with pytest.raises(ValueError, match=r"no finished run: it has no config\.yaml"):
            write(tmp_path)

    def test_no_data(self, runs, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"data=.*nowhere"):
            write(runs[1], data=tmp_path / "nowhere")

    def test_another_models_report(self, runs, report):
        before = (report / "index.html").stat().st_mtime_ns
        with pytest.raises(ValueError, match=r"another model's report; choose another --out\. Received: out="):
            write(runs[1], out=report)
        assert (report / "index.html").stat().st_mtime_ns == before

    def test_a_folder_of_other_files(self, runs, tmp_path):
        (tmp_path / "index.html").write_text("mine", encoding="utf-8")
        with pytest.raises(ValueError, match=r"holds other files and no report; choose another --out\. Received: out="):
            write(runs[1], out=tmp_path)
        assert (tmp_path / "index.html").read_text(encoding="utf-8") == "mine"

    def test_a_run_on_other_data(self, runs, tmp_path):
        other = Path(shutil.copytree(runs[1], tmp_path / "other"))
        config = (other / "config.yaml").read_text(encoding="utf-8")
        (other / "config.yaml").write_text(re.sub("data_dir: .*", "data_dir: data/elsewhere", config), encoding="utf-8")
        with pytest.raises(ValueError, match=r"runs were trained on different data.*Received: compare="):
            write(runs[1], compare=other)
        (other / "config.yaml").write_text(re.sub("\nsplit: .*", "\nsplit: 2", config), encoding="utf-8")
        with pytest.raises(ValueError, match=r"different splits.*Received: split=None and 2"):
            write(runs[1], compare=other)

    def test_a_run_on_images(self, runs, tmp_path):
        other = Path(shutil.copytree(runs[1], tmp_path / "other"))
        config = (other / "config.yaml").read_text(encoding="utf-8")
        (other / "config.yaml").write_text(re.sub("\ndata: .*", "\ndata: images", config), encoding="utf-8")
        with pytest.raises(ValueError, match="trained on single images"):
            write(other)
