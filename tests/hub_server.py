"""A small hub on 127.0.0.1: what huggingface_hub 2.x asks for to download models and datasets.

Answers as huggingface.co does: metadata and file lists are public even for a gated repository, its files are not;
an unknown repository is 401 without a token and 404 with one. Every request is kept for the tests to count.
"""

import contextlib
import hashlib
import json
import threading
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from local_server import SilentHandler, serving


@dataclass
class Repo:
    """Commits {40 hex digits: {path: bytes}}, and names of commits {"main": commit, "v1": commit}."""

    commits: dict[str, dict[str, bytes]]
    refs: dict[str, str]
    gated: bool = False
    allowed: str | None = None  # the token that may read a gated repository

    def commit(self, revision: str) -> str | None:
        """The commit that a revision stands for."""
        return revision if revision in self.commits else self.refs.get(revision)


@dataclass
class Request:
    """One request as it came."""

    method: str
    path: str
    range: str | None
    token: str | None


@dataclass
class Hub:
    """The server. repos: {("models" or "datasets", "owner/name"): Repo}."""

    repos: dict[tuple[str, str], Repo] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    cuts: dict[str, list[int]] = field(default_factory=dict)  # file -> bytes sent before each cut, one a request
    stall: threading.Event | None = None  # a cut waits for it: the client hangs in the middle of a file
    stalled: threading.Event = field(default_factory=threading.Event)
    status: int | None = None  # answer everything with this status
    page: bytes | None = None  # answer everything with this page, as a captive portal does
    url: str = ""

    def add(self, kind: str, name: str, files: dict[str, bytes], tag: str = "v1", **more) -> str:
        """Store a repository with one commit, named main and `tag`; the commit."""
        digest = hashlib.sha1(name.encode())
        for path in sorted(files):
            digest.update(path.encode() + files[path])
        commit = digest.hexdigest()
        self.repos[kind, name] = Repo({commit: files}, {"main": commit, tag: commit}, **more)
        return commit

    def asked(self) -> list[Request]:
        """The requests about repositories (the client also asks for lists of its own)."""
        return [r for r in self.requests if any(name in r.path for _, name in self.repos)]

    def files_sent(self) -> list[Request]:
        """The requests for the contents of files."""
        return [r for r in self.requests if r.method == "GET" and "/resolve/" in r.path]


@contextlib.contextmanager
def running(hub: Hub):
    """Serve `hub` in a thread; hub.url is its address."""
    with serving(Handler, hub=hub) as hub.url:
        try:
            yield hub
        finally:
            if hub.stall:
                hub.stall.set()


class Handler(SilentHandler):
    hub: Hub

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        self.hub.requests.append(Request(self.command, path, self.headers.get("Range"), token))
        if self.hub.status:
            return self.refuse(self.hub.status, None, "out of order")
        if self.hub.page:
            return self.answer(self.hub.page, headers={"Content-Type": "text/html"})
        api = path.startswith("/api/")
        parts = path.removeprefix("/api").strip("/").split("/")
        kind = parts.pop(0) if parts[0] in ("models", "datasets") else "models"
        repo, rest = self.hub.repos.get((kind, "/".join(parts[:2]))), parts[2:]
        if repo is None:
            return self.refuse(404 if token else 401, "RepoNotFound", "Repository not found")
        # /revision/<rev>, /tree/<rev>, /resolve/<commit>/<file>; a revision holds no slash here
        if len(rest) < 2 or (rest[0] == "resolve") is api:
            return self.refuse(404, None, "Not found")
        commit = repo.commit(rest[1])
        if commit is None:
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {rest[1]}")
        if rest[0] == "revision":
            return self.answer(json.dumps(info("/".join(parts[:2]), repo, commit)).encode())
        if rest[0] == "tree":
            return self.answer(json.dumps([entry(*item) for item in repo.commits[commit].items()]).encode())
        return self.file(repo, commit, "/".join(rest[2:]), token)

    def file(self, repo: Repo, commit: str, name: str, token: str | None):
        """A file's bytes, or the part that was asked for."""
        if repo.gated and (token is None or token != repo.allowed):
            return self.refuse(403 if token else 401, "GatedRepo", "Access to this model is restricted")
        content = repo.commits[commit].get(name)
        if content is None:
            return self.refuse(404, "EntryNotFound", "Entry not found")
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": commit}
        first = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        cuts = self.hub.cuts.get(name)
        stop = cuts.pop(0) if cuts and self.command == "GET" else None
        return self.answer(content[first:], 206 if first else 200, headers, stop)

    def answer(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None, stop: int | None = None):
        """Send a response; stop: cut the connection after so many bytes of the body."""
        self.send_response(status)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        with contextlib.suppress(ConnectionError):  # the client was killed
            self.wfile.write(body if stop is None else body[:stop])
        if stop is not None:
            self.wfile.flush()
            self.hub.stalled.set()
            if self.hub.stall:
                self.hub.stall.wait(30)
            self.close_connection = True

    def refuse(self, status: int, code: str | None, message: str):
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.answer(json.dumps({"error": message}).encode(), status, headers)


def info(name: str, repo: Repo, commit: str) -> dict:
    """What the hub says of a repository at a commit."""
    siblings = [{"rfilename": path} for path in repo.commits[commit]]
    return {
        "_id": "0", "id": name, "modelId": name, "author": name.split("/")[0], "sha": commit, "private": False,
        "gated": "manual" if repo.gated else False, "disabled": False, "tags": [], "downloads": 0, "likes": 0,
        "siblings": siblings, "lastModified": "2024-01-01T00:00:00.000Z", "createdAt": "2024-01-01T00:00:00.000Z",
    }  # fmt: skip


def entry(path: str, content: bytes) -> dict:
    """One line of a repository's file list."""
    oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return {"type": "file", "path": path, "size": len(content), "oid": oid}
