"""Conversion at scale: several processes, sudden deaths, damaged files, dry runs."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from conversion.formats.official_vng import TrioFiles
from conversion.spool import make_spool
from tests.helpers import Cli, make_video
from vng.dataset import VngDataset
from vng.dataset_writer import DatasetWriter
from vng.errors import DataError, Problem, read_problems
from vng.frames import VideoFile
from vng.processes import Processes, current_processes, limited_threads


def arguments(world: Path, out: Path) -> list[str]:
    words = [
        "convert",
        "point-vos",
        "--points",
        world / "points.json",
        "--narratives",
        world / "vidln.jsonl",
        "--frames",
        world / "frames",
        "--out",
        out,
        "--quiet",
        "--segmenter",
        "classical",
    ]
    return [str(word) for word in words]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def converted(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world's points converted by one process without disturbance."""
    out = tmp_path_factory.mktemp("converted") / "data set"
    subprocess.run([sys.executable, "-m", "vng.cli", *arguments(world, out)], check=True, capture_output=True)
    return out


def kill_all(process: subprocess.Popen) -> None:
    """SIGKILL to a launcher and all its processes, which have sessions of their own."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        member.kill()
    psutil.wait_procs(family)
    process.wait()


class TestProcesses:
    def start(self, world: Path, out: Path) -> subprocess.Popen:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
        return subprocess.Popen(
            [*launcher, "-m", "vng.cli", *arguments(world, out)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def test_two_processes_killed_and_again_give_the_bytes_of_one(
        self, world: Path, converted: Path, tmp_path: Path
    ) -> None:
        """Both processes and their launcher die by SIGKILL, first while they read and then while they work."""
        draw = random.Random(0)
        for awaited in ("annotations.sqlite", "00000/00000001.json"):
            process = self.start(world, tmp_path / "d")
            deadline = time.monotonic() + 90
            while not (tmp_path / "d" / ".partial" / awaited).exists() and time.monotonic() < deadline:
                assert process.poll() is None, "ended before it could be killed"
                time.sleep(0.005)
            time.sleep(draw.random() / 5)
            kill_all(process)
            assert not (tmp_path / "d" / "data").exists()
        assert self.start(world, tmp_path / "d").wait(timeout=120) == 0
        assert files_of(tmp_path / "d") == files_of(converted)

    def test_where_main_fails_the_others_stop_quietly(self, world: Path, tmp_path: Path) -> None:
        words = [str(tmp_path) if word == str(world / "frames") else word for word in arguments(world, tmp_path / "d")]
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
        ended = subprocess.run([*launcher, "-m", "vng.cli", *words], capture_output=True, text=True, timeout=120)
        ours = [line for line in ended.stderr.splitlines() if line.startswith("vng:")]
        assert ended.returncode != 0 and len(ours) == 1 and "no video could be converted" in ours[0]
        assert "Connection closed by peer" not in ended.stderr

    def test_alone_without_a_launcher(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("WORLD_SIZE", raising=False)
        alone = current_processes()
        alone.wait()
        assert alone == Processes(0, 1) and alone.is_main and not Processes(1, 2).is_main

    def test_threads_are_limited_and_given_back(self) -> None:
        import cv2

        before = cv2.getNumThreads()
        with limited_threads(1):
            assert cv2.getNumThreads() == 1
        assert cv2.getNumThreads() == before
        with limited_threads(0):
            assert cv2.getNumThreads() == before


class TestDamage:
    def write(self, out: Path, count: int = 3) -> DatasetWriter:
        writer = DatasetWriter(out, {}, shard_bytes=1)
        for index in range(count):
            writer.write(
                index, [make_video(str(index), index).as_row()], [Problem("f", record=str(index), reason="odd")]
            )
        return writer

    @pytest.mark.parametrize("fault", ["cut", "flipped", "no record", "broken record", "no rows"])
    def test_a_damaged_part_is_not_done(self, tmp_path: Path, fault: str) -> None:
        writer = self.write(tmp_path)
        rows = tmp_path / ".partial" / "00000" / "00000001.parquet"
        record = rows.with_suffix(".json")
        data = rows.read_bytes()
        if fault == "cut":
            rows.write_bytes(data[:-9])
        elif fault == "flipped":
            rows.write_bytes(data[:500] + bytes([data[500] ^ 1]) + data[501:])
        elif fault == "no record":
            record.unlink()
        elif fault == "broken record":
            record.write_text('{"sha256": 1')
        else:
            rows.unlink()
        assert [writer.done(i) for i in range(3)] == [True, False, True]

    def test_a_damaged_shard_is_found_and_made_again(
        self, world: Path, converted: Path, tmp_path: Path, cli: Callable[..., Cli]
    ) -> None:
        expected = files_of(converted)
        (shard,) = (converted / "data").iterdir()
        data = shard.read_bytes()
        for fault in (data[:-100], data[:900] + bytes([data[900] ^ 255]) + data[901:], None):
            if fault is None:
                shard.unlink()
            else:
                shard.write_bytes(fault)
            assert cli(*arguments(world, converted)).status == 0
            assert files_of(converted) == expected
        assert cli(*arguments(world, converted)).status == 0  # nothing to mend: nothing happens

    def test_a_shard_that_cannot_come_back_as_it_was(self, tmp_path: Path) -> None:
        writer = self.write(tmp_path)
        writer.finish(3, "t", "")
        path = tmp_path / "data" / "train-00001-of-00003.parquet"
        path.write_bytes(b"PAR1")
        (broken,) = writer.broken_shards()
        assert (broken.file, list(broken.parts)) == (path.name, [1])
        with pytest.raises(DataError, match="written again it differs from the original"):
            writer.mend(broken, [(1, [make_video("other", 7).as_row()], [])])
        assert path.read_bytes() == b"PAR1"  # the rest of the dataset is left as it is
        writer.mend(broken, [(1, [make_video("1", 1).as_row()], [Problem("f", record="1", reason="odd")])])
        assert not list(writer.broken_shards()) and VngDataset(tmp_path).video_ids == ["0", "1", "2"]

    def test_shards_of_parts_that_changed_are_made_again(
        self, world: Path, converted: Path, tmp_path: Path, cli: Callable[..., Cli], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A run without one video's frames dies in its last step; the frames come back, and so must the video."""
        frames = tmp_path / "frames"
        shutil.copytree(world / "frames", frames)
        hidden = sorted(frames.iterdir())[1]
        hidden.rename(tmp_path / "hidden")
        words = [frames if word == str(world / "frames") else word for word in arguments(world, tmp_path / "d")]

        def dies(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(DatasetWriter, "_seal", dies)
            assert cli(*words).status == 130
        stale = tmp_path / "d" / ".partial" / "final" / "data" / "train-00007-of-00009.parquet"
        stale.write_bytes(b"of another plan")
        (tmp_path / "hidden").rename(hidden)
        assert cli(*words).status == 0
        assert files_of(tmp_path / "d") == files_of(converted)

    @pytest.mark.parametrize("damage", ["junk", "empty", "torn"])
    def test_a_damaged_spool_is_made_again(
        self, world: Path, converted: Path, tmp_path: Path, cli: Callable[..., Cli], damage: str
    ) -> None:
        assert cli(*arguments(world, tmp_path / "d"), "--dry-run").status == 0
        writer = DatasetWriter(tmp_path / "d", json.loads((converted / "manifest.json").read_text())["settings"])
        spool = writer.partial / "annotations.sqlite"
        make_spool(spool, lambda spool: None)
        data = spool.read_bytes()
        spool.write_bytes({"junk": b"junk", "empty": b"", "torn": data[: len(data) // 2]}[damage])
        assert cli(*arguments(world, tmp_path / "d")).status == 0
        assert files_of(tmp_path / "d") == files_of(converted)

    def test_damaged_manifests_are_told(
        self, world: Path, converted: Path, tmp_path: Path, cli: Callable[..., Cli]
    ) -> None:
        shutil.copytree(converted, tmp_path / "d")
        for text in ('{"settings": {', "{}", "7"):
            (tmp_path / "d" / "manifest.json").write_text(text)
            ended = cli(*arguments(world, tmp_path / "d"))
            assert ended.status == 1 and "manifest.json: this manifest is damaged" in ended.err

    def test_folders_that_cannot_be_written(
        self, world: Path, converted: Path, tmp_path: Path, cli: Callable[..., Cli]
    ) -> None:
        (tmp_path / "file").write_text("")
        for words in (
            arguments(world, tmp_path / "file" / "x"),
            ["compare", converted, converted, "--quiet", "--html", tmp_path / "file"],
        ):
            ended = cli(*words)
            assert ended.status == 1 and ended.err.startswith("vng: ") and "file" in ended.err.splitlines()[-1]

    def test_rows_of_several_splits(self, tmp_path: Path) -> None:
        from dataclasses import replace

        writer = DatasetWriter(tmp_path, {})
        for index, split in enumerate(("train", "val", "train")):
            writer.write(index, [replace(make_video(str(index)), split=split).as_row()])
        writer.finish(3, "t", "")
        assert VngDataset(tmp_path, "train").video_ids == ["0", "2"] and VngDataset(tmp_path, "val").video_ids == ["1"]


class TestChoices:
    def test_dry_run_writes_nothing(self, world: Path, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        ended = cli(*arguments(world, tmp_path / "d"), "--dry-run", "--json")
        told = json.loads(ended.out)
        assert ended.status == 0 and not (tmp_path / "d").exists()
        assert (told["videos"], told["done"], told["problems"]) == (5, 0, 0) and told["records"] > 5
        pace = 5 * told["seconds_per_video"]
        assert told["seconds_left"] == pytest.approx(told["start_seconds"] + pace) and told["bytes_left"] > 1000
        assert told["tried"] == told["converted"] == 5 and told["trial_problems"] == []
        assert "about 0:00:" in cli(*arguments(world, tmp_path / "d"), "--dry-run").out

    def test_dry_run_where_nothing_can_be_converted(self, world: Path, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        (tmp_path / "none").mkdir()
        words = [str(tmp_path / "none") if word == str(world / "frames") else word for word in arguments(world, "d")]
        ended = cli(*words, "--dry-run")
        assert ended.status == 1 and "0 of 5 videos that were tried could be converted" in ended.out
        assert "no folder of frames and no video file of this name" in ended.err
        assert ended.err.endswith("vng: nothing could be converted\n") and not (tmp_path / "d").exists()
        told = json.loads(cli(*words, "--dry-run", "--json").out)
        assert told["converted"] == 0 and len(told["trial_problems"]) == 5

    def test_dry_run_names_what_it_meets(self, world: Path, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        shutil.copytree(world / "frames", tmp_path / "frames")
        shutil.rmtree(sorted((tmp_path / "frames").iterdir())[2])
        words = [str(tmp_path / "frames") if word == str(world / "frames") else word for word in arguments(world, "d")]
        ended = cli(*words, "--dry-run")
        assert ended.status == 0 and "4 of 5 videos that were tried could be converted" in ended.out
        assert "problems: 0 while reading, 1 in the videos that were tried" in ended.err

    def test_start_up_counts_once(self, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The first video of a trial is slow: the others are not taken to be."""
        import conversion
        from conversion import build

        slept: list[int] = []

        def slow(*values: object) -> object:
            time.sleep(0.01 if slept else 3.0)
            slept.append(1)
            return [make_video(f"v{len(slept)}").as_row()], []

        monkeypatch.setattr(build, "_rows", slow)
        told = conversion.estimate(
            "point-vos",
            tmp_path / "d",
            points=world / "points.json",
            narratives=world / "vidln.jsonl",
            frames=world / "frames",
            segmenter="classical",
            progress=False,
        )
        assert told.converted == told.tried == 5 and told.seconds_per_video is not None
        assert told.seconds_per_video < 1.0 < told.start_seconds - 1.0

    def test_dry_run_of_a_finished_dataset(
        self, world: Path, converted: Path, tmp_path: Path, cli: Callable[..., Cli]
    ) -> None:
        before = files_of(converted)
        told = json.loads(cli(*arguments(world, converted), "--dry-run", "--json").out)
        assert told["done"] == 5 and told["seconds_left"] is None and files_of(converted) == before

    def test_only_some_videos(self, world: Path, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        names = [json.loads(line)["video_id"] for line in (world / "vidln.jsonl").read_text().splitlines()]
        ended = cli(*arguments(world, tmp_path / "d"), "--only", names[3], "--only", names[1], "--only", "nope")
        assert ended.status == 0 and VngDataset(tmp_path / "d").video_ids == [names[1], names[3]]
        (problem,) = read_problems(tmp_path / "d" / "problems.jsonl")
        assert problem.record == "'nope'" and "not in this file" in problem.reason
        refused = cli(*arguments(world, tmp_path / "d"), "--only", names[0])
        assert refused.status == 1 and "only: an earlier run wrote here" in refused.err

    def test_dry_run_of_a_damaged_dataset(
        self, world: Path, converted: Path, tmp_path: Path, cli: Callable[..., Cli]
    ) -> None:
        shutil.copytree(converted, tmp_path / "d")
        next((tmp_path / "d" / "data").iterdir()).write_bytes(b"PAR1")
        told = json.loads(cli(*arguments(world, tmp_path / "d"), "--dry-run", "--json").out)
        assert told["done"] == 0 and told["seconds_left"] > 0

    def test_asked_for_without_points(self, world: Path, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        name = json.loads((world / "vidln.jsonl").read_text().splitlines()[2])["video_id"]
        points = json.loads((world / "points.json").read_text())
        kept = {key: value for key, value in points.items() if not value["video_name"].endswith(name)}
        (tmp_path / "p.json").write_text(json.dumps(kept))
        words = [
            tmp_path / "p.json" if word == str(world / "points.json") else word
            for word in arguments(world, tmp_path / "d")
        ]
        assert cli(*words, "--only", name).status == 1
        (problem,) = read_problems(tmp_path / "d" / "problems.jsonl")
        assert problem.file.endswith("p.json") and problem.record == repr(name)

    def test_frames_that_come_later_make_another_dataset(
        self, world: Path, tmp_path: Path, cli: Callable[..., Cli]
    ) -> None:
        trio = TrioFiles.of(world / "vng")
        words = [
            "convert",
            "vng",
            "--meta",
            trio.meta,
            "--extra-masks",
            trio.extra_masks,
            "--orig-masks",
            trio.orig_masks,
            "--out",
            tmp_path / "d",
            "--quiet",
        ]
        assert cli(*words).status == 0
        ended = cli(*words, "--frames", world / "frames")
        assert ended.status == 1 and "with_frames: an earlier run wrote here with False, now True" in ended.err

    def test_only_what_a_list_names(
        self, world: Path, converted: Path, tmp_path: Path, cli: Callable[..., Cli]
    ) -> None:
        first = VngDataset(converted)[0]
        key, other = first.objects[0].object_id, VngDataset(converted)[2].video_id
        (tmp_path / "list.txt").write_text(f"{key}\ntrain/{other}\nnobody\n")
        assert cli(*arguments(world, tmp_path / "d"), "--subset", tmp_path / "list.txt").status == 0
        found = {v.video_id: [o.object_id for o in v.objects] for v in VngDataset(tmp_path / "d")}
        assert list(found) == [first.video_id, other] and found[first.video_id] == [key]
        (problem,) = read_problems(tmp_path / "d" / "problems.jsonl")
        assert "'nobody'" in problem.reason
        (tmp_path / "none.txt").write_text("nobody\n")
        ended = cli(*arguments(world, tmp_path / "e"), "--subset", tmp_path / "none.txt")
        assert ended.status == 1 and "none of its 1 names" in ended.err and not (tmp_path / "e" / "data").exists()
        assert cli(*arguments(world, tmp_path / "e"), "--subset", tmp_path / "no.txt").status == 1

    def test_low_agreement_is_left_out_and_said(
        self, world: Path, converted: Path, tmp_path: Path, cli: Callable[..., Cli]
    ) -> None:
        shares = {o.object_id: o.quality.point_agreement for v in VngDataset(converted) for o in v.objects}
        least = float(np.median([share for share in shares.values() if share is not None])) + 1e-4
        low = {key for key, share in shares.items() if share is not None and share < least}
        assert low
        assert cli(*arguments(world, tmp_path / "d"), "--min-agreement", f"{least:.9f}").status == 0
        kept = {o.object_id for v in VngDataset(tmp_path / "d") for o in v.objects}
        told = [p for p in read_problems(tmp_path / "d" / "problems.jsonl") if "point agreement" in p.reason]
        assert kept == set(shares) - low and {p.record for p in told} == low
        assert all(p.kind == "note" for p in told)

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--min-agreement", "2"], "--min-agreement 2.0: expected a share in"),
            (["--min-agreement", "0.5", "--held-out", "0"], "requires held-out points"),
        ],
    )
    def test_wrong_calls(
        self, world: Path, tmp_path: Path, cli: Callable[..., Cli], words: list[str], message: str
    ) -> None:
        ended = cli(*arguments(world, tmp_path / "d"), *words)
        assert ended.status == 2 and message in ended.err and not (tmp_path / "d").exists()


def test_linked_films_are_indexed_by_the_conversion(
    world: Path, tmp_path: Path, cli: Callable[..., Cli], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vng.frames import film_index, open_frames
    from vng.viewer import write_video

    for folder in (world / "frames").iterdir():
        write_video(iter(open_frames(folder)), tmp_path / "films" / f"{folder.name}.mp4", fps=5)
    trio = TrioFiles.of(world / "vng")
    files = ["--meta", trio.meta, "--extra-masks", trio.extra_masks, "--orig-masks", trio.orig_masks]
    ended = cli("convert", "vng", *files, "--frames", tmp_path / "films", "--link-frames", "--out", tmp_path / "d")
    assert ended.status == 0 and len(list((tmp_path / "d" / "frame_index").rglob("*.npz"))) == 5
    film_index._film_index.cache_clear()
    monkeypatch.setattr(film_index, "_scanned", lambda path: pytest.fail("decoded to find its frames"))
    for video in VngDataset(tmp_path / "d"):
        last, first = video.opened_frames().read([len(video.frame_names) - 1, 0])
        assert last.shape == first.shape == (video.height, video.width, 3)


def test_a_video_file_is_decoded_once_for_a_subset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vng.viewer import write_video

    path = tmp_path / "v.mp4"
    write_video(iter([np.full((32, 48, 3), 20 * t, np.uint8) for t in range(9)]), path, fps=5)
    file, passes = VideoFile(path), []
    original = file._decode
    monkeypatch.setattr(file, "_decode", lambda *wanted: passes.append(wanted) or original(*wanted))
    some = file.subset([7, 2, 4])
    assert [round(float(some[i].mean()), -1) for i in (0, 1, 2, 1)] == [140, 40, 80, 40]
    assert some.encoded(2)[:2] == b"\xff\xd8" and passes == [(0, {2, 4, 7})]
