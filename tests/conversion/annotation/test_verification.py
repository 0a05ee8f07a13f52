"""Tasks and verdicts: who gets what, what is kept, and how two people agree."""

from __future__ import annotations

from pathlib import Path

import pytest

from conversion.annotation.database import Database
from conversion.annotation.leases import HeldError, Leases
from conversion.annotation.project import Project
from conversion.annotation.verification import Verification, cohens_kappa
from tests.conversion.annotation.small_project import write_candidates, write_clip
from vng.errors import DataError
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE


class Clock:
    """A clock that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make(tmp_path: Path, clock: Clock, ids: tuple[str, ...] = ("a", "b", "c"), repeat: float = 0.0) -> Verification:
    write_clip(tmp_path)
    project = Project(Database(tmp_path / "x.sqlite", create=True))
    assert project.add_candidates(write_candidates(tmp_path / "candidates", ids), tmp_path, repeat) == []
    return Verification(database=project.database, leases=Leases(seconds=60, clock=clock))


def finish(verification: Verification, annotator: str, label: int = POSITIVE) -> int:
    """Answer all questions of the next task, and return its object."""
    task = verification.next_task(annotator)
    assert task is not None
    for question in task.questions:
        verification.answer(task.task, question.candidate, label, annotator, 0.5)
    return task.object


def test_the_questions_come_in_the_papers_order(tmp_path: Path, clock: Clock) -> None:
    task = make(tmp_path, clock).next_task("Ann")
    assert task is not None and len(task.questions) == 9
    assert [q.kind for q in task.questions] == ["foreground"] * 3 + ["background"] * 3 + ["uncertain"] * 3
    assert [q.frame for q in task.questions] == [0, 1, 2] * 3 and all(q.label is None for q in task.questions)


def test_nobody_gets_what_another_holds(tmp_path: Path, clock: Clock) -> None:
    verification = make(tmp_path, clock)
    tasks = [verification.next_task(name) for name in ("Ann", "Bob", "Cy", "Dee")]
    assert tasks[3] is None and len({task.task for task in tasks[:3] if task}) == 3
    first = tasks[0]
    assert first is not None
    with pytest.raises(HeldError, match="Ann is working on this task"):
        verification.answer(first.task, first.questions[0].candidate, POSITIVE, "Bob")
    verification.answer(first.task, first.questions[0].candidate, POSITIVE, "Ann")
    clock.now += 61  # Ann went home
    taken = verification.next_task("Dee")
    assert taken is not None and taken.task == first.task
    assert [q.label for q in taken.questions[:2]] == [POSITIVE, None]  # her answer is kept
    with pytest.raises(HeldError):
        verification.answer(first.task, first.questions[1].candidate, POSITIVE, "Ann")


def test_a_person_goes_on_where_they_were(tmp_path: Path, clock: Clock) -> None:
    verification = make(tmp_path, clock)
    verification.next_task("Bob")
    task = verification.next_task("Ann")
    assert task is not None
    verification.answer(task.task, task.questions[0].candidate, NEGATIVE, "Ann")
    assert verification.next_task("Ann") == verification.task(task.task)
    clock.now += 1000
    again = verification.next_task("Ann")
    assert again is not None and again.task == task.task  # after the lease, too: hers comes first


def test_answers_are_replaced_and_taken_back(tmp_path: Path, clock: Clock) -> None:
    verification = make(tmp_path, clock)
    task = verification.next_task("Ann")
    assert task is not None
    candidate = task.questions[4].candidate
    for label in (POSITIVE, POSITIVE, AMBIGUOUS):
        verification.answer(task.task, candidate, label, "Ann")
        assert verification.progress().answered == 1
    assert verification.task(task.task).questions[4].label == AMBIGUOUS
    verification.answer(task.task, candidate, None, "Ann")
    assert verification.progress().answered == 0
    with pytest.raises(DataError, match="no candidate 12345"):
        verification.answer(task.task, 12345, POSITIVE, "Ann")
    with pytest.raises(DataError, match="task 99: there is no such task"):
        verification.task(99)


def test_a_skipped_object_goes_to_others(tmp_path: Path, clock: Clock) -> None:
    verification = make(tmp_path, clock, ("a", "b"))
    task = verification.next_task("Ann")
    assert task is not None
    coming = verification.upcoming("Ann", task.task)
    verification.refuse(task.task, "Ann")
    other = verification.next_task("Ann")
    assert other is not None and coming is not None and other.task == coming["task"] != task.task
    finish(verification, "Ann")
    assert verification.next_task("Ann") is None
    assert finish(verification, "Bob") == task.object
    assert verification.progress().objects_done == 2


def test_second_readings_are_of_other_people(tmp_path: Path, clock: Clock) -> None:
    verification = make(tmp_path, clock, ("a", "b"), repeat=1.0)
    assert {finish(verification, "Ann") for _ in range(2)} == {1, 2}
    assert verification.next_task("Ann") is None and verification.progress("Ann").waiting == 2
    assert finish(verification, "Bob") == 1
    assert finish(verification, "Bob", NEGATIVE) == 2
    progress = verification.progress("Bob")
    assert (progress.answered, progress.questions, progress.twice) == (36, 36, 18)
    assert progress.kappa == 0.0  # Ann always says yes: no agreement beyond chance
    with pytest.raises(HeldError, match="Ann has the other reading"):
        verification.answer(4, verification.task(4).questions[0].candidate, POSITIVE, "Ann")


def test_the_share_of_second_readings_is_drawn_by_name(tmp_path: Path, clock: Clock) -> None:
    ids = tuple(f"o{i}" for i in range(40))
    row = make(tmp_path, clock, ids, repeat=0.25).database.one("SELECT count(*) FROM tasks")
    assert row is not None and 40 + 4 <= row[0] <= 40 + 16


def test_speed_and_time_left(tmp_path: Path, clock: Clock) -> None:
    verification = make(tmp_path, clock, ("a",))
    task = verification.next_task("Ann")
    assert task is not None and verification.progress("Ann").points_per_minute is None
    for question in task.questions[:5]:
        clock.now += 1.5 if question is not task.questions[3] else 500.0  # a pause is no work
        verification.answer(task.task, question.candidate, POSITIVE, "Ann", float("nan"))
    progress = verification.progress("Ann")
    assert progress.points_per_minute == pytest.approx(40.0) and progress.minutes_left == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("table", "kappa"),
    [
        ([[20, 5], [10, 15]], 0.4),  # Cohen's own kind of example
        ([[7, 0, 0], [0, 5, 0], [0, 0, 3]], 1.0),
        ([[0, 4], [4, 0]], -1.0),
        ([[9, 0], [0, 0]], None),  # one label alone: undefined
        ([[0, 0], [0, 0]], None),
    ],
)
def test_cohens_kappa(table: list[list[float]], kappa: float | None) -> None:
    found = cohens_kappa(table)
    assert found == pytest.approx(kappa) if kappa is not None else found is None
