"""The server's answers, and what it refuses: other sites and hosts, strangers, bodies that do not fit, foreign paths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="pip install 'vng[annotate]'")
from starlette.testclient import TestClient

from conversion.annotation.clicking import Clicking
from conversion.annotation.database import Database
from conversion.annotation.masklets import Masklets
from conversion.annotation.project import Project
from conversion.annotation.server.app import Site, make_app
from conversion.annotation.server.pictures import Pictures
from conversion.annotation.server.security import LOOPBACK, MOST_BODY
from conversion.annotation.verification import Verification
from conversion.options import BuildOptions, load_engines
from tests.conversion.annotation.small_project import HEIGHT, WIDTH, write_candidates, write_clip

ANN = {"x-annotator": "Ann"}


def site_of(tmp_path: Path) -> Site:
    project = Project(Database(tmp_path / "x.sqlite", create=True))
    project.add_videos(write_clip(tmp_path / "clips"))
    project.add_candidates(write_candidates(tmp_path / "candidates"), tmp_path / "clips")
    pictures = Pictures(project)
    options = BuildOptions(segmenter="classical", propagator="flow")
    masklets = Masklets(project, lambda: load_engines(options), pictures.pixels)
    verification = Verification(database=project.database)
    return Site(clicking=Clicking(project=project), verification=verification, masklets=masklets, pictures=pictures)


def client_of(site: Site, **options: Any) -> TestClient:
    app = make_app(site, **options)
    return TestClient(app, base_url="http://localhost:8765", headers=ANN, raise_server_exceptions=True)


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    return client_of(site_of(tmp_path))


def test_pages_and_what_they_load(client: TestClient) -> None:
    assert client.get("/", follow_redirects=False).headers["location"] == "/verify"
    for view in ("verify", "click", "review"):
        page = client.get(f"/{view}")
        assert page.status_code == 200 and f'data-view="{view}"' in page.text
        assert "http" not in page.text.replace("http-equiv", "")  # nothing of a network
        script = client.get(f"/static/{view}.js")
        assert script.status_code == 200 and "javascript" in script.headers["content-type"]
        assert "innerHTML" not in script.text and "https:" not in script.text
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/%2e%2e%2f%2e%2e%2fdatabase.py", "/x.sqlite"):
        assert client.get(path).status_code == 404


def test_headers_of_every_answer(client: TestClient) -> None:
    for path in ("/verify", "/api/project", "/nothing", "/static/page.css"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
        assert headers["x-frame-options"] == "DENY" and headers["x-content-type-options"] == "nosniff"


def test_frames(client: TestClient) -> None:
    frame = client.get("/api/frames/1/2")
    assert frame.headers["content-type"] == "image/png" and frame.content.startswith(b"\x89PNG")
    assert client.get("/api/frames/1/99").json() == {"error": "frame 99 of 5"}
    assert client.get("/api/frames/9/0").status_code == 404
    assert client.get("/api/frames/1/" + "9" * 30).json() == {"error": "this number is too large"}
    assert client.get("/api/frames/..%2f..%2fetc/passwd").status_code == 404


def test_a_verdict(client: TestClient) -> None:
    answer = client.post("/api/verify/next", json={}).json()
    task = answer["task"]
    assert (task["name"], task["size"], len(task["questions"])) == ("ball", [HEIGHT, WIDTH], 9)
    assert task["narratives"] == [
        [{"text": "Ball: "}, {"text": "A "}, {"text": "ball", "noun": True}, {"text": " rolls past the other ball."}]
    ]
    assert sum(task["rough"]["runs"]) == HEIGHT * WIDTH
    assert answer["upcoming"] == {"clip": 1, "frames": [1, 0, 1, 2]}
    body = {"task": task["task"], "candidate": task["questions"][0]["candidate"], "label": "yes", "seconds": 0.8}
    assert client.post("/api/verify/answer", json=body).json() == {}
    other = client.post("/api/verify/answer", json=body, headers={"x-annotator": "Bob"})
    assert other.status_code == 409 and "Ann is working on this task" in other.json()["error"]
    assert client.get("/api/verify/progress").json()["answered"] == 1
    bob = {"x-annotator": "Bob"}
    held = client.post("/api/verify/next", json={}, headers=bob).json()["task"]
    assert held["task"] != task["task"] and client.post("/api/release", json={}, headers=bob).json() == {}
    assert client.post("/api/verify/answer", json=body | {"label": None}).status_code == 200
    assert client.get("/api/verify/progress").json()["answered"] == 0
    assert client.post("/api/verify/skip", json={"task": task["task"]}).json() == {}
    assert client.post("/api/verify/next", json={}).json()["task"]["task"] != task["task"]


def test_clicks(client: TestClient) -> None:
    assert client.post("/api/clips/1/open", json={}).json()["holder"] is None
    assert client.post("/api/clips/1/open", json={}, headers={"x-annotator": "Bob"}).json()["holder"] == "Ann"
    key = client.post("/api/clips/1/objects", json={"name": "x"}).json()["object"]
    click = client.post(f"/api/objects/{key}/clicks", json={"frame": 1, "x": 22, "y": 24, "label": 1}).json()["click"]
    runs = client.get("/api/clips/1/masks/1").json()[str(key)]
    assert sum(runs) == HEIGHT * WIDTH and sum(runs[1::2]) == pytest.approx(16 * 18, rel=0.1)
    assert client.post(f"/api/clicks/{click}/remove", json={}).json() == {"object": key}
    assert client.post(f"/api/objects/{key}/absent", json={"frame": 0, "absent": True}).json() == {}
    assert client.post("/api/clips/1/place", json={"frame": 3, "object": key}).json() == {}
    project = client.get("/api/project").json()
    assert project["place"] == {"annotator": "Ann", "clip": 1, "frame": 3, "object": key}
    assert project["clips"][0]["holder"] == "Ann"
    assert client.get("/api/clips/1/masklets").json() == {"state": "none"}
    assert client.post("/api/clips/1/prepare/1", json={}).json() == {"ready": True}
    assert client.post("/api/clips/1/prepare/77", json={}).json() == {"ready": False}


def test_texts_are_data(client: TestClient) -> None:
    evil = '<img src=x onerror="alert(1)"> [dog](a")'
    client.post("/api/clips/1/open", json={})
    state = client.post("/api/clips/1/narratives/0", json={"text": evil}).json()
    assert state["narratives"][0]["text"] == evil  # told as JSON; the page makes text nodes of it
    assert client.get("/api/clips/1").headers["content-type"] == "application/json"


def test_review_and_export(client: TestClient, tmp_path: Path) -> None:
    task = client.post("/api/verify/next", json={}).json()["task"]
    body = {"task": task["task"], "candidate": task["questions"][0]["candidate"], "label": "yes", "seconds": 0.8}
    client.post("/api/verify/answer", json=body)
    review = client.get("/api/review").json()
    assert [o["answers"] for o in review["objects"]] == [{"yes": 1}, {}]
    assert review["annotators"] == [{"annotator": "Ann", "answers": 1, "objects": 1, "seconds": 0.8}]
    assert client.get("/api/review/1").json()["points"][0]["answers"] == [["yes", "Ann"]]
    answer = client.post("/api/export", json={"format": "own"}).json()
    assert answer["file"] == str(tmp_path / "x.jsonl") and Path(answer["file"]).is_file()
    assert answer["command"] == f"vng convert own --clips {tmp_path / 'x.jsonl'} --propagator --out DATASET"
    assert client.post("/api/export", json={"format": "coco"}).status_code == 400


@pytest.mark.parametrize(
    ("headers", "status", "message"),
    [
        ({"host": "evil.example"}, 421, "not known by that name"),
        ({"host": "[::1"}, 421, "not known"),
        ({"origin": "https://evil.example"}, 403, "other sites"),
        ({"origin": "http://localhost:9999"}, 403, "other sites"),
        ({"sec-fetch-site": "cross-site"}, 403, "other sites"),
        ({"content-type": "text/plain"}, 415, "send JSON"),
        ({"content-type": "application/x-www-form-urlencoded"}, 415, "send JSON"),
        ({"content-length": "99999999"}, 413, "at most 1,048,576 bytes"),
        ({"x-annotator": ""}, 400, "tell your name"),
        ({"x-annotator": "x" * 61}, 400, "tell your name"),
        ({"x-annotator": "%00"}, 400, "tell your name"),
    ],
)
def test_what_is_refused(client: TestClient, headers: dict[str, str], status: int, message: str) -> None:
    answer = client.post("/api/verify/next", content="{}", headers={"content-type": "application/json"} | headers)
    assert answer.status_code == status and message in answer.text


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{", "no JSON"),
        ("[1]", "expected an object"),
        ("{}", "this key is missing"),
        ('{"task": "1", "candidate": 1}', "expected an integer"),
        ('{"task": 1e400, "candidate": 1}', "expected an integer"),
        ('{"task": 99999999999999999999999, "candidate": 1}', "too large"),
        ('{"task": 77, "candidate": 1, "label": "yes"}', "no candidate 1"),
        ('{"task": 1, "candidate": 1, "label": "maybe"}', "unknown label 'maybe'"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_bodies_that_say_nothing(client: TestClient, body: str, message: str) -> None:
    answer = client.post("/api/verify/answer", content=body, headers={"content-type": "application/json"})
    assert 400 <= answer.status_code < 500 and message in answer.json()["error"]


def test_a_body_longer_than_it_says(client: TestClient) -> None:
    def pieces() -> Any:
        for _ in range(3):
            yield b" " * MOST_BODY

    answer = client.post("/api/verify/answer", content=pieces(), headers={"content-type": "application/json"})
    assert answer.status_code == 413


def test_a_token(tmp_path: Path) -> None:
    site = site_of(tmp_path)
    stranger = client_of(site, hosts=(), token="a-secret")
    assert stranger.get("/verify").status_code == 401 and stranger.get("/api/project").status_code == 401
    assert stranger.get("/verify?token=wrong").status_code == 401
    assert stranger.get("/api/project", headers={"cookie": "vng_token=a-secre"}).status_code == 401
    came = stranger.get("/verify?token=a-secret", follow_redirects=False)
    assert came.status_code == 303 and came.headers["location"] == "/verify"
    assert "HttpOnly" in came.headers["set-cookie"] and "SameSite=strict" in came.headers["set-cookie"]
    assert stranger.get("/api/project").status_code == 200  # with its cookie
    assert client_of(site, hosts=LOOPBACK).get("/api/project").status_code == 200


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    site = site_of(tmp_path)
    client = client_of(site)
    client.post("/api/clips/1/open", json={})
    pages = site.clicking.database.rows("PRAGMA page_count")[0][0]
    site.clicking.database.rows(f"PRAGMA max_page_count = {pages + 6}")
    answers = [client.post("/api/clips/1/narratives/9", json={"text": "x" * 9_000}) for _ in range(6)]
    kept = [answer.status_code for answer in answers]
    assert kept[0] == 200 and kept[-1] == 507 and set(kept) == {200, 507}
    assert "no room is left" in answers[-1].json()["error"]
    assert len(client.get("/api/clips/1").json()["narratives"]) == 1 + kept.count(200)
