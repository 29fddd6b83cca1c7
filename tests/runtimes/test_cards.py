import json

from kreid.runtimes.cards import read_any_card


def test_cards_of_every_format_are_read(tmp_path):
    assert read_any_card(tmp_path) is None
    card = {"layout": 1, "format": "onnx", "metric": "cosine"}
    (tmp_path / "kreid.json").write_text(json.dumps(card))
    assert read_any_card(tmp_path) == card
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / "assets.extra" / "kreid.json").write_text('{"metric": "euclidean"}')
    assert read_any_card(tmp_path) == {"format": "saved_model", "precision": "float32", "metric": "euclidean"}
