"""One emulator for the whole run, and the few calls that every test makes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

HERE = Path(__file__).parent

# The machine's own account, profile and proxy have no part in this.
for _name in [name for name in os.environ if name.startswith("AWS_")]:
    if _name != "AWS_CA_BUNDLE":
        del os.environ[_name]
os.environ.update(AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull, AWS_EC2_METADATA_DISABLED="true")
for _name in ("NO_PROXY", "no_proxy"):
    os.environ[_name] = ",".join(filter(None, ["127.0.0.1,localhost", os.environ.get(_name)]))
SETTLED = ("COMPLETE", "FAILED")


def start(directory: Path, *options: str, **popen: Any) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
    """A launched emulator and what it says about itself once it is ready."""
    endpoint_file = directory / "endpoint.json"
    command = [sys.executable, str(HERE / "launch.py"), "--endpoint-file", str(endpoint_file), *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, **popen)
    deadline = time.monotonic() + 30
    while not endpoint_file.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the emulator did not start: exit {process.poll()}")
        time.sleep(0.05)
    return process, json.loads(endpoint_file.read_text())


class AWS:
    """Clients of one emulator, and stack operations the way the CDK CLI does them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._clients: dict[str, Any] = {}

    def __getattr__(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = boto3.client(
                service, endpoint_url=self.url, region_name="us-east-1", aws_access_key_id="test",
                aws_secret_access_key="test", config=Config(retries={"max_attempts": 0}))
        return self._clients[service]

    def deploy(self, name: str, template: dict[str, Any], kind: str = "CREATE", **parameters: str) -> dict[str, Any]:
        """Deploys through a change set; a parameter not named keeps its previous value."""
        given = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
        if kind == "UPDATE":
            given += [{"ParameterKey": key, "UsePreviousValue": True}
                      for key in template.get("Parameters", {}) if key not in parameters]
        change_set = f"deploy-{uuid.uuid4()}"
        self.cloudformation.create_change_set(
            StackName=name, ChangeSetName=change_set, ChangeSetType=kind, TemplateBody=json.dumps(template),
            Parameters=given, Capabilities=["CAPABILITY_NAMED_IAM"])
        self.cloudformation.get_waiter("change_set_create_complete").wait(
            StackName=name, ChangeSetName=change_set, WaiterConfig={"Delay": 0.05, "MaxAttempts": 200})
        self.cloudformation.execute_change_set(StackName=name, ChangeSetName=change_set)
        return self.settled(name)

    def settled(self, name: str) -> dict[str, Any]:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            stack = self.cloudformation.describe_stacks(StackName=name)["Stacks"][0]
            if stack["StackStatus"].endswith(SETTLED):
                return stack
            time.sleep(0.05)
        raise TimeoutError(f"{name} is still {stack['StackStatus']}")

    def destroy(self, name: str) -> str:
        stack_id = self.cloudformation.describe_stacks(StackName=name)["Stacks"][0]["StackId"]
        self.cloudformation.delete_stack(StackName=name)
        return str(self.settled(stack_id)["StackStatus"])

    def ids(self, name: str) -> dict[str, str]:
        found = self.cloudformation.describe_stack_resources(StackName=name)["StackResources"]
        return {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in found}

    def reasons(self, name: str) -> str:
        events = self.cloudformation.describe_stack_events(StackName=name)["StackEvents"]
        return "\n".join(f"{each['LogicalResourceId']} {each['ResourceStatus']} "
                         f"{each.get('ResourceStatusReason', '')}" for each in events)


def outputs(stack: dict[str, Any]) -> dict[str, str]:
    return {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", [])}


def template(environment: str) -> dict[str, Any]:
    text = (HERE / "testdata" / "stack.json").read_text()
    return json.loads(text.replace("@ENV@", environment))


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AWS]:
    process, endpoint = start(tmp_path_factory.mktemp("emulator"), "--with-parent", env=dict(os.environ))
    yield AWS(endpoint["url"])
    process.terminate()
    assert process.wait(timeout=10) == 0
