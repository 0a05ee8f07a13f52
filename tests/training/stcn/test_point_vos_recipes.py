"""The rows of Point-VOS as recipes: README and headers say the same, every command parses, every row loads and trains."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers import Cli
from tests.recipe_tables import RecipeFolder
from tests.training.stcn.test_clips import moving_boxes
from vng.cli.app import build_parser
from vng.compact_results import read_compact
from vng.dataset import check_datasets
from vng.dataset_writer import write_dataset
from vng.errors import DataErrors, VngError
from vng.models.stcn.modeling_stcn import Stcn
from vng.points import PointPrompts
from vng.propagators import FramePrompts
from vng.propagators import load as load_propagator
from vng.training.loop import learning_rate
from vng.training.stcn.recipe import StcnRecipe
from vng.training.tasks import load_recipe

FOLDER = RecipeFolder("point-vos", run="points-ft")
README = FOLDER.readme
SUPERVISION = {
    "static": "masks",
    "masks": "masks",
    "points": "points",
    "pseudo-masks": "pseudo_masks",
    "hybrid": "hybrid",
}
DROPS = {38_000: 30_000, 60_000: 50_000, 190_000: 150_000, 150_000: 125_000, 300_000: 150_000}  # App. D; STCN
COLUMNS = {"Table 3": 5, "Table 4": 5, "Table 5": 5, "Table 6": 5, "Table 7": 5, "Table 8": 5, "Table 9": 1}
FIGURES = {"Figure 2": 9, "Figure 3": 9, "Figure 6": 6, "Figure 7": 9}
ROWS, RUNS = FOLDER.rows, FOLDER.runs


def recipe(run: str) -> StcnRecipe:
    config, overrides = RUNS[run]
    loaded = load_recipe(Path("point-vos") / config, [f"out=out/point-vos/{run}", *overrides])
    assert isinstance(loaded, StcnRecipe)
    return loaded


def test_every_table_and_figure_is_there() -> None:
    wanted = {"Table 3": 7, "Table 4": 7, "Table 5": 3, "Table 6": 9, "Table 7": 9, "Table 8": 5, "Table 9": 5}
    wanted |= dict.fromkeys(FIGURES, 5)
    assert {where: sum(row.where == where for row in ROWS) for where in wanted} == wanted
    assert len(ROWS) == sum(wanted.values())
    starts = {str(recipe(run).model.init).removeprefix("out/point-vos/") for run in RUNS}
    assert {row.run for row in ROWS} | starts - {"None"} == set(RUNS)


def test_the_papers_numbers_have_the_papers_columns() -> None:
    for row in ROWS:
        numbers = re.findall(r"\d+\.\d+", row.paper)
        if row.where in COLUMNS:
            assert len(numbers) == COLUMNS[row.where], row
        else:
            assert row.paper.startswith(("not in the text", "best")) or len(numbers) == FIGURES[row.where], row


def test_the_papers_means_are_those_of_its_columns() -> None:
    """Of points in tables 3, 5, 6, 8, of G in 4 and 7: a mistyped digit would show."""
    checked = 0
    for row in ROWS:
        if COLUMNS.get(row.where) == 5:
            mean, *rest = map(float, row.paper.split())
            assert mean == pytest.approx(sum(rest) / 4, abs=0.101), row
            checked += 1
    assert checked == 40


@pytest.mark.parametrize("run", RUNS)
def test_every_run_loads(run: str) -> None:
    loaded = recipe(run)
    assert loaded.supervision == SUPERVISION[RUNS[run][0]] and loaded.out == Path("out/point-vos") / run
    assert loaded.data.stills == (run == "static")
    steps = loaded.optimizer.steps
    assert [learning_rate(step, loaded.optimizer) for step in (0, DROPS[steps] - 1, DROPS[steps])] == [1, 1, 0.1]
    rates = loaded.optimizer.lr, loaded.optimizer.weight_decay, loaded.optimizer.batch_size
    assert rates == (1e-5, 1e-7, 8 if run == "static" else 4)


def test_every_run_starts_from_a_run() -> None:
    for run in set(RUNS) - {"static"}:
        start = recipe(run).model.init
        assert start is not None and start.removeprefix("out/point-vos/") in RUNS, run
        assert ("-ft" in run and run.count("-") > 1 and run != "pseudo-sam-ft") == (start != "out/point-vos/static"), (
            run
        )
    assert recipe("static").model.init is None


def test_repeats_are_the_papers() -> None:
    for run in RUNS:
        for source in recipe(run).data.sources:
            often = ("davis" in str(source.path)) or (len(recipe(run).data.sources) > 1 and "oops" in str(source.path))
            often = often or str(source.path) in ("data/static-big", "data/static-hrsod")
            assert source.weight == (5 if often else 1), (run, source)
            assert source.frame_step == (5 if "yt" in source.path.name else 1)


@pytest.mark.parametrize("config", SUPERVISION)
def test_headers_say_what_the_readme_says(config: str) -> None:
    FOLDER.check_header(config)


def test_every_command_parses() -> None:
    texts = [
        FOLDER.blocks,
        *(re.sub(r"^ *(Data:)?", "", line) for config in SUPERVISION for line in FOLDER.header(config)),
    ]
    words = [found for text in texts for found in FOLDER.commands(text)]
    kinds = [tuple(w[1:3]) if w[1] in ("convert", "evaluate") else (w[1],) for w in words]
    assert {("convert", "davis"), ("convert", "points"), ("evaluate", "vos"), ("propagate",)} <= set(kinds)
    parser = build_parser()
    for found in words:
        parser.parse_args(found[1:])  # exits where it does not parse
    assert len(words) > 80


def test_every_dataset_has_its_command() -> None:
    made = {words[words.index("--out") + 1] for words in FOLDER.commands(FOLDER.blocks) if words[1] == "convert"}
    wanted = {str(source.path) for run in RUNS for source in recipe(run).data.sources}
    assert len(wanted) > 40 and wanted <= made, wanted - made
    used = {
        words[words.index("--dataset") + 1]
        for words in FOLDER.commands(FOLDER.blocks)
        if words[1] in ("propagate", "evaluate")
    }
    assert used and used <= made
    assert all(f"`{row.test}`" in README.split("## Tests")[1] for row in ROWS)


class TestMissingData:
    def test_all_are_named_before_anything_else(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        boxes = write_boxes(tmp_path / "there", "davis")
        sources = (
            f"data.sources=[{{path: {tmp_path}/a}}, {{path: {boxes}}}, {{path: {tmp_path}/b}}, {{path: {tmp_path}/a}}]"
        )
        nowhere = f"model.init={tmp_path}/no-model"
        ended = cli("train", "point-vos/points", f"out={tmp_path}/run", sources, nowhere)
        assert ended.status == 1 and ended.err.count("no such dataset folder") == 2
        assert f"{tmp_path}/a" in ended.err and f"{tmp_path}/b" in ended.err and "vng convert" in ended.err
        assert "no-model" not in ended.err and not (tmp_path / "run" / "training.json").exists()

    def test_as_shipped(self, tmp_path: Path, cli: Callable[..., Cli], monkeypatch: pytest.MonkeyPatch) -> None:
        """`data/pv-davis` could be a hub id; with a folder `data` here it is none, and nobody asks the hub."""
        monkeypatch.chdir(tmp_path)
        ended = cli("train", "point-vos/points")
        assert ended.status == 1
        assert "data/pv-davis: no such dataset folder, and none on the hub" in ended.err
        assert "data/pv-yt: no such dataset folder, and the hub is out of reach" in ended.err
        (tmp_path / "data").mkdir()
        ended = cli("train", "point-vos/static")
        assert ended.status == 1 and "the hub" not in ended.err
        assert all(
            f"data/static-{name}: no such dataset folder; check" in ended.err for name in ("fss", "big", "hrsod")
        )

    def test_one_that_is_not_finished(self, tmp_path: Path) -> None:
        boxes = write_boxes(tmp_path / "boxes", "davis")
        check_datasets([boxes])
        (tmp_path / "begun" / ".partial").mkdir(parents=True)
        with pytest.raises(DataErrors, match="begun: its conversion has not finished") as error:
            check_datasets([tmp_path / "begun", boxes, tmp_path / "no" / "where"])
        assert len(error.value.problems) == 2


def write_boxes(folder: Path, source: str) -> Path:
    """A made-up video; its masks come from `source`."""
    video = moving_boxes()
    write_dataset(
        folder, [replace(video, objects=tuple(replace(item, source=source) for item in video.objects))], "test"
    )
    return folder


RESNET = {"model_type": "resnet", "embedding_size": 16, "layer_type": "basic", "depths": [1, 1, 1]}
KEY = {**RESNET, "hidden_sizes": [16, 20, 24], "out_features": ["stage1", "stage2", "stage3"]}


# ^ no fewer than 16 channels: torch 2.13 on CPU writes past its arrays behind a strided 1x1 convolution of fewer
VALUE = {**RESNET, "num_channels": 5, "hidden_sizes": [16, 18, 22], "out_features": ["stage3"]}
SIZES = {"key_dim": 7, "value_dim": 14, "thin_dim": 9, "decoder_dims": [10, 8, 6], "norm_batches": 1000}
TINY = [
    "data.size=[32, 48]",
    "data.crop=[0.8, 1.0]",
    "data.distance=2",
    f"model.key_backbone={json.dumps(KEY)}",
    f"model.value_backbone={json.dumps(VALUE)}",
    f"model.sizes={json.dumps(SIZES)}",
    "optimizer.steps=2",
    "optimizer.batch_size=2",
    "precision=no",
    "workers=0",
    "log_every=1",
    "save_every=1",
]


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `static`, two steps, from which the others start."""
    from vng.cli import main

    folder = tmp_path_factory.mktemp("static")
    boxes = write_boxes(folder / "boxes", "davis")
    said = ["train", "point-vos/static", *TINY, f"data.sources=[{{path: {boxes}}}]", f"out={folder / 'run'}", "--quiet"]
    assert main(said) == 0
    return folder / "run"


@pytest.mark.parametrize("config", [name for name in SUPERVISION if name != "static"])
def test_every_supervision_goes_on_from_static(
    tmp_path: Path, static: Path, cli: Callable[..., Cli], config: str
) -> None:
    boxes = write_boxes(tmp_path / "boxes", "points/dynamite" if config == "pseudo-masks" else "davis")
    sources = f"data.sources=[{{path: {boxes}, weight: 5}}, {{path: {boxes}, frame_step: 5}}]"
    ended = cli(
        "train", f"point-vos/{config}", *TINY, sources, f"model.init={static}", f"out={tmp_path / 'run'}", "--quiet"
    )
    assert ended.status == 0, ended.err
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    trained, idle = ("points", "masks") if config == "points" else ("masks", "points")
    assert [record["step"] for record in log] == [1, 2]
    assert all(record[trained] > 0 and record[idle] == 0 for record in log)  # pseudo-masks: without their points
    assert Stcn.from_pretrained(tmp_path / "run").config.takes_points == (config in ("points", "hybrid"))


def test_verified_points_count_unless_told_not_to(tmp_path: Path, static: Path, cli: Callable[..., Cli]) -> None:
    said = [f"data.sources=[{{path: {write_boxes(tmp_path / 'boxes', 'points/sam')}}}]", f"model.init={static}"]
    said += [f"out={tmp_path / 'run'}", "data.verified_points=true", "--quiet"]
    assert cli("train", "point-vos/pseudo-masks", *TINY, *said).status == 0
    log = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert all(json.loads(line)["points"] > 0 for line in log)


def test_a_segmenter_with_weights_begins_a_model_of_masks(static: Path, tmp_path: Path) -> None:
    """`--set segmenter=dynamite --set segmenter_checkpoint=...`: the checkpoint reaches the segmenter."""
    video = moving_boxes()
    prompts = {0: FramePrompts(points=(PointPrompts([(12, 12)], []),))}
    for settings, words in (
        ({"segmenter": "dynamite"}, "requires --checkpoint"),
        ({"segmenter": "dynamite", "segmenter_checkpoint": str(tmp_path / "nowhere.pth")}, "nowhere.pth"),
    ):
        engine = load_propagator("stcn", checkpoint=str(static), settings=settings)
        with pytest.raises(VngError, match=words):
            list(engine(video.opened_frames(), prompts))


@pytest.mark.parametrize(("test", "scored"), [("davis-points", "mean"), ("davis-masks", "J&F")])
def test_the_tests_of_a_row_run(tmp_path: Path, static: Path, cli: Callable[..., Cli], test: str, scored: str) -> None:
    """Propagation and scores, as the README has them, of a tiny model on a made-up video."""
    video = moving_boxes(points=False)
    objects = tuple(replace(item, segmentations=(video.objects[0].segmentations)) for item in video.objects[:1])
    write_dataset(tmp_path / "val", [replace(video, objects=objects)], "test")
    sources, run = f"data.sources=[{{path: {tmp_path / 'val'}}}]", tmp_path / "points-ft"
    assert cli("train", "point-vos/hybrid", *TINY, sources, f"model.init={static}", f"out={run}", "--quiet").status == 0
    block = README.split(f"`{test}`: ", 1)[1].split("```bash\n", 1)[1].split("```", 1)[0]
    for words in FOLDER.commands(block.replace("data/davis-val", str(tmp_path / "val")).replace("--device cuda", "")):
        here = [
            word.replace("out/point-vos", str(tmp_path)).replace("results/", f"{tmp_path}/results/") for word in words
        ]
        ended = cli(*here[1:], "--quiet")
        assert ended.status == 0, ended.err
    assert scored in ended.out and "nan" not in ended.out
    pattern = "points-*/seed-*/boxes.parquet" if test == "davis-points" else "boxes.parquet"
    files = list((tmp_path / "results" / "points-ft" / test).glob(pattern))
    assert len(files) == (4 * 5 if test == "davis-points" else 1)
    assert all(read_compact(file).frame_names == video.frame_names for file in files)
