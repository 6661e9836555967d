"""A Hugging Face Hub on loopback: enough of its HTTP API for `huggingface_hub` to publish and `datasets` to load.

It keeps repositories in memory (commits, branches, tags, LFS objects), counts the bytes of request bodies, and fails on
demand. It offers no Xet storage, so clients need HF_HUB_DISABLE_XET=1.

    with HubServer() as hub:
        hub.fail("POST", "/commit/", status=503)
        HfApi(endpoint=hub.url, token=hub.token).create_repo("org/name", repo_type="dataset")
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_" + "x" * 30
READ_ONLY_TOKEN = "hf_" + "r" * 30
_LFS_SUFFIXES = (".parquet", ".arrow", ".png", ".zip", ".safetensors")
_REGULAR_LIMIT = 10_000_000  # bytes; larger files are LFS whatever their name


@dataclass(frozen=True)
class Blob:
    """A file in a commit: small ones hold their bytes, large ones (LFS) the hash of an object."""

    size: int
    oid: str  # git object id: of the bytes, or of the LFS pointer
    data: bytes | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Commit:
    """A snapshot of all files by path."""

    oid: str
    parent: str | None
    title: str
    files: dict[str, Blob]


@dataclass
class Repo:
    """A data set repository. `branches` and `tags` map names to commit ids."""

    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def add_commit(self, branch: str, title: str, files: dict[str, Blob]) -> Commit:
        """Make a commit on a branch and return it."""
        parent = self.branches.get(branch)
        listing = json.dumps([len(self.commits), parent, title, sorted((p, b.oid) for p, b in files.items())])
        commit = Commit(hashlib.sha1(listing.encode()).hexdigest(), parent, title, files)
        self.commits[commit.oid] = commit
        self.branches[branch] = commit.oid
        return commit

    def resolve(self, revision: str) -> Commit | None:
        """Return the commit of a branch, a tag or an id."""
        return self.commits.get(self.branches.get(revision) or self.tags.get(revision) or revision)

    @property
    def head(self) -> Commit:
        """The commit of `main`."""
        return self.commits[self.branches["main"]]


@dataclass
class Failure:
    """What happens to the next `times` requests whose method and path match."""

    method: str
    path: str
    status: int
    times: int
    headers: dict[str, str]
    body: str
    when: str
    action: Callable[[], object] | None = None


class HubServer:
    """The server, as a context manager. `url` is its endpoint, `token` one that may write.

    Attributes:
        repos: repositories by id.
        objects: LFS objects by SHA-256.
        received_bytes: bytes of all request bodies so far.
        requests: (method, path) of all requests so far.
    """

    def __init__(self, *, part_bytes: int | None = None) -> None:
        self.token = TOKEN
        self.part_bytes = part_bytes
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.parts: dict[tuple[str, int], bytes] = {}
        self.received_bytes = 0
        self.requests: list[tuple[str, str]] = []
        self.failures: list[Failure] = []
        self.lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.hub = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> HubServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def fail(
        self,
        method: str,
        path: str,
        *,
        status: int = 500,
        times: int = 1,
        headers: dict[str, str] | None = None,
        body: str = '{"error": "injected"}',
        when: str = "before",
        action: Callable[[], object] | None = None,
    ) -> None:
        """Let requests fail whose path matches the regular expression `path`.

        Args:
            when: `before`: answer `status` and do nothing; `cut`: close the connection in the middle of the body;
                `after`: do what was asked, then close the connection without an answer; `never`: serve the request.
            action: called first, for example to let another user commit.
        """
        self.failures.append(Failure(method, path, status, times, headers or {}, body, when, action))

    def count(self, method: str, path: str) -> int:
        """Return how many requests matched so far."""
        return sum(1 for m, p in self.requests if m == method and re.search(path, p))

    def read(self, repo_id: str, path: str, revision: str = "main") -> bytes:
        """Return a file's bytes."""
        commit = self.repos[repo_id].resolve(revision)
        assert commit is not None
        blob = commit.files[path]
        return blob.data if blob.data is not None else self.objects[str(blob.sha256)]

    def commit(self, repo_id: str, files: dict[str, bytes | None], title: str = "someone else") -> Commit:
        """Commit to `main` as another user would; None removes a file."""
        with self.lock:
            repo = self.repos[repo_id]
            merged = dict(repo.head.files)
            for path, data in files.items():
                if data is None:
                    merged.pop(path)
                else:
                    merged[path] = make_blob(data)
            return repo.add_commit("main", title, merged)


def make_blob(data: bytes) -> Blob:
    """Return a regular file."""
    return Blob(len(data), hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest(), data)


def make_lfs_blob(sha256: str, size: int) -> Blob:
    """Return an LFS file; its git object is the pointer."""
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
    return Blob(size, make_blob(pointer).oid, None, sha256)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body in one packet: else Nagle's algorithm and delayed acknowledgements cost 40 ms per request.
    wbufsize = -1
    disable_nagle_algorithm = True

    @property
    def hub(self) -> HubServer:
        return self.server.hub  # type: ignore[attr-defined, no-any-return]

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        self.route, self.query = unquote(parts.path), parse_qs(parts.query)
        with self.hub.lock:
            self.hub.requests.append((self.command, self.route))
            failure = self._take_failure()
        if failure and failure.action:
            failure.action()
        if failure and failure.when == "never":
            failure = None
        if failure and failure.when == "cut":
            self._cut_body()
            return
        self.body = self._read_body()
        with self.hub.lock:
            self.hub.received_bytes += len(self.body)
        if failure and failure.when == "before":
            self._send(failure.status, failure.body.encode(), failure.headers)
            return
        self.muted = failure is not None
        try:
            with self.hub.lock:
                self._dispatch()
        except _Refused as refusal:
            headers = {"X-Error-Code": refusal.code} if refusal.code else {}
            headers["X-Error-Message"] = refusal.message
            self._send_json({"error": refusal.message}, refusal.status, headers)
        if self.muted:
            self._reset()

    def _take_failure(self) -> Failure | None:
        for failure in self.hub.failures:
            if failure.times > 0 and failure.method == self.command and re.search(failure.path, self.route):
                failure.times -= 1
                return failure
        return None

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            chunks = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _cut_body(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        half = self.rfile.read(size // 2)
        if "Transfer-Encoding" in self.headers:
            half = self.rfile.read1(1 << 16)
        with self.hub.lock:
            self.hub.received_bytes += len(half)
        self._reset()

    def _reset(self) -> None:
        # Without lingering the close becomes a reset, as when a peer or a network dies.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        if getattr(self, "muted", False):
            return
        self.send_response(status)
        names = {name.lower() for name in headers}
        if "content-type" not in names:
            self.send_header("Content-Type", "application/json")
        if "content-length" not in names:
            self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _send_json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(value).encode(), headers or {})

    def _dispatch(self) -> None:
        self.access = self._authenticate()
        for method, pattern, handler in _ROUTES:
            match = re.fullmatch(pattern, self.route)
            if match and self.command in method.split():
                handler(self, **match.groupdict())
                return
        raise _Refused(404, f"no such route: {self.command} {self.route}")

    def _authenticate(self) -> str:
        header = self.headers.get("Authorization", "")
        if self.route.startswith("/storage/") or not header:
            return "none"
        access = {f"Bearer {self.hub.token}": "write", f"Bearer {READ_ONLY_TOKEN}": "read"}.get(header)
        if access is None:
            raise _Refused(401, "Invalid credentials in Authorization header")
        return access

    def _repo(self, repo_id: str, *, write: bool = False) -> Repo:
        repo = self.hub.repos.get(repo_id)
        if repo is None or (repo.private and self.access == "none"):
            raise _Refused(401 if self.access == "none" else 404, "Repository not found", "RepoNotFound")
        if write:
            self._need_write(repo_id.split("/")[0])
        return repo

    def _need_write(self, owner: str) -> None:
        if self.access == "none":
            raise _Refused(401, "Invalid username or password.")
        if self.access != "write" or owner == "forbidden":
            raise _Refused(403, f"You don't have the rights to write under the namespace {owner}")

    def _commit(self, repo_id: str, revision: str) -> Commit:
        commit = self._repo(repo_id).resolve(revision)
        if commit is None:
            raise _Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    def whoami(self) -> None:
        if self.access == "none":
            raise _Refused(401, "Invalid username or password.")
        self._send_json({"type": "user", "name": "org", "auth": {"accessToken": {"role": self.access}}})

    def create_repo(self) -> None:
        wanted = json.loads(self.body)
        owner = wanted.get("organization") or "org"
        repo_id = f"{owner}/{wanted['name']}"
        self._need_write(owner)
        url = f"{self.hub.url}/datasets/{repo_id}"
        if repo_id in self.hub.repos:
            self._send_json({"error": "You already created this dataset repo", "url": url}, 409)
            return
        repo = Repo(private=wanted.get("visibility") == "private" or bool(wanted.get("private")))
        repo.add_commit("main", "initial commit", {".gitattributes": make_blob(b"*.parquet filter=lfs\n")})
        self.hub.repos[repo_id] = repo
        self._send_json({"url": url, "name": repo_id})

    def validate_yaml(self) -> None:
        import yaml

        content = json.loads(self.body)["content"]
        match = re.match(r"^(\s*---(?:\r\n|\r|\n))([\S\s]*?)((?:\r\n|\r|\n)---[ \t]*(\r\n|\n|$))", content)
        errors = []
        try:
            metadata = yaml.safe_load(match.group(2)) if match else {}
            if not isinstance(metadata, dict):
                errors.append({"message": "metadata must be a mapping"})
            errors += _check_metadata(metadata or {})
        except yaml.YAMLError as error:
            errors.append({"message": str(error)})
        self._send_json({"errors": errors, "warnings": []}, 400 if errors else 200)

    def info(self, repo_id: str, revision: str = "main") -> None:
        import yaml

        commit, repo = self._commit(repo_id, revision), self._repo(repo_id)
        card = commit.files.get("README.md")
        text = (card.data or b"").decode() if card else ""
        match = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
        metadata = yaml.safe_load(match.group(1)) if match else {}
        stamp = "2024-01-01T00:00:00.000Z"
        self._send_json(
            {
                "_id": "0" * 24,
                "id": repo_id,
                "author": repo_id.split("/")[0],
                "sha": commit.oid,
                "private": repo.private,
                "gated": False,
                "disabled": False,
                "downloads": 0,
                "likes": 0,
                "createdAt": stamp,
                "lastModified": stamp,
                "tags": list(metadata.get("tags") or []),
                "cardData": metadata,
                "siblings": [{"rfilename": path} for path in sorted(commit.files)],
            }
        )

    def tree(self, repo_id: str, revision: str, path: str | None) -> None:
        files = self._commit(repo_id, revision).files
        below = f"{path}/" if path else ""
        recursive = self.query.get("recursive", ["false"])[0].lower() in ("true", "1")
        entries: dict[str, dict[str, Any]] = {}
        for name, blob in files.items():
            if not name.startswith(below):
                continue
            inner = name[len(below) :].split("/")
            for depth in range(1, len(inner) if recursive else min(2, len(inner))):
                folder = below + "/".join(inner[:depth])
                entries.setdefault(folder, _describe_folder(folder))
            if recursive or len(inner) == 1:
                entries[name] = _describe_file(name, blob)
        if path and not entries:
            raise _Refused(404, f"{path} does not exist", "EntryNotFound")
        self._send_json([entries[name] for name in sorted(entries)])

    def paths_info(self, repo_id: str, revision: str) -> None:
        files = self._commit(repo_id, revision).files
        if "json" in self.headers.get("Content-Type", ""):
            paths = json.loads(self.body)["paths"]
        else:
            paths = parse_qs(self.body.decode()).get("paths", [])
        found = []
        for path in paths:
            if path in files:
                found.append(_describe_file(path, files[path]))
            elif any(name.startswith(f"{path}/") for name in files):
                found.append(_describe_folder(path))
        self._send_json(found)

    def refs(self, repo_id: str) -> None:
        repo = self._repo(repo_id)
        listed = {
            kind: [{"name": n, "ref": f"refs/{prefix}/{n}", "targetCommit": c} for n, c in names.items()]
            for kind, prefix, names in (("branches", "heads", repo.branches), ("tags", "tags", repo.tags))
        }
        self._send_json({**listed, "converts": [], "pullRequests": []})

    def branch(self, repo_id: str, branch: str) -> None:
        repo = self._repo(repo_id, write=True)
        if branch in repo.branches:
            raise _Refused(409, f"Reference already exists: {branch}")
        start = json.loads(self.body or b"{}").get("startingPoint", "main")
        repo.branches[branch] = self._commit(repo_id, start).oid
        self._send_json({})

    def tag(self, repo_id: str, revision: str) -> None:
        repo = self._repo(repo_id, write=True)
        name = json.loads(self.body)["tag"]
        if name in repo.tags:
            raise _Refused(409, f"Tag reference exists already: {name}")
        repo.tags[name] = self._commit(repo_id, revision).oid
        self._send_json({})

    def preupload(self, repo_id: str, revision: str) -> None:
        self._repo(repo_id, write=True)
        files = self._commit(repo_id, revision).files
        answer = []
        for wanted in json.loads(self.body)["files"]:
            path = wanted["path"]
            lfs = path.endswith(_LFS_SUFFIXES) or wanted["size"] > _REGULAR_LIMIT
            blob = files.get(path)
            known = {"oid": blob.sha256 or blob.oid} if blob else {}
            answer.append({"path": path, "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False, **known})
        self._send_json({"files": answer})

    def lfs_batch(self, repo_id: str) -> None:
        self._repo(repo_id, write=True)
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            oid, size = wanted["oid"], wanted["size"]
            entry: dict[str, Any] = {"oid": oid, "size": size}
            if oid not in self.hub.objects:
                entry["actions"] = {
                    "upload": self._upload_action(oid, size),
                    "verify": {"href": f"{self.hub.url}/verify/{repo_id}"},
                }
            objects.append(entry)
        self._send_json({"transfer": "basic", "objects": objects})

    def _upload_action(self, oid: str, size: int) -> dict[str, Any]:
        url, part = f"{self.hub.url}/storage/{oid}", self.hub.part_bytes
        if not part or size <= part:
            return {"href": url}
        numbers = range(1, -(-size // part) + 1)
        return {"href": url, "header": {"chunk_size": str(part), **{str(n): f"{url}/{n}" for n in numbers}}}

    def store(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise _Refused(400, "the content does not match its address")
        self.hub.objects[oid] = self.body
        self._send(200, b"", {})

    def store_part(self, oid: str, number: str) -> None:
        self.hub.parts[(oid, int(number))] = self.body
        self._send(200, b"", {"ETag": f'"{hashlib.sha256(self.body).hexdigest()[:16]}"'})

    def complete(self, oid: str) -> None:
        numbers = [part["partNumber"] for part in json.loads(self.body)["parts"]]
        data = b"".join(self.hub.parts.pop((oid, number)) for number in numbers)
        if hashlib.sha256(data).hexdigest() != oid:
            raise _Refused(400, "the parts do not make up the content")
        self.hub.objects[oid] = data
        self._send(200, b"", {})

    def verify(self, repo_id: str) -> None:
        self._repo(repo_id, write=True)
        wanted = json.loads(self.body)
        if len(self.hub.objects.get(wanted["oid"], b"")) != wanted["size"]:
            raise _Refused(404, "the object is not there")
        self._send_json({})

    def make_commit(self, repo_id: str, branch: str) -> None:
        repo = self._repo(repo_id, write=True)
        if branch not in repo.branches:
            raise _Refused(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        lines = [json.loads(line) for line in self.body.splitlines()]
        header = lines[0]["value"]
        head = repo.commits[repo.branches[branch]]
        if header.get("parentCommit") not in (None, head.oid):
            raise _Refused(412, "A commit has happened since. Please refresh and try again.")
        files = dict(head.files)
        for line in lines[1:]:
            value, path = line["value"], line["value"]["path"]
            if line["key"] == "file":
                files[path] = make_blob(base64.b64decode(value["content"]))
            elif line["key"] == "lfsFile":
                if len(self.hub.objects.get(value["oid"], b"")) != value.get("size"):
                    raise _Refused(400, f"LFS pointer of {path} points to an object that is not there")
                files[path] = make_lfs_blob(value["oid"], value["size"])
            elif line["key"] == "deletedFile":
                if files.pop(path, None) is None:
                    raise _Refused(404, "A file with this name doesn't exist", "EntryNotFound")
            else:
                raise _Refused(400, f"unknown operation {line['key']}")
        commit = repo.add_commit(branch, header["summary"], files)
        url = f"{self.hub.url}/datasets/{repo_id}/commit/{commit.oid}"
        self._send_json({"success": True, "commitOid": commit.oid, "commitUrl": url, "hookOutput": ""})

    def resolve(self, repo_id: str, revision: str, path: str) -> None:
        commit = self._commit(repo_id, revision)
        blob = commit.files.get(path)
        if blob is None:
            raise _Refused(404, "Entry not found", "EntryNotFound")
        data = blob.data if blob.data is not None else self.hub.objects[str(blob.sha256)]
        headers = {
            "X-Repo-Commit": commit.oid,
            "ETag": f'"{blob.sha256 or blob.oid}"',
            "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
        }
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if wanted and self.command == "GET":
            start, end = int(wanted[1]), min(int(wanted[2] or len(data) - 1), len(data) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
            self._send(206, data[start : end + 1], headers)
            return
        self._send(200, data, headers)


@dataclass
class _Refused(Exception):
    status: int
    message: str
    code: str = ""


def _describe_file(path: str, blob: Blob) -> dict[str, Any]:
    lfs = {"lfs": {"oid": blob.sha256, "size": blob.size, "pointerSize": 130}} if blob.sha256 else {}
    return {"type": "file", "path": path, "size": blob.size, "oid": blob.oid, **lfs}


def _describe_folder(path: str) -> dict[str, Any]:
    return {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(path.encode()).hexdigest()}


def _check_metadata(metadata: dict[str, Any]) -> list[dict[str, str]]:
    """Return what the Hub would refuse: wrong types, and size categories that do not exist."""
    sizes = {"n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B"}
    problems = []
    for key in ("tags", "task_categories", "size_categories", "language", "license"):
        value = metadata.get(key)
        values = value if isinstance(value, list) else [value] if value is not None else []
        if not all(isinstance(item, str) and item for item in values):
            problems.append(f'"{key}" must be a string or a list of strings')
    if not set(metadata.get("size_categories") or []) <= {*sizes, "10B<n<100B"}:
        problems.append('"size_categories" holds an unknown category')
    return [{"message": problem} for problem in problems]


_REPO = r"(?P<repo_id>[^/]+/[^/]+)"
_ROUTES: list[tuple[str, str, Callable[..., None]]] = [
    ("GET", r"/api/whoami-v2", _Handler.whoami),
    ("POST", r"/api/repos/create", _Handler.create_repo),
    ("POST", r"/api/validate-yaml", _Handler.validate_yaml),
    ("GET", rf"/api/(?:datasets|models)/{_REPO}", _Handler.info),
    ("GET", rf"/api/(?:datasets|models)/{_REPO}/revision/(?P<revision>.+)", _Handler.info),
    ("GET", rf"/api/(?:datasets|models)/{_REPO}/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?", _Handler.tree),
    ("POST", rf"/api/(?:datasets|models)/{_REPO}/paths-info/(?P<revision>.+)", _Handler.paths_info),
    ("GET", rf"/api/(?:datasets|models)/{_REPO}/refs", _Handler.refs),
    ("POST", rf"/api/(?:datasets|models)/{_REPO}/branch/(?P<branch>.+)", _Handler.branch),
    ("POST", rf"/api/(?:datasets|models)/{_REPO}/tag/(?P<revision>.+)", _Handler.tag),
    ("POST", rf"/api/(?:datasets|models)/{_REPO}/preupload/(?P<revision>.+)", _Handler.preupload),
    ("POST", rf"/api/(?:datasets|models)/{_REPO}/commit/(?P<branch>.+)", _Handler.make_commit),
    ("POST", rf"/datasets/{_REPO}\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    ("PUT", r"/storage/(?P<oid>[0-9a-f]{64})", _Handler.store),
    ("PUT", r"/storage/(?P<oid>[0-9a-f]{64})/(?P<number>\d+)", _Handler.store_part),
    ("POST", r"/storage/(?P<oid>[0-9a-f]{64})", _Handler.complete),
    ("POST", rf"/verify/{_REPO}", _Handler.verify),
    ("GET HEAD", rf"(?:/datasets)?/{_REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", _Handler.resolve),
]
