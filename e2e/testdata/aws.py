"""Runs many commands of the aws CLI in one process, which otherwise takes a second to start each.

Each line of standard input is a JSON list of commands, each a list of words; it is answered by a line with a JSON list of their exit
statuses and what they wrote.
"""

import contextlib
import io
import json
import sys
from typing import Any

from awscli.clidriver import CLIDriver, create_clidriver


def main() -> None:
    driver = create_clidriver()
    for line in sys.stdin:
        print(json.dumps([run(driver, words) for words in json.loads(line)]), flush=True)


def run(driver: CLIDriver, words: list[str]) -> dict[str, Any]:
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            status = driver.main(words)
        except SystemExit as ended:  # a command line that the CLI does not understand
            status = ended.code
    return {"status": status, "stdout": stdout.getvalue(), "stderr": stderr.getvalue()}


main()
