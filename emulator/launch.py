"""Runs the AWS emulator that berth's end-to-end tests and `make deploy-local` use.

    python emulator/launch.py [--port N] [--endpoint-file PATH] [--with-parent]

It listens on 127.0.0.1 alone, keeps everything in memory, prints one line on
stdout once it accepts requests, and ends on SIGTERM or SIGINT. docs/emulator.md
says what it can and cannot do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ACCOUNT = "123456789012"  # fixed, as are the default VPC's ids: look-ups can be cached
# What berth and the CDK CLI call. Everything else in the emulator stays off,
# also because some of its services open listeners of their own.
SERVICES = ("backup", "budgets", "cloudformation", "cloudwatch", "ec2", "ecr", "ecs", "elasticfilesystem",
            "events", "iam", "logs", "secretsmanager", "sns", "sqs", "ssm", "sts", "tagging")


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The AWS emulator of berth's tests, on loopback only.")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0, the default, picks a free one")
    parser.add_argument("--endpoint-file", type=Path, help="write url, account and pid there once ready, as JSON")
    parser.add_argument("--with-parent", action="store_true", help="end when the process that started this one ends")
    parser.add_argument("--verbose", action="store_true", help="log every request on stderr")
    return parser.parse_args(argv)


def settle_environment(port: int, verbose: bool) -> None:
    """The emulator reads its settings while it is imported, so this comes first."""
    for name in ("LOCALSTACK_PERSISTENCE", "PERSIST_STATE", "S3_PERSIST", "USE_SSL", "AUTH", "EDGE_PORT"):
        os.environ.pop(name, None)
    os.environ.update(
        GATEWAY_PORT=str(port),
        MINISTACK_HOST="127.0.0.1",
        MINISTACK_ACCOUNT_ID=ACCOUNT,
        MINISTACK_REGION="us-east-1",
        SERVICES=",".join(SERVICES),
        SFTP_ENABLED="0",
        IOT_MTLS_ENABLED="0",
        DOCKER_HOST="unix:///nonexistent/docker.sock",  # no containers, on no one's machine
        LOG_LEVEL="INFO" if verbose else "WARNING",
    )


def application() -> Any:
    """The emulator, mended, with five pages of our own in front."""
    logging.getLogger("kms").setLevel(logging.ERROR)  # says that an optional library is missing
    from ministack.app import app

    import mend
    import tasks
    from catalog import TYPES
    from watch import ignored

    mend.install()
    pages: dict[str, Callable[[], Any]] = {
        "/_berth/process": lambda: {"pid": os.getpid()},
        "/_berth/types": lambda: {name: row._asdict() for name, row in TYPES.items()},
        "/_berth/ignored": lambda: {rtype: {op: sorted(names) for op, names in ops.items()}
                                    for rtype, ops in ignored.items()},
    }

    told: dict[str, Callable[[Any], Any]] = {"/_berth/task-started": tasks.started, "/_berth/task-ended": tasks.ended}

    async def front(scope: dict[str, Any], receive: Any, send: Any) -> None:
        path = scope.get("path", "")
        if path in told:
            body = json.dumps(told[path](json.loads(await whole(receive)))).encode()
        elif path in pages:
            body = json.dumps(pages[path]()).encode()
        else:
            await app(scope, receive, send)
            return
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return front


async def whole(receive: Any) -> bytes:
    """The body of a request."""
    body = b""
    while True:
        part = await receive()
        body += part.get("body", b"")
        if not part.get("more_body"):
            return body


async def wait_for_end(with_parent: bool) -> None:
    """Returns on SIGTERM, on SIGINT, or when another process became our parent."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    parent = os.getppid()
    # Polled: a signal on the parent's death is tied to one of its threads, and
    # a Go test's threads come and go.
    while not ended.is_set() and not (with_parent and os.getppid() != parent):
        try:
            await asyncio.wait_for(ended.wait(), timeout=0.5)
        except asyncio.TimeoutError:
            continue


async def announce(port: int, endpoint_file: Path | None) -> None:
    """Says that the emulator is ready, once it has answered a request."""
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /_berth/types HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
        answer = await reader.readline()
        writer.close()
        if b" 200" in answer:
            break
        await asyncio.sleep(0.05)
    url = f"http://127.0.0.1:{port}"
    if endpoint_file:
        text = json.dumps({"url": url, "account": ACCOUNT, "pid": os.getpid()})
        with tempfile.NamedTemporaryFile("w", dir=endpoint_file.parent, delete=False) as temporary:
            temporary.write(text)
        os.replace(temporary.name, endpoint_file)
    print(f"emulator ready at {url}", flush=True)


async def serve(listener: socket.socket, options: argparse.Namespace) -> None:
    from hypercorn.asyncio import serve as hypercorn_serve
    from hypercorn.config import Config

    config = Config()
    config.bind = [f"fd://{listener.fileno()}"]
    config.loglevel = "INFO" if options.verbose else "WARNING"
    config.accesslog = "-" if options.verbose else None
    config.graceful_timeout = 0.5
    port = listener.getsockname()[1]
    announcing = asyncio.create_task(announce(port, options.endpoint_file))
    await hypercorn_serve(application(), config, shutdown_trigger=lambda: wait_for_end(options.with_parent))
    announcing.cancel()


def main() -> int:
    options = arguments()
    try:
        listener = socket.create_server(("127.0.0.1", options.port))
    except (OSError, OverflowError) as error:
        print(f"emulator: cannot listen on 127.0.0.1:{options.port}: {error}", file=sys.stderr)
        return 1
    settle_environment(listener.getsockname()[1], options.verbose)
    try:
        asyncio.run(serve(listener, options))
    finally:
        if options.endpoint_file:
            options.endpoint_file.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
