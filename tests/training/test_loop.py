"""The training loop: from a shell, on files; exact resumption, also after SIGKILL."""

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
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.helpers import Cli, make_video
from vng.config_files import shipped_configs
from vng.dataset_writer import write_dataset
from vng.models.referformer.processing_referformer import train_tokenizer
from vng.training.launch import native_convolutions


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

        process, whole_run = start("broken"), start("whole")
        deadline = time.monotonic() + 120
        while not list((tmp_path / "broken" / "checkpoints").glob("step-*[0-9]")) and time.monotonic() < deadline:
            assert process.poll() is None, "ended before it could be killed"
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "broken" / "config.json").exists()
        assert start("broken").wait() == 0 and whole_run.wait() == 0
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


def test_convolutions_that_break_are_computed_without_onednn() -> None:
    """A 1x1 convolution with a stride from 8 to 12 channels aborts the process in its backward pass (torch 2.13)."""
    right, faulty = (nn.Sequential(nn.Conv2d(8, n, 1, stride=2)) for n in (16, 12))
    before = torch.backends.mkldnn.enabled
    with native_convolutions(right):
        assert torch.backends.mkldnn.enabled == before
    with native_convolutions(faulty):
        assert not torch.backends.mkldnn.enabled
    assert torch.backends.mkldnn.enabled == before


class TestTrackers:
    """Accelerate's trackers, beside the run's own log."""

    def test_losses_and_settings_reach_a_tracker(
        self, dataset: Path, tmp_path: Path, cli: Callable[..., Cli], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from accelerate import tracking

        told: dict[str, Any] = {"logs": []}

        class Told(tracking.GeneralTracker):
            name = "tensorboard"
            requires_logging_directory = True

            def __init__(self, run_name: str, logging_dir: str, **_: Any) -> None:
                super().__init__()
                told["folder"] = str(logging_dir)

            tracker = None

            def store_init_configuration(self, values: dict[str, Any]) -> None:
                told["settings"] = values

            def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
                told["logs"].append((step, values))

            def finish(self) -> None:
                told["finished"] = True

        monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "tensorboard", Told)
        monkeypatch.setattr(tracking, "_available_trackers", [tracking.LoggerType.TENSORBOARD])
        out = tmp_path / "run"
        words = ["optimizer.steps=4", "log_every=2", "save_every=4", "log_with=[tensorboard]"]
        ended = cli("train", "tiny", f"data.path={dataset}", f"out={out}", "--quiet", *words)
        assert ended.status == 0, ended.err
        assert [step for step, _ in told["logs"]] == [2, 4] and told["finished"]
        assert {"loss", "mask", "lr"} <= set(told["logs"][0][1]) and told["settings"]["optimizer.steps"] == 4
        assert told["folder"].startswith(str(out))
        kept = [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]
        assert kept == [values["loss"] for _, values in told["logs"]]

    def test_unknown_and_missing_ones(self, dataset: Path, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        for name, told in (("magic", "unknown tracker (log_with) 'magic'"), ("clearml", "clearml is not installed")):
            ended = cli("train", "tiny", f"data.path={dataset}", f"out={tmp_path / name}", f"log_with=[{name}]")
            assert ended.status != 0 and told in ended.err
            assert not (tmp_path / name / "training.json").exists()
