"""Verification of candidates: each object is given to one annotator, who answers its questions one by one.

A share of the objects is given twice, to two people, so that their agreement can be told (Cohen's kappa). An object is a
*task*; the second reading of an object is another task.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from conversion.annotation.database import Database
from conversion.annotation.leases import TASK, HeldError, Leases
from vng.errors import DataError
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE

LABELS = {"yes": POSITIVE, "no": NEGATIVE, "unsure": AMBIGUOUS}
RECENT = 50  # answers from which the speed is told
LONGEST_PAUSE = 30.0  # seconds; a person who waits longer was away


@dataclass(frozen=True, kw_only=True)
class Question:
    """One candidate, and the answer if it has one."""

    candidate: int
    frame: int
    x: float
    y: float
    kind: str
    label: int | None


@dataclass(frozen=True, kw_only=True)
class Task:
    """One object to verify."""

    task: int
    object: int
    clip: int
    reading: int
    questions: tuple[Question, ...]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far the verification is."""

    answered: int
    questions: int
    objects_done: int
    objects: int
    points_per_minute: float | None  # of this annotator's last answers; None before the second one
    minutes_left: float | None
    kappa: float | None  # over all candidates that two people answered; None without any
    twice: int  # candidates that two people answered
    waiting: int = 0  # second readings that wait for another annotator

    def as_json(self) -> dict[str, Any]:
        """As a JSON value."""
        return asdict(self)


@dataclass(kw_only=True)
class Verification:
    """Tasks given to annotators, and their answers."""

    database: Database
    leases: Leases = field(default_factory=Leases)

    def next_task(self, annotator: str) -> Task | None:
        """The task that this annotator holds, else the next one that nobody else holds; None where none is left.

        A task that was begun goes to who began it first, then to others. Second readings come when no first one is
        left, and never to the person who made the first.
        """
        with self.database.writing() as connection:
            row = self._held(connection, annotator) or self._free(connection, annotator, 0)
            if row is None:
                return None
            self.leases.hold(connection, TASK, row["task"], annotator)
            if not row["annotator"]:
                connection.execute("UPDATE tasks SET annotator = ? WHERE task = ?", (annotator, row["task"]))
        return self.task(row["task"])

    def _held(self, connection: sqlite3.Connection, annotator: str) -> sqlite3.Row | None:
        sql = (
            "SELECT tasks.* FROM tasks JOIN leases ON kind = ? AND item = task "
            "WHERE leases.annotator = ? AND answered < questions AND expires > ? ORDER BY expires DESC LIMIT 1"
        )
        return connection.execute(sql, (TASK, annotator, self.leases.clock())).fetchone()

    def upcoming(self, annotator: str, task: int) -> sqlite3.Row | None:
        """The row of the task that would come after this one, so that its frames can be loaded in advance."""
        with self.database.writing() as connection:
            return self._free(connection, annotator, task)

    def _free(self, connection: sqlite3.Connection, annotator: str, but: int) -> sqlite3.Row | None:
        sql = (
            "SELECT tasks.* FROM tasks WHERE answered < questions AND task != :but "
            "AND NOT EXISTS (SELECT 1 FROM refused WHERE refused.task = tasks.task AND annotator = :own) "
            "AND NOT EXISTS (SELECT 1 FROM tasks AS other WHERE other.object = tasks.object "
            "AND other.reading != tasks.reading AND other.annotator = :own) "
            "AND NOT EXISTS (SELECT 1 FROM leases WHERE kind = :kind AND item = tasks.task "
            "AND annotator != :own AND expires > :now AND expires <= :now + :seconds) "
            "ORDER BY tasks.annotator != :own, reading, tasks.annotator != '', task LIMIT 1"
        )
        now = self.leases.clock()
        values = {"but": but, "own": annotator, "kind": TASK, "now": now, "seconds": self.leases.seconds}
        return connection.execute(sql, values).fetchone()

    def task(self, task: int) -> Task:
        """A task with its questions, in their order; raises DataError where there is none."""
        head = self.database.one("SELECT * FROM tasks JOIN objects USING (object) WHERE task = ?", task)
        if head is None:
            raise DataError(self.database.path, record=f"task {task}", reason="there is no such task")
        sql = (
            "SELECT candidates.*, label FROM candidates LEFT JOIN verdicts ON verdicts.task = ? "
            "AND verdicts.candidate = candidates.candidate WHERE object = ? ORDER BY position"
        )
        keys = ("candidate", "frame", "x", "y", "kind", "label")
        questions = [Question(**{k: row[k] for k in keys}) for row in self.database.rows(sql, task, head["object"])]
        return Task(
            task=task,
            object=head["object"],
            clip=head["clip"],
            reading=head["reading"],
            questions=tuple(questions),
        )

    def answer(self, task: int, candidate: int, label: int | None, annotator: str, seconds: float = 0.0) -> None:
        """Keep the answer to a question; it replaces an earlier one, and None takes that back.

        Args:
            task, candidate: the question.
            label: POSITIVE (yes), NEGATIVE (no), AMBIGUOUS (unsure), or None.
            annotator: who answers; must hold the task, or be able to take it.
            seconds: how long it took; what lies outside [0, 3600] counts as unknown.

        Raises:
            HeldError: somebody else holds the task. DataError: there is no such question; the disk is full.
        """
        seconds = seconds if 0 <= seconds <= 3600 else 0.0
        with self.database.writing() as connection:
            sql = "SELECT 1 FROM tasks JOIN candidates USING (object) WHERE task = ? AND candidate = ?"
            if connection.execute(sql, (task, candidate)).fetchone() is None:
                raise DataError(self.database.path, record=f"task {task}", reason=f"no candidate {candidate}")
            self._take(connection, task, annotator)
            if label is None:
                connection.execute("DELETE FROM verdicts WHERE task = ? AND candidate = ?", (task, candidate))
            else:
                values = (task, candidate, label, annotator, self.leases.clock(), seconds)
                connection.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?, ?, ?)", values)
            count = "UPDATE tasks SET answered = (SELECT count(*) FROM verdicts WHERE task = ?) WHERE task = ?"
            connection.execute(count, (task, task))

    def _take(self, connection: sqlite3.Connection, task: int, annotator: str) -> None:
        """Renew the lease on a task; of two readings of an object, one person makes one."""
        sql = (
            "SELECT 1 FROM tasks AS own JOIN tasks AS other ON own.object = other.object AND own.task != other.task "
            "WHERE own.task = ? AND other.annotator = ?"
        )
        if connection.execute(sql, (task, annotator)).fetchone() is not None:
            raise HeldError(f"{annotator} has the other reading of this object")
        self.leases.hold(connection, TASK, task, annotator)

    def refuse(self, task: int, annotator: str) -> None:
        """Skip an object: it is given to others, and to this annotator no more; raises HeldError."""
        with self.database.writing() as connection:
            self._take(connection, task, annotator)
            now = self.leases.clock()
            connection.execute("INSERT OR REPLACE INTO refused VALUES (?, ?, ?)", (task, annotator, now))
            sql = "UPDATE tasks SET annotator = '' WHERE task = ? AND annotator = ? AND answered = 0"
            connection.execute(sql, (task, annotator))
            self.leases.release(connection, TASK, annotator, task)

    def release(self, annotator: str) -> None:
        """Give back what an annotator holds, as when the page is closed."""
        with self.database.writing() as connection:
            self.leases.release(connection, TASK, annotator)

    def progress(self, annotator: str = "") -> Progress:
        """Totals of all tasks, and the speed of an annotator."""
        row = self.database.one(
            "SELECT coalesce(sum(answered), 0), coalesce(sum(questions), 0), "
            "coalesce(sum(answered >= questions), 0), count(*) FROM tasks"
        )
        assert row is not None
        answered, questions, done, objects = row
        speed = self.speed(annotator)
        agreement, twice = self.kappa()
        waiting = self.database.one(
            "SELECT count(*) FROM tasks AS second JOIN tasks AS first ON first.object = second.object "
            "AND first.reading = 0 WHERE second.reading = 1 AND second.answered < second.questions "
            "AND first.annotator = ?",
            annotator,
        )
        return Progress(
            answered=answered,
            questions=questions,
            objects_done=done,
            objects=objects,
            points_per_minute=speed,
            minutes_left=None if not speed else (questions - answered) / speed,
            kappa=agreement,
            twice=twice,
            waiting=0 if waiting is None else waiting[0],
        )

    def speed(self, annotator: str) -> float | None:
        """Answers a minute, from the last ones without pauses; None before the second one."""
        sql = "SELECT time FROM verdicts WHERE annotator = ? ORDER BY time DESC LIMIT ?"
        times = np.array([row["time"] for row in self.database.rows(sql, annotator, RECENT)])
        gaps = -np.diff(times)
        gaps = gaps[(gaps > 0) & (gaps < LONGEST_PAUSE)]
        return float(60 / gaps.mean()) if len(gaps) else None

    def kappa(self) -> tuple[float | None, int]:
        """Cohen's kappa of the two readings, and how many candidates have both."""
        counts = self.database.rows(
            "SELECT first.label AS a, second.label AS b, count(*) AS n FROM tasks AS one JOIN tasks AS two "
            "ON one.object = two.object AND one.reading = 0 AND two.reading = 1 "
            "JOIN verdicts AS first ON first.task = one.task JOIN verdicts AS second ON second.task = two.task "
            "AND first.candidate = second.candidate GROUP BY 1, 2"
        )
        table = np.zeros((3, 3))
        for row in counts:
            table[row["a"] + 1, row["b"] + 1] = row["n"]
        return cohens_kappa(table), int(table.sum())


def cohens_kappa(table: Sequence[Sequence[float]] | np.ndarray) -> float | None:
    """Agreement of two raters beyond chance (Cohen, 1960); None where it is undefined.

    Args:
        table: counts [C, C] of (label of the first rater, label of the second).
    """
    counts = np.asarray(table, float)
    if not (total := counts.sum()):
        return None
    observed = np.trace(counts) / total
    expected = float(counts.sum(0) @ counts.sum(1)) / total**2
    return None if expected >= 1 else float((observed - expected) / (1 - expected))
