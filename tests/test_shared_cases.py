"""The inputs of ../shared/cases, where they are: each command ends as its `case.md` says."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import ROOT, Cli
from vng.dataset import VngDataset

CASES = ROOT.parent / "shared" / "cases"
VNG = "convert vng --meta meta.json --extra-masks extra.json --orig-masks orig.json --frames frames --out o"
FLOW = "propagate --points points.json --propagator flow --out out"
# case, command, exit status, words of the messages
HOSTILE = [
    ("jpeg-cut-in-the-middle", VNG, 0, "000001.jpg: this image"),
    ("json-5000-digits", VNG, 1, "meta.json: line 1, column 12: broken JSON: a number of too many digits"),
    ("json-nested-too-deep", VNG, 1, "meta.json: line 1, column 12: broken JSON: nested too deeply"),
    (
        "lone-surrogate-in-name",
        "convert ref-youtube-vos --meta ref.json --annotations Ann --frames frames --out o",
        0,
        "lone surrogate",
    ),
    ("name-3000-long-stops-conversion", VNG, 0, "a name of 3000 bytes"),
    ("parquet-nan-point", "inspect ds --html h", 1, "ds: v1: objects.10.points[0]: not a point"),
    ("parquet-row-null-split", "inspect ds", 1, "ds: v1: split: expected a string, got null"),
    ("parquet-row-short-counts", "inspect ds", 1, "ds: v1: objects.10.segmentations[0]: counts fill 0 pixels"),
    ("parquet-truncated", "inspect ds", 1, ".parquet: this shard is damaged"),
    ("recipe-5000-digits", "train r.yaml", 1, "r.yaml: broken YAML: a number of too many digits"),
    ("rle-count-beyond-uint32", "convert youtube-vis --masks vis.json --out o", 0, "at most 67108864 pixels"),
    ("terminal-escape-in-message", VNG.replace("--out o", "--out ds"), 1, "ds: \\x1b[31mred"),
    ("trio-id-is-a-list", VNG, 0, "expected an integer or a string as id"),
]
PUBLIC = [
    (
        "caption-utf16-offsets",
        "convert point-vos --points in/p.json --narratives in/n.jsonl --frames in/frames --segmenter classical --out o",
        0,
        "count UTF-",
    ),
    (
        "coco-png-isthing-missing",
        "convert coco-png --narratives png.json --panoptic pan.json --panoptic-masks pan --images img --out o",
        0,
        "category 18: isthing: this key is missing",
    ),
    ("davis2016-own-image-set", "convert davis --root DAVIS --image-set 480p/train --out o", 0, "1 objects, 4 masks"),
    ("frames-appledouble", f"{FLOW} --video frames", 0, "seen in 5 of 5 frames"),
    ("frames-decimal-names", f"{FLOW} --video frames", 0, "seen in 5 of 5 frames"),
    ("frames-jpg-and-png", f"{FLOW} --video frames", 1, "00000.jpg and 00000.png are of one frame"),
    ("image-set-bom", "convert davis --root DAVIS --image-set 2017/train --out o", 0, "2 videos, 0 narratives"),
    (
        "mask-smoothed-edges",
        "propagate --video frames --masks mask.png --propagator flow --out out",
        1,
        "14 values",
    ),
    (
        "rvos-repeated-expression-key",
        "convert ref-youtube-vos --meta meta.json --annotations Ann --frames F --out o",
        1,
        "see the reasons there",
    ),
    ("video-cover-art-first", f"{FLOW} --video cover_first.mp4", 0, "seen in 8 of 8 frames"),
    ("video-mirrored-display-matrix", f"{FLOW} --video vflip.mp4", 0, "of 12 frames"),
    ("video-name-nfc-nfd", "convert davis --root DAVIS --image-set 2017/train --out o", 0, "2 objects, 8 masks"),
    ("video-open-gop-cut-hevc", f"{FLOW} --video hevc_cut.mkv", 0, "seen in 30 of 30 frames"),
    ("vis-two-videos-one-id", "convert youtube-vis --masks masks.json --frames F --out o", 1, "see the reasons"),
    (
        "vis-two-videos-one-id",
        "evaluate instances --annotations masks.json --results results.json",
        1,
        "the id 1 repeats",
    ),
    ("vis-windows-backslashes", "convert youtube-vis --masks bs.json --frames frames --out o", 0, "2 objects, 6 masks"),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The valid world that hostile cases replace files of."""
    if not CASES.is_dir():
        pytest.skip("../shared/cases is not here")
    import subprocess

    out = tmp_path_factory.mktemp("cases") / "world"
    script = CASES / "hostile" / "small_world.py"
    subprocess.run([sys.executable, script, out], check=True, cwd=ROOT, env=None)
    return out


def end(cli: Callable[..., Cli], command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    monkeypatch.chdir(folder)
    words = command.split()
    ended = cli(*words, *(["--quiet"] if words[0] not in ("evaluate", "train") else []))
    assert "Traceback" not in ended.err
    return ended.status, ended.out + ended.err


@pytest.mark.parametrize(("case", "command", "status", "words"), HOSTILE, ids=[row[0] for row in HOSTILE])
def test_hostile(
    case: str,
    command: str,
    status: int,
    words: str,
    world: Path,
    tmp_path: Path,
    cli: Callable[..., Cli],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(world, tmp_path / "w")
    for file in (CASES / "hostile" / case).iterdir():
        if file.suffix not in (".md", ".py"):
            target = tmp_path / "w" / file.name.replace("__", "/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    found, told = end(cli, command, tmp_path / "w", monkeypatch)
    assert found == status and words in told, told


@pytest.mark.parametrize(("case", "command", "status", "words"), PUBLIC, ids=[f"{r[0]}-{r[1][:8]}" for r in PUBLIC])
def test_public(
    case: str,
    command: str,
    status: int,
    words: str,
    tmp_path: Path,
    cli: Callable[..., Cli],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not CASES.is_dir():
        pytest.skip("../shared/cases is not here")
    shutil.copytree(CASES / "public" / case, tmp_path / "w")
    found, told = end(cli, command, tmp_path / "w", monkeypatch)
    assert found == status and words in told, told
    if case == "caption-utf16-offsets":
        (video,) = VngDataset(tmp_path / "w" / "o")
        assert [(e.start, e.end) for e in video.expressions] == [(8, 14)]
