"""How well heads, phrases and entities of nouns are read, against labels made by hand.

    python -m benchmarks.phrases [--pipeline NAME_OR_PATH] [--misses] [--json FILE]

The 129 nouns of the 22 real VidLN narratives in `../shared/data/vidln`; the labels, offsets only, are those of
`tests/fixtures/narrated_nouns.json`. Without `--pipeline`, the rules are measured. A pair of nouns of one narrative is
right where both say the same of it: same thing or not. Most pairs are different, so the shares of both kinds are printed.

The rules were written with these captions in view. The first nouns of the 40 Ref-DAVIS17 sentences in
`../shared/data/davis_val`, labelled before the rules saw them, are the check on other texts (`unseen_...`).
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from conversion.formats.vidln import read_vidln
from vng.grounding.phrases import Phrase, Pipeline, find_pipeline, phrases_of

ROOT = Path(__file__).parent.parent
LABELS = ROOT / "tests" / "fixtures" / "narrated_nouns.json"
NARRATIVES = ROOT.parent / "shared" / "data" / "vidln" / "vidlns"
EXPRESSIONS = ROOT.parent / "shared" / "data" / "davis_val" / "expressions.json"


@dataclass(kw_only=True)
class Counts:
    """Counts of right answers, and the misses."""

    nouns: int = 0
    heads: int = 0
    phrases: int = 0
    same: int = 0  # pairs that mean one thing
    same_found: int = 0
    different: int = 0
    different_found: int = 0
    must_differ: int = 0  # pairs of nouns that the words keep apart, as read
    must_differ_wrong: int = 0
    misses: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        """Shares in per cent, and counts."""
        pairs = self.same + self.different
        return {
            "nouns": self.nouns,
            "head_percent": 100 * self.heads / self.nouns,
            "phrase_percent": 100 * self.phrases / self.nouns,
            "pairs": pairs,
            "entity_percent": 100 * (self.same_found + self.different_found) / pairs,
            "same_pairs": self.same,
            "same_percent": 100 * self.same_found / max(self.same, 1),
            "different_percent": 100 * self.different_found / max(self.different, 1),
            "must_differ_pairs": self.must_differ,
            "must_differ_wrong": self.must_differ_wrong,
        }


def labelled(folder: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(caption, labels of its nouns) of each narrative in a folder of VidLN files."""
    by_narrative: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for label in json.loads(LABELS.read_text())["nouns"]:
        by_narrative[label["video_id"], label["narrative"]].append(label)
    for file in sorted(folder.glob("*.jsonl")):
        for video in read_vidln(file):
            for index, narrative in enumerate(video.narratives):
                yield narrative.caption, by_narrative[video.video_id, index]


def measure(folder: Path = NARRATIVES, pipeline: Pipeline | None = None) -> Counts:
    """Compare what is read with the labels."""
    counts = Counts()
    for caption, labels in labelled(folder):
        read = phrases_of(caption, [(start, end) for start, end in (label["span"] for label in labels)], pipeline)
        _compare_nouns(counts, caption, labels, read)
        _compare_pairs(counts, caption, labels, read)
    return counts


def measure_unseen(file: Path = EXPRESSIONS, pipeline: Pipeline | None = None) -> Counts:
    """Compare what is read of the first noun of each sentence with the labels."""
    counts = Counts()
    videos = json.loads(file.read_text())["videos"]
    for label in json.loads(LABELS.read_text())["expressions"]:
        text = videos[label["video_id"]]["objects"][label["object"]][label["expression"]]
        _compare_nouns(counts, text, [label], phrases_of(text, [tuple(label["span"])], pipeline))
    return counts


def _compare_nouns(counts: Counts, caption: str, labels: list[dict[str, Any]], read: tuple[Phrase, ...]) -> None:
    for label, phrase in zip(labels, read, strict=True):
        counts.nouns += 1
        for kind, got in (("head", phrase.head_span), ("phrase", phrase.text_span)):
            if list(got) == label[kind]:
                setattr(counts, f"{kind}s", getattr(counts, f"{kind}s") + 1)
            else:
                counts.misses.append(f"{kind}: {caption[slice(*got)]!r}, not {caption[slice(*label[kind])]!r}")


def _compare_pairs(counts: Counts, caption: str, labels: list[dict[str, Any]], read: tuple[Phrase, ...]) -> None:
    for i, j in combinations(range(len(labels)), 2):
        same, found = labels[i]["entity"] == labels[j]["entity"], read[i].entity == read[j].entity
        counts.same, counts.different = counts.same + same, counts.different + (not same)
        counts.same_found += same and found
        counts.different_found += not same and not found
        apart = j in read[i].differs_from
        counts.must_differ, counts.must_differ_wrong = (
            counts.must_differ + apart,
            counts.must_differ_wrong + (apart and same),
        )
        if same != found:
            counts.misses.append(f"{'parted' if same else 'joined'}: {read[i].text!r} and {read[j].text!r}: {caption}")


def main() -> None:
    """Print the table; write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--narratives", type=Path, default=NARRATIVES, help="folder of the VidLN files")
    parser.add_argument("--expressions", type=Path, default=EXPRESSIONS, help="expressions.json of davis_val")
    parser.add_argument("--pipeline", default="rules", help="a spaCy pipeline, by name or path; rules: none")
    parser.add_argument("--misses", action="store_true", help="print each miss")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    pipeline = find_pipeline(arguments.pipeline)
    counts = measure(arguments.narratives, pipeline)
    figures, misses = counts.figures(), counts.misses
    if arguments.expressions.exists():
        unseen = measure_unseen(arguments.expressions, pipeline)
        figures |= {"unseen_nouns": unseen.nouns, "unseen_head_percent": 100 * unseen.heads / unseen.nouns}
        figures["unseen_phrase_percent"] = 100 * unseen.phrases / unseen.nouns
        misses = [*misses, *(f"unseen {miss}" for miss in unseen.misses)]
    for name, value in figures.items():
        print(f"{name:24}{value:>10.1f}" if name.endswith("percent") else f"{name:24}{value:>10}")
    if arguments.misses:
        print("\n".join(misses))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
