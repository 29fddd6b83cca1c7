import numpy as np
from PIL import Image, ImageDraw

from kreid.synthetic import people, walker


def test_bags_show_from_behind_only():
    crowd = [people.draw_person(np.random.default_rng([7, i])) for i in range(60)]
    person = next(p for p in crowd if p.bag == "backpack")
    places = []
    for facing in (0.0, np.pi):
        walk = walker.walk(person, np.full(2, facing), np.zeros(2), 0.2, 100.0)
        bag = max(i for i, c in enumerate(walk.colours) if c == person.bag_colour)
        order = walk.order[0]
        places.append(order.index(bag) > order.index(len(walk.colours)))
    assert places == [False, True]


def test_parts_outside_the_box_change_nothing_inside():
    crowd = [people.draw_person(np.random.default_rng([7, i])) for i in range(20)]
    box, whole = (30.3, 20.6, 61.2, 90.4), (0, 0, 100, 140)
    for person in crowd:
        seen, drawn = [], []
        for shown in (box, whole):
            walk = walker.walk(person, np.full(2, 0.7), np.array([0.0, 1.0]), 0.2, 100.0)
            walk.place([45.0, 80.0], 130.0, [shown] * 2)
            drawn.append(sum(map(len, walk.order)))
            canvases = [Image.new("RGB", (100, 140)) for _ in range(2)]
            for t, canvas in enumerate(canvases):
                walk.draw(canvas, ImageDraw.Draw(canvas), t)
            seen.append([np.asarray(c.resize((16, 32), Image.Resampling.BOX, box=box)) for c in canvases])
        assert np.array_equal(*seen) and drawn[0] < drawn[1]
