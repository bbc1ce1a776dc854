"""Storage of a sweep's files: a folder, and optionally an S3 bucket with the same files.

Readers always read the folder. A bucket has copies of complete files.
"""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from mei_pipeline import files
from mei_pipeline.errors import ConfigError, DataError, MeiError, Retryable

_OPTIONS = ("endpoint", "region")
_COPY_BYTES = 16 << 20
_CONNECT_S, _REQUEST_S = 5.0, 60.0
_DENIED = (
    "ACCESS_DENIED",
    "INVALID_ACCESS_KEY_ID",
    "INVALID_CLIENT_TOKEN_ID",
    "SIGNATURE_DOES_NOT_MATCH",
    "UNRECOGNIZED",
)
_CREDENTIALS = "the variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile in ~/.aws, or the machine's role"


@dataclass(frozen=True)
class Bucket:
    """Objects below one prefix of an S3 bucket.

    Attributes:
        url: Its address, for messages.
        root: Bucket and prefix.
        system: Client of PyArrow.
    """

    url: str
    root: str
    system: Any

    def below(self, name: str) -> "Bucket":
        """Return the objects below `name` in this bucket."""
        return Bucket(f"{self.url.partition('?')[0].rstrip('/')}/{name}", f"{self.root}/{name}", self.system)

    def names(self, folder: str) -> set[str]:
        """Return the names of the objects in `folder`, including the folder.

        Raises:
            ConfigError: The bucket does not exist, or can't be read with these credentials.
            Retryable: The server can't be reached.
        """
        from pyarrow import fs  # noqa: PLC0415 - only a bucket needs it

        where = fs.FileSelector(f"{self.root}/{folder}", allow_not_found=True)
        try:
            found = self.system.get_file_info(where)
        except OSError as error:
            raise self._explained(error) from error
        return {f"{folder}/{item.base_name}" for item in found if item.type == fs.FileType.File}

    def has(self, name: str) -> bool:
        """Return True if the object `name` exists; errors as in `names`."""
        from pyarrow import fs  # noqa: PLC0415 - as above

        try:
            found = self.system.get_file_info(f"{self.root}/{name}")
        except OSError as error:
            raise self._explained(error) from error
        return bool(found.type == fs.FileType.File)

    def put(self, name: str, path: Path) -> None:
        """Copy the file at `path` to the object `name`; errors as in `names`.

        S3 shows an object only after its last request has succeeded, so readers see the complete old or new object.
        """
        try:
            with path.open("rb") as source, self.system.open_output_stream(f"{self.root}/{name}") as target:
                shutil.copyfileobj(source, target, _COPY_BYTES)
        except OSError as error:
            raise self._explained(error) from error

    def fetch(self, name: str, path: Path) -> None:
        """Copy the object `name` to `path` atomically; errors as in `names` and `files.replacing`."""
        with files.replacing(path) as temporary:
            try:
                with self.system.open_input_stream(f"{self.root}/{name}") as source, temporary.open("wb") as target:
                    shutil.copyfileobj(source, target, _COPY_BYTES)
            except FileNotFoundError:
                raise DataError(f"{self.url}/{name}: not found; run the sweep again") from None
            except OSError as error:
                if "AWS Error" not in str(error):
                    raise
                raise self._explained(error) from error

    def _explained(self, error: OSError) -> MeiError:
        text = str(error)
        if "NO_SUCH_BUCKET" in text:
            return ConfigError(
                f"{self.url}: bucket {self.root.partition('/')[0]!r} does not exist; create it, or correct the address"
            )
        if any(code in text for code in _DENIED):
            return ConfigError(f"{self.url}: access denied; MEI uses {_CREDENTIALS} ({text})")
        return Retryable(f"{self.url}: {text}")


def open_bucket(url: str) -> Bucket:
    """Return the objects below an address such as `s3://bucket/prefix?endpoint=http://host:9000&region=eu-central-1`.

    Args:
        url: The address. `endpoint` names a server other than Amazon's; without options Amazon is asked for the region.

    Raises:
        ConfigError: The address is wrong, or the bucket does not exist.
        Retryable: The server can't be reached.
    """
    from pyarrow import fs  # noqa: PLC0415 - as above

    parts = urlsplit(url)
    options = parse_qs(parts.query, keep_blank_values=True)
    unknown = sorted(set(options) - set(_OPTIONS))
    if parts.scheme != "s3" or not parts.netloc or unknown or parts.fragment:
        raise ConfigError(
            f"{url}: wrong address; write s3://bucket/prefix, if needed with ?endpoint=URL and &region=NAME"
        )
    root = f"{parts.netloc}/{parts.path.strip('/')}".rstrip("/")
    chosen = {name: values[-1] for name, values in options.items()}
    try:
        if not chosen:
            chosen["region"] = fs.resolve_s3_region(parts.netloc)
        system = fs.S3FileSystem(
            region=chosen.get("region", "us-east-1"),
            endpoint_override=chosen.get("endpoint"),
            connect_timeout=_CONNECT_S,
            request_timeout=_REQUEST_S,
            allow_delayed_open=True,  # one request for a small object
        )
    except OSError as error:
        missing = "not found" in str(error)
        raise (ConfigError if missing else Retryable)(f"{url}: {error}") from error
    return Bucket(url, root, system)


@dataclass(frozen=True)
class Store:
    """Files of one sweep.

    Attributes:
        folder: Folder of the files; a copy if there is a bucket.
        bucket: Bucket of the files; None if they are kept in the folder alone.
    """

    folder: Path
    bucket: Bucket | None = None

    def held(self, name: str) -> bool:
        """Return True if the file is in the bucket, or without a bucket in the folder."""
        return self.bucket.has(name) if self.bucket else (self.folder / name).exists()

    def push(self, name: str) -> None:
        """Copy the folder's file into the bucket."""
        if self.bucket:
            self.bucket.put(name, self.folder / name)

    def pull(self, name: str) -> None:
        """Fetch the file if the folder lacks it."""
        if self.bucket and not (self.folder / name).exists():
            self.bucket.fetch(name, self.folder / name)

    def keep(self, name: str) -> None:
        """Copy the folder's file into the bucket if the bucket lacks it."""
        if self.bucket and not self.bucket.has(name):
            self.bucket.put(name, self.folder / name)

    def pull_all(self, folder: str, names: Iterable[str]) -> list[str]:
        """Fetch each of the files `names` in `folder` that only the bucket has.

        Returns:
            Names of the files that only the folder has.
        """
        if not self.bucket:
            return []
        in_bucket = self.bucket.names(folder)
        only_in_folder = []
        for name in names:
            if name in in_bucket:
                self.pull(name)
            elif (self.folder / name).exists():
                only_in_folder.append(name)
        return only_in_folder


def open_store(folder: Path, url: str) -> Store:
    """Return the storage of `folder`, with a copy below `url` unless that is empty; errors as in `open_bucket`."""
    return Store(folder, open_bucket(url).below(folder.name) if url else None)
