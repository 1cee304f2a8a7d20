"""Emulators of object storage on the loopback, in threads of the process that tests."""

import contextlib
import logging
import re
from urllib.parse import parse_qs, unquote, urlparse

import fsspec
import pytest
from etils.epath import backend
from fsspec.config import conf
from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import NotFound

from data_pipelines import object_storage
from data_pipelines.storage import set_up_clients
from tests.forked_runs import free_port

_OBJECT = re.compile(r"(?:/upload|/download)?(?:/storage/v1)?/b/([^/]+)/o(?:/(.+))?")


def _generation(storage, parsed):
    """Of the object that a request is about; "0" if there is none."""
    found = _OBJECT.fullmatch(parsed.path)
    name = found and (found[2] or parse_qs(parsed.query).get("name", [None])[0])
    if not name:
        return None
    try:
        return str(storage.get_file_obj(found[1], unquote(name))["generation"])
    except NotFound:
        return "0"


class _Response(server.Response):
    """Tells the generation of what is read, as the real storage does and TensorStore asks for."""

    def close(self):
        handler = self._handler
        generation = _generation(handler.storage, urlparse(handler.path))
        if handler.command == "GET" and generation not in (None, "0"):
            self["x-goog-generation"] = generation
        super().close()


class _Router(server.Router):
    """Keeps the conditions of requests, by which writers do not undo each other's work."""

    def handle(self, method):
        handler = self._request_handler
        if handler.server.failing is not None:
            return self._refuse(handler.server.failing)
        parsed = urlparse(handler.path)
        query, now = parse_qs(parsed.query), _generation(handler.storage, parsed)
        if now is not None and query.get("ifGenerationMatch", [now]) != [now]:
            return self._refuse(412)
        if now is not None and query.get("ifGenerationNotMatch", [None]) == [now]:
            return self._refuse(304)
        return super().handle(method)

    def _refuse(self, status):
        server._read_raw_data(self._request_handler)
        self._request_handler.send_response(status)
        self._request_handler.send_header("Content-Length", "0")
        self._request_handler.end_headers()


class GoogleStorage:
    """gs:// with one bucket, called `bucket`.

    Attributes:
        environment: by which clients find it.
    """

    uri = "gs://bucket"

    def __init__(self):
        server.Router, server.Response = _Router, _Response
        logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)
        self._server = server.create_server(
            "127.0.0.1", free_port(), in_memory=True, default_bucket="bucket"
        )
        self._server.start()
        host, port = self._server._api._httpd.server_address
        self._server._api._httpd.handle_error = lambda *_: None  # clients that do not read on
        self.fail(None)
        url = f"http://{host}:{port}"
        self.environment = {
            "STORAGE_EMULATOR_HOST": url,
            "TENSORSTORE_GCS_HTTP_URL": url,
            "GCE_METADATA_ROOT": f"{host}:{port}",  # else it is asked for credentials, and waited
        }

    def fail(self, status):
        """From now on answers every request so; None: as it should."""
        self._server._api._httpd.failing = status

    def close(self):
        self._server.stop()


class AmazonStorage:
    """s3:// with one bucket, called `bucket`."""

    uri = "s3://bucket"

    def __init__(self):
        from moto.server import ThreadedMotoServer

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        port = free_port()
        self._server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
        self._server.start()
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "none",
            "AWS_SECRET_ACCESS_KEY": "none",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def close(self):
        self._server.stop()


@contextlib.contextmanager
def used(storage):
    """The clients of this process go to an emulator."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in storage.environment.items():
            patch.setenv(name, value)
        _forget_clients()
        yield storage
    _forget_clients()


def _forget_clients():
    set_up_clients()  # before gcsfs is imported, here or elsewhere
    set_up_clients.cache_clear()
    object_storage._reach.cache_clear()
    backend.fsspec_backend._get_filesystem.cache_clear()
    conf.pop("gs", None)
    for name in ("gs", "s3"):
        fsspec.get_filesystem_class(name).clear_instance_cache()


def put(folder, uri):
    """Copies a local folder to object storage."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            object_storage.upload(path, f"{uri}/{path.relative_to(folder).as_posix()}")
