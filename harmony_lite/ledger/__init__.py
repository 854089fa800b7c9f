"""The ledger: what five papers print and claim, beside what comes out here.

In reading order: verdicts.py (what becomes of a claim), results.py (what was measured, as files), rows.py (printed and
own numbers side by side), pages.py (the same for the book), real_pair.py (the one pair of real scans, which belongs to
no paper).
"""

from harmony_lite.ledger.results import cell_name, real_pair_results, results
from harmony_lite.ledger.rows import (
    NOT_COMPUTED,
    OWN_ROW,
    PRINTED,
    REAL_PAIR,
    Row,
    as_json,
    as_printed,
    decimals,
    finding_shown,
    printed_tables,
    rows,
    shown,
    text,
    verdict_table,
)

__all__ = [
    "NOT_COMPUTED",
    "OWN_ROW",
    "PRINTED",
    "REAL_PAIR",
    "Row",
    "as_json",
    "as_printed",
    "cell_name",
    "decimals",
    "finding_shown",
    "printed_tables",
    "real_pair_results",
    "results",
    "rows",
    "shown",
    "text",
    "verdict_table",
]
