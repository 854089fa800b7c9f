"""The quality page of a run: one HTML file without a script or an address, what changed most first.

A browser lays out and decodes a scan's pictures only when they come near the window, so a page of 1,000 scans opens.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import numpy as np

from harmony_lite import __version__
from harmony_lite.own_scans.job import Outcome
from harmony_lite.own_scans.quality import WINDOW, Look, Picture
from harmony_lite.storage import written_whole

__all__ = ["check_page_place", "write_page"]

STYLE = """
:root { color-scheme: light; --ink: #1c2330; --soft: #5b6472; --line: #d9dde3; --warm: #b24a00; --cool: #2166ac }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 1400px; padding: 1rem; color: var(--ink); background: #fff;
  font: 16px/1.5 system-ui, sans-serif }
h1 { font-size: 1.5rem; margin: 0 0 .25rem } h2 { font-size: 1.05rem; margin: 0; overflow-wrap: anywhere }
p { margin: .25rem 0 } header p { max-width: 90ch } .soft { color: var(--soft) }
.tiles { display: flex; flex-wrap: wrap; gap: .5rem; margin: 1rem 0; padding: 0; list-style: none }
.tiles li { border: 1px solid var(--line); border-radius: 6px; padding: .4rem .8rem } .tiles b { font-size: 1.3rem }
details { margin: .75rem 0 } summary { cursor: pointer; font-weight: 600 }
.scroll { max-height: 24rem; overflow: auto; border: 1px solid var(--line); border-radius: 6px }
table { border-collapse: collapse; width: 100%; font-size: .9rem }
th, td { padding: .25rem .6rem; text-align: left; border-bottom: 1px solid var(--line) }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
thead th { position: sticky; top: 0; background: #fff }
article { border-top: 1px solid var(--line); padding: 1rem 0; content-visibility: auto;
  contain-intrinsic-size: auto 420px }
.views { display: grid; gap: .75rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)) }
figure { margin: .5rem 0 0 } figcaption { font-size: .85rem; color: var(--soft) }
img { display: block; width: 100%; height: auto; background: #000 } img.difference { background: #fff }
.numbers { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; margin: .25rem 0; font-size: .95rem }
.warning { color: var(--warm) } .failed { color: var(--warm); overflow-wrap: anywhere }
svg { width: 100%; height: auto; max-width: 26rem } svg text { font: 11px system-ui, sans-serif; fill: var(--soft) }
"""


def check_page_place(path: Path) -> None:
    """Refuse a place where no page can be written, before any work is done (ValueError, FileNotFoundError)."""
    if path.suffix != ".html" or path.is_dir():
        raise ValueError(f"--report {path}: found no name of a page, wanted one that ends in .html")
    if not path.resolve().parent.is_dir():
        raise FileNotFoundError(f"--report {path}: found no folder {path.resolve().parent}, wanted one that exists")


def write_page(path: Path, used: str, outcomes: Sequence[Outcome], broken: Sequence[str] = ()) -> Path:
    """Write the quality page of a run; returns its path.

    Args:
        path: ends in .html.
        used: method, variant and weights, as one line.
        outcomes: of the scans, with their looks.
        broken: one line for each entry of the folder that could not be read.
    """
    check_page_place(path)
    looks = sorted((o.look for o in outcomes if o.look is not None), key=lambda look: -abs(look.changed))
    failures = [*(outcome.error for outcome in outcomes if outcome.error), *broken]
    with written_whole(path) as part, open(part, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.writelines(_page(used, looks, failures))
    return path


def _page(used: str, looks: Sequence[Look], failures: Sequence[str]) -> Iterator[str]:
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
    yield f"<title>Quality of {len(looks)} harmonized scans</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
    yield f"<header>\n<h1>{len(looks)} harmonized scans</h1>\n<p>By {escape(used)}; harmony-lite {__version__}.</p>\n"
    yield (
        "<p>Look at the first scans below: what changed most stands first. Each picture is scaled by the 1st and 99th "
        "percentile inside its own brain, so before and after may be compared, and a mere gain leaves no difference. "
        "Anatomy should be the same in both; an edge, a lesion or a fold that came or went is a fault.</p>\n"
    )
    yield from _tiles(looks, failures)
    yield "</header>\n<main>\n"
    if failures:
        yield f'<section>\n<h2>{len(failures)} without a result</h2>\n<ul class="failed">\n'
        yield from (f"<li>{escape(line)}</li>\n" for line in failures)
        yield "</ul>\n</section>\n"
    if len(looks) > 1:
        yield from _table(looks)
    for number, look in enumerate(looks):
        yield from _article(number, look)
    yield "</main>\n</body>\n</html>\n"


def _tiles(looks: Sequence[Look], failures: Sequence[str]) -> Iterator[str]:
    warned = sum(bool(look.remarks) for look in looks)
    tiles = [(f"{len(looks)}", "scans"), (f"{warned}", "with warnings"), (f"{len(failures)}", "without a result")]
    if looks:
        tiles.append((f"{min(look.ncc for look in looks):.3f}", "lowest correlation with the scan"))
        tiles.append((f"{max(abs(look.changed) for look in looks):.0%}", "largest change of the brain's range"))
    yield '<ul class="tiles">\n'
    yield from (f"<li><b>{value}</b> {name}</li>\n" for value, name in tiles)
    yield "</ul>\n"


def _table(looks: Sequence[Look]) -> Iterator[str]:
    yield '<details>\n<summary>All scans as a table</summary>\n<div class="scroll" tabindex="0"><table>\n<thead><tr>'
    yield '<th>scan</th><th class="number">change</th><th class="number">correlation</th><th class="number">detail</th>'
    yield '<th class="number">warnings</th></tr></thead>\n<tbody>\n'
    for number, look in enumerate(looks):
        numbers = (f"{look.changed:+.0%}", f"{look.ncc:.3f}", f"{look.detail:.3f}", f"{len(look.remarks)}")
        cells = "".join(f'<td class="number">{cell}</td>' for cell in numbers)
        yield f'<tr><td><a href="#scan-{number}">{escape(look.name)}</a></td>{cells}</tr>\n'
    yield "</tbody>\n</table></div>\n</details>\n"


def _article(number: int, look: Look) -> Iterator[str]:
    x, y, z = (f"{value:.0f}" for value in look.place)
    before, after = (" / ".join(f"{value:.4g}" for value in row) for row in look.percentiles)
    yield f'<article id="scan-{number}">\n<h2>{escape(look.name)}</h2>\n<p class="numbers">'
    yield f"<span>correlation with the scan <b>{look.ncc:.3f}</b></span> "
    yield f"<span>detail kept <b>{look.detail:.3f}</b></span> "
    yield f"<span>most changed: <b>{look.changed:+.0%}</b> of the range at {x}, {y}, {z} mm</span></p>\n"
    yield from (f'<p class="warning">Warning: {escape(remark)}</p>\n' for remark in look.remarks)
    yield '<div class="views">\n'
    yield _figure(look.before, "Before", "grey")
    yield _figure(look.after, "After", "grey")
    yield _figure(
        look.difference, f"Difference: orange brighter, blue darker, up to {WINDOW:.0%} of the range", "difference"
    )
    yield f"<figure>{_histograms(look)}<figcaption>1st / 50th / 99th percentile: before {before}, after {after}"
    yield "</figcaption></figure>\n</div>\n</article>\n"


def _figure(picture: Picture, caption: str, kind: str) -> str:
    width, height = picture.size
    data = base64.b64encode(picture.webp).decode()
    alt = escape(picture.alt, quote=True)
    return (
        f'<figure><img class="{kind}" loading="lazy" decoding="async" width="{width}" height="{height}" alt="{alt}" '
        f'src="data:image/webp;base64,{data}"><figcaption>{caption}</figcaption></figure>\n'
    )


def _histograms(look: Look) -> str:
    """Both histograms over the same scale as one drawing, labelled on the lines."""
    top = float(look.histograms.max()) or 1.0
    places = np.linspace(5, 315, look.histograms.shape[1])
    lines = []
    for row, colour, name, y in zip(
        look.histograms, ("#5b6472", "#b24a00"), ("before", "after"), (16, 30), strict=True
    ):
        points = " ".join(f"{x:.0f},{118 - 104 * share / top:.1f}" for x, share in zip(places, row, strict=True))
        dashes = ' stroke-dasharray="5 3"' if name == "before" else ""
        lines.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2"{dashes} points="{points}"/>')
        lines.append(f'<line x1="250" x2="272" y1="{y - 4}" y2="{y - 4}" stroke="{colour}" stroke-width="2"{dashes}/>')
        lines.append(f'<text x="276" y="{y}">{name}</text>')
    alt = f"Histograms inside the brain, before and after, overlapping by {np.minimum(*look.histograms).sum():.0%}."
    axis = '<line x1="5" x2="315" y1="118" y2="118" stroke="#d9dde3"/><text x="20" y="132">1st percentile</text>'
    axis += '<text x="232" y="132">99th percentile</text>'
    return f'<svg viewBox="0 0 320 136" role="img" aria-label="{alt}"><title>{alt}</title>{axis}{"".join(lines)}</svg>'
