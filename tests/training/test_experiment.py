"""`kreid train` and the script to copy run the same experiment."""

import ast


def function(path, name="run_experiment"):
    return next(
        ast.unparse(node)
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == name
    )


def test_the_recipe_is_the_packages_experiment(repository):
    package = function(repository / "kreid" / "training" / "experiment.py")
    assert function(repository / "recipes" / "train_mars.py") == package


def test_the_recipe_is_short(repository):
    assert len((repository / "recipes" / "train_mars.py").read_text().splitlines()) <= 120
