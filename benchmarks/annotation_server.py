"""A running `vng annotate serve`, for benchmarks and tests."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

PATIENCE = 20  # seconds


class Server:
    """A server in a process of its own.

    Args:
        words: of the command, after `vng annotate serve`.
        port: where to listen; 0: any free port.

    Attributes:
        process: the process.
        address: what is opened in a browser, with a "/" at its end.
    """

    def __init__(self, *words: object, port: int = 0) -> None:
        command = [sys.executable, "-m", "vng.cli", "annotate", "serve", "--port", port, "--quiet", *words]
        self.process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        said = next(line for line in self.process.stdout if line.startswith("open "))
        self.address = re.findall(r"http://\S+", said)[0]

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.address.rstrip("/").rsplit(":", 1)[1])

    def call(self, path: str, annotator: str, body: Any) -> Any:
        """The JSON of the answer to a POST; raises OSError or http.client.HTTPException where there is none."""
        headers = {"x-annotator": annotator, "content-type": "application/json"}
        with urlopen(Request(f"{self.address}{path}", json.dumps(body).encode(), headers), timeout=PATIENCE) as answer:
            return json.load(answer)

    def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        """End it by a signal, as Ctrl-C does, and return its exit status."""
        self.process.send_signal(how)
        return self.process.wait(PATIENCE)

    def peak(self) -> float:
        """Peak resident memory so far, MiB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+)", text)[0]) / 1024
