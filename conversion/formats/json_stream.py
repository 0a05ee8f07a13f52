"""Streaming reader of one JSON object or list of any size: memory holds one entry and a read-ahead, never the file.

`json.loads` needs about ten times the file's size for the Point-VOS files. This runs the standard library's decoder
over a moving window, and can also resume after a broken entry.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from conversion.formats.jsonio import OnProblem
from vng.errors import DataError
from vng.text_files import beyond_limits, object_of, parse_json

T = TypeVar("T")

READ_AHEAD = 1 << 20  # bytes
MOST_CHARACTERS = 1 << 26  # of one entry; a longer one has a brace that was never closed
_NEAR_END = 12  # errors in a literal, number or escape cut off by the window's end lie at most this far before it
_LITERALS = ("true", "false", "null")
_LONGEST_START = 1 << 12  # characters of a key and the first key of its record
_SPACE = re.compile(r"[ \t\n\r]*")


def iterate_json_object(
    path: Path,
    parse: Callable[[str, Any], T],
    on_problem: OnProblem | None = None,
    restart: re.Pattern[str] | None = None,
) -> Iterator[T]:
    """Parse the entries of a file's one JSON object in file order; several objects one after the other count as one.

    Args:
        path: the file.
        parse: makes a record of an entry's key and its value; raises DataError.
        on_problem: receives each bad entry, which is skipped; None raises at the first.
        restart: pattern of the start of an entry, from its key's quote on; after broken JSON, reading resumes at the
            next match.

    Raises:
        DataError: always for a file that is cut short, and for one broken after its last recognisable entry.
    """
    with _Window(path) as window:
        window.expect("{", "an object {key: record}")
        while window.next_entry():
            try:
                key, value = window.entry()
            except DataError as error:
                # Not the entry itself again, whose key may look like one and hold a control character.
                if on_problem is None or not window.resume(restart, skipped=1):
                    raise
                on_problem(error.problem)
                continue
            try:
                yield parse(key, value)
            except DataError as error:
                if on_problem is None:
                    raise
                on_problem(error.problem)
            try:
                window.end_entry()
            except DataError as error:
                if on_problem is None or not window.resume(restart):
                    raise
                on_problem(error.problem)


def iterate_json_list(path: Path, parse: Callable[[Any, str], T], on_problem: OnProblem | None = None) -> Iterator[T]:
    """Parse the items of a file's one JSON list in file order.

    Args:
        path: the file.
        parse: makes a record of an item and its name ("[7]", counted from 0); raises DataError.
        on_problem: receives each bad item, which is skipped; None raises at the first.

    Raises:
        DataError: always for broken JSON, and for a file that holds no list.
    """
    with _Window(path) as window:
        for index, value in enumerate(window.items()):
            try:
                yield parse(value, f"[{index}]")
            except DataError as error:
                if on_problem is None:
                    raise
                on_problem(error.problem)
        window.expect("", "the end of the file")


def iterate_json_sections(path: Path, sections: Collection[str]) -> Iterator[tuple[str, str, Any]]:
    """Items of the lists under some keys of a file's one JSON object, in file order.

    COCO's files are such objects: {"images": [...], "annotations": [...], "categories": [...]}. A key that is missing
    or null has no items.

    Yields:
        (key, the item's name such as "annotations[7]", the item).

    Raises:
        DataError: broken JSON, or a value other than a list under one of the keys.
    """
    with _Window(path) as window:
        window.expect("{", f"an object with {', '.join(sections)}")
        while window.next_entry():
            key = window.key()
            if window.begins() == "[":
                for index, value in enumerate(window.items()):
                    if key in sections:
                        yield key, f"{key}[{index}]", value
            elif window.value() is not None and key in sections:
                raise DataError(path, field=key, reason="expected a list", cure="check that this is the right file")
            window.end_entry()


@dataclass(frozen=True)
class Located:
    """An entry of a list or an object in a JSON file, and where its value lies there."""

    section: str  # key of the list or object
    name: str  # "annotations[7]" in a list, the key in an object
    value: Any
    start: int  # bytes from the start of the file
    end: int


def locate_json_entries(path: Path, sections: Mapping[str, type]) -> Iterator[Located]:
    """Entries of the lists and objects under some keys of a file's one JSON object, in file order.

    With their places, entries can be read again one by one, in any order, by `read_located`.

    Args:
        path: the file.
        sections: key -> list or dict.

    Raises:
        DataError: broken JSON, a section that is missing or of the other kind, or whose key repeats.
    """
    seen: set[str] = set()
    with _Window(path) as window:
        window.expect("{", f"an object with {', '.join(sections)}")
        while window.next_entry():
            key = window.key()
            if key not in sections:
                window.value()
            else:
                if key in seen:
                    raise DataError(path, field=key, reason="this key repeats: the first value would be lost")
                seen.add(key)
                if window.begins() != ("[" if sections[key] is list else "{"):
                    what = "a list" if sections[key] is list else "an object"
                    raise DataError(path, field=key, reason=f"expected {what}, got {str(window.value())[:40]}")
                yield from window.located(key)
            window.end_entry()
    if missing := [key for key in sections if key not in seen]:
        raise DataError(path, field=missing[0], reason="this key is missing", cure="fix this record")


def read_located(path: Path, start: int, end: int) -> Any:
    """The value that `locate_json_entries` found between two places; raises DataError where the file has changed."""
    with path.open("rb") as file:
        file.seek(start)
        return parse_json(file.read(end - start), path, f"byte {start}", "the file has changed: start again")


class _Window:
    """A section of a text file: `text[at:]` has been read and not yet used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text, self.at = "", 0
        self._placed, self._place = 0, _Place()  # `_place` is the position of text[_placed] in the file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._json = json.JSONDecoder(object_pairs_hook=object_of)
        try:
            self._file = path.open("rb")
        except FileNotFoundError as error:
            raise DataError(path, reason="no such file", cure="check the path") from error
        except IsADirectoryError as error:
            raise DataError(path, reason="expected a file, got a folder", cure="check the path") from error
        mark = codecs.BOM_UTF8
        self._shift = len(mark) if self._file.read(len(mark)) == mark else 0  # places count from after the mark
        self._file.seek(0)

    def __enter__(self) -> _Window:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def next_entry(self) -> bool:
        """Move to the next entry's key; returns False at the end of the object."""
        while self._peek() == "}":
            self.at += 1
            if not self._peek():
                return False
            self.expect("{", "the end of the file")
        return True

    def entry(self) -> tuple[str, Any]:
        """The key and value that begin here; stays at the value where that is broken."""
        return self.key(), self.value()

    def key(self) -> str:
        """The key that begins here; moves to its value."""
        if self._peek() not in ('"', ""):
            raise self._error(f"expected a key in quotes, got {self.text[self.at]!r}", self.at)
        key: str = self.value()
        self.expect(":", "':' after a key")
        self._peek()
        return key

    def begins(self) -> str:
        """The first character of the value that begins here."""
        return self._peek()

    def items(self) -> Iterator[Any]:
        """The items of the list that begins here; each is stepped over before it is yielded, the list at the end."""
        self.expect("[", "a list")
        while self._peek() != "]":
            yield self.value()
            self._end_item("]")
        self.at += 1

    def located(self, section: str) -> Iterator[Located]:
        """The entries of the list or object that begins here, which is the value of the key `section`."""
        closing = {"[": "]", "{": "}"}[self._peek()]
        self.at += 1
        index = 0
        while self._peek() != closing:
            name = f"{section}[{index}]" if closing == "]" else self.key()
            start = self._pass().offset
            value = self.value()
            yield Located(section, name, value, start + self._shift, self._pass().offset + self._shift)
            self._end_item(closing)
            index += 1
        self.at += 1

    def _end_item(self, closing: str) -> None:
        """Step over the comma after an item; a closing bracket is left."""
        if self._peek() != closing:
            self.expect(",", f"',' or '{closing}' after an item")
            if self._peek() == closing:
                raise self._error(f"a ',' before the closing '{closing}'", self.at)

    def end_entry(self) -> None:
        """Step over the comma after an entry; a closing brace is left for `next_entry`."""
        if self._peek() != "}":
            self.expect(",", "',' or '}' after an entry")
            if self._peek() == "}":
                raise self._error("a ',' before the closing '}'", self.at)

    def expect(self, character: str, what: str) -> None:
        """Step over `character` ("": the end of the file); raises DataError where it differs: `what` was expected."""
        character_here = self._peek()
        if character_here != character:
            actual = repr(character_here) if character_here else "the end of the file"
            raise self._error(f"expected {what}, got {actual}", self.at)
        self.at += len(character)

    def resume(self, restart: re.Pattern[str] | None, skipped: int = 0) -> bool:
        """Move forward to the next match of `restart`, `skipped` characters on or later; returns False without one."""
        self.at = min(self.at + skipped, len(self.text))
        while restart is not None:
            match = restart.search(self.text, self.at)
            if match:
                self.at = match.start()
                return True
            self.at = max(self.at, len(self.text) - _LONGEST_START)
            if not self._more():
                break
        return False

    def value(self) -> Any:
        """The JSON value that begins here, which is stepped over; stays at its first character where it is broken."""
        while True:
            try:
                value, end = self._json.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                cut = error.pos >= len(self.text) - _NEAR_END or error.msg.startswith("Unterminated string")
                if not cut or len(self.text) - self.at > MOST_CHARACTERS:
                    raise self._error(error.msg, error.pos) from error
                position = error.pos - self.at  # in the text as `_more` leaves it
                if not self._more():
                    rest = self.text[position:].strip()
                    ended = error.msg.startswith("Unterminated string") or any(w.startswith(rest) for w in _LITERALS)
                    reason = "the file ends in the middle of an entry" if ended else error.msg
                    raise self._error(reason, len(self.text) if ended else position) from error
            # Nested too deeply, or a number with too many digits.
            except (RecursionError, ValueError) as error:
                raise self._error(beyond_limits(error), self.at) from error
            else:
                # A number that ends where the window ends may continue after it.
                if end == len(self.text) and not isinstance(value, (dict, list, str)):
                    if self._more():
                        continue
                    end = len(self.text)
                self.at = end
                return value

    def _peek(self) -> str:
        """Move to the next character that is not white space, and return it; "" at the end of the file."""
        while True:
            space = _SPACE.match(self.text, self.at)
            # The pattern also matches the empty string.
            assert space is not None
            self.at = space.end()
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._more():
                return ""

    def _more(self) -> bool:
        """Read more and drop the text before `at`; returns False at the end of the file."""
        self._pass()
        self.text, self.at, self._placed = self.text[self.at :], 0, 0
        # Doubling: a long entry is decoded only a few times.
        data = self._file.read(max(READ_AHEAD, len(self.text)))
        try:
            self.text += self._decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            place = f"byte {self._file.tell() - len(error.object) + error.start}"
            raise DataError(self.path, record=place, reason="not UTF-8 text", cure="fetch the file again") from error
        return bool(data)

    def _pass(self) -> _Place:
        """Update `_place` to the position of text[at] in the file, and return it."""
        self._place = self._place.after(self.text[self._placed : self.at])
        self._placed = self.at
        return self._place

    def _error(self, reason: str, position: int) -> DataError:
        place = self._place.after(self.text[self._placed : position])
        where = f"line {place.line}, column {place.column}"
        return DataError(
            self.path, record=where, reason=f"broken JSON: {reason}", cure="fix the file, or fetch it again"
        )


@dataclass(frozen=True)
class _Place:
    """A position in a file: bytes from its start, line and column from 1."""

    offset: int = 0
    line: int = 1
    column: int = 1

    def after(self, piece: str) -> _Place:
        """The position after a piece of text that begins here."""
        size = len(piece) if piece.isascii() else len(piece.encode())
        lines = piece.count("\n")
        column = len(piece) - piece.rfind("\n") if lines else self.column + len(piece)
        return _Place(self.offset + size, self.line + lines, column)
