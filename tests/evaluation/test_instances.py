"""Average precision of video instances: the official program's numbers, its definition, and faulty files told at once."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers import ROOT, Cli, box
from vng.dataset import Video, VideoObject
from vng.dataset_writer import write_dataset
from vng.errors import DataError, DataErrors
from vng.evaluation.instance_files import dataset_videos, evaluate_instances, read_annotations, read_results
from vng.evaluation.instances import MEASURES, Detection, Instance, InstanceScore, video_ious
from vng.masks import RLE, areas, empty, encode, intersections

H, W, T = 11, 17, 3
FIXTURE = ROOT / "tests" / "fixtures" / "ytvis_official.json"  # stats of cocoapi's YTVOSeval (f3f9948)


def rle(top: int, left: int, bottom: int, right: int) -> RLE:
    return encode(box(top, left, bottom, right, H, W))


def values(score: InstanceScore) -> list[float]:
    return list(score.compute().values())


class TestMasks:
    def test_shared_pixels_are_those_of_the_arrays(self, rng: np.random.Generator) -> None:
        first, second = rng.random((4, H, W)) < 0.4, rng.random((5, H, W)) < 0.6
        first[1] = False
        expected = np.einsum("ahw,bhw->ab", first.astype(int), second.astype(int))
        rles = [[encode(mask) for mask in masks] for masks in (first, second)]
        assert intersections(*rles).tolist() == expected.tolist()
        assert areas(rles[0]).tolist() == first.sum((1, 2)).tolist()

    def test_none_and_several_sizes(self) -> None:
        assert intersections([], [rle(0, 0, 1, 1)]).shape == (0, 1) and areas([]).tolist() == []
        with pytest.raises(ValueError, match="masks of several sizes"):
            intersections([rle(0, 0, 1, 1)], [empty(W, H)])


class TestOfficial:
    @pytest.mark.parametrize("place", range(3))
    @pytest.mark.parametrize("agnostic", [False, True])
    def test_its_numbers(self, place: int, agnostic: bool, tmp_path: Path) -> None:
        case = json.loads(FIXTURE.read_text())[place]
        for name in ("annotations", "results"):
            (tmp_path / f"{name}.json").write_text(json.dumps(case[name]))
        catalogue = read_annotations(tmp_path / "annotations.json")
        results = read_results(tmp_path / "results.json")
        score = evaluate_instances(catalogue.videos, results, catalogue.categories, agnostic)
        expected = [np.nan if v is None else v for v in case["agnostic" if agnostic else "official"]]
        np.testing.assert_allclose(values(score), expected, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(values(score), values(score))


class TestDefinition:
    TRACK = (rle(1, 2, 7, 9), None, rle(2, 2, 8, 9))

    def test_iou_is_over_the_whole_video(self) -> None:
        other = (rle(1, 2, 7, 9), rle(0, 0, 2, 3), None)
        assert video_ious([other, self.TRACK], [self.TRACK]).tolist() == [[42 / (84 + 6)], [1.0]]
        assert video_ious([(None, empty(H, W), None)], [(None,) * T]).tolist() == [[0.0]]

    def test_known_numbers(self) -> None:
        score = InstanceScore()
        truth = [Instance("cat", self.TRACK), Instance("dog", (rle(0, 10, 4, 16), None, None))]
        half = (self.TRACK[0], None, None)  # 42 of 84 pixels: right at 0.5 alone
        score.add("v", truth, [Detection("cat", 0.9, half), Detection("cow", 0.8, self.TRACK)])
        made = score.compute()
        # cat: right at the lowest of ten thresholds; dog: never found; cow: no instance, not counted
        assert made["AP"] == pytest.approx(0.05) and made["AP50"] == pytest.approx(0.5) and made["AP75"] == 0
        assert made["AR1"] == made["AR100"] == pytest.approx(0.05) and np.isnan(made["AP-large"])
        assert [c for c in score.by_category() if not np.isnan(score.by_category()[c]["AP"])] == ["cat", "dog"]

    def test_categories_may_not_count(self) -> None:
        score = InstanceScore(class_agnostic=True)
        score.add("v", [Instance("cat", self.TRACK)], [Detection("dog", 0.1, self.TRACK)])
        assert score.compute()["AP"] == pytest.approx(1.0) and list(score.by_category()) == [""]

    def test_only_the_best_detections_count(self) -> None:
        score = InstanceScore()
        wrong = Detection("cat", 0.9, (None, rle(0, 0, 3, 3), None))
        score.add("v", [Instance("cat", self.TRACK)], [Detection("cat", 0.2, self.TRACK), *[wrong] * 10])
        made = score.compute()
        assert (made["AR1"], made["AR10"], made["AR100"]) == (0, 0, 1) and made["AP"] == pytest.approx(1 / 11)
        late = InstanceScore()
        late.add("v", [Instance("cat", self.TRACK)], [Detection("cat", 0.2, self.TRACK), *[wrong] * 100])
        assert late.compute()["AR100"] == 0

    def test_a_crowd_forgives(self) -> None:
        crowd = Instance("cat", (None, rle(0, 0, 3, 3), None), crowd=True)
        in_it = [Detection("cat", 0.9, crowd.masks), Detection("cat", 0.8, crowd.masks)]
        score = InstanceScore()
        score.add("v", [Instance("cat", self.TRACK), crowd], [*in_it, Detection("cat", 0.1, self.TRACK)])
        assert score.compute()["AP"] == pytest.approx(1.0)

    def test_nothing(self) -> None:
        score = InstanceScore()
        assert all(np.isnan(v) for v in values(score)) and tuple(score.compute()) == MEASURES
        score.add("v", [], [])
        score.add("w", [Instance(3, self.TRACK)], [])
        assert score.compute()["AP"] == score.compute()["AR10"] == 0

    def test_order_and_processes_do_not_matter(self) -> None:
        rng = np.random.default_rng(4)
        videos = []
        for number in range(6):
            tracks = [tuple(encode(rng.random((H, W)) < 0.7) for _ in range(T)) for _ in range(4)]
            truth = [Instance(i % 2, track) for i, track in enumerate(tracks)]
            videos.append((number, truth, [Detection(i % 2, 0.5, track[::-1]) for i, track in enumerate(tracks)]))
        whole, first, second = InstanceScore(), InstanceScore(), InstanceScore()
        whole.add_batch(videos)
        second.add_batch(videos[:4])
        first.add_batch(videos[:3:-1])
        first.merge(second)
        np.testing.assert_array_equal(values(first), values(whole))
        assert whole.compute()["AP"] > 0
        with pytest.raises(ValueError, match="0 was added to both"):
            whole.merge(second)
        with pytest.raises(ValueError, match="the two scores have different rules"):
            whole.merge(InstanceScore(class_agnostic=True))

    def test_wrong_calls(self) -> None:
        score = InstanceScore()
        score.add("v", [], [])
        with pytest.raises(ValueError, match="'v' was added before"):
            score.add("v", [], [])
        with pytest.raises(ValueError, match="tracks of different lengths"):
            score.add("w", [Instance("a", (None,))], [Detection("a", 1, (None, None))])
        with pytest.raises(ValueError, match="not a finite number"):
            score.add("w", [], [Detection("a", float("nan"), (None,))])


def video(name: str = "dogs", categories: tuple[str, str] = ("dog", "cat")) -> Video:
    """Two objects; nobody is annotated on the second of four frames."""
    first = (rle(1, 2, 7, 9), None, rle(2, 2, 8, 9), empty(H, W))
    second = (rle(0, 10, 4, 16), None, None, rle(1, 10, 5, 16))
    objects = tuple(
        VideoObject(str(i), c, "", m) for i, (c, m) in enumerate(zip(categories, (first, second), strict=True))
    )
    return Video(
        video_id=name,
        dataset="hand-made",
        split="val",
        height=H,
        width=W,
        fps=0.0,
        frame_names=tuple("abcd"),
        narratives=(),
        expressions=(),
        objects=objects,
    )


def records(item: Video, ids: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    return [
        {
            "video_id": item.video_id,
            "category_id": (ids or {}).get(o.name, o.name),
            "score": 0.5,
            "segmentations": [None if m is None else m.as_dict() for m in o.segmentations],
        }
        for o in item.objects
    ]


def annotations(item: Video, frames: str) -> dict[str, Any]:
    """An annotation file of some of a video's frames."""
    places = [item.frame_names.index(name) for name in frames]
    tracks = [[None if (m := o.segmentations[t]) is None else m.as_dict() for t in places] for o in item.objects]
    files = [f"{item.video_id}/{name}.jpg" for name in frames]
    return {
        "videos": [{"id": 7, "height": H, "width": W, "file_names": files}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": i, "video_id": 7, "category_id": {"cat": 1, "dog": 2}[o.name], "segmentations": track}
            for i, (o, track) in enumerate(zip(item.objects, tracks, strict=True))
        ],
    }


def write(path: Path, tree: Any) -> Path:
    path.write_text(json.dumps(tree))
    return path


class TestFiles:
    def test_frames_without_annotation_do_not_count(self, tmp_path: Path) -> None:
        item = video()
        listed = records(item)
        listed[0]["segmentations"][1] = rle(0, 0, 9, 9).as_dict()  # nobody knows what is there
        score = evaluate_instances(dataset_videos([item]), read_results(write(tmp_path / "r.json", listed)))
        assert score.compute()["AP"] == pytest.approx(1.0)
        listed[0]["segmentations"][3] = rle(0, 0, 9, 9).as_dict()  # it is not there
        score = evaluate_instances(dataset_videos([item]), read_results(write(tmp_path / "r.json", listed)))
        assert score.by_category()["dog"]["AP"] < 1 == pytest.approx(score.by_category()["cat"]["AP"])

    def test_an_annotation_file_says_what_ids_mean(self, tmp_path: Path) -> None:
        item = video()
        catalogue = read_annotations(write(tmp_path / "a.json", annotations(item, "acd")))
        listed = [
            {**r, "video_id": 7, "segmentations": [r["segmentations"][t] for t in (0, 2, 3)]}
            for r in records(item, {"cat": 1, "dog": 2})
        ]
        for truth in (catalogue.videos, dataset_videos([item], catalogue)):
            results = read_results(write(tmp_path / "r.json", listed))
            score = evaluate_instances(truth, results, catalogue.categories)
            assert score.compute()["AP"] == pytest.approx(1.0) and score.categories == [1, 2]
        with pytest.raises(DataError, match="video 'cats' is not in this file"):
            list(dataset_videos([video("cats")], catalogue))
        with pytest.raises(DataError, match="no category 'cow' to compare with; use --class-agnostic"):
            list(dataset_videos([video(categories=("dog", "cow"))], catalogue))

    def test_every_fault_is_told_at_once(self, tmp_path: Path) -> None:
        item = video()
        good = records(item)[0]
        faulty = [
            {**good, "category_id": 3},
            {**good, "score": "high"},
            {**good, "segmentations": good["segmentations"][:3]},
            {**good, "segmentations": [{"size": [H, W], "counts": "5"}, None, None, None]},
            {**good, "segmentations": [empty(W, H).as_dict(), None, None, None]},
            {**good, "video_id": "cats"},
            good,
        ]
        with pytest.raises(DataErrors) as raised:
            evaluate_instances(dataset_videos([item]), read_results(write(tmp_path / "r.json", faulty)))
        told = str(raised.value)
        for place, words in enumerate(
            (
                "category 3 is a number",
                "expected a finite number, got 'high'",
                "a list of 4 masks or nulls, got 3",
                "counts fill",
                "masks of [(17, 11)], the video has (11, 17)",
                "no video 'cats'",
            )
        ):
            assert f"[{place}]" in told and words in told
        assert len(raised.value.problems) == 6

    def test_files_that_are_none(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no such file"):
            read_results(tmp_path / "none.json")
        with pytest.raises(DataError, match=r"expected .* got dict"):
            read_results(write(tmp_path / "r.json", {}))
        with pytest.raises(DataErrors, match=r"\[0\]: score: missing"):
            read_results(write(tmp_path / "r.json", [{"video_id": 1, "category_id": 1, "segmentations": []}]))
        with pytest.raises(DataError, match="not a YouTube-VIS annotation file"):
            read_annotations(write(tmp_path / "a.json", {"videos": [{}]}))
        with pytest.raises(DataErrors, match=r"annotations\[0\]: segmentations: expected a list of 3"):
            tree = annotations(video(), "acd")
            tree["annotations"][0]["segmentations"] = []
            read_annotations(write(tmp_path / "a.json", tree))

    def test_ids_that_are_lists(self, tmp_path: Path) -> None:
        tree = annotations(video(), "acd")
        tree["annotations"][0]["category_id"] = [1]
        with pytest.raises(DataError, match=r"annotations\[0\].category_id must be a number or a name"):
            read_annotations(write(tmp_path / "a.json", tree))

    def test_videos_without_a_detection(self, tmp_path: Path) -> None:
        path = write(tmp_path / "r.json", [])
        assert evaluate_instances(dataset_videos([video()]), read_results(path)).compute()["AP"] == 0
        with pytest.raises(DataErrors, match="no detection of video 'dogs'"):
            evaluate_instances(dataset_videos([video()]), read_results(path), missing="error")
        with pytest.raises(DataError, match="the ground truth has no instance"):
            evaluate_instances([], read_results(path))


class TestCommand:
    def test_dataset(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        write_dataset(tmp_path / "d", [video(), video("more")], "hand-made")
        listed = write(tmp_path / "r.json", records(video()))
        how = ["evaluate", "instances", "--dataset", tmp_path / "d", "--results", listed, "--quiet"]
        ended = cli(*how, "--json", tmp_path / "s.json", "--csv", tmp_path / "s.csv")
        assert ended.status == 0 and ended.out.startswith("AP 50.50  AP50 50.50") and "(2 videos)" in ended.out
        tree = json.loads((tmp_path / "s.json").read_text())
        assert tree["AP-large"] is None and set(tree["categories"]) == {"dog", "cat"} and tree["videos"] == 2
        rows = list(csv.DictReader((tmp_path / "s.csv").open()))
        assert [row["category"] for row in rows] == ["cat", "dog"] and rows[0]["AP-large"] == ""
        assert float(rows[1]["AR1"]) == 0.5
        assert cli(*how, "--class-agnostic").out.startswith("AP 50.50")
        assert cli(*how, "--missing", "error").status == 1

    def test_annotations_alone(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        truth = write(tmp_path / "a.json", annotations(video(), "abcd"))
        listed = [{**r, "video_id": 7} for r in records(video(), {"cat": 1, "dog": 2})]
        results = write(tmp_path / "r.json", listed)
        ended = cli("evaluate", "instances", "--annotations", truth, "--results", results, "--csv", tmp_path / "s.csv")
        assert ended.status == 0 and ended.out.startswith("AP 100.00")
        assert (tmp_path / "s.csv").read_text().splitlines()[1].startswith("cat,0.99999999")
        assert cli("evaluate", "instances", "--results", results).status == 2
