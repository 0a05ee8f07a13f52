"""What people made, as files: own clips and points of Point-VOS, which conversions read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from conversion.annotation.clicking import Clicking
from conversion.annotation.database import Database
from conversion.annotation.project import Project
from conversion.annotation.results import export_results
from conversion.annotation.verification import Verification
from tests.conversion.annotation.small_project import write_candidates, write_clip
from tests.helpers import Cli
from vng.dataset import VngDataset
from vng.errors import DataError, UsageError
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """An object read twice, with two differing answers, and a click."""
    write_clip(tmp_path)
    database = Database(tmp_path / "x.sqlite", create=True)
    project = Project(database)
    project.add_candidates(write_candidates(tmp_path / "candidates", ("a",)), tmp_path, repeat=1.0)
    verification = Verification(database=database)
    for annotator, labels in (("Ann", [POSITIVE] * 3 + [NEGATIVE] * 3), ("Bob", [POSITIVE, NEGATIVE, AMBIGUOUS])):
        task = verification.next_task(annotator)
        assert task is not None
        for question, label in zip(task.questions, labels, strict=False):
            verification.answer(task.task, question.candidate, label, annotator)
        if annotator == "Ann":
            for question in task.questions[6:]:
                verification.answer(task.task, question.candidate, AMBIGUOUS, annotator)
    clicking = Clicking(project=project)
    clicking.click(1, 0, 18, 24, NEGATIVE, "Ann")  # what a person clicks stands before what was verified there
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    project.add_videos(tmp_path / "broken.mp4")
    return database


def test_own_clips(database: Database, tmp_path: Path) -> None:
    totals, problems = export_results(database, tmp_path / "clips.jsonl")
    assert totals == {"clips": 1, "objects": 1, "points": 9, "nouns": 1}
    assert ["broken.mp4" in problem.file for problem in problems] == [True]
    (clip,) = map(json.loads, (tmp_path / "clips.jsonl").read_text().splitlines())
    assert clip["video"] == "balls" and clip["narrative"][0]["text"].startswith("A [ball](a) rolls")
    labels = [point[3] for point in clip["objects"]["a"]["points"]]
    assert labels == ["negative", "ambiguous", "ambiguous", *["negative"] * 3, *["ambiguous"] * 3]


def test_frames_whose_candidates_were_all_rejected(tmp_path: Path) -> None:
    write_clip(tmp_path)
    database = Database(tmp_path / "x.sqlite", create=True)
    project = Project(database)
    project.add_candidates(write_candidates(tmp_path / "candidates", ("a",)), tmp_path)
    verification = Verification(database=database)
    task = verification.next_task("Ann")
    assert task is not None
    for question in task.questions:
        label = {0: POSITIVE, 1: NEGATIVE, 2: NEGATIVE}[question.frame] if question.kind == "foreground" else NEGATIVE
        if not (question.frame == 2 and question.kind == "foreground"):  # there, nobody was asked about a likely place
            verification.answer(task.task, question.candidate, label, "Ann")
    export_results(database, tmp_path / "clips.jsonl")
    assert json.loads((tmp_path / "clips.jsonl").read_text())["objects"]["a"]["absent"] == [1]


def test_point_vos(database: Database, tmp_path: Path, cli: Callable[..., Cli]) -> None:
    ended = cli(
        "annotate", "export", "--database", database.path, "--format", "point-vos", "--out", tmp_path / "p.json"
    )
    assert ended.status == 1 and ended.out == "1 clips, 1 objects, 10 points, 0 nouns\n"  # a clip is left out
    assert "left out" in ended.err and "broken.mp4" in ended.err
    record = json.loads((tmp_path / "p.json").read_text())["a"]
    assert record["video_name"] == "train/balls" and record["object_name"] == "ball"
    first = {"x": 18.0, "y": 24.0, "frame_id": "00000", "status": "REJECTED", "is_fg_candidate": True}
    assert record["annotated_points"][0] == first
    assert [p["is_fg_candidate"] for p in record["annotated_points"][1:]] == [True] * 3 + [False] * 3 + [True] * 3


def test_videos_elsewhere(tmp_path: Path, cli: Callable[..., Cli]) -> None:
    clicking = Clicking(project=Project(Database(tmp_path / "x.sqlite", create=True)))
    clicking.project.add_videos(write_clip(tmp_path / "films"))
    clicking.click(clicking.add_object(1, "", "Ann"), 0, 18, 24, POSITIVE, "Ann")
    (tmp_path / "far" / "away").mkdir(parents=True)
    for out, video in (("films/c.jsonl", "balls"), ("c.jsonl", "films/balls"), ("far/away/c.jsonl", "balls")):
        export_results(clicking.database, tmp_path / out)
        assert json.loads((tmp_path / out).read_text())["video"] == video
    words = ("convert", "own", "--clips", tmp_path / "far/away/c.jsonl", "--segmenter", "classical")
    assert cli(*words, "--frames", tmp_path / "films", "--out", tmp_path / "d", "--quiet").status == 0
    assert VngDataset(tmp_path / "d")[0].objects[0].points.xy.tolist() == [[18, 24]]


def test_what_cannot_be_written(database: Database, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown format 'coco'"):
        export_results(database, tmp_path / "x.json", "coco")
    for format, name, wanted in (("own", "x.json", ".jsonl"), ("point-vos", "x.txt", ".json or .jsonl")):
        with pytest.raises(DataError, match=f"this format is written to {wanted}"):
            export_results(database, tmp_path / name, format)
    with pytest.raises(DataError, match="no clip that can be opened"):
        export_results(Database(tmp_path / "empty.sqlite", create=True), tmp_path / "x.jsonl")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("x.") and "sqlite" not in path.name]
