"""Weights from files and from a hub, which here is a small server of our own."""

import functools
import hashlib
import http.server
import threading

import numpy as np
import pytest
import safetensors.numpy

from jaxrepro.errors import UserError
from jaxrepro.models.pretrained import read_weights

NUMBERS = np.array([[1.0, -2.5], [0.15625, 3.0]], np.float32)


def write(path, array=NUMBERS):
    safetensors.numpy.save_file({"a": array}, path)
    return path


def test_a_file_gives_back_what_was_written(tmp_path):
    found = read_weights(write(tmp_path / "x.safetensors"))
    assert list(found) == ["a"]
    np.testing.assert_array_equal(found["a"], NUMBERS)


@pytest.mark.parametrize("data", [b"", b"\x80\x04pickled", (2**40).to_bytes(8, "little"), b"cut off"])
def test_a_damaged_file_is_a_users_error(tmp_path, data):
    path = tmp_path / "x.safetensors"
    whole = write(path, np.ones(100, np.float32)).read_bytes()
    path.write_bytes(whole[:-8] if data == b"cut off" else data)
    with pytest.raises(UserError, match="not a sound safetensors file"):
        read_weights(path)


@pytest.mark.parametrize("name", ["vgg16.safetensors", "folder/vgg16.safetensors", "/nowhere/vgg16"])
def test_a_missing_file_is_not_looked_for_on_the_hub(name):
    with pytest.raises(UserError, match=f"weights file {name} does not exist"):
        read_weights(name)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub with one repository, "somebody/net", and an empty cache; yields the list of requests that it got."""
    import huggingface_hub

    content, requests = write(tmp_path / "weights").read_bytes(), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            requests.append((self.command, self.path))
            known = self.path == "/somebody/net/resolve/main/model.safetensors"
            body = content if known else b"no such repository"
            self.send_response(200 if known else 404)
            self.send_header("Content-Length", str(len(body)))
            if known:
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", "0" * 40)
            else:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address, cache = f"http://127.0.0.1:{server.server_port}", tmp_path / "cache"
    download = functools.partial(huggingface_hub.hf_hub_download, endpoint=address, cache_dir=cache)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    huggingface_hub.close_session()  # a session remembers the proxies
    yield requests
    server.shutdown()
    server.server_close()
    huggingface_hub.close_session()


def test_the_hub_is_asked_once_for_a_repositorys_weights(hub):
    for _ in range(2):
        np.testing.assert_array_equal(read_weights("somebody/net")["a"], NUMBERS)
    assert [command for command, _ in hub].count("GET") == 1


def test_a_repository_that_the_hub_lacks_is_a_users_error(hub):
    with pytest.raises(UserError, match=r"cannot get model\.safetensors of somebody/other") as caught:
        read_weights("somebody/other")
    assert str(caught.value).endswith("give the path of a safetensors file")
