"""Table 10 of Point-VOS: its recipes (README and headers agree, commands parse, every run loads and trains) and its toy."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import table_10
from conversion.synthetic.scene import PRESETS
from tests.helpers import Cli, make_video
from tests.recipe_tables import RecipeFolder
from vng.cli.app import build_parser
from vng.config_files import load_tree
from vng.dataset_writer import write_dataset
from vng.training.grounding.recipe import GroundingRecipe
from vng.training.loop import learning_rate
from vng.training.tasks import load_recipe

FOLDER = RecipeFolder("table-10", run="kinetics-uvo")
ROWS, RUNS = FOLDER.rows, FOLDER.runs
CONFIGS = ("static", "pseudo-masks", "uvo", "ovis")
DROPS = {"static": (0.667, 0.8333), "pseudo-masks": (0.5, 0.8333), "uvo": (0.5, 0.8333), "ovis": (0.5, 0.8333)}
PAPER = """28.5 32.4 39.6
24.5 31.4 32.9
33.9 35.1 51.8
32.0 32.7 46.4
31.8 32.6 48.0
32.0 35.0 52.8
32.9 34.4 52.5"""  # columns: OVIS-VNG without and with fine-tuning, UVO-VNG


def recipe(run: str) -> GroundingRecipe:
    config, overrides = RUNS[run]
    loaded = load_recipe(Path("table-10") / config, [f"out=out/table-10/{run}", *overrides])
    assert isinstance(loaded, GroundingRecipe)
    return loaded


def test_the_papers_numbers() -> None:
    pre_trainings = dict.fromkeys(row.row.removesuffix(", OVIS-FT") for row in ROWS)
    found = [
        " ".join(
            next(r.paper for r in ROWS if (r.row, r.test) == wanted)
            for wanted in ((row, "ovis"), (f"{row}, OVIS-FT", "ovis"), (row, "uvo"))
        )
        for row in pre_trainings
    ]
    assert "\n".join(found) == PAPER and len(ROWS) == 21
    toy = {" ".join(map(str, row.paper)) for row in table_10.TABLE}
    assert toy == set(np.array(PAPER.splitlines())[[0, 2, 3, 5]])


@pytest.mark.parametrize("run", RUNS)
def test_every_run_loads_and_starts_from_a_run(run: str) -> None:
    loaded, config = recipe(run), RUNS[run][0]
    steps = loaded.optimizer.steps
    rates = [round(learning_rate(int(steps * share) + 4, loaded.optimizer), 4) for share in (0, *DROPS[config])]
    assert rates == [1, 0.1, 0.01] and (loaded.optimizer.lr_text == 0) == (config != "static")
    assert (
        loaded.data.distortion == (config != "static")
        and loaded.data.crop == 0.5
        and loaded.model.sizes["freeze_batch_norm"]
    )
    assert not loaded.model.sizes["freeze_text_encoder"] or config != "static"
    start = {"-ovis": run.removesuffix("-ovis"), "-uvo": run.removesuffix("-uvo")}
    wanted = next((before for ending, before in start.items() if run.endswith(ending)), "static")
    assert loaded.model.init == (None if run == "static" else f"out/table-10/{wanted}") and wanted in RUNS
    assert run == "static" or "-" in run or run in str(loaded.data.sources[0].path)


@pytest.mark.parametrize("config", CONFIGS)
def test_headers_say_what_the_readme_says(config: str) -> None:
    FOLDER.check_header(config)


def test_every_command_parses_and_every_dataset_has_one() -> None:
    texts = [
        FOLDER.blocks,
        *(re.sub(r"^ *(Data:)?", "", line) for config in CONFIGS for line in FOLDER.header(config)),
    ]
    words = [found for text in texts for found in FOLDER.commands(text) if found[2] != "coco-png"]
    parser = build_parser()
    for found in words:
        parser.parse_args(found[1:])  # exits where it does not parse
    made = {found[found.index("--out") + 1] for found in words if found[1] == "convert"} | {"data/coco-png"}
    used = {str(source.path) for run in RUNS for source in recipe(run).data.sources}
    used |= {found[found.index("--dataset") + 1] for found in words if found[1] in ("predict", "evaluate")}
    assert used == made and len(made) == 8


def test_missing_data_is_named_before_anything_else(tmp_path: Path, cli: Callable[..., Cli]) -> None:
    sources = f"[{{path: {tmp_path}/a}}, {{path: {tmp_path}/b, weight: 2}}]"
    said = ["table-10/ovis", "data.path=null", f"data.sources={sources}", f"out={tmp_path / 'run'}"]
    ended = cli("train", *said, f"model.init={tmp_path}/no-model")
    assert ended.status == 1 and ended.err.count("no such dataset folder") == 2 and "no-model" not in ended.err
    assert not (tmp_path / "run" / "training.json").exists()


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run of `static`, two steps on one-frame videos, from which the others start."""
    from vng.cli import main

    folder = tmp_path_factory.mktemp("static")
    video = make_video("still")
    objects = tuple(
        replace(item, segmentations=item.segmentations[:1], points=item.points[[]]) for item in video.objects
    )
    still = replace(video, objects=objects, frame_names=video.frame_names[:1], frames=video.opened_frames().subset([0]))
    write_dataset(folder / "stills", [still], "test")
    model = load_tree(Path("tiny"))["model"]
    model["sizes"].pop("freeze_batch_norm")
    said = [f"model.{name}={json.dumps(value)}" for name, value in model.items() if name != "sizes"]
    said += [f"model.sizes.{name}={value}" for name, value in model["sizes"].items()]
    assert main(["train", "table-10/static", *said, *tiny(folder / "stills", folder / "run")]) == 0
    return folder / "run"


def tiny(dataset: Path, out: Path) -> list[str]:
    """Overrides: two steps on frames of a few pixels, the augmentation with sizes to match."""
    data = {"path": dataset, "short_sides": "[32, 36]", "crop_short_sides": "[40]", "crop_sides": "[24, 40]"}
    rest = {"optimizer.steps": 2, "optimizer.batch_size": 2, "workers": 0, "log_every": 1, "save_every": 1, "out": out}
    return [*(f"data.{k}={v}" for k, v in data.items()), *(f"{k}={v}" for k, v in rest.items()), "--quiet"]


@pytest.mark.parametrize("config", CONFIGS[1:])
def test_every_step_goes_on_from_static(
    tmp_path: Path, static: Path, dataset: Path, cli: Callable[..., Cli], config: str
) -> None:
    ended = cli("train", f"table-10/{config}", *tiny(dataset, tmp_path / "run"), f"model.init={static}")
    assert ended.status == 0, ended.err
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in log] == [1, 2] and all(record["mask"] > 0 for record in log)


class TestToy:
    def test_every_row_and_the_table(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Two rows of it, one step a stage, on one video a set; a second call does nothing twice."""
        sets = {name: replace(made, videos=1) for name, made in table_10.SETS.items()}
        monkeypatch.setattr(table_10, "SETS", sets)
        monkeypatch.setattr(table_10, "TABLE", table_10.TABLE[:2])
        small = replace(PRESETS["easy"], height=32, width=64, frames=3, leave=0.0, patterned=0.0)
        for name in ("easy", "varied", "crowded", "stills"):
            monkeypatch.setitem(PRESETS, name, replace(small, frames=1 if name == "stills" else 3))
        tiny_model = ["optimizer.batch_size=1", "data.min_agreement=0", "log_every=1", "save_every=1"]
        monkeypatch.setattr(table_10, "MORE", tuple(tiny_model))
        said = ["table_10", "--out", str(tmp_path), "--seeds", "4", "--steps", "1", "1", "1", "1"]
        monkeypatch.setattr("sys.argv", [*said, "--json", str(tmp_path / "table.json")])
        table_10.main()
        first = capsys.readouterr().out
        assert all(f"\n{row.title}" in first for row in table_10.TABLE) and "(51.8)" in first and "gain of PV" in first
        found = json.loads((tmp_path / "table.json").read_text())
        assert [np.shape(values) for values in found.values()] == [(1, 3)] * 2
        assert len(list((tmp_path / "runs" / "seed-4").glob("*/config.json"))) == 4
        monkeypatch.setattr(table_10, "run", None)
        table_10.main()
        assert capsys.readouterr().out.splitlines()[-5:] == first.splitlines()[-5:]

    def test_what_is_printed(self, capsys: pytest.CaptureFixture[str]) -> None:
        rows = {row.title: np.array([[10.0, 20, 30], [12, 22, 36]]) + 5 * i for i, row in enumerate(table_10.TABLE)}
        rows["static + PV"][1] += 1
        rows[table_10.CONTROL.title] = np.array([[1.0, 2, 3]])
        table_10.show(rows, [0, 1], table_10.STEPS)
        lines = {line[:22].strip(): line[22:].split() for line in capsys.readouterr().out.splitlines()}
        assert lines["static"][:4] == ["11.0", "±", "1.4", "(28.5)"]
        assert lines[table_10.CONTROL.title] == ["1.0", "±", "nan", "2.0", "±", "nan", "3.0", "±", "nan"]
        assert lines["gain of PV"][:3] == ["+5.5", ">", "+5.0"]  # mean, least of the seeds
        assert lines["gain of PV, UVO-FT"][:3] == ["+5.0", ">", "+5.0"]

    def test_the_control_takes_the_stills_again(self) -> None:
        data, place = table_10.STAGES["more"]
        assert data == "static" and place == table_10.STAGES["pv"][1]
        assert all(name in table_10.SETS for name, _ in table_10.STAGES.values())

    def test_the_domains_differ(self) -> None:
        assert PRESETS["stills"].frames == 1 and replace(PRESETS["stills"], frames=12) == PRESETS["easy"]
        assert PRESETS["crowded"].objects[1] > PRESETS["easy"].objects[1] and PRESETS["crowded"].pillars
