"""The ledger: rows from the papers' files and from results, the same on the command line and in the book's pages."""

import json
import re
from importlib import import_module

import pytest

from harmony_lite import cli, ledger
from harmony_lite.ledger import pages as ledger_pages
from harmony_lite.papers.published import load
from harmony_lite.papers.published import names as papers

KEYS = {"paper", "id", "place", "claim", "rule", "published", "ours", "profile", "verdict", "reason"}
MADE = {"commit": "c", "hardware": "h", "date": "2026-01-01"}
FRONT = "\n".join(("# The ledger", *ledger_pages.MARKERS))


def entry(row="HM", condition="Exp", **more):
    return {
        "place": "Table 1", "measure": "psnr", "row": row, "condition": condition, "tier": "i",
        "method": "histogram-matching", "variant": "slice", "by": "", "weights": "", "mean": 27.123, "low": 26.5,
        "high": 27.75, "values": [26.5, 27.75], **more,
    }  # fmt: skip


def file_of(folder):
    (folder / "blindharmony").mkdir(exist_ok=True)
    return folder / "blindharmony" / "results.quick.json"


def stored(folder, *cells, **finding):
    """Results with some cells and, where a finding is given, a verdict on BlindHarmony's first claim."""
    claim = load("blindharmony").claims[0].id
    numbers = {"mean": 1.5, "low": 1.0, "high": 2.0, "people": 16, "comparisons": 2, "held": 2, "weakest": "x"}
    content = {"made": MADE, "rows": list(cells), "claims": {claim: numbers | finding} if finding else {}}
    file_of(folder).write_text(json.dumps(content))
    return claim


def test_every_claim_and_cell_has_a_row_and_none_a_number_without_a_result(tmp_path):
    found = ledger.rows("quick", tmp_path)
    assert sum(bool(row.claim) for row in found) == sum(len(load(paper).claims) for paper in papers())
    cells = [cell for paper in papers() for table in ledger.printed_tables(load(paper)) for cell in table.cells]
    assert [row.id for row in found if not row.claim] == [cell.name for cell in cells] and len(cells) > 600
    assert all(row.verdict is None and row.ours is None and row.reason for row in found)
    without_cells = {claim.id for paper in papers() for claim in load(paper).claims if not claim.cells}
    assert {row.id for row in found if row.reason != "not computed yet"} == without_cells


def test_every_claim_of_the_five_papers_has_a_verdict_or_the_reason_why_it_can_have_none():
    """A picture without a number is drawn in a notebook; words alone are quoted."""
    found = {(row.paper, row.id): row for row in ledger.rows("quick") if row.claim}
    assert {paper for paper, _ in found} == set(papers()) and len(papers()) == 5
    reasons = {name: row.reason for (_, name), row in found.items() if row.verdict is None}
    assert all(
        re.match(r"a picture without a number \(.+\); drawn in \d\d_|told in words alone: ", r)
        for r in reasons.values()
    )
    assert set(reasons) == {claim.id for paper in papers() for claim in load(paper).claims if not claim.cells}
    assert reasons["gan-fails-to-converge"].startswith("told in words alone: two scans")


def test_a_result_gives_its_claim_a_verdict(tmp_path):
    claim = stored(tmp_path, verdict="holds here")
    row = next(row for row in ledger.rows("quick", tmp_path) if row.id == claim)
    assert row.verdict == "holds here" and row.ours["mean"] == 1.5 and row.reason == ""
    assert "1 with a verdict" in ledger.text(ledger.rows("quick", tmp_path))
    assert all(row.verdict is None for row in ledger.rows("full", tmp_path))


@pytest.mark.parametrize("paper", papers())
def test_a_notebook_shows_the_verdicts_of_the_command_line(paper):
    table = ledger.verdict_table(paper, "quick")
    decided = {row.id: row for row in ledger.rows("quick") if row.paper == paper and row.verdict}
    assert list(table.index) == list(decided)
    for name, line in table.iterrows():
        row = decided[name]
        assert line.tolist()[:2] == [row.claim, row.verdict]
        assert line["comparisons that hold"] == f"{row.ours['held']} of {row.ours['comparisons']}"
        assert line["the one nearest to failing"].startswith(f"{row.ours['mean']:+.2f} [")


def test_a_result_stands_beside_its_cell_and_rows_of_our_own_follow(tmp_path):
    stored(tmp_path, entry(), entry("affine-match (volume)"))
    found = {row.id: row for row in ledger.rows("quick", tmp_path) if row.paper == "blindharmony"}
    printed, own = found["Table 1 | psnr | HM | Exp"], found["Table 1 | psnr | affine-match (volume) | Exp"]
    assert printed.rule == "printed value" and printed.published == {printed.id: 26.5}
    assert own.rule == "not in the paper" and own.published == {}
    assert printed.ours["mean"] == own.ours["mean"] == 27.123 and printed.ours["people"] == 2
    shown = ledger.text(list(found.values()))
    assert re.search(r"HM \| Exp +printed +26.5  here 27.1 \[26.5, 27.8\]  tier \(i\)", shown)


def test_results_that_do_not_fit_are_refused(tmp_path):
    stored(tmp_path, verdict="reproduced")
    with pytest.raises(ValueError, match="found the verdict 'reproduced', wanted one of"):
        ledger.rows("quick", tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "found text that is not JSON"),
        ("[1, 2]", "found results without made, rows, claims"),
        ('{"made": {}, "claims": {}}', "found results without rows, wanted made, rows, claims"),
        ('{"made": {}, "rows": {}, "claims": {}}', "found rows or claims of the wrong kind"),
        ('{"made": {}, "rows": [], "claims": {"made-up": {"verdict": "undecided"}}}', "found the claim 'made-up'"),
        (
            json.dumps({"made": {}, "rows": [{"place": "Table 1"}], "claims": {}}),
            "row 1: found measure, row",
        ),
        (json.dumps({"made": {}, "rows": [entry(), entry(mean="high")], "claims": {}}), "row 2: found mean missing or"),
        (json.dumps({"made": {}, "rows": [entry(values=["x"])], "claims": {}}), "row 1: found values missing or"),
        (json.dumps({"made": {}, "rows": [3], "claims": {}}), "row 1: found int, wanted a dictionary"),
    ],
)
def test_a_malformed_file_names_itself_and_what_is_wrong(tmp_path, text, message):
    file_of(tmp_path).write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        ledger.results("blindharmony", "quick", tmp_path)
    assert "blindharmony/results.quick.json" in str(raised.value)
    with pytest.raises(ValueError, match=re.escape(message)):
        ledger.rows("quick", tmp_path)


def test_the_folder_is_taken_when_called(tmp_path, monkeypatch):
    stored(tmp_path, entry())
    monkeypatch.setattr(import_module("harmony_lite.ledger.results"), "FOLDER", tmp_path)
    assert len(ledger.results("blindharmony", "quick")["rows"]) == 1


def test_the_command_line_prints_what_the_rows_say(capsys):
    assert cli.main(["ledger", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [row["id"] for row in printed] == [row.id for row in ledger.rows()]
    assert all(set(row) == KEYS for row in printed)
    assert cli.main(["ledger"]) == 0
    shown = capsys.readouterr().out
    assert all(f"{paper}: " in shown for paper in papers())


def test_the_pages_show_what_the_command_line_prints(capsys):
    """Every verdict, and every computed cell with its interval, of every paper."""
    assert cli.main(["ledger"]) == 0
    printed = capsys.readouterr().out
    pages = ledger_pages.pages(FRONT)
    compared = 0
    for row in ledger.rows():
        page = pages["ledger.md" if row.paper == ledger.REAL_PAIR else f"ledger_{row.paper}.md"].replace("**", "")
        if row.claim:
            assert f"| {row.claim} | {row.place} | " in page and row.claim in printed
            assert f"| {row.place} | {row.verdict or f'*{row.reason}*'} |" in page
            if row.ours:
                numbers = ledger.finding_shown(row.ours)
                assert numbers in printed and numbers.replace(" | ", " · ") in page
        elif row.ours:
            numbers = ledger.shown(row.ours, ledger.decimals(row.paper, row.place, row.id.split(" | ")[1]))
            assert numbers in page and re.search(f"{re.escape(row.id)} +printed .* here {re.escape(numbers)}", printed)
            compared += 1
    assert compared > 500


def test_the_command_line_prints_one_paper_and_refuses_another(capsys):
    assert cli.main(["ledger", "hail"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("hail: ") and "blindharmony" not in shown
    assert re.search(r"rAVD\(GM\) \| Liu et al\. \| A to B +printed +12\.05 +here \d", shown)
    nothing = ledger.text([row for row in ledger.rows("full") if row.paper == "hail"])
    assert "Liu et al.: printed A to B 12.05" in nothing  # what is not computed is printed too
    assert cli.main(["ledger", "dreams"]) == 2
    assert "found 'dreams', wanted one of" in capsys.readouterr().err


def test_pages_of_an_empty_ledger_say_so(tmp_path):
    pages = ledger_pages.pages(FRONT, "quick", tmp_path)
    assert set(pages) == {"ledger.md", *(f"ledger_{paper}.md" for paper in papers())}
    assert all("not computed yet" in page for page in pages.values())
    assert not any(marker in pages["ledger.md"] for marker in ledger_pages.MARKERS)
    assert "29.6" in pages["ledger_blindharmony.md"]  # printed numbers stand there all the same


def test_a_front_page_without_a_marker_is_refused(tmp_path):
    with pytest.raises(ValueError, match="found 0 times <!-- ledger:papers -->"):
        ledger_pages.pages(FRONT.replace("<!-- ledger:papers -->", ""), "quick", tmp_path)


def test_tables_are_well_formed():
    """Each line of a Markdown table has as many cells as its head."""
    for page in ledger_pages.pages(FRONT).values():
        width = None
        for line in page.splitlines():
            width = None if not line.startswith("|") else line.count("|") if width is None else width
            assert width is None or line.count("|") == width, line
