"""The downstream tasks that the papers judge harmonization by."""
