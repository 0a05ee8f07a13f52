"""`vng annotate serve` as a process: two of them on one database, killed at any moment, and calls that are refused."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

import numpy as np
import pytest

from benchmarks.annotation_server import Server
from conversion.annotation.serving import Address, Sources, _listening, checked_address
from tests.conversion.annotation.small_project import write_candidates, write_clip
from tests.helpers import Cli
from vng.errors import UsageError

IDS = tuple(f"o{i}" for i in range(30))


def annotate(server: Server, name: str, acknowledged: dict[tuple[int, int], int], stop: threading.Event) -> None:
    """Answer whatever comes, as fast as it goes, and note what the server acknowledged."""
    rng = np.random.default_rng(sum(map(ord, name)))
    try:
        while not stop.is_set() and (task := server.call("api/verify/next", name, {})["task"]):
            for question in task["questions"]:
                label = int(rng.integers(3))
                body = {
                    "task": task["task"],
                    "candidate": question["candidate"],
                    "label": ["no", "yes", "unsure"][label],
                }
                server.call("api/verify/answer", name, body)
                acknowledged[task["task"], question["candidate"]] = [0, 1, -1][label]
    except (OSError, ValueError, HTTPException):
        return


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """Four annotators; whatever was acknowledged is there, once, and every object can be finished by others."""
    write_clip(tmp_path)
    database = tmp_path / "x.sqlite"
    words = ("--candidates", write_candidates(tmp_path / "candidates", IDS), "--frames", tmp_path, "--lease", "0.02")
    rng, acknowledged = np.random.default_rng(5), dict[tuple[int, int], int]()
    for _ in range(3):
        server, stop = Server(*words, "--database", database), threading.Event()
        people = [threading.Thread(target=annotate, args=(server, name, acknowledged, stop)) for name in "ABCD"]
        for person in people:
            person.start()
        enough = len(acknowledged) + int(rng.integers(5, 40))
        while len(acknowledged) < enough and any(person.is_alive() for person in people):
            time.sleep(0.001)
        server.stop(signal.SIGKILL)
        for person in people:
            person.join()
    assert len(acknowledged) >= 15
    kept = verdicts(database)
    lost = {key: label for key, label in acknowledged.items() if kept.get(key) != label}
    assert not lost
    server = Server(*words, "--database", database)
    time.sleep(1.3)  # the leases of the killed server have expired
    annotate(server, "Eve", acknowledged, threading.Event())
    server.stop(signal.SIGKILL)
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM tasks WHERE answered < questions").fetchone()[0] == 0
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    assert len(verdicts(database)) == 9 * len(IDS)


def verdicts(database: Path) -> dict[tuple[int, int], int]:
    """The verdicts of a database; there is one for each question."""
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT task, candidate, label FROM verdicts").fetchall()
    assert len({row[:2] for row in rows}) == len(rows)
    return {(task, candidate): label for task, candidate, label in rows}


def test_the_second_server_says_who_holds_the_database(tmp_path: Path, cli: Callable[..., Cli]) -> None:
    write_clip(tmp_path / "clips")
    server = Server("--videos", tmp_path / "clips")
    try:
        ended = cli("annotate", "serve", "--videos", tmp_path / "clips", "--port", "0", "--quiet")
        assert ended.status == 1
        assert f"a server (process {server.process.pid}) at {server.address} holds this file" in ended.err
        ended = cli("annotate", "serve", "--videos", tmp_path / "clips", "--port", server.port, "--quiet")
        assert ended.status == 2 and "Address already in use" in ended.err and "choose another --port" in ended.err
        out = tmp_path / "clips.jsonl"  # readers may look at it meanwhile
        assert cli("annotate", "export", "--database", tmp_path / "clips/annotation.sqlite", "--out", out).status == 1
        assert json.loads(out.read_text()) == {"video": "clips/balls"}
    finally:
        assert server.stop() == 0
    assert server.process.stdout is not None
    assert "1 clips, 0 objects, 0 clicks, 0 candidates, 0 verdicts" in server.process.stdout.read()
    again = Server("--videos", tmp_path / "clips")
    again.stop(signal.SIGKILL)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give --videos, --clips, --candidates or --database"),
        (("--videos", "v", "--repeat", "1.5"), "--repeat 1.5: expected a share in [0, 1]"),
        (("--videos", "v", "--lease", "0"), "--lease 0: expected minutes above 0"),
        (("--videos", "v", "--port", "70000"), "--port 70000: expected a number below 65536"),
        (("--videos", "v", "--propagator-checkpoint", "x"), "--propagator-checkpoint requires --propagator"),
    ],
)
def test_calls_that_are_refused(words: tuple[str, ...], message: str, cli: Callable[..., Cli]) -> None:
    ended = cli("annotate", "serve", *words)
    assert ended.status == 2 and message in ended.err


def test_data_that_is_refused(tmp_path: Path, cli: Callable[..., Cli]) -> None:
    for words, message in (
        (("--videos", tmp_path / "none"), "no video and no folder of frames here"),
        (("--database", tmp_path / "x.sqlite"), "no such database"),
        (("--candidates", tmp_path / "none", "--database", tmp_path / "y.sqlite"), "no candidates in this folder"),
    ):
        ended = cli("annotate", "serve", "--port", "0", "--quiet", *words)
        assert ended.status == 1 and message in ended.err, ended.err


def test_without_the_extra(tmp_path: Path, cli: Callable[..., Cli], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    ended = cli("annotate", "serve", "--videos", tmp_path)
    assert ended.status == 2 and "pip install 'vng[annotate]'" in ended.err


def test_addresses() -> None:
    assert Address().url() == "http://127.0.0.1:8765/" and Address(host="::1", port=1).url() == "http://[::1]:1/"
    assert checked_address("127.0.0.1", 1, "") == Address(port=1)
    far = checked_address("0.0.0.0", 1, "")
    assert len(far.token) >= 32 and far.url().endswith(f"/?token={far.token}") and far.hosts == ()
    assert checked_address("0.0.0.0", 1, "mine").token == "mine"
    with pytest.raises(UsageError):
        Sources(repeat=-0.1)
    with _listening(Address(port=0)) as listener:  # so that asyncio does not hold small answers back
        assert listener.proto == socket.IPPROTO_TCP and listener.getsockname()[0] == "127.0.0.1"


def test_a_listener_is_local(tmp_path: Path) -> None:
    """Nothing of this machine's other addresses answers."""
    write_clip(tmp_path / "clips")
    server = Server("--videos", tmp_path / "clips")
    try:
        own = {item[4][0] for item in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
        for address in own - {"127.0.0.1"}:
            if not address.startswith("127."):
                with pytest.raises(OSError), socket.create_connection((address, server.port), timeout=2):
                    pass
    finally:
        server.stop(signal.SIGKILL)


def test_a_server_that_only_verifies_imports_no_network() -> None:
    code = (
        "import sys, conversion.annotation.serving, conversion.annotation.server.app\n"
        "print([name for name in ('torch', 'transformers', 'datasets', 'spacy') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
