"""Clicking: ids that never change, points that fit, narratives and their nouns, and clips that somebody holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from conversion.annotation.clicking import Clicking
from conversion.annotation.database import Database
from conversion.annotation.leases import HeldError
from conversion.annotation.project import Project
from tests.conversion.annotation.small_project import (
    FRAMES,
    HEIGHT,
    SENTENCE,
    WIDTH,
    as_lines,
    square,
    write_candidates,
    write_clip,
)
from vng.errors import DataError, UsageError
from vng.masks import encode
from vng.points import NEGATIVE, POSITIVE


@pytest.fixture
def clicking(tmp_path: Path) -> Clicking:
    project = Project(Database(tmp_path / "x.sqlite", create=True))
    project.add_videos(write_clip(tmp_path))
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    project.add_videos(tmp_path / "broken.mp4")
    return Clicking(project=project)


def ids(clicking: Clicking) -> list[tuple[str, str]]:
    return [(o["object_id"], o["name"]) for o in clicking.state(1)["objects"]]


def test_ids_never_change_and_are_not_given_twice(clicking: Clicking) -> None:
    first, second = (clicking.add_object(1, name, "Ann") for name in ("dog", "cat"))
    clicking.rename(first, "wolf", "Ann")
    clicking.remove_object(second, "Ann")
    clicking.add_object(1, "", "Ann")
    assert ids(clicking) == [("a", "wolf"), ("c", "")]
    with pytest.raises(UsageError, match="not there any more"):
        clicking.rename(second, "x", "Ann")


def test_points(clicking: Clicking) -> None:
    a, b = (clicking.add_object(1, name, "Ann") for name in ("a", "b"))
    click = clicking.click(a, 2, 10, 12, POSITIVE, "Ann")
    clicking.click(a, FRAMES - 1, WIDTH - 1, HEIGHT - 1, NEGATIVE, "Ann")
    clicking.click(b, 2, 10, 12, NEGATIVE, "Ann")  # off b, on a: no contradiction
    with pytest.raises(UsageError, match="has a point of this object already"):
        clicking.click(a, 2, 10.4, 12, NEGATIVE, "Ann")
    with pytest.raises(UsageError, match="on object a already: a pixel belongs to one object"):
        clicking.click(clicking.add_object(1, "", "Ann"), 2, 10, 12, POSITIVE, "Ann")
    state = clicking.state(1)["objects"]
    assert [p[1:] for p in state[0]["points"]] == [[2, 10, 12, 1], [4, 79, 47, 0]]
    assert clicking.remove_click(click, "Ann") == a
    with pytest.raises(UsageError, match="gone already"):
        clicking.remove_click(click, "Ann")


@pytest.mark.parametrize(
    ("frame", "x", "y", "label", "message"),
    [
        (FRAMES, 1, 1, 1, "frame 5 of 5"),
        (-1, 1, 1, 1, "frame -1 of 5"),
        (0, WIDTH, 1, 1, r"\(80, 1\) is outside the frame of 80x48 pixels"),
        (0, 1, -0.6, 1, "outside the frame"),
        (0, 1, 1, 7, "a label is 1, 0 or -1, got 7"),
    ],
)
def test_points_that_do_not_fit(clicking: Clicking, frame: int, x: float, y: float, label: int, message: str) -> None:
    key = clicking.add_object(1, "", "Ann")
    with pytest.raises(UsageError, match=message):
        clicking.click(key, frame, x, y, label, "Ann")
    assert clicking.state(1)["objects"][0]["points"] == []


def test_absent_frames(clicking: Clicking) -> None:
    key = clicking.add_object(1, "", "Ann")
    clicking.set_absent(key, 3, True, "Ann")
    clicking.click(key, 2, 5, 5, POSITIVE, "Ann")
    with pytest.raises(UsageError, match="has a point on it in this frame"):
        clicking.set_absent(key, 2, True, "Ann")
    assert clicking.state(1)["objects"][0]["absent"] == [3]
    clicking.click(key, 3, 5, 5, POSITIVE, "Ann")  # a point says that it is there
    assert clicking.state(1)["objects"][0]["absent"] == []
    with pytest.raises(UsageError, match="frame 5 of 5"):
        clicking.set_absent(key, 5, True, "Ann")


def test_a_drawn_mask_stands(tmp_path: Path) -> None:
    write_clip(tmp_path)
    clip = {"video": "balls", "objects": {"a": {"masks": [[3, encode(square(3)).as_dict()]]}}}
    (tmp_path / "clips.jsonl").write_text(as_lines(clip))
    clicking = Clicking(project=Project(Database(tmp_path / "x.sqlite", create=True)))
    clicking.project.add_clips(tmp_path / "clips.jsonl")
    with pytest.raises(UsageError, match="drawn elsewhere"):
        clicking.click(1, 3, 5, 5, NEGATIVE, "Ann")
    clicking.click(1, 2, 5, 5, NEGATIVE, "Ann")
    assert clicking.state(1)["objects"][0]["given"] == [3]


def test_narratives_and_nouns(clicking: Clicking) -> None:
    clicking.write_narrative(1, 0, "The é-bike 🚲 of a [girl](g) and the bike.", "Ann")
    (narrative,) = clicking.state(1)["narratives"]
    words = [piece for piece in narrative["pieces"] if "start" in piece]
    assert [w["text"] for w in words] == ["The", "é-bike", "of", "a", "girl", "and", "the", "bike"]
    assert ids(clicking) == [("g", "girl")]
    bike = clicking.mark_noun(1, 0, words[7]["start"], words[7]["end"], None, "Ann")
    clicking.mark_noun(1, 0, words[1]["start"], words[1]["end"], bike, "Ann")
    (narrative,) = clicking.state(1)["narratives"]
    assert narrative["text"] == "The [é-bike](a) 🚲 of a [girl](g) and the [bike](a)."
    assert ids(clicking) == [("g", "girl"), ("a", "bike")]
    assert clicking.mark_noun(1, 0, words[7]["start"], words[7]["end"], bike, "Ann") is None  # unmarked again
    with pytest.raises(UsageError, match="overlap"):
        clicking.mark_noun(1, 0, words[0]["start"], words[1]["end"], None, "Ann")
    with pytest.raises(UsageError, match="not in the narrative any more"):
        clicking.mark_noun(1, 0, 5, 5000, None, "Ann")
    assert bike is not None
    clicking.remove_object(bike, "Ann")
    assert clicking.state(1)["narratives"][0]["text"] == "The é-bike 🚲 of a [girl](g) and the bike."


def test_texts_that_are_refused(clicking: Clicking) -> None:
    with pytest.raises(UsageError, match="never closed"):
        clicking.write_narrative(1, 0, "A [dog runs.", "Ann")
    with pytest.raises(UsageError, match="at most 20,000"):
        clicking.write_narrative(1, 0, "x" * 20_001, "Ann")
    clicking.write_narrative(1, 5, SENTENCE, "Ann", actor="Ball")
    assert [(n["position"], n["actor"]) for n in clicking.state(1)["narratives"]] == [(0, "Ball")]
    clicking.write_narrative(1, 0, "  ", "Ann")
    assert clicking.state(1)["narratives"] == []


def test_one_person_works_on_a_clip(clicking: Clicking) -> None:
    assert clicking.open(1, "Ann") is None and clicking.open(1, "Bob") == "Ann"
    with pytest.raises(HeldError, match="Ann is working on this clip"):
        clicking.add_object(1, "", "Bob")
    clicking.release("Ann")
    assert clicking.open(1, "Bob") is None


def test_a_clip_that_does_not_open(clicking: Clicking) -> None:
    with pytest.raises(DataError, match="this clip cannot be opened"):
        clicking.open(2, "Ann")
    with pytest.raises(DataError, match="there is no such clip"):
        clicking.state(3)


def test_an_object_with_candidates_stays(tmp_path: Path) -> None:
    write_clip(tmp_path)
    project = Project(Database(tmp_path / "x.sqlite", create=True))
    project.add_candidates(write_candidates(tmp_path / "candidates"), tmp_path)
    with pytest.raises(UsageError, match="has candidates to verify"):
        Clicking(project=project).remove_object(1, "Ann")
