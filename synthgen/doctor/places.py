"""Where files go: the run directory (local, shared or an object store) and the cache of models."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from synthgen.config import Config
from synthgen.doctor.check import Check, models_used
from synthgen.errors import ConfigError, StorageError
from synthgen.ledger.run_dir import FIRST_CONTACT_S, describe_os_error
from synthgen.ledger.storage import open_storage
from synthgen.runtime.cluster import find_address

GIB = 1024**3
LOW_GIB = 10.0
EMPTY_GIB = 0.5
SHARED_TYPES = (
    "nfs", "lustre", "cifs", "smb", "gluster", "ceph", "beegfs", "gpfs",
    "weka", "fuse", "9p", "virtiofs", "afs", "ocfs", "gfs",
)  # fmt: skip


def check_places(config: Config) -> Iterator[Check]:
    """Yield the checks of the run directory and of the model cache."""
    url = config.run.dir
    many = config.cluster.nodes > 1 or find_address(config.cluster) is not None
    if "://" in url and not url.startswith("file://"):
        yield check_object_store(url)
    else:
        yield from check_directory(Path(url.removeprefix("file://")), many_nodes=many)
    if any(model.served_by.loads_checkpoint for model in models_used(config)):
        from huggingface_hub.constants import HF_HUB_CACHE

        yield check_space("model cache", Path(HF_HUB_CACHE), "set HF_HOME to a larger disk")


def check_directory(path: Path, *, many_nodes: bool) -> Iterator[Check]:
    """Check that `path` can be written, has room, and is seen by all nodes where there are several."""
    place = nearest_existing(path)
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        why = describe_os_error(error)
        yield Check("run.dir", "missing", f"{path} cannot be written: {why}", "choose another run.dir")
        return
    kind = file_system_type(place)
    if many_nodes and not kind.startswith(SHARED_TYPES):
        mend = "set run.dir to a path that every node sees, or to an object store (s3://…, gs://…)"
        yield Check("run.dir", "warning", f"{path} is on {kind}, which other nodes do not see", mend)
    else:
        yield Check("run.dir", "ok", f"{path} can be written ({kind})")
    yield check_space("disk", place, "make room, or choose another run.dir")


def check_space(name: str, path: Path, mend: str) -> Check:
    """Check the free space at `path`."""
    place = nearest_existing(path)
    free = shutil.disk_usage(place).free / GIB
    text = f"{free:.1f} GiB free at {place}"
    if free >= LOW_GIB:
        return Check(name, "ok", text)
    return Check(name, "missing" if free < EMPTY_GIB else "warning", text, mend)


def check_object_store(url: str) -> Check:
    """Check that a file can be made in an object store; it is removed again."""
    probe = f".doctor-{uuid.uuid4().hex}"
    try:
        storage = open_storage(url, retry_s=FIRST_CONTACT_S)
        storage.create(probe, b"")
        storage.delete(probe)
    except ConfigError as error:
        return Check("run.dir", "missing", str(error), "check the URL")
    except StorageError as error:
        why = error.why
        mend = "set the store's credentials and endpoint in the environment (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, …)"
        return Check("run.dir", "missing", f"{url} cannot be written: {why}", mend)
    return Check("run.dir", "ok", f"{url} can be written")


def nearest_existing(path: Path) -> Path:
    """Return `path` or the nearest directory above it that is there."""
    path = path.expanduser().absolute()
    while not path.is_dir():
        path = path.parent
    return path


def file_system_type(path: Path) -> str:
    """Return the type of the file system that holds `path`, such as `ext4` or `nfs4`."""
    import psutil

    inside = [part for part in psutil.disk_partitions(all=True) if path.is_relative_to(part.mountpoint)]
    return max(inside, key=lambda part: len(part.mountpoint)).fstype if inside else "an unknown file system"
