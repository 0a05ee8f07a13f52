"""Leases: what one annotator holds, nobody else is given, until it is finished, released, or left alone for a while."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass

from vng.errors import VngError

LEASE_SECONDS = 600.0
TASK, CLIP = "task", "clip"


class HeldError(VngError):
    """Somebody else holds this."""


@dataclass(frozen=True, kw_only=True)
class Leases:
    """Leases of a duration; every use renews one.

    Attributes:
        seconds: after which an unused lease expires.
        clock: seconds since the epoch.
    """

    seconds: float = LEASE_SECONDS
    clock: Callable[[], float] = time.time

    def hold(self, connection: sqlite3.Connection, kind: str, item: int, annotator: str) -> None:
        """Take or renew a lease, within a transaction; raises HeldError where another annotator has it."""
        holder = self.holder(connection, kind, item)
        if holder not in (None, annotator):
            raise HeldError(f"{holder} is working on this {kind}; take another one, or wait until it is free")
        expires = self.clock() + self.seconds
        connection.execute("INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?)", (kind, item, annotator, expires))

    def holder(self, connection: sqlite3.Connection, kind: str, item: int) -> str | None:
        """Who holds a lease that has not expired; one that ends too late was taken before the clock was set back."""
        sql = "SELECT annotator FROM leases WHERE kind = ? AND item = ? AND expires > ? AND expires <= ?"
        now = self.clock()
        row = connection.execute(sql, (kind, item, now, now + self.seconds)).fetchone()
        return None if row is None else row[0]

    def release(self, connection: sqlite3.Connection, kind: str, annotator: str, item: int | None = None) -> None:
        """Give a lease back, or all of this kind."""
        sql = "DELETE FROM leases WHERE kind = ? AND annotator = ? AND (? IS NULL OR item = ?)"
        connection.execute(sql, (kind, annotator, item, item))
