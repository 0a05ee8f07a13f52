"""Selection of videos and objects by `--only` and `--subset`, a list with one object key or video name per line.

Point-VOS publishes two (idilesenzulfikar/PointVOS, `oops_train_subset.txt` with 12,146 and `kinetic_train_subset.txt`
with 120,192 lines in `dataset_scripts`): keys of the objects in the paper's tables. Other lists may name videos
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

MOST_NAMED = 3  # unknown names shown in a problem


class Subset:
    """The names of a subset list, and those matched so far; call once for every record of the annotations."""

    def __init__(self, names: Iterable[str], file: Path | str = "") -> None:
        self.names = frozenset(names)
        self.file = str(file)
        self._matched: set[str] = set()

    def keeps(self, record: PointRecord) -> bool:
        """Whether the list names the record's key or its video."""
        return self._named(record.key, record.video_name, record.video_id)

    def keeps_video(self, video_id: str) -> bool:
        """Whether the list names the video."""
        return self._named(video_id)

    def _named(self, *names: str | None) -> bool:
        matches = [name for name in names if name in self.names]
        self._matched.update(name for name in matches if name is not None)
        return bool(matches)

    def check(self, annotations: Path | str) -> list[Problem]:
        """A problem with the names that no record matched, once all records are read.

        Raises DataError where no name was matched: the list belongs to other annotations.
        """
        unknown = sorted(self.names - self._matched)
        if not unknown:
            return []
        shown = ", ".join(repr(name) for name in unknown[:MOST_NAMED]) + ", ..." * (len(unknown) > MOST_NAMED)
        if not self._matched:
            reason = f"none of its {len(self.names)} names is a key or a video of {annotations} ({shown})"
            raise DataError(self.file, reason=reason, cure="check that --subset belongs to these annotations")
        reason = f"names that are not in {annotations} ({len(unknown)} of {len(self.names)}): {shown}"
        return [Problem(self.file, reason=reason, cure="check that --subset belongs to these annotations")]


def read_subset(path: Path) -> Subset:
    """Read a list with one name per line; blank lines are skipped, spaces in and around names are kept.

    Raises DataError for a list that is missing, empty, or not UTF-8 text.
    """
    try:
        # Not splitlines: names may contain other line separators.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DataError(path, reason="no such file", cure="check --subset") from error
    except UnicodeDecodeError as error:
        raise DataError(
            path, record=f"byte {error.start}", reason="not UTF-8 text", cure="fetch the list again"
        ) from error
    names = [name for line in lines if (name := line.rstrip("\r")).strip()]
    if not names:
        raise DataError(path, reason="this list is empty", cure="write one object key or video name per line")
    return Subset(names, path)


class Wanted:
    """The selection of videos and records by `--only` and `--subset`."""

    def __init__(self, options: BuildOptions) -> None:
        self._only = set(options.only)
        self._subset = None if options.subset is None else read_subset(options.subset)

    def video(self, name: str) -> bool:
        """Whether `--only` selects a video; without it, all are selected."""
        return not self._only or name in self._only

    def listed_video(self, name: str) -> bool:
        """Whether the subset list names a video; without a list, all are selected."""
        return self._subset is None or self._subset.keeps_video(name)

    def listed_record(self, record: point_vos.PointRecord) -> bool:
        """Whether the subset list names a record or its video; without a list, all are selected."""
        return self._subset is None or self._subset.keeps(record)

    def report_missing(self, spool: SpoolWriter, files: dict[str, Path]) -> None:
        """Report selected names that are not in the annotations; `files` has the file of each kind of record."""
        reason = "selected with --only, but not in this file"
        missing = {file: spool.missing_videos(kind, self._only) for kind, file in files.items()}
        for name in sorted(set().union(*missing.values())):
            file = next(file for file, names in missing.items() if name in names)
            spool.problem(Problem(str(file), record=repr(name), field="video_id", reason=reason))
        # With --only, most names of a list are not matched.
        if self._subset is not None and not self._only:
            for problem in self._subset.check(list(files.values())[-1]):
                spool.problem(problem)
