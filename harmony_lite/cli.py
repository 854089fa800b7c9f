"""The command line: `harmony-lite simulate | methods | harmonize | evaluate | ledger`.

Exit status: 0 done, 2 the user's mistake (one line on standard error, no output file), 1 a fault of the program (with
its traceback). Libraries that take long to import are imported by the command that uses them, so `--help` is quick.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from harmony_lite import __version__, command_arguments, command_help
from harmony_lite.interruption import terminated_as_interrupted

if TYPE_CHECKING:
    from harmony_lite.methods import Harmonizer
    from harmony_lite.own_scans.job import Outcome

__all__ = ["main"]

PROGRAM = "harmony-lite"


class UsageError(ValueError):
    """What was typed cannot be understood."""


class _Parser(argparse.ArgumentParser):
    """argparse, but a mistake becomes one line rather than a page of usage."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit status.

    Args:
        argv: the arguments after the program's name; those of the process when None.
    """
    try:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # a terminal without the letters of a file's name
        arguments = _parser().parse_args(argv)
        arguments.typed = sys.argv[1:] if argv is None else list(argv)
        logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # its remarks on odd headers
        with terminated_as_interrupted():
            return arguments.run(arguments)
    except BrokenPipeError:
        # the reader of our output has gone (`harmony-lite methods | head -1`); keep the interpreter quiet at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:  # OSError: no room, no permission; nothing that we could mend
        return _complain(error)
    except KeyboardInterrupt:
        return _complain("interrupted; no file was left half written, and what was finished stays")


def simulate(arguments: argparse.Namespace) -> int:
    """`harmony-lite simulate`: people x scanners into a new folder."""
    out: Path = arguments.out
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out}: found a file, wanted a new or an empty folder")
    if out.is_dir() and any(out.iterdir()):
        raise ValueError(f"{out}: found a folder that is not empty, wanted a new or an empty one")
    if not out.resolve().parent.is_dir():
        raise FileNotFoundError(f"{out}: found no folder {out.resolve().parent}, wanted one that exists")
    from harmony_lite.cohort import Cohort
    from harmony_lite.profiles import active

    spacing = active().spacing if arguments.spacing is None else arguments.spacing
    asked = {"spacing": spacing, "seed": arguments.seed}
    Cohort.simulate(arguments.subjects, arguments.scanners, **asked)  # says what is wrong before a folder is made
    with _folder_written_whole(out) as part:
        Cohort.simulate(arguments.subjects, arguments.scanners, **asked, jobs=arguments.jobs).to_files(part)
    print(f"{out}: {arguments.subjects} subjects on {', '.join(arguments.scanners)} at {spacing:g} mm")
    return 0


def methods(arguments: argparse.Namespace) -> int:
    """`harmony-lite methods`: names, what each may see when it is fitted, variants, whether weights are at hand."""
    from harmony_lite.methods import method_class, names

    rows = []
    for name in names():
        cls = method_class(name)
        ready = [variant for variant in cls.variants if _has_weights(cls, variant)]
        rows.append({"name": name, "needs": str(cls.needs), "variants": list(cls.variants), "shipped": ready})
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return 0
    table = [("method", "sees when fitted", "grid", "variants", "shipped")]
    for row in rows:
        grid = "the model's" if method_class(row["name"]).on_template_grid else "any"
        table.append((row["name"], row["needs"], grid, ", ".join(row["variants"]), ", ".join(row["shipped"]) or "-"))
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def train(arguments: argparse.Namespace) -> int:
    """`harmony-lite train`: a method fitted to a folder of scans."""
    from harmony_lite.own_scans.training import Recipe, train_on_folder

    names = ("method", "cohort", "variant", "target", "held_out", "out")
    trained = train_on_folder(Recipe(**{name: getattr(arguments, name) for name in names}))
    print(f"{trained.path}: {trained.used}")
    for name, value in trained.metric.items():
        print(f"people held out, {name}: {value:g}")
    return 0


def harmonize(arguments: argparse.Namespace) -> int:
    """`harmony-lite harmonize`: one file, or every scan of a folder."""
    from harmony_lite.images import nifti
    from harmony_lite.own_scans.folder import harmonize_folder
    from harmony_lite.own_scans.job import Job, Task
    from harmony_lite.own_scans.one_scan import harmonize_scan
    from harmony_lite.own_scans.prepared import prepare

    source, out = arguments.input, arguments.output
    if arguments.reference_mask is not None and arguments.reference is None:
        raise UsageError("--reference-mask: found no --reference, wanted the scan that it belongs to")
    names = ("method", "variant", "reference", "reference_mask", "scanner", "weights", "adapt_on")
    chosen = {name: getattr(arguments, name) for name in names}
    job = Job(**chosen, report=arguments.report is not None, command=shlex.join([PROGRAM, *arguments.typed]))
    if arguments.report is not None:
        from harmony_lite.own_scans.quality_page import check_page_place

        check_page_place(arguments.report)
    if not source.exists():
        raise FileNotFoundError(f"{source}: found no such file or folder, wanted a NIfTI scan or a folder of them")
    if source.is_dir() and arguments.mask is not None:
        raise ValueError(
            f"--mask {arguments.mask}: found one mask for the folder {source}, wanted it with a single scan only; "
            "masks beside the scans are taken by themselves"
        )
    if not source.is_dir():
        nifti.check_destination(out, source, job.reference, job.reference_mask, arguments.mask)
        prepared = prepare(job)
        outcome = harmonize_scan(prepared, Task(source, out, arguments.mask), job, progress=True)
        for remark in outcome.remarks:
            _remark(f"{source}: {remark}")
        print(f"{out}: {source} by {prepared.used}")
        _write_report(arguments.report, prepared.used, [outcome])
        return 0
    options = {name: getattr(arguments, name) for name in ("jobs", "scheduler", "suffix", "force")}
    summary = harmonize_folder(job, source, out, **options)
    for failure in summary.failures:
        _complain(failure)
    there = f", {summary.up_to_date} were there" if summary.up_to_date else ""
    print(f"{out}: {summary.done} of {summary.total} scans by {summary.used}{there}")
    if summary.found.left_out_line:
        print(f"left out: {summary.found.left_out_line}")
    if summary.warned:
        print(f"warnings: {summary.warned}; the JSON beside each result says more")
    if summary.failures:
        print(f"failed: {len(summary.failures)} of {summary.total}, listed above; the next run tries them again")
    _write_report(arguments.report, summary.used, summary.outcomes, summary.found.broken)
    return 2 if summary.failures else 0


def evaluate(arguments: argparse.Namespace) -> int:
    """`harmony-lite evaluate`: four measures of two scans on one grid."""
    from harmony_lite.evaluate.report import measured
    from harmony_lite.images import nifti
    from harmony_lite.images.normalize import foreground

    harmonized, reference = nifti.read(arguments.harmonized), nifti.read(arguments.reference)
    nifti.check_same_grid(harmonized, reference, "harmonized scan")
    mask = nifti.read_mask(arguments.mask, reference) if arguments.mask else None
    mask = foreground(reference.volume) if mask is None else mask
    values = measured(harmonized.volume, reference.volume, mask)
    if arguments.json:
        # JSON has no infinity: the PSNR of two equal images becomes null
        finite = {name: value if abs(value) < float("inf") else None for name, value in values.items()}
        print(json.dumps(finite, indent=2))
        return 0
    units = {"psnr": "dB"}
    for name, value in values.items():
        print(f"{name:<12} {value:8.4f} {units.get(name, '')}".rstrip())
    return 0


def ledger(arguments: argparse.Namespace) -> int:
    """`harmony-lite ledger`: claims with their verdicts, and the cells of the tables that were computed here."""
    from harmony_lite.ledger import as_json, rows, text
    from harmony_lite.papers.published import load

    wanted = {load(paper).name for paper in arguments.papers}
    found = [row for row in rows() if not wanted or row.paper in wanted]
    print(as_json(found) if arguments.json else text(found))
    return 0


def _has_weights(cls: type[Harmonizer], variant: str) -> bool:
    try:
        cls.shipped_weights(variant)
    except FileNotFoundError:
        return False
    return True


@contextmanager
def _folder_written_whole(out: Path) -> Iterator[Path]:
    """A hidden folder whose content is `out`'s at the end; removed when anything goes wrong.

    It lies beside a new folder and is renamed to it. It lies in a folder that is there already, which may be a mounted
    one, or the working folder, or have a parent where nothing may be written.
    """
    was_there = out.is_dir()
    part = (out if was_there else out.parent).resolve() / f".part-{out.resolve().name}-{os.getpid()}"
    try:
        try:
            part.mkdir()
        except OSError as error:
            raise ValueError(f"{out}: found a place that cannot be written ({error.strerror}), wanted one") from error
        (content := part / "content").mkdir()
        yield content
        if was_there:
            for path in content.iterdir():
                os.replace(path, out / path.name)
        else:
            os.replace(content, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_report(path: Path | None, used: str, outcomes: Sequence[Outcome], broken: Sequence[str] = ()) -> None:
    """The quality page, where one was asked for."""
    if path is not None:
        from harmony_lite.own_scans.quality_page import write_page

        print(f"{write_page(path, used, outcomes, broken)}: the quality page")


def _remark(text: str) -> None:
    print(f"{PROGRAM}: warning: {' '.join(text.split())}", file=sys.stderr)


def _complain(error: BaseException | str) -> int:
    print(f"{PROGRAM}: error: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROGRAM,
        description=command_help.DESCRIPTION,
        epilog=command_help.EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, run: Any, text: str, examples: str = "") -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=text.strip().splitlines()[0].rstrip("."),
            description=text,
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.set_defaults(run=run)
        return command

    command_arguments.simulate(add("simulate", simulate, command_help.SIMULATE, command_help.SIMULATE_EXAMPLES))
    listing = add("methods", methods, "List the methods: what each sees when it is fitted, its variants, its weights.")
    listing.add_argument("--json", action="store_true", help="as JSON")
    command_arguments.train(add("train", train, command_help.TRAIN, command_help.TRAIN_EXAMPLES))
    command_arguments.harmonize(add("harmonize", harmonize, command_help.HARMONIZE, command_help.HARMONIZE_EXAMPLES))
    command_arguments.evaluate(add("evaluate", evaluate, command_help.EVALUATE, command_help.EVALUATE_EXAMPLES))
    claims = add("ledger", ledger, "Print what five papers claim and print, and what comes out here.")
    claims.add_argument("papers", nargs="*", metavar="PAPER", help="short names of papers (default: all five)")
    claims.add_argument("--json", action="store_true", help="as JSON: a list of rows")
    return parser


if __name__ == "__main__":
    sys.exit(main())
