"""A server that speaks S3, in a process of its own on loopback."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from shards.storage.transfer import RemoteOptions

_SERVER = """
import sys
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
"""
KEYS = {"key": "test", "secret": "test"}


@contextmanager
def s3_server(**environment: str) -> Iterator[int]:
    """Runs it; gives its port."""
    command = [sys.executable, "-c", _SERVER]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=os.environ | environment, **pipes) as server:
        try:
            assert server.stdout is not None
            yield int(server.stdout.readline())
        finally:
            server.kill()


def endpoint(port: int) -> dict[str, str]:
    """Storage options that lead there."""
    return KEYS | {"endpoint_url": f"http://127.0.0.1:{port}"}


def quick(port: int, **options: Any) -> RemoteOptions:
    """Few attempts, short waits."""
    given: dict[str, Any] = {
        "attempts": 2,
        "backoff_seconds": 0.01,
        "storage_options": endpoint(port),
    }
    return RemoteOptions(**(given | options))


def file_system(port: int) -> Any:
    """s3fs, speaking to it."""
    import s3fs

    return s3fs.S3FileSystem(**endpoint(port), skip_instance_cache=True, use_listings_cache=False)
