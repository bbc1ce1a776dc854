"""Send messages to people by Apprise: mail, Telegram, Slack, ntfy and others.

Messages are sent after an event and must not change its result, so `send` never raises. URLs of receivers contain
passwords and tokens. They are never printed, and Apprise's own log, which prints them, is off.
"""

import logging
import warnings
from collections.abc import Sequence

from pydantic import SecretStr

from mei_pipeline.config.document import read_yaml
from mei_pipeline.config.load import PIPELINE
from mei_pipeline.config.models import PipelineConfig
from mei_pipeline.errors import MeiError
from mei_pipeline.log import stderr_log
from mei_pipeline.settings import Settings

_MISSING = "alerts: the package apprise is not installed; run `uv sync --extra alerts`"


def send_alert(settings: Settings, title: str, text: str) -> tuple[str, ...]:
    """Send a message to the receivers in pipeline.yaml; to none if the file can't be read.

    Args:
        settings: Location of pipeline.yaml.
        title: One line.
        text: The message.

    Returns:
        As `send`.
    """
    try:
        receivers = read_yaml(settings.config / PIPELINE, PipelineConfig).alerts
    except MeiError:  # the command that needs the file reports its errors
        return ()
    return send(receivers, title, text)


def send_moves(settings: Settings, cause: str, moves: Sequence[tuple[str, str, str]]) -> tuple[str, ...]:
    """Send a message about lanes that moved; none without moves.

    Args:
        settings: Location of pipeline.yaml.
        cause: Cause of the moves, in a few words.
        moves: Lane, config id and reason of each move.

    Returns:
        As `send`.
    """
    if not moves:
        return ()
    title = f"MEI: {cause}: {', '.join(lane for lane, _, _ in moves)}"
    return send_alert(
        settings, title, "\n".join(f"{lane}: config {identity[:12]}: {why}" for lane, identity, why in moves)
    )


def send(receivers: Sequence[SecretStr], title: str, text: str) -> tuple[str, ...]:
    """Send a message to each receiver.

    Args:
        receivers: Apprise URLs.
        title: One line.
        text: The message.

    Returns:
        One line per receiver that did not accept the message; each is also logged on stderr.
    """
    if not receivers:
        return ()
    logging.getLogger("apprise").disabled = True
    problems = tuple(
        problem
        for index, receiver in enumerate(receivers)
        if (problem := _deliver(f"alerts[{index}]", receiver.get_secret_value(), title, text))
    )
    for problem in dict.fromkeys(problems):
        stderr_log().warning(problem, alert=title)
    return problems


def _deliver(where: str, url: str, title: str, text: str) -> str:
    """Send a message to one receiver; return the reason of a failure without the URL, or an empty string."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about Apprise's own code; a user of MEI can't act on them
        try:
            import apprise  # noqa: PLC0415 - an extra, and slow to import

            sender = apprise.Apprise()
            if not sender.add(url):
                return f"{where}: Apprise does not know this kind of URL, or a part of it is missing"
            arrived = sender.notify(title=title, body=text)
        except ImportError:
            return _MISSING
        except Exception as error:  # noqa: BLE001 - a failed message must not fail the run; the text may have the URL
            return f"{where}: sending failed with {type(error).__name__}"
    return "" if arrived else f"{where}: the receiver did not accept the message"
