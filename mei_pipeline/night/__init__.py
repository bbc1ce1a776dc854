"""One nightly run: its plan, the symbols that it uses, the data that it reads and its folder on disk."""
