"""Requests as checked values, and answers as JSON; every error of this program becomes a status and a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from conversion.annotation.leases import HeldError
from vng.errors import DataError, UsageError, VngError
from vng.records import Reader

MOST_NAME = 60  # characters of an annotator's name
MOST_NUMBER = 1 << 53  # what a browser can count to


class Call:
    """One request: its path, its JSON body, and who sends it."""

    def __init__(self, request: Request, body: Any) -> None:
        self.request = request
        self.body = Reader(body, Path("request"), "")

    @property
    def annotator(self) -> str:
        """The annotator's name; raises UsageError where there is none."""
        name = unquote(self.request.headers.get("x-annotator", ""), errors="replace").strip()
        if not name or len(name) > MOST_NAME or not name.isprintable():
            raise UsageError(f"tell your name: 1 to {MOST_NAME} characters")
        return name

    @property
    def has_name(self) -> bool:
        """Whether a name was told."""
        return bool(self.request.headers.get("x-annotator"))

    def number(self, name: str) -> int:
        """A number of the path; raises UsageError for one that no database holds."""
        return _bounded(int(self.request.path_params[name]))

    def whole(self, key: str) -> int:
        """A whole number of the body."""
        return _bounded(self.body.get(key, int))

    def optional_whole(self, key: str) -> int | None:
        """A whole number of the body; None for null or a missing key."""
        value = self.body.optional(key, int)
        return None if value is None else _bounded(value)


def _bounded(value: int) -> int:
    if not -MOST_NUMBER < value < MOST_NUMBER:
        raise UsageError("this number is too large")
    return value


Answer = Callable[[Call], Any]


def route(path: str, answer: Answer, method: str = "POST") -> Route:
    """A route that answers with the JSON of what a function returns, or with the response that it returns."""

    async def endpoint(request: Request) -> Response:
        try:
            body = json.loads(await request.body()) if method == "POST" else {}
            result = await run_in_threadpool(answer, Call(request, body))
        except (ValueError, RecursionError):
            return JSONResponse({"error": "the body is no JSON"}, 400)
        except ClientDisconnect:
            return JSONResponse({"error": "the body is too long, or was cut short"}, 413)
        except VngError as error:
            return JSONResponse({"error": told(error)}, _status(error))
        except OSError as error:
            return JSONResponse({"error": f"{error.filename or ''}: {error.strerror or error}"}, 500)
        return result if isinstance(result, Response) else JSONResponse(result)

    return Route(path, endpoint, methods=[method])


def told(error: VngError) -> str:
    """An error as the page shows it: without the place of a request, which people do not know."""
    text = str(error)
    return text.removeprefix("request: ")


def _status(error: VngError) -> int:
    if isinstance(error, HeldError):
        return 409
    if isinstance(error, UsageError):
        return 400
    if isinstance(error, DataError) and "no room is left" in error.problem.reason:
        return 507
    if isinstance(error, DataError) and "there is no such" in error.problem.reason:
        return 404
    return 422
