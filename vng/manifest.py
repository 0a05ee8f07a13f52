"""Manifests: settings and versions saved beside a result, and a check that runs with other settings never mix."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from vng.errors import DataError

MOST_SHOWN = 60  # characters of a setting in a message
_PACKAGES = ("vng", "torch", "transformers", "accelerate", "datasets", "pyarrow", "numpy", "opencv-python-headless")


def to_json(value: Any) -> str:
    """Stable, readable JSON: sorted keys, one value per line."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, default=str) + "\n"


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file atomically: completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(data.encode() if isinstance(data, str) else data)
    os.replace(temporary, path)


@contextmanager
def open_atomic(path: Path) -> Iterator[TextIO]:
    """A text file to write piece by piece; it appears under its name when all is written, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            yield file
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def versions() -> dict[str, str]:
    """Installed versions of the packages that results depend on."""
    from importlib.metadata import PackageNotFoundError, version

    installed = {}
    for package in _PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_hash(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of a folder's files; raises DataError if there is neither."""
    if path.is_file():
        return file_hash(path)
    if not path.is_dir():
        raise DataError(path, reason="no such file", cure="check the path")
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file():
            digest.update(f"{file.relative_to(path)}\0{file_hash(file)}\n".encode())
    return digest.hexdigest()


def check_folder(out: Path) -> None:
    """Raise DataError if `out` is a file."""
    if out.exists() and not out.is_dir():
        raise DataError(out, reason="expected a folder, got a file", cure="choose another --out")


def read_manifest(path: Path) -> dict[str, Any]:
    """The content of a manifest; raises DataError if it is damaged."""
    try:
        manifest = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        manifest = None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("settings"), dict):
        raise DataError(path, reason="this manifest is damaged", cure="delete the folder or choose another one")
    return manifest


def check_same(manifest: Path, settings: dict[str, Any], out: Path) -> None:
    """Raise DataError naming the first setting in which an earlier run in `out` differs, if there was one."""
    if not manifest.exists():
        return
    earlier = read_manifest(manifest)["settings"]
    current = json.loads(to_json(settings))
    if difference := _first_difference(earlier, current):
        key, before, now = difference
        raise DataError(
            out,
            field=key,
            reason=f"an earlier run wrote here with {before}, now {now}",
            cure="delete the folder or choose another one",
        )


def _first_difference(before: Any, now: Any, path: str = "") -> tuple[str, str, str] | None:
    """(dotted name, value before, value now) of the first setting that differs, however deep; None where none does."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            if found := _first_difference(before.get(key), now.get(key), f"{path}.{key}" if path else key):
                return found
        return None
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for index, (own, other) in enumerate(zip(before, now, strict=True)):
            if found := _first_difference(own, other, f"{path}.{index}"):
                return found
        return None
    return None if before == now else (path, _shortened(before), _shortened(now))


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 3] + "..."


_claims: dict[Path, int] = {}  # folders that this process writes


def claim_folder(out: Path) -> None:
    """Lock a folder for this process; the system releases the lock when the process ends, for whatever reason.

    Raises DataError if another run writes there.
    """
    out.mkdir(parents=True, exist_ok=True)
    if out.resolve() in _claims:
        return
    folder = os.open(out, os.O_RDONLY)
    try:
        locked = _lock(folder)
    except BlockingIOError as error:
        os.close(folder)
        reason = "another run is writing here, or a process that is left of a killed run"
        raise DataError(out, reason=reason, cure="wait for it or stop it") from error
    if not locked:
        os.close(folder)
        return
    _claims[out.resolve()] = folder


def _lock(file: int) -> bool:
    """Lock an open file or folder; False where the system cannot. Raises BlockingIOError where another process has it."""
    try:
        import fcntl
    except ImportError:  # not on this system
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a file system without locks
        return False
    return True


@contextmanager
def claimed_file(path: Path, holder: str) -> Iterator[None]:
    """Lock a file for this process and a block, by a file `path.lock` beside it that says who holds it.

    Raises DataError, with the holder's words, if another process has it.
    """
    lock = path.with_name(path.name + ".lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            _lock(file)
        except BlockingIOError as error:
            said = os.read(file, 1000).decode(errors="replace").strip() or "another process"
            raise DataError(path, reason=f"{said} holds this file", cure="use that one, or stop it first") from error
        os.ftruncate(file, 0)
        os.write(file, holder.encode())
        yield
        os.ftruncate(file, 0)
    finally:
        os.close(file)


@contextmanager
def claimed_folder(out: Path) -> Iterator[None]:
    """As `claim_folder`, for a block; the folder may be moved in it."""
    key = out.resolve()
    mine = key not in _claims
    claim_folder(out)
    try:
        yield
    finally:
        if mine and key in _claims:
            os.close(_claims.pop(key))
