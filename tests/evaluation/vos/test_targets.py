"""Things that are scored in a video: objects, their numbers in label images, frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.vos.moving_discs import TWO, T, make, predict, score
from vng.dataset import VideoObject
from vng.errors import DataError, DataErrors
from vng.evaluation.vos.runs import Run
from vng.evaluation.vos.scores import ObjectScore, VosScores, object_numbers
from vng.evaluation.vos.tables import as_json, course, table
from vng.evaluation.vos.targets import Protocol
from vng.masks import area


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


class TestClick:
    """ClickVOS: the first frame is predicted too."""

    def test_counts_from_the_first_frame_to_the_last(self, tmp_path: Path) -> None:
        video = make("v", TWO)
        predict(video, tmp_path)
        found = score(video, tmp_path, "click")
        assert found.summary().jf == 1.0
        for item in found.objects:
            masks = video.object_by_id[item.object_id].segmentations
            first = next(t for t, rle in enumerate(masks) if rle is not None and area(rle))
            assert item.frames[0] == video.frame_names[first] and item.frames[-1] == video.frame_names[-1]

    def test_the_course_of_j_in_parts(self) -> None:
        j = [0.2] * 5 + [0.6] * 5
        names = tuple(map(str, range(10)))
        item = ObjectScore("v", "1", "", names, tuple(j), tuple(j))
        scores = VosScores(Run(Path("r")), Protocol("click"), (item,))
        assert course(scores, 2) == pytest.approx([0.2, 0.6])
        assert all(np.isnan(v) for v in course(scores, 11))
        assert "in tenths: 20.00 20.00" in table([scores]) and len(as_json([scores])["runs"][0]["J-course"]) == 10
