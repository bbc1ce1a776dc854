"""`mei kernels`: compile GPU kernels ahead of time, and list them."""

import time
from pathlib import Path

import click

from mei_pipeline.cli import output
from mei_pipeline.cli.groups import Group
from mei_pipeline.cli.options import result_options

_COLUMNS = ("strategy", "architecture", "kernel", "registers", "stack bytes", "spilled bytes", "current rules")


@click.group(cls=Group)
def kernels() -> None:
    """Compile GPU kernels on any machine, and list them; `mei warmup` compiles those of the CPU."""


@kernels.command()
@click.option("--arch", required=True, help="Architecture: sm_90 for H100 and H200, sm_80 for A100, sm_89 for RTX 40.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write to; default: MEI_KERNELS.")
@click.option("--strategy", "strategies", multiple=True, help="Only this strategy; may be given more than once.")
@result_options
def build(arch: str, out: Path | None, strategies: tuple[str, ...], as_json: bool) -> None:
    """Compile the rules of all strategies to PTX and machine code, without a GPU or a driver."""
    from mei_pipeline.settings import read_settings
    from mei_pipeline.simulation.device import build_kernels

    settings = read_settings()
    root = out or settings.kernels
    start = time.perf_counter()
    with output.bar("kernels") as progress:
        build_kernels(root, arch, strategies, progress)
    _show(root, as_json=as_json)
    output.note(f"{time.perf_counter() - start:.1f} s; MEI_KERNELS={root} names them on the machine with the GPU")


@kernels.command("list")
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@result_options
def list_(folder: Path | None, as_json: bool) -> None:
    """List the kernels in FOLDER (default: MEI_KERNELS), and show if they match this checkout."""
    from mei_pipeline.settings import read_settings

    _show(folder or read_settings().kernels, as_json=as_json)


def _show(root: Path, *, as_json: bool) -> None:
    from kernels.cache import rules_hash
    from mei_pipeline.simulation.device import list_manifests

    manifests = list_manifests(root)
    if as_json:
        listed = [
            {
                "strategy": manifest.strategy,
                "arch": manifest.arch,
                "cuda": manifest.cuda,
                "current": manifest.rules == rules_hash(),
                "kernels": {
                    name: {
                        "registers": kernel.registers,
                        "stack_bytes": kernel.stack_bytes,
                        "spill_bytes": kernel.spill_stores_bytes + kernel.spill_loads_bytes,
                    }
                    for name, kernel in manifest.kernels.items()
                },
            }
            for manifest in manifests
        ]
        output.print_json({"folder": str(root), "manifests": listed})
        return
    rows = [
        (
            manifest.strategy,
            manifest.arch,
            name,
            kernel.registers,
            kernel.stack_bytes,
            kernel.spill_stores_bytes + kernel.spill_loads_bytes,
            manifest.rules == rules_hash(),
        )
        for manifest in manifests
        for name, kernel in manifest.kernels.items()
    ]
    output.table(
        f"Kernels in {root}", _COLUMNS, rows, important=("strategy", "kernel", "architecture", "current rules")
    )


COMMANDS: list[click.Command] = [kernels]
