"""The annotation page: how fast it answers, what it loses when it is killed, and what memory it needs.

    python -m benchmarks.annotation_page verdicts clicks kills memory --json figures.json

`verdicts`: a scripted Chromium answers 500 candidates on frames of 480 x 854 pixels as fast as the page shows them: the time
of each answer on loopback, and the time from the key press to the next picture.
`clicks`: 40 clicks on a frame of 480 rows that is encoded already: the time from the click to the new mask.
`kills`: a server with four annotators is killed (SIGKILL) at 30 random moments.
`davis`: with the folder of DAVIS clips in --davis, a scripted person clicks on the first object of each clip: the first click
at the middle of its first mask, two more at the deepest errors of that frame, each other one at the deepest error of the
worst frame. The mask is carried through the clip after each click; J of the masklet after 1, 3, 5 and 10 clicks, over all
frames.
`memory`: 100,000 candidates; the server's peak while objects are given out and answered.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import cv2
import numpy as np

from benchmarks.annotation_server import Server
from conversion.annotation.candidates import COUNTS, Candidate
from conversion.annotation.proposals import SHOWN_ORDER, ProposalFolder, ProposedObject, ProposedVideo
from vng.evaluation.interactive import first_clicks, next_click
from vng.evaluation.metrics import jaccard
from vng.label_maps import read_label_map
from vng.masks import RLE, decode, encode
from vng.points import Click

HEIGHT, WIDTH, FRAMES, VERDICTS, CLICKS, KILLS = 480, 854, 10, 500, 40, 30
NOTED, IN_FIRST = (1, 3, 5, 10), 3  # numbers of clicks; of them in the first frame
ANSWERS = ("yes", "no", "unsure")
# Runs in the page before its own scripts: the time from a key press to the next picture.
WATCH = """
window.vngDelays = [];
document.addEventListener('keydown', () => { window.vngPressed = performance.now(); }, true);
new MutationObserver((changes) => {
  if (changes.some((c) => c.attributeName === 'data-candidate') && window.vngPressed) {
    window.vngDelays.push(performance.now() - window.vngPressed);
    window.vngPressed = 0;
  }
}).observe(document, { attributes: true, subtree: true });
"""


def write_project(folder: Path, objects: int) -> tuple[Path, Path]:
    """(candidates, frames) of one clip of smooth noise: `objects` objects with 200 candidates in 10 frames."""
    rng = np.random.default_rng(0)
    frames = folder / "frames" / "clip"
    frames.mkdir(parents=True)
    for t in range(FRAMES):
        image = cv2.resize(rng.integers(0, 255, (48, 86, 3), np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(frames / f"{t:05d}.jpg"), image)
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    rough = encode((rows - 240) ** 2 + (columns - 400) ** 2 < 90**2)
    proposed = []
    for key in range(objects):
        xy = rng.uniform((0, 0), (WIDTH - 1, HEIGHT - 1), (sum(COUNTS.values()) * FRAMES, 2))
        places = iter(xy.tolist())
        drawn = [
            Candidate(frame=t, x=x, y=y, kind=kind, probability=0.5)
            for kind in SHOWN_ORDER
            for t in range(FRAMES)
            for x, y in (next(places) for _ in range(COUNTS[kind]))
        ]
        proposed.append(
            ProposedObject(object_id=str(key), name="thing", rough_frame=0, rough_mask=rough, candidates=tuple(drawn))
        )
    video = ProposedVideo(
        video_id="clip",
        video="clip",
        split="train",
        frame_names=tuple(f"{t:05d}" for t in range(FRAMES)),
        objects=tuple(proposed),
    )
    ProposalFolder(folder / "candidates", {"of": "a benchmark"}).write(video)
    return folder / "candidates", folder / "frames"


@contextmanager
def page(address: str) -> Iterator[Any]:
    """A page of a new browser whose name is told."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": 1280, "height": 900})
        view.add_init_script(WATCH)
        view.goto(address)
        view.keyboard.type("Ann")
        view.keyboard.press("Enter")
        yield view
        browser.close()


def verdicts(folder: Path) -> dict[str, float]:
    """Times of 500 answers of a scripted browser, milliseconds."""
    candidates, frames = write_project(folder, 4)
    server = Server("--candidates", candidates, "--frames", frames)
    times: list[float] = []

    def note(request: Any) -> None:
        if request.url.endswith("/api/verify/answer"):
            times.append(request.timing["responseEnd"] - request.timing["requestStart"])

    with page(server.address) as view:
        view.on("requestfinished", note)
        view.wait_for_selector("#zoom[data-candidate]")
        view.wait_for_timeout(1500)  # a person looks at the first picture, too
        for i in range(VERDICTS):
            before = view.get_attribute("#zoom", "data-candidate")
            view.keyboard.press("ynu"[i % 3])
            view.wait_for_selector(f'#zoom:not([data-candidate="{before}"])')
        view.wait_for_selector('#main[data-unsent="0"]')
        delays = view.evaluate("() => window.vngDelays")
    server.stop()
    shown = np.array(delays)
    return {
        "verdicts": len(times),
        "answer_median_ms": float(np.median(times)),
        "answer_99th_ms": float(np.quantile(times, 0.99)),
        "picture_median_ms": float(np.median(shown)),
        "picture_99th_ms": float(np.quantile(shown, 0.99)),
        "picture_max_ms": float(shown.max()),
    }


def clicks(folder: Path) -> dict[str, float]:
    """Times from a click to the mask, in a browser, milliseconds."""
    _, frames = write_project(folder, 1)
    server = Server("--videos", frames)
    times = []
    with page(server.address) as view:
        view.wait_for_selector("#over")
        view.wait_for_timeout(12_000)  # the engine is loaded and the frame encoded
        box = view.locator("#over").bounding_box()
        for i in range(CLICKS + 1):
            x, y = 0.1 + 0.8 * (i % 7) / 7, 0.1 + 0.8 * (i // 7) / 7
            view.evaluate("() => delete document.querySelector('#over').dataset.milliseconds")
            view.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
            view.wait_for_selector("#over[data-milliseconds]")
            times.append(float(view.get_attribute("#over", "data-milliseconds")))
    server.stop()
    later = np.array(times[1:])  # the first one may wait for the engine
    return {
        "first_click_ms": times[0],
        "click_median_ms": float(np.median(later)),
        "click_99th_ms": float(np.quantile(later, 0.99)),
    }


def kills(folder: Path) -> dict[str, float]:
    """Acknowledged answers that are lost or doubled, and objects that nobody can finish, after 30 kills."""
    candidates, frames = write_project(folder, 60)
    database, acknowledged = folder / "x.sqlite", dict[tuple[int, int], str]()
    rng = np.random.default_rng(1)
    words = ("--candidates", candidates, "--frames", frames, "--database", database, "--lease", "0.02")
    for _ in range(KILLS):
        server = Server(*words)
        people = [threading.Thread(target=_annotate, args=(server, name, acknowledged)) for name in "ABCD"]
        for person in people:
            person.start()
        time.sleep(0.3 + rng.uniform(0, 1.0))
        server.stop(signal.SIGKILL)
        for person in people:
            person.join()
    labels = {1: "yes", 0: "no", -1: "unsure"}
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT task, candidate, label FROM verdicts").fetchall()
    kept = {(task, candidate): labels[label] for task, candidate, label in rows}
    lost = sum(kept.get(key) != label for key, label in acknowledged.items())
    time.sleep(1.3)
    server = Server(*words)
    _annotate(server, "Eve", acknowledged)
    server.stop()
    with sqlite3.connect(database) as connection:
        (held,) = connection.execute("SELECT count(*) FROM tasks WHERE answered < questions").fetchone()
    return {
        "kills": KILLS,
        "acknowledged": len(acknowledged),
        "lost": lost,
        "doubled": len(rows) - len(kept),
        "unfinishable_objects": held,
    }


def _annotate(server: Server, name: str, acknowledged: dict[tuple[int, int], str]) -> None:
    """Answer until nothing is left, or the server is gone."""
    rng = np.random.default_rng(ord(name[0]))
    try:
        while task := server.call("api/verify/next", name, {})["task"]:
            for question in task["questions"]:
                if question["label"] is None:
                    label = ANSWERS[int(rng.integers(3))]
                    body = {"task": task["task"], "candidate": question["candidate"], "label": label}
                    server.call("api/verify/answer", name, body)
                    acknowledged[task["task"], question["candidate"]] = label
    except (OSError, ValueError, HTTPException):
        return


def memory(folder: Path) -> dict[str, float]:
    """Peak memory of a server with 100,000 candidates, MiB, while it is used."""
    candidates, frames = write_project(folder, 500)
    server = Server("--candidates", candidates, "--frames", frames)
    for _ in range(5):
        task = server.call("api/verify/next", "Ann", {})["task"]
        for question in task["questions"]:
            body = {"task": task["task"], "candidate": question["candidate"], "label": "yes"}
            server.call("api/verify/answer", "Ann", body)
        for t in range(FRAMES):
            request = Request(f"{server.address}api/frames/1/{t}", headers={"x-annotator": "Ann"})
            urlopen(request, timeout=20).read()
    peak = server.peak()
    server.stop()
    return {"candidates": 500 * 20 * FRAMES, "peak_mib": peak}


def davis(folder: Path, clips: Sequence[Path]) -> dict[str, float]:
    """J of masklets after some clicks that a scripted person makes on the page."""
    frames = folder / "frames"
    frames.mkdir()
    for clip in clips:
        (frames / clip.name).symlink_to(clip.resolve())
    server, figures = Server("--videos", frames), dict[str, float]()
    for clip in clips:
        files = sorted((clip.parents[2] / "Annotations" / "480p" / clip.name).glob("*.png"))
        truth = np.stack([read_label_map(file) == 1 for file in files])
        with page(server.address) as view:
            view.wait_for_selector("#work:not([hidden])")
            view.select_option("#clips", label=clip.name)
            view.wait_for_selector(f'#place:has-text("of {len(truth)} ")')
            for count, j in _click_through(view, truth, frames / "annotation.sqlite", clip.name):
                figures[f"{clip.name}_j_{count}"] = j
        print(
            clip.name, {key: round(value, 3) for key, value in figures.items() if key.startswith(clip.name)}, flush=True
        )
    server.stop()
    for count in NOTED:
        figures[f"mean_j_{count}"] = float(np.mean([figures[f"{clip.name}_j_{count}"] for clip in clips]))
    return figures


def _click_through(view: Any, truth: np.ndarray, database: Path, name: str) -> Iterator[tuple[int, float]]:
    """(number of clicks, J of the masklet) after each noted number of clicks."""
    view.keyboard.press("o")
    view.wait_for_selector("#objects li[aria-current=true]")
    frame, click = next((t, c) for t, mask in enumerate(truth) if mask.any() for c in first_clicks(mask[None]))
    first, made = frame, dict[int, list[Click]]()
    for count in range(1, NOTED[-1] + 1):
        view.locator("#frames").fill(str(frame))
        view.wait_for_selector(f'#place:text-matches("^{frame + 1} of")')
        box = view.locator("#over").bounding_box()
        x, y = (click.x + 0.5) / truth.shape[2], (click.y + 0.5) / truth.shape[1]
        on = bool(truth[frame, int(click.y), int(click.x)])
        place = (box["x"] + x * box["width"], box["y"] + y * box["height"])
        view.mouse.click(*place, button="left" if on else "right")
        view.wait_for_selector(f'#objects li[aria-current=true] small:text-matches("{_counts(made, truth, on)}")')
        made.setdefault(frame, []).append(click)
        view.wait_for_timeout(300)
        view.click("#go")
        view.wait_for_selector("#job[data-state=running]")
        view.wait_for_selector("#job[data-state=finished]", timeout=300_000)
        masks = _masklet(database, name, truth.shape[1:])
        js = jaccard(truth, masks)
        if count in NOTED:
            yield count, float(js.mean())
        # The first frame, then the worst one in which a place for a click is left.
        for t in [first, *np.argsort(js)] if count < IN_FIRST else np.argsort(js):
            following = next_click(masks[t : t + 1], truth[t : t + 1], 0, made.get(int(t), []))
            if following is not None:
                frame, click = int(t), following
                break


def _counts(made: dict[int, list[Click]], truth: np.ndarray, on: bool) -> str:
    """The text of the page for the points of the object after one more."""
    labels = [bool(truth[t, int(c.y), int(c.x)]) for t, clicks in made.items() for c in clicks] + [on]
    return f"^{sum(labels)} on, {len(labels) - sum(labels)} off"


def _masklet(database: Path, name: str, size: tuple[int, int]) -> np.ndarray:
    with sqlite3.connect(database) as connection:
        sql = "SELECT mask FROM masklets JOIN objects USING (object) JOIN clips USING (clip) WHERE video_id = ? ORDER BY frame"
        rows = connection.execute(sql, (name,)).fetchall()
    return np.stack([decode(RLE(size, counts)) for (counts,) in rows])


PARTS: dict[str, Callable[[Path], dict[str, float]]] = {
    "verdicts": verdicts,
    "clicks": clicks,
    "kills": kills,
    "memory": memory,
}


def main() -> None:
    """Measure the parts that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, "davis"], default=list(PARTS))
    parser.add_argument("--davis", type=Path, nargs="+", default=[], help="folders of frames, .../JPEGImages/480p/CLIP")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    figures: dict[str, float] = {}
    for name in arguments.parts:
        with tempfile.TemporaryDirectory() as folder:
            own = davis(Path(folder), arguments.davis) if name == "davis" else PARTS[name](Path(folder))
        figures |= {f"{name}.{key}": value for key, value in own.items()}
        print(name, ", ".join(f"{key} {value:,.3g}" for key, value in own.items()), flush=True)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
