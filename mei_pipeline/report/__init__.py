"""The report of a nightly run: facts from its files, sections made of them, Markdown and HTML."""
