"""Scores of video object segmentation: the official numbers, each protocol's decisions, and every fault told at once."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers import Cli
from vng.dataset import Video, VideoObject
from vng.dataset_writer import write_dataset
from vng.errors import DataError, DataErrors, UsageError
from vng.evaluation.metrics import boundary_f, jaccard
from vng.evaluation.vos.frame_sparsity import evenly_spaced, study_frame_sparsity
from vng.evaluation.vos.scores import Protocol, Run, VosScores, evaluate_vos, find_runs, object_numbers, plain_run
from vng.evaluation.vos.tables import benchmark_mean, point_counts, read_seen, table
from vng.masks import decode, encode
from vng.points import NEGATIVE, POSITIVE, Points

H, W, T = 18, 25, 6
Layers = Mapping[str, Sequence[np.ndarray | None]]  # object id -> mask [H, W] or None for each frame


def disc(x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:H, :W]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


NOTHING = np.zeros((H, W), bool)
TWO: Layers = {  # "1" walks right, "2" walks down and is hidden once
    "1": [disc(6 + t, 7, 4) for t in range(T)],
    "2": [disc(19, 6 + t, 3) if t != 3 else NOTHING for t in range(T)],
}


def make(
    name: str, layers: Layers, names: Mapping[str, str] | None = None, points: Mapping[str, Points] | None = None
) -> Video:
    """A video without pixels of these masks."""
    objects = tuple(
        VideoObject(
            i,
            (names or {}).get(i, ""),
            "orig_masks",
            tuple(None if mask is None else encode(mask) for mask in masks),
            (points or {}).get(i, Points.none()),
        )
        for i, masks in layers.items()
    )
    frames = tuple(f"{5 * t:05d}" for t in range(len(next(iter(layers.values())))))
    return Video(
        video_id=name,
        dataset="hand-made",
        split="val",
        height=H,
        width=W,
        fps=0.0,
        frame_names=frames,
        narratives=(),
        expressions=(),
        objects=objects,
    )


def at(*frames: int) -> Points:
    """A negative point on frame 0, a positive one on each of these."""
    return Points([0, *frames], [(1, 1)] * (1 + len(frames)), [NEGATIVE] + [POSITIVE] * len(frames))


def save(labels: np.ndarray, path: Path, mode: str = "P") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels.astype(np.uint8))
    if mode == "P":
        image.putpalette([value for i in range(256) for value in (i, 255 - i, i // 2)])
    image.save(path)


def predict(video: Video, folder: Path, shift: int = 0, numbers: Mapping[str, int] | None = None) -> None:
    """Write a video's true masks, moved right by `shift` pixels, as predictions."""
    for t, name in enumerate(video.frame_names):
        labels = np.zeros((H, W), np.uint8)
        for i, number in (numbers or object_numbers(video)).items():
            rle = video.object_by_id[i].segmentations[t]
            if rle is not None:
                labels[np.roll(decode(rle), shift, 1)] = number
        save(labels, folder / video.video_id / f"{name}.png")


def score(video: Video | Sequence[Video], folder: Path, name: str = "davis", **how: object) -> VosScores:
    missing = how.pop("missing", "error")
    videos = [video] if isinstance(video, Video) else video
    return evaluate_vos(videos, [plain_run(folder, [])], Protocol(name, **how), missing)[0]  # type: ignore[arg-type]


class TestObjectNumbers:
    @pytest.mark.parametrize(
        ("ids", "numbers"),
        [
            (["2", "1", "254"], [2, 1, 254]),
            (["2", "255"], [1, 2]),
            (["0", "1"], [1, 2]),
            (["01", "1"], [1, 2]),
            (["4850600790259722026", "ball"], [1, 2]),
            ([], []),
        ],
    )
    def test_ids_or_places(self, ids: list[str], numbers: list[int]) -> None:
        video = replace(make("v", TWO), objects=tuple(VideoObject(i, "", "", (None,) * T) for i in ids))
        assert object_numbers(video) == dict(zip(ids, numbers, strict=True))

    def test_too_many(self) -> None:
        video = replace(make("v", TWO), objects=tuple(VideoObject(f"o{i}", "", "", (None,) * T) for i in range(255)))
        with pytest.raises(DataError, match="255 objects, a label map holds 254"):
            object_numbers(video)

    def test_said_by_the_predictions(self, tmp_path: Path) -> None:
        video = make("v", {"a": TWO["1"], "b": TWO["2"]})
        predict(video, tmp_path, numbers={"a": 7, "b": 3})
        with pytest.raises(DataErrors, match=r"numbers \[3, 7\], which no object has \(objects: 1, 2\)"):
            score(video, tmp_path)
        (tmp_path / "v" / "objects.json").write_text('{"b": 3, "a": 7}')
        assert score(video, tmp_path).summary().jf == 1.0

    @pytest.mark.parametrize(
        ("said", "words"),
        [
            ("[1]", "expected {object id: number"),
            ('{"a": 1, "b": 255}', "expected {object id: number"),
            ('{"a": 1, "b": true}', "expected {object id: number"),
            ('{"a": 1, "b": 1}', "two objects have the same number"),
            ('{"a": 1, "c": 2}', "'b' is in only one of them"),
            ("{", "expected {object id: number"),
        ],
    )
    def test_said_wrongly(self, tmp_path: Path, said: str, words: str) -> None:
        video = make("v", {"a": TWO["1"], "b": TWO["2"]})
        predict(video, tmp_path)
        (tmp_path / "v" / "objects.json").write_text(said)
        with pytest.raises(DataErrors, match=r"objects\.json") as raised:
            score(video, tmp_path)
        assert words in str(raised.value) and len(raised.value.problems) == 1


class TestDavis:
    def test_the_measures_without_first_and_last_frame(self, tmp_path: Path) -> None:
        video = make("v", TWO)
        predict(video, tmp_path, 2)
        scores = score(video, tmp_path)
        assert [s.frames for s in scores.objects] == [("00005", "00010", "00015", "00020")] * 2
        truth = np.stack([mask for mask in TWO["1"][1:-1] if mask is not None])
        moved = np.roll(truth, 2, 2)
        moved &= ~np.roll(np.stack(list(TWO["2"])[1:-1]), 2, 2)  # type: ignore[arg-type]
        np.testing.assert_allclose(scores.objects[0].j, jaccard(truth, moved))
        np.testing.assert_allclose(scores.objects[0].f, boundary_f(truth, moved))
        summary, own = scores.summary(), [scores.statistics(s)[0] for s in scores.objects]
        assert summary.j.mean == pytest.approx((own[0].mean + own[1].mean) / 2)
        assert summary.jf == pytest.approx((summary.j.mean + summary.f.mean) / 2) and 0 < summary.jf < 1
        assert own[1].mean != own[0].mean

    def test_objects_are_pooled_over_sequences(self, tmp_path: Path) -> None:
        videos = [make("a", TWO), make("b", {"1": TWO["1"]})]
        predict(videos[0], tmp_path)
        predict(replace(videos[1], objects=videos[1].objects), tmp_path, W // 2)
        assert score(videos, tmp_path).summary().j.mean == pytest.approx(2 / 3)  # not (1 + 0) / 2
        assert {v: len(rows) for v, rows in score(videos, tmp_path).sequences.items()} == {"a": 2, "b": 1}

    def test_fewer_numbers_score_nothing(self, tmp_path: Path) -> None:
        video = make("v", TWO)
        predict(video, tmp_path, numbers={"1": 1})
        first, second = score(video, tmp_path).objects
        assert first.jf == 1.0 and second.j == (0.0, 0.0, 1.0, 0.0)  # the hidden frame counts as right

    def test_an_object_that_is_not_there_at_first(self, tmp_path: Path) -> None:
        video = make("v", {"1": TWO["1"], "2": [NOTHING, *TWO["2"][1:]]})
        predict(video, tmp_path)
        scores = score(video, tmp_path)
        assert [s.object_id for s in scores.objects] == ["1"]
        assert [(o.object_id, o.reason) for o in scores.left_out] == [("2", "not in the first frame")]
        with pytest.raises(DataErrors, match=r"numbers \[2\], which no object has \(objects: 1\)"):
            score(video, tmp_path, official=True)  # the official program leaves here

    def test_numbers_with_a_gap(self, tmp_path: Path) -> None:
        video = make("v", {"1": TWO["1"], "4": TWO["2"]})
        predict(video, tmp_path, 30)
        assert [s.object_id for s in score(video, tmp_path).objects] == ["1", "4"]
        official = score(video, tmp_path, official=True)
        assert [s.object_id for s in official.objects] == ["1", "2", "3", "4"]
        assert [s.jf for s in official.objects[1:3]] == [1.0, 1.0]  # never there, never predicted

    def test_null_frames_are_not_scored(self, tmp_path: Path) -> None:
        video = make("v", {"1": [*TWO["1"][:2], None, *TWO["1"][3:]], "2": TWO["2"]})
        predict(video, tmp_path)
        assert [len(s.frames) for s in score(video, tmp_path).objects] == [3, 4]

    def test_frames_nobody_annotated_are_not_wanted(self, tmp_path: Path) -> None:
        video = make("v", {"1": [None, *TWO["1"][1:4], None, *TWO["1"][5:]]})
        predict(video, tmp_path)
        for absent in ("00000", "00005", "00020", "00025"):
            (tmp_path / "v" / f"{absent}.png").unlink()
        assert score(video, tmp_path).objects[0].frames == ("00010", "00015")

    @pytest.mark.parametrize("frames", [1, 2])
    def test_too_short(self, tmp_path: Path, frames: int) -> None:
        short, long = make("s", {"1": TWO["1"][:frames]}), make("l", TWO)
        for video in (short, long):
            predict(video, tmp_path)
        scores = score([short, long], tmp_path)
        assert scores.sequences.keys() == {"l"} and scores.left_out[0].video == "s"
        with pytest.raises(DataError, match=f"no object to score under davis .s: {frames} annotated frames"):
            score(short, tmp_path)
        with pytest.raises(DataError, match="the official program fails here"):
            score([short, long], tmp_path, official=True)

    def test_three_frames_have_one(self, tmp_path: Path) -> None:
        video = make("v", {"1": TWO["1"][:3]})
        predict(video, tmp_path)
        j, _ = score(video, tmp_path).statistics(score(video, tmp_path).objects[0])
        assert (j.mean, j.recall, j.decay) == (1.0, 1.0, 0.0)

    def test_decay_from_256_frames_on(self, tmp_path: Path) -> None:
        masks = [disc(8, 8, 5)] * 260
        video = make("v", {"1": masks})
        predict(video, tmp_path)
        save(np.zeros((H, W)), tmp_path / "v" / "01275.png")
        ours, official = (score(video, tmp_path, official=o) for o in (False, True))
        assert ours.objects == official.objects and ours.summary().jf == official.summary().jf
        assert ours.summary().j.decay == pytest.approx(1 / 65)  # one frame of the last quarter is lost
        assert np.isnan(official.summary().j.decay) and not np.isnan(ours.summary().j.decay)

    def test_2016_merges_objects(self, tmp_path: Path) -> None:
        video = make("v", TWO)
        predict(video, tmp_path, numbers={"1": 255, "2": 9})  # any number is foreground, also 255
        merged = score(video, tmp_path, "davis-2016")
        assert [(s.object_id, len(s.frames), s.jf) for s in merged.objects] == [("all", 4, 1.0)]
        predict(video, tmp_path, 1)
        truth = np.stack([decode(encode(a | b)) for a, b in zip(TWO["1"], TWO["2"], strict=True)])[1:-1]  # type: ignore[operator]
        np.testing.assert_allclose(
            score(video, tmp_path, "davis-2016").objects[0].j, jaccard(truth, np.roll(truth, 1, 2))
        )


LATE: Layers = {
    "1": [TWO["1"][0], None, TWO["1"][2], None, TWO["1"][4], TWO["1"][5]],
    "5": [None, NOTHING, TWO["2"][2], None, TWO["2"][4], NOTHING],
    "6": [None, None, NOTHING, None, None, None],
    "8": [None, None, None, None, None, TWO["2"][5]],
}


class TestYoutubeVos:
    def test_frames_after_the_first_appearance(self, tmp_path: Path) -> None:
        video = make("v", LATE)
        predict(video, tmp_path)
        scores = score(video, tmp_path, "youtube-vos")
        assert [(s.object_id, s.frames) for s in scores.objects] == [
            ("1", ("00010", "00020", "00025")),
            ("5", ("00020", "00025")),
        ]
        assert [(o.object_id, o.reason) for o in scores.left_out] == [
            ("6", "never annotated with a mask that has a pixel"),
            ("8", "no annotated frame to score"),
        ]
        assert scores.summary().jf == 1.0

    def test_g(self, tmp_path: Path) -> None:
        video = make("v", TWO, {"1": "cat", "2": "tapir"})
        predict(video, tmp_path, 2)
        scores = score(video, tmp_path, "youtube-vos")
        overall = scores.overall({"cat"})
        cat, tapir = scores.objects
        parts = [np.mean(cat.j), np.mean(cat.f), np.mean(tapir.j), np.mean(tapir.f)]
        assert overall.g == pytest.approx(float(np.mean(parts))) and len(set(parts)) == 4
        assert np.isnan(scores.overall({"cat", "tapir"}).g) and np.isnan(scores.overall({"dog"}).g)

    def test_seen_from_three_sources(self, tmp_path: Path) -> None:
        (tmp_path / "list.txt").write_text("cat\n polar bear \n\n")
        meta = {"videos": {"v": {"objects": {"1": {"category": "cat", "frames": []}, "2": {"category": "polar bear"}}}}}
        (tmp_path / "meta.json").write_text(json.dumps(meta))
        write_dataset(tmp_path / "train", [make("v", TWO, {"1": "cat", "2": "polar bear"})], "t")
        for name in ("list.txt", "meta.json", "train"):
            assert read_seen(tmp_path / name) == {"cat", "polar bear"}

    @pytest.mark.parametrize(
        ("text", "words"), [("\n \n", "no category"), ('{"videos": []}', "expected {videos"), ("{", "expected {videos")]
    )
    def test_seen_that_says_nothing(self, tmp_path: Path, text: str, words: str) -> None:
        (tmp_path / "s").write_text(text)
        with pytest.raises(DataError, match=words):
            read_seen(tmp_path / "s")
        with pytest.raises(DataError, match="cannot read the list of categories"):
            read_seen(tmp_path / "none")


class TestPointVos:
    def test_sparse_truth_counts_whole(self, tmp_path: Path) -> None:
        masks = TWO["1"]
        video = make("v", {"1": [None, masks[1], None, masks[3], None, masks[5]]}, points={"1": at(0, 2)})
        predict(video, tmp_path)
        assert score(video, tmp_path, "point-vos").objects[0].frames == ("00005", "00015", "00025")

    def test_frames_up_to_the_reference_do_not_count(self, tmp_path: Path) -> None:
        video = make("v", TWO, points={"1": at(0), "2": at(2, 4)})
        predict(video, tmp_path)
        dense = score(video, tmp_path, "point-vos")
        assert [s.frames for s in dense.objects] == [("00005", "00010", "00015", "00020"), ("00015", "00020")]
        sparse = score(video, tmp_path, "point-vos", truth="sparse")
        assert [len(s.frames) for s in sparse.objects] == [5, 3]

    def test_dense_without_points_is_davis(self, tmp_path: Path) -> None:
        video = make("v", TWO)
        predict(video, tmp_path, 1)
        assert score(video, tmp_path, "point-vos").objects == score(video, tmp_path).objects

    def test_without_points_it_is_as_the_truth_says(self, tmp_path: Path) -> None:
        video = make("v", TWO)
        predict(video, tmp_path, 1)
        as_youtube = score(video, tmp_path, "point-vos", truth="youtube-vos").objects
        assert as_youtube == score(video, tmp_path, "youtube-vos").objects and len(as_youtube[0].frames) == 5
        assert len(score(video, tmp_path, "point-vos", truth="sparse").objects[0].frames) == 6
        with pytest.raises(UsageError, match="--truth requires protocol point-vos"):
            Protocol("davis", truth="dense")

    def test_an_object_without_points_is_left_out(self, tmp_path: Path) -> None:
        video = make("v", TWO, points={"1": at(0), "2": at()})  # "2" has a negative point only
        predict(video, tmp_path)
        scores = score(video, tmp_path, "point-vos")
        assert [s.object_id for s in scores.objects] == ["1"]
        assert scores.left_out[0].reason == "no positive point to start from"

    def test_counts_and_seeds(self, tmp_path: Path) -> None:
        video = make("v", TWO, {"1": "cat", "2": "tapir"})
        shifts = {(1, 0): 4, (1, 7): 3, (2, 0): 2, (5, 0): 1, (10, 0): 0, (10, 3): 1}
        for (points, seed), shift in shifts.items():
            predict(video, tmp_path / f"points-{points}" / f"seed-{seed}", shift)
        runs = find_runs(tmp_path, ["v"])
        assert [(run.points, run.seed) for run in runs] == sorted(shifts)
        scores = evaluate_vos([video], runs, Protocol("point-vos"))
        counts = point_counts(scores)
        jf = [s.summary().jf for s in scores]
        assert [c.points for c in counts] == [1, 2, 5, 10] and counts[0].values == (jf[0], jf[1])
        assert counts[0].spread == pytest.approx(abs(jf[0] - jf[1]) / 2**0.5) and np.isnan(counts[1].spread)
        expected = np.mean([(jf[0] + jf[1]) / 2, jf[2], jf[3], (jf[4] + jf[5]) / 2])
        assert benchmark_mean(counts) == pytest.approx(expected)
        assert point_counts(scores, {"cat"})[1].values == (scores[2].overall({"cat"}).g,)
        assert np.isnan(benchmark_mean(counts[1:])) and "(no runs with 1 points)" in table(scores[2:])

    def test_layouts(self, tmp_path: Path) -> None:
        for name in ("points-2/v", "points-10/seed-1/v", "points-10/seed-0/v", "points-x", "v"):
            (tmp_path / name).mkdir(parents=True)
        assert [(r.points, r.seed) for r in find_runs(tmp_path, ["v"])] == [(2, None), (10, 0), (10, 1)]
        with pytest.raises(DataError, match=r"points-2.*use --protocol point-vos"):
            plain_run(tmp_path, ["v"])
        assert find_runs(tmp_path, ["points-2", "points-10"]) == (Run(tmp_path),)  # videos of that name
        (tmp_path / "points-02").mkdir()
        with pytest.raises(DataError, match="points-2 and points-02 have the same number"):
            find_runs(tmp_path, ["v"])


class TestFaults:
    def test_all_at_once(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        videos = [make(name, TWO) for name in ("a", "b", "c", "d")]
        write_dataset(tmp_path / "d", videos, "t")
        r = tmp_path / "r"
        for video in (*videos[:2], videos[3]):
            predict(video, r)
        (r / "a" / "00005.png").unlink()
        (r / "a" / "00010.png").write_bytes(b"no image")
        cut = (r / "a" / "00015.png").read_bytes()
        (r / "a" / "00015.png").write_bytes(cut[: len(cut) - 40])
        save(np.zeros((H, W + 1)), r / "a" / "00020.png")
        Image.new("RGB", (W, H)).save(r / "b" / "00005.png")
        save(np.full((H, W), 255), r / "b" / "00010.png")
        (r / "b" / "00025.png").write_bytes(b"not wanted")
        for path in sorted((r / "d").glob("*.png")):
            path.rename(path.with_name("x" + path.name))
        ended = cli("evaluate", "vos", "--dataset", tmp_path / "d", "--results", r, "--quiet", "--json", tmp_path / "s")
        assert ended.status == 1 and not (tmp_path / "s").exists()
        lines = ended.err.strip().splitlines()
        expected = [
            ("a/00005.png", "missing"),
            ("a/00010.png", "cannot be read"),
            ("a/00015.png", "cannot be read"),
            ("a/00020.png", "prediction of 18x26, the frame has 18x25"),
            ("b/00005.png", "mode RGB"),
            ("b/00010.png", "numbers [255], which no object has (objects: 1, 2)"),
            ("r/c", "no prediction of this video (4 frames expected)"),
            ("r/d", "expected 00005.png, got x00000.png"),
        ]
        assert len(lines) == len(expected)
        for line, (place, words) in zip(lines, expected, strict=True):
            assert line.startswith("vng: ") and place in line and words in line

    def test_missing_as_empty(self, tmp_path: Path) -> None:
        videos = [make("a", TWO), make("b", TWO)]
        predict(videos[0], tmp_path)
        (tmp_path / "a" / "00005.png").unlink()
        scores = score(videos, tmp_path, missing="empty")
        assert [s.j for s in scores.objects] == [(0, 1, 1, 1), (0, 1, 1, 1), (0, 0, 0, 0), (0, 0, 1, 0)]

    def test_grey_is_as_good_as_a_palette(self, tmp_path: Path) -> None:
        video = make("v", TWO)
        predict(video, tmp_path)
        for path in (tmp_path / "v").iterdir():
            save(np.asarray(Image.open(path)), path, "L")
        assert score(video, tmp_path).summary().jf == 1.0

    def test_names_that_lead_out(self, tmp_path: Path) -> None:
        video = make("../v", TWO)
        with pytest.raises(DataErrors, match="leads out of its folder"):
            score(video, tmp_path)

    def test_a_dataset_of_points_alone(self, tmp_path: Path) -> None:
        video = make("v", {"1": [None] * T}, points={"1": at(0)})
        (tmp_path / "v").mkdir()
        for protocol in ("davis", "davis-2016", "youtube-vos", "point-vos"):
            with pytest.raises(DataError, match=r"no object to score under .*give a dataset with true masks"):
                score(video, tmp_path, protocol)

    def test_nothing_to_score(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no object to score under davis"):
            score([], tmp_path)


class TestCommand:
    @pytest.fixture
    def data(self, tmp_path: Path) -> Path:
        videos = [make("walk", TWO, {"1": "cat", "2": "tapir"}), make("run", {"3": TWO["1"]}, {"3": "cat"})]
        write_dataset(tmp_path / "d", videos, "t")
        for video in videos:
            predict(video, tmp_path / "r", 2)
            for n in (1, 10):
                predict(video, tmp_path / "runs" / f"points-{n}" / "seed-0", 3 if n == 1 else 1)
        return tmp_path

    def test_davis(self, data: Path, cli: Callable[..., Cli]) -> None:
        ended = cli(
            "evaluate",
            "vos",
            "--dataset",
            data / "d",
            "--results",
            data / "r",
            "--json",
            data / "s.json",
            "--csv",
            data / "s.csv",
            "--quiet",
        )
        assert ended.status == 0, ended.err
        scores = json.loads((data / "s.json").read_text())
        assert scores["protocol"] == "davis" and scores["official"] is False
        run = scores["runs"][0]
        assert [(o["video"], o["object_id"], len(o["frames"])) for o in run["objects"]] == [
            ("walk", "1", 4),
            ("walk", "2", 4),
            ("run", "3", 4),
        ]
        assert scores["J&F"] == run["J&F"] == pytest.approx(np.mean([o["J&F"] for o in run["objects"]]))
        rows = list(csv.DictReader((data / "s.csv").open()))
        assert [float(row["J"]) for row in rows] == [o["J"] for o in run["objects"]]
        lines = ended.out.splitlines()
        assert lines[0] == "davis: 2 sequences, 3 objects, 12 masks scored"
        assert lines[2].split()[:3] == ["all", "3", f"{100 * scores['J&F']:.2f}"]
        assert lines[3].split()[:3] == ["walk", "2", f"{100 * run['sequences']['walk']['J&F']:.2f}"]

    def test_youtube_vos(self, data: Path, cli: Callable[..., Cli]) -> None:
        call = (
            "evaluate",
            "vos",
            "--dataset",
            data / "d",
            "--results",
            data / "r",
            "--protocol",
            "youtube-vos",
            "--quiet",
        )
        unknown = cli(*call, "--json", data / "s.json")
        assert unknown.status == 0 and "G is not known: --seen" in unknown.out
        assert "G" not in json.loads((data / "s.json").read_text())
        (data / "seen").write_text("cat\n")
        ended = cli(*call, "--seen", data / "seen", "--json", data / "s.json")
        scores = json.loads((data / "s.json").read_text())
        assert ended.status == 0 and f"G {100 * scores['G']:.2f}" in ended.out
        run = scores["runs"][0]
        assert scores["G"] == pytest.approx((run["seen"]["J&F"] + run["unseen"]["J&F"]) / 2)
        assert run["seen"]["objects"] == 2 and [o["seen"] for o in run["objects"]] == [True, False, True]

    def test_categories_must_be_there_for_g(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        video = make("v", TWO, {"1": "cat"})
        write_dataset(tmp_path / "d", [video], "t")
        predict(video, tmp_path / "r")
        (tmp_path / "seen").write_text("cat")
        ended = cli(
            "evaluate",
            "vos",
            "--dataset",
            tmp_path / "d",
            "--results",
            tmp_path / "r",
            "--protocol",
            "youtube-vos",
            "--seen",
            tmp_path / "seen",
            "--quiet",
        )
        assert ended.status == 1 and "v: 2: objects.name: 1 objects have no category" in ended.err

    def test_point_vos(self, data: Path, cli: Callable[..., Cli]) -> None:
        ended = cli(
            "evaluate",
            "vos",
            "--dataset",
            data / "d",
            "--results",
            data / "runs",
            "--protocol",
            "point-vos",
            "--json",
            data / "s.json",
            "--quiet",
        )
        scores = json.loads((data / "s.json").read_text())
        assert ended.status == 0 and scores["points"].keys() == {"1", "10"} and scores["mean"] is None
        assert scores["points"]["10"]["spread"] is None and len(scores["runs"]) == 2
        assert scores["points"]["1"]["mean"] < scores["points"]["10"]["mean"]
        assert "(no runs with 2, 5 points)" in ended.out and "10 points, seed 0" in ended.out
        (data / "seen").write_text("cat\n")
        ended = cli(
            "evaluate",
            "vos",
            "--dataset",
            data / "d",
            "--results",
            data / "runs",
            "--protocol",
            "point-vos",
            "--seen",
            data / "seen",
            "--json",
            data / "s.json",
            "--quiet",
        )
        with_g = json.loads((data / "s.json").read_text())
        assert ended.status == 0 and with_g["measure"] == "G" and scores["measure"] == "J&F"
        assert with_g["points"]["1"]["seeds"] == [with_g["runs"][0]["G"]]
        assert len(with_g["runs"][0]["objects"][0]["frames"]) == 5  # the last frame too

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            (("--protocol", "youtube-vos", "--official"), "--official requires"),
            (("--truth", "dense"), "--truth requires protocol point-vos"),
            (("--seen", "x"), "--seen requires"),
            (("--meta", "x"), "--meta requires --archive"),
            (("--archive", "x.zip", "--protocol", "point-vos"), "--archive requires"),
            (("--archive", "x.zip", "--meta", "x"), "--meta requires --protocol youtube-vos"),
            (("--archive", "x.zip", "--json", "x"), "--archive does not score"),
            (("--protocol", "davis-2018"), "invalid choice"),
        ],
    )
    def test_wrong_calls(self, data: Path, cli: Callable[..., Cli], more: Sequence[str], words: str) -> None:
        ended = cli("evaluate", "vos", "--dataset", data / "d", "--results", data / "r", *more)
        assert ended.status == 2 and words in ended.err

    def test_from_a_shell(self, data: Path) -> None:
        call = [sys.executable, "-m", "vng.cli", "evaluate", "vos", "--dataset", str(data / "d"), "--results"]
        good = subprocess.run([*call, str(data / "r")], capture_output=True, text=True, timeout=120)
        assert good.returncode == 0 and "walk" in good.stdout, good.stderr
        (data / "r" / "run" / "00010.png").unlink()
        bad = subprocess.run([*call, str(data / "r"), "--quiet"], capture_output=True, text=True, timeout=120)
        assert bad.returncode == 1 and "00010.png: this prediction is missing" in bad.stderr and not bad.stdout

    def test_no_such_folder(self, data: Path, cli: Callable[..., Cli]) -> None:
        ended = cli("evaluate", "vos", "--dataset", data / "d", "--results", data / "none")
        assert ended.status == 1 and "no such folder of predictions" in ended.err


class TestArchive:
    def call(self, cli: Callable[..., Cli], root: Path, *more: object) -> Cli:
        return cli(
            "evaluate",
            "vos",
            "--dataset",
            root / "d",
            "--results",
            root / "r",
            "--quiet",
            "--archive",
            root / "out" / "a.zip",
            *more,
        )

    def test_davis_holds_every_frame_in_the_same_bytes(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        videos = [make("walk", TWO), make("b", {"1": [TWO["1"][0], None]})]
        write_dataset(tmp_path / "d", videos, "t")
        for video in videos:
            predict(video, tmp_path / "r")
        assert self.call(cli, tmp_path).out.strip().endswith("a.zip: 2 videos, 8 frames")
        first = (tmp_path / "out" / "a.zip").read_bytes()
        with zipfile.ZipFile(tmp_path / "out" / "a.zip") as archive:
            assert archive.namelist() == ["b/00000.png", "b/00005.png", *(f"walk/{5 * t:05d}.png" for t in range(T))]
            assert archive.read("walk/00010.png") == (tmp_path / "r" / "walk" / "00010.png").read_bytes()
        for path in (tmp_path / "r").rglob("*.png"):
            path.touch()
        self.call(cli, tmp_path)
        assert (tmp_path / "out" / "a.zip").read_bytes() == first

    def test_youtube_vos_holds_what_is_wanted(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        video = make("v", {"2": [None, None, TWO["1"][2], None, None, None], "3": [None] * 4 + [TWO["2"][4], None]})
        write_dataset(tmp_path / "d", [video], "t")
        predict(video, tmp_path / "r")
        (tmp_path / "r" / "v" / "00000.png").unlink()  # before the first object: not wanted
        assert self.call(cli, tmp_path, "--protocol", "youtube-vos").status == 0
        with zipfile.ZipFile(tmp_path / "out" / "a.zip") as archive:
            assert archive.namelist() == [f"Annotations/v/{5 * t:05d}.png" for t in range(2, T)]
        objects = {"2": {"frames": ["00010", "00025"]}, "3": {"frames": ["00020"]}}
        (tmp_path / "meta.json").write_text(json.dumps({"videos": {"v": {"objects": objects}}}))
        meta = ("--protocol", "youtube-vos", "--meta", tmp_path / "meta.json")
        assert self.call(cli, tmp_path, *meta).status == 0
        with zipfile.ZipFile(tmp_path / "out" / "a.zip") as archive:
            assert archive.namelist() == [f"Annotations/v/{n}.png" for n in ("00010", "00020", "00025")]
        for said, words in (
            ({"videos": {"w": {"objects": {}}}}, "meta.json does not list this video"),
            ({"videos": {"v": {"objects": {"2": {"frames": ["9"]}}}}}, "requires frame '9', which the dataset lacks"),
            ({"videos": 3}, "expected {videos"),
        ):
            (tmp_path / "meta.json").write_text(json.dumps(said))
            ended = self.call(cli, tmp_path, *meta)
            assert ended.status == 1 and words in ended.err

    def test_nothing_is_written_when_something_is_wrong(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        video = make("v", TWO)
        write_dataset(tmp_path / "d", [video], "t")
        predict(video, tmp_path / "r")
        r = tmp_path / "r" / "v"
        (r / "00000.png").unlink()
        save(np.zeros((H, W)), r / "00005.png", "L")
        save(np.full((H, W), 3), r / "00010.png")
        save(np.zeros((W, H)), r / "00025.png")
        ended = self.call(cli, tmp_path)
        assert ended.status == 1 and not (tmp_path / "out").exists()
        lines = sorted(ended.err.strip().splitlines())
        words = (
            "this prediction is missing",
            "expected a palette PNG, got a grey one",
            "numbers [3]",
            "prediction of 25x18",
        )
        assert len(lines) == 4 and all(w in line for w, line in zip(words, lines, strict=True))

    def test_ids_a_server_cannot_know(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        write_dataset(tmp_path / "d", [make("v", {"cat": TWO["1"]})], "t")
        predict(make("v", {"cat": TWO["1"]}), tmp_path / "r")
        ended = self.call(cli, tmp_path)
        assert ended.status == 1 and "object ids are not numbers in 1..254" in ended.err
        assert self.call(cli, tmp_path, "--protocol", "davis-2016").status == 0


class TestFrameSparsity:
    @pytest.mark.parametrize(
        ("count", "k", "chosen"),
        [(7, 1, [3]), (4, 1, [1]), (7, 2, [0, 6]), (9, 3, [0, 4, 8]), (3, 5, [0, 1, 2]), (0, 2, [])],
    )
    def test_evenly_spaced(self, count: int, k: int, chosen: list[int]) -> None:
        assert evenly_spaced(count, k) == chosen

    @pytest.fixture
    def study(self, tmp_path: Path) -> tuple[list[Video], list[Run]]:
        videos = [make("a", TWO), make("b", {"1": TWO["2"]}), make("c", {"9": TWO["1"]})]
        runs = []
        for shift in (3, 0, 1, 5):
            for video in videos:
                predict(video, tmp_path / f"shift{shift}", shift)
            runs.append(Run(tmp_path / f"shift{shift}"))
        return videos, runs

    def test_sparse_and_dense(self, study: tuple[list[Video], list[Run]]) -> None:
        videos, runs = study
        found = study_frame_sparsity(videos, runs, (2, 4))
        scores = evaluate_vos(videos, runs, Protocol())
        assert found.dense == pytest.approx([s.summary().jf for s in scores])
        assert found.methods == ("shift3", "shift0", "shift1", "shift5")
        two, four = found.agreements
        assert four.scores == pytest.approx(found.dense) and four.error == pytest.approx(0, abs=1e-12)
        ends = [np.mean([(s.j[0] + s.j[3] + s.f[0] + s.f[3]) / 4 for s in score.objects]) for score in scores]
        assert two.scores == pytest.approx(ends) and two.scores != pytest.approx(found.dense)
        assert (four.spearman, four.kendall, four.swapped, four.widest) == pytest.approx((1, 1, 0, 0))
        assert study_frame_sparsity(videos, runs, (2,), seed=3) == study_frame_sparsity(videos, runs, (2,), seed=3)

    def test_orders_that_turn(self, tmp_path: Path) -> None:
        """Three methods; on the middle frame the order is turned round between two of them."""
        masks = [disc(8, 8, 6)] * 5
        video = make("v", {"1": masks})
        for name, wrong in (("good", {2}), ("fair", {1, 3}), ("bad", {1, 2, 3})):
            predict(video, tmp_path / name)
            for t in wrong:
                save(np.zeros((H, W)), tmp_path / name / "v" / f"{5 * t:05d}.png")
        found = study_frame_sparsity([video], [Run(tmp_path / n) for n in ("good", "fair", "bad")], (1,)).agreements[0]
        assert found.scores == (0.0, 1.0, 0.0) and found.swapped == 1 and found.widest == pytest.approx(1 / 3)
        from scipy.stats import kendalltau, spearmanr

        dense = [2 / 3, 1 / 3, 0]
        assert found.spearman == pytest.approx(spearmanr(dense, found.scores).statistic)
        assert found.kendall == pytest.approx(kendalltau(dense, found.scores).statistic)

    def test_methods_that_score_the_same_have_no_order(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        video = make("v", TWO)
        write_dataset(tmp_path / "d", [video], "t")
        for name in ("a", "b"):
            predict(video, tmp_path / name)
        ended = cli(
            "evaluate",
            "frame-sparsity",
            "--dataset",
            tmp_path / "d",
            "--results",
            tmp_path / "a",
            tmp_path / "b",
            "--json",
            tmp_path / "s.json",
            "--quiet",
        )
        assert ended.status == 0, ended.err
        row = json.loads((tmp_path / "s.json").read_text())["frames"]["3"]
        assert row["spearman"] is row["kendall"] is row["low"] is None and row["scores"] == {"a": 1.0, "b": 1.0}

    def test_one_method_is_a_wrong_call(self, study: tuple[list[Video], list[Run]], tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="two or more"):
            study_frame_sparsity(study[0], study[1][:1])

    def test_command(self, study: tuple[list[Video], list[Run]], tmp_path: Path, cli: Callable[..., Cli]) -> None:
        videos, runs = study
        write_dataset(tmp_path / "d", videos, "t")
        folders = [run.folder for run in runs]
        ended = cli(
            "evaluate",
            "frame-sparsity",
            "--dataset",
            tmp_path / "d",
            "--results",
            *folders,
            "--frame-counts",
            3,
            1,
            "--html",
            tmp_path / "page",
            "--quiet",
        )
        assert ended.status == 0 and "4 methods" in ended.out and "shift5" in ended.out, ended.err
        page = (tmp_path / "page" / "index.html").read_text()
        assert "data:image/png;base64," in page and "3 frames" in page and "shift5" in page
        with Image.open(tmp_path / "page" / "frame-sparsity.png") as plot:
            assert plot.width > plot.height
        assert cli("evaluate", "frame-sparsity", "--dataset", tmp_path / "d", "--results", folders[0]).status == 2


def test_the_official_numbers(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the twenty golden videos through files and back: mean, recall and decay of both DAVIS 2017 protocols."""
    folder = shared / "goldens" / "metrics"
    monkeypatch.syspath_prepend(str(folder))
    import gen_synth

    goldens = json.loads((folder / "goldens_synth.json").read_text())
    gt, pred = gen_synth.make_video(20240, 4, 40, 3, 480, 854)
    sys.modules.pop("gen_synth")
    objects = tuple(VideoObject(str(k), "", "orig_masks", tuple(encode(frame == k) for frame in gt)) for k in (1, 2, 3))
    names = tuple(f"{t:05d}" for t in range(40))
    for name, labels in zip(names, pred, strict=True):
        save(labels, tmp_path / "synth04" / f"{name}.png")
    video = Video(
        video_id="synth04",
        dataset="s",
        split="val",
        height=480,
        width=854,
        fps=0.0,
        frame_names=names,
        narratives=(),
        expressions=(),
        objects=objects,
    )
    for protocol, golden in (("davis", goldens["davis_semi"]), ("davis-unsupervised", goldens["davis_unsup"])):
        scores = score(video, tmp_path, protocol, official=True)
        for which, measure in enumerate("JF"):
            got = [scores.statistics(item)[which] for item in scores.objects]
            for key, field in (("M", "mean"), ("R", "recall"), ("D", "decay")):
                values = [getattr(s, field) for s in got]
                np.testing.assert_allclose(values, golden[measure][key][12:15], atol=1e-12, rtol=0)
