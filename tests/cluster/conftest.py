"""One cluster and one S3 server for all tests of this tier."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_kit import BUCKET, CREDENTIALS, LOOPBACK, Nodes, two_nodes
from pyarrow import fs


@pytest.fixture(scope="session")
def cache(pytestconfig: pytest.Config, compiled_kernels: object) -> Path:  # noqa: ARG001 - they lie there
    """MEI_CACHE of other processes, with the compiled kernels of these tests."""
    return pytestconfig.cache.mkdir("kernels").parent


@pytest.fixture(scope="session")
def cluster(cache: Path) -> Iterator[Nodes]:
    """A cluster of two nodes."""
    before = dict(os.environ)
    with two_nodes({**CREDENTIALS, "MEI_CACHE": str(cache)}) as found:
        os.environ.pop("MEI_CACHE")
        yield found
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """Address of an empty bucket."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address=LOOPBACK, port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    client = fs.S3FileSystem(
        access_key=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        secret_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        endpoint_override=endpoint,
        region="us-east-1",
        allow_bucket_creation=True,
    )
    client.create_dir(BUCKET)
    yield f"s3://{BUCKET}/{{}}?endpoint={endpoint}&region=us-east-1"
    server.stop()


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the S3 server lets in."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
