"""Recipes, clips, the loop, exact resumption (also after SIGKILL), prediction: from a shell, on files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers import Cli, H, T, W, make_video, write_frames
from vng.dataset import VngDataset
from vng.dataset_writer import write_dataset
from vng.errors import DataError, UsageError
from vng.models.referformer.processing_referformer import ReferFormerProcessor, train_tokenizer
from vng.training.grounding.clips import ClipSampler, Collator, sample_frames
from vng.training.grounding.recipe import DataSettings, GroundingRecipe
from vng.training.loop import learning_rate
from vng.training.recipe import OptimizerSettings, find_config, load_settings, shipped_configs
from vng.training.tasks import load_recipe

CONFIGS = sorted(shipped_configs().rglob("*.yaml"))
assert CONFIGS, "no recipes found"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: str(p.relative_to(shipped_configs())))
def test_every_shipped_recipe_loads(path: Path) -> None:
    recipe = load_recipe(path)
    assert path.read_text().startswith("# Run:") and recipe.save_every % recipe.log_every == 0


class TestSettings:
    def test_base_and_overrides(self) -> None:
        recipe = load_settings(GroundingRecipe, Path("demo/finetune"), ["optimizer.lr=3e-5", "data.flip=0", "out=x/y"])
        assert recipe.optimizer.lr == 3e-5 and recipe.data.flip == 0 and recipe.out == Path("x/y")
        assert (
            recipe.model.sizes["num_queries"]
            == load_settings(GroundingRecipe, Path("demo/pretrain")).model.sizes["num_queries"]
        )

    def test_all_mistakes_in_one_message(self) -> None:
        wrong = ["optimizer.lr=-1", "optimizer.momentum=3", "data.frames=many", "model.sizes.depth=3"]
        with pytest.raises(UsageError) as error:
            load_settings(GroundingRecipe, Path("tiny"), wrong)
        for words in (
            "optimizer.lr",
            "optimizer.momentum: unknown setting, known ones: accumulate, batch_size",
            "data.frames",
            "unknown sizes ['depth']",
        ):
            assert words in str(error.value)

    def test_faults(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"no such recipe; shipped ones: .*tiny\.yaml"):
            find_config(tmp_path / "none.yaml")
        (tmp_path / "a.yaml").write_text("out: [")
        with pytest.raises(DataError, match="broken YAML"):
            load_settings(GroundingRecipe, tmp_path / "a.yaml")
        with pytest.raises(UsageError, match="write key=value"):
            load_settings(GroundingRecipe, Path("tiny"), ["steps"])

    def test_tasks(self) -> None:
        assert isinstance(load_recipe(Path("tiny"), ["task=grounding"]), GroundingRecipe)
        with pytest.raises(UsageError, match="unknown task 'magic'; choose one of: clicks, dynamite, grounding"):
            load_recipe(Path("tiny"), ["task=magic"])

    def test_learning_rate(self) -> None:
        steps = OptimizerSettings(steps=100, warmup=4)
        assert [round(learning_rate(s, steps), 6) for s in (0, 3, 4, 49, 50, 99)] == [0.2, 0.8, 1, 1, 0.1, 0.01]
        cosine = OptimizerSettings(steps=100, schedule="cosine")
        assert learning_rate(0, cosine) == 1 and learning_rate(99, cosine) < 0.02


class TestClips:
    def sampler(self, dataset: Path, **settings: object) -> ClipSampler:
        tokenizer = train_tokenizer(["A red ball meets the other ball."], 280, 64)
        processor = ReferFormerProcessor(tokenizer, short_side=0)
        chosen = DataSettings(path=dataset, **{"frames": 2, **settings})  # type: ignore[arg-type]
        return ClipSampler([VngDataset(dataset)], chosen, processor, 5, 40)

    def test_a_sample_depends_on_seed_and_index_alone(self, dataset: Path) -> None:
        first, second = self.sampler(dataset), self.sampler(dataset)
        for index in (7, 3, 7):
            a, b = first[index], second[index]
            assert torch.equal(a.pixels, b.pixels) and a.narrative == b.narrative
            assert np.array_equal(a.truth.masks, b.truth.masks)
        assert len({first[i].pixels.sum().item() for i in range(12)}) > 3

    def test_all_expressions_of_a_narrative(self, dataset: Path) -> None:
        clip = self.sampler(dataset, flip=0)[0]
        assert [clip.narrative[a:b] for a, b in clip.spans] == ["ball", "ball"]
        assert clip.truth.masks.shape == (2, 2, H, W)
        assert clip.truth.known[0].all()

    def test_flip_mirrors_pixels_and_masks(self, dataset: Path) -> None:
        plain, mirrored = (self.sampler(dataset, flip=f)[4] for f in (0, 1))
        assert torch.equal(plain.pixels.flip(-1), mirrored.pixels)
        assert np.array_equal(plain.truth.masks[..., ::-1], mirrored.truth.masks)

    def test_batches_are_padded(self, dataset: Path) -> None:
        sampler = self.sampler(dataset)
        batch = Collator(sampler.processor)([sampler[0], sampler[1]])
        assert batch["pixel_values"].shape == (2, 2, 3, 32, 32) and batch["target_masks"].shape == (2, 2, 2, 32, 32)
        assert batch["pixel_mask"].sum() == 2 * 2 * H * W and batch["noun_tokens"].any(-1).all()

    def test_min_agreement_leaves_objects_out(self, dataset: Path) -> None:
        clip = self.sampler(dataset, min_agreement=0.9)[0]  # the first object has 0.75
        assert len(clip.spans) == 1

    def test_nothing_to_train_on(self, tmp_path: Path) -> None:
        write_dataset(tmp_path / "d", [replace(make_video("v"), expressions=())], "t")
        with pytest.raises(DataError, match="no video of this dataset has an expression"):
            self.sampler(tmp_path / "d")

    @pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
    def test_frames_of_a_clip(self, count: int, rng: np.random.Generator) -> None:
        candidates = np.array([2, 3, 5, 8, 9, 11])
        for _ in range(20):
            chosen = sample_frames(candidates, count, 3, rng)
            assert len(chosen) == count and set(chosen) <= set(candidates) and (np.diff(chosen) >= 0).all()


def train_arguments(dataset: Path, out: Path, *more: str) -> list[object]:
    return ["train", "tiny", f"data.path={dataset}", f"out={out}", "--quiet", *more]


class TestTraining:
    def test_run_folder(self, tmp_path: Path, dataset: Path, cli: Callable[..., Cli]) -> None:
        ended = cli(*train_arguments(dataset, tmp_path / "run"))
        assert ended.status == 0 and "trained, loss" in ended.out, ended.err
        names = {p.name for p in (tmp_path / "run").iterdir()}
        assert {
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "training.json",
            "log.jsonl",
            "curves.png",
        } <= names
        assert "checkpoints" not in names and not [n for n in names if n.endswith(".tmp")]
        manifest = json.loads((tmp_path / "run" / "training.json").read_text())
        assert manifest["settings"]["optimizer"]["steps"] == 6 and "torch" in manifest["versions"]
        log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
        assert [r["step"] for r in log] == [1, 2, 3, 4, 5, 6] and {"loss", "dice", "lr"} <= set(log[0])
        assert cli(*train_arguments(dataset, tmp_path / "run")).status == 0  # already done
        ended = cli(*train_arguments(dataset, tmp_path / "run", "seed=1"))
        assert ended.status == 1 and "seed: an earlier run wrote here with 0, now 1" in ended.err

    @pytest.mark.parametrize("supervision", ["masks", "points"])
    def test_loss_falls(self, tmp_path: Path, dataset: Path, cli: Callable[..., Cli], supervision: str) -> None:
        more = ("optimizer.steps=40", "save_every=40", "optimizer.clip_norm=1", f"supervision={supervision}")
        assert cli(*train_arguments(dataset, tmp_path / "run", *more)).status == 0
        log = [json.loads(line)["loss"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
        assert np.mean(log[-5:]) < 0.7 * np.mean(log[:5])

    @pytest.mark.parametrize("supervision", ["points", "pseudo_masks"])
    def test_weaker_supervision(self, tmp_path: Path, dataset: Path, cli: Callable[..., Cli], supervision: str) -> None:
        """A mixture of drawn masks and weaker evidence, from a shell; points alone teach nothing about boxes."""
        weak = f"{{path: {dataset}, supervision: {supervision}}}"
        for name, sources in (("mixed", f"[{weak}, {{path: {dataset}, weight: 2}}]"), ("alone", f"[{weak}]")):
            said = ("data.path=null", f"data.sources={sources}", "optimizer.steps=4", "save_every=4")
            ended = cli(*train_arguments(dataset, tmp_path / name, *said))
            assert ended.status == 0, ended.err
        log = [json.loads(line) for line in (tmp_path / "alone" / "log.jsonl").read_text().splitlines()]
        assert len(log) == 4 and all(r["mask"] > 0 and r["dice"] > 0 for r in log)
        assert all((r["box"] == r["giou"] == 0) == (supervision == "points") for r in log)

    def test_stopped_and_resumed_equals_uninterrupted(
        self, tmp_path: Path, dataset: Path, cli: Callable[..., Cli], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import vng.training.loop as loop

        original, steps = loop._train_step, []

        def dies(*arguments: object) -> object:
            steps.append(arguments[-1])
            if len(steps) == 6:  # in the sixth step, after the checkpoint of step 4
                raise KeyboardInterrupt
            return original(*arguments)  # type: ignore[arg-type]

        more = ("optimizer.accumulate=2",)
        assert cli(*train_arguments(dataset, tmp_path / "whole", *more)).status == 0
        monkeypatch.setattr(loop, "_train_step", dies)
        assert cli(*train_arguments(dataset, tmp_path / "broken", *more)).status == 130
        assert not (tmp_path / "broken" / "config.json").exists()
        assert cli(*train_arguments(dataset, tmp_path / "broken", *more)).status == 0 and steps[6:] == [4, 5]
        whole, broken = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "broken"))
        for name, value in whole.items():
            assert torch.equal(value, broken[name]), name
        assert (tmp_path / "whole" / "log.jsonl").read_text() == (tmp_path / "broken" / "log.jsonl").read_text()

    def test_sigkill_and_again_gives_the_same_weights(self, tmp_path: Path, dataset: Path) -> None:
        def start(out: str) -> subprocess.Popen:
            words = train_arguments(dataset, tmp_path / out, "optimizer.steps=40", "save_every=5")
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # other numbers of threads round differently
            command = [sys.executable, "-m", "vng.cli", *map(str, words)]
            return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        process = start("broken")
        deadline = time.monotonic() + 120
        while not list((tmp_path / "broken" / "checkpoints").glob("step-*[0-9]")) and time.monotonic() < deadline:
            assert process.poll() is None, "ended before it could be killed"
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "broken" / "config.json").exists()
        assert start("broken").wait() == 0 and start("whole").wait() == 0
        whole, broken = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "broken"))
        for name, value in whole.items():
            assert torch.equal(value, broken[name]), name
        assert (tmp_path / "whole" / "log.jsonl").read_text() == (tmp_path / "broken" / "log.jsonl").read_text()

    def test_two_processes(self, tmp_path: Path, dataset: Path) -> None:
        """Under torchrun two processes share each step's batch and end with one model."""
        words = train_arguments(dataset, tmp_path / "run", "optimizer.steps=2", "save_every=1")
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nproc_per_node",
            "2",
            "--standalone",
            "-m",
            "vng.cli",
            *map(str, words),
        ]
        ended = subprocess.run(
            command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120
        )
        assert ended.returncode == 0, ended.stderr[-2000:]
        assert (tmp_path / "run" / "model.safetensors").exists()
        assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 2

    def test_half_precision(self, tmp_path: Path, dataset: Path, cli: Callable[..., Cli]) -> None:
        # Frames of 64 rows: on a map of 1 x 1 torch's bf16 convolution leaves NaN in its weight gradient on CPU
        # (torch 2.13: 22 of 60 draws at 1 x 1, none at 1 x 2 or larger), which the loop reports as it should.
        more = ("precision=bf16", "optimizer.steps=2", "data.short_side=64")
        ended = cli(*train_arguments(dataset, tmp_path / "run", *more))
        assert ended.status == 0, ended.err
        assert cli(*train_arguments(dataset, tmp_path / "again", "precision=no", "optimizer.steps=1")).status == 0

    def test_goes_on_from_a_model(self, tmp_path: Path, dataset: Path, cli: Callable[..., Cli]) -> None:
        assert cli(*train_arguments(dataset, tmp_path / "first")).status == 0
        more = (f"model.init={tmp_path / 'first'}", "optimizer.steps=2")
        losses = ("model.sizes.mask_weight=31", "model.sizes.mask_dim=99")
        ended = cli(*train_arguments(dataset, tmp_path / "second", *more, *losses))
        assert ended.status == 0, ended.err
        config = json.loads((tmp_path / "second" / "config.json").read_text())
        assert config["mask_weight"] == 31  # no shape hangs on it
        assert config["mask_dim"] == json.loads((tmp_path / "first" / "config.json").read_text())["mask_dim"] != 99
        tokens = [(tmp_path / n / "tokenizer.json").read_text() for n in ("first", "second")]
        assert tokens[0] == tokens[1]

    @pytest.mark.parametrize(
        ("more", "status", "words"),
        [
            (["save_every=3", "log_every=2"], 2, "save_every=3 must be a multiple of log_every=2"),
            (["data.path=nowhere/at/all"], 1, "no such dataset folder"),
            (["data.path=[x"], 2, "broken YAML"),
            (["data.min_agreement=1", "data.path={weak}"], 1, "point agreement of 1.0 or more"),
            (["model.init=no/such_model"], 1, "no model loads from here"),
            (["model.tokenizer=no/such_tokenizer"], 1, "no tokenizer here"),
            (["optimizer.stps=3"], 2, "optimizer.stps: unknown setting"),
            (["optimizer.lr=1e9", "optimizer.lr_backbone=1e9"], 1, "the loss is"),
        ],
    )
    def test_wrong_calls(
        self, tmp_path: Path, dataset: Path, cli: Callable[..., Cli], more: list, status: int, words: str
    ) -> None:
        weak = replace(make_video("weak"), expressions=make_video("weak").expressions[:1])  # of agreement 0.75
        write_dataset(tmp_path / "weak", [weak], "t")
        more = [word.format(weak=tmp_path / "weak") if "{weak}" in word else word for word in more]
        ended = cli(*train_arguments(dataset, tmp_path / "run", *more))
        assert ended.status == status and words in ended.err, ended.err
        assert not (tmp_path / "run" / "config.json").exists()

    def test_from_hub_style_folders(self, tmp_path: Path, dataset: Path, cli: Callable[..., Cli]) -> None:
        """The path that downloads `microsoft/resnet-50` and `FacebookAI/roberta-base`, on tiny folders of the same form."""
        from transformers import ResNetBackbone, ResNetConfig, RobertaConfig, RobertaModel

        backbone = ResNetBackbone(
            ResNetConfig(embedding_size=8, hidden_sizes=[8, 12, 16, 24], depths=[1, 1, 1, 1], layer_type="basic")
        )
        backbone.save_pretrained(tmp_path / "backbone")
        text = RobertaModel(
            RobertaConfig(
                vocab_size=300,
                hidden_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=24,
                max_position_embeddings=66,
            )
        )
        text.save_pretrained(tmp_path / "text")
        train_tokenizer(["A red ball meets the other ball."], 300, 64).save_pretrained(tmp_path / "text")
        (tmp_path / "r.yaml").write_text(
            f"base: {shipped_configs() / 'tiny.yaml'}\n"
            f"model: {{tokenizer: {tmp_path / 'text'}, sizes: {{freeze_text_encoder: true, freeze_batch_norm: true}}}}\n"
        )
        ended = cli(
            "train",
            tmp_path / "r.yaml",
            f"data.path={dataset}",
            f"out={tmp_path / 'run'}",
            "--quiet",
            f"model.backbone={tmp_path / 'backbone'}",
            f"model.text_encoder={tmp_path / 'text'}",
            "optimizer.steps=2",
        )
        assert ended.status == 0, ended.err
        trained, given = load_file(tmp_path / "run" / "model.safetensors"), text.state_dict()
        key = "embeddings.word_embeddings.weight"
        assert torch.equal(trained[f"text_encoder.{key}"], given[key])
        stem = "embedder.embedder.convolution.weight"
        moved = (trained[f"backbone.{stem}"] - backbone.state_dict()[stem]).abs().max()
        assert 0 < float(moved) < 0.01


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained tiny grounder."""
    from vng.cli import main

    folder = tmp_path_factory.mktemp("module")
    write_dataset(folder / "dataset", [make_video("one"), make_video("two words", seed=1)], "hand-made")
    assert main([str(a) for a in train_arguments(folder / "dataset", folder / "run")]) == 0
    return folder / "run"


class TestPrediction:
    def test_own_video_and_narrative(self, tmp_path: Path, run: Path, cli: Callable[..., Cli]) -> None:
        import av

        write_frames(tmp_path / "clip", np.stack(list(make_video("v").opened_frames())))
        ended = cli(
            "predict",
            "--model",
            run,
            "--video",
            tmp_path / "clip",
            "--narrative",
            "A red [ball] meets the other [ball].",
            "--out",
            tmp_path / "out",
        )
        assert ended.status == 0 and ended.out.count("ball: 0.") == 2, ended.err
        result = json.loads((tmp_path / "out" / "result.json").read_text())
        assert [n["span"] for n in result["nouns"]] == [[6, 10], [27, 31]]
        assert len(list((tmp_path / "out" / "masks" / "1").glob("*.png"))) == T
        with av.open(str(tmp_path / "out" / "overlay.mp4")) as film:
            stream = film.streams.video[0]
            assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
            assert len(list(film.decode(stream))) == T
        assert (tmp_path / "out" / "overlay.png").stat().st_size > 1000

    def test_a_page_stands_beside_the_model(self, run: Path) -> None:
        card = (run / "README.md").read_text()
        assert "# run" in card and "| data | dataset |" in card and "| optimizer.steps |" in card

    def test_python_interface(self, run: Path) -> None:
        from vng import NarrativeGrounder

        grounder = NarrativeGrounder.from_pretrained(run)
        result = grounder(np.stack(list(make_video("v").opened_frames())), "A red [ball] meets the other [ball].")
        assert result.masks.shape == (2, T, H, W) and result.masks.dtype == bool
        assert result.nouns == ["ball", "ball"] and result.scores.shape == (2,) and result.frame_scores.shape == (2, T)

    def test_dataset_in_the_official_layout_and_its_score(
        self, tmp_path: Path, run: Path, dataset: Path, cli: Callable[..., Cli]
    ) -> None:
        ended = cli("predict", "--model", run, "--dataset", dataset, "--out", tmp_path / "r", "--quiet")
        assert ended.status == 0 and "4 expressions" in ended.out
        files = sorted(str(p.relative_to(tmp_path / "r")) for p in (tmp_path / "r").rglob("*.png"))
        assert files == [f"{v}/{e}/{t:06d}.png" for v in ("one", "two words") for e in (0, 1) for t in range(T)]
        assert cli("evaluate", "vng", "--dataset", dataset, "--results", tmp_path / "r", "--quiet").status == 0
        before = (tmp_path / "r" / "one" / "0" / "000000.png").stat().st_mtime_ns
        assert cli("predict", "--model", run, "--dataset", dataset, "--out", tmp_path / "r", "--quiet").status == 0
        assert (tmp_path / "r" / "one" / "0" / "000000.png").stat().st_mtime_ns == before  # went on, did nothing twice

    def test_predictions_of_another_model_are_never_reused(
        self, tmp_path: Path, run: Path, dataset: Path, cli: Callable[..., Cli]
    ) -> None:
        import shutil

        shutil.copytree(run, tmp_path / "model")
        words = ["predict", "--model", tmp_path / "model", "--dataset", dataset, "--out", tmp_path / "r", "--quiet"]
        assert cli(*words).status == 0
        state = load_file(tmp_path / "model" / "model.safetensors")
        save_file({k: v + 0.1 for k, v in state.items()}, tmp_path / "model" / "model.safetensors", {"format": "pt"})
        ended = cli(*words)
        assert ended.status == 1 and "model: an earlier run wrote here" in ended.err

    @pytest.mark.parametrize(
        ("arguments", "status", "words"),
        [
            (["--video", "x"], 2, "give --video and --narrative, or --dataset"),
            (["--video", "none.mp4", "--narrative", "A [ball]."], 1, "none.mp4: no such folder or video file"),
            (["--video", "x", "--narrative", "A ball."], 2, "no noun is marked"),
            (["--video", "x", "--narrative", "A [ball."], 2, "never closed"),
        ],
    )
    def test_wrong_calls(
        self, tmp_path: Path, run: Path, cli: Callable[..., Cli], arguments: list, status: int, words: str
    ) -> None:
        if "A ball." in arguments:
            write_frames(tmp_path / "x", np.zeros((1, H, W, 3), np.uint8))
            arguments = [str(tmp_path / "x") if a == "x" else a for a in arguments]
        ended = cli("predict", "--model", run, *arguments, "--out", tmp_path / "out")
        assert ended.status == status and words in ended.err and not (tmp_path / "out").exists()

    def test_unfinished_model(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        ended = cli("predict", "--model", tmp_path, "--dataset", tmp_path, "--out", tmp_path / "r")
        assert ended.status == 1 and "no trained model here" in ended.err
