"""What a night has to say to a person: facts from its files, sections made of them, Markdown and HTML."""
