"""The command `vng demo`: the complete workflow on procedural videos, run with the same commands a user would type.

synthesize -> convert points and narratives to pseudo-masks -> pre-train on them -> fine-tune on a few true masks ->
predict -> evaluate -> a page. Everything is seeded; all figures are from held-out videos.
"""

from __future__ import annotations

import argparse
import json
import resource
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vng.cli.options import command, path
from vng.errors import VngError

RunCommand = Callable[[Sequence[str]], int]


NAME, SUMMARY = "demo", "run the complete workflow on procedural videos, offline, in minutes"


@dataclass(frozen=True)
class DemoSizes:
    """Sizes of the demo; the defaults take at most ten minutes on two cores."""

    pretrain_videos: int = 240
    finetune_videos: int = 80
    test_videos: int = 24
    pretrain: str = "configs/demo/pretrain.yaml"
    finetune: str = "configs/demo/finetune.yaml"
    overrides: tuple[str, ...] = ()  # of both recipes


SMALL = DemoSizes(
    pretrain_videos=24,
    finetune_videos=8,
    test_videos=4,
    overrides=("optimizer.steps=40", "log_every=20", "save_every=40"),
)


def add(commands: Any) -> None:
    """Add the parser of `vng demo`."""
    parser = command(commands, NAME, run, SUMMARY, "vng demo --out out/demo")
    parser.add_argument("--out", type=path, default=Path("out/demo"), help="folder to write [out/demo]")
    parser.add_argument(
        "--small", action="store_true", help="a minute instead of ten: the same commands, but the models learn little"
    )


def run(arguments: argparse.Namespace) -> None:
    """Run the demo."""
    from vng.cli.app import main

    run_demo(arguments.out, main, SMALL if arguments.small else None)


def run_demo(out: Path, run_command: RunCommand, sizes: DemoSizes | None = None) -> dict[str, Any]:
    """Run the demo into `out` and return its report (also `report.json` and `index.html` there).

    An interrupted demo resumes, as each of its commands does.

    Raises:
        VngError: one of its commands failed.
    """
    from vng.manifest import to_json, write_atomic

    sizes = sizes or DemoSizes()
    started = time.monotonic()
    _make_data(out, run_command, sizes)
    _train_and_score(out, run_command, sizes)
    report = {
        "J&F": {name: _read(out / f"{name}.json")["J&F"] * 100 for name in (*MODELS, "swapped_nouns")},
        "pseudo_masks": _pseudo_mask_quality(out),
        "seconds": time.monotonic() - started,
        "peak_memory_bytes": _peak_memory(),
    }
    _write_page(out, report)
    write_atomic(out / "report.json", to_json(report))
    _print_report(out, report)
    return report


MODELS = ("untrained", "pretrained", "finetuned")


def _step(run_command: RunCommand, *arguments: object) -> None:
    words = [str(argument) for argument in arguments]
    print("\n$ vng " + shlex.join(words), flush=True)
    status = run_command(words)
    if status == 130:
        raise KeyboardInterrupt
    if status:
        raise VngError(f"demo: `vng {shlex.join(words)}` ended with status {status}")


def _make_data(out: Path, run: RunCommand, sizes: DemoSizes) -> None:
    worlds = {
        "points": (sizes.pretrain_videos, 11),
        "masks": (sizes.finetune_videos, 12),
        "test": (sizes.test_videos, 13),
    }
    for name, (videos, seed) in worlds.items():
        _step(run, "synthesize", "--out", out / f"world_{name}", "--videos", videos, "--seed", seed, "--preset", "easy")
    world = out / "world_points"
    # `classical` takes a third of the default's time on such small frames; the demo must fit into ten minutes.
    _step(
        run,
        "convert",
        "point-vos",
        "--points",
        world / "points.json",
        "--narratives",
        world / "vidln.jsonl",
        "--frames",
        world / "frames",
        "--out",
        out / "pseudo",
        "--segmenter",
        "classical",
        "--held-out",
        0.4,
    )
    for name, folder in (("masks", "true"), ("test", "test"), ("points", "pseudo_truth")):
        trio = out / f"world_{name}" / "vng"
        _step(
            run,
            "convert",
            "vng",
            "--meta",
            trio / "meta_expressions.json",
            "--extra-masks",
            trio / "extra_masks.json",
            "--orig-masks",
            trio / "orig_masks.json",
            "--frames",
            out / f"world_{name}" / "frames",
            "--out",
            out / folder,
            "--name",
            "procedural",
            "--split",
            "train",
        )


def _train_and_score(out: Path, run: RunCommand, sizes: DemoSizes) -> None:
    pseudo, true = f"data.path={out / 'pseudo'}", f"data.path={out / 'true'}"
    _step(
        run,
        "train",
        sizes.pretrain,
        pseudo,
        f"out={out / 'untrained'}",
        "optimizer.steps=1",
        "optimizer.lr=1e-9",
        "optimizer.lr_backbone=0",
        "optimizer.lr_text=0",
        "log_every=1",
        "save_every=1",
        *[o for o in sizes.overrides if not o.startswith(("optimizer.steps", "log_every", "save_every"))],
    )
    _step(run, "train", sizes.pretrain, pseudo, f"out={out / 'pretrained'}", *sizes.overrides)
    _step(
        run,
        "train",
        sizes.finetune,
        true,
        f"out={out / 'finetuned'}",
        f"model.init={out / 'pretrained'}",
        *sizes.overrides,
    )
    for name in MODELS:
        _step(run, "predict", "--model", out / name, "--dataset", out / "test", "--out", out / "results" / name)
        _step(
            run,
            "evaluate",
            "vng",
            "--dataset",
            out / "test",
            "--results",
            out / "results" / name,
            "--json",
            out / f"{name}.json",
        )
    _step(
        run,
        "evaluate",
        "vng",
        "--dataset",
        out / "test",
        "--results",
        out / "results" / "finetuned",
        "--against-others",
        "--json",
        out / "swapped_nouns.json",
    )
    _step(run, "inspect", out / "pseudo", "--html", out / "pseudo_page")


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _peak_memory() -> int:
    """Peak resident memory of this process and its largest child, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def _pseudo_mask_quality(out: Path) -> dict[str, float]:
    """True J of the pseudo-masks, and its rank correlation with point agreement over objects.

    J is the mean over annotated frames in which the object is visible; 0 in frames without a pseudo-mask.
    """
    from statistics import fmean

    from scipy.stats import spearmanr

    from vng.dataset import VngDataset
    from vng.masks import area, intersection_over_union

    world = _read(out / "world_points" / "truth.json")["videos"]
    truth = {video.video_id: video for video in VngDataset(out / "pseudo_truth")}
    scores, agreements = [], []
    for video in VngDataset(out / "pseudo"):
        true_id = {item["point_record"]: item["object_id"] for item in world[video.video_id]["objects"]}
        full = truth[video.video_id]
        index = {name: t for t, name in enumerate(full.frame_names)}
        for item in video.objects:
            true_masks = full.object_by_id[true_id[item.object_id]].segmentations
            overlaps = [
                0.0 if rle is None else intersection_over_union(rle, true_mask)
                for name, rle in zip(video.frame_names, item.segmentations, strict=True)
                if (true_mask := true_masks[index[name]]) is not None and area(true_mask)
            ]
            if item.quality.point_agreement is not None and overlaps:
                scores.append(fmean(overlaps))
                agreements.append(item.quality.point_agreement)
    correlation = spearmanr(agreements, scores).statistic if len(scores) > 1 else float("nan")
    return {"mean_J": fmean(scores), "agreement_rank_correlation": float(correlation)}


def _write_page(out: Path, report: dict[str, Any]) -> None:
    from vng.pages import embed_image, render_page

    jf, pseudo = report["J&F"], report["pseudo_masks"]
    figures = [
        ("J&F fine-tuned", f"{jf['finetuned']:.1f}"),
        ("J&F pre-trained on points only", f"{jf['pretrained']:.1f}"),
        ("J&F against another object's mask", f"{jf['swapped_nouns']:.1f}"),
        ("J&F untrained", f"{jf['untrained']:.1f}"),
        ("pseudo-masks, mean J", f"{pseudo['mean_J']:.2f}"),
        ("agreement ranks J (Spearman)", f"{pseudo['agreement_rank_correlation']:.2f}"),
        ("seconds of this call", f"{report['seconds']:.0f}"),
        ("peak memory", f"{report['peak_memory_bytes'] / 2**30:.1f} GiB"),
    ]
    sections = [
        {
            "title": "Held-out videos",
            "text": "Each noun in its own colour; best, middle and worst narratives by J&F.",
            "cards": _example_cards(out),
        },
        {"title": "Pre-training on pseudo-masks", "image": embed_image(out / "pretrained" / "curves.png")},
        {"title": "Fine-tuning on true masks", "image": embed_image(out / "finetuned" / "curves.png")},
    ]
    lead = "Points and narratives in, a scored and visible grounder out: the whole path on a procedural world."
    footer = "Written by vng demo. The pseudo-masks are shown in pseudo_page/index.html."
    render_page(out / "index.html", title="vng demo", lead=lead, figures=figures, sections=sections, footer=footer)


def _example_cards(out: Path, count: int = 9) -> list[dict[str, Any]]:
    """The best, middle and worst narratives of the test set, each with a contact sheet and an overlay video."""
    from statistics import fmean

    import numpy as np

    from vng.compact_results import compact_path, read_compact
    from vng.dataset import VngDataset
    from vng.evaluation.narrative.scores import ExpressionScore
    from vng.grounding.result import GroundingResult
    from vng.label_maps import colour
    from vng.pages import embed_image, marked_html
    from vng.viewer import contact_sheet, write_overlay_video

    dataset = VngDataset(out / "test")
    scores = [ExpressionScore(**s) for s in _read(out / "finetuned.json")["expressions"]]
    narratives: dict[tuple[int, int], list[ExpressionScore]] = {}
    for score in scores:
        index = dataset.video_ids.index(score.video)
        narrative = dataset[index].expressions[score.expression].narrative
        narratives.setdefault((index, narrative), []).append(score)
    ranked = sorted(narratives, key=lambda key: -fmean(s.j + s.f for s in narratives[key]))
    third = max(1, count // 3)
    middle = len(ranked) // 2
    chosen = [*ranked[:third], *ranked[middle : middle + third], *ranked[-third:]]
    cards = []
    for number, key in enumerate(dict.fromkeys(chosen)):
        video, group = dataset[key[0]], narratives[key]
        spans = tuple((video.expressions[s.expression].start, video.expressions[s.expression].end) for s in group)
        predicted = read_compact(compact_path(out / "results" / "finetuned", video.video_id)).tracks
        rles = tuple(tuple(rle for rle in predicted[str(s.expression)].masks if rle is not None) for s in group)
        text = video.narratives[key[1]].description
        result = GroundingResult(
            frames=video.opened_frames(),
            description=text,
            spans=spans,
            rles=rles,
            scores=np.zeros(len(group)),
            frame_scores=np.zeros((len(group), 1)),
        )
        film = out / "films" / f"{number}.mp4"
        write_overlay_video(result.frames, rles, text, spans, film)
        contact_sheet(result.frames, rles, text, spans, out / "films" / f"{number}.png", count=4)
        colours = [colour(i) for i in range(len(spans))]
        note = "J&F " + ", ".join(f"{s.noun} {50 * (s.j + s.f):.0f}" for s in group)
        cards.append(
            {
                "title": video.video_id,
                "image": embed_image(out / "films" / f"{number}.png"),
                "video": f"films/{number}.mp4",
                "narratives": [
                    {"actor": video.narratives[key[1]].actor_name, "html": marked_html(text, spans, colours)}
                ],
                "note": note,
            }
        )
    return cards


def _print_report(out: Path, report: dict[str, Any]) -> None:
    print("\nheld-out procedural videos, J&F:")
    for name, value in report["J&F"].items():
        print(f"  {name:16}{value:6.1f}")
    quality = report["pseudo_masks"]
    print(
        f"pseudo-masks: mean J {quality['mean_J']:.2f}, agreement ranks J {quality['agreement_rank_correlation']:.2f}"
    )
    print(f"{report['seconds']:.0f} s, {report['peak_memory_bytes'] / 2**30:.1f} GiB at most\n{out / 'index.html'}")
