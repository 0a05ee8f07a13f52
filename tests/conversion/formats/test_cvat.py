"""`vng convert cvat`, and `vng export --format cvat`: CVAT's XML."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conversion.formats.cvat import read_cvat
from conversion.formats.cvat_export import write_cvat
from conversion.formats.cvat_shapes import mask_runs, runs_mask
from tests.conversion.formats.drawings import Read, masks_of, read
from tests.helpers import Cli, H, T, W, box, make_video, write_frames
from vng.dataset import VngDataset
from vng.dataset_writer import write_dataset
from vng.errors import DataError, read_problems
from vng.masks import encode
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE

SIZE = f"<original_size><width>{W}</width><height>{H}</height></original_size>"


def document(*elements: str, head: str = f"<name>clip</name><size>9</size>{SIZE}") -> str:
    return f"<?xml version='1.0'?><annotations><meta><task>{head}</task></meta>{''.join(elements)}</annotations>"


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def boxes(*shapes: tuple[int, int, int, float], label: str = "car") -> str:
    """A track of boxes: frame, outside, keyframe, left edge."""
    inner = "".join(
        f'<box frame="{t}" outside="{outside}" keyframe="{key}" xtl="{x}" ytl="2" xbr="{x + 5}" ybr="6"/>'
        for t, outside, key, x in shapes
    )
    return f'<track id="7" label="{label}">{inner}</track>'


def tracks(tmp_path: Path, *elements: str, head: str = f"<name>clip</name><size>9</size>{SIZE}") -> Read:
    return read(read_cvat, written(tmp_path / "a.xml", document(*elements, head=head)))


class TestTracks:
    def test_outside_is_absent_until_it_is_shown_again(self, tmp_path: Path) -> None:
        (clip,), problems = tracks(tmp_path, boxes((1, 0, 1, 3), (3, 1, 1, 3), (6, 0, 1, 8), (7, 1, 1, 8)))
        (car,) = clip.objects
        assert (clip.video, clip.video_id, clip.size) == ("clip", "clip", (H, W)) and not problems
        assert (car.object_id, car.name) == ("7", "car")
        assert [(b.frame, b.corners) for b in car.boxes] == [(1, (3, 2, 7, 5)), (6, (8, 2, 12, 5))]
        assert [(m.frame, m.mask) for m in car.masks] == [(t, None) for t in (3, 4, 5, 7, 8)]  # 0 is not known

    def test_boxes_between_key_frames(self, tmp_path: Path) -> None:
        (clip,), problems = tracks(tmp_path, boxes((0, 0, 1, 3), (4, 0, 1, 11), (5, 0, 0, 11.5)))
        assert [b.corners[0] for b in clip.objects[0].boxes] == [3, 11, 11.5, 5, 7, 9] and not problems
        assert {b.frame: b.corners[0] for b in clip.objects[0].boxes}[1] == 5

    def test_only_the_frames_of_the_task(self, tmp_path: Path) -> None:
        head = f"<name>x</name><size>4</size><start_frame>10</start_frame><frame_filter>step=5</frame_filter>{SIZE}"
        (clip,), _ = tracks(tmp_path, boxes((10, 0, 1, 3), (20, 1, 1, 4)), head=head)
        assert [b.frame for b in clip.objects[0].boxes] == [10]
        assert [m.frame for m in clip.objects[0].masks] == [20, 25]

    def test_a_shape_of_one_frame_says_nothing_of_the_next(self, tmp_path: Path) -> None:
        (clip,), _ = tracks(tmp_path, boxes((2, 0, 1, 3), (3, 1, 1, 3)))
        assert [b.frame for b in clip.objects[0].boxes] == [2] and not clip.objects[0].masks
        (clip,), _ = tracks(tmp_path, boxes((2, 0, 1, 3), (4, 1, 1, 3)))  # two frames: a track
        assert [m.frame for m in clip.objects[0].masks] == [4, 5, 6, 7, 8]

    def test_masks_polygons_ellipses(self, tmp_path: Path) -> None:
        (clip,), problems = tracks(
            tmp_path,
            '<track id="0" label="m"><mask frame="0" outside="0" keyframe="1" rle="1, 2, 3" left="4" top="5" width="3" '
            'height="2"/><mask frame="1" outside="1" keyframe="1" rle="6" left="4" top="5" width="3" height="2"/></track>',
            '<track id="1" label="p"><polygon frame="0" outside="0" keyframe="1" points="3,2;12,2;12,9;3,9"/>'
            '<polygon frame="1" outside="0" keyframe="0" points="3,2;12,2;12,9;3,9"/>'
            '<polygon frame="2" outside="0" keyframe="1" points="4,2;12,2;12,9;4,9"/></track>',
            '<track id="2" label="e"><ellipse frame="0" outside="0" keyframe="1" cx="10.5" cy="8.5" rx="3" ry="1"/>'
            '<ellipse frame="1" outside="0" keyframe="1" cx="10.5" cy="8.5" rx="3" ry="1" rotation="90"/></track>',
        )
        m, p, e = clip.objects
        patch = np.zeros((H, W), bool)
        patch[5, 5:7] = True
        assert masks_of(m) == {0: encode(patch)}
        assert masks_of(p) == {0: encode(box(2, 3, 9, 12)), 2: encode(box(2, 4, 9, 12))}
        wide = np.zeros((H, W), bool)
        wide[8, 7:14] = wide[7:10, 10] = True
        high = np.zeros((H, W), bool)
        high[5:12, 10] = high[8, 9:12] = True
        assert masks_of(e) == {0: encode(wide), 1: encode(high)}
        assert [n.reason for n in problems] == [
            "a polygon that CVAT interpolated is not read: --propagator carries masks (1 times)"
        ]

    def test_points_and_attributes(self, tmp_path: Path) -> None:
        def points(track: int, label: str, more: str) -> str:
            places = '<points frame="0" outside="0" keyframe="1" points="3.5,4.5;6,7">'
            guess = '<points frame="1" outside="0" keyframe="0" points="3.5,4.5"/>'
            return f'<track id="{track}" label="{label}">{places}{more}</points>{guess}</track>'

        same = '<attribute name="object_id">it</attribute>'
        (clip,), problems = tracks(
            tmp_path,
            points(0, "car", same),
            points(1, "car-negative", same),
            points(
                2, "car", f'{same}<attribute name="point">ambiguous</attribute><attribute name="colour">x</attribute>'
            ),
        )
        (it,) = clip.objects
        assert it.object_id == "it" and it.name == "car"
        assert [(p.frame, p.x, p.y, p.label) for p in it.points] == [
            (0, x, y, label) for label in (POSITIVE, NEGATIVE, AMBIGUOUS) for x, y in ((3, 4), (5.5, 6.5))
        ]
        assert [str(p.reason) for p in problems] == ["the attribute 'colour' is not read (1 times)"]

    def test_the_film_of_a_task_and_tasks_of_a_project(self, tmp_path: Path) -> None:
        text = document(boxes((0, 0, 1, 3)))
        text = text.replace("</task>", "</task><source>films/a.mp4</source>")
        ((clip,), _) = read(read_cvat, written(tmp_path / "a.xml", text))
        assert (clip.video, clip.video_id) == ("films/a.mp4", "a")
        project = "".join(f"<task><id>{n}</id><name>n{n}</name><source>{n}.mp4</source>{SIZE}</task>" for n in (4, 5))
        track = boxes((0, 0, 1, 3)).replace('id="7"', 'id="0" task_id="5"') + boxes((0, 0, 1, 3)).replace(
            'id="7"', 'id="1" task_id="4"'
        )
        text = f"<annotations><meta><project><tasks>{project}</tasks></project></meta>{track}</annotations>"
        clips, _ = read(read_cvat, written(tmp_path / "b.xml", text))
        assert [(c.video, c.objects[0].object_id) for c in clips] == [("5.mp4", "0"), ("4.mp4", "1")]


class TestImages:
    def test_a_folder_is_a_video(self, tmp_path: Path) -> None:
        def image(name: str, inner: str) -> str:
            return f'<image id="0" name="{name}" width="{W}" height="{H}">{inner}</image>'

        dog = '<box label="dog" xtl="3" ytl="2" xbr="8" ybr="6" keyframe="0"/>'
        part = '<polygon label="cat" points="{0},2;{1},2;{1},9;{0},9" group_id="2"/>'
        text = document(
            image("one/001.jpg", dog + part.format(3, 5) + part.format(8, 11)),
            image("one/002.jpg", dog),
            image("two/001.jpg", '<points label="dog negative" points="4,5"/>'),
            head="<name>job</name>",
        )
        (one, two), problems = read(read_cvat, written(tmp_path / "a.xml", text))
        dogs, cat = one.objects
        assert [(one.video, one.size), (two.video, two.video_id)] == [("one", (H, W)), ("two", "two")] and not problems
        assert [b.frame for b in dogs.boxes] == ["001", "002"] and cat.object_id == "cat-2"
        assert masks_of(cat) == {"001": encode(box(2, 3, 9, 5) | box(2, 8, 9, 11))}
        assert two.objects[0].points[0].label == NEGATIVE
        flat = document(image("001.jpg", dog), image("002.jpg", ""), head="<name>job</name>")
        ((clip,), _) = read(read_cvat, written(tmp_path / "b.xml", flat))
        assert (clip.video, clip.video_id, clip.objects[0].boxes[0].frame) == (".", "job", "001")


@pytest.mark.parametrize(
    ("element", "words"),
    [
        (boxes((0, 0, 1, float("nan"))), "frame 0: box: xtl: expected a number between -1e9 and 1e9, got 'nan'"),
        (boxes((0, 0, 1, 99)), "nothing of it is in the frame; correct or delete this shape in CVAT"),
        (boxes((-1, 0, 1, 2)), "frame: expected a number from 0 to 10000000, got '-1'"),
        (boxes((0, 0, 1, 3), (0, 0, 1, 4)), "two boxes of object '7' in one frame: they are two objects"),
        (
            '<track id="1" label="a"><mask frame="0" rle="1, 2" left="1" top="1" width="2" height="2"/></track>',
            "3 pixels",
        ),
        (
            '<track id="1" label="a"><mask frame="0" rle="4" left="29" top="1" width="2" height="2"/></track>',
            "not inside",
        ),
        (
            '<track id="1" label="a"><mask frame="0" rle="1e3" left="1" top="1" width="2" height="2"/></track>',
            "whole numb",
        ),
        (
            '<track id="1" label="a"><mask frame="0" rle="4" left="1" top="1" width="99999" height="99999"/></track>',
            "a mas",
        ),
        (
            '<track id="1" label="a"><polygon frame="0" points="1,1;2,2"/></track>',
            "an outline of 2 points, 3 are needed",
        ),
        ('<track id="1" label="a"><polygon frame="0" points="1,1;2,2;900,1"/></track>', "goes far beyond the frame"),
        ('<track id="1" label="a"><points frame="0" points="1;2"/></track>', "points: expected a number"),
        ('<track id="1" label="a"><ellipse frame="0" cx="1" cy="1" rx="0" ry="1"/></track>', "an ellipse with radii 0"),
    ],
)
def test_a_bad_shape_leaves_the_others(tmp_path: Path, element: str, words: str) -> None:
    good = boxes((5, 0, 1, 3)).replace('id="7"', 'id="good"')
    (clip,), problems = tracks(tmp_path, element, good)
    assert [(o.object_id, len(o.boxes)) for o in clip.objects if o.object_id == "good"] == [("good", 1)]
    (problem,) = problems
    assert (
        words in str(problem) and str(problem).startswith(f"{tmp_path / 'a.xml'}: line 1") and problem.kind == "error"
    )


def test_a_bad_part_spoils_the_mask_of_its_frame(tmp_path: Path) -> None:
    same = '<attribute name="object_id">it</attribute>'
    polygon = f'<polygon frame="0" points="3,2;12,2;12,9;3,9">{same}</polygon>'
    bad = f'<polygon frame="0" points="3,2;nan,2;12,9">{same}</polygon>'
    other = polygon.replace('frame="0"', 'frame="1"')
    track = '<track id="{}" label="a">{}</track>'
    (clip,), problems = tracks(tmp_path, *(track.format(i, p) for i, p in enumerate((polygon, bad, other))))
    assert list(masks_of(clip.objects[0])) == [1] and len(problems) == 1


BILLION = '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;&x;&x;&x;">]><annotations>&y;</annotations>'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BILLION, "line 1: the document has a DOCTYPE, whose entities could fill the memory; remove it"),
        ("", "broken XML: no element found"),
        ("<annotations/>", "nothing that can be read is drawn in this file; export it as `CVAT for video 1.1`"),
        (document(boxes((0, 0, 1, 3)))[:-40], "broken XML"),
        (
            document("<track id='0' label='x'><polyline frame='0' points='1,1;2,2'/></track>"),
            "nothing that can be read",
        ),
        ("<a>" * 200, "elements are nested too deeply"),
        (document(boxes((0, 0, 1, 3), (9_000_000, 0, 1, 4))), "tracks speak of more than 1048576 frames"),
        ("<annotations>&lol;</annotations>", "broken XML: undefined entity"),
    ],
)
def test_files_that_are_none(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError) as error:
        read(read_cvat, written(tmp_path / "a.xml", text))
    assert words in str(error.value)


def test_archives(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("annotations.xml", document(boxes((0, 0, 1, 3))))
    ((clip,), _) = read(read_cvat, tmp_path / "a.zip")
    assert clip.objects[0].boxes
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("../annotations.xml", "x")
    with pytest.raises(DataError, match=r"no annotations\.xml in this archive"):
        read(read_cvat, tmp_path / "b.zip")
    (tmp_path / "c.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:-30])
    with pytest.raises(DataError):
        read(read_cvat, tmp_path / "c.zip")
    with pytest.raises(DataError, match="no such file"):
        read(read_cvat, tmp_path / "d.xml")


def test_runs(rng: np.random.Generator) -> None:
    for _ in range(20):
        mask = rng.random((3, 5)) < 0.5
        assert (runs_mask(mask_runs(mask), 3, 5) == mask).all()
    assert mask_runs(np.array([[False, True], [True, False]])) == [1, 2, 1]


def test_there_and_back(tmp_path: Path, cli: Callable[..., Cli]) -> None:
    made = [make_video("one"), make_video("two words", 5)]
    write_dataset(tmp_path / "d", made, "t")
    ended = cli("export", tmp_path / "d", "--format", "cvat", "--out", tmp_path / "c", "--with-frames", "--quiet")
    assert ended.status == 0 and "narratives are not written" in ended.err
    for video in made:
        command = [
            "convert",
            "cvat",
            "--annotations",
            tmp_path / "c" / f"{video.video_id}.xml",
            "--segmenter",
            "classical",
        ]
        ended = cli(*command, "--out", tmp_path / "back" / video.video_id, "--quiet", "--strict")
        assert ended.status == 0, ended.err
        (back,) = VngDataset(tmp_path / "back" / video.video_id)
        assert (back.video_id, len(back.frame_names)) == (video.video_id, T)
        for item, old in zip(back.objects, video.objects, strict=True):
            assert (item.object_id, item.name, item.source) == (old.object_id, old.name, "drawn")
            assert item.segmentations == old.segmentations  # null and empty stay apart
            np.testing.assert_array_equal(item.points.xy, old.points.xy)
            assert item.points.label.tolist() == old.points.label.tolist()


def test_names_that_xml_cannot_hold_and_those_it_can(tmp_path: Path) -> None:
    video = make_video("one")
    first, second = video.objects
    named = replace(first, object_id=' <a href="x">&amp; ', name='"<b>&')
    made = replace(video, objects=(named, second), expressions=())
    export = write_cvat([made, replace(made, video_id="bell\a")], tmp_path / "c")
    assert export.totals["videos"] == 1 and "XML cannot hold all characters of 'bell" in export.problems[-1].reason
    ((clip,), _) = read(read_cvat, tmp_path / "c" / "one.xml")
    assert (clip.objects[0].object_id, clip.objects[0].name) == (named.object_id, named.name)


def test_tasks_of_images_do_not_say_their_size(tmp_path: Path, cli: Callable[..., Cli]) -> None:
    track = '<track id="0" label="p"><polygon frame="1" outside="0" keyframe="1" points="3,2;12,2;12,9;3,9"/></track>'
    file = written(tmp_path / "a.xml", document(track, head="<name>clip</name><size>3</size>"))
    _, (problem,) = read(read_cvat, file)
    assert "says the size of the frames: give --frames" in problem.reason
    write_frames(tmp_path / "clip", np.zeros((3, H, W, 3), np.uint8))
    command = ["convert", "cvat", "--annotations", file, "--segmenter", "classical", "--out", tmp_path / "o"]
    assert cli(*command, "--quiet", "--strict").status == 0
    (video,) = VngDataset(tmp_path / "o")
    assert video.objects[0].segmentations == (encode(box(2, 3, 9, 12)),) and video.frame_names == ("000001",)


def test_frames_of_another_size(tmp_path: Path, cli: Callable[..., Cli]) -> None:
    write_frames(tmp_path / "clip", np.zeros((9, W, H, 3), np.uint8))
    file = written(tmp_path / "a.xml", document(boxes((0, 0, 1, 3))))
    ended = cli(
        "convert", "cvat", "--annotations", file, "--segmenter", "classical", "--out", tmp_path / "o", "--quiet"
    )
    (problem,) = read_problems(tmp_path / "o" / "problems.jsonl")
    words = f"size: annotated in {W}x{H} pixels, the frames have {H}x{W}; give the frames that were annotated"
    assert ended.status == 1 and words in str(problem)
