"""Standard output that is closed or full, and Ctrl-C: an exit code and a sentence, never a traceback."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mei_pipeline.settings import CHECKOUT

FAKE = """
import sys, time, click
from mei_pipeline.cli import main

@click.group()
def mei(): pass

@mei.command()
def lines():
    for number in range(20_000): click.echo(f"line {number}")

@mei.command()
def slow():
    try:
        print("ready", flush=True)
        time.sleep(30)
    finally:
        print("unwinding", flush=True)
        time.sleep(float(sys.argv[2]))

@mei.command()
def notes():
    from mei_pipeline.cli import output
    for number in range(20_000): output.note(f"note {number}")
    output.fail("the last words")
    raise SystemExit(3)

real = main.run
main.run = lambda arguments: real([arguments[0]], mei)
main.main()
"""


def start(*arguments: str, stdout: object = subprocess.PIPE) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", FAKE, *arguments]
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True, cwd=CHECKOUT)


def test_a_full_standard_output_is_named_and_asks_to_try_again():
    with Path("/dev/full").open("w") as full, start("lines", stdout=full) as process:
        _, said = process.communicate()
    assert process.returncode == 5
    assert said == (
        "error: standard output: No space left on device: the command ran, but its output is cut off; run it again\n"
    )


def test_a_reader_that_has_seen_enough_is_no_error():
    with start("lines") as process:
        assert process.stdout.readline() == "line 0\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_messages_that_nobody_reads_change_neither_the_command_nor_its_exit_code():
    with start("notes") as process:
        assert process.stderr.readline() == "note 0\n"
        process.stderr.close()
        assert process.stdout.read() == ""
    assert process.returncode == 3


def test_a_closed_standard_output_is_no_error():
    command = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-c", FAKE, "lines"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, cwd=CHECKOUT, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("unwinds_s", "interrupts"), [("0", 1), ("30", 2)], ids=["one", "two"])
def test_an_interrupt_ends_cleanly_and_a_second_one_at_once(unwinds_s, interrupts):
    with start("slow", unwinds_s) as process:
        for word in ("ready\n", "unwinding\n")[:interrupts]:
            assert word in iter(process.stdout.readline, "")
            os.kill(process.pid, signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130
    assert said.strip() == "interrupted"
