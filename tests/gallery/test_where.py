"""Conditions on labels."""

import dataclasses

import gallery_samples as samples
import numpy as np
import pytest

from kreid.gallery import Where

ODD = ["", "a'b", '"', "\\", "%", "_", "--", "é日", "a\nb", "a\0b", " a", "A", "a=b", "NULL", "$1", "?", "`"]


@pytest.mark.parametrize("kind", ["lance", "streaming"])
def test_texts_mean_the_same_in_every_gallery(kind, tmp_path):
    record = samples.people(17, prefix="")
    ids = [f"{text}{number}" for number, text in enumerate(ODD)]
    record = dataclasses.replace(record, ids=ids, sources=ODD, tags=[{"x": text} for text in ODD])
    gallery = samples.make(kind, tmp_path, record)
    gallery.add(record)
    for number, text in enumerate(ODD):
        assert gallery.read({"ids": [ids[number], "none"]}).ids.tolist() == [ids[number]]
        assert gallery.read({"sources": [text]}).ids.tolist() == [ids[number]]
        assert gallery.read({"tags": {"x": text}}).ids.tolist() == [ids[number]]
        if text and "=" not in text:
            assert gallery.count({"tags": {text: "x"}}) == 0
    for number, text in enumerate(ODD):
        assert gallery.delete({"ids": [ids[number]], "tags": {"x": text}}) == 1


@pytest.mark.parametrize("kind", ["memory", "lance", "streaming"])
def test_numbers_at_the_ends_of_their_range(kind, tmp_path):
    record = samples.people(4, persons=[2**63 - 1, 5, 0, 7], cameras=[-(2**63), -1, 2**40, 0])
    record = dataclasses.replace(record, starts=[-1e300, 1e-300, 1.6e9 + 0.125, np.nan], ends=[0, 1, 1e300, np.nan])
    gallery = samples.make(kind, tmp_path, record)
    gallery.add(record)
    for where, rows in (
        ({"persons": [2**63 - 1]}, [0]),
        ({"cameras": [-(2**63), -1]}, [0, 1]),
        ({"not_cameras": [2**40]}, [0, 1, 3]),
        ({"until": 1.6e9 + 0.125}, [0, 1]),
        ({"until": 1.6e9 + 0.1251}, [0, 1, 2]),
        ({"since": 1e299}, [2]),
        ({"since": -1e308}, [0, 1, 2]),
        ({"since": -5, "until": 1e-300}, [0]),
    ):
        assert set(gallery.read(where).ids) == set(record.ids[rows])


@pytest.mark.parametrize(
    ("conditions", "complaint"),
    [
        ({"ids": "t1"}, "`ids` is a list of str.*ids='t1'"),
        ({"ids": [1]}, r"ids=\[1\]"),
        ({"ids": ["\udce9"]}, "valid Unicode"),
        ({"persons": 3}, "`persons` is a list of int.*persons=3"),
        ({"persons": [1.5]}, r"persons=\[1.5\]"),
        ({"persons": [2**63]}, "int of 64 bits"),
        ({"cameras": {1: 2}}, "cameras={1: 2}"),
        ({"since": "today"}, "number of seconds. Received: since='today'"),
        ({"since": float("nan")}, "since=nan"),
        ({"until": True}, "until=True"),
        ({"since": 2, "until": 2}, "`until` is after `since`"),
        ({"tags": ["red"]}, r"tags=\['red'\]"),
        ({"tags": {"coat": 1}}, "tags={'coat': 1}"),
    ],
)
def test_what_is_no_condition(conditions, complaint):
    with pytest.raises(ValueError, match=complaint):
        Where(**conditions)


def test_conditions_that_choose_all_are_none():
    for conditions in ({}, {"tags": {}}, {"not_cameras": []}, {"cameras": None}):
        assert not Where(**conditions)
    for conditions in ({"ids": []}, {"persons": [0]}, {"since": 0.0}):
        assert Where(**conditions)
        assert Where.of(Where(**conditions).to_dict()) == Where(**conditions)
