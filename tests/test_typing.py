"""What editors and type checkers see of kreid."""

import importlib
import subprocess
import sys

import jedi
import pytest

PACKAGES = [
    "backbones",
    "data",
    "distances",
    "evaluation",
    "gallery",
    "identities",
    "layers",
    "losses",
    "models",
    "plots",
    "report",
    "serving",
    "synthetic",
    "testing",
    "tracks",
    "training",
]

PROGRAM = """
import kreid
from kreid.evaluation import evaluate
from kreid.layers import FrameAverage

reveal_type(evaluate)
reveal_type(kreid.evaluation.evaluate([[0.1]], [1], [0], [1], [1]))
reveal_type(kreid.layers.FrameAverage())
reveal_type(FrameAverage)
reveal_type(kreid.data.TrainingPipeline)
reveal_type(kreid.gallery.embed_tracklets)
reveal_type(kreid.models.STA)
"""
REVEALED = [
    "-> kreid.evaluation.retrieval_result.RetrievalResult",
    "kreid.evaluation.retrieval_result.RetrievalResult",
    "kreid.layers.frame_average.FrameAverage",
    "-> kreid.layers.frame_average.FrameAverage",
    "-> kreid.data.pipeline.TrainingPipeline",
    "-> kreid.gallery.embeddings.TrackletEmbeddings",
    "-> kreid.models.sta.STA",
]


def test_mypy_knows_the_types_of_a_users_program(tmp_path, repository):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--ignore-missing-imports", "--follow-imports=silent", program],
        capture_output=True,
        text=True,
        cwd=repository,
    )
    notes = [line for line in ran.stdout.splitlines() if "Revealed type" in line]
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert len(notes) == len(REVEALED)
    for note, expected in zip(notes, REVEALED, strict=True):
        assert expected in note


@pytest.mark.parametrize("name", PACKAGES)
def test_an_editor_completes_and_resolves_every_public_name(name):
    package = importlib.import_module(f"kreid.{name}")
    source = f"import kreid\nkreid.{name}."
    completed = {completion.name for completion in jedi.Script(source).complete(2, len(f"kreid.{name}."))}
    assert set(package.__all__) <= completed
    for public in package.__all__:
        line = f"kreid.{name}.{public}"
        definitions = jedi.Script(f"import kreid\n{line}").goto(2, len(line), follow_imports=True)
        assert any(str(definition.full_name).startswith("kreid.") for definition in definitions), line
