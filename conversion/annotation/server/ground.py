"""The playground: a clip, a narrative with marked nouns, a model; masks stream to the page as they are made."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from starlette.responses import StreamingResponse
from starlette.routing import Route

from conversion.annotation.masklets import row_major
from conversion.annotation.project import Project
from conversion.annotation.server.requests import Call, route, told
from vng.errors import UsageError, VngError
from vng.frames import Frames
from vng.grounding.result import GroundedPart
from vng.narratives import MARK, parse_marked

MOST_TEXT = 5_000  # characters of a narrative


class Streams(Protocol):
    """The interface of a grounder for the playground; see `vng.NarrativeGrounder.stream`."""

    def stream(self, video: Frames, narrative: str) -> Iterator[GroundedPart]:
        """Masks as they are made."""
        ...


class Playground:
    """A grounder, loaded when it is first asked; it does one thing at a time.

    Args:
        project: the clips.
        load: makes the grounder.
    """

    def __init__(self, project: Project, load: Callable[[], Streams]) -> None:
        self.project, self._load = project, load
        self._grounder: Streams | None = None
        self._lock = threading.Lock()

    def lines(self, clip: int, narrative: str) -> Iterator[str]:
        """JSON lines: the nouns; then for every part and noun its masks, by frame; an error, if there is one, at last.

        Raises:
            UsageError: no noun is marked, brackets are not paired, the text is too long. DataError: the clip cannot be read.
        """
        if len(narrative) > MOST_TEXT:
            raise UsageError(f"a narrative of {len(narrative):,} characters, at most {MOST_TEXT:,} are taken")
        description, spans = parse_marked(narrative)
        if not spans:
            raise UsageError(f"no noun is marked: {MARK}")
        frames = self.project.frames(clip)
        nouns = [description[start:end] for start, end in spans]
        return self._lines(frames, narrative, nouns)

    def _lines(self, frames: Frames, narrative: str, nouns: list[str]) -> Iterator[str]:
        yield _line(nouns=nouns, frames=len(frames), size=list(frames.size))
        try:
            with self._lock:
                if self._grounder is None:
                    self._grounder = self._load()
                for part in self._grounder.stream(frames, narrative):
                    for noun, rles in enumerate(part.rles):
                        masks = {part.start + i: row_major(rle) for i, rle in enumerate(rles)}
                        scores = [round(float(score), 3) for score in part.frame_scores[noun]]
                        yield _line(noun=noun, start=part.start, masks=masks, scores=scores, final=part.final)
            yield _line(done=True)
        except VngError as error:
            yield _line(error=told(error))
        except Exception as error:  # whatever a network raises, the page says so
            yield _line(error=f"{type(error).__name__}: {error}"[:500])


def ground_routes(playground: Playground) -> list[Route]:
    """The routes of the page."""

    def ground(call: Call) -> Any:
        lines = playground.lines(call.number("clip"), call.body.get("narrative", str))
        return StreamingResponse(lines, media_type="application/x-ndjson")

    return [route("/api/clips/{clip:int}/ground", ground)]


def _line(**values: Any) -> str:
    return json.dumps(values, ensure_ascii=False) + "\n"
