"""`vng inspect` of annotation files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from conversion.formats.point_pngs import OBJECTS, write_point_pngs
from conversion.formats.point_vos import AnnotatedPoint, write_points
from conversion.formats.vidln import ActorNarrative, VidLN, write_vidln
from conversion.inspection import NO_FRAME, NO_VIDEO, REPEATED, inspect_annotations
from conversion.wanted import Subset
from tests.conversion.point_records import record
from tests.helpers import Cli, make_video
from vng.dataset_writer import write_dataset
from vng.inspection.point_statistics import (
    PUBLISHED,
)
from vng.points import POSITIVE


def narratives_file(path: Path) -> Path:
    one = ActorNarrative(
        actor_name="Ball",
        caption="A red ball rolls.",
        keyframe_selection_indices=(0,),
        recording_start_ms=0,
        traces_start_ms=0,
        recording_filename="",
        traces=(),
        noun_segments=((6, 10),),
        time_alignment=(),
    )
    write_vidln(
        [
            VidLN(
                vidln_id=i,
                dataset_id="oops_train",
                video_id=name,
                annotator_id=1,
                keyframe_names=("000000",),
                narratives=(one,) * (i + 1),
            )
            for i, name in enumerate(("v", "x"))
        ],
        path,
    )
    return path


class TestInspection:
    @pytest.fixture
    def oops(self, tmp_path: Path) -> Path:
        path = tmp_path / "Oops" / "train.json"
        unplaced = replace(record("f"), points=(*record("f").points, AnnotatedPoint(1, 1, None, POSITIVE)))
        made = [record("a"), record("b", "train/w", 25, 12), record("c", None), unplaced, record("a", "train/z")]
        write_points(made, path)
        return path

    def test_figures_of_a_published_file(self, oops: Path, tmp_path: Path) -> None:
        inspection = inspect_annotations(oops, narratives_file(tmp_path / "n.jsonl"), progress=False)
        assert inspection.points.table() == {
            "videos": 2,
            "annotations": 2 + 10 + 2,
            "objects": 3,
            "positive points": 29,
            "negative points": 14,
            "ambiguous points": 0,
            "frames": 2 + 10,
        }
        assert inspection.left_out == {NO_VIDEO: 1, NO_FRAME: 1, REPEATED: 1}
        assert inspection.published == PUBLISHED["oops train"] and inspection.names == {"é ball": 3}
        assert inspection.narratives == {
            "narrated videos": 2,
            "narrated videos with points": 1,
            "narratives": 3,
            "words": 12,
            "marked nouns": 3,
            "trace points": 0,
        }

    def test_narratives_alone_and_subsets(self, oops: Path, tmp_path: Path) -> None:
        path = narratives_file(tmp_path / "n.jsonl")
        alone = inspect_annotations(None, path, Subset(["x"]), progress=False)
        assert alone.narratives["narrated videos"] == 1 and alone.as_json()["points"] is None
        part = inspect_annotations(oops, None, Subset(["b", "nobody"], "s.txt"), progress=False)
        assert part.points.objects == 1 and "(1 of 2): 'nobody'" in part.problems[0].reason

    def test_command(self, oops: Path, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        narratives = narratives_file(tmp_path / "n.jsonl")
        ended = cli("inspect", "--points", oops, "--narratives", narratives, "--html", tmp_path / "page", "--quiet")
        assert ended.status == 0, ended.err
        lines = ended.out.splitlines()
        assert lines[0].split() == ["here", "published", "Point-VOS", "Oops,", "train", "(Table", "11)"]
        assert lines[3].split() == ["objects", "3", "12K", "-100.0%"]
        assert "33.3% of the objects have a positive point in all 10 frames (published: 40.3%)." in ended.out
        page = (tmp_path / "page" / "index.html").read_text()
        assert page.count("data:image/png;base64,") == 2 and "é ball" in page and "Table 11" in page
        figures = json.loads(cli("inspect", "--points", oops, "--json", "--quiet").out)
        assert figures["points"]["objects"] == 3 and figures["published"]["objects"] == "12K"

    def test_other_sets_are_not_compared(self, oops: Path, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        path = oops.rename(tmp_path / "mine.json")
        ended = cli("inspect", "--points", path, "--quiet", "--html", tmp_path / "page")
        assert "published" not in ended.out and "1 (left out)" not in ended.err
        assert "published:" not in (tmp_path / "page" / "index.html").read_text()

    def test_pngs(self, tmp_path: Path) -> None:
        write_point_pngs([make_video("one")], tmp_path / "pngs")
        points = inspect_annotations(tmp_path / "pngs", progress=False).points
        assert (points.videos, points.object_frames, points.points["positive"]) == (1, 2, 2)
        (tmp_path / "pngs" / OBJECTS).unlink()
        points = inspect_annotations(tmp_path / "pngs", progress=False).points
        assert (points.videos, points.object_frames, points.points["positive"]) == (None, 2, 2)

    def test_of_a_dataset(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        traced = make_video("traced", 5)
        traced = replace(traced, objects=tuple(replace(o, source="trace/x") for o in traced.objects))
        write_dataset(tmp_path / "oops-vng", [make_video("one"), make_video("two", 1), traced], "hand-made")
        ended = cli("inspect", tmp_path / "oops-vng", "--quiet", "--html", tmp_path / "page")
        assert "annotations                            4         93K  -100.0%" in ended.out
        assert (tmp_path / "page" / "index.html").read_text().count("data:image/png") == 2
        figures = json.loads(cli("inspect", tmp_path / "oops-vng", "--quiet", "--json").out)
        assert figures["points"]["positive points"] == 4 and figures["points"]["frames"] == 4

    def test_wrong_calls(self, oops: Path, dataset: Path, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        for arguments in ([], [dataset, "--points", oops], [dataset, "--subset", oops]):
            ended = cli("inspect", *arguments)
            assert ended.status == 2 and "vng inspect:" in ended.err
        assert cli("inspect", "--points", tmp_path / "none.json", "--quiet").status == 1
        (tmp_path / "s.txt").write_text("nobody\n")
        ended = cli("inspect", "--points", oops, "--subset", tmp_path / "s.txt", "--quiet")
        assert ended.status == 1 and "none of its 1 names" in ended.err
