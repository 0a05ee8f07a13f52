"""A page that shows why a narrative was grounded as it was: candidates, tracks, scores, and the decision."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vng.frames import Frames, evenly_spaced
from vng.grounding.places import places_of
from vng.grounding.result import GroundingResult
from vng.grounding.zero_shot import Evidence
from vng.label_maps import colour
from vng.masks import area, decode
from vng.pages import embed_image, marked_html, render_page
from vng.viewer import grid, labelled, overlay

PICTURE, STRIP, STRIP_FRAMES = 420, 230, 5  # widths of pictures of candidates and of tracks, and frames of a track
MOST_SHOWN = 24  # tracks with pictures
TRACKED = (255, 0, 220)  # a colour that few things have
SCORES = {
    "noun": "noun",
    "phrase": "phrase",
    "clause": "clause",
    "image_text": "image and text",
    "place": "place",
    "seen": "seen",
}


def write_explanation(result: GroundingResult, evidence: Evidence, folder: Path) -> Path:
    """Write `index.html`, a page that stands alone, into a folder; returns its path.

    Frames are read one at a time.
    """
    frames = result.frames
    found = sum(k is not None for k in evidence.chosen)
    sections = [
        *_said(result, evidence),
        _candidates(frames, evidence),
        _tracks(frames, evidence),
        *_decisions(result, evidence),
        _outcome(result),
    ]
    figures = [
        ("nouns", len(result.spans)),
        ("nouns found", found),
        ("frames looked at", len(evidence.candidates)),
        ("candidates", sum(map(len, evidence.candidates.values()))),
        ("tracks", len(evidence.tracks)),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    render_page(
        folder / "index.html",
        title="Why these masks",
        lead="Grounding without training, step by step: what the narrative says, what was found in a few frames, how it was "
        "carried through the video, and which track each noun took.",
        figures=[(name, str(value)) for name, value in figures],
        sections=sections,
        footer=f"vng predict --zero-shot --explain; {frames.source}",
    )
    return folder / "index.html"


def _said(result: GroundingResult, evidence: Evidence) -> list[dict[str, Any]]:
    phrases = evidence.phrases
    told = places_of(result.description, phrases)
    rows = []
    for n, phrase in enumerate(phrases):
        same = [str(m) for m, other in enumerate(phrases) if other.entity == phrase.entity and m != n]
        places = ", ".join(p.kind if p.other is None else f"{p.kind} noun {p.other}" for p in told[n])
        rows.append((n, phrase.head, phrase.text, phrase.clause, places, ", ".join(same)))
    html = marked_html(result.description, result.spans, [colour(n) for n in range(len(phrases))])
    return [
        {"title": "The narrative", "cards": [{"title": "", "narratives": [{"html": html}]}]},
        {
            "title": "What it says of each noun",
            "header": ("", "noun", "phrase", "clause", "place", "same thing as"),
            "rows": rows,
        },
    ]


def _candidates(frames: Frames, evidence: Evidence) -> dict[str, Any]:
    views = []
    texts = evidence.queries.texts
    for t, own in evidence.candidates.items():
        image = overlay(frames[t], [decode(candidate.mask) for candidate in own], width=PICTURE)
        names = [f"{i}: {texts[int(c.scores.argmax())]} {c.scores.max():.2f}" for i, c in enumerate(own)]
        views.append((f"frame {frames.names[t]}. " + ("; ".join(names) or "nothing was found"), embed_image(image)))
    text = "Frames spread over the video, the sharpest near each place. The number after a text is the detector's best score."
    cards = [
        {"title": "candidates", "views": [{"note": "", "pictures": views[start : start + 3]}]}
        for start in range(0, len(views), 3)
    ]
    return {"title": "What was found", "text": text, "cards": cards}


def _tracks(frames: Frames, evidence: Evidence) -> dict[str, Any]:
    shown = list(enumerate(evidence.tracks))[:MOST_SHOWN]
    times = evenly_spaced(range(len(frames)), STRIP_FRAMES)
    strips: dict[int, list[np.ndarray]] = {k: [] for k, _ in shown}
    for t in times:  # a frame is read once for all tracks
        image = frames[t]
        for k, track in shown:
            strips[k].append(labelled(overlay(image, [decode(track.masks[t])], [TRACKED], STRIP), frames.names[t]))
    cards = []
    for k, track in shown:
        nouns = [str(n) for n, chosen in enumerate(evidence.chosen) if chosen == k]
        seen = sum(area(rle) > 0 for rle in track.masks)
        chips = [("chosen by noun", ", ".join(nouns) or "none"), ("began in frame", frames.names[track.seed.frame])]
        chips.append(("seen in", f"{seen} of {len(frames)} frames"))
        cards.append({"title": f"track {k}", "chips": chips, "image": embed_image(grid(strips[k], STRIP_FRAMES))})
    text = f"Candidates that were carried both ways. {len(shown)} of {len(evidence.tracks)} tracks, the best first."
    return {"title": "Tracks", "text": text, "cards": cards}


def _decisions(result: GroundingResult, evidence: Evidence) -> list[dict[str, Any]]:
    """A table of scores for each noun."""
    scores = evidence.scores
    sections = []
    for n, noun in enumerate(result.nouns):
        parts = [name for name in SCORES if name in scores.parts and not np.isnan(scores.parts[name][n]).all()]
        rows = []
        for k in np.argsort(-scores.total[n], kind="stable").tolist()[:8]:
            allowed = scores.named[n, k] >= evidence.presence
            note = "chosen" if evidence.chosen[n] == k else "" if allowed else "too weak to be there"
            if not note and (taken := [str(m) for m, other in enumerate(evidence.chosen) if other == k]):
                note = f"taken by noun {', '.join(taken)}"
            values = [f"{scores.parts[name][n, k]:.2f}" for name in parts]
            rows.append((f"track {k}", *values, f"{scores.total[n, k]:.2f}", note))
        chosen = evidence.chosen[n]
        decision = "absent: nothing was found for it" if chosen is None else f"track {chosen}"
        sections.append(
            {
                "title": f"Noun {n}: {noun}",
                "text": f"{evidence.phrases[n].text}: {decision}.",
                "header": ("", *(SCORES[name] for name in parts), "together", ""),
                "rows": rows,
                "numbers": tuple(range(1, len(parts) + 2)),
            }
        )
    return sections


def _outcome(result: GroundingResult) -> dict[str, Any]:
    frames = result.frames
    colours: Sequence[tuple[int, int, int]] = [colour(n) for n in range(len(result.spans))]
    tiles = [
        labelled(overlay(frames[t], [decode(row[t]) for row in result.rles], colours, PICTURE), frames.names[t])
        for t in evenly_spaced(range(len(frames)), 6)
    ]
    return {"title": "The masks", "image": embed_image(grid(tiles, 3))}
