"""Answers of the page on which people click on objects."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from conversion.annotation.clicking import Clicking
from conversion.annotation.masklets import Masklets, row_major
from conversion.annotation.server.requests import Call, route
from vng.errors import VngError


def click_routes(clicking: Clicking, masklets: Masklets) -> list[Route]:
    """The routes of the page."""
    return [*_clip_routes(clicking), *_object_routes(clicking), *_mask_routes(masklets)]


def _clip_routes(clicking: Clicking) -> list[Route]:
    def open_clip(call: Call) -> Any:
        clip = call.number("clip")
        holder = clicking.open(clip, call.annotator)
        return clicking.state(clip) | {"holder": holder}

    def state(call: Call) -> Any:
        return clicking.state(call.number("clip"))

    def write(call: Call) -> Any:
        clip, text = call.number("clip"), call.body.get("text", str)
        actor = call.body.get("actor", str, "")
        clicking.write_narrative(clip, call.number("position"), text, call.annotator, actor)
        return clicking.state(clip)

    def mark(call: Call) -> Any:
        clip = call.number("clip")
        span = (call.whole("position"), call.whole("start"), call.whole("end"))
        key = clicking.mark_noun(clip, *span, call.optional_whole("object"), call.annotator)
        return clicking.state(clip) | {"object": key}

    def place(call: Call) -> Any:
        values = (call.annotator, call.number("clip"), call.whole("frame"), call.optional_whole("object"))
        with clicking.database.writing() as connection:
            connection.execute("INSERT OR REPLACE INTO places VALUES (?, ?, ?, ?)", values)
        return {}

    return [
        route("/api/clips/{clip:int}/open", open_clip),
        route("/api/clips/{clip:int}", state, "GET"),
        route("/api/clips/{clip:int}/narratives/{position:int}", write),
        route("/api/clips/{clip:int}/nouns", mark),
        route("/api/clips/{clip:int}/place", place),
    ]


def _object_routes(clicking: Clicking) -> list[Route]:
    def add(call: Call) -> Any:
        clip = call.number("clip")
        key = clicking.add_object(clip, call.body.get("name", str, ""), call.annotator)
        return clicking.state(clip) | {"object": key}

    def rename(call: Call) -> Any:
        clicking.rename(call.number("object"), call.body.get("name", str), call.annotator)
        return {}

    def remove(call: Call) -> Any:
        clicking.remove_object(call.number("object"), call.annotator)
        return {}

    def click(call: Call) -> Any:
        x, y = call.body.get("x", float), call.body.get("y", float)
        place = (call.whole("frame"), float(x), float(y), call.whole("label"))
        return {"click": clicking.click(call.number("object"), *place, call.annotator)}

    def unclick(call: Call) -> Any:
        return {"object": clicking.remove_click(call.number("click"), call.annotator)}

    def absent(call: Call) -> Any:
        there = call.body.get("absent", bool)
        clicking.set_absent(call.number("object"), call.whole("frame"), there, call.annotator)
        return {}

    return [
        route("/api/clips/{clip:int}/objects", add),
        route("/api/objects/{object:int}", rename),
        route("/api/objects/{object:int}/remove", remove),
        route("/api/objects/{object:int}/clicks", click),
        route("/api/clicks/{click:int}/remove", unclick),
        route("/api/objects/{object:int}/absent", absent),
    ]


def _mask_routes(masklets: Masklets) -> list[Route]:
    def masks(call: Call) -> Any:
        found = masklets.masks_in(call.number("clip"), call.number("frame"))
        body = json.dumps({key: row_major(rle) for key, rle in found.items()})
        return Response(body, media_type="application/json")

    def prepare(call: Call) -> Any:
        """Encode a frame in advance; whatever is wrong is told when somebody clicks."""
        try:
            masklets.prepare(call.number("clip"), call.number("frame"))
        except (VngError, OSError):
            return {"ready": False}
        return {"ready": True}

    def start(call: Call) -> Any:
        return masklets.start(call.number("clip")).as_json()

    def stop(call: Call) -> Any:
        masklets.stop(call.number("clip"))
        return {}

    def job(call: Call) -> Any:
        found = masklets.job(call.number("clip"))
        return {"state": "none"} if found is None else found.as_json()

    return [
        route("/api/clips/{clip:int}/masks/{frame:int}", masks, "GET"),
        route("/api/clips/{clip:int}/prepare/{frame:int}", prepare),
        route("/api/clips/{clip:int}/masklets", start),
        route("/api/clips/{clip:int}/masklets/stop", stop),
        route("/api/clips/{clip:int}/masklets", job, "GET"),
    ]
