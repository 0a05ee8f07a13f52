"""`vng convert` from a shell, on files."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conversion.formats import vidln as vidln_format
from conversion.formats.official_vng import TrioFiles
from conversion.formats.point_vos import AnnotatedPoint, PointRecord, as_json, write_points
from conversion.formats.vidln import (
    VidLN,
    trace_segment,
)
from tests.conversion.narrated_video import QUICK, narrative, record, trace, video
from tests.helpers import Cli, H, T, W, write_frames
from vng.dataset import VngDataset
from vng.errors import read_problems


class TestConvertCommands:
    def args(self, folder: Path, out: Path) -> list[object]:
        return [
            "convert",
            "point-vos",
            "--points",
            folder / "p.json",
            "--narratives",
            folder / "n.jsonl",
            "--frames",
            folder / "frames",
            "--out",
            out,
            "--quiet",
            "--nouns",
            "noun_segments",
        ]

    def make(self, folder: Path, records: list[PointRecord], clip: VidLN | None = None) -> None:
        write_points(records, folder / "p.json")
        vidln_format.write_vidln([clip or video(narrative(nouns=((6, 10),)))], folder / "n.jsonl")
        write_frames(folder / "frames" / "v", np.full((T, H, W, 3), 90, np.uint8))

    def test_goes_on_past_bad_records(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        good = record("good", "ball", (5, 4))
        odd = [
            PointRecord(key="nowhere", object_name="ball", video_name=None, points=good.points),
            PointRecord(key="stranger", object_name="ball", video_name="train/other", points=good.points),
            PointRecord(key="nameless", object_name="cat", video_name="train/v", points=good.points),
        ]
        self.make(tmp_path, [good, *odd])
        ended = cli(*self.args(tmp_path, tmp_path / "d"))
        assert ended.status == 0 and "3 left out" in ended.err
        (converted,) = VngDataset(tmp_path / "d")
        assert [o.object_id for o in converted.objects] == ["good"] and len(converted.frame_names) == 2
        problems = {p.record: p.reason for p in read_problems(tmp_path / "d" / "problems.jsonl")}
        assert set(problems) == {"nowhere", "stranger", "nameless"}
        assert cli(*self.args(tmp_path, tmp_path / "e"), "--strict").status == 1

    def test_bad_points_lose_only_their_object(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        clip = video(narrative((trace(2, 5.5 / W, 4.5 / H), trace(6, 20.5 / W, 14.5 / H))))
        outside = record("out", "ball", (20, 14), outside=(99, 3))
        lost = record("lost", "ball", (5, 4))
        marks = (*lost.points, AnnotatedPoint(1, 1, "000077", 1))
        self.make(
            tmp_path, [outside, PointRecord(key="lost", object_name="ball", video_name="train/v", points=marks)], clip
        )
        ended = cli(*self.args(tmp_path, tmp_path / "d"))
        assert ended.status == 0
        (converted,) = VngDataset(tmp_path / "d")
        assert [o.object_id for o in converted.objects] == ["lost"]
        reasons = " ".join(str(p) for p in read_problems(tmp_path / "d" / "problems.jsonl"))
        assert "point (99, 3) is outside the frame of 30x20 pixels" in reasons and "frame '000077' is not in" in reasons

    @pytest.mark.parametrize(
        ("change", "status", "words"),
        [
            (["--segmenter", "magic"], 2, "unknown segmenter 'magic'; choose one of: classical, dynamite, embedded"),
            (["--propagator", "magic"], 2, "unknown propagator 'magic'"),
            (["--propagator", "sam2"], 2, "propagator 'sam2' has no weights of its own; name a checkpoint"),
            (["--propagator-checkpoint", "x"], 2, "--propagator-checkpoint requires --propagator NAME"),
            (["--held-out", "1.5"], 2, "held-out"),
            (["--points", "none.json"], 1, "none.json: no such file"),
            (["--nouns", "no_pipe"], 2, "no_pipe"),
        ],
    )
    def test_wrong_calls(self, tmp_path: Path, cli: Callable[..., Cli], change: list, status: int, words: str) -> None:
        self.make(tmp_path, [record("good", "ball", (5, 4))])
        ended = cli(*self.args(tmp_path, tmp_path / "d"), *change)
        assert ended.status == status and words in ended.err and ended.err.count("\n") == 1
        assert not (tmp_path / "d" / "data").exists()

    def test_nothing_left_is_an_error(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        self.make(tmp_path, [PointRecord(key="a", object_name="ball", video_name="train/../v", points=())])
        ended = cli(*self.args(tmp_path, tmp_path / "d"))
        assert ended.status == 1 and "problems.jsonl: no video could be converted; see the reasons there" in ended.err
        (problem,) = read_problems(tmp_path / "d" / "problems.jsonl")
        assert problem.record == "a" and not (tmp_path / "d" / "data").exists()

    def test_video_name_that_leads_out(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        points = record("a", "ball", (5, 4)).points
        self.make(
            tmp_path,
            [PointRecord(key="a", object_name="ball", video_name="train/../v", points=points)],
            video(narrative(nouns=((6, 10),)), name="../v"),
        )
        write_frames(tmp_path / "v", np.full((T, H, W, 3), 90, np.uint8))
        assert cli(*self.args(tmp_path, tmp_path / "d")).status == 1
        assert "leads out of its folder" in read_problems(tmp_path / "d" / "problems.jsonl")[0].reason
        assert not (tmp_path / "d" / "data").exists()

    def test_killed_conversion_goes_on(
        self, tmp_path: Path, world: Path, cli: Callable[..., Cli], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def args(out: str) -> list[object]:
            return [
                "convert",
                "point-vos",
                *QUICK,
                "--points",
                world / "points.json",
                "--narratives",
                world / "vidln.jsonl",
                "--frames",
                world / "frames",
                "--out",
                tmp_path / out,
                "--quiet",
            ]

        import conversion.narrated as videos

        calls = []
        original = videos.make_pseudo_masks

        def dies(*arguments: object, **options: object) -> object:
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return original(*arguments, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(videos, "make_pseudo_masks", dies)
        assert cli(*args("broken")).status == 130 and not (tmp_path / "broken" / "data").exists()
        assert cli(*args("broken")).status == 0 and len(calls) == 6
        assert cli(*args("whole")).status == 0
        hashes = [
            {
                p.name: hashlib.sha256(p.read_bytes()).hexdigest()
                for p in sorted((tmp_path / out).rglob("*"))
                if p.is_file()
            }
            for out in ("broken", "whole")
        ]
        assert hashes[0] == hashes[1] and len(hashes[0]) >= 3

    def test_convert_vidln_keeps_or_reports_every_noun(
        self, tmp_path: Path, world: Path, cli: Callable[..., Cli]
    ) -> None:
        ended = cli(
            "convert",
            "vidln",
            *QUICK,
            "--narratives",
            world / "vidln.jsonl",
            "--frames",
            world / "frames",
            "--out",
            tmp_path / "d",
            "--quiet",
            "--nouns",
            "noun_segments",
        )
        assert ended.status == 0, ended.err
        read = {v.video_id: v for v in vidln_format.read_vidln(world / "vidln.jsonl")}
        problems = read_problems(tmp_path / "d" / "problems.jsonl")
        for converted in VngDataset(tmp_path / "d"):
            source = read[converted.video_id]
            assert [n.description for n in converted.narratives] == [n.caption for n in source.narratives]
            for index, item in enumerate(source.narratives):
                for start, end in item.noun_segments:
                    kept = [e for e in converted.expressions if (e.narrative, e.start, e.end) == (index, start, end)]
                    told = [
                        p
                        for p in problems
                        if f"[{index}].noun [{start}, {end})" in p.field and converted.video_id in p.record
                    ]
                    assert len(kept) + len(told) == 1
                    count = sum(len(part) for part in trace_segment(item, start, end))
                    if kept:
                        assert len(converted.object_by_id[kept[0].object_id].points) == count

    def test_sigkill_and_again_gives_the_same_bytes(self, tmp_path: Path, world: Path) -> None:
        def start(out: str) -> subprocess.Popen:
            words = [
                "convert",
                "point-vos",
                *QUICK,
                "--points",
                world / "points.json",
                "--narratives",
                world / "vidln.jsonl",
                "--frames",
                world / "frames",
                "--out",
                tmp_path / out,
                "--quiet",
            ]
            return subprocess.Popen([sys.executable, "-m", "vng.cli", *map(str, words)], stdout=subprocess.DEVNULL)

        process, whole_run = start("broken"), start("whole")
        deadline = time.monotonic() + 60
        while (
            not list((tmp_path / "broken" / ".partial").glob("00000/0000000[1-9].parquet"))
            and time.monotonic() < deadline
        ):
            assert process.poll() is None, "ended before it could be killed"
            time.sleep(0.005)
        process.kill()
        process.wait()
        assert not (tmp_path / "broken" / "data").exists()
        assert start("broken").wait() == 0 and whole_run.wait() == 0
        files = sorted(p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole").rglob("*") if p.is_file())
        assert len(files) >= 3
        assert files == sorted(
            p.relative_to(tmp_path / "broken") for p in (tmp_path / "broken").rglob("*") if p.is_file()
        )
        for file in files:
            assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "broken" / file).read_bytes(), file

    def test_mended_frames_are_tried_again(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        self.make(tmp_path, [record("good", "ball", (5, 4))])
        (tmp_path / "frames" / "v").rename(tmp_path / "elsewhere")
        assert cli(*self.args(tmp_path, tmp_path / "d")).status == 1
        (tmp_path / "elsewhere").rename(tmp_path / "frames" / "v")
        assert cli(*self.args(tmp_path, tmp_path / "d")).status == 0
        assert VngDataset(tmp_path / "d").video_ids == ["v"] and not (tmp_path / "d" / "problems.jsonl").exists()

    def test_a_missing_frame_is_never_another_one(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        self.make(tmp_path, [record("good", "ball", (5, 4))])
        (tmp_path / "frames" / "v" / "000001.png").rename(tmp_path / "frames" / "v" / "000007.png")
        (tmp_path / "frames" / "v" / "000002.png").rename(tmp_path / "frames" / "v" / "000009.png")
        assert cli(*self.args(tmp_path, tmp_path / "d")).status == 0
        assert VngDataset(tmp_path / "d")[0].frame_names == ("000000",)
        assert "frame '000002' is not in" in read_problems(tmp_path / "d" / "problems.jsonl")[0].reason

    def test_doubled_records_and_lines(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        self.make(tmp_path, [])
        line = json.dumps({"a": as_json(record("a", "ball", (5, 4)))})
        (tmp_path / "p.json").write_text(f"{line}\n{line}\n")
        narratives = (tmp_path / "n.jsonl").read_text()
        (tmp_path / "n.jsonl").write_text(narratives * 2)
        assert cli(*self.args(tmp_path, tmp_path / "d")).status == 0
        reasons = [p.reason for p in read_problems(tmp_path / "d" / "problems.jsonl")]
        assert len(reasons) == 2 and "this video repeats" in reasons[0] and "this key repeats" in reasons[1]
        assert len(VngDataset(tmp_path / "d")[0].objects) == 1

    def test_odd_line_separators_in_names(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        odd = "b\u2028all\x85"
        self.make(tmp_path, [record("good", "ball", (5, 4)), record("odd", odd, (5, 4))])
        assert cli(*self.args(tmp_path, tmp_path / "d")).status == 0
        (problem,) = read_problems(tmp_path / "d" / "problems.jsonl")
        assert odd.split("\u2028")[0] in problem.reason

    def test_frames_named_otherwise(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        self.make(tmp_path, [])
        for path in sorted((tmp_path / "frames" / "v").iterdir()):
            path.rename(path.with_name("shot_" + path.name))
        ended = cli(
            "convert",
            "vidln",
            "--narratives",
            tmp_path / "n.jsonl",
            "--frames",
            tmp_path / "frames",
            "--out",
            tmp_path / "d",
            "--quiet",
        )
        assert ended.status == 1
        assert "none of its key frames" in read_problems(tmp_path / "d" / "problems.jsonl")[-1].reason

    def test_real_narratives(self, tmp_path: Path, shared: Path, cli: Callable[..., Cli]) -> None:
        """Every noun of the three OVIS narratives is in the dataset; their frames are found by name."""
        root = shared / "vidln"
        ended = cli(
            "convert",
            "vidln",
            "--narratives",
            root / "vidlns" / "OVIS_train_sample.jsonl",
            "--frames",
            root / "frames" / "OVIS_train",
            "--out",
            tmp_path / "d",
            "--quiet",
            "--json",
        )
        assert ended.status == 0, ended.err
        totals = json.loads(ended.out)
        assert (totals["videos"], totals["narratives"], totals["expressions"]) == (3, 7, 36)

    def test_propagator_fills_every_frame(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        self.make(tmp_path, [record("good", "ball", (5, 4))])
        assert cli(*self.args(tmp_path, tmp_path / "d"), "--propagator", "flow").status == 0
        (converted,) = VngDataset(tmp_path / "d")
        assert len(converted.frame_names) == T and all(s is not None for s in converted.objects[0].segmentations)

    def test_export_and_back(self, tmp_path: Path, dataset: Path, cli: Callable[..., Cli]) -> None:
        assert cli("export", dataset, "--format", "official", "--out", tmp_path / "trio").status == 0
        files = TrioFiles.of(tmp_path / "trio")
        ended = cli(
            "convert",
            "vng",
            "--meta",
            files.meta,
            "--extra-masks",
            files.extra_masks,
            "--orig-masks",
            files.orig_masks,
            "--out",
            tmp_path / "back",
            "--quiet",
        )
        assert ended.status == 0, ended.err
        for first, second in zip(VngDataset(dataset), VngDataset(tmp_path / "back"), strict=True):
            assert first.expressions == second.expressions and first.narratives == second.narratives
            assert [o.segmentations for o in first.objects] == [o.segmentations for o in second.objects]
