"""What can be said to `vng convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vng.arguments.types import command, frame_count, natural, positive, setting, split_name, trio_arguments
from vng.propagators import DEFAULT as DEFAULT_PROPAGATOR
from vng.propagators import ENGINES as PROPAGATORS
from vng.segmenters import DEFAULT, ENGINES


def add_convert(commands: Any) -> None:
    """`vng convert` and its kinds."""
    parser = commands.add_parser(
        "convert",
        help="make a VNG dataset from annotations",
        description="Make a VNG dataset (Parquet that `datasets.load_dataset` opens) from annotations.",
    )
    kinds = parser.add_subparsers(title="annotations", dest="kind", required=True, metavar="KIND")
    point_vos = command(
        kinds,
        "point-vos",
        "convert_point_vos",
        "Point-VOS points and VidLN narratives: pseudo-masks from points",
        "vng convert point-vos --points oops_train.json --narratives oops_train.jsonl --frames frames/oops_train "
        "--out data/oops-vng",
    )
    point_vos.add_argument(
        "--points", type=Path, required=True, help="Point-VOS points: Oops JSON or Kinetics JSON lines"
    )
    vidln = command(
        kinds,
        "vidln",
        "convert_vidln",
        "VidLN narratives alone: pseudo-masks from mouse traces",
        "vng convert vidln --narratives OVIS_train.jsonl --frames frames/OVIS_train --out data/ovis-traces",
    )
    points = command(
        kinds,
        "points",
        "convert_points",
        "a dataset whose objects have points, such as PV-DAVIS: pseudo-masks from them",
        "vng convert points --points data/pv-davis --segmenter embedded --out data/pv-davis-pseudo",
    )
    points.add_argument("--points", type=Path, required=True, help="dataset folder")
    _engine_arguments(points)
    _narrative_arguments(point_vos, nouns="auto")
    _narrative_arguments(vidln, nouns="noun_segments")
    for sub in (point_vos, points):
        sub.add_argument("--held-out", type=float, default=0.2, help="share of points kept to measure agreement [0.2]")
        sub.add_argument(
            "--min-agreement", type=float, default=0.0, help="leave out objects whose point agreement is lower [0]"
        )
    point_vos.add_argument(
        "--link", choices=("name", "name+trace"), default="name+trace", help="how a record finds its noun [name+trace]"
    )
    vng = command(
        kinds,
        "vng",
        "convert_vng",
        "the official VNG trio (OVIS-VNG, UVO-VNG): true masks",
        "vng convert vng --meta meta_expressions.json --extra-masks extra_masks.json --orig-masks annotations_train.json "
        "--frames frames --out data/ovis-vng",
    )
    trio_arguments(vng, required=True)
    vng.add_argument("--frames", type=Path, help="folder of frames; without it the rows carry no pixels")
    davis = command(
        kinds,
        "davis",
        "convert_davis",
        "DAVIS folders: true masks, or points simulated from them, without narratives",
        "vng convert davis --root DAVIS --out data/davis",
    )
    davis.add_argument("--root", type=Path, required=True, help="folder with JPEGImages/ and Annotations/")
    image_set_help = "clips of ImageSets/SET.txt, such as 2017/val; its name is the split [all clips]"
    davis.add_argument("--image-set", default="", metavar="SET", help=image_set_help)
    davis.add_argument("--merge-objects", action="store_true", help="make one object of all, as DAVIS 2016 has it")
    youtube_vos = command(
        kinds,
        "youtube-vos",
        "convert_youtube_vos",
        "YouTube-VOS folders: true masks on annotated frames, or points simulated from them, without narratives",
        "vng convert youtube-vos --root YouTube/train --out data/pv-yt --simulate 10",
    )
    root_help = "folder of a split, with meta.json, JPEGImages/ and Annotations/"
    youtube_vos.add_argument("--root", type=Path, required=True, help=root_help)
    frames_help = "folder of VIDEO/ folders, such as train_all_frames/JPEGImages [JPEGImages/ of the root]"
    youtube_vos.add_argument("--frames", type=Path, help=frames_help)
    annotated_help = (
        "whether a label image tells of all objects, or of those that first appear in it [by the folder's name: "
        "first for valid and test]"
    )
    youtube_vos.add_argument("--annotated", choices=("all", "first"), help=annotated_help)
    for sub in (davis, youtube_vos):
        _simulation_arguments(sub)
    sets = (*_youtube_vis_commands(kinds), *_referring_commands(kinds), _coco_png_command(kinds))
    benchmark = command(
        kinds,
        "point-benchmark",
        "convert_point_benchmark",
        "a VNG dataset with points: the form of the PV-Oops benchmark, points on a reference frame and few true masks",
        "vng convert point-benchmark --source data/oops-val --narratives oops_val.jsonl --out data/pv-oops",
    )
    benchmark.add_argument("--source", type=Path, required=True, help="VNG dataset whose objects have points")
    trace_help = "drop objects whose mouse trace does not come after the reference frame, and evaluate on its frame: "
    benchmark.add_argument(
        "--narratives", type=Path, help=f"{trace_help}the VidLN narratives that the dataset was converted from"
    )
    benchmark.add_argument("--trace-frames", type=Path, help="the same from a JSON object {object id: frame name}")
    for sub in (point_vos, points, vidln, vng, davis, youtube_vos, *sets, benchmark):
        _output_arguments(sub)


VIS_KINDS = {  # kind -> (what it is, an example's file, the frames of a row)
    "ovis": (
        "OVIS's own masks, without narratives (OVIS-VNG comes by `vng convert vng`)",
        "annotations_train.json",
        "listed",
    ),
    "uvo": (
        "UVO's own masks, without narratives (UVO-VNG comes by `vng convert vng`)",
        "UVO_sparse_train_video.json",
        "all",
    ),
    "youtube-vis": ("any masks in YouTube-VIS layout, without narratives", "instances.json", "listed"),
}
NULL_MEANS = ("unknown", "absent")


def _youtube_vis_commands(kinds: Any) -> list[Any]:
    made = []
    for kind, (about, file, row_frames) in VIS_KINDS.items():
        example = f"vng convert {kind} --masks {file} --frames frames --out data/{kind}"
        sub = command(kinds, kind, "convert_youtube_vis", about, example)
        sub.add_argument("--masks", type=Path, required=True, metavar="FILE", help="JSON in YouTube-VIS layout")
        frames_help = "folder that `file_names` are relative to; without it the rows carry no pixels"
        sub.add_argument("--frames", type=Path, help=frames_help)
        row_help = (
            "frames of a row: those that `file_names` lists, or all that the video's folder has, with null masks where "
            f"none is listed [{row_frames}]"
        )
        sub.add_argument("--row-frames", choices=("listed", "all"), default="", help=row_help)
        _null_argument(sub)
        made.append(sub)
    return made


def _null_argument(parser: Any) -> None:
    null_help = "what null in a listed frame says: not annotated (null), or the object is not there (empty) [unknown]"
    parser.add_argument("--null-means", choices=NULL_MEANS, default="unknown", help=null_help)


def _referring_commands(kinds: Any) -> list[Any]:
    youtube = command(
        kinds,
        "ref-youtube-vos",
        "convert_ref_youtube_vos",
        "Ref-YouTube-VOS: a narrative an expression, true masks on annotated frames",
        "vng convert ref-youtube-vos --meta meta_expressions/train/meta_expressions.json "
        "--annotations train/Annotations --frames train/JPEGImages --out data/ref-youtube-vos",
    )
    annotations_help = "folder of VIDEO/FRAME.png of object ids; without it, as for valid and test, all masks are null"
    youtube.add_argument("--annotations", type=Path, metavar="DIR", help=annotations_help)
    youtube.add_argument("--categories", type=Path, metavar="FILE", help="meta.json of the split: names of objects")
    mevis = command(
        kinds,
        "mevis",
        "convert_mevis",
        "MeViS: a narrative an expression; several objects of an expression are one, their masks joined",
        "vng convert mevis --meta train/meta_expressions.json --masks train/mask_dict.json --frames train/JPEGImages "
        "--out data/mevis",
    )
    masks_help = "mask_dict.json; without it, as for valid, all masks are null"
    mevis.add_argument("--masks", type=Path, metavar="FILE", help=masks_help)
    _null_argument(mevis)
    for sub in (youtube, mevis):
        sub.add_argument("--meta", type=Path, required=True, metavar="FILE", help="meta_expressions.json")
        sub.add_argument("--frames", type=Path, required=True, metavar="DIR", help="folder of VIDEO/ folders of frames")
        without_help = "leave out the videos of this meta_expressions.json (valid's file holds those of test too)"
        sub.add_argument("--without", type=Path, metavar="FILE", help=without_help)
    davis = command(
        kinds,
        "ref-davis",
        "convert_ref_davis",
        "Ref-DAVIS17: a narrative a sentence, DAVIS's true masks",
        "vng convert ref-davis --root DAVIS --image-set 2017/val --expressions Davis17_annot1.txt "
        "Davis17_annot1_full_video.txt Davis17_annot2.txt Davis17_annot2_full_video.txt --out data/ref-davis",
    )
    davis.add_argument("--root", type=Path, required=True, help="DAVIS folder, with JPEGImages/ and Annotations/")
    expressions_help = "the published text files, or one JSON file (docs/formats.md)"
    davis.add_argument("--expressions", type=Path, required=True, nargs="+", metavar="FILE", help=expressions_help)
    set_help = "clips of ImageSets/SET.txt, such as 2017/val; its name is the split [all clips with sentences]"
    davis.add_argument("--image-set", default="", metavar="SET", help=set_help)
    folder_help = "folder of label images below the root, such as Annotations_unsupervised [Annotations]"
    davis.add_argument("--annotations", default="Annotations", metavar="NAME", help=folder_help)
    return [youtube, mevis, davis]


def _coco_png_command(kinds: Any) -> Any:
    sub = command(
        kinds,
        "coco-png",
        "convert_coco_png",
        "COCO Panoptic Narrative Grounding: an image is a video of one frame, true masks of its singular things",
        "vng convert coco-png --narratives png_coco_train2017.json --panoptic panoptic_train2017.json "
        "--panoptic-masks panoptic_train2017 --images train2017 --out data/coco-png",
    )
    sub.add_argument("--narratives", type=Path, required=True, metavar="FILE", help="png_coco_{train,val}2017.json")
    sub.add_argument("--panoptic", type=Path, required=True, metavar="FILE", help="panoptic_{train,val}2017.json")
    sub.add_argument("--panoptic-masks", type=Path, required=True, metavar="DIR", help="folder of COCO's panoptic PNGs")
    sub.add_argument("--images", type=Path, required=True, metavar="DIR", help="folder of COCO's images")
    plurals_help = "keep nouns of several segments, as one object, and of crowds (narratives of VNG have none)"
    sub.add_argument("--keep-plurals", action="store_true", help=plurals_help)
    sub.add_argument("--keep-stuff", action="store_true", help="keep nouns of stuff: sky, grass (VNG has none)")
    return sub


def _narrative_arguments(parser: Any, nouns: str) -> None:
    parser.add_argument("--narratives", type=Path, required=True, help="Video Localized Narratives, JSON lines")
    frames_help = "folder of VIDEO/ folders of frames, or VIDEO.mp4 files"
    parser.add_argument("--frames", type=Path, required=True, help=frames_help)
    nouns_help = f"noun_segments, auto (spaCy where installed), or a spaCy pipeline by name or path [{nouns}]"
    parser.add_argument("--nouns", default=nouns, help=nouns_help)
    _engine_arguments(parser)


def _engine_arguments(parser: Any) -> None:
    parser.add_argument(
        "--segmenter", default=DEFAULT, help=f"what turns points into masks: {', '.join(ENGINES)} [{DEFAULT}]"
    )
    parser.add_argument("--checkpoint", help="weights of the segmenter: a folder or hub id")
    settings_help = (
        "a setting of the segmenter, such as refinements=3 (sam) or negatives_of_others=never; may be repeated"
    )
    parser.add_argument("--set", action="append", default=[], type=setting, metavar="KEY=VALUE", help=settings_help)
    propagator_help = (
        f"carry masks to all frames: {', '.join(PROPAGATORS)} [without a name {DEFAULT_PROPAGATOR}; without the option only "
        "annotated frames have masks]"
    )
    parser.add_argument("--propagator", nargs="?", const=DEFAULT_PROPAGATOR, metavar="NAME", help=propagator_help)
    weights_help = "weights of the propagator: a folder or hub id"
    parser.add_argument("--propagator-checkpoint", metavar="ID", help=weights_help)
    parser.add_argument("--seed", type=natural, default=0, help="of the held-out points [0]")


def _simulation_arguments(parser: Any) -> None:
    group = parser.add_argument_group("points from masks", "As Point-VOS draws them (Sec. 3.1); all need --simulate.")
    simulate_help = "most positive points of an object in a frame; without it, masks and no points are written"
    group.add_argument("--simulate", type=positive, metavar="N", help=simulate_help)
    negatives_help = "most negative points, on whatever is neither the object nor void [N of --simulate]"
    group.add_argument("--negatives", type=natural, metavar="N", help=negatives_help)
    frames_help = "this many annotated frames, or all [10]"
    group.add_argument("--point-frames", type=frame_count, metavar="F|all", help=frames_help)
    which_help = "which frames: evenly spaced, or drawn at random (App. A) [even]"
    group.add_argument("--frame-sampling", choices=("even", "random"), help=which_help)
    sampling_help = "random, or farthest-point sampling from the middle of the region [random]"
    group.add_argument("--sampling", choices=("random", "farthest"), help=sampling_help)
    distance_help = (
        "least distance of two points of one label, in pixels at 480 rows: at 240 rows half of it, and so on; "
        "where that many points do not fit, there are fewer [20]"
    )
    group.add_argument("--distance", type=float, metavar="PIXELS", help=distance_help)
    seed_help = "a point depends on it, and on the names of video, object and frame [0]"
    group.add_argument("--point-seed", type=natural, metavar="S", help=seed_help)
    shared_help = (
        "draw the negatives of a frame once, on the background that its objects have in common, and give them to every "
        "object (farthest always does): the published counts of PV-DAVIS and PV-YouTube are 10 a frame"
    )
    group.add_argument("--shared-negatives", action="store_true", help=shared_help)
    group.add_argument("--keep-masks", action="store_true", help="keep the masks beside the points")


def _output_arguments(parser: Any) -> None:
    parser.add_argument("--out", type=Path, required=True, help="dataset folder to write")
    parser.add_argument("--dataset", default="", help="name in the rows [the annotations' own]")
    parser.add_argument("--split", type=split_name, default="", help="split of the rows [the annotations' own]")
    parser.add_argument("--only", action="append", default=[], metavar="VIDEO", help="this video only; may be repeated")
    subset_help = "only what this list names, one object key or video a line (Point-VOS publishes two)"
    parser.add_argument("--subset", type=Path, metavar="FILE", help=subset_help)
    parser.add_argument("--limit", type=positive, help="convert this many videos only")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be done and how long it would take; write nothing"
    )
    threads_help = "threads of each process; the result depends on it in the last digits, so scale by processes [1]"
    parser.add_argument("--threads", type=natural, default=1, help=threads_help)
    parser.add_argument("--link-frames", action="store_true", help="refer to frames by path instead of embedding them")
    parser.add_argument("--strict", action="store_true", help="exit with status 1 when anything was left out")
    parser.add_argument("--json", action="store_true", help="print the totals as JSON")
