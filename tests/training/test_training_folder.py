"""The recipes' files: located by name, from any folder, in a checkout and in an installed package."""

import shutil

import pytest

from kreid import training
from kreid.training import folder

KINDS = {"systems": "sta", "data": "mars", "overlays": "small", "tables": "small"}


def test_the_checkouts_recipes_from_another_folder(repository, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert training.recipe_folder() == repository / "recipes"
    for kind, name in KINDS.items():
        assert training.recipe_file(kind, name) == repository / "recipes" / kind / f"{name}.yaml"
    assert training.load_config("sta", data="mars", overlays=["small"]).backbone == "resnet18"


def test_an_installed_package_has_its_own(tmp_path, monkeypatch, repository):
    module = tmp_path / "kreid" / "training" / "folder.py"
    monkeypatch.setattr(folder, "__file__", str(module))
    with pytest.raises(FileNotFoundError, match=r"install kreid again.*Received: folder=.*kreid/recipes'$"):
        training.recipe_folder()
    shutil.copytree(repository / "recipes" / "systems", tmp_path / "kreid" / "recipes" / "systems")
    assert training.recipe_folder() == tmp_path / "kreid" / "recipes"
    assert training.load_config("sta").model["num_stripes"] == 4


def test_paths_are_paths(tmp_path):
    for name in ("mine.yaml", "here/mine", str(tmp_path / "mine.yaml")):
        assert str(training.recipe_file("overlays", name)) == name


@pytest.mark.parametrize(
    ("kind", "name", "complaint"),
    [
        ("overlays", "smal", r"Unknown overlay; .* has demo, .*Did you mean 'small'\? Received: overlay='smal'$"),
        ("tables", "smalls", r"Unknown table; .*Did you mean 'small'\?"),
        ("systems", "stta", r"Unknown system; .*Did you mean 'sta'\?"),
        ("systems", "../overlays/small", "Unknown system"),
    ],
)
def test_unknown_names(kind, name, complaint):
    with pytest.raises(ValueError, match=complaint):
        training.recipe_file(kind, name)
