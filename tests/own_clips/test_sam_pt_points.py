"""Point files of SAM-PT's demo."""

from __future__ import annotations

from pathlib import Path

import pytest

from vng.errors import DataError, DataErrors
from vng.own_clips import read_clip
from vng.own_clips.sam_pt_points import read_sam_pt_points, sam_pt_text
from vng.points import NEGATIVE, POSITIVE

TEXT = "2\n\n0; 120,80  130.5,90 10,10\n3 ;5,6 7,8 9,1\n"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "bees.txt"
    path.write_text(text)
    return path


def test_reads_positives_before_negatives(tmp_path: Path) -> None:
    clip = read_clip(written(tmp_path, TEXT))
    assert [item.object_id for item in clip.objects] == ["1", "2"]
    first, second = (item.points for item in clip.objects)
    assert [(p.frame, p.x, p.y, p.label) for p in first] == [
        (0, 120, 80, POSITIVE),
        (0, 130.5, 90, POSITIVE),
        (0, 10, 10, NEGATIVE),
    ]
    assert {p.frame for p in second} == {3}


def test_writes_what_it_reads(tmp_path: Path) -> None:
    clip = read_sam_pt_points(written(tmp_path, TEXT))
    text = sam_pt_text(clip.objects)
    assert text == "2\n0;120,80 130.5,90 10,10\n3;5,6 7,8 9,1\n"
    again = read_sam_pt_points(written(tmp_path, text))
    assert sam_pt_text(again.objects) == text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "expected the number of positives, got 'nothing'"),
        ("x\n0;1,2\n", "got 'x'"),
        ("2\n", "no object"),
        ("2\n0;1,2\n", "1 points, but the first line says 2"),
        ("1\n0,1,2\n", "expected a frame and ';'"),
        ("1\n0;1,2 a,b\n", "expected x,y, got 'a,b'"),
        ("1\n0;nan,2\n", "not finite"),
    ],
)
def test_mistakes_name_the_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises((DataError, DataErrors), match=told):
        read_sam_pt_points(written(tmp_path, text))


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataErrors) as caught:
        read_sam_pt_points(written(tmp_path, "1\n0;1\nz;1,2\n0;3,4\n"))
    assert "line 2" in str(caught.value) and "line 3" in str(caught.value)


def test_objects_that_the_format_cannot_hold(tmp_path: Path) -> None:
    clip = read_sam_pt_points(written(tmp_path, "1\n0;1,2\n0;1,2 3,4\n"))
    with pytest.raises(ValueError, match="different numbers"):
        sam_pt_text(clip.objects)
    with pytest.raises(ValueError, match="different numbers"):
        sam_pt_text([])
