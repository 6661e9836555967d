"""Publishing: a finished run's data set to the Hub, or to a directory or object store.

In: the run directory, its data set's manifest and `publish.*`. Out: a `PublishResult`, which exists only
once what arrived has been compared with what was sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synthgen.config import Config, PublishConfig
from synthgen.errors import ConfigError
from synthgen.export.dataset_info import DATASET_INFO, make_dataset_info
from synthgen.export.files import CARD, ROOT
from synthgen.export.manifest import Manifest, check_files, read_manifest
from synthgen.export.proofs import read_proofs
from synthgen.ledger.storage import Storage
from synthgen.pairs.counts import describe_losses
from synthgen.publish.card import make_card
from synthgen.publish.card_task import make_task_card
from synthgen.publish.directory import copy_to_directory
from synthgen.publish.files import DataFile, scan_dataset
from synthgen.publish.hub import upload_to_hub
from synthgen.publish.markup import plain


@dataclass(frozen=True, slots=True)
class PublishResult:
    """What was published, or with `dry_run` what would be.

    Attributes:
        target: the data set's page on the Hub, or the directory's path or URL.
        dry_run: nothing was sent, and the network was not touched.
        files: all files of the data set, sorted by path.
        card: the text of its card.
        commit: the commit on the Hub that holds it, else None.
        tag: the tag on that commit, else None.
        sent: paths of new and changed files.
        removed: paths of files that were there before and are no part of it any more.
        sent_bytes: sizes of the new and changed files, bytes (contents that the Hub held already are not sent again).
    """

    target: str
    dry_run: bool
    files: tuple[DataFile, ...]
    card: str
    commit: str | None = None
    tag: str | None = None
    sent: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    sent_bytes: int = 0


def publish_run(storage: Storage, manifest: Manifest, config: Config) -> PublishResult:
    """Publish a run's data set with its card made anew for `config.publish` (its repository's name and licence).

    Args:
        manifest: of the data set; its report and its files are what is published.
        config: the manifest's configuration, with `publish.*` of one's own.

    Raises:
        ConfigError: also where the files are not those of the manifest, or no pair was made. Else as `publish_dataset`.
    """
    pairs = manifest.report.get("pairs") or {}
    if pairs.get("made") == 0:
        raise ConfigError(
            f"run.dir={storage.url} made no pair: {describe_losses(pairs)}; change that (docs/pairs.md) and run again"
        )
    found = {file.path: file.sha256 for file in scan_dataset(storage, need_whole=False)}
    if read_manifest(storage) != manifest:
        raise ConfigError(f"{storage.url}/{ROOT} was exported again while it was read; start the same command again")
    check_files(f"{storage.url}/{ROOT}", manifest, found)
    make = make_task_card if config.pipeline == "task" else make_card
    report = {**manifest.report, "proofs": read_proofs(storage, manifest)}
    replaced = {CARD: make(report, config, manifest.dataset).encode()}
    if config.publish.repo_id and DATASET_INFO in {file.path for file in manifest.files}:
        replaced[DATASET_INFO] = make_dataset_info(manifest.dataset, config.publish.repo_id)
    return publish_dataset(storage, config.publish, manifest.report, replaced=replaced)


def publish_dataset(
    storage: Storage,
    config: PublishConfig,
    report: Mapping[str, Any],
    *,
    replaced: Mapping[str, bytes] | None = None,
    prefix: str = ROOT,
) -> PublishResult:
    """Publish the data set below the directory `prefix` of `storage` and return what that took.

    With `config.dry_run` nothing is sent and the network is not touched.

    Args:
        report: the run's report.json; a run that is not complete is refused.
        replaced: files by path that take the place of stored ones (a card made anew).

    Raises:
        ConfigError: the run is not complete, or the target, the token or its rights are wrong.
        PublishError: it did not arrive whole; the same command goes on from what did.
    """
    _check_complete(storage, report)
    if bool(config.repo_id) == bool(config.to_dir):
        given = "both are given" if config.repo_id else "neither is given"
        raise ConfigError(
            f"publish needs one of publish.repo_id=<org>/<name> and publish.to_dir=<path or URL>; {given}"
        )
    files = scan_dataset(storage, prefix, replaced)
    text = (replaced or {}).get(CARD) or storage.read(f"{prefix}/{CARD}")
    card = text.decode("utf-8", "replace")
    if config.dry_run:
        target = config.to_dir or f"datasets/{config.repo_id}"
        return PublishResult(target, True, tuple(files), card, tag=config.tag)
    if config.to_dir:
        copy = copy_to_directory(storage, prefix, files, config.to_dir)
        return PublishResult(
            copy.url, False, tuple(files), card, sent=copy.sent, removed=copy.removed, sent_bytes=copy.sent_bytes
        )
    upload = upload_to_hub(storage, prefix, files, config, _commit_title(report))
    return PublishResult(
        upload.url,
        False,
        tuple(files),
        card,
        commit=upload.commit,
        tag=config.tag,
        sent=upload.sent,
        removed=upload.removed,
        sent_bytes=upload.sent_bytes,
    )


def describe_result(result: PublishResult) -> str:
    """Return what the CLI prints: the outcome in one line, and for a dry run the files and the card."""
    size = sum(file.size for file in result.files)
    if not result.dry_run:
        where = f" commit {result.commit[:8]}" if result.commit else ""
        tag = f", tag {result.tag}" if result.tag else ""
        return (
            f"published {result.target}{where}{tag}: {len(result.files)} files ({size:,} bytes), all compared;"
            f" {len(result.sent)} new or changed ({result.sent_bytes:,} bytes), {len(result.removed)} removed"
        )
    lines = [f"would publish {len(result.files)} files ({size:,} bytes) to {result.target}; nothing was sent"]
    lines += [f"{file.size:>15,}  {file.sha256[:12]}  {file.path}" for file in result.files]
    return "\n".join([*lines, "", result.card])


def _check_complete(storage: Storage, report: Mapping[str, Any]) -> None:
    if not report.get("complete"):
        raise ConfigError(f"run.dir={storage.url} is not a complete run; finish it with `synthgen run` first")


def _commit_title(report: Mapping[str, Any]) -> str:
    made = (report.get("pairs") or {}).get("made")
    what = f"{made:,} preference pairs" if isinstance(made, int) else "preference pairs"
    fingerprint = plain(str(report.get("config_fingerprint") or ""), 16)
    return f"Publish {what}" + (f" (run {fingerprint})" if fingerprint else "")
