"""The page beside a trained grounder, and the way to the hub (without a network)."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from tests.models.referformer.test_modeling_referformer import TEXT, tiny_config
from vng.errors import DataError
from vng.grounding.grounder import NarrativeGrounder
from vng.grounding.model_card import model_card, write_card
from vng.models.referformer.modeling_referformer import ReferFormerForVNG
from vng.models.referformer.processing_referformer import ReferFormerProcessor, train_tokenizer

SETTINGS: dict[str, Any] = {
    "seed": 7,
    "data": {"sources": [{"path": "/home/me/data/oops-vng", "weight": 0.25}, {"path": "kinetics", "split": "train"}]},
    "model": {
        "init": None,
        "backbone": "microsoft/resnet-50",
        "text_encoder": {"model_type": "roberta", "hidden_size": 64},
    },
    "optimizer": {"steps": 1234, "lr": 1e-4},
}
SCORES = {"J&F": 0.3266, "J": 0.3, "F": 0.3532, "expressions": [{}, {}]}


def test_everything_that_is_known_is_said() -> None:
    card = model_card("me/rf-vng", SETTINGS, SCORES, {"vng": "0.2.0"})
    front = yaml.safe_load(card.split("---")[1])
    assert front["base_model"] == ["microsoft/resnet-50"] and front["license"] == "apache-2.0"
    assert 'from_pretrained("me/rf-vng")' in card and "roberta from scratch (hidden_size 64)" in card
    assert "| data | oops-vng (weight 0.25); kinetics, split train |" in card and "/home/me" not in card
    assert "| optimizer.steps | 1234 |" in card and "| seed | 7 |" in card and "vng 0.2.0" in card
    assert "2 expressions" in card and "| J&F | 32.7 |" in card
    assert "check that none of" in card and "has seen the\ntest masks" not in card


def test_a_model_that_saw_ovis_says_so() -> None:
    told = SETTINGS | {"data": {"path": "data/OVIS-vng"}, "model": {"init": "/runs/first"}}
    card = model_card("run", told)
    assert "**Trained on OVIS.**" in card and "| starts from | first |" in card and "None were given" in card
    assert "base_model" not in card


def test_nothing_known() -> None:
    assert "Its settings are not known here." in model_card("run", {})


def test_scores_are_read(tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text(json.dumps(SCORES))
    write_card(tmp_path, "run", SETTINGS, tmp_path / "scores.json")
    assert "| F | 35.3 |" in (tmp_path / "README.md").read_text()
    (tmp_path / "scores.json").write_text("{")
    with pytest.raises(DataError, match=r"scores.json: line 1, column 2: broken JSON"):
        write_card(tmp_path, "run", SETTINGS, tmp_path / "scores.json")


class TestPush:
    @pytest.fixture
    def run(self, tmp_path: Path) -> Path:
        folder = tmp_path / "run"
        ReferFormerForVNG(tiny_config()).save_pretrained(folder)
        ReferFormerProcessor(train_tokenizer(TEXT, 300, 64)).save_pretrained(folder)
        (folder / "training.json").write_text(json.dumps({"settings": SETTINGS, "versions": {"vng": "0.2.0"}}))
        return folder

    def test_model_processor_and_page_are_uploaded(
        self, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import huggingface_hub

        seen: dict[str, Any] = {}

        class Client:
            def create_repo(self, repo_id: str, **options: Any) -> Any:
                seen.update(asked=repo_id, **options)
                return _Url("https://huggingface.co/me/" + repo_id, repo_id="me/" + repo_id)

            def upload_folder(self, repo_id: str, folder_path: Path, commit_message: str) -> None:
                seen.update(repo_id=repo_id, files={p.name for p in Path(folder_path).iterdir()})
                seen["card"] = (Path(folder_path) / "README.md").read_text()
                seen["opens"] = NarrativeGrounder.from_pretrained(folder_path, "cpu").model.config.num_queries

        monkeypatch.setattr(huggingface_hub, "HfApi", Client)
        (tmp_path / "scores.json").write_text(json.dumps(SCORES))
        page = NarrativeGrounder.from_pretrained(run, "cpu").push_to_hub("rf-vng", tmp_path / "scores.json")
        assert (
            page == "https://huggingface.co/me/rf-vng" and seen["asked"] == "rf-vng" and seen["repo_id"] == "me/rf-vng"
        )
        assert {"config.json", "model.safetensors", "README.md", "tokenizer.json"} <= seen["files"]
        assert "training.json" not in seen["files"]  # it says where data lay
        assert seen["private"] is True and seen["exist_ok"] is True and seen["opens"] == 5
        assert "oops-vng (weight 0.25)" in seen["card"] and "| J&F | 32.7 |" in seen["card"]

    def test_without_a_network(self, run: Path) -> None:
        with pytest.raises(DataError, match=r"me/rf-vng: not uploaded \(.*\); log in \(hf auth login\)"):
            NarrativeGrounder.from_pretrained(run, "cpu").push_to_hub("me/rf-vng")


class _Url(str):
    """As the hub's client answers: an address that knows its repository."""

    def __new__(cls, address: str, **more: Any) -> _Url:
        url = super().__new__(cls, address)
        url.__dict__.update(vars(SimpleNamespace(**more)))
        return url
