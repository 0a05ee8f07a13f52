"""Names in annotation files: as paths below a folder, in one Unicode form, and with the number of a frame."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path, PurePosixPath

from vng.errors import DataError, surrogate_problem

MOST_BYTES = 255  # of a name, in all common file systems


def inside(root: Path, name: str) -> Path:
    """`root / name` for a name of an annotation file; raises DataError if it leads out of `root` or is not usable.

    A name whose parts are separated by backslashes, as Windows writes it, is read as such a path.
    """
    if problem := name_problem(name):
        shown = repr(name if len(name) <= 60 else name[:57] + "...")
        raise DataError(root, record=shown, field="name", reason=problem, cure="rename it in the annotations")
    return root / as_path(name)


def name_problem(name: str) -> str:
    """Why a name of an annotation file cannot be a path below a folder; "" where it can."""
    parts = as_path(name).parts
    if not parts or "\0" in name or parts[0].startswith("/") or ".." in parts:
        return "this name leads out of its folder"
    if problem := surrogate_problem(name):
        return problem
    longest = max(len(part.encode()) for part in parts)
    return f"a name of {longest} bytes, file systems hold {MOST_BYTES}" if longest > MOST_BYTES else ""


def as_path(name: str) -> PurePosixPath:
    """A path of an annotation file, written on any system."""
    return PurePosixPath(name.replace("\\", "/"))


def existing(root: Path, name: str) -> Path:
    """As `inside`; where there is no such file, the one of the same name in another Unicode form (of a Mac), if any."""
    path = inside(root, name)
    if path.exists() or name.isascii():
        return path
    found = root
    for part in path.relative_to(root).parts:
        names = [entry.name for entry in found.iterdir()] if found.is_dir() else []
        found /= part if part in names else next((n for n in names if same_form(n) == same_form(part)), part)
    return found


def same_form(name: str) -> str:
    """A name in the one Unicode form (NFC) in which equal names are equal strings."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def frame_number(name: str) -> int | None:
    """The number at the end of a frame's name; None if there is none."""
    return split_name(name)[1]


def split_name(name: str) -> tuple[str, int | None]:
    """ "img_0000012" -> ("img_", 12); a name that does not end in digits, or in too many, has no number."""
    digits = re.search(r"(?<!\d)\d{1,18}$", name)
    return (name[: digits.start()], int(digits.group())) if digits else (name, None)
