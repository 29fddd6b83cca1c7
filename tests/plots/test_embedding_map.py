import math
import re
import sys

import numpy as np
import pytest
from PIL import Image

from kreid.plots import compare_embedding_maps, draw_embedding_map, embedding_map, palette


def clusters(persons=3, each=8, features=16, seed=0):
    rng = np.random.default_rng(seed)
    numbers = np.repeat(np.arange(persons), each)
    embeddings = 10 * rng.normal(size=(persons, features))[numbers] + rng.normal(size=(len(numbers), features))
    return embeddings, 10 * numbers + 7


def texts(path):
    """The texts of an SVG, in order: Matplotlib notes each beside its outlines."""
    return re.findall(r"<!-- (.*?) -->", path.read_text(encoding="utf-8"))


def test_neighbours_stay_neighbours(tmp_path):
    embeddings, persons = clusters()
    order = np.random.default_rng(1).permutation(len(persons))
    places = draw_embedding_map(embeddings[order], persons[order], tmp_path / "map.png")
    assert places.shape == (24, 2)
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    np.testing.assert_array_equal(persons[order][distances.argmin(axis=1)], persons[order])


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg", ".PNG"])
def test_a_whole_file_of_every_format(tmp_path, suffix):
    path = tmp_path / f"map{suffix}"
    draw_embedding_map(*clusters(), path)
    start = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}[suffix.lower()]
    assert path.read_bytes().startswith(start)
    assert [file.name for file in tmp_path.iterdir()] == [path.name], "nothing unfinished is left"


def test_chosen_persons_in_the_legends_order(tmp_path):
    embeddings, persons = clusters(persons=5)
    path = tmp_path / "map.svg"
    places = draw_embedding_map(embeddings, persons, path, chosen=[47, 7, 7], title="two of five")
    assert places.shape == (16, 2)
    assert texts(path) == ["two of five", "person (tracklets)", "47 (8)", "7 (8)"]
    draw_embedding_map(embeddings, persons, path)
    assert texts(path) == ["person (tracklets)", "7 (8)", "17 (8)", "27 (8)", "37 (8)", "47 (8)"]


def test_the_same_seed_gives_the_same_picture(tmp_path):
    pictures = [tmp_path / f"{number}.png" for number in range(3)]
    for path, seed in zip(pictures, (1, 1, 2), strict=True):
        # Of a single feature there is no PCA, and the start is random.
        draw_embedding_map(*clusters(features=1), path, seed=seed, title="map")
    assert pictures[0].read_bytes() == pictures[1].read_bytes() != pictures[2].read_bytes()


def test_nothing_runs_over_the_border(tmp_path):
    embeddings, persons = clusters(persons=24, each=3)
    path = tmp_path / "map.png"
    draw_embedding_map(embeddings, persons * 100_000, path, title="a long title about everything " * 5)
    pixels = np.asarray(Image.open(path).convert("RGB"))
    for edge in (pixels[:3], pixels[-3:], pixels[:, :3], pixels[:, -3:]):
        assert (edge == 255).all()


def test_no_two_persons_look_alike():
    colours, markers = palette.PERSONS, embedding_map._MARKERS
    assert math.lcm(len(colours), len(markers)) >= embedding_map._MOST_PERSONS


def test_two_models_have_a_map_each_and_one_legend(tmp_path):
    embeddings, persons = clusters(persons=4)
    other, path = np.random.default_rng(2).normal(size=(len(persons), 6)), tmp_path / "maps.svg"
    places = compare_embedding_maps({"with": embeddings, "without": other}, persons, path, chosen=[7, 27])
    assert texts(path) == ["with", "without", "person (tracklets)", "7 (8)", "27 (8)"]
    alone = draw_embedding_map(embeddings, persons, tmp_path / "map.svg", chosen=[7, 27])
    np.testing.assert_array_equal(places["with"], alone)
    assert places["without"].shape == (16, 2)
    with pytest.raises(ValueError, match="at least one model"):
        compare_embedding_maps({}, persons, path)


@pytest.mark.parametrize(
    "embeddings", [np.ones((6, 8)), np.arange(6.0)[:, None], np.random.default_rng(0).normal(size=(4, 8))]
)
def test_few_equal_or_flat_embeddings(tmp_path, embeddings):
    places = draw_embedding_map(embeddings, np.arange(len(embeddings)) % 2, tmp_path / "map.png")
    assert np.isfinite(places).all()


@pytest.mark.parametrize("package", ["sklearn.manifold", "matplotlib.figure"])
def test_missing_packages_are_named(tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"pip install kreid\[plots\]"):
        draw_embedding_map(*clusters(), tmp_path / "map.png")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (dict(path="map.jpg"), r"\.png, \.pdf, \.svg\. Received: path='map\.jpg'"),
        (dict(chosen=[7, 8, 9]), r"no embedding\. Received: chosen=\[8, 9\]"),
        (dict(chosen=[]), "at least 4 embeddings. Received: 0"),
        (dict(persons=np.arange(24)[:23]), r"persons int64 of shape \(23,\)"),
        (dict(persons=np.zeros(24)), "persons float64"),
        (dict(embeddings=np.zeros(24)), r"embeddings of shape \(24,\)"),
        (dict(embeddings=np.full((24, 2), np.nan)), "must be finite.*person 7"),
        (dict(embeddings=np.zeros((25, 2)), persons=np.arange(25)), "at most 24 persons.*Received: 25 persons"),
    ],
)
def test_refusals(tmp_path, changes, complaint):
    embeddings, persons = clusters()
    arguments = {"embeddings": embeddings, "persons": persons, "path": tmp_path / "map.png", **changes}
    with pytest.raises(ValueError, match=complaint):
        draw_embedding_map(**arguments)
    assert not list(tmp_path.iterdir())
