"""Things that are scored in a video: objects, their numbers in label images, frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.evaluation.vos.moving_discs import TWO, T, make, predict, score
from vng.dataset import VideoObject
from vng.errors import DataError, DataErrors
from vng.evaluation.vos.scores import object_numbers


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
