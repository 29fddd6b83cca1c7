"""The pages of the guide: their code blocks run, the table of contents has them all, and each package has one."""

import importlib
import json
import pkgutil
import re
import shlex
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image
from recipe_samples import TINY

import kreid
from kreid import cli
from kreid.models import SYSTEMS

PAGES_OF_CODE = [
    "own_backbone",
    pytest.param("two_papers", marks=pytest.mark.slow),
    "own_system",
    pytest.param("own_loop", marks=pytest.mark.slow),
    "identify",
]


@pytest.fixture(scope="module")
def guide(repository):
    return repository / "recipes" / "guide"


def blocks(page, *languages):
    """Return the code blocks of a page, in order, as pairs of language and text."""
    found = re.findall(r"```(\w+)\n(.*?)```", page.read_text(), re.DOTALL)
    return [(language, text) for language, text in found if language in languages]


@pytest.mark.parametrize("name", PAGES_OF_CODE)
def test_python_of_a_page_runs(guide, name, eagerly):
    names, before = {}, dict(SYSTEMS)
    try:
        for _, text in blocks(guide / "pages" / f"{name}.md", "python"):
            exec(text, names)
        assert all(system in names.values() for name, system in SYSTEMS.items() if name not in before)
    finally:
        SYSTEMS.clear()
        SYSTEMS.update(before)
    assert len(names) > 3  # Something ran.


def test_the_table_of_contents_has_every_page(guide):
    def pages(entries):
        for entry in entries:
            if isinstance(entry, str):
                yield entry
            else:
                for inner in entry.values():
                    yield from pages(inner)

    named = sorted(pages(yaml.safe_load((guide / "mkdocs.yaml").read_text())["nav"]))
    assert named == sorted(str(page.relative_to(guide / "pages")) for page in (guide / "pages").rglob("*.md"))


def test_the_reference_has_every_package(guide):
    packages = {module.name for module in pkgutil.iter_modules(kreid.__path__) if module.ispkg}
    assert packages == {page.stem for page in (guide / "pages" / "reference").glob("*.md")}


def test_the_reference_has_functions_named_like_their_modules(guide):
    """Griffe takes such a name for the module; the page names the function."""
    for page in (guide / "pages" / "reference").glob("*.md"):
        package = importlib.import_module(f"kreid.{page.stem}")
        for name in {module.name for module in pkgutil.iter_modules(package.__path__)} & set(package.__all__):
            named = f"::: kreid.{page.stem}.{name}" + (f".{name}" if callable(getattr(package, name)) else "")
            assert named in page.read_text(), f"{page.name} lacks {named}"


@pytest.mark.slow
def test_commands_of_a_page_run(guide, tree, overlay, tmp_path, monkeypatch):
    """Fine-tuning and serving, on rendered people and with settings that take seconds."""
    monkeypatch.chdir(tmp_path)
    dataset = kreid.data.read_mars(tree)
    put_into_folders(dataset, tmp_path / "data" / "own")
    start = ["--set", "holdout=0", "--set", "false_match_rate=null", "--set", "epochs=1"]
    line = ["--system", "sta", "--data", str(tree), "--run", "runs/sta_mars", "--overlay", str(overlay)]
    assert cli.main(["train", *line, *start, "--quiet"]) == 0

    page = guide / "pages" / "fine_tune.md"
    ((_, settings),) = blocks(page, "yaml")
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({**TINY, **yaml.safe_load(settings), **SMALL}))
    run_commands(page)
    assert (tmp_path / "reports" / "after" / "index.html").is_file()
    assert yaml.safe_load((tmp_path / "runs/own/config.yaml").read_text())["init"] == "runs/sta_mars/model.keras"

    page = guide / "pages" / "serve.md"
    (export, query, again), ((_, client),) = commands(page), blocks(page, "python")
    assert cli.main(export) == 0
    with kreid.serving.EmbeddingServer("runs/own/export", port=0) as server:
        exec(client.replace("127.0.0.1:8500", server.target), {})
        assert cli.main([*query, "--server", server.target, "--cache", "cache"]) == 0
    assert cli.main(again) == 0
    assert (tmp_path / "ranked.png").is_file()
    assert {path.name for path in (tmp_path / "runs" / "own" / "export").iterdir()} == {"1", "2"}

    one_per_person = list({tracklet.person: tracklet for tracklet in dataset.queries}.values())
    for camera in ("hall", "door"):
        write_camera(tmp_path / camera, one_per_person[:2])
    link, accept, score = commands(guide / "pages" / "identify.md")
    seen = ["--min-length", "2", "--quiet"]
    assert cli.main([*link, *seen, "--threshold", "1e-6"]) == 0
    state = json.loads((tmp_path / "found" / "identities.json").read_text())
    persons = [{"person": int(name), "accepted": True, "tracklets": found} for name, found in state["persons"].items()]
    (tmp_path / "decisions.json").write_text(json.dumps({"format": 1, "run": state["run"], "persons": persons}))
    assert cli.main([*accept, "--quiet"]) == 0
    assert len(kreid.data.read_folder("data/mine").train) == 4
    assert cli.main([*score, *seen, "--threshold", "1e-6"]) == 0
    assert {path.name for path in (tmp_path / "scored").iterdir()} >= {"identities.csv", "review.html", "tracks"}


SMALL = {"epochs": 2, "frozen_epochs": 1, "persons_per_batch": 2, "holdout": 0.3, "false_match_rate": 0.2}


def commands(page):
    """Return the arguments of each command of a page."""
    lines = [line for _, text in blocks(page, "bash") for line in text.splitlines()]
    assert all(line.startswith("kreid ") for line in lines)
    return [shlex.split(line)[1:] for line in lines]


def run_commands(page):
    for line in commands(page):
        assert cli.main(line) == 0, line


def put_into_folders(dataset, root):
    """Copy the train set, and one tracklet of each test person and camera, into folders.

    The first test person with a query and a match is bert, seen in the hall and then at the door, as on the page.
    """
    gallery = dataset.gallery()
    first, match = next(
        (query, other)
        for query in dataset.queries
        for other in gallery
        if query.person == other.person and query.camera != other.camera
    )
    persons, cameras = {first.person: "bert"}, {first.camera: "hall", match.camera: "door"}
    for split, tracklets in (("train", dataset.train), ("query", dataset.queries), ("gallery", gallery)):
        for tracklet in tracklets:
            person = persons.get(tracklet.person, f"person{tracklet.person}")
            folder = root / split / person / cameras.get(tracklet.camera, f"camera{tracklet.camera}")
            if split == "train":
                folder /= tracklet.id.replace("/", "_")
            if tracklet.person > 0 and not folder.exists():
                folder.mkdir(parents=True)
                for frame in tracklet.frames:
                    shutil.copy(frame, folder)


def write_camera(folder, tracklets):
    """Write a folder of images that shows the tracklets side by side, the tracker's text and the true persons."""
    folder.mkdir()
    tracks, truth = [], []
    for frame in range(3):
        crops = [np.asarray(Image.open(tracklet.frames[frame])) for tracklet in tracklets]
        Image.fromarray(np.concatenate(crops, axis=1)).save(folder / f"{frame + 1:06}.png")
        height, width = crops[0].shape[:2]
        for place, tracklet in enumerate(tracklets):
            box = f"{place * width},0,{width},{height},1"
            tracks.append(f"{frame + 1},{place + 1},{box},-1,-1,-1\n")
            truth.append(f"{frame + 1},{tracklet.person},{box}\n")
    folder.with_suffix(".txt").write_text("".join(tracks))
    folder.with_name(f"{folder.name}_truth.txt").write_text("".join(truth))
