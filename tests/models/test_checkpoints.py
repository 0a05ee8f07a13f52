"""Checkpoints of other programs: read without running code, taken over completely or not at all."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from vng.errors import DataError
from vng.models.checkpoints import load_exactly, read_checkpoint


class Harmful:
    def __reduce__(self) -> tuple:
        return print, ("this ran",)


class TestCheckpoints:
    def test_weights_from_a_zip_a_legacy_file_or_bare(self, tmp_path: Path) -> None:
        weights = {"a.weight": torch.arange(3.0), "b": torch.zeros(2, 2)}
        torch.save({"model": weights, "iteration": 7, "trainer": None}, tmp_path / "zip.pth")
        torch.save({"state_dict": weights}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
        torch.save(weights, tmp_path / "bare.pth")
        for name in ("zip", "old", "bare"):
            read = read_checkpoint(tmp_path / f"{name}.pth")
            assert list(read) == ["a.weight", "b"] and read["a.weight"].tolist() == [0, 1, 2]

    def test_pickles_that_would_run_code_are_refused(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        torch.save({"model": {"a": torch.zeros(1)}, "extra": Harmful()}, tmp_path / "zip.pth")
        torch.save({"extra": Harmful()}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
        (tmp_path / "bare.pkl").write_bytes(pickle.dumps(Harmful(), protocol=2))
        for path in tmp_path.iterdir():
            with pytest.raises(DataError, match="could run code"):
                read_checkpoint(path)
        assert "this ran" not in capsys.readouterr().out

    @pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 cut short", bytes(range(256))])
    def test_what_is_no_checkpoint(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "x.pth").write_bytes(content)
        with pytest.raises(DataError, match=r"x\.pth: "):
            read_checkpoint(tmp_path / "x.pth")

    def test_what_is_no_weights(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no such file"):
            read_checkpoint(tmp_path / "none.pth")
        torch.save([1, 2], tmp_path / "list.pth")
        with pytest.raises(DataError, match="holds list, not weights by name"):
            read_checkpoint(tmp_path / "list.pth")
        torch.save({"model": {"a": "text"}}, tmp_path / "text.pth")
        with pytest.raises(DataError, match="a: is not a tensor"):
            read_checkpoint(tmp_path / "text.pth")

    def test_all_or_nothing(self) -> None:
        layer = torch.nn.Linear(3, 2)
        before = layer.weight.detach().clone()
        with pytest.raises(DataError, match=r"1 missing: bias; 1 unknown: old\.c; 1 of another size: w \[1, 3\]"):
            load_exactly(layer, {"weight": torch.zeros(1, 3), "c": torch.zeros(1)}, {"c": "old.c", "weight": "w"})
        assert torch.equal(layer.weight, before)
        load_exactly(layer, {"weight": torch.zeros(2, 3)}, {}, ("bias",))
        assert not layer.weight.any() and layer.bias.any()
