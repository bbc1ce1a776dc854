"""The operator's files: read, checked, and turned into frozen records. The only place that parses YAML.

- Keys: `models/` declares them, one module a file; `fields` has their types; `renamed_keys` those of earlier versions.
- Reading: `load` reads the folder, `document` one file, `yaml_marks` its YAML. `messages` makes the lines of errors.
- Checks between files, and against the parameter tables: `checks`.
- Merge order of overrides: `models.overrides.Overrides.layers`.
- Descriptions: `keys` lists keys and allowed values, for `explain` and `reference`; `strategy_schema` JSON Schemas.
"""
