"""Propagation through a dataset, in the layout of the benchmark."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers import ROOT, Cli, H, T, W, box, make_video
from tests.propagation.clip import FRAMES, Echo
from vng.dataset import Video, VideoObject, VngDataset
from vng.dataset_writer import write_dataset
from vng.errors import DataError
from vng.evaluation.vos.runs import Run, VideoPredictions
from vng.frames import Frames
from vng.label_maps import write_label_map
from vng.masks import decode, empty, encode
from vng.points import Points
from vng.propagation.dataset import Benchmark, first_mask, first_points, prompts_of, propagate_dataset
from vng.propagators import FramePrompts, check_prompts


def masked(name: str, points: bool = False) -> Video:
    """Objects "red" from frame 0, "late" from frame 1, "never" without a mask; with their points, or without any."""
    video = make_video(name)
    big = np.zeros((H, W), bool)
    big[3:17, 2:28] = True
    told = (
        Points([1, 1, 1, 2, 0], [(3, 4), (9, 8), (20, 12), (5, 5), (1, 1)], [1, 1, 1, 1, 0])
        if points
        else Points.none()
    )
    late = (empty(H, W), encode(box(11, 18, 17, 27)), None)
    objects = (
        VideoObject("red", "", "davis", (encode(big), None, encode(big))),
        VideoObject("late", "", "davis", late, told),
        VideoObject("never", "", "davis", (None, empty(H, W), None)),
    )
    from dataclasses import replace

    return replace(video, expressions=(), narratives=(), objects=objects)


class TestADataset:
    def test_first_masks_and_points(self) -> None:
        video = masked("v")
        red, late, never = video.objects
        assert first_mask(red).frame == 0 and first_mask(late).frame == 1 and first_mask(never) is None  # type: ignore[union-attr]
        start = first_points(video, late, 4, 0)
        assert (
            start is not None
            and start.frame == 1
            and decode(late.segmentations[1])[tuple(start.xy[0][::-1].astype(int))]
        )  # type: ignore[arg-type,index]
        ten, two = first_points(video, red, 10, 0), first_points(video, red, 2, 0)
        assert ten is not None and two is not None and ten.xy is not None and two.xy is not None
        assert (ten.xy[:2] == two.xy).all() and len(ten.xy) == 10
        gaps = np.linalg.norm(ten.xy[:, None] - ten.xy, axis=-1)[~np.eye(10, dtype=bool)]
        assert gaps.min() >= 20 * H / 480
        for other in (first_points(video, red, 2, 1), first_points(masked("w"), red, 2, 0)):
            assert other is not None and (other.xy != two.xy).any()
        assert first_points(video, never, 2, 0) is None

    def test_verified_points_come_first(self) -> None:
        video = masked("v", points=True)
        late = video.objects[1]
        starts = [first_points(video, late, count, seed) for count in (1, 2, 9) for seed in range(4)]
        drawn = {tuple(map(tuple, start.xy.tolist())) for start in starts if start is not None and start.xy is not None}
        assert {start.frame for start in starts if start is not None} == {1}
        assert {len(points) for points in drawn} == {1, 2, 3} and {p for points in drawn for p in points} == {
            (3, 4),
            (9, 8),
            (20, 12),
        }

    def test_prompts_by_first_frame(self) -> None:
        video = masked("v")
        starts = [first_mask(video.objects[0]), first_mask(video.objects[1])]
        prompts = prompts_of([start for start in starts if start is not None])
        assert sorted(prompts) == [0, 1] and prompts[0].masks[1] is None and prompts[1].masks[0] is None
        assert prompts[1].masks[1].sum() == 54 and check_prompts(FRAMES, prompts) == 2  # type: ignore[union-attr]

    @pytest.fixture
    def data(self, tmp_path: Path) -> VngDataset:
        write_dataset(tmp_path / "data", [masked("one"), masked("two words", points=True)], "hand-made")
        return VngDataset(tmp_path / "data")

    def test_runs_over_points_and_seeds(self, tmp_path: Path, data: VngDataset) -> None:
        engine, out = Echo(), tmp_path / "results"
        benchmark = Benchmark("points", (2, 1), (0, 5))
        result = propagate_dataset(engine, data, out, benchmark, {"propagator": "echo"}, progress=False)
        assert result.totals == {"videos": 2, "runs": 4, "made": 8} and engine.calls == [2] * 8
        assert len(result.notes) == 8 and "objects.never: no frame to start from" in str(result.notes[0])
        files = sorted(str(p.relative_to(out)) for p in out.glob("*/*/*"))
        assert files[:2] == ["points-1/seed-0/one.parquet", "points-1/seed-0/two words.parquet"] and len(files) == 8
        reader = VideoPredictions(Run(out / "points-2" / "seed-5"), data[0], "error")
        labels = [reader.read(t, (1, 2)) for t in range(T)]
        assert reader.numbers == {"red": 1, "late": 2, "never": 3} and not reader.problems
        assert [sorted(np.unique(values)) for values in labels if values is not None] == [[0, 1], [0, 1, 2], [0, 1, 2]]

    def test_masks_and_resuming(self, tmp_path: Path, data: VngDataset) -> None:
        import shutil

        out, benchmark = tmp_path / "results", Benchmark("masks")
        png: Any = {"layout": "png", "progress": False}
        propagate_dataset(Echo(), data, out, benchmark, {}, **png)
        before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
        assert (out / "one" / "000002.png") in before and (out / "one" / "objects.json") in before
        shutil.rmtree(out / "two words")
        (out / "two words.tmp").mkdir()
        (out / "two words.tmp" / "000000.png").write_bytes(b"cut short")
        engine = Echo()
        assert propagate_dataset(engine, data, out, benchmark, {}, **png).totals["made"] == 1
        assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before and engine.calls == [2]
        assert propagate_dataset(engine, data, out, benchmark, {}, **png).totals["made"] == 0
        with pytest.raises(DataError, match="layout: an earlier run wrote here with 'png', now 'compact'"):
            propagate_dataset(engine, data, out, benchmark, {}, progress=False)
        with pytest.raises(DataError, match="start: an earlier run wrote here with 'masks', now 'points'"):
            propagate_dataset(engine, data, out, Benchmark("points"), {}, **png)
        with pytest.raises(DataError, match="propagator: an earlier run wrote here with None, now 'flow'"):
            propagate_dataset(engine, data, out, benchmark, {"propagator": "flow"}, **png)
        with pytest.raises(DataError, match="this folder holds something else"):
            propagate_dataset(engine, data, data.path, benchmark, {}, **png)

    def test_an_object_is_nowhere_before_its_first_frame(self, tmp_path: Path, data: VngDataset) -> None:
        class Seer:
            def __call__(self, frames: Frames, prompts: Mapping[int, FramePrompts]) -> Iterator[tuple[int, np.ndarray]]:
                for t in reversed(range(len(frames))):
                    yield t, np.stack([np.full((H, W), 0.6, np.float32), np.full((H, W), 0.9, np.float32)])

        propagate_dataset(Seer(), data, tmp_path / "r", Benchmark("masks"), {}, progress=False, layout="png")
        values = [set(np.unique(np.asarray(Image.open(tmp_path / "r" / "one" / f"{t:06d}.png")))) for t in range(T)]
        assert values == [{1}, {2}, {2}]

    def test_the_command(self, tmp_path: Path, data: VngDataset, cli: Callable[..., Cli]) -> None:
        words = [
            "propagate",
            "--dataset",
            data.path,
            "--out",
            tmp_path / "r",
            "--start",
            "masks",
            "--quiet",
            "--propagator",
            "flow",
        ]
        ended = cli(*words, "--json")
        assert ended.status == 0 and json.loads(ended.out) == {"videos": 2, "runs": 1, "made": 2}, ended.err
        assert "note: hand-made: one: objects.never: no frame to start from: neither a mask" in ended.err
        assert "made" in cli(*words).out
        ended = cli(*words, "--propagator-set", "reach=3")
        assert ended.status == 1 and "settings.reach: an earlier run wrote here with None, now '3'" in ended.err

    def test_two_processes_write_what_one_writes(self, tmp_path: Path, data: VngDataset) -> None:
        words = ["-m", "vng.cli", "propagate", "--dataset", str(data.path), "--quiet"]
        words += ["--start-from", "masks", "--out"]  # torchrun takes --start for one of its own
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", *words, str(tmp_path / "b")]
        alone = subprocess.Popen([sys.executable, *words, str(tmp_path / "a")], cwd=ROOT)
        ended = subprocess.run(torchrun, capture_output=True, text=True, cwd=ROOT)
        assert ended.returncode == 0, ended.stderr
        assert alone.wait() == 0
        found = [
            {p.relative_to(tmp_path / run): p.read_bytes() for p in (tmp_path / run).rglob("*.parquet")} for run in "ab"
        ]
        assert found[0] == found[1] and len(found[0]) == 2


def test_labels_need_no_object(tmp_path: Path) -> None:
    write_label_map(tmp_path / "0.png", np.zeros((0, 4, 5), bool), [])
    with Image.open(tmp_path / "0.png") as image:
        assert image.mode == "P" and not np.asarray(image).any() and image.size == (5, 4)
