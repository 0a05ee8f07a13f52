"""Scores of video object segmentation: official numbers, the decisions of each protocol, faults."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.evaluation.vos.moving_discs import NOTHING, TWO, H, Layers, T, W, disc, make, predict, save, score
from tests.helpers import Cli
from vng.dataset import Video, VideoObject
from vng.dataset_writer import write_dataset
from vng.errors import DataError, DataErrors, UsageError
from vng.evaluation.metrics import boundary_f, jaccard
from vng.evaluation.vos.scores import Protocol, Run, evaluate_vos, find_runs, plain_run
from vng.evaluation.vos.tables import benchmark_mean, point_counts, read_seen, table
from vng.masks import decode, encode
from vng.points import NEGATIVE, POSITIVE, Points


def at(*frames: int) -> Points:
    """A negative point on frame 0, a positive one on each of these."""
    return Points([0, *frames], [(1, 1)] * (1 + len(frames)), [NEGATIVE] + [POSITIVE] * len(frames))


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
        ("text", "words"), [("\n \n", "no category"), ('{"videos": []}', "expected {videos"), ("{", "broken JSON")]
    )
    def test_seen_that_says_nothing(self, tmp_path: Path, text: str, words: str) -> None:
        (tmp_path / "s").write_text(text)
        with pytest.raises(DataError, match=words):
            read_seen(tmp_path / "s")
        with pytest.raises(DataError, match="no such file; check --seen"):
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

    def test_names_that_lead_out(self) -> None:
        with pytest.raises(DataError, match="video_id: this name leads out of its folder"):
            make("../v", TWO)

    def test_a_dataset_of_points_alone(self, tmp_path: Path) -> None:
        video = make("v", {"1": [None] * T}, points={"1": at(0)})
        (tmp_path / "v").mkdir()
        for protocol in ("davis", "davis-2016", "youtube-vos", "point-vos"):
            with pytest.raises(DataError, match=r"no object to score under .*give a dataset with true masks"):
                score(video, tmp_path, protocol)

    def test_nothing_to_score(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no object to score under davis"):
            score([], tmp_path)


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
