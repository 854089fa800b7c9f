"""Weights: whole, small, from where the card says, or refused."""

import dataclasses
import hashlib
import json
import os
import subprocess

import pytest
import torch

from harmony_lite import weights

FIELDS = {
    "command": "make weights",
    "profile": "quick",
    "data_seed": 3,
    "minutes": 1.5,
    "metric": {"psnr_db": 24.5},
    "recipe": {"people": 24},
    "settings": {"steps": 100, "rate": 1e-3},
    "fingerprint": 0.25,
    "curves": {"all": {"unit": "loss", "points": [[50, 0.5], [100, 0.25]]}},
    "converged": False,
    "commit": "0" * 40,
    "hardware": "test bench",
}


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(5)
    return {
        "layer.weight": torch.randn(16, 3, 3, 3, generator=generator),
        "layer.transposed": torch.randn(4, 6, generator=generator).T,
        "steps": torch.tensor(7),
        "initialized": torch.tensor(True),
    }


def test_half_precision_round_trip(tmp_path, tensors):
    path = tmp_path / "made" / "a.safetensors"
    saved = weights.save(tensors, path, **FIELDS)
    loaded, card = weights.load(path)
    assert card == saved
    assert {field: getattr(card, field) for field in FIELDS} == FIELDS
    assert card.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.keys() == tensors.keys()
    for name in ("layer.weight", "layer.transposed"):
        assert loaded[name].dtype == torch.float32
        assert torch.equal(loaded[name], tensors[name].half().float())
        # float16 has 11 significant bits: rounding is at most half a unit in the last of them
        assert ((loaded[name] - tensors[name]).abs() <= tensors[name].abs() * 2**-11 + 2**-25).all()
    assert torch.equal(loaded["steps"], tensors["steps"]) and torch.equal(loaded["initialized"], tensors["initialized"])


def test_single_precision_round_trip_is_exact(tmp_path, tensors):
    path = tmp_path / "a.safetensors"
    weights.save(tensors, path, half=False, **FIELDS)
    loaded, _ = weights.load(path)
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


def test_same_tensors_give_the_same_hash(tmp_path, tensors):
    first = weights.save(tensors, tmp_path / "a.safetensors", **FIELDS)
    again = weights.save(dict(reversed(tensors.items())), tmp_path / "b.safetensors", **FIELDS)
    assert first.sha256 == again.sha256


def test_tied_tensors_are_saved_under_both_names(tmp_path):
    tied = torch.arange(6.0)
    path = tmp_path / "a.safetensors"
    weights.save({"encoder": tied, "decoder": tied}, path, **FIELDS)
    loaded, _ = weights.load(path)
    assert torch.equal(loaded["encoder"], tied) and torch.equal(loaded["decoder"], tied)


def test_hash_mismatch_is_refused_with_both_hashes(tmp_path, tensors):
    path = tmp_path / "a.safetensors"
    old = weights.save(tensors, path, **FIELDS)
    card_text = path.with_suffix(".json").read_text()
    new = weights.save({name: tensor + 1 for name, tensor in tensors.items() if tensor.ndim}, path, **FIELDS)
    path.with_suffix(".json").write_text(card_text)
    with pytest.raises(ValueError, match=f"found weights with SHA-256 {new.sha256}, wanted {old.sha256}"):
        weights.load(path)


@pytest.mark.parametrize("damage", ["one bit", "cut", "empty"])
def test_damaged_weights_are_refused(tmp_path, tensors, damage):
    path = tmp_path / "a.safetensors"
    weights.save(tensors, path, **FIELDS)
    data = bytearray(path.read_bytes())
    if damage == "one bit":
        data[-1] ^= 1
    path.write_bytes({"one bit": data, "cut": data[:-7], "empty": b""}[damage])
    with pytest.raises(ValueError, match="SHA-256"):
        weights.load(path)


def test_a_file_of_another_kind_is_refused_even_with_its_own_hash(tmp_path, tensors):
    path = tmp_path / "a.safetensors"
    weights.save(tensors, path, **FIELDS)
    path.write_bytes(b"no weights at all, but some text")
    card = json.loads(path.with_suffix(".json").read_text())
    card["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match="no safetensors file"):
        weights.load(path)


def test_missing_weights_and_missing_card_are_refused(tmp_path, tensors):
    path = tmp_path / "a.safetensors"
    with pytest.raises(FileNotFoundError, match="make weights"):
        weights.load(path)
    weights.save(tensors, path, **FIELDS)
    path.with_suffix(".json").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.json: found no such file, wanted the card"):
        weights.load(path)


@pytest.mark.parametrize("text", ["{", "[1]", '{"sha256": "0"}', b"\xff\xfe\x00"])
def test_unreadable_card_is_refused(tmp_path, tensors, text):
    path = tmp_path / "a.safetensors"
    weights.save(tensors, path, **FIELDS)
    path.with_suffix(".json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=r"a\.json: found a card"):
        weights.load(path)


def test_over_ten_megabytes_is_refused_and_leaves_nothing(tmp_path):
    path = tmp_path / "big.safetensors"
    big = {"weight": torch.zeros(5_000_000)}
    with pytest.raises(
        ValueError, match=r"big\.safetensors: found 10,000,\d{3} bytes of weights, wanted at most 10,000,000"
    ):
        weights.save(big, path, **FIELDS)
    assert list(tmp_path.iterdir()) == []
    weights.save(big, path, limit=None, **FIELDS)
    assert torch.equal(weights.load(path)[0]["weight"], big["weight"])


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.tensor([1.0, float("nan")]), "'scale' that are NaN or infinite"),
        (torch.tensor([1.0, float("inf")]), "'scale' that are NaN or infinite"),
        (torch.tensor([1.0, 70000.0]), "'scale' beyond 65504"),
    ],
)
def test_values_that_would_be_lost_are_refused(tmp_path, tensor, message):
    with pytest.raises(ValueError, match=message):
        weights.save({"scale": tensor}, tmp_path / "a.safetensors", **FIELDS)
    assert list(tmp_path.iterdir()) == []


def test_other_wrong_arguments_of_save(tmp_path, tensors):
    with pytest.raises(ValueError, match=r"found the suffix '\.pt', wanted '\.safetensors'"):
        weights.save(tensors, tmp_path / "a.pt", **FIELDS)
    with pytest.raises(ValueError, match="found no tensors"):
        weights.save({}, tmp_path / "a.safetensors", **FIELDS)
    with pytest.raises(ValueError, match="JSON cannot hold"):
        weights.save(tensors, tmp_path / "a.safetensors", **(FIELDS | {"recipe": {"rate": torch.tensor(1.0)}}))
    with pytest.raises(ValueError, match="JSON cannot hold"):
        weights.save(tensors, tmp_path / "a.safetensors", **(FIELDS | {"metric": {"psnr_db": float("nan")}}))
    assert list(tmp_path.iterdir()) == []


def test_failed_first_save_leaves_nothing(tmp_path, tensors, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        weights.save(tensors, tmp_path / "a.safetensors", **FIELDS)
    assert list(tmp_path.iterdir()) == []


def test_own_weights_in_the_cache_win_over_shipped_ones(tmp_path, monkeypatch, tensors):
    monkeypatch.setattr(weights, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setenv("HARMONY_CACHE", str(tmp_path / "cache"))
    with pytest.raises(FileNotFoundError, match=r"hail-lite\.paper\.quick\.safetensors: found in .*make weights"):
        weights.shipped("hail_lite", "paper", "quick")
    name = "hail-lite.paper.quick.safetensors"
    weights.save(tensors, tmp_path / "shipped" / name, **FIELDS)
    assert weights.shipped("hail_lite", "paper", "quick") == tmp_path / "shipped" / name
    weights.save(tensors, tmp_path / "cache" / "weights" / name, **FIELDS)
    assert weights.shipped("hail-lite", "paper", "quick") == tmp_path / "cache" / "weights" / name


def test_commit_is_unknown_outside_a_checkout_and_named_inside(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "__file__", str(tmp_path / "weights.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert weights.current_commit() == "unknown"
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", str(tmp_path)]
    (tmp_path / "weights.py").write_text("first")
    for command in (["init", "-q"], ["add", "weights.py"], ["commit", "-q", "-m", "first"], ["tag", "v1"]):
        subprocess.run([*git, *command], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert weights.current_commit() == head
    (tmp_path / "weights.py").write_text("second")
    assert weights.current_commit() == f"{head}-dirty"


def test_a_card_cannot_be_changed(tmp_path, tensors):
    card = weights.save(tensors, tmp_path / "a.safetensors", **FIELDS)
    with pytest.raises(dataclasses.FrozenInstanceError):
        card.sha256 = "0"


def test_hardware_names_torch():
    assert torch.__version__ in weights.current_hardware()


def test_every_shipped_file_has_its_card_and_is_small():
    for path in weights.SHIPPED.glob("*.safetensors"):
        _, card = weights.load(path)
        assert path.stat().st_size <= weights.SIZE_LIMIT == 10_000_000
        assert (card.converged is None) == (not card.curves), path.name
        assert all(1 <= len(curve["points"]) <= 20 for curve in card.curves.values())
    files = [path for path in weights.SHIPPED.iterdir() if path.suffix != ".py"]
    assert sum(path.stat().st_size for path in files) <= weights.TOTAL_LIMIT == 100_000_000


@dataclasses.dataclass(frozen=True)
class Sizes:
    width: int = 4
    epochs: tuple = (3, 5)
    of: object = len


def test_settings_go_round_through_a_card(tensors, tmp_path):
    chosen = Sizes(8, (1, 2), max)
    path = tmp_path / "a.safetensors"
    weights.save(tensors, path, **FIELDS | {"settings": weights.settings_to_store(chosen)})
    _, card = weights.load(path)
    assert card.settings == {"width": 8, "epochs": [1, 2]}
    assert weights.settings_as_stored(Sizes(of=max), card.settings) == chosen
    with pytest.raises(ValueError, match="settings: found depth, width, wanted epochs, width"):
        weights.settings_as_stored(Sizes(), {"width": 8, "depth": 2})
