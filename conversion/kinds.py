"""The table of conversions: name, options and function of each kind.

A new format is one file in `conversion/formats/` with a function `..._conversion(options, **its_own) -> Conversion`,
and one entry here, from which the command line and `conversion.convert` are built. Nothing heavy is imported, so that
`--help` is fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from vng.errors import UsageError, one_of
from vng.options import Option, checked, frame_count, natural, path, positive, real, setting, split_name
from vng.propagators import DEFAULT as DEFAULT_PROPAGATOR
from vng.propagators import ENGINES as PROPAGATORS
from vng.segmenters import DEFAULT as DEFAULT_SEGMENTER
from vng.segmenters import ENGINES as SEGMENTERS

if TYPE_CHECKING:
    from conversion.build import Conversion
    from conversion.simulated_points import SimulationSettings


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of conversion.

    Attributes:
        name: name on the command line and for `conversion.convert`.
        summary, example: texts for `--help`.
        home: "module:function" that returns the `Conversion`.
        options: options of this kind only, passed to the function as keywords.
        segments: whether a segmenter makes the masks; the function then takes `engines` too.
        simulates: whether points can be simulated from the masks; the function then takes `simulation` too.
        fixed: keywords of the function that are the same for every call.
    """

    name: str
    summary: str
    example: str
    home: str
    options: tuple[Option, ...]
    segments: bool = False
    simulates: bool = False
    fixed: Mapping[str, Any] = ()  # type: ignore[assignment]

    @property
    def all_options(self) -> tuple[Option, ...]:
        """Options of this kind only, then those shared with other kinds."""
        shared = (ENGINE_OPTIONS if self.segments else ()) + (SIMULATION_OPTIONS if self.simulates else ())
        return (*self.options, *shared, *OUTPUT_OPTIONS)


OUTPUT_OPTIONS = (
    Option(name="out", type=path, required=True, help="dataset folder to write"),
    Option(name="name", default="", help="name of the dataset in its rows [from the annotations]"),
    Option(name="split", type=split_name, default="", help="split of the rows [from the annotations]"),
    Option(name="only", repeated=True, default=[], metavar="VIDEO", help="convert only this video; may be repeated"),
    Option(
        name="subset",
        type=path,
        metavar="FILE",
        help="convert only what this list names, one object key or video name per line (Point-VOS publishes two)",
    ),
    Option(name="limit", type=positive, help="convert at most this many videos"),
    Option(
        name="threads",
        type=natural,
        default=1,
        help="threads per process; they change masks in the last digits, so prefer more processes [1]",
    ),
    Option(name="link_frames", flag=True, help="refer to frames by path instead of embedding them"),
)

ENGINE_OPTIONS = (
    Option(
        name="segmenter",
        default=DEFAULT_SEGMENTER,
        help=f"engine that turns points into masks: {', '.join(SEGMENTERS)} [{DEFAULT_SEGMENTER}]",
    ),
    Option(name="segmenter_checkpoint", metavar="ID", help="weights of the segmenter: a folder or hub id"),
    Option(
        name="segmenter_set",
        type=setting,
        repeated=True,
        default=[],
        metavar="KEY=VALUE",
        help="a setting of the segmenter, such as refinements=3 (sam) or negatives_of_others=never; may be repeated",
    ),
    Option(
        name="propagator",
        without=DEFAULT_PROPAGATOR,
        metavar="NAME",
        help=(
            f"carry masks to all frames: {', '.join(PROPAGATORS)} [without a name {DEFAULT_PROPAGATOR}; without the "
            "option, only annotated frames have masks]"
        ),
    ),
    Option(name="propagator_checkpoint", metavar="ID", help="weights of the propagator: a folder or hub id"),
    Option(name="seed", type=natural, default=0, help="random seed of the points held out to measure agreement [0]"),
)


def _agreement(held_out: float) -> tuple[Option, Option]:
    """Options of held-out points, with the default share."""
    text = f"share of points held out to measure agreement [{held_out:g}]"
    return (
        Option(name="held_out", type=real, default=held_out, help=text),
        Option(name="min_agreement", type=real, default=0.0, help="leave out objects with a lower point agreement [0]"),
    )


_POINTS_GROUP = "simulated points, drawn from masks as in Point-VOS (Sec. 3.1); all require --simulate"
SIMULATION_OPTIONS = (
    Option(
        name="simulate",
        type=positive,
        metavar="N",
        group=_POINTS_GROUP,
        help="most positive points per object and frame; without this option, masks are written and no points",
    ),
    Option(
        name="negatives",
        type=natural,
        metavar="N",
        group=_POINTS_GROUP,
        help="most negative points, on pixels that are neither the object nor void [N of --simulate]",
    ),
    Option(
        name="point_frames",
        type=frame_count,
        metavar="F|all",
        group=_POINTS_GROUP,
        help="number of annotated frames that get points, or all [10]",
    ),
    Option(
        name="frame_sampling",
        choices=("even", "random"),
        group=_POINTS_GROUP,
        help="how frames are chosen: evenly spaced, or at random (App. A) [even]",
    ),
    Option(
        name="sampling",
        choices=("random", "farthest", "centre", "human"),
        group=_POINTS_GROUP,
        help="how points are drawn: random, or farthest-point sampling from the middle of the region [random]",
    ),
    Option(
        name="distance",
        type=real,
        metavar="PIXELS",
        group=_POINTS_GROUP,
        help=(
            "least distance of two points with the same label, in pixels at 480 rows: half of it at 240 rows, and so "
            "on; where that many points do not fit, fewer are drawn [20]"
        ),
    ),
    Option(
        name="point_seed",
        type=natural,
        metavar="S",
        group=_POINTS_GROUP,
        help="random seed; points also depend on the names of video, object and frame [0]",
    ),
    Option(
        name="shared_negatives",
        flag=True,
        group=_POINTS_GROUP,
        help=(
            "draw the negatives of a frame once, on the common background of its objects, and give them to every "
            "object (farthest always does): the published counts of PV-DAVIS and PV-YouTube are 10 per frame"
        ),
    ),
    Option(name="keep_masks", flag=True, group=_POINTS_GROUP, help="keep the masks in addition to the points"),
)

_FRAMES = Option(name="frames", type=path, required=True, help="folder of VIDEO/ folders of frames, or VIDEO.mp4 files")
_NARRATIVES = Option(name="narratives", type=path, required=True, help="Video Localized Narratives, JSON lines")
_NULL_MEANS = Option(
    name="null_means",
    choices=("unknown", "absent"),
    default="unknown",
    help="meaning of null in a listed frame: unannotated (null), or the object is absent (empty) [unknown]",
)
_META = Option(name="meta", type=path, required=True, metavar="FILE", help="meta_expressions.json")
_EXPRESSION_FRAMES = Option(
    name="frames", type=path, required=True, metavar="DIR", help="folder of VIDEO/ folders of frames"
)
_WITHOUT = Option(
    name="without",
    type=path,
    metavar="FILE",
    help="leave out the videos of this meta_expressions.json (the file of valid also holds those of test)",
)
_DAVIS_ROOT = Option(name="root", type=path, required=True, help="DAVIS folder, with JPEGImages/ and Annotations/")


def _nouns(default: str) -> Option:
    text = f"noun_segments, auto (spaCy where installed), or a spaCy pipeline by name or path [{default}]"
    return Option(name="nouns", default=default, help=text)


def _image_set(everything: str) -> Option:
    text = f"clips of ImageSets/SET.txt, such as 2017/val; its name is the split [{everything}]"
    return Option(name="image_set", default="", metavar="SET", help=text)


TRIO_OPTIONS = (
    Option(name="meta", type=path, required=True, help="meta_expressions.json"),
    Option(name="extra_masks", type=path, required=True, help="extra_masks.json"),
    Option(name="orig_masks", type=path, required=True, help="masks of the original dataset (YouTube-VIS layout)"),
)


def _vis(name: str, summary: str, file: str, row_frames: str) -> Kind:
    rows = (
        "frames of a row: those that `file_names` lists, or all in the folder of the video, with null masks where none "
        f"is listed [{row_frames}]"
    )
    return Kind(
        name=name,
        summary=summary,
        example=f"vng convert {name} --masks {file} --frames frames --out data/{name}",
        home="conversion.formats.youtube_vis:vis_conversion",
        options=(
            Option(name="masks", type=path, required=True, metavar="FILE", help="JSON in YouTube-VIS layout"),
            Option(
                name="frames",
                type=path,
                help="folder that `file_names` are relative to; without it, the rows have no images",
            ),
            Option(name="row_frames", choices=("listed", "all"), default="", help=rows),
            _NULL_MEANS,
        ),
        fixed={"kind": name},
        simulates=True,
    )


def _tool(name: str, title: str, example: str, help: str, module: str, metavar: str = "FILE") -> Kind:
    """A kind of annotations that people made with a tool; its reader makes own clips of them."""
    where = "each video's frames beside its files" if metavar == "DIR" else "the folder of --annotations"
    return Kind(
        name=name,
        summary=f"points, boxes and masks that people made elsewhere: {help}",
        example=f"vng convert {name} --annotations {example} --frames frames --propagator --out data/mine",
        home="conversion.formats.own_clips:imported_conversion",
        options=(
            Option(name="annotations", type=path, required=True, metavar=metavar, help=help),
            Option(name="frames", type=path, help=f"folder that the videos lie in [{where}]"),
            *_agreement(0.0),
        ),
        segments=True,
        fixed={
            "kind": name,
            "title": title,
            "reader": f"conversion.formats.{module}:read_{module}",
            "needs_sizes": module == "cvat",
        },
    )


_ALL = (
    Kind(
        name="point-vos",
        summary="Point-VOS points: pseudo-masks and nouns with VidLN narratives, or points alone without",
        example=(
            "vng convert point-vos --points oops_train.json --narratives oops_train.jsonl --frames frames/oops_train "
            "--out data/oops-vng\n"
            "  vng convert point-vos --points oops_val.json --masks masks --frames frames/oops_val --out data/pv-oops-val"
        ),
        home="conversion.pointed:point_vos_conversion",
        options=(
            Option(name="points", type=path, required=True, help="Point-VOS points: Oops JSON or Kinetics JSON lines"),
            Option(
                name="narratives",
                type=path,
                help="VidLN narratives; without them, all objects with their points and no pseudo-masks",
            ),
            _FRAMES,
            Option(
                name="questions",
                type=path,
                help="VidLN's location questions of Oops: nouns are linked by question_hash, exactly, not by name",
            ),
            Option(
                name="keep_unlinked",
                flag=True,
                help="keep objects that no noun is linked to, as points and masks alone",
            ),
            Option(
                name="masks",
                type=path,
                help="true masks of evaluation frames: a folder OBJECT/FRAME.png, or JSON {object: {frame: RLE}}",
            ),
            _nouns("auto"),
            *_agreement(0.2),
            Option(
                name="link",
                choices=("name", "name+trace"),
                default="name+trace",
                help="how a record is matched to its noun [name+trace]",
            ),
        ),
        segments=True,
    ),
    Kind(
        name="points",
        summary="a dataset whose objects have points, such as PV-DAVIS: pseudo-masks from the points",
        example="vng convert points --source data/pv-davis --segmenter embedded --out data/pv-davis-pseudo",
        home="conversion.narrated:points_conversion",
        options=(Option(name="source", type=path, required=True, help="VNG dataset with points"), *_agreement(0.2)),
        segments=True,
    ),
    Kind(
        name="own",
        summary="your own clips: points, boxes or masks of some frames, and a narrative with marked nouns",
        example="vng convert own --clips clips.jsonl --propagator --out data/mine",
        home="conversion.formats.own_clips:own_conversion",
        options=(
            Option(name="clips", type=path, required=True, help="own clips, one JSON line a video (docs/own-clips.md)"),
            Option(name="frames", type=path, help="folder that the videos lie in [the folder of --clips]"),
            *_agreement(0.0),  # of a few clicks, none
        ),
        segments=True,
    ),
    _tool(
        "cvat", "CVAT", "annotations.xml", "CVAT's XML 1.1, for video or for images, or the ZIP that it is in", "cvat"
    ),
    _tool("label-studio", "Label Studio", "export.json", "Label Studio's JSON export", "label_studio"),
    _tool("coco", "COCO", "instances.json", "COCO instances on images, a folder of images a video", "coco_images"),
    _tool(
        "labelme", "labelme", "frames", "folder of labelme's files, VIDEO/FRAME.json or FRAME.json", "labelme", "DIR"
    ),
    Kind(
        name="vidln",
        summary="VidLN narratives alone: pseudo-masks from mouse traces",
        example="vng convert vidln --narratives OVIS_train.jsonl --frames frames/OVIS_train --out data/ovis-traces",
        home="conversion.narrated:vidln_conversion",
        options=(_NARRATIVES, _FRAMES, _nouns("noun_segments")),
        segments=True,
    ),
    Kind(
        name="vng",
        summary="the official VNG trio (OVIS-VNG, UVO-VNG): true masks",
        example=(
            "vng convert vng --meta meta_expressions.json --extra-masks extra_masks.json --orig-masks "
            "annotations_train.json --frames frames --out data/ovis-vng"
        ),
        home="conversion.formats.official_vng:vng_conversion",
        options=(
            *TRIO_OPTIONS,
            Option(name="frames", type=path, help="folder of frames; without it, the rows have no images"),
        ),
    ),
    Kind(
        name="davis",
        summary="DAVIS folders: true masks, or points simulated from them, without narratives",
        example="vng convert davis --root DAVIS --out data/davis",
        home="conversion.formats.davis:davis_conversion",
        options=(
            _DAVIS_ROOT,
            _image_set("all clips"),
            Option(name="merge_objects", flag=True, help="merge all objects into one, as in DAVIS 2016"),
        ),
        simulates=True,
    ),
    Kind(
        name="youtube-vos",
        summary=(
            "YouTube-VOS folders: true masks on annotated frames, or points simulated from them, without narratives"
        ),
        example="vng convert youtube-vos --root YouTube/train --out data/pv-yt --simulate 10",
        home="conversion.formats.youtube_vos:youtube_vos_conversion",
        options=(
            Option(
                name="root",
                type=path,
                required=True,
                help="folder of a split, with meta.json, JPEGImages/ and Annotations/",
            ),
            Option(
                name="frames",
                type=path,
                help="folder of VIDEO/ folders, such as train_all_frames/JPEGImages [JPEGImages/ of the root]",
            ),
            Option(
                name="annotated",
                choices=("all", "first"),
                help=(
                    "whether a label image annotates all objects, or only those that first appear in it [by the "
                    "folder's name: first for valid and test]"
                ),
            ),
        ),
        simulates=True,
    ),
    _vis(
        "ovis",
        "masks of OVIS, without narratives (for OVIS-VNG, use `vng convert vng`)",
        "annotations_train.json",
        "listed",
    ),
    _vis(
        "uvo",
        "masks of UVO, without narratives (for UVO-VNG, use `vng convert vng`)",
        "UVO_sparse_train_video.json",
        "all",
    ),
    _vis("youtube-vis", "any masks in YouTube-VIS layout, without narratives", "instances.json", "listed"),
    Kind(
        name="ref-youtube-vos",
        summary="Ref-YouTube-VOS: one narrative per expression, true masks on annotated frames",
        example=(
            "vng convert ref-youtube-vos --meta meta_expressions/train/meta_expressions.json --annotations "
            "train/Annotations --frames train/JPEGImages --out data/ref-youtube-vos"
        ),
        home="conversion.formats.referring:ref_youtube_vos_conversion",
        options=(
            _META,
            Option(
                name="annotations",
                type=path,
                metavar="DIR",
                help="folder of VIDEO/FRAME.png of object ids; without it, as for valid and test, all masks are null",
            ),
            Option(name="categories", type=path, metavar="FILE", help="meta.json of the split: names of objects"),
            _EXPRESSION_FRAMES,
            _WITHOUT,
        ),
    ),
    Kind(
        name="mevis",
        summary="MeViS: one narrative per expression; several objects of an expression become one, their masks joined",
        example=(
            "vng convert mevis --meta train/meta_expressions.json --masks train/mask_dict.json --frames "
            "train/JPEGImages --out data/mevis"
        ),
        home="conversion.formats.referring:mevis_conversion",
        options=(
            _META,
            Option(
                name="masks",
                type=path,
                metavar="FILE",
                help="mask_dict.json; without it, as for valid, all masks are null",
            ),
            _NULL_MEANS,
            _EXPRESSION_FRAMES,
            _WITHOUT,
        ),
    ),
    Kind(
        name="ref-davis",
        summary="Ref-DAVIS17: one narrative per sentence, true masks of DAVIS",
        example=(
            "vng convert ref-davis --root DAVIS --image-set 2017/val --expressions Davis17_annot1.txt "
            "Davis17_annot1_full_video.txt Davis17_annot2.txt Davis17_annot2_full_video.txt --out data/ref-davis"
        ),
        home="conversion.formats.ref_davis:ref_davis_conversion",
        options=(
            _DAVIS_ROOT,
            Option(
                name="expressions",
                type=path,
                required=True,
                many=True,
                metavar="FILE",
                help="the published text files, or one JSON file (docs/formats.md)",
            ),
            _image_set("all clips with sentences"),
            Option(
                name="annotations",
                default="Annotations",
                metavar="NAME",
                help="folder of label images below the root, such as Annotations_unsupervised [Annotations]",
            ),
        ),
    ),
    Kind(
        name="vicas",
        summary="ViCaS: masks of videos of Oops, and captions whose phrases mean them",
        example=(
            "vng convert vicas --annotations ViCaS/annotations/v1.0 --split-lists splits/v1.0/val.json --frames "
            "ViCaS/video_frames --out data/vicas-val"
        ),
        home="conversion.formats.vicas:vicas_conversion",
        options=(
            Option(name="annotations", type=path, required=True, metavar="DIR", help="folder of <id>.json"),
            Option(
                name="frames",
                type=path,
                metavar="DIR",
                help="folder of <id>/ folders of frames, 30 a second; without it, the rows have no images",
            ),
            Option(
                name="split_lists",
                type=path,
                many=True,
                default=[],
                metavar="FILE",
                help="train.json, val.json, test.json: only their videos, with the list's name as split [all, as train]",
            ),
            Option(
                name="text",
                choices=("caption", "original", "chinese", "referrals"),
                default="caption",
                help=(
                    "caption (English, polished by GPT), the annotators' original, its translation into Chinese, or "
                    "the prompts of LG-VIS, each a narrative [caption]"
                ),
            ),
            Option(
                name="spans",
                default="phrase",
                help="span of a noun: phrase, head (by a rule for English), or a spaCy pipeline by name or path [phrase]",
            ),
            Option(
                name="plurals",
                choices=("joined", "each", "none"),
                default="joined",
                help=(
                    "phrases of several tracks: one object with the union of their masks, a noun for each track, or "
                    "left out [joined]"
                ),
            ),
            Option(
                name="masks",
                choices=("human", "automatic", "all"),
                default="human",
                help="masks drawn by people (1 a second), made by SAM 2 (30 a second), or both [human]",
            ),
            Option(
                name="row_frames",
                choices=("listed", "all"),
                default="listed",
                help="frames of a row: those with such masks, or all of --frames, with null masks elsewhere [listed]",
            ),
        ),
    ),
    Kind(
        name="coco-png",
        summary="COCO Panoptic Narrative Grounding: images as videos of one frame, true masks of their singular things",
        example=(
            "vng convert coco-png --narratives png_coco_train2017.json --panoptic panoptic_train2017.json "
            "--panoptic-masks panoptic_train2017 --images train2017 --out data/coco-png"
        ),
        home="conversion.formats.coco_png:coco_png_conversion",
        options=(
            Option(name="narratives", type=path, required=True, metavar="FILE", help="png_coco_{train,val}2017.json"),
            Option(name="panoptic", type=path, required=True, metavar="FILE", help="panoptic_{train,val}2017.json"),
            Option(
                name="panoptic_masks",
                type=path,
                required=True,
                metavar="DIR",
                help="folder of COCO's panoptic PNGs",
            ),
            Option(name="images", type=path, required=True, metavar="DIR", help="folder of COCO's images"),
            Option(
                name="keep_plurals",
                flag=True,
                help="keep nouns of several segments (as one object) and of crowds; VNG narratives have none",
            ),
            Option(name="keep_stuff", flag=True, help="keep nouns of stuff, such as sky or grass; VNG has none"),
        ),
    ),
    Kind(
        name="point-benchmark",
        summary=(
            "a VNG dataset with points, in the form of PV-Oops (benchmark): points on a reference frame, few true masks"
        ),
        example="vng convert point-benchmark --source data/oops-val --narratives oops_val.jsonl --out data/pv-oops",
        home="conversion.point_benchmark:benchmark_conversion",
        options=(
            Option(name="source", type=path, required=True, help="VNG dataset whose objects have points"),
            Option(
                name="narratives",
                type=path,
                help=(
                    "VidLN narratives that the dataset was converted from: drop objects whose mouse trace does not "
                    "come after the reference frame, and evaluate on the frame of the trace"
                ),
            ),
            Option(
                name="trace_frames", type=path, help="instead of --narratives: a JSON object {object id: frame name}"
            ),
            Option(
                name="questions", type=path, help="instead of --narratives: VidLN's location questions, with --points"
            ),
            Option(name="points", type=path, help="the Point-VOS file of the dataset, which has the questions' hashes"),
        ),
    ),
)

KINDS = {kind.name: kind for kind in _ALL}


def make_conversion(kind: str, out: Any, progress: bool = True, **arguments: Any) -> tuple[Conversion, Any]:
    """Returns the conversion of a kind, its options checked, and the folder to write; see `conversion.convert`.

    Raises:
        UsageError: an unknown kind, engine or option, a value out of range, options that exclude each other.
        DataError: an input that does not exist, weights that do not load.
    """
    from conversion.options import BuildOptions, load_engines

    entry = KINDS[one_of(kind, KINDS, "kind of annotations")]
    values = checked(entry.all_options, {"out": out, **arguments}, f"convert {kind}")
    own = {option.name: values[option.name] for option in entry.options}
    build = {option.name: values[option.name] for option in OUTPUT_OPTIONS if option.name != "out"}
    own.update(entry.fixed or {})
    if entry.segments:
        build |= _engine_values(values, own)
    options = BuildOptions.of(progress=progress, **build)
    if entry.simulates:
        own["simulation"] = _simulation(values)
    if entry.segments:
        own["engines"] = load_engines(options)
    return _function(entry)(options, **own), values["out"]


def _function(kind: Kind) -> Any:
    module, _, name = kind.home.partition(":")
    return getattr(import_module(module), name)


def _engine_values(values: Mapping[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Options of segmenter, propagator and points for `BuildOptions.of`; removed from the kind's `own` options."""
    names = ("segmenter", "segmenter_checkpoint", "segmenter_set", "propagator", "propagator_checkpoint", "seed")
    selected = {name: values[name] for name in names}
    for name in ("held_out", "min_agreement", "nouns", "link"):
        if name in own:
            selected[name] = own.pop(name)
    return selected


# Options of simulated points -> fields of SimulationSettings.
_POINT_FIELDS = {
    "negatives": "negatives",
    "point_frames": "frames",
    "sampling": "sampling",
    "frame_sampling": "frame_sampling",
    "distance": "distance",
    "point_seed": "seed",
}


def _simulation(values: Mapping[str, Any]) -> SimulationSettings | None:
    from conversion.simulated_points import SimulationSettings

    if values["simulate"] is None:
        for name in ("keep_masks", "shared_negatives", *_POINT_FIELDS):
            if values[name] is not None and values[name] is not False:
                raise UsageError(f"--{name.replace('_', '-')} requires --simulate")
        return None
    fields = {field: values[name] for name, field in _POINT_FIELDS.items() if values[name] is not None}
    if fields.get("frames") == "all":
        fields["frames"] = None
    return SimulationSettings(
        positives=values["simulate"],
        keep_masks=values["keep_masks"],
        shared_negatives=values["shared_negatives"],
        **({"negatives": values["simulate"]} | fields),
    )
