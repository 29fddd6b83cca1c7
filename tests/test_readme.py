"""What the README files promise: examples that run, links and files that exist."""

import re
import shlex

import numpy as np
import pytest

from kreid import cli


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


def test_the_example_runs(repository):
    (block,) = re.findall(r"```python\n(.*?)```", (repository / "README.md").read_text(), re.DOTALL)
    names = {}
    exec(block, names)
    frames = np.zeros((2, 3, 128, 64, 3), "uint8")
    assert names["model"]([frames, np.array([3, 1])]).shape == (2, 512)


def test_commands_have_these_arguments(repository):
    """The commands of README and guide, parsed and not run."""
    pages = [repository / "README.md", *(repository / "recipes" / "guide" / "pages").glob("*.md")]
    texts = [page.read_text() for page in pages]
    lines = [line for text in texts for line in re.findall(r"^    (kreid [a-z].*)$", text, re.MULTILINE)]
    for text in texts:
        lines += "".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL)).splitlines()
    assert len(lines) > 30
    for line in lines:
        command = shlex.split(line)[1:]
        assert cli._parser(command[0]).parse_args(command).command_run
