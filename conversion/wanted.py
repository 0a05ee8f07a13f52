"""Subset lists: which objects or videos of an annotation file are wanted, one name a line.

Point-VOS publishes two (idilesenzulfikar/PointVOS, `oops_train_subset.txt` with 12,146 and `kinetic_train_subset.txt` with
120,192 lines in `dataset_scripts`): keys of the objects that are in the paper's tables. A list of one's own may name videos
instead, with or without split prefix.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from conversion.formats import point_vos
from conversion.formats.point_vos import PointRecord
from conversion.options import BuildOptions
from conversion.spool import SpoolWriter
from vng.errors import DataError, Problem

MOST_NAMED = 3  # unknown names that a problem spells out


class Subset:
    """The names of a list, and which of them were met; ask it once for every record of the annotations."""

    def __init__(self, names: Iterable[str], file: Path | str = "") -> None:
        self.names = frozenset(names)
        self.file = str(file)
        self._met: set[str] = set()

    def keeps(self, record: PointRecord) -> bool:
        """Whether the list names the record's key or its video."""
        return self._named(record.key, record.video_name, record.video_id)

    def keeps_video(self, video_id: str) -> bool:
        """Whether the list names the video."""
        return self._named(video_id)

    def _named(self, *names: str | None) -> bool:
        found = [name for name in names if name in self.names]
        self._met.update(name for name in found if name is not None)
        return bool(found)

    def check(self, annotations: Path | str) -> list[Problem]:
        """After all records were asked for: a problem naming what of the list was never met.

        Raises DataError where nothing was: the list belongs to another file.
        """
        unknown = sorted(self.names - self._met)
        if not unknown:
            return []
        shown = ", ".join(repr(name) for name in unknown[:MOST_NAMED]) + ", ..." * (len(unknown) > MOST_NAMED)
        if not self._met:
            reason = f"none of its {len(self.names)} names is a key or a video of {annotations} ({shown})"
            raise DataError(self.file, reason=reason, cure="check that --subset belongs to these annotations")
        reason = f"names that {annotations} does not have ({len(unknown)} of {len(self.names)}): {shown}"
        return [Problem(self.file, reason=reason, cure="check that --subset belongs to these annotations")]


def read_subset(path: Path) -> Subset:
    """Read a list, one name a line; blank lines do not count, spaces within and around names do.

    Raises DataError for a list that is missing, empty, or no UTF-8 text.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # not splitlines: names may hold other line separators
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DataError(path, reason="no such file", cure="check --subset") from error
    except UnicodeDecodeError as error:
        raise DataError(
            path, record=f"byte {error.start}", reason="this is not UTF-8 text", cure="fetch the list again"
        ) from error
    names = [name for line in lines if (name := line.rstrip("\r")).strip()]
    if not names:
        raise DataError(path, reason="this list is empty", cure="one object key or video name a line")
    return Subset(names, path)


class Wanted:
    """Which videos and records of the annotations are asked for, by `--only` and `--subset`."""

    def __init__(self, options: BuildOptions) -> None:
        self._only = set(options.only)
        self._subset = None if options.subset is None else read_subset(options.subset)

    def video(self, name: str) -> bool:
        """Whether a video that the annotations tell of is asked for by name."""
        return not self._only or name in self._only

    def listed_video(self, name: str) -> bool:
        """Whether the subset list has a video, where there is a list."""
        return self._subset is None or self._subset.keeps_video(name)

    def listed_record(self, record: point_vos.PointRecord) -> bool:
        """Whether the subset list has a record or its video, where there is a list."""
        return self._subset is None or self._subset.keeps(record)

    def report_missing(self, spool: SpoolWriter, files: dict[str, Path]) -> None:
        """Note everything that was asked for and is not in a file; `files` says which kinds of records stand where."""
        reason = "asked for with --only, and not in this file"
        for name in sorted(self._only):
            missing = [file for kind, file in files.items() if not spool.has_video(kind, name)]
            if missing:
                spool.problem(Problem(str(missing[0]), record=repr(name), field="video_id", reason=reason))
        if self._subset is not None and not self._only:  # with --only, most of a list is passed over
            for problem in self._subset.check(list(files.values())[-1]):
                spool.problem(problem)
