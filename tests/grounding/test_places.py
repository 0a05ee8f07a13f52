"""Places that a narrative tells, and how tracks fit them."""

from __future__ import annotations

import pytest

from tests.helpers import box
from vng.grounding.phrases import phrases_of
from vng.grounding.places import Geometry, Place, places_of
from vng.masks import empty, encode
from vng.narratives import parse_marked

SIZE = (40, 80)
T = 3


def places(marked: str) -> list[list[Place]]:
    description, spans = parse_marked(marked)
    return places_of(description, phrases_of(description, spans))


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        ("The [man] on the left waves.", [["left"]]),
        ("A [dog] stands at the very top.", [["top"]]),
        ("The [car] in the background stops.", [["back"]]),
        ("The [man] to the left of the [car] waves.", [[("left of", 1)], []]),
        ("A [dog] behind the other [dog] barks.", [[("behind", 1)], []]),
        ("A [cup] on top of the red [box].", [[("on", 1)], []]),
        ("A [cat] sits next to its [kitten].", [[("beside", 1)], []]),
        ("A [ball] moves to the left. The [box] rises.", [["moving left"], ["moving up"]]),
        ("The [man] puts a [ball] on the [table].", [[], [("on", 2)], []]),
        ("A [man] walks. On the [table] lies a [cup].", [[], [], []]),
        ("A [ball].", [[]]),
    ],
)
def test_what_is_told(marked: str, expected: list[list[object]]) -> None:
    wanted = [[Place(p) if isinstance(p, str) else Place(*p) for p in own] for own in expected]  # type: ignore[misc]
    assert places(marked) == wanted


@pytest.fixture
def geometry() -> Geometry:
    """Track 0 left below, 1 right above and moving to the right, 2 seen in no frame, 3 inside of 1 at first."""
    still = tuple(encode(box(25, 5, 35, 15, *SIZE)) for _ in range(T))
    moving = tuple(encode(box(5, 40 + 10 * t, 20, 60 + 10 * t, *SIZE)) for t in range(T))
    nothing = (empty(*SIZE),) * T
    inner = (encode(box(8, 45, 15, 50, *SIZE)), empty(*SIZE), empty(*SIZE))
    return Geometry([still, moving, nothing, inner], SIZE)


def test_boxes(geometry: Geometry) -> None:
    assert geometry.boxes.shape == (4, T, 4) and geometry.seen.sum(1).tolist() == [3, 3, 0, 1]
    assert geometry.boxes[0, 0].tolist() == [5 / 80, 25 / 40, 15 / 80, 35 / 40]
    assert geometry.shares[0, 0] == pytest.approx(100 / 3200)
    nothing = Geometry([], SIZE)
    assert nothing.fits("left", []).shape == (0,) and nothing.relates("on").shape == (0, 0)


def test_places_among_rivals(geometry: Geometry) -> None:
    for kind, best in (("left", 0), ("right", 1), ("top", 1), ("bottom", 0), ("front", 0), ("back", 1)):
        fits = geometry.fits(kind, [0, 1])
        assert fits[best] > 0.95 and fits[1 - best] < 0.05 and fits[2] == 0, kind
    assert geometry.fits("left", [0])[0] > 0.95  # without a rival: where it lies in the frame
    assert geometry.fits("moving right", [0, 1])[1] > 0.9 and geometry.fits("moving right", [0, 1])[0] < 0.3
    assert geometry.fits("still", [0, 1])[0] > 0.7 and geometry.fits("still", [0, 1])[1] < 0.1
    assert geometry.fits("middle", [0, 1]).shape == (4,)


def test_relations(geometry: Geometry) -> None:
    assert geometry.relates("left of")[0, 1] > 0.99 and geometry.relates("left of")[1, 0] < 0.01
    assert geometry.relates("above")[1, 0] > 0.99 and geometry.relates("below")[0, 1] > 0.99
    assert geometry.relates("in")[3, 1] == 1 and geometry.relates("in")[0, 1] == 0
    assert geometry.relates("beside")[3, 1] > 0.9 and geometry.relates("beside")[0, 1] < 0.5
    assert (geometry.relates("on")[2] == 0.5).all()  # never seen together: nothing is known
    assert geometry.relates("behind")[1, 0] > 0.99 and geometry.relates("in front of")[0, 1] > 0.99
