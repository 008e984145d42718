"""Enough of the Hugging Face hub for one client on this machine: files of repositories down, commits up."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

COMMIT = "c0ffee00" * 5
_FILE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/[^/]+/(?P<file>.+)")
_COMMIT = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/commit/main")
_PREUPLOAD = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/preupload/main")


class FakeHub:
    """Serves ``repos`` ({repository: {file: bytes}}) and takes commits into them; ``requests`` is what was asked."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        self.requests: list[str] = []
        self.tokens: set[str] = set()
        self.refuses_with: int | None = None
        hub = self

        class Handler(_Handler):
            state = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Go down; connections are refused from now on."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    state: FakeHub

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""

    def do_HEAD(self) -> None:
        self._serve(with_body=False)

    def do_GET(self) -> None:
        self._serve(with_body=True)

    def do_POST(self) -> None:
        self.state.requests.append(f"POST {self.path}")
        self.state.tokens.add(self.headers.get("Authorization", ""))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.state.refuses_with is not None:
            self._answer(self.state.refuses_with, b"{}")
        elif self.path == "/api/repos/create":
            request = json.loads(body)
            repo = f"{request.get('organization') or 'someone'}/{request['name']}"
            self.state.repos.setdefault(repo, {})
            self._json({"url": f"{self.state.url}/{repo}", "name": repo, "id": repo})
        elif _PREUPLOAD.fullmatch(self.path):
            files = json.loads(body)["files"]
            modes = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]
            self._json({"files": modes})
        elif match := _COMMIT.fullmatch(self.path):
            for line in body.decode().splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    content = base64.b64decode(entry["value"]["content"])
                    self.state.repos[match["repo"]][entry["value"]["path"]] = content
            address = f"{self.state.url}/{match['repo']}/commit/{COMMIT}"
            self._json({"success": True, "commitUrl": address, "commitOid": COMMIT, "hookOutput": ""})
        else:
            self._json({})

    def _serve(self, with_body: bool) -> None:
        self.state.requests.append(f"{self.command} {self.path}")
        self.state.tokens.add(self.headers.get("Authorization", ""))
        match = _FILE.fullmatch(self.path)
        files = self.state.repos.get(match["repo"]) if match else None
        if self.state.refuses_with is not None:
            self._answer(self.state.refuses_with, b"")
        elif match is None or files is None:
            self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif match["file"] not in files:
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        else:
            body = files[match["file"]]
            etag = f'"{hashlib.sha1(body).hexdigest()}"'
            self._answer(200, body, {"ETag": etag, "X-Repo-Commit": COMMIT}, with_body)

    def _json(self, content: dict[str, Any]) -> None:
        self._answer(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None, with_body: bool = True) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body and self.command != "HEAD":
            self.wfile.write(body)
