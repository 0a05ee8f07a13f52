"""Answers of the page on which finished work is looked at, and of the export."""

from __future__ import annotations

from typing import Any

from starlette.routing import Route

from conversion.annotation.project import Project
from conversion.annotation.results import FORMATS, OWN, export_results, frames_root
from conversion.annotation.server.requests import Call, route
from conversion.annotation.server.verify import NAMES
from conversion.annotation.verification import Verification
from vng.errors import one_of


def review_routes(verification: Verification, project: Project) -> list[Route]:
    """The routes of the page."""

    def objects(call: Call) -> Any:
        return {
            "objects": _objects(project),
            "annotators": _annotators(verification),
            "progress": verification.progress().as_json(),
        }

    def points(call: Call) -> Any:
        return _points(project, call.number("object"))

    def export(call: Call) -> Any:
        kind = one_of(call.body.get("format", str), FORMATS, "format")
        path = project.database.path
        out = path.with_suffix(".jsonl") if kind == OWN else path.with_name(f"{path.stem}-points.json")
        totals, problems = export_results(project.database, out, kind)
        root = frames_root(project.database)
        frames = "" if kind == OWN and root.is_relative_to(out.parent.resolve()) else f" --frames {root}"
        name = "own --clips" if kind == OWN else "point-vos --points"
        command = f"vng convert {name} {out}{frames} --propagator --out DATASET"
        return {"file": str(out), "totals": totals, "problems": [str(p) for p in problems], "command": command}

    return [
        route("/api/review", objects, "GET"),
        route("/api/review/{object:int}", points, "GET"),
        route("/api/export", export),
    ]


def _objects(project: Project) -> list[dict[str, Any]]:
    """Every object with counts of its answers and clicks."""
    rows = project.database.rows(
        "SELECT objects.object, objects.object_id, objects.name, clips.clip, clips.video_id, "
        "(SELECT count(*) FROM clicks WHERE clicks.object = objects.object) AS clicks, "
        "(SELECT count(*) FROM candidates WHERE candidates.object = objects.object) AS candidates "
        "FROM objects JOIN clips USING (clip) ORDER BY clips.video_id, objects.object"
    )
    counts: dict[int, dict[str, int]] = {}
    sql = "SELECT object, label, count(*) AS n FROM verdicts JOIN tasks USING (task) WHERE reading = 0 GROUP BY 1, 2"
    for row in project.database.rows(sql):
        counts.setdefault(row["object"], {})[NAMES[row["label"]]] = row["n"]
    differ = {
        row["object"]: row["n"]
        for row in project.database.rows(
            "SELECT one.object, count(*) AS n FROM tasks AS one JOIN tasks AS two ON one.object = two.object "
            "AND one.reading = 0 AND two.reading = 1 JOIN verdicts AS a ON a.task = one.task JOIN verdicts AS b "
            "ON b.task = two.task AND a.candidate = b.candidate WHERE a.label != b.label GROUP BY 1"
        )
    }
    return [
        dict(row) | {"answers": counts.get(row["object"], {}), "differ": differ.get(row["object"], 0)} for row in rows
    ]


def _points(project: Project, key: int) -> dict[str, Any]:
    """The verified points of an object, with the answers of both readings, and its clicks."""
    verdicts = project.database.rows(
        "SELECT candidates.*, tasks.reading, tasks.task, label, verdicts.annotator FROM verdicts "
        "JOIN candidates USING (candidate) JOIN tasks USING (task) WHERE candidates.object = ? "
        "ORDER BY position, reading",
        key,
    )
    found: dict[int, dict[str, Any]] = {}
    for row in verdicts:
        point = {"frame": row["frame"], "x": row["x"], "y": row["y"], "kind": row["kind"], "answers": []}
        kept = found.setdefault(row["candidate"], point)
        kept["answers"].append([NAMES[row["label"]], row["annotator"]])
    clicks = project.database.rows("SELECT * FROM clicks WHERE object = ? ORDER BY click", key)
    return {
        "points": list(found.values()),
        "clicks": [[c["frame"], c["x"], c["y"], NAMES[c["label"]]] for c in clicks],
    }


def _annotators(verification: Verification) -> list[dict[str, Any]]:
    """Each annotator with the number of answers, their median time, and the speed of the last ones."""
    rows = verification.database.rows(
        "SELECT annotator, count(*) AS answers, count(DISTINCT task) AS objects FROM verdicts GROUP BY 1 ORDER BY 1"
    )
    result = []
    for row in rows:
        sql = "SELECT seconds FROM verdicts WHERE annotator = ? AND seconds > 0 ORDER BY seconds"
        seconds = [item["seconds"] for item in verification.database.rows(sql, row["annotator"])]
        median = seconds[len(seconds) // 2] if seconds else None
        result.append(dict(row) | {"seconds": median})
    return result
