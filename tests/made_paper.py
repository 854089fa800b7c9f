"""A paper's printed numbers, made for tests: small, and one of every kind of thing that a file may hold."""

NAME = "throwaway"
TOML = """
[paper]
number = 90
name = "throwaway"
short = "Throw Away"
title = "A paper that is made for a test"
authors = ["Nobody"]
venue = "nowhere"
year = 2026
identifier = ""

[hyperparameters]
rate = { value = 1, place = "section 1", about = "nothing" }

[methods]
"ours" = "throwaway-gain"

[conditions]
"Vision" = ["oasis_vision"]

[[table]]
place = "Table 1"
title = "PSNR"

[[table.measure]]
name = "psnr"
unit = "dB"
better = "higher"

[table.measure.values]
"ours" = { "Vision" = 20.5 }
"theirs" = { "Vision" = 19.5 }

[table.measure.starred]
"ours" = ["Vision"]

[[claim]]
id = "ours-better"
place = "section 2"
claim = "ours is better than theirs"
rule = "better than"
direction = "higher"
cells = ["Table 1 | psnr | ours | *"]
against = ["Table 1 | psnr | theirs | *"]

[[claim]]
id = "looks-alike"
place = "section 2"
claim = "images look alike"
rule = "no worse than"
direction = "higher"
figures = ["Figure 1"]

[[item]]
kind = "table"
number = "1"
place = "Table 1"
about = "PSNR of two methods"
function = "harmony_lite.papers.throwaway.experiment.measure"

[[item]]
kind = "figure"
number = "1"
place = "Figure 1"
about = "two images"
reason = "made for a test"
"""
