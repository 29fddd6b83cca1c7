"""What the README files promise: examples that run, links and files that exist."""

import re

import numpy as np
import pytest

import kreid


@pytest.fixture(scope="module")
def pages(repository):
    return [path for path in repository.rglob("*.md") if not {".venv", "demo", "runs"} & set(path.parts)]


def test_links_resolve(pages):
    assert pages
    for page in pages:
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_named_files_exist(pages, repository):
    for page in pages:
        for name in re.findall(r"(?:recipes|serving|tests)/[\w/]+\.(?:py|yaml|md)\b", page.read_text()):
            assert (repository / name).exists(), f"{page.name} names {name}"


def test_the_examples_run(repository):
    blocks = re.findall(r"```python\n(.*?)```", (repository / "README.md").read_text(), re.DOTALL)
    names = {}
    for block in blocks:
        exec(block, names)
    assert len(blocks) == 2
    frames = np.zeros((2, 3, 128, 64, 3), "uint8")
    assert names["model"]([frames, np.array([3, 1])]).shape == (2, 512)
    system = names["Gated"](names["backbone"], num_identities=4, embedding_dim=16)
    try:
        assert system.embed(frames, np.array([3, 1])).shape == (2, 16)
        assert kreid.models.system_class("gated") is names["Gated"]
    finally:
        del kreid.models.SYSTEMS["gated"]
