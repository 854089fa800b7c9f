"""Minutes on a GPU, tried out on the CPU in the tiny profile: run, cut off, gone on with, adopted or refused."""

import hashlib
import importlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from harmony_lite import profiles, weights

SCRIPTS = Path(__file__).parents[1] / "data_scripts"
RECIPES = ("blindharmony.ours", "white-matter-unet.target")


def start(out, *more):
    """The script as a user calls it, in the tiny profile."""
    command = [sys.executable, SCRIPTS / "train_on_gpu.py", out, "--device", "cpu", "--jobs", 2, *more]
    environment = {**os.environ, "HARMONY_PROFILE": "tiny", "TQDM_DISABLE": "1"}
    options = {"env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    # a shell starts what runs in its background with SIGINT ignored, and the tests may run there
    options["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen([*map(str, command)], **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """OUT of a run that was interrupted in its second recipe and called again, and what both runs said."""
    out = tmp_path_factory.mktemp("gpu") / "out"
    asked = ("--minutes", "1", "--recipes", "blindharmony,white-matter-unet")
    first, said = start(out, *asked), ""
    while "white-matter-unet.target: " not in said and (line := first.stdout.readline()):
        said += line
    time.sleep(0.5)  # the second recipe's process is there, and still imports what it needs: seconds
    first.send_signal(signal.SIGINT)
    said += first.stdout.read()
    first.wait()
    card = members(out / "blindharmony.tar")["blindharmony.ours.json"]
    again = start(out, *asked)
    return out, said, first.returncode, card, again.communicate()[0], again.returncode


def members(path):
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar.getmembers()}


def test_a_run_that_is_cut_off_keeps_what_is_done_and_says_what_is_left(trained):
    _, said, code, _, _, _ = trained
    assert code == 1, said
    assert "blindharmony.ours: done" in said and "stopped; call again with the same OUT" in said
    assert "white-matter-unet.target         -  not finished" in said and "Traceback" not in said


def test_a_second_call_trains_what_is_left_and_nothing_else(trained):
    out, _, _, card, said, code = trained
    assert code == 0, said
    assert "white-matter-unet.target: done" in said and "blindharmony.ours:" not in said
    assert members(out / "blindharmony.tar")["blindharmony.ours.json"] == card
    assert [path.name for path in (out / "unfinished").iterdir()] == ["lock"]


def test_what_comes_back_is_few_small_files(trained):
    out = trained[0]
    files = [path for path in out.iterdir() if path.is_file()]
    assert {path.name for path in files} == {"blindharmony.tar", "white-matter-unet.tar", "pictures.png"}
    assert all(path.stat().st_size <= 16 * 2**20 for path in files)
    page = Image.open(out / "pictures.png")
    assert page.width > 300 and len(np.unique(np.asarray(page.convert("L")))) > 50


@pytest.mark.parametrize("recipe", RECIPES)
def test_cards_say_all_there_is_to_say(trained, recipe):
    found = members(trained[0] / f"{recipe.partition('.')[0]}.tar")
    card = weights.Card(**json.loads(found[f"{recipe}.json"]))
    assert card.sha256 == hashlib.sha256(found[f"{recipe}.safetensors"]).hexdigest()
    assert (card.profile, card.data_seed, card.recipe["name"]) == ("tiny", profiles.TINY.seed, recipe)
    assert card.settings["training_steps"] == 20 and card.recipe["people"] == profiles.TINY.train_subjects
    (curve,) = card.curves.values()
    assert curve["points"][-1][0] == 20 and len(curve["points"]) == 20 and isinstance(card.converged, bool)
    assert card.fingerprint is None and "32-true" in card.precision and card.minutes > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipes", "unet,biggan"], "--recipes: found 'biggan', wanted some of age-network.target"),
        (["--minutes", "0"], "found --minutes 0 and --jobs 2, wanted numbers above 0"),
        (["--device", "cuda"], "--device: found no GPU"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_begins(tmp_path, arguments, message):
    process = start(tmp_path / "out", *arguments)
    said = process.communicate()[0]
    assert process.returncode == 2 and message in said and not (tmp_path / "out").exists()


def test_steps_are_those_that_fit_into_the_time(monkeypatch, tmp_path):
    script = scripts("train_on_gpu", monkeypatch)
    recipe = script.trained_recipes()["blindharmony.ours"]
    monkeypatch.setattr(script, "time_of", lambda recipe, training, settings: 3 + 0.05 * settings["training_steps"])
    planned = script.planned(recipe, None, 43.0, tmp_path / "a.json")
    assert planned["training_steps"] == 800  # 3 s to start, 40 s for steps of 50 ms
    assert script.planned(recipe, None, 1e9, tmp_path / "a.json") == planned, "a plan is kept"
    assert script.planned(recipe, None, 1e9, tmp_path / "b.json")["training_steps"] == 2400
    both = {
        "flow": {"training_steps": 700, "sizes": {"widths": [8, 16]}},
        "network": {"training_steps": 1200},
        "share": 1,
    }
    half = {
        "flow": {"training_steps": 350, "sizes": {"widths": [8, 16]}},
        "network": {"training_steps": 600},
        "share": 1,
    }
    assert script.scaled(both, 0.5) == half, "parts of a method are scaled alike"
    assert script.share_of(both, 70) == 0.1, "the shortest part decides"
    mispel = script.trained_recipes()["mispel.paper"]
    monkeypatch.setattr(script, "time_of", lambda recipe, training, settings: 1 + 2.0 * settings["epochs"][0])
    assert script.planned(mispel, None, 37.0, tmp_path / "c.json")["epochs"] == [
        18,
        8,
    ]


# ------------------------------------------------------------------------------------------------------------ adoption


def scripts(name, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module(name)


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """An empty folder in place of the package's, so that nothing that is shipped is touched."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    monkeypatch.setattr(weights, "SHIPPED", folder)
    return folder


@pytest.fixture
def judge(trained, tmp_path):
    """OUT with the judge's weights and card as files."""
    out = tmp_path / "out"
    out.mkdir()
    for name, data in members(trained[0] / "white-matter-unet.tar").items():
        (out / name).write_bytes(data)
    return out


def test_weights_are_adopted_with_the_number_that_a_test_repeats(judge, shipped, monkeypatch, capsys):
    script = scripts("adopt_weights", monkeypatch)
    assert script.main([str(judge)]) == 0
    assert "white-matter-unet.target: " in capsys.readouterr().out
    path = shipped / "white-matter-unet.target.quick.safetensors"
    state, card = weights.load(path)
    assert load_file(path).keys() == state.keys() and card.profile == "tiny"
    recipe = script.trained_recipes()["white-matter-unet.target"]
    assert card.fingerprint == pytest.approx(recipe.fingerprint(recipe.people()[0], card.settings), rel=1e-3)
    assert recipe.untrained().load(path).settings.width == 3, "the network is as large as the card says"


def changed_card(folder, **changes):
    path = folder / "white-matter-unet.target.json"
    card = json.loads(path.read_text())
    for name, value in changes.items():
        card[name] = {**card[name], **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(card))


def renamed(folder):
    for suffix in ("json", "safetensors"):
        (folder / f"white-matter-unet.target.{suffix}").rename(folder / f"unet.maps.{suffix}")


def grown(folder):
    with open(folder / "white-matter-unet.target.safetensors", "ab") as file:
        file.write(bytes(10_000_000))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda out: changed_card(out, recipe={"name": "unet.maps"}), "found the card of the recipe 'unet.maps'"),
        (renamed, "unet.maps.safetensors: found the card of the recipe 'white-matter-unet.target'"),
        (lambda out: changed_card(out, sha256="0" * 64), "found weights with SHA-256"),
        (grown, "wanted at most 10,000,000"),
        (lambda out: changed_card(out, settings={"width": 4}), "found a network of another form"),
        (lambda out: changed_card(out, settings={"depth": 4}), "settings: found .*depth"),
        (lambda out: (out / "white-matter-unet.target.json").unlink(), "wanted the card of the weights"),
        (lambda out: [path.unlink() for path in out.iterdir()], "found no weights"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_replaced(judge, shipped, monkeypatch, capsys, harm, message):
    harm(judge)
    script = scripts("adopt_weights", monkeypatch)
    assert script.main([str(judge)]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert list(shipped.iterdir()) == []


def test_one_wrong_file_keeps_the_others_out(trained, shipped, tmp_path, monkeypatch):
    out = tmp_path / "two"
    out.mkdir()
    for tar in trained[0].glob("*.tar"):
        for name, data in members(tar).items():
            (out / name).write_bytes(data)
    changed_card(out, sha256="0" * 64)
    assert scripts("adopt_weights", monkeypatch).main([str(out)]) == 2
    assert list(shipped.iterdir()) == []


def test_tars_are_written_whole_and_never_too_large(tmp_path, monkeypatch):
    script = scripts("train_on_gpu", monkeypatch)
    path = tmp_path / "a.tar"
    script.add_to_tar(path, {"one": b"1"})
    script.add_to_tar(path, {"two": b"2"})
    assert script.members_of(path) == {"one": b"1", "two": b"2"}
    before = path.read_bytes()
    monkeypatch.setattr(script, "FILE_LIMIT", 20_000)
    with pytest.raises(ValueError, match="wanted at most 20,000"):
        script.add_to_tar(path, {"three": io.BytesIO(bytes(20_000)).getvalue()})
    assert path.read_bytes() == before
