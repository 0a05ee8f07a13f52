"""Random captions of ViCaS, read by `conversion.formats.vicas_captions` and by the publisher's parser.

    python -m benchmarks.vicas_captions --publisher DIR [--cases 500] [--seed 0] [--annotations DIR]

DIR is a checkout of Ali2500/ViCaS, whose `vicas/caption_parsing.py` is run unedited (`tabulate`, by which it prints
tables, is replaced where it is not installed). With `--annotations`, the captions are those of a folder of <id>.json. A
case agrees if both refuse it, or if text, spans, phrases, tracks and crowds are all the same. The publisher's parser
turns full-width commas and question marks of the text into narrow ones, which is not counted, and reads ids digit by
digit, so that 12 becomes 1 and 2; a last mark that never closes is text to it. Such cases are counted apart.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import random
import re
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from conversion.formats.jsonio import write_json
from conversion.formats.vicas import CAPTIONS
from conversion.formats.vicas_captions import parse_caption
from vng.frames import visible_files

AGREES, LONG_IDS = "agrees", "differs by ids above 9 alone"
UNCLOSED = "the last mark never closes: ours refuses it, the publisher's reads its words as text"
CROWD = -1  # of the publisher's parser
WIDE = str.maketrans("？，", "?,")
WORDS = re.split(
    " ", "a man in red throws two balls; the dog's tail, 小狗，跑 cafe\u0301 — 12 'x-ray' who? sits\ton it\U0001f389"
)

# (text, [(start, end, words, ids with -1 for a crowd)]); None where the caption is refused.
Parsed = tuple[str, list[tuple[int, int, str, list[int]]]] | None


def random_caption(rng: random.Random) -> str:
    """A caption with none to six marks, as published or with faults: long ids, crowds, wide commas, torn marks."""
    pieces = [_words(rng, 0, 8)]
    for _ in range(rng.randint(0, 6)):
        pieces += [f"[{_words(rng, 1, 5)}]<{rng.choice(('mask_', 'mask'))}{_ids(rng)}>", _words(rng, 0, 8)]
    caption = rng.choice(("", " ")).join(pieces)
    if caption and rng.random() < 0.1:  # torn: one character is lost, or a mark is added
        at = rng.randrange(len(caption))
        caption = caption[:at] + rng.choice(("", rng.choice("[]<>?7"))) + caption[at + rng.randint(0, 1) :]
    return caption


def _words(rng: random.Random, least: int, most: int) -> str:
    return rng.choice(("", "", " ")) + " ".join(rng.choices(WORDS, k=rng.randint(least, most)))


def _ids(rng: random.Random) -> str:
    drawn = [str(rng.randint(1, 9)) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
    if rng.random() < 0.1:
        drawn[-1] = rng.choice("?？")
    elif rng.random() < 0.1:
        drawn[0] = str(rng.randint(10, 25))
    return rng.choice((",", ",", ", ", "，", " ")).join(drawn)


def published_captions(folder: Path) -> Iterator[str]:
    """The captions of a folder of <id>.json, in every text that they have."""
    for file in visible_files(folder, (".json",)):
        tree = json.loads(file.read_text(encoding="utf-8"))
        yield from (tree[field] for field in CAPTIONS.values() if isinstance(tree.get(field), str))


def publisher_parser(checkout: Path) -> Callable[[str], Any]:
    """`parse_caption` of a checkout."""
    if importlib.util.find_spec("tabulate") is None:
        stand_in = types.ModuleType("tabulate")
        stand_in.tabulate = str  # type: ignore[attr-defined]
        sys.modules["tabulate"] = stand_in
    path = checkout / "vicas" / "caption_parsing.py"
    spec = importlib.util.spec_from_file_location("vicas_caption_parsing", path)
    assert spec is not None and spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    parse: Callable[[str], Any] = module.parse_caption
    return parse


def theirs(caption: str, parse: Callable[[str], Any]) -> Parsed:
    """A caption as the publisher's parser reads it; its end is inclusive."""
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            found = parse(caption)
        except ValueError:
            return None
    return found.parsed, [(one.start_idx, one.end_idx + 1, one.phrase, one.ids) for one in found.objects]


def ours(caption: str) -> Parsed:
    """A caption as this project reads it, in the same form."""
    try:
        found = parse_caption(caption)
    except ValueError:
        return None
    text = found.text.translate(WIDE)
    phrases = [
        (one.start, one.end, text[one.start : one.end], [*one.track_ids, *[CROWD] * one.crowd]) for one in found.phrases
    ]
    return text, phrases


def kind_of(caption: str, mine: Parsed, published: Parsed) -> str:
    """Whether two results agree, or how they differ; ids are compared as sets."""
    if published is None:
        return AGREES if mine is None else "only the publisher's refuses it"
    if mine is None:
        last = caption.rpartition(">")[2]
        return UNCLOSED if "[" in last else "only ours refuses it"
    if mine[0] != published[0]:
        return "text"
    if [one[:3] for one in mine[1]] != [one[:3] for one in published[1]]:
        return "spans"
    pairs = [(set(one[3]), set(other[3])) for one, other in zip(mine[1], published[1], strict=True)]
    if all(one == other for one, other in pairs):
        return AGREES
    return LONG_IDS if all(one == other or _digits(one) == other for one, other in pairs) else "ids"


def _digits(ids: set[int]) -> set[int]:
    """Ids as the publisher's parser reads them."""
    return {CROWD} & ids | {int(digit) for number in ids - {CROWD} for digit in str(number)}


def main() -> int:
    """Print how many captions agree, and what differs in the others; returns 1 where anything but these two kinds differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--publisher", type=Path, required=True, help="checkout of Ali2500/ViCaS")
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--annotations", type=Path, help="folder of <id>.json, instead of random captions")
    parser.add_argument("--json", type=Path, help="write the cases that differ")
    arguments = parser.parse_args()
    parse, rng = publisher_parser(arguments.publisher), random.Random(arguments.seed)
    drawn = (random_caption(rng) for _ in range(arguments.cases))
    captions = list(drawn if arguments.annotations is None else published_captions(arguments.annotations))
    results = [(caption, ours(caption), theirs(caption, parse)) for caption in captions]
    kinds = [kind_of(*result) for result in results]
    counts = Counter(kinds)
    refused = sum(mine is None and published is None for _, mine, published in results)
    marks = sum(len(re.findall("<mask", caption)) for caption in captions)
    print(
        f"{len(captions)} captions with {marks} marks: {counts.pop(AGREES, 0)} agree, {refused} of them refused by both"
    )
    different = [(kind, *result) for kind, result in zip(kinds, results, strict=True) if kind != AGREES]
    for kind, count in counts.most_common():
        print(f"{count:6} {kind}, such as {next(one[1] for one in different if one[0] == kind)!r}")
    if arguments.json is not None:
        names = ("kind", "caption", "ours", "publisher")
        write_json([dict(zip(names, one, strict=True)) for one in different], arguments.json)
    return 1 if counts.keys() - {LONG_IDS, UNCLOSED} else 0


if __name__ == "__main__":
    sys.exit(main())
