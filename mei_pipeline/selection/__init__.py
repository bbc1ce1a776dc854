"""What the search found, judged on days that the search never saw."""
