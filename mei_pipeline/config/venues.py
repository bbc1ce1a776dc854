"""The check of venues. It is apart from the other checks, which import numpy, so that commands on lanes stay fast."""

from collections.abc import Iterable, Iterator

from mei_pipeline.config.document import Document
from mei_pipeline.config.models import LaneConfig, PipelineConfig, SweepSpec
from mei_pipeline.params.paths import closest


def check_venues(
    pipeline: Document[PipelineConfig], documents: Iterable[Document[SweepSpec] | Document[LaneConfig]]
) -> Iterator[str]:
    """Yield a line for every sweep and lane whose venue pipeline.yaml lacks."""
    known = pipeline.model.venues
    for document in documents:
        venue = document.model.venue
        if venue is not None and venue not in known:
            text = (
                f"{venue!r}: {pipeline.path.name} knows no such venue; {closest(venue, known)}known: {', '.join(known)}"
            )
            yield document.problem(("venue",), text)
