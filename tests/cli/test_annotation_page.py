"""The annotation page in a real browser, used with the keyboard alone, from an empty folder to a dataset."""

from __future__ import annotations

import shlex
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.annotation_server import Server
from tests.conversion.annotation.small_project import SENTENCE, square, write_candidates, write_clip
from tests.helpers import Cli
from vng.dataset import Video, VngDataset
from vng.masks import area

ENGINES = ("--segmenter", "classical", "--propagator", "flow")
QUICK = ["optimizer.steps=2", "optimizer.batch_size=2", "data.frames=1", "--quiet"]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def serving(*words: object) -> Iterator[str]:
    """The address of a server, which is stopped as a person stops it."""
    server = Server(*words)
    try:
        yield server.address
    finally:
        assert server.stop() == 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, or a skipped test with the reason."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def page_at(browser: Any, address: str, name: str = "Ann") -> Iterator[Any]:
    """A page of a new visitor, who has told a name; errors of scripts fail the test."""
    errors: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    page.wait_for_selector("#ask-name[open]")
    page.keyboard.type(name)
    page.keyboard.press("Enter")
    yield page
    context.close()
    assert not errors


def shown(page: Any, before: str | None = None) -> str:
    """The candidate on the screen, once it is another one than `before`."""
    other = f':not([data-candidate="{before}"])' if before else ""
    page.wait_for_selector(f"#zoom[data-candidate]{other}")
    return str(page.get_attribute("#zoom", "data-candidate"))


def right_key(database: Path, candidate: str) -> str:
    """The key of the true answer."""
    with sqlite3.connect(database) as connection:
        row = connection.execute("SELECT frame, x, y FROM candidates WHERE candidate = ?", (candidate,)).fetchone()
    return "y" if square(row[0])[int(row[2]), int(row[1])] else "n"


def exported(page: Any, address: str) -> str:
    """Export by a key; returns the command that the page names then."""
    page.goto(f"{address}review")
    page.wait_for_selector("#list button")
    page.keyboard.press("e")
    page.wait_for_selector("#exported[data-file]")
    return str(page.locator("#exported code").nth(1).inner_text())


def converted(command: str, cli: Callable[..., Cli]) -> Video:
    """The one video of the dataset that the command on the page makes, with quick engines; `vng train` takes it."""
    ended = cli(*shlex.split(command.replace("--propagator", " ".join(ENGINES)))[1:], "--quiet")
    assert ended.status == 0, ended.err
    words = ["train", "demo/pretrain", "data.path=DATASET", "data.short_side=48", "out=model"]
    ended = cli(*words, *QUICK)
    assert ended.status == 0, ended.err
    (video,) = VngDataset("DATASET")
    return video


def test_an_object_is_verified_by_keys(
    browser: Any, tmp_path: Path, cli: Callable[..., Cli], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clip(tmp_path / "clips")
    database = tmp_path / "work.sqlite"
    words = ("--candidates", write_candidates(tmp_path / "candidates", ("a",)), "--frames", tmp_path / "clips")
    with serving(*words, "--database", database) as address:
        with page_at(browser, address) as page:
            first = candidate = shown(page)
            for _ in range(4):
                page.keyboard.press(right_key(database, candidate))
                candidate = shown(page, candidate)
            page.keyboard.press("b")
            page.keyboard.press("b")
            third = shown(page, candidate)
            assert page.inner_text("#said") in ("You said yes.", "You said no.")
            page.keyboard.press("u")  # another answer
            fourth = shown(page, third)
            page.keyboard.press("z")  # and back to it
            assert shown(page, fourth) == third
            page.keyboard.press(right_key(database, third))
            page.keyboard.press("ArrowRight")
            page.wait_for_selector('#main[data-unsent="0"]')
            assert shown(page, fourth) not in (first, third)
        with page_at(browser, address) as page:  # a new browser: it goes on where it was
            candidate = shown(page)
            assert "Question 5 of 9" in page.inner_text("#count")
            for left in range(5):
                page.keyboard.press(right_key(database, candidate))
                candidate = shown(page, candidate) if left < 4 else ""
            page.wait_for_selector("#done:not([hidden])")
            assert "Nothing is left" in page.inner_text("#done")
            command = exported(page, address)
    monkeypatch.chdir(tmp_path)
    video = converted(command, cli)
    (item,) = video.objects
    assert sorted(item.points.label.tolist()) == [0] * 3 + [1] * 6  # the uncertain ones lie on the square, too
    assert [video.noun(e) for e in video.expressions] == ["ball"]


def test_an_object_is_clicked_by_keys(
    browser: Any, tmp_path: Path, cli: Callable[..., Cli], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clip(tmp_path / "clips")
    with serving("--videos", tmp_path / "clips", *ENGINES) as address:
        with page_at(browser, address) as page:
            page.wait_for_selector("#work:not([hidden])")
            page.keyboard.press("t")
            page.wait_for_selector("#text")
            page.keyboard.type(SENTENCE)
            page.keyboard.press("Enter")
            page.wait_for_selector(".words button")
            for _ in range(60):  # to the word, by Tab alone
                page.keyboard.press("Tab")
                if page.locator(":focus").inner_text() == "ball":
                    break
            page.keyboard.press("Enter")
            page.wait_for_selector(".menu")
            page.keyboard.press("Enter")  # a new object
            page.wait_for_selector(".words button.noun")
            put_points(page)
            page.keyboard.press("End")
            page.wait_for_selector('#place:has-text("5 of 5")')
            page.keyboard.press("g")
            page.wait_for_selector("#job[data-state=finished]")
            page.wait_for_timeout(400)  # the place is kept a moment later
        with page_at(browser, address) as page:  # a new browser: clip, frame and object as they were
            page.wait_for_selector('#place:has-text("5 of 5")')
            assert "ball (a)" in page.inner_text("#objects li[aria-current=true]")
            page.wait_for_selector("#over[data-masks='1']")
            command = exported(page, address)
    monkeypatch.chdir(tmp_path)
    video = converted(command, cli)
    (item,) = video.objects
    assert [(video.noun(e), e.object_id) for e in video.expressions] == [("ball", "a")]
    assert all(rle is not None and area(rle) for rle in item.segmentations)


def put_points(page: Any) -> None:
    """One point on the square and one off it; points that were wrong are taken back, twice."""
    page.keyboard.press("p")  # the cross, in the middle of the frame
    page.keyboard.press("p")
    page.wait_for_selector('#objects:has-text("1 on, 0 off")')
    page.keyboard.press("w")
    page.keyboard.press("n")
    page.wait_for_selector('#objects:has-text("1 on, 1 off")')
    for rest in ("1 on, 0 off", "0 on, 0 off"):
        page.keyboard.press("u")
        page.wait_for_selector(f'#objects:has-text("{rest}")')
    for _ in range(12):
        page.keyboard.press("a")
    page.keyboard.press("p")
    page.wait_for_selector('#objects:has-text("1 on, 0 off")')
    page.wait_for_selector("#over[data-masks='1']")
    for _ in range(9):
        page.keyboard.press("s")
    page.keyboard.press("n")
    page.wait_for_selector('#objects:has-text("1 on, 1 off")')


def test_answers_wait_for_a_server_that_was_killed(browser: Any, tmp_path: Path) -> None:
    write_clip(tmp_path / "clips")
    database = tmp_path / "work.sqlite"
    words = ("--candidates", write_candidates(tmp_path / "candidates", ("a",)), "--frames", tmp_path / "clips")
    server = Server(*words, "--database", database)
    with page_at(browser, server.address) as page:
        candidate = shown(page)
        page.keyboard.press("y")
        page.wait_for_selector('#main[data-unsent="0"]')
        candidate = shown(page, candidate)
        server.stop(signal.SIGKILL)
        for _ in range(3):
            page.keyboard.press("n")
            candidate = shown(page, candidate)
        page.wait_for_selector('#message:has-text("3 answers are not saved yet")')
        server = Server(*words, "--database", database, port=server.port)
        page.wait_for_selector('#main[data-unsent="0"]')
        page.wait_for_selector("#message", state="hidden")
    assert server.stop() == 0
    with sqlite3.connect(database) as connection:
        labels = [row[0] for row in connection.execute("SELECT label FROM verdicts ORDER BY candidate")]
    assert labels == [1, 0, 0, 0]
