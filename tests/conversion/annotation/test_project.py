"""Clips of a project: added once, listed with a reason where they do not open, and the same own clip out again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conversion.annotation.database import Database
from conversion.annotation.project import Project, free_id
from tests.conversion.annotation.small_project import (
    FRAMES,
    HEIGHT,
    WIDTH,
    as_lines,
    square,
    write_candidates,
    write_clip,
)
from vng.errors import DataError
from vng.masks import encode
from vng.own_clips import clip_json


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(Database(tmp_path / "x.sqlite", create=True))


def test_videos_of_a_folder(project: Project, tmp_path: Path) -> None:
    write_clip(tmp_path / "clips", "one")
    (tmp_path / "clips" / "two.mp4").write_bytes(b"no video")
    (tmp_path / "clips" / "notes").mkdir()
    (problem,) = project.add_videos(tmp_path / "clips")
    assert "two.mp4" in problem.file and "cannot be decoded" in problem.reason
    rows = [tuple(r) for r in project.database.rows("SELECT video_id, frames, height, width, reason != '' FROM clips")]
    assert rows == [("one", FRAMES, HEIGHT, WIDTH, 0), ("two", 0, 0, 0, 1)]
    assert project.add_videos(tmp_path / "clips") == []  # they are there already
    with pytest.raises(DataError, match="cannot be decoded"):
        project.frames(2)
    assert len(project.frames(1)) == FRAMES


def test_one_video_and_none(project: Project, tmp_path: Path) -> None:
    assert project.add_videos(write_clip(tmp_path / "clips", "one")) == []
    assert project.clip(1).video_id == "one"
    for folder in ("missing", "."):
        with pytest.raises(DataError, match="no video and no folder of frames here"):
            (tmp_path / "empty").mkdir(exist_ok=True)
            project.add_videos(tmp_path / "empty" / folder)
    with pytest.raises(DataError, match="clip 9: there is no such clip"):
        project.clip(9)


def test_own_clips_come_out_as_they_went_in(project: Project, tmp_path: Path) -> None:
    write_clip(tmp_path)
    value = {
        "video": "balls",
        "split": "test",
        "narrative": [{"actor": "Ball", "text": "A [ball](a) rolls past the other [ball](b)."}],
        "objects": {
            "a": {"points": [[0, 18.0, 24.0, "positive"], [1, 3.0, 3.0, "ambiguous"]], "absent": [4]},
            "b": {"boxes": [[2, 3.0, 4.0, 20.0, 30.0]], "masks": [[3, encode(square(3)).as_dict()]]},
        },
    }
    (tmp_path / "clips.jsonl").write_text(
        as_lines(value, {"video": "gone"}, {"video": "balls", "id": "again", "objects": 3})
    )
    problems = project.add_clips(tmp_path / "clips.jsonl")
    assert sorted(problem.reason[:13] for problem in problems) == ["expected an o", "no such video"]
    assert json.loads(json.dumps(clip_json(project.own_clip(1)))) == value
    assert "no such video" in project.clip(2).reason


def test_mistakes_of_a_clip_are_its_reason(project: Project, tmp_path: Path) -> None:
    write_clip(tmp_path)
    (tmp_path / "clips.jsonl").write_text(as_lines({"video": "balls", "objects": {"a": [[99, 1, 1], [0, 500, 1]]}}))
    problems = project.add_clips(tmp_path / "clips.jsonl")
    assert len(problems) == 2
    assert "frame '99' is not in the video" in project.clip(1).reason and "500 is outside" in project.clip(1).reason


def test_candidates_of_other_frames(project: Project, tmp_path: Path) -> None:
    folder = write_candidates(tmp_path / "candidates")
    write_clip(tmp_path)
    (tmp_path / "balls" / "00004.png").unlink()
    (problem,) = project.add_candidates(folder, tmp_path)
    assert "has 4 frames, its candidates are of 5" in problem.reason
    assert project.database.rows("SELECT * FROM tasks") == []


def test_frames_that_change_later_are_refused(project: Project, tmp_path: Path) -> None:
    project.add_videos(write_clip(tmp_path))
    (tmp_path / "balls" / "00004.png").unlink()
    with pytest.raises(DataError, match=r"has other frames than when it was added \(4, there were 5\)"):
        project.frames(1)


def test_free_ids() -> None:
    assert [free_id(i, ()) for i in (0, 1, 25, 26, 27, 701, 702)] == ["a", "b", "z", "aa", "ab", "zz", "aaa"]
    assert free_id(0, {"a", "b"}) == "c"
