"""XML files from outside, read in one pass with bounded memory: no entities, no DOCTYPE, errors with line and column.

The parsers of Python's standard library expand entities that a document defines, and few lines can define gigabytes. No
annotation tool writes a DOCTYPE; a document with one is refused at its first character.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from xml.parsers import expat

from vng.errors import DataError

MOST_BYTES = 1 << 30  # of a document in an archive
MOST_DEPTH = 100
PIECE = 1 << 16  # bytes at a time


@contextmanager
def open_document(path: Path, name: str) -> Iterator[BinaryIO]:
    """The bytes of an XML file, or of the one called `name` in a ZIP archive.

    Raises:
        DataError: there is no such file, or no such document in the archive, or it is too large or damaged.
    """
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                file.seek(0)
                yield file
                return
            with zipfile.ZipFile(file) as archive, archive.open(_member(path, archive, name)) as member:
                yield member  # type: ignore[misc]
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DataError(path, reason="no such file", cure="check the path") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(path, reason=f"this archive cannot be read ({error})", cure="export it again") from error


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    try:
        info = archive.getinfo(name)
    except KeyError as error:
        raise DataError(path, reason=f"no {name} in this archive", cure="export it again") from error
    if info.file_size > MOST_BYTES:
        raise DataError(path, record=name, reason=f"more than {MOST_BYTES} bytes", cure="unpack it, and give the XML")
    return info


def parse_xml(
    file: BinaryIO,
    path: Path,
    start: Callable[[str, dict[str, str], int], None],
    end: Callable[[str, str, int], None],
) -> None:
    """Read a document.

    Args:
        file, path: its bytes, and their place for messages.
        start: called with name, attributes and line of each element that begins.
        end: called with name, text and line of each element that ends; the text is that after the last child.

    Raises:
        DataError: broken XML, a DOCTYPE, elements nested too deeply.
    """
    parser = expat.ParserCreate("UTF-8")  # all tools write it; what a document declares is not looked at
    parser.buffer_text = True
    text: list[str] = []
    depth = 0

    def refuse(*_: object) -> None:
        reason = "the document has a DOCTYPE, whose entities could fill the memory"
        raise DataError(path, record=f"line {parser.CurrentLineNumber}", reason=reason, cure="remove it")

    def begin(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MOST_DEPTH:
            reason = "elements are nested too deeply"
            raise DataError(path, record=f"line {parser.CurrentLineNumber}", reason=reason, cure="export it again")
        text.clear()
        start(name, attributes, parser.CurrentLineNumber)

    def finish(name: str) -> None:
        nonlocal depth
        depth -= 1
        end(name, "".join(text), parser.CurrentLineNumber)
        text.clear()

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = begin, finish
    parser.CharacterDataHandler = text.append
    read = 0
    try:
        while piece := file.read(PIECE):
            read += len(piece)
            if read > MOST_BYTES:
                raise DataError(path, reason=f"more than {MOST_BYTES} bytes", cure="export it in parts")
            parser.Parse(piece, False)
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        place = f"line {error.lineno}, column {error.offset + 1}"
        reason = f"broken XML: {expat.ErrorString(error.code)}"
        raise DataError(path, record=place, reason=reason, cure="export it again") from error
