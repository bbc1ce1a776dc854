"""One module per version of the tables; a revision is the version's number."""
