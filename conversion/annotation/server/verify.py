"""Answers of the page on which candidates are verified."""

from __future__ import annotations

import json
from typing import Any

from starlette.routing import Route

from conversion.annotation.masklets import row_major
from conversion.annotation.project import Project
from conversion.annotation.server.requests import Call, route
from conversion.annotation.verification import LABELS, Task, Verification
from vng.errors import UsageError, one_of
from vng.masks import from_json

NAMES = {label: name for name, label in LABELS.items()}


def verify_routes(verification: Verification, project: Project) -> list[Route]:
    """The routes of the page."""

    def following(call: Call) -> Any:
        task = verification.next_task(call.annotator)
        progress = verification.progress(call.annotator).as_json()
        if task is None:
            return {"task": None, "progress": progress}
        coming = verification.upcoming(call.annotator, task.task)
        return {"task": _task(task, project), "progress": progress, "upcoming": _frames_of(coming, project)}

    def answer(call: Call) -> Any:
        name = call.body.optional("label", str)
        label = None if name is None else LABELS[one_of(name, LABELS, "label")]
        seconds = call.body.get("seconds", float, 0.0)
        verification.answer(call.whole("task"), call.whole("candidate"), label, call.annotator, seconds)
        return {}

    def skip(call: Call) -> Any:
        verification.refuse(call.whole("task"), call.annotator)
        return {}

    def progress(call: Call) -> Any:
        return verification.progress(call.annotator).as_json()

    return [
        route("/api/verify/next", following),
        route("/api/verify/answer", answer),
        route("/api/verify/skip", skip),
        route("/api/verify/progress", progress, "GET"),
    ]


def _frames_of(task: Any, project: Project) -> dict[str, Any] | None:
    """The clip and frames of a task, to be loaded in advance."""
    if task is None:
        return None
    sql = (
        "SELECT clip, frame, rough_frame FROM candidates JOIN objects USING (object) WHERE object = ? "
        "GROUP BY frame ORDER BY min(position)"
    )
    rows = project.database.rows(sql, task["object"])
    return {"clip": rows[0]["clip"], "frames": [rows[0]["rough_frame"], *(row["frame"] for row in rows)]}


def _task(task: Task, project: Project) -> dict[str, Any]:
    """A task as the page shows it: the question's noun in its narrative, the rough place, and the candidates."""
    row = project.database.one("SELECT * FROM objects WHERE object = ?", task.object)
    if row is None or row["rough_mask"] is None:
        raise UsageError("this object is not there any more; reload the page")
    rough = from_json(json.loads(row["rough_mask"]))
    assert rough is not None
    clip = project.clip(task.clip)
    return {
        "task": task.task,
        "clip": task.clip,
        "video_id": clip.video_id,
        "size": list(clip.size),
        "object_id": row["object_id"],
        "name": row["name"],
        "reading": task.reading,
        "rough": {"frame": row["rough_frame"], "runs": row_major(rough)},
        "narratives": _narratives(project, task.clip, row["object_id"]),
        "names": {q.frame: clip.names[q.frame] for q in task.questions},
        "questions": [
            {
                "candidate": q.candidate,
                "frame": q.frame,
                "x": q.x,
                "y": q.y,
                "kind": q.kind,
                "label": None if q.label is None else NAMES[q.label],
            }
            for q in task.questions
        ],
    }


def _narratives(project: Project, clip: int, object_id: str) -> list[list[dict[str, Any]]]:
    """The narratives that name an object, each as pieces of text with `noun` where it is named."""
    narratives, expressions = project.narratives(clip)
    found = []
    for position, narrative in enumerate(narratives):
        own = sorted((e.start, e.end) for e in expressions if e.narrative == position and e.object_id == object_id)
        if not own:
            continue
        pieces: list[dict[str, Any]] = []
        last = 0
        for start, end in own:
            pieces += [
                {"text": narrative.description[last:start]},
                {"text": narrative.description[start:end], "noun": True},
            ]
            last = end
        pieces.append({"text": narrative.description[last:]})
        found.append([{"text": f"{narrative.actor_name}: "}, *pieces] if narrative.actor_name else pieces)
    return found
