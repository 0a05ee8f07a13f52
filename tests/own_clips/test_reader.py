"""Own clips: the small format that people write by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vng.errors import DataError, DataErrors, Problem
from vng.own_clips import clip_json, clip_of_json, read_clip, read_own_clips
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE

PARROTS: dict[str, Any] = {
    "video": "clips/parrots.mp4",
    "narrative": "A green [parrot](a) is playing with the other [parrot](b).",
    "objects": {
        "a": {"points": [[0, 120, 80, "positive"], [0, 3.5, 4, "negative"], ["000007", 1, 2]], "name": "green one"},
        "b": {"mask": "masks/b/00000.png", "boxes": [[2, 1, 2, 8, 9]], "absent": [4, "000005"]},
        "c": [{"frame": 1, "x": 5, "y": 6, "label": "ambiguous"}],
    },
}


def write(path: Path, *values: Any) -> Path:
    path.write_text("".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values), encoding="utf-8")
    return path


def test_what_the_documentation_shows(tmp_path: Path) -> None:
    (clip,) = read_own_clips(write(tmp_path / "clips.jsonl", PARROTS))
    assert (clip.video, clip.video_id, clip.record) == ("clips/parrots.mp4", "parrots", "line 1")
    assert clip.narratives[0].description == "A green parrot is playing with the other parrot."
    assert [(e.start, e.end, e.object_id) for e in clip.expressions] == [(8, 14, "a"), (41, 47, "b")]
    a, b, c = clip.objects
    assert [(p.frame, p.x, p.y, p.label) for p in a.points] == [
        (0, 120, 80, POSITIVE),
        (0, 3.5, 4, NEGATIVE),
        ("000007", 1, 2, POSITIVE),
    ]
    assert (a.name, b.name, c.name) == ("green one", "parrot", "c") and c.points[0].label == AMBIGUOUS
    assert [(m.frame, m.mask) for m in b.masks] == [(None, "masks/b/00000.png"), (4, None), ("000005", None)]
    assert b.boxes[0].corners == (1, 2, 8, 9) and all(item.is_prompted for item in clip.objects)


def test_there_and_back(tmp_path: Path) -> None:
    clips = [
        PARROTS,
        {
            "video": "v",
            "id": "other",
            "split": "val",
            "narrative": ["One [dog](d).", {"actor": "cat", "text": "I see [it](d)."}],
        },
        {"video": "alone.mp4"},
        {"video": ".", "id": "here", "unit": "percent", "size": [4, 5], "frames": 7},
        {"video": "u", "objects": {"x": {"masks": [[3, {"size": [4, 5], "counts": "d0"}], ["00004", "m.png"]]}}},
        {"video": "w", "objects": {"x": {"masks": {"3": {"size": [4, 5], "counts": "d0"}, "00004": "m.png"}}}},
    ]
    read = list(read_own_clips(write(tmp_path / "a.jsonl", *clips)))
    again = [clip_of_json(json.loads(json.dumps(clip_json(clip))), clip.file, clip.record) for clip in read]
    assert again == read
    assert clip_json(read[2]) == {"video": "alone.mp4"} and not read[2].objects
    assert [item.is_prompted for item in read[1].objects] == [False]  # a noun without points waits for them
    assert next(read_own_clips(write(tmp_path / "b.json", clips[0]))).objects == read[0].objects
    (tmp_path / "c.json").write_text(json.dumps(clips))
    assert len(list(read_own_clips(tmp_path / "c.json"))) == 6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"unit": "inch"}, "unit: expected one of pixels, percent, got 'inch'; correct it"),
        ({"size": [4]}, "size: expected [height, width] in pixels, got [4]; correct it"),
        ({"frames": 0}, "frames: expected a number of frames from 1, got 0; correct it"),
        ({"video": "."}, 'id: this key is missing; give the video an "id"'),
        ({"video": ""}, "line 1: video: this key is missing; write the path of the video"),
        ({"video": 7}, "line 1: video: expected a text, got 7"),
        ({"video": "../x.mp4"}, "video: this name leads out of its folder; write it relative"),
        ({"video": "/etc/x"}, "video: this name leads out of its folder"),
        ({"id": "a/../../b"}, "id: this name leads out of its folder"),
        (
            {"naratif": 1},
            "naratif: unknown key; a clip has video, id, split, narrative, objects, unit, size, frames; leave it out",
        ),
        ({"narrative": "A [man](a"}, None),
        ({"narrative": "A [man"}, "narrative: a '[' is never closed"),
        ({"narrative": {"text": 5}}, "text: expected a text, got 5"),
        ({"narrative": [3]}, "narrative 0: narrative: expected a text, got 3"),
        ({"narrative": "[man] [man]"}, "'man' is marked twice without an id; write [man](a) and [man](b)"),
        ({"objects": []}, None),
        ({"objects": [1]}, "objects: expected an object, got [1]"),
        ({"objects": {"": []}}, "object '': object: an object needs a name; name it"),
        ({"objects": {"\ud800": []}}, "half a character"),
        ({"objects": {"a": 5}}, "object 'a': expected a list of points, or an object with name, points, boxes"),
        ({"objects": {"a": {"pionts": []}}}, "object 'a': pionts: unknown key; an object has name, points"),
        ({"objects": {"a": {"points": 3}}}, "object 'a': points: expected a list, got 3"),
        ({"objects": {"a": [[0, 1]]}}, "object 'a', point 0: expected {frame, x, y, label} or [frame, x, y, label]"),
        ({"objects": {"a": [[0, "left", 2]]}}, "point 0: x: expected a number, got 'left'"),
        ({"objects": {"a": [[0, 1, 2, "good"]]}}, "point 0: label: 'good' is not a label"),
        ({"objects": {"a": [[0.5, 1, 2]]}}, "frame: expected an index or the name of a frame, got 0.5"),
        ({"objects": {"a": {"boxes": [[0, 5, 5, 1, 9]]}}}, "box 0: x1, y1 must lie right of and below x0, y0"),
        ({"objects": {"a": {"boxes": [[0, 5, 5, float("nan"), 9]]}}}, "box 0: x1, y1 must lie right of"),
        ({"objects": {"a": {"boxes": [[0, 5]]}}}, "box 0: expected [frame, x0, y0, x1, y1]"),
        ({"objects": {"a": {"mask": {"size": [4, 5], "counts": "d0"}}}}, "mask: of which frame?"),
        ({"objects": {"a": {"mask": "../m.png"}}}, "mask: this name leads out of its folder"),
        ({"objects": {"a": {"masks": {"0": {"size": [4, -5], "counts": "d0"}}}}}, "mask of frame '0': "),
        ({"objects": {"a": {"masks": {"0": {"size": [10**9, 10**9], "counts": "d0"}}}}}, "mask of frame '0': "),
        ({"objects": {"a": {"absent": [None]}}}, "absent 0: frame: expected an index or the name"),
    ],
)
def test_mistakes(tmp_path: Path, change: dict[str, Any], words: str | None) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(PARROTS | change) + "\n")
    if words is None:
        assert len(list(read_own_clips(tmp_path / "a.jsonl"))) == 1
        return
    with pytest.raises(DataErrors) as error:
        list(read_own_clips(tmp_path / "a.jsonl"))
    assert words in str(error.value) and str(error.value).startswith(f"{tmp_path / 'a.jsonl'}: line 1")
    assert len(error.value.problems) == 1


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    text = [
        json.dumps(PARROTS),
        "{",
        json.dumps({"video": "w", "objects": {"a": [[0, 1]], "b": [[0, "x", "y"]]}}),
        json.dumps(PARROTS),
        "5",
        json.dumps({"video": "last.mp4"}),
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(text))
    with pytest.raises(DataErrors) as error:
        list(read_own_clips(tmp_path / "a.jsonl"))
    lines = str(error.value).splitlines()
    assert [line.partition(": ")[2].partition(":")[0] for line in lines] == [
        "line 2",
        *["line 3"] * 3,
        "line 4",
        "line 5",
    ]
    assert "line 1 has a video of this id already: 'parrots'" in lines[4]
    # where others are told of them, the good clips stay
    problems: list[Problem] = []
    assert [clip.video_id for clip in read_own_clips(tmp_path / "a.jsonl", problems.append)] == ["parrots", "last"]
    assert len(problems) == 6


def test_repeated_keys_and_no_clips(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"video": "v", "objects": {"a": [], "a": []}}\n{"video": "w", "video": "x"}\n')
    with pytest.raises(DataErrors, match=r"(?s)line 1: a: this key repeats.*line 2: video: this key repeats"):
        list(read_own_clips(tmp_path / "a.jsonl"))
    (tmp_path / "b.jsonl").write_text("\n\n")
    with pytest.raises(DataErrors, match="no clip in this file"):
        list(read_own_clips(tmp_path / "b.jsonl"))
    with pytest.raises(DataError, match="no such file"):
        list(read_own_clips(tmp_path / "none.jsonl"))


def test_the_one_clip_of_a_video(tmp_path: Path) -> None:
    assert read_clip(write(tmp_path / "a.jsonl", PARROTS)).video_id == "parrots"
    with pytest.raises(DataError, match=r"2 clips, expected the one of this video"):
        read_clip(write(tmp_path / "b.jsonl", PARROTS, PARROTS | {"id": "other"}))
