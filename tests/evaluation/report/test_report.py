"""The report: its record, what is shown, the page that stands alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.evaluation.narrative.test_analysis import LEFT, LOW, NOTHING, RIGHT
from tests.evaluation.narrative.test_analysis import make as make_narrated
from tests.evaluation.narrative.test_analysis import predict as predict_expressions
from tests.evaluation.vos.moving_discs import TWO, make, predict
from tests.helpers import Cli, assert_stands_alone, tables
from vng.dataset import Video
from vng.dataset_writer import write_dataset
from vng.errors import DataError
from vng.evaluation.bootstrap import Measure, Ratio
from vng.evaluation.figures import folder_names, p_value
from vng.evaluation.report import page as report_page
from vng.evaluation.report.from_masks import _best_proposal, opener
from vng.evaluation.report.page import choose, write_report
from vng.evaluation.report.plots import curves_svg, histogram_svg, mean_course, scatter_svg, thinned
from vng.evaluation.report.record import Case, Report, View, pair
from vng.evaluation.report.tables import case_table, video_table
from vng.masks import encode
from vng.pages import embed_image

EVIL = '<script>alert("x")</script> & \'</script>'


def case(number: int, j: Sequence[float], video: str = "v", **more: Any) -> Case:
    names = tuple(f"{5 * t:05d}" for t in range(len(j)))
    f = tuple(value / 2 for value in j)
    mean = float(np.mean(j))
    score, parts = 0.75 * mean, (mean, mean / 2)
    return Case(
        key=f"{video}/{number}",
        video=video,
        name=f"thing {number}",
        group="",
        score=score,
        parts=parts,
        frames=names,
        courses=(tuple(j), f),
        **more,
    )


def report(cases: Sequence[Case], name: str = "ours", **more: Any) -> Report:
    ratio = Ratio.of([c.video for c in cases], [c.score for c in cases])
    return Report(
        name=name,
        title=f"{name} on data",
        lead="what it is",
        unit="object",
        measures=(Measure("J&F", ratio, "mean"),),
        cases=tuple(cases),
        **more,
    )


def view(shown: Case, frames: Sequence[str]) -> list[View]:
    image = np.full((18, 25, 3), 60, np.uint8)
    mask = np.zeros((18, 25), bool)
    mask[4:9, 5:11] = True
    return [View(frame=name, image=image, truth=mask, prediction=np.roll(mask, 3, 1)) for name in frames]


class TestRecord:
    def test_a_value_for_each_frame(self) -> None:
        with pytest.raises(ValueError, match=r"case k: expected values for 1 frames, got \[2, 1\]"):
            Case(
                key="k",
                video="v",
                name="n",
                group="",
                score=0.5,
                parts=(0.5, 0.5),
                frames=("0",),
                courses=((0.5, 0.5), (0.5,)),
            )

    def test_pairs_by_key(self) -> None:
        ours = report([case(1, [0.9, 0.7]), case(2, [0.2], "w")])
        theirs = report([case(2, [0.1], "w"), case(1, [0.6, 0.4])], "theirs")
        found = pair(ours, theirs)
        assert [(a.key, b.key) for a, b in found.pairs] == [("v/1", "v/1"), ("w/2", "w/2")]
        told = found.as_json()["measures"]["J&F"]
        assert told["difference"] == pytest.approx(0.75 * 0.2)
        assert (told["low"], told["high"]) == pytest.approx((0.075, 0.225)) and told["p"] < 0.01
        assert found.table().splitlines()[1].split()[:4] == ["J&F", "37.50", "22.50", "+15.00"]

    def test_other_cases_are_an_error(self) -> None:
        ours, theirs = report([case(1, [0.9]), case(3, [0.5])]), report([case(1, [0.9]), case(2, [0.2])], "theirs")
        with pytest.raises(
            DataError, match="theirs: v/3: 2 objects are scored in only one of ours and theirs; compare"
        ):
            pair(ours, theirs)

    @pytest.mark.parametrize(
        ("folders", "names"),
        [
            (["a/flow"], ("flow",)),
            (["a/flow", "a/stcn"], ("flow", "stcn")),
            (["a/flow/points-1/seed-0", "a/stcn/points-1/seed-0"], ("flow", "stcn")),
            (["a/x/run", "a/y/z/run"], ("x", "z")),
            (["a", "a"], ("a", "a")),
        ],
    )
    def test_folder_names(self, tmp_path: Path, folders: list[str], names: tuple[str, ...]) -> None:
        found = folder_names([tmp_path / folder for folder in folders])
        assert found == names or (folders == ["a", "a"] and found[0].endswith("/a"))

    def test_p_values(self) -> None:
        assert [p_value(p) for p in (0.0009, 0.0421, 1.0, float("nan"))] == ["< 0.001", "0.042", "1.000", "-"]


class TestChoice:
    def test_worst_and_best_each_once(self) -> None:
        cases = [case(i, [i / 40]) for i in range(40)]
        found = choose(report(cases), None)
        assert [item.case.key for item in found["worst"]] == [f"v/{i}" for i in range(8)]
        assert [item.case.key for item in found["best"]] == ["v/39", "v/38", "v/37", "v/36"] and not found["differ"]

    def test_few_cases(self) -> None:
        found = choose(report([case(1, [0.5])]), None)
        assert len(found["worst"]) == 1 and not found["best"]

    def test_what_differs_most(self) -> None:
        ours = report([case(i, [0.5, 0.5, 0.5]) for i in range(12)])
        theirs = report([case(i, [0.5, 0.5 - 0.04 * i, 0.5]) for i in range(12)], "theirs")
        found = choose(ours, pair(ours, theirs))
        assert [item.case.key for item in found["differ"]] == [f"v/{i}" for i in range(11, 3, -1)]
        assert found["differ"][0].frames == (0, 1, 2) and len(found["worst"]) == 4

    def test_frames_are_the_worst_of_each_third(self) -> None:
        j = [0.9, 0.1, 0.9, 0.9, 0.9, 0.2, 0.3, 0.9, 0.9]
        assert choose(report([case(1, j)]), None)["worst"][0].frames == (1, 5, 6)
        assert choose(report([case(1, j[:2])]), None)["worst"][0].frames == (0, 1)


class TestPlots:
    def test_thinned(self) -> None:
        assert thinned([1, 2, 3], 3) == [1, 2, 3] and thinned([1, 3, 5, 7], 2) == [2, 6] and thinned([], 4) == []

    def test_curves(self) -> None:
        svg = curves_svg([("a", [0.0, 1.0]), ("b", [0.5])], [0.5], height=102)
        assert '<polyline class="a" points="0,101 640,1"/>' in svg
        assert '<polyline class="b" points="0,51 640,51"/>' in svg and 'd="M320 0V102"' in svg
        assert svg.count("NaN") == 0 and curves_svg([("a", [])])

    def test_histogram(self) -> None:
        svg, most = histogram_svg([("a", [0.0, 0.01, 1.0]), ("b", [0.5])])
        assert most == 3 and "<title>0 to 5: 2</title>" in svg and "<title>95 to 100: 1</title>" in svg
        assert '<rect class="b"' in svg and "<title>50 to 55: 1</title>" in svg
        assert histogram_svg([("a", [])])[1] == 2

    def test_scatter_has_its_limits(self) -> None:
        assert scatter_svg([(0.25, 0.75)], 100).count('cx="25" cy="25"') == 1
        assert scatter_svg([(0.5, 0.5)] * 5000).count("<circle") == 2000 and "<circle" not in scatter_svg([])

    def test_mean_course(self) -> None:
        found = mean_course([case(1, [0.0, 1.0]), case(2, [0.5])])
        assert found[0] == pytest.approx(0.25) and found[-1] == pytest.approx(0.75) and mean_course([]) == []


class TestTables:
    def test_cases_hardest_first(self) -> None:
        cases = [
            case(1, [0.8, 0.6], caption="a cat", span=(2, 5), more=("yes", None)),
            case(2, [0.1], "w", more=(None, 3)),
        ]
        found = case_table(report(cases, columns=(("swapped", "why"), ("missed", ""))), None, {"v/1": "case-1"})[
            "table"
        ]
        names = [column["name"] for column in found["columns"]]
        assert names == ["object", "J&F", "J over time", "video", "J", "F", "frames", "swapped", "missed"]
        assert [column["kind"] for column in found["columns"][-2:]] == ["text", "count"]
        first, second = found["rows"]
        assert first[:-1] == ["thing 2", 0.075, None, "w", 0.1, 0.05, 1, None, 3]
        assert second[-1] == {
            "lines": [[80, 60]],
            "frames": ["00000", "00005"],
            "case": "case-1",
            "text": 0,
            "span": (2, 5),
        }
        assert found["texts"] == ["a cat"] and found["group"] == -1

    def test_rivals_and_groups(self) -> None:
        ours, theirs = (report([replace(case(1, [v]), group="cat")], n) for n, v in (("ours", 0.8), ("theirs", 0.4)))
        found = case_table(ours, pair(ours, theirs), {})["table"]
        assert found["rows"][0][1:4] == [0.6, 0.3, 0.3] and found["columns"][found["group"]]["name"] == "group"
        assert found["rows"][0][found["group"]] == "cat" and found["rows"][0][-1]["lines"] == [[80], [40]]

    def test_videos(self) -> None:
        cases = [case(1, [0.8, 0.6]), case(2, [0.4, 0.2]), case(1, [0.2], "w")]
        rows = video_table(report(cases), None)["table"]["rows"]
        assert [row[:2] for row in rows] == [["w", 0.15], ["v", 0.375]]
        assert rows[1][-1]["lines"] == [[60, 40]] and rows[1][3] == 2


class TestPage:
    def test_content(self, tmp_path: Path) -> None:
        cases = [case(i, [i / 30, 0.5, 0.4], "v" if i % 2 else "w") for i in range(30)]
        page = write_report(report(cases, viewer=view), tmp_path, footer="vng evaluate x").read_text()
        assert_stands_alone(page)
        assert page.count('src="data:image/webp;base64,') == 12 * 3 * 3 and "vng evaluate x" in page
        for title in ("Scores", "Distribution", "Videos", "All objects", "Worst cases", "Best cases"):
            assert f">{title}</h2>" in page
        assert "Cases that differ most" not in page and len(tables(page)["cases"]["rows"]) == 30
        assert 'alt="thing 0: w, frame 00000: J 0.00: truth"' in page and "<noscript>" in page

    def test_beside_other_results(self, tmp_path: Path) -> None:
        ours = report([case(i, [0.9, 0.8], f"v{i}") for i in range(3)], viewer=view)
        theirs = report([case(i, [0.7, 0.8], f"v{i}") for i in range(3)], "theirs", viewer=view)
        page = write_report(ours, tmp_path, pair(ours, theirs)).read_text()
        assert "ours on data, against theirs" in page and "Cases that differ most" in page
        assert "+7.50" in page and page.count("<figcaption>theirs</figcaption>") == 3 * 2
        assert "With 3 videos they are rough" in page

    def test_names_and_narratives_are_text(self, tmp_path: Path) -> None:
        evil = replace(
            case(1, [0.5]), name=EVIL, video=EVIL, group=EVIL, caption=EVIL, span=(0, 8), frames=(EVIL,), more=(EVIL,)
        )
        bad = replace(report([evil], EVIL), title=EVIL, lead=EVIL, columns=((EVIL, EVIL),), notes=(EVIL,), viewer=view)
        page = write_report(bad, tmp_path, pair(bad, replace(bad, name=EVIL + "2")), EVIL).read_text()
        assert "<script>alert" not in page and page.count("<script") == page.count("</script>") == 3
        assert tables(page)["cases"]["rows"][0][0] == EVIL
        assert "&lt;script&gt;alert" in page

    def test_protocols_without_frames(self, tmp_path: Path) -> None:
        bare = Case(key="k", video="v", name="n", group="", score=0.5, parts=(0.25, 0.75))
        page = write_report(report([bare]), tmp_path).read_text()
        assert (
            tables(page)["cases"]["rows"][0][-1]["lines"] == [[]]
            and "course" not in page.split("Distribution</h2>")[1].split("<h2")[0]
        )

    def test_thousands_of_cases(self, tmp_path: Path) -> None:
        opened: list[str] = []

        def viewer(shown: Case, frames: Sequence[str]) -> list[View]:
            opened.append(shown.video)
            return view(shown, frames)

        rng = np.random.default_rng(0)
        cases = [
            case(i, rng.uniform(size=90).tolist(), f"video {i // 9}", caption=f"text {i // 3}", span=(0, 4))
            for i in range(3000)
        ]
        path = write_report(report(cases, viewer=viewer), tmp_path)
        assert len(opened) == 12 and opened == sorted(opened)  # the shown ones, one video after the other
        assert path.stat().st_size < 1_500_000
        found = tables(path.read_text())["cases"]
        assert len(found["rows"]) == 3000 and found["page"] == 50 and len(found["texts"]) == 1000
        assert len(found["rows"][0][-1]["lines"][0]) == 24

    def test_pictures_keep_to_the_budget(self, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
        images = [rng.integers(0, 255, (60, 80, 3), np.uint8) for _ in range(3)]
        best = sum(len(report_page._embedder(images)(image)) for image in images)
        monkeypatch.setattr(report_page, "BUDGET", 2 * best // 3)
        assert sum(len(report_page._embedder(images)(image)) for image in images) <= 2 * best // 3

    def test_an_embedded_picture(self) -> None:
        import base64

        image = np.full((20, 30, 3), (200, 30, 60), np.uint8)
        url = embed_image(image, 90, webp=True)
        back = cv2.imdecode(np.frombuffer(base64.b64decode(url.split(",")[1]), np.uint8), cv2.IMREAD_COLOR)
        assert url.startswith("data:image/webp;") and back.shape == image.shape
        assert np.abs(back[:, :, ::-1].astype(int) - image).max() < 12


def test_an_opener_goes_forward() -> None:
    passes = []

    def videos() -> Any:
        passes.append(0)
        return (make(name, TWO) for name in "abcd")

    open_video = opener(videos)
    assert [open_video(name).video_id for name in "aabd"] == list("aabd")
    assert open_video("d") is open_video("d") and open_video("b").video_id == "b"


class TestCommands:
    @pytest.fixture
    def vos(self, tmp_path: Path) -> Path:
        videos = [make("walk", TWO, {"1": "cat", "2": "<b>tapir"}), make("run", {"3": TWO["1"]}, {"3": "cat"})]
        write_dataset(tmp_path / "d", videos, "t")
        for video in videos:
            for shift in (0, 2):
                predict(video, tmp_path / f"shift{shift}", shift)
                for n in (1, 2):
                    predict(video, tmp_path / f"runs{shift}" / f"points-{n}" / "seed-0", shift + n)
        return tmp_path

    def test_vos(self, vos: Path, cli: Callable[..., Cli]) -> None:
        ended = cli(
            "evaluate",
            "vos",
            "--dataset",
            vos / "d",
            "--results",
            vos / "shift2",
            "--against",
            vos / "shift0",
            "--html",
            vos / "page",
            "--json",
            vos / "s.json",
            "--quiet",
        )
        assert ended.status == 0, ended.err
        page = (vos / "page" / "index.html").read_text()
        assert ended.out.splitlines()[-1] == str(vos / "page" / "index.html")
        assert_stands_alone(page)
        told = json.loads((vos / "s.json").read_text())
        tested = told["against"]["measures"]["J&F"]
        assert tested["results"] == pytest.approx(told["J&F"]) and tested["against"] == 1.0
        assert tested["difference"] == pytest.approx(told["J&F"] - 1)
        rows = tables(page)["cases"]["rows"]
        assert {row[0] for row in rows} == {"1 (cat)", "2 (<b>tapir)", "3 (cat)"} and "<b>tapir" not in page
        assert page.count("data:image/webp") == 3 * 3 * 4  # grey frames: the dataset has none

    def test_each_protocol(self, vos: Path, cli: Callable[..., Cli]) -> None:
        (vos / "seen").write_text("cat\n")
        for more, figures in (
            (("--protocol", "davis-2016"), ["J&F", "J", "F", "J recall"]),
            (("--protocol", "youtube-vos", "--seen", vos / "seen"), ["G", "J&F", "seen J&F", "unseen J&F"]),
            (("--official",), ["J&F", "J", "F", "J recall"]),
        ):
            ended = cli(
                "evaluate",
                "vos",
                "--dataset",
                vos / "d",
                "--results",
                vos / "shift2",
                *more,
                "--html",
                vos / "page",
                "--quiet",
            )
            assert ended.status == 0, ended.err
            page = (vos / "page" / "index.html").read_text()
            assert re.findall(r'<div class="figure"><b>[^<]*</b><small>[^<]*</small><span>([^<]*)', page) == [
                name.replace("&", "&amp;") for name in figures
            ]

    def test_runs_of_a_benchmark(self, vos: Path, cli: Callable[..., Cli]) -> None:
        call = ("evaluate", "vos", "--dataset", vos / "d", "--protocol", "point-vos", "--quiet", "--results")
        ended = cli(*call, vos / "runs2", "--against", vos / "runs0", "--html", vos / "page")
        assert ended.status == 0, ended.err
        found = tables((vos / "page" / "index.html").read_text())["cases"]
        assert {row[found["group"]] for row in found["rows"]} == {"1 points, seed 0", "2 points, seed 0"}
        other = cli(*call, vos / "runs2", "--against", vos / "shift0")
        assert other.status == 1 and "are scored in only one of" in other.err

    def test_proposals(self, vos: Path, cli: Callable[..., Cli]) -> None:
        """Proposals have numbers of their own; pictures show the one that lies on the object."""
        labels = np.array([[0, 7, 7], [9, 9, 9]], np.uint8)
        truth = encode(np.array([[0, 1, 1], [0, 0, 1]]))
        assert (_best_proposal(labels, truth) == (labels == 7)).all()
        assert not _best_proposal(labels, encode(labels == 0)).any() and not _best_proposal(labels, None).any()
        ended = cli(
            "evaluate",
            "vos",
            "--dataset",
            vos / "d",
            "--results",
            vos / "shift2",
            "--protocol",
            "davis-unsupervised",
            "--html",
            vos / "page",
            "--quiet",
        )
        assert ended.status == 0, ended.err
        assert "Pictures show the proposal that overlaps" in (vos / "page" / "index.html").read_text()

    def test_referring(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        write_dataset(tmp_path / "d", [make_narrated("v", True), make_narrated("w", True)], "t")
        good = [[LEFT] * 4, [RIGHT, RIGHT, NOTHING, NOTHING], [LOW, NOTHING, NOTHING, LOW], [LEFT] * 4]
        for name in ("v", "w"):
            predict_expressions(tmp_path / "good", good, name)
            predict_expressions(tmp_path / "bad", [*good[:3], [NOTHING] * 4], name)
        for protocol, second in (
            ("mevis", 0.75),
            ("ref-davis", 0.5),
        ):  # the second annotator has one expression, all wrong
            ended = cli(
                "evaluate",
                "referring",
                "--dataset",
                tmp_path / "d",
                "--results",
                tmp_path / "good",
                "--against",
                tmp_path / "bad",
                "--protocol",
                protocol,
                "--html",
                tmp_path / "p",
                "--json",
                tmp_path / "s.json",
                "--quiet",
            )
            assert ended.status == 0, ended.err
            told = json.loads((tmp_path / "s.json").read_text())
            tested = told["against"]["measures"]
            assert (tested["J&F"]["results"], tested["J&F"]["against"]) == (told["J&F"], pytest.approx(second))
            assert "swap rate" not in tested and tested["presence recall"]["results"] == 1.0
            found = tables((tmp_path / "p" / "index.html").read_text())["cases"]
            assert [c["name"] for c in found["columns"]][-2:] == ["missed", "invented"] and found["group"] == -1

    def test_annotators(self, vos: Path, cli: Callable[..., Cli]) -> None:
        for shift in (0, 2):
            (vos / f"ref{shift}").mkdir()
            (vos / f"shift{shift}").rename(vos / f"ref{shift}" / "anno_0")
        call = ("evaluate", "referring", "--dataset", vos / "d", "--protocol", "ref-davis", "--quiet", "--results")
        ended = cli(*call, vos / "ref2", "--against", vos / "ref0", "--html", vos / "page")
        assert ended.status == 0 and "diff." in ended.out and (vos / "page" / "index.html").exists(), ended.err
        ended = cli(*call, vos / "ref2", "--against", vos / "runs0")
        assert ended.status == 1 and "expected folders anno_<k>" in ended.err

    def test_an_archive_has_no_report(self, vos: Path, cli: Callable[..., Cli]) -> None:
        ended = cli(
            "evaluate",
            "vos",
            "--dataset",
            vos / "d",
            "--results",
            vos / "shift0",
            "--archive",
            "x.zip",
            "--html",
            "page",
        )
        assert ended.status == 2 and "leave out --html" in ended.err

    def test_vng_on_dataset_and_on_trio(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        from conversion.formats.official_export import write_trio

        videos: list[Video] = [make_narrated("v", True), make_narrated("w", True)]
        write_dataset(tmp_path / "d", videos, "t")
        files = write_trio(videos[:1], tmp_path / "trio")
        for name in ("v", "w"):
            masks = [[RIGHT] * 4, [RIGHT, RIGHT, NOTHING, LOW], [LOW, NOTHING, NOTHING, LOW], [LEFT] * 4]
            predict_expressions(tmp_path / "r", masks, name)
        trio = ("--meta", files.meta, "--extra-masks", files.extra_masks, "--orig-masks", files.orig_masks)
        for count, source in ((2, ("--dataset", tmp_path / "d")), (1, trio)):
            ended = cli("evaluate", "vng", *source, "--results", tmp_path / "r", "--html", tmp_path / "p", "--quiet")
            assert ended.status == 0, ended.err
            page = (tmp_path / "p" / "index.html").read_text()
            assert_stands_alone(page)
            found = tables(page)["cases"]
            assert found["rows"][0][0] == "Parrot" and "yes" in found["rows"][0] and len(found["rows"]) == 4 * count
            assert found["texts"][0].endswith("<b>&.") and "<b>&." not in page
            assert "meets the other" in page and ">Parrot</mark>" in page
            assert page.count("data:image/webp") == 4 * count * 3 * 3
