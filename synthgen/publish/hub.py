"""Upload of a data set to the Hub: only what changed, in one commit, checked by size and hash, then tagged.

A data set appears on the Hub whole or not at all. File contents go first, in batches that nothing refers to yet; one
commit then names them all. So a cut upload leaves the repository as it was, and the same command goes on from what the
Hub already holds (contents are addressed by hash, for LFS and for Xet).

One file because the order of its steps is what makes an upload whole.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthgen.config import PublishConfig
from synthgen.errors import ConfigError, PublishError
from synthgen.export.files import CARD, is_owned
from synthgen.ledger.storage import Storage
from synthgen.publish.files import Changes, DataFile, is_synthgen_card, read_file
from synthgen.publish.retry import call_hub, explain, http_status, hub_errors, retry_wait_s, safe_cause, summarize

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

logger = logging.getLogger(__name__)

MAX_FILES = 25_000
"""Files that the Hub takes in one commit (HfApi.create_commit)."""
BATCH_FILES = 50
BATCH_BYTES = 512 << 20
"""Contents sent between two requests for upload addresses: few enough that no signed address expires meanwhile."""

_CONFLICT = frozenset({409, 412})
"""Another commit is under way; the branch is no longer where it was."""


@dataclass(frozen=True, slots=True)
class HubUpload:
    """What an upload did: the commit that holds the data set, and what it took to get there (paths; bytes of files)."""

    url: str
    commit: str
    sent: tuple[str, ...]
    removed: tuple[str, ...]
    sent_bytes: int


@dataclass
class HubRepo:
    """One branch of a data set repository, for one upload."""

    api: HfApi
    repo_id: str
    token: str
    branch: str = "main"
    additions: dict[str, CommitOperationAdd] = field(default_factory=dict)  # sha256:path → operation, across attempts

    def call(self, what: str, method: str, **arguments: Any) -> Any:
        """Call `HfApi.<method>` for this repository, tried again where that can help."""
        call = getattr(self.api, method)
        return call_hub(
            what,
            lambda: call(repo_id=self.repo_id, repo_type="dataset", **arguments),
            repo_id=self.repo_id,
            token=self.token,
        )


def upload_to_hub(
    storage: Storage, prefix: str, files: Sequence[DataFile], config: PublishConfig, title: str
) -> HubUpload:
    """Make the branch `config.revision` of `config.repo_id` hold exactly `files`, and return what that took.

    Args:
        storage: where the files are, below the directory `prefix`.
        title: first line of the commit message.

    Raises:
        ConfigError: no token, no permission, a wrong name, or a repository that must not be written.
        PublishError: the Hub failed for good, or what arrived is not what was sent.
    """
    repo = open_repo(config)
    if len(files) > MAX_FILES:
        raise ConfigError(f"{len(files):,} files are too many for one commit of the Hub; raise export.shard_mib")
    _prepare(repo, config)
    tagged = _tagged_commit(repo, config.tag)
    if tagged and compare(files, _list_remote(repo, tagged)):
        raise ConfigError(
            f"publish.tag={config.tag} is already on another version of {repo.repo_id} ({tagged[:8]});"
            " choose a new publish.tag"
        )
    with _quiet_without_terminal():
        commit, changes = _commit_changes(repo, storage, prefix, files, title)
    _verify(repo, commit, files)
    if config.tag and not tagged:
        _tag(repo, config.tag, commit)
    url = f"{repo.api.endpoint}/datasets/{repo.repo_id}"
    sent = tuple(file.path for file in changes.send)
    return HubUpload(url, commit, sent, changes.remove, sum(file.size for file in changes.send))


def open_repo(config: PublishConfig) -> HubRepo:
    """Return the repository that the configuration names, without any request.

    The token comes from `HF_TOKEN` or the Hub login, the server from `HF_ENDPOINT`; neither is ever stored.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.utils import HFValidationError, validate_repo_id  # type: ignore[attr-defined]

    repo_id = config.repo_id or ""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ConfigError(f"publish.repo_id={repo_id!r} is not a name on the Hub: {summarize(error)}") from error
    if repo_id.count("/") != 1:
        raise ConfigError(f"publish.repo_id={repo_id!r} must be <user or organisation>/<name>")
    token = get_token()
    if not token:
        raise ConfigError(
            f"publish.repo_id={repo_id}: there is no token for the Hub; set HF_TOKEN or run `hf auth login`"
        )
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=token, library_name="synthgen")
    return HubRepo(api, repo_id, token, config.revision or "main")


def compare(files: Sequence[DataFile], remote: Mapping[str, Any]) -> Changes:
    """Return what must change for `remote` (path → huggingface_hub's RepoFile) to hold exactly `files`.

    Files that synthgen does not write (LICENSE, .gitattributes, a user's own notes) are left where they are.
    """
    send = tuple(file for file in files if not _is_same(file, remote.get(file.path)))
    wanted = {file.path for file in files}
    return Changes(send, tuple(sorted(path for path in remote if is_owned(path) and path not in wanted)))


def _prepare(repo: HubRepo, config: PublishConfig) -> None:
    repo.call("create the repository", "create_repo", private=config.private, exist_ok=True)
    info = repo.call("read the repository", "repo_info")
    if config.private and info.private is False:
        raise ConfigError(
            f"publish.private=true but {repo.repo_id} is public; set publish.private=false to publish for all to see,"
            " or choose another publish.repo_id"
        )
    if not config.private and info.private:
        logger.warning("%s is private and stays so; open it in its settings on the Hub", repo.repo_id)
    if repo.branch != "main" and not _has_branch(repo):
        repo.call("create the branch", "create_branch", branch=repo.branch, exist_ok=True)


def _has_branch(repo: HubRepo) -> bool:
    refs = repo.call("list the branches", "list_repo_refs", include_pull_requests=True)
    known = [*refs.branches, *(refs.pull_requests or [])]
    return any(repo.branch in (ref.name, ref.ref) for ref in known)


def _tagged_commit(repo: HubRepo, tag: str | None) -> str | None:
    """Return the commit that carries `tag` already, or None."""
    if not tag:
        return None
    refs = repo.call("list the tags", "list_repo_refs")
    if all(ref.name != tag for ref in refs.tags):
        return None
    return str(repo.call("read the tag", "repo_info", revision=tag).sha)


def _commit_changes(
    repo: HubRepo, storage: Storage, prefix: str, files: Sequence[DataFile], title: str
) -> tuple[str, Changes]:
    """Bring the branch to hold `files`. Return its commit and all that was sent for it.

    A commit whose answer is lost may have been made. So every attempt starts from the branch as it is now, names it as
    the parent, and finds nothing left to do where an earlier attempt came through.
    """
    done = Changes((), ())
    attempt = 0
    while True:
        head = str(repo.call("read the branch", "repo_info", revision=repo.branch).sha)
        remote = _list_remote(repo, head)
        changes = compare(files, remote)
        if not changes:
            return head, done
        _check_owner(repo, head, remote)
        done = changes
        try:
            operations = _send_contents(repo, storage, prefix, changes)
        except hub_errors() as error:
            raise explain("send the files", error, repo_id=repo.repo_id, token=repo.token) from safe_cause(
                error, repo.token
            )
        try:
            return _send_commit(repo, operations, changes, head, title), done
        except hub_errors() as error:
            wait_s = retry_wait_s(error, attempt, also=_CONFLICT)
            if wait_s is None:
                raise explain("commit", error, repo_id=repo.repo_id, token=repo.token) from safe_cause(
                    error, repo.token
                )
            logger.warning("commit: %s; trying again in %.0f s", summarize(error, repo.token), wait_s)
            time.sleep(wait_s)
            attempt += 1


def _list_remote(repo: HubRepo, commit: str) -> dict[str, Any]:
    """Return all files of a commit by path (huggingface_hub's RepoFile)."""
    from huggingface_hub import RepoFile

    def listing() -> list[Any]:
        entries = repo.api.list_repo_tree(repo.repo_id, repo_type="dataset", revision=commit, recursive=True)
        return [entry for entry in entries if isinstance(entry, RepoFile)]

    files = call_hub("list the files", listing, repo_id=repo.repo_id, token=repo.token, attempts=1)
    return {file.path: file for file in files}


def _is_same(file: DataFile, remote: Any) -> bool:
    if remote is None or remote.size != file.size:
        return False
    return bool(remote.lfs.sha256 == file.sha256 if remote.lfs else remote.blob_id == file.blob_id)


def _check_owner(repo: HubRepo, commit: str, remote: Mapping[str, Any]) -> None:
    """Refuse to overwrite a data set that something else wrote (a mistyped publish.repo_id)."""
    if not any(is_owned(path) and path != CARD for path in remote):
        return
    if CARD not in remote or not is_synthgen_card(_read_card(repo, commit)):
        raise ConfigError(
            f"publish.repo_id={repo.repo_id} holds a data set that synthgen did not write; choose another"
            " publish.repo_id, or add the tag `synthgen` to its card to have it replaced"
        )


def _read_card(repo: HubRepo, commit: str) -> str:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        path = repo.call("read the card", "hf_hub_download", filename=CARD, revision=commit, local_dir=directory)
        return Path(path).read_text(encoding="utf-8", errors="replace")


@contextlib.contextmanager
def _quiet_without_terminal() -> Iterator[None]:
    """Keep the client's progress bars out of logs: a bar per file is noise where nobody watches."""
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if sys.stderr.isatty() or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _send_contents(repo: HubRepo, storage: Storage, prefix: str, changes: Changes) -> list[CommitOperationAdd]:
    """Send the contents of large files. Return the operations that a commit needs, each sent once for all attempts."""
    from huggingface_hub import CommitOperationAdd

    operations = []
    for batch in _batches(changes.send):
        fresh = []
        for file in batch:
            key = f"{file.sha256}:{file.path}"
            if key not in repo.additions:
                source = file.source if file.source is not None else read_file(storage, prefix, file)
                repo.additions[key] = CommitOperationAdd(path_in_repo=file.path, path_or_fileobj=source)
                fresh.append(repo.additions[key])
            operations.append(repo.additions[key])
        repo.api.preupload_lfs_files(
            repo.repo_id, fresh, repo_type="dataset", revision=repo.branch, free_memory=storage.root is None
        )
    return operations


def _batches(files: Sequence[DataFile]) -> Iterator[list[DataFile]]:
    batch: list[DataFile] = []
    size = 0
    for file in files:
        if batch and (len(batch) == BATCH_FILES or size + file.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.size
    if batch:
        yield batch


def _send_commit(
    repo: HubRepo, additions: Sequence[CommitOperationAdd], changes: Changes, parent: str, title: str
) -> str:
    from huggingface_hub import CommitOperationDelete

    info = repo.api.create_commit(
        repo.repo_id,
        [*additions, *(CommitOperationDelete(path, is_folder=False) for path in changes.remove)],
        commit_message=title,
        repo_type="dataset",
        revision=repo.branch,
        parent_commit=parent,
    )
    return str(info.oid)


def _verify(repo: HubRepo, commit: str, files: Sequence[DataFile]) -> None:
    """Compare sizes and hashes of what the commit holds with what was sent."""
    wrong = compare(files, _list_remote(repo, commit))
    if wrong:
        paths = [file.path for file in wrong.send] + list(wrong.remove)
        raise PublishError(
            f"publish.repo_id={repo.repo_id}: {len(paths)} files of commit {commit[:8]} are not what was sent"
            f" ({', '.join(paths[:3])}); start the same command again"
        )


def _tag(repo: HubRepo, tag: str, commit: str) -> None:
    try:
        repo.call("tag", "create_tag", tag=tag, revision=commit)
    except (ConfigError, PublishError) as error:
        # A lost answer: the tag may be there.
        if error.__cause__ is None or http_status(error.__cause__) != 409 or _tagged_commit(repo, tag) != commit:
            raise
