"""A user's own scans, from a file or a folder to harmonized files that say how they came about.

In reading order: `job.py` (what is done to each scan), `found.py` (which files of a folder are scans), `prepared.py`
(a method ready for scans), `one_scan.py` (a scan in and out), `remarks.py` (what is odd about a scan), `records.py`
(the JSON beside a result, and what a rerun may leave alone), `side_by_side.py` and `cluster.py` (many scans at once, in
processes and on several machines), `folder.py` (all of it for a folder), `quality.py` and `quality_page.py` (the page
that shows what happened). `training.py` fits a method to a folder.
"""
