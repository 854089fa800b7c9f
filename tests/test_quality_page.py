"""The quality page: what it shows and in what order, without a script or an address; and the numbers behind it."""

import io
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from heads import AFFINE, bare_brain, save
from PIL import Image

from harmony_lite import cli
from harmony_lite.own_scans.job import Outcome, Task
from harmony_lite.own_scans.quality import detail_kept, look
from harmony_lite.own_scans.quality_page import write_page


class Read(HTMLParser):
    """Elements by their tags, and tags that are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self.open = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "link", "line", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def volumes():
    brain, inside = bare_brain(4.0, 2)
    return [torch.from_numpy(np.asarray(array))[None, None] for array in (brain.astype(np.float32), inside)]


@pytest.fixture(scope="module")
def shown(volumes):
    """A result that is the scan times three, but 20 % of its range brighter in a ball of 12 mm."""
    scan, mask = volumes
    places = np.argwhere(np.ones(scan.shape[2:])) @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    ball = torch.from_numpy((np.linalg.norm(places - [20, 10, 15], axis=1) < 12).reshape(scan.shape))
    low, high = np.percentile(scan[mask], [1, 99])
    return look(scan, 3 * (scan + 0.2 * (high - low) * ball), mask, AFFINE)


def test_a_gain_is_no_change(volumes):
    scan, mask = volumes
    seen = look(scan, 3 * scan + 7, mask, AFFINE)
    assert abs(seen.changed) < 1e-5 and seen.ncc == pytest.approx(1) and seen.detail == pytest.approx(1)
    np.testing.assert_allclose(seen.percentiles[1], 3 * seen.percentiles[0] + 7, rtol=1e-5)
    np.testing.assert_allclose(*seen.histograms, atol=2e-3)


def test_what_changed_most_is_found(shown):
    assert 0.1 < shown.changed < 0.25 and np.linalg.norm(np.subtract(shown.place, [20, 10, 15])) < 12
    assert "brighter" in shown.difference.alt
    for picture in (shown.before, shown.after, shown.difference):
        assert Image.open(io.BytesIO(picture.webp)).size == picture.size and len(picture.alt) > 20
    colours = np.asarray(Image.open(io.BytesIO(shown.difference.webp)).convert("RGB")).astype(int)
    orange = (colours[..., 0] - colours[..., 2] > 60).mean()
    blue = (colours[..., 2] - colours[..., 0] > 60).mean()
    assert orange > 10 * blue


def test_detail_is_what_a_blur_takes(volumes):
    from scipy import ndimage

    scan, mask = volumes
    blurred = torch.from_numpy(ndimage.gaussian_filter(scan[0, 0].numpy(), 1.0))[None, None]
    assert detail_kept(scan, scan * 2, mask) == pytest.approx(1)
    assert detail_kept(scan, blurred, mask) < 0.9


def test_the_page_needs_nothing_else_and_tells_everything(tmp_path, shown):
    task = Task(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz")
    small = replace(shown, changed=0.01, name="calm")
    large = replace(shown, changed=-0.4, name="<script>alert(1)</script> & co", remarks=("contrast: odd & <b>",))
    outcomes = [
        Outcome(task, None, (), small),
        Outcome(task, None, large.remarks, large),
        Outcome(task, "c.nii.gz: found nothing, wanted <something>"),
    ]
    path = write_page(tmp_path / "page.html", "nyul, variant volume", outcomes, ["d: found a link to nothing"])
    text = path.read_text(encoding="utf-8")
    page = Read(text)
    assert not page.open, "each element is closed"
    assert "http" not in text and not page.all("script") and not page.all("iframe")
    images = page.all("img")
    assert len(images) == 6
    for image in images:
        assert len(image["alt"]) > 20 and image["loading"] == "lazy" and image["src"].startswith("data:image/webp;")
        assert int(image["width"]) > 0 and int(image["height"]) > 0
    assert all(len(drawing["aria-label"]) > 20 for drawing in page.all("svg")) and len(page.all("svg")) == 2
    said = " ".join(page.text)
    assert said.index("<script>alert(1)</script> & co") < said.index("calm", said.index("All scans as a table") + 400)
    for line in (
        "Warning: contrast: odd & <b>",
        "wanted <something>",
        "a link to nothing",
        "2 without a result",
    ):
        assert line in said
    assert "-40%" in said
    assert page.all("html")[0]["lang"] == "en" and page.all("meta")[1]["name"] == "viewport"


def test_a_thousand_scans_are_one_page(tmp_path, shown):
    task = Task(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz")
    outcomes = [Outcome(task, None, (), replace(shown, name=f"scan {number}")) for number in range(1000)]
    path = write_page(tmp_path / "page.html", "nyul", outcomes)
    assert path.stat().st_size < 60e6
    assert "content-visibility: auto" in path.read_text()


def test_a_page_by_the_command_line_and_of_results_that_were_there(tmp_path, capsys):
    for number in range(3):
        save(tmp_path / f"in/sub-0{number}_T1w.nii.gz", bare_brain(1.0 + number, number)[0])
    call = ["harmonize", "--method", "percentile", str(tmp_path / "in"), str(tmp_path / "out"), "--report"]
    pages = []
    for name in ("first.html", "second.html"):
        assert cli.main([*call, str(tmp_path / name)]) == 0
        pages.append((tmp_path / name).read_text())
    assert "0 of 3 scans" in capsys.readouterr().out and pages[0] == pages[1]
    assert pages[0].count("<article") == 3
    for wrong, message in (("page.txt", "wanted one that ends in .html"), ("no/page.html", "found no folder")):
        assert cli.main([*call, str(tmp_path / wrong)]) == 2
        assert message in capsys.readouterr().err
