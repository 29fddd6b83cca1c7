"""What the README files promise: examples that run, links and files that exist."""

import re

import numpy as np
import pytest


@pytest.fixture(scope="module")
def pages(repository):
    return [path for path in repository.rglob("*.md") if not {".venv", "demo", "runs"} & set(path.parts)]


def test_links_resolve(pages):
    assert pages
    for page in pages:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_named_files_exist(pages, repository):
    for page in pages:
        for name in re.findall(r"(?:recipes|serving|tests)/[\w/]+\.(?:py|yaml|md)\b", page.read_text()):
            assert (repository / name).exists(), f"{page.name} names {name}"


def test_the_composed_model_runs(repository):
    code = re.search(r"```python\n(.*?)```", (repository / "README.md").read_text(), re.DOTALL).group(1)
    names = {}
    exec(code, names)
    frames = np.zeros((2, 3, 128, 64, 3), "uint8")
    assert names["model"]([frames, np.array([3, 1])]).shape == (2, 512)
