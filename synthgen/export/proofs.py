"""Proofs of a data set as `publish` and the report find them: `<run.dir>/proofs/<fingerprint>/proof.json`.

A proof counts for the data that it was made of. All of a data set's proofs are shown, those that say no too.
"""

from __future__ import annotations

import fnmatch
import json
from typing import Any

from synthgen.export.manifest import Manifest
from synthgen.ledger.storage import Storage
from synthgen.records import stable_hex

PROOFS = "proofs"
PROOF = "proof.json"
TRAINED_ON = ("default", "kto")
"""Configs of the data set that a proof trains on."""


def identify_data(manifest: Manifest) -> str:
    """Return a hash of the rows that are trained on: the same however often they are exported."""
    entries = [entry for entry in manifest.dataset.get("configs") or [] if entry.get("config_name") in TRAINED_ON]
    patterns = [str(files["path"]) for entry in entries for files in entry["data_files"]]
    mine = [file for file in manifest.files if any(fnmatch.fnmatch(file.path, pattern) for pattern in patterns)]
    return stable_hex([(file.path, file.sha256) for file in mine])


def read_proofs(storage: Storage, manifest: Manifest) -> list[dict[str, Any]]:
    """Return what each finished proof of this data set found (`proof.json`), the oldest first."""
    data = identify_data(manifest)
    found = []
    for path in sorted(storage.list(PROOFS)):
        if not fnmatch.fnmatch(path, f"{PROOFS}/*/{PROOF}") or path.count("/") != 2:
            continue
        try:
            proof = json.loads(storage.read(path))
        except (OSError, ValueError):  # of another version, or cut: it is made anew by the same command
            continue
        if isinstance(proof, dict) and proof.get("data") == data and isinstance(proof.get("verdict"), dict):
            found.append(proof)
    return sorted(found, key=lambda proof: str(proof.get("made_at")))
