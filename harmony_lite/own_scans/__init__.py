"""A user's own files: files.py harmonizes one or a folder of them, training.py fits a method to a folder."""
