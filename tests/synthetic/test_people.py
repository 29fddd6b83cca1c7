import numpy as np

from kreid.synthetic import people


def test_people_keep_their_looks_and_differ():
    first, again = (people.draw_person(np.random.default_rng([1, 2])) for _ in range(2))
    assert first.hair_style == again.hair_style and np.array_equal(first.texture, again.texture)
    crowd = [people.draw_person(np.random.default_rng([1, i])) for i in range(150)]
    assert {p.pattern for p in crowd} == set(people.PATTERNS)
    assert {p.lower for p in crowd} == set(people.LOWER)
    assert {p.bag for p in crowd} == set(people.BAGS)
    assert {p.hair_style for p in crowd} == set(people.HAIR_STYLES)
    assert len({p.texture.tobytes() for p in crowd}) == 150
