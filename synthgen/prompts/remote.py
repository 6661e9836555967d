"""Files behind a URL (https://, or an object store), brought into the cache once per version of the file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from synthgen.errors import ConfigError, first_line
from synthgen.models.cache import find_cache, make_once
from synthgen.prompts.files import READERS, FileSource, data_suffix
from synthgen.prompts.order import is_hidden, natural_key
from synthgen.prompts.rows import RowSource
from synthgen.records import stable_hex

WEB = ("http", "https")
STORES = ("s3", "s3a", "gs", "az", "abfs", "abfss")
TIMEOUT_S = 60.0
CHUNK_BYTES = 1 << 20


def is_url(path: str) -> bool:
    """Return whether `path` names something behind a URL."""
    return "://" in path


def locate_remote(url: str, key: str) -> list[RowSource]:
    """Return the file that `url` names; of an object store also all data files below a prefix, or those of a glob.

    Raises:
        ConfigError: it cannot be had, or is of no format that can be read.
    """
    scheme = urlsplit(url).scheme
    if scheme in WEB:
        name = unquote(urlsplit(url).path.rpartition("/")[2])
        _check_suffix(name, url, key)
        return [FileSource(_fetch_web(url, name, key), name)]
    if scheme not in STORES:
        raise ConfigError(f"{key}={url}: unknown scheme {scheme}://; there are {', '.join((*WEB, *STORES))}")
    return [*_locate_in_store(url, key)]


def _check_suffix(name: str, url: str, key: str) -> None:
    if data_suffix(Path(name)) not in READERS:
        raise ConfigError(f"{key}={url}: unknown format; the suffix must be one of {', '.join(READERS)}")


def _fetch_web(url: str, name: str, key: str) -> Path:
    import httpx

    try:
        with httpx.stream("GET", url, follow_redirects=True, timeout=TIMEOUT_S) as response:
            response.raise_for_status()
            if response.headers.get("content-type", "").startswith("text/html"):
                raise ConfigError(
                    f"{key}={url} is a web page, not a file; give the link that downloads it (on the Hub /resolve/, "
                    "not /blob/), or the data set's id"
                )
            version = response.headers.get("etag") or response.headers.get("last-modified")
            return _keep(url, version, name, response.iter_bytes(CHUNK_BYTES))
    except httpx.HTTPStatusError as error:
        raise ConfigError(f"{key}={url} cannot be read: the server answers {error.response.status_code}") from error
    except httpx.HTTPError as error:
        raise ConfigError(f"{key}={url} cannot be read: {first_line(error)}") from error


def _locate_in_store(url: str, key: str) -> Iterator[RowSource]:
    import obstore

    scheme, _, rest = url.partition("://")
    bucket, _, path = rest.partition("/")  # as it is: names of objects may hold blanks, % and #
    try:
        store = _open_store(f"{scheme}://{bucket}")
        fixed = re.split(r"[*?\[]", path, maxsplit=1)[0]
        globbed = fixed != path
        prefix = fixed.rpartition("/")[0] if globbed else path.rstrip("/")
        listed = [meta for chunk in obstore.list(store, prefix or None) for meta in chunk]
        if globbed:
            pattern = _compile_glob(path)
            found = [meta for meta in listed if pattern.fullmatch(meta["path"])]
        else:
            found = [meta for meta in listed if meta["path"] == path]
            if not found:  # a prefix
                found = [meta for meta in listed if not is_hidden(Path(meta["path"]).relative_to(prefix or "."))]
        if not found:
            # Listing a prefix that is an object's name gives nothing in some stores.
            found = [obstore.head(store, path)] if path and not globbed else []
        whole = {meta["path"]: meta for meta in found}
        wanted = [name for name in whole if globbed or name == path or data_suffix(Path(name)) in READERS]
        if not wanted:
            raise ConfigError(f"{key}={url} holds no data file ({', '.join(READERS)})")
        for name in sorted(wanted, key=natural_key):
            _check_suffix(name, url, key)
            version = whole[name].get("e_tag") or str(whole[name].get("last_modified"))
            base = name.rpartition("/")[2]
            local = _keep(f"{scheme}://{bucket}/{name}", version, base, _stream(store, name))
            relative = name.removeprefix(prefix).lstrip("/")
            yield FileSource(local, relative or base)
    except FileNotFoundError as error:
        raise ConfigError(f"{key}={url} does not exist") from error
    except ConfigError:
        raise
    except Exception as error:  # obstore has one class of error per cloud
        raise ConfigError(f"{key}={url} cannot be read: {_describe(error)}") from error


def _open_store(url: str) -> Any:
    from obstore.store import from_url

    make: Any = from_url  # its types know one cloud at a time
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    options = {"allow_http": True} if endpoint.startswith("http://") else None
    config = {"aws_endpoint": endpoint} if endpoint and url.startswith("s3") else None
    return make(url, config=config, client_options=options)


def _stream(store: Any, name: str) -> Iterator[bytes]:
    import obstore

    yield from map(bytes, obstore.get(store, name).stream(min_chunk_size=CHUNK_BYTES))


def _keep(url: str, version: str | None, name: str, content: Iterator[bytes]) -> Path:
    """Return the file in the cache that holds `content`, which is read only where this version is not there."""
    # Without a version, nobody can say whether the file has changed: it is fetched each time.
    directory = stable_hex(url, version or os.urandom(8).hex())

    def write(scratch: Path) -> None:
        with (scratch / name).open("wb") as file:
            for chunk in content:
                file.write(chunk)

    return make_once(find_cache() / "prompts" / directory, write) / name


def _compile_glob(pattern: str) -> re.Pattern[str]:
    """Return a glob as a regular expression: `*` and `?` stay within a folder, `**/` goes into any."""
    parts = re.findall(r"\*\*/|\*+|\?|\[[^\]]+\]|[^*?\[]+|\[", pattern)
    kinds = {"**/": "(?:.*/)?", "*": "[^/]*", "**": ".*", "?": "[^/]"}
    return re.compile(
        "".join(
            kinds.get(part) or (part.replace("[!", "[^") if len(part) > 1 and part[0] == "[" else re.escape(part))
            for part in parts
        )
    )


def _describe(error: Exception) -> str:
    text = first_line(error, 2000)
    status = re.search(r"status code: (\d{3}[^:,]*)", text)
    return status[1].strip() if status else text[:300]
