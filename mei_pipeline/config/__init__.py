"""The operator's files: read, checked, and turned into frozen records. The only place that parses YAML."""
