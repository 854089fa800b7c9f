"""People x scanners: the one thing that methods are given.

`Cohort` (people.py) answers who, where and what; what a method may see of it stands in views.py. Its people come from a
`Source` (source.py): simulated.py, files.py, or another source whose scans are changed, changed.py. side_by_side.py
makes scans with several processes.
"""

from harmony_lite.cohort.people import Cohort
from harmony_lite.cohort.side_by_side import make_scans
from harmony_lite.cohort.views import Needs, OneReference, Paired, Scans, SeveralScanners, TargetOnly, Unpaired, View

__all__ = [
    "Cohort",
    "Needs",
    "OneReference",
    "Paired",
    "Scans",
    "SeveralScanners",
    "TargetOnly",
    "Unpaired",
    "View",
    "make_scans",
]
