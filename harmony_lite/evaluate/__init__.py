"""How well did it work: measures, statistics over people, one report for every method."""
