"""Prints the pid of the emulator that an endpoint file is about, or fails where it no longer runs.

    python emulator/running.py ENDPOINT_FILE

The file alone proves nothing: after a crash it stays, and its pid and port may
be another process's by now. So the emulator itself is asked.
"""

from __future__ import annotations

import http.client
import json
import sys
from pathlib import Path
from urllib.parse import urlsplit


def pid_of(endpoint_file: Path) -> int | None:
    try:
        endpoint = json.loads(endpoint_file.read_text())
        address = urlsplit(endpoint["url"])
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=5)
        connection.request("GET", "/_berth/process")
        answered = json.loads(connection.getresponse().read())["pid"]
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
        return None
    return int(answered) if answered == endpoint.get("pid") else None


if __name__ == "__main__":
    pid = pid_of(Path(sys.argv[1]))
    if pid is None:
        sys.exit(1)
    print(pid)
