"""`vng predict`."""

from __future__ import annotations

import argparse

from vng.errors import UsageError


def run_predict(arguments: argparse.Namespace) -> None:
    """Ground one narrative, or a dataset's."""
    alone = arguments.video is not None and arguments.narrative is not None
    if alone == (arguments.dataset is not None) or (arguments.video is None) != (arguments.narrative is None):
        raise UsageError("vng predict: give --video and --narrative, or --dataset")
    if alone:
        _predict_one(arguments)
        return
    from vng.dataset import VngDataset
    from vng.grounding import NarrativeGrounder
    from vng.prediction import predict_dataset

    grounder = NarrativeGrounder.from_pretrained(arguments.model, arguments.device)
    dataset = VngDataset(arguments.dataset, arguments.split)
    count = predict_dataset(grounder, dataset, arguments.out, arguments.model, progress=not arguments.quiet)
    print(f"{arguments.out}: {count} expressions")


def _predict_one(arguments: argparse.Namespace) -> None:
    from tqdm import tqdm

    from vng.frames import open_frames
    from vng.narratives import parse_nouns

    description, spans = parse_nouns(arguments.narrative)  # a wrong call is told before anything is loaded
    frames = open_frames(arguments.video)
    from vng.grounding import NarrativeGrounder

    grounder = NarrativeGrounder.from_pretrained(arguments.model, arguments.device)
    with tqdm(total=len(frames), desc="predict", unit="frame", disable=arguments.quiet) as bar:
        result = grounder.ground(frames, description, spans, on_frames=bar.update)
    result.save(arguments.out)
    for noun, score in zip(result.nouns, result.scores, strict=True):
        print(f"{noun}: {score:.3f}")
    print(arguments.out / "overlay.mp4")
