"""`mei lane export` and `mei lane take-over`: the journal of a lane."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mei_pipeline.cli import output
from mei_pipeline.cli.lane_holds import check_lane
from mei_pipeline.cli.options import result_options

if TYPE_CHECKING:
    from mei_pipeline.settings import Settings


@click.command("export")
@click.argument("name", metavar="LANE")
@click.option("--to", "folder", type=click.Path(path_type=Path), required=True,
              help="Folder of the files; earlier ones are replaced.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(["parquet", "csv"]), default="parquet", show_default=True,
              help="Format of the files.")  # fmt: skip
@result_options
def export(name: str, folder: Path, form: str, as_json: bool) -> None:
    """Write the journal of LANE to files: orders, fills, trades, equity and more. The lane may be running."""
    from mei_pipeline.execution.journal.export import export_journal
    from mei_pipeline.settings import read_settings

    written = export_journal(journal_of(read_settings(), name), folder, form)
    if as_json:
        listed = {file.path.stem: {"path": str(file.path), "rows": file.rows} for file in written}
        output.print_json({"lane": name, "format": form, "files": listed})
        return
    output.table(f"Journal of {name}", ("file", "rows"), [(str(file.path), file.rows) for file in written])


@click.command("take-over")
@click.argument("name", metavar="LANE")
@click.option("--yes", is_flag=True, help="Do not ask.")
@result_options
def take_over(name: str, yes: bool, as_json: bool) -> None:
    """Let this home trade LANE, whose journal is from another home or machine.

    The process there must be stopped for good: two processes would trade one book twice. New orders get a new book id;
    the lane still knows its earlier orders.
    """
    from mei_pipeline.execution.journal.machine import machine_id
    from mei_pipeline.execution.journal.opening import adopt_journal, lock_path
    from mei_pipeline.files import locked
    from mei_pipeline.settings import read_settings

    settings = read_settings()
    path = journal_of(settings, name)
    if not yes:
        click.confirm(f"Is lane {name} stopped for good where it ran before?", abort=True, err=True)
    with locked(lock_path(settings.lanes, name), f"taking over lane {name}"):
        meta = adopt_journal(path, machine_id(settings.cache))
    if as_json:
        output.print_json({"lane": name, "book_id": meta.book_id, "former_book_ids": list(meta.former_book_ids)})
        return
    rows = [("book id", meta.book_id), ("former book ids", ", ".join(meta.former_book_ids) or None)]
    output.table(f"Lane {name} belongs to this home", ("", "value"), rows)


def journal_of(settings: "Settings", name: str) -> Path:
    """Return the path of a lane's journal, which may be missing; refuse an unknown lane."""
    from mei_pipeline.execution.journal.opening import journal_path

    check_lane(settings, name)
    return journal_path(settings.lanes, name)
