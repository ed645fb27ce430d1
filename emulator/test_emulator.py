"""The emulator does what its table says, seen through the services' own APIs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cases import CASES, Case, look
from catalog import IGNORED, TYPES
from conftest import AWS, HERE, outputs, start, template

CASE_IDS = [case.logical_id for case in CASES]
ONLY_TOPIC = {"AWSTemplateFormatVersion": "2010-09-09", "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}


def includes(actual: Any, expected: Any) -> bool:
    """Whether ``actual`` says at least what ``expected`` says.

    Lists have to be as long as expected and are compared item by item. Of a
    list of tags any order will do, and more of them: the stack adds its own.
    """
    if isinstance(expected, dict):
        return isinstance(actual, dict) and all(
            key in actual and includes(actual[key], value) for key, value in expected.items())
    if isinstance(expected, list):
        if not isinstance(actual, list):
            return False
        if expected and all(_is_tag(each) for each in expected):
            return all(any(includes(found, each) for found in actual) for each in expected)
        return len(actual) == len(expected) and all(map(includes, actual, expected))
    return bool(actual == expected)


def _is_tag(item: Any) -> bool:
    return isinstance(item, dict) and bool(item) and {key.lower() for key in item} <= {"key", "value"}


@pytest.mark.parametrize(("actual", "expected", "included"), [
    ({"a": 1, "b": 2}, {"a": 1}, True),
    ({"b": 2}, {"a": 1}, False),
    (None, {"a": 1}, False),
    ([{"a": 1, "b": 2}], [{"a": 1}], True),
    ([{"a": 1}, {"a": 2}], [{"a": 1}], False),
    ([{"a": 1}], [{"a": 1}, {"a": 2}], False),
    ([], [], True),
    ([1], [], False),
    (None, [], False),
    ([{"Key": "x", "Value": "1"}, {"Key": "p", "Value": "2"}], [{"Key": "p", "Value": "2"}], True),
    ([{"Key": "p", "Value": "1"}], [{"Key": "p", "Value": "2"}], False),
    ([{"key": "p", "value": "1"}], [{"key": "p"}], True),
    ([{"Key": "p", "Value": "1"}], [{"Value": "1"}], True),
    ([], [{"Key": "p"}], False),
    ([{"Key": "x"}], [{"Key": "p"}], False),
])
def test_includes(actual: Any, expected: Any, included: bool) -> None:
    assert includes(actual, expected) is included


def show_all(aws: AWS, ids: dict[str, str]) -> dict[str, Any]:
    return {case.logical_id: look(case, aws, ids[case.logical_id]) for case in CASES}


class Life:
    """What every resource looked like at each step of one stack's life."""

    def __init__(self, aws: AWS) -> None:
        name, body = "cases", template("cases")
        first = aws.deploy(name, body, DesiredCount="1")
        assert first["StackStatus"] == "CREATE_COMPLETE", aws.reasons(name)
        self.outputs, self.created = outputs(first), show_all(aws, aws.ids(name))
        for case in CASES:
            body["Resources"][case.logical_id]["Properties"].update(case.edit)
        second = aws.deploy(name, body, "UPDATE")
        assert second["StackStatus"] == "UPDATE_COMPLETE", aws.reasons(name)
        ids = aws.ids(name)
        self.updated_outputs, self.updated = outputs(second), show_all(aws, ids)
        self.parameters = second["Parameters"]
        assert aws.destroy(name) == "DELETE_COMPLETE"
        self.deleted = show_all(aws, ids)


@pytest.fixture(scope="module")
def life(aws: AWS) -> Life:
    return Life(aws)


def test_every_type_of_the_table_has_a_case_that_changes_it() -> None:
    resources = template("cases")["Resources"]
    assert {resources[case.logical_id]["Type"] for case in CASES} == set(TYPES)
    assert {resources[case.logical_id]["Type"] for case in CASES if case.edit} == set(TYPES)


@pytest.mark.parametrize("case", CASES, ids=CASE_IDS)
def test_created(life: Life, case: Case) -> None:
    assert includes(life.created[case.logical_id], case.created), life.created[case.logical_id]


@pytest.mark.parametrize("case", [each for each in CASES if each.edit], ids=lambda case: case.logical_id)
def test_updated(life: Life, case: Case) -> None:
    assert includes(life.updated[case.logical_id], case.updated), life.updated[case.logical_id]


@pytest.mark.parametrize("case", CASES, ids=CASE_IDS)
def test_deleted(life: Life, case: Case) -> None:
    assert life.deleted[case.logical_id] is None


def test_outputs_follow_a_change_set(life: Life) -> None:
    assert life.outputs["EcsClusterName"] == "claude-code-cases"
    assert life.outputs["AnthropicApiKeySecretArn"].startswith("arn:aws:secretsmanager:")
    assert life.outputs["TaskDefinitionArn"].endswith("claude-code-cases:1")
    assert life.updated_outputs["TaskDefinitionArn"].endswith("claude-code-cases:2")
    assert life.outputs.keys() == life.updated_outputs.keys()


def test_parameters_are_kept(life: Life) -> None:
    kept = {each["ParameterKey"]: each["ParameterValue"] for each in life.parameters}
    assert kept == {"ImageRef": ":latest", "DesiredCount": "1"}


def test_no_property_is_ignored_unlisted(aws: AWS, life: Life) -> None:
    with urllib.request.urlopen(f"{aws.url}/_berth/ignored") as answer:
        seen = json.load(answer)
    assert {rtype: {op: set(names) for op, names in ops.items()} for rtype, ops in seen.items()} == IGNORED


def test_the_table_holds_every_type_that_berth_deploys() -> None:
    golden = (HERE.parent / "infra" / "testdata" / "golden").glob("*.json")
    used = {each["Type"] for path in golden for each in json.loads(path.read_text())["Resources"].values()}
    assert used and used <= set(TYPES)


def table() -> str:
    """The table of types as docs/emulator.md shows it."""
    lines = ["| type | provisioner | effect | note |", "|---|---|---|---|"]
    lines += [f"| `{rtype}` | {row.how} | {row.effect} | {row.note} |" for rtype, row in TYPES.items()]
    return "\n".join(lines)


def test_documentation_shows_the_table() -> None:
    assert table() in (HERE.parent / "docs" / "emulator.md").read_text()


def test_desired_count_of_zero_is_steady_and_follows_the_parameter(aws: AWS) -> None:
    body = template("paused")
    aws.deploy("paused", body, DesiredCount="0")
    name = "claude-code-paused"
    assert _counts(aws, name) == (0, 0, 1)
    aws.deploy("paused", body, "UPDATE", DesiredCount="2")
    assert _counts(aws, name) == (2, 2, 1)
    aws.deploy("paused", body, "UPDATE", DesiredCount="0")
    assert _counts(aws, name) == (0, 0, 1)
    aws.ecs.get_waiter("services_stable").wait(cluster=name, services=[name])
    assert aws.destroy("paused") == "DELETE_COMPLETE"


def test_an_update_reports_only_what_it_touches(aws: AWS) -> None:
    body = template("few")
    aws.deploy("few", body)
    body["Resources"]["Logs"]["Properties"]["RetentionInDays"] = 30
    aws.deploy("few", body, "UPDATE")
    events = aws.cloudformation.describe_stack_events(StackName="few")["StackEvents"]
    touched = {each["LogicalResourceId"] for each in events if each["ResourceStatus"].startswith("UPDATE")}
    assert touched == {"few", "Logs"}
    aws.destroy("few")


def test_a_change_set_says_what_is_replaced(aws: AWS) -> None:
    body = template("sets")
    aws.deploy("sets", body)
    body["Resources"]["Logs"]["Properties"]["RetentionInDays"] = 30
    body["Resources"]["Td"]["Properties"]["Cpu"] = "4096"
    aws.cloudformation.create_change_set(StackName="sets", ChangeSetName="look", ChangeSetType="UPDATE",
                                         TemplateBody=json.dumps(body), Capabilities=["CAPABILITY_NAMED_IAM"])
    changes = aws.cloudformation.describe_change_set(StackName="sets", ChangeSetName="look")["Changes"]
    found = {each["ResourceChange"]["LogicalResourceId"]: each["ResourceChange"]["Replacement"] for each in changes}
    assert found.items() >= {"Logs": "False", "Td": "True", "Svc": "False"}.items()
    assert "Fs" not in found
    aws.destroy("sets")


def _counts(aws: AWS, name: str) -> tuple[int, int, int]:
    service = aws.ecs.describe_services(cluster=name, services=[name])["services"][0]
    return service["desiredCount"], service["runningCount"], len(service["deployments"])


def test_an_unchanged_template_is_no_change(aws: AWS) -> None:
    aws.deploy("same", ONLY_TOPIC)
    aws.cloudformation.create_change_set(StackName="same", ChangeSetName="again", ChangeSetType="UPDATE",
                                         TemplateBody=json.dumps(ONLY_TOPIC))
    change_set = aws.cloudformation.describe_change_set(StackName="same", ChangeSetName="again")
    assert change_set["Status"] == "FAILED" and "didn't contain changes" in change_set["StatusReason"]
    aws.destroy("same")


@pytest.mark.parametrize("rtype", ["AWS::Made::Up", "AWS::S3::Bucket"])
def test_a_type_outside_the_table_is_refused_by_name(aws: AWS, rtype: str) -> None:
    body = {**ONLY_TOPIC, "Resources": {"Odd": {"Type": rtype}}}
    with pytest.raises(ClientError, match=rtype):
        aws.cloudformation.create_stack(StackName="odd", TemplateBody=json.dumps(body))


def test_a_template_above_the_inline_limit_is_refused(aws: AWS) -> None:
    body = {**ONLY_TOPIC, "Metadata": {"Padding": "x" * 51_200}}
    with pytest.raises(ClientError, match="51200"):
        aws.cloudformation.create_stack(StackName="large", TemplateBody=json.dumps(body))


def test_a_property_the_api_does_not_have_fails_the_resource(aws: AWS) -> None:
    body = template("typo")
    body["Resources"]["Svc"]["Properties"]["NetworkConfiguration"]["AwsvpcConfiguration"]["AssignIp"] = "x"
    assert aws.deploy("typo", body)["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "AssignIp" in aws.reasons("typo")
    aws.destroy("typo")


def test_a_failed_creation_leaves_nothing(aws: AWS) -> None:
    body = template("broken")
    body["Resources"]["Svc"]["Properties"]["TaskDefinition"] = "arn:aws:ecs:us-east-1:123456789012:task-definition/no:1"
    stack = aws.deploy("broken", body)
    assert stack["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "Svc CREATE_FAILED" in aws.reasons("broken")
    assert not [fs for fs in aws.efs.describe_file_systems()["FileSystems"] if "broken" in fs["Name"]]
    with pytest.raises(ClientError):
        aws.ecr.describe_repositories(repositoryNames=["claude-code-broken"])
    with pytest.raises(ClientError, match="ROLLBACK_COMPLETE state and can not be updated"):
        aws.deploy("broken", template("broken"), "UPDATE")
    assert aws.destroy("broken") == "DELETE_COMPLETE"
    assert aws.deploy("broken", template("broken"))["StackStatus"] == "CREATE_COMPLETE"
    aws.destroy("broken")


def test_a_failed_update_goes_back(aws: AWS) -> None:
    body = template("back")
    before = outputs(aws.deploy("back", body, DesiredCount="1"))
    body["Resources"]["Logs"]["Properties"]["RetentionInDays"] = 90
    body["Resources"]["Cpu"]["Properties"]["Threshold"] = 1
    body["Resources"]["Svc"]["Properties"]["TaskDefinition"] = "arn:aws:ecs:us-east-1:123456789012:task-definition/no:1"
    stack = aws.deploy("back", body, "UPDATE", DesiredCount="3")
    assert stack["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE", aws.reasons("back")
    assert outputs(stack) == before
    group = aws.logs.describe_log_groups(logGroupNamePrefix="/ecs/claude-code-back")["logGroups"][0]
    assert group["retentionInDays"] == 7
    assert aws.cloudwatch.describe_alarms(AlarmNames=["claude-code-back-cpu"])["MetricAlarms"][0]["Threshold"] == 90
    assert _counts(aws, "claude-code-back") == (1, 1, 1)
    assert aws.destroy("back") == "DELETE_COMPLETE"


def test_retained_resources_stay_and_block_their_names(aws: AWS) -> None:
    body = template("prod")
    kept = ("Fs", "Repo", "Key", "Token", "Logs", "Vault")
    for logical_id in kept:
        body["Resources"][logical_id].update(DeletionPolicy="Retain", UpdateReplacePolicy="Retain")
    aws.deploy("prod", body)
    ids = aws.ids("prod")
    assert aws.destroy("prod") == "DELETE_COMPLETE"
    shown = show_all(aws, ids)
    assert {name for name, value in shown.items() if value} == set(kept)
    del body["Resources"]["Fs"]["UpdateReplacePolicy"]
    assert aws.deploy("prod", body)["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "already exists" in aws.reasons("prod")
    aws.destroy("prod")


@pytest.mark.parametrize(("rtype", "properties"), [
    ("AWS::CloudWatch::Dashboard", {"DashboardName": "taken", "DashboardBody": '{"widgets": []}'}),
    ("AWS::SNS::Topic", {"TopicName": "taken"}),
])
def test_a_name_that_is_taken_fails_the_creation(aws: AWS, rtype: str, properties: dict[str, str]) -> None:
    body = {"Resources": {"Named": {"Type": rtype, "Properties": properties}}}
    aws.deploy("owner", body)
    assert aws.deploy("second", body)["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "already exists" in aws.reasons("second")
    aws.destroy("second")
    aws.destroy("owner")


def test_a_service_whose_name_is_taken_is_refused(aws: AWS) -> None:
    aws.deploy("owner", template("owner"))
    cluster, definition = "claude-code-owner", aws.ids("owner")["Td"]
    body = {"Resources": {"Named": {"Type": "AWS::ECS::Service", "Properties": {
        "Cluster": cluster, "ServiceName": cluster, "TaskDefinition": definition}}}}
    assert aws.deploy("second", body)["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "not idempotent" in aws.reasons("second")
    aws.destroy("second")
    assert _counts(aws, cluster) == (0, 0, 1)
    aws.destroy("owner")


def test_a_rule_refuses_parameters(aws: AWS) -> None:
    first = {"Parameters": {"Kept": {"Type": "String", "Default": "no"}}, **ONLY_TOPIC}
    rule = {"Assertions": [{"Assert": {"Fn::Equals": [{"Ref": "Kept"}, "yes"]}, "AssertDescription": "say yes"}]}
    body = {**first, "Rules": {"Agreed": rule}}
    with pytest.raises(ClientError, match="Agreed.*say yes"):
        aws.deploy("ruled", body)
    with pytest.raises(ClientError, match="say yes"):
        aws.cloudformation.create_stack(StackName="ruled", TemplateBody=json.dumps(body))
    assert aws.deploy("unruled", first, Kept="no")["StackStatus"] == "CREATE_COMPLETE"
    with pytest.raises(ClientError, match="say yes"):  # by the value that the stack has
        aws.deploy("unruled", body, "UPDATE")
    with pytest.raises(ClientError, match="say yes"):
        aws.cloudformation.update_stack(StackName="unruled", TemplateBody=json.dumps(body), Parameters=[
            {"ParameterKey": "Kept", "UsePreviousValue": True}])
    renamed = {**body, "Resources": {"Other": {"Type": "AWS::SNS::Topic"}}}
    assert aws.deploy("unruled", renamed, "UPDATE", Kept="yes")["StackStatus"] == "UPDATE_COMPLETE"
    body["Resources"] = {**ONLY_TOPIC["Resources"], **renamed["Resources"]}
    assert aws.deploy("unruled", body, "UPDATE")["StackStatus"] == "UPDATE_COMPLETE"
    aws.destroy("unruled")


def test_a_rule_holds_where_its_condition_does(aws: AWS) -> None:
    no = {"Fn::Equals": ["a", "b"]}
    rules = {"Idle": {"RuleCondition": no, "Assertions": [{"Assert": no}]}}
    assert aws.deploy("idle", {**ONLY_TOPIC, "Rules": rules})["StackStatus"] == "CREATE_COMPLETE"
    aws.destroy("idle")


@pytest.mark.parametrize("function", ["Fn::If", "Fn::Made", "Fn::RefAll", "Fn::Sub", "Fn::ValueOf", "Fn::ValueOfAll"])
def test_a_rule_with_another_function_is_refused_by_name(aws: AWS, function: str) -> None:
    rules = {"Odd": {"Assertions": [{"Assert": {"Fn::Not": [{function: ["a", "b"]}]}}]}}
    with pytest.raises(ClientError, match=function):
        aws.cloudformation.create_stack(StackName="odd", TemplateBody=json.dumps({**ONLY_TOPIC, "Rules": rules}))


def test_tags_find_what_carries_them(aws: AWS) -> None:
    aws.deploy("tagged", template("tagged"))
    wanted = [{"Key": "Environment", "Values": ["tagged"]}, {"Key": "Project"}]
    pages = aws.resourcegroupstaggingapi.get_paginator("get_resources").paginate(TagFilters=wanted)
    found = {each["ResourceARN"].split(":")[2] for page in pages for each in page["ResourceTagMappingList"]}
    assert found >= {"backup", "cloudwatch", "ec2", "ecr", "ecs", "elasticfilesystem", "logs", "secretsmanager",
                     "sns"}
    aws.destroy("tagged")


def test_a_mounted_file_system_cannot_go(aws: AWS) -> None:
    aws.deploy("mounted", template("mounted"))
    with pytest.raises(ClientError, match="mount targets"):
        aws.efs.delete_file_system(FileSystemId=aws.ids("mounted")["Fs"])
    aws.destroy("mounted")


def test_a_vault_with_a_recovery_point_blocks_the_deletion(aws: AWS) -> None:
    aws.deploy("full", template("full"))
    ids = aws.ids("full")
    arn = f"arn:aws:elasticfilesystem:us-east-1:123456789012:file-system/{ids['Fs']}"
    aws.backup.start_backup_job(BackupVaultName=ids["Vault"], ResourceArn=arn,
                                IamRoleArn="arn:aws:iam::123456789012:role/any")
    assert aws.destroy("full") == "DELETE_FAILED"
    assert "recovery points" in aws.reasons("full")
    aws.cloudformation.delete_stack(StackName="full", RetainResources=["Vault"])


@pytest.mark.parametrize("empties", [True, False])
def test_a_full_repository_goes_only_with_empty_on_delete(aws: AWS, empties: bool) -> None:
    name = f"images-{empties}".lower()
    body = {"Resources": {"Repo": {"Type": "AWS::ECR::Repository",
                                   "Properties": {"RepositoryName": name, "EmptyOnDelete": empties}}}}
    aws.deploy(name, body)
    aws.ecr.put_image(repositoryName=name, imageTag="latest", imageManifest=json.dumps({"schemaVersion": 2}))
    assert aws.destroy(name) == ("DELETE_COMPLETE" if empties else "DELETE_FAILED")


def test_three_environments_share_nothing(aws: AWS) -> None:
    names = ("one", "two", "three")
    for name in names:
        assert aws.deploy(name, template(name), DesiredCount="1")["StackStatus"] == "CREATE_COMPLETE"
    ids = {name: aws.ids(name) for name in names}
    for logical_id in ids["one"]:
        assert len({ids[name][logical_id] for name in names}) == 3, logical_id
    others = {name: [look(case, aws, ids[name][case.logical_id]) for case in CASES] for name in ("one", "three")}
    aws.destroy("two")
    for name, before in others.items():
        assert [look(case, aws, ids[name][case.logical_id]) for case in CASES] == before
        aws.destroy(name)


def test_the_default_network_is_always_the_same(aws: AWS) -> None:
    [vpc] = aws.ec2.describe_vpcs(Filters=[{"Name": "isDefault", "Values": ["true"]}])["Vpcs"]
    subnets = aws.ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc["VpcId"]]}])["Subnets"]
    assert vpc["VpcId"] == "vpc-00000001"
    assert {each["SubnetId"]: each["AvailabilityZone"] for each in subnets} == {
        "subnet-00000001": "us-east-1a", "subnet-00000002": "us-east-1b", "subnet-00000003": "us-east-1c"}
    assert aws.sts.get_caller_identity()["Account"] == "123456789012"


def test_it_listens_on_loopback_alone(tmp_path: Path) -> None:
    process, endpoint = start(tmp_path)
    listening = _listening_addresses(process.pid)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0
    assert listening == {("127.0.0.1", int(endpoint["url"].rsplit(":", 1)[1]))}
    assert not (tmp_path / "endpoint.json").exists()


def _listening_addresses(pid: int) -> set[tuple[str, int]]:
    sockets = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A" and f"socket:[{rest[5]}]" in sockets:
                address, port = local.split(":")
                octets = ".".join(str(byte) for byte in reversed(bytes.fromhex(address)))
                found.add((octets, int(port, 16)))
    return found


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """A directory like the project's, with no emulator of its own yet."""
    shutil.copytree(HERE, tmp_path / "emulator", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / ".venv").symlink_to(HERE.parent / ".venv")
    (tmp_path / ".berth" / "emulator").mkdir(parents=True)
    return tmp_path


def _stop(scripts: Path) -> str:
    done = subprocess.run([scripts / "emulator" / "stop-local"], check=True, capture_output=True, text=True)
    assert not (scripts / ".berth" / "emulator" / "endpoint.json").exists()
    return done.stdout


def test_stop_local_ends_the_emulator(scripts: Path) -> None:
    process, _ = start(scripts / ".berth" / "emulator")
    reaper = threading.Thread(target=process.wait)  # else it stays as a zombie, which still has its pid
    reaper.start()
    assert "is stopped" in _stop(scripts)
    reaper.join()
    assert process.returncode == 0
    assert "no emulator" in _stop(scripts)


@pytest.mark.parametrize("where", ["nobody", "another emulator"])
def test_stop_local_believes_no_stale_file(aws: AWS, scripts: Path, where: str) -> None:
    url = aws.url if where == "another emulator" else "http://127.0.0.1:1"
    bystander = subprocess.Popen(["sleep", "60"])
    (scripts / ".berth" / "emulator" / "endpoint.json").write_text(json.dumps({"url": url, "pid": bystander.pid}))
    assert "no emulator" in _stop(scripts)
    assert bystander.poll() is None
    assert aws.sts.get_caller_identity()["Account"] == "123456789012"
    bystander.kill()
    bystander.wait()


def test_an_interrupted_start_leaves_no_emulator(scripts: Path) -> None:
    note = scripts / "pid"
    (scripts / "emulator" / "launch.py").write_text(
        f"import os, pathlib, time\npathlib.Path({str(note)!r}).write_text(str(os.getpid()) + '.')\ntime.sleep(60)\n")
    script = subprocess.Popen([scripts / "emulator" / "deploy-local"], start_new_session=True)
    _until(lambda: note.exists() and note.read_text().endswith("."))
    os.killpg(script.pid, signal.SIGINT)
    assert script.wait(timeout=10) == 130
    _until(lambda: not Path(f"/proc/{note.read_text()[:-1]}").exists())


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    code = ("import conftest, pathlib, sys\n"
            "print(conftest.start(pathlib.Path(sys.argv[1]), '--with-parent')[0].pid)")
    parent = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=HERE, check=True,
                            capture_output=True, text=True)
    pid, deadline = int(parent.stdout), time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{pid}").exists()


def test_tasks_that_a_test_runs_itself(aws: AWS) -> None:
    aws.ecs.create_cluster(clusterName="ran")
    aws.ecs.register_task_definition(family="ran", containerDefinitions=[{"name": "agent", "image": "agent"}])
    aws.ecs.create_service(cluster="ran", serviceName="ran", taskDefinition="ran", desiredCount=1)

    def tell(what: str, **told: Any) -> None:
        body = json.dumps(told).encode()
        urllib.request.urlopen(urllib.request.Request(f"{aws.url}/_berth/{what}", body, method="POST")).close()

    def tasks(status: str) -> list[dict[str, Any]]:
        arns = aws.ecs.list_tasks(cluster="ran", desiredStatus=status)["taskArns"]
        return aws.ecs.describe_tasks(cluster="ran", tasks=arns)["tasks"] if arns else []

    [task] = tasks("RUNNING")
    tell("task-started", task=task["taskArn"], digest="sha256:abc")
    assert tasks("RUNNING")[0]["containers"][0]["imageDigest"] == "sha256:abc"
    tell("task-ended", task=task["taskArn"], code=137, reason="Essential container in task exited")
    [gone] = tasks("STOPPED")
    assert (gone["stopCode"], gone["containers"][0]["exitCode"]) == ("EssentialContainerExited", 137)
    [another] = tasks("RUNNING")
    assert another["taskArn"] != task["taskArn"]
    tell("task-ended", task=another["taskArn"], reason="CannotPullContainerError: no such image")
    assert {each["stopCode"] for each in tasks("STOPPED")} == {"EssentialContainerExited", "TaskFailedToStart"}
    aws.ecs.delete_service(cluster="ran", service="ran", force=True)
    aws.ecs.delete_cluster(cluster="ran")
