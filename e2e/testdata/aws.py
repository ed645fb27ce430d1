"""Runs many commands of the aws CLI in one process, which otherwise takes a second to start each.

Standard input is a JSON list of commands, each a list of words; standard output is a JSON list of
their exit statuses and what they wrote.
"""

import contextlib
import io
import json
import sys

from awscli.clidriver import create_clidriver


def main() -> None:
    driver, answers = create_clidriver(), []
    for words in json.load(sys.stdin):
        stdout, stderr = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            try:
                status = driver.main(words)
            except SystemExit as ended:  # a command line that the CLI does not understand
                status = ended.code
        answers.append({"status": status, "stdout": stdout.getvalue(), "stderr": stderr.getvalue()})
    json.dump(answers, sys.stdout)


main()
