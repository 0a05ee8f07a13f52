"""Manifests: settings and versions saved beside a result, and a check that runs with other settings never mix."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from vng.errors import DataError

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
    except ValueError:
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
    different = [key for key in sorted({*earlier, *current}) if earlier.get(key) != current.get(key)]
    if different:
        key = different[0]
        raise DataError(
            out,
            field=key,
            reason=f"an earlier run wrote here with {earlier.get(key)!r}, now {current.get(key)!r}",
            cure="delete the folder or choose another one",
        )
