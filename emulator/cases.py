"""What each resource of testdata/stack.json is expected to look like in its own API.

A case names the resource, how to read it back, what a part of the answer must
be after its creation, an edit of the template, and that part after the update.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from conftest import AWS

Show = Callable[[AWS, str], Any]


@dataclass
class Case:
    logical_id: str
    show: Show
    created: Any
    edit: dict[str, Any] = field(default_factory=dict)
    updated: Any = None


def look(case: Case, aws: AWS, physical_id: str) -> Any:
    """The resource in its own API, or None where it is gone."""
    try:
        shown = case.show(aws, physical_id)
    except (ClientError, LookupError):
        return None
    if isinstance(shown, dict):
        shown.pop("ResponseMetadata", None)
    return shown


def first(items: list[Any]) -> Any:
    return items[0]


def _service(aws: AWS, arn: str) -> Any:
    cluster, name = arn.split("/")[-2:]
    service = first(aws.ecs.describe_services(cluster=cluster, services=[name], include=["TAGS"])["services"])
    if service["status"] == "INACTIVE":
        raise LookupError(name)
    tasks = aws.ecs.list_tasks(cluster=cluster, serviceName=name)["taskArns"]
    described = aws.ecs.describe_tasks(cluster=cluster, tasks=tasks)["tasks"] if tasks else []
    family, revision = service["taskDefinition"].split("/")[-1].split(":")
    return {**service, "revision": f"{family}:{revision}", "tasks": described}


def _task_definition(aws: AWS, arn: str) -> Any:
    answer = aws.ecs.describe_task_definition(taskDefinition=arn, include=["TAGS"])
    if answer["taskDefinition"]["status"] != "ACTIVE":
        raise LookupError(arn)
    return {**answer["taskDefinition"], "tags": answer["tags"]}


def _file_system(aws: AWS, fs: str) -> Any:
    return {**first(aws.efs.describe_file_systems(FileSystemId=fs)["FileSystems"]),
            "policy": json.loads(aws.efs.describe_file_system_policy(FileSystemId=fs)["Policy"]),
            "backup": aws.efs.describe_backup_policy(FileSystemId=fs)["BackupPolicy"]["Status"],
            "lifecycle": aws.efs.describe_lifecycle_configuration(FileSystemId=fs)["LifecyclePolicies"]}


def _mount_target(aws: AWS, target: str) -> Any:
    found = first(aws.efs.describe_mount_targets(MountTargetId=target)["MountTargets"])
    groups = aws.efs.describe_mount_target_security_groups(MountTargetId=target)["SecurityGroups"]
    return {**found, "groups": len(groups)}


def _repository(aws: AWS, name: str) -> Any:
    policy = aws.ecr.get_lifecycle_policy(repositoryName=name)["lifecyclePolicyText"]
    return {**first(aws.ecr.describe_repositories(repositoryNames=[name])["repositories"]),
            "rules": json.loads(policy)["rules"]}


def _secret(aws: AWS, arn: str) -> Any:
    value = aws.secretsmanager.get_secret_value(SecretId=arn)["SecretString"]
    secret = aws.secretsmanager.describe_secret(SecretId=arn)
    secret.pop("LastAccessedDate", None)  # looking changes it
    return {**secret, "value": json.loads(value)}


def _token(aws: AWS, arn: str) -> Any:
    value = _secret(aws, arn)["value"]
    return {"user": value["user"], "length": len(value["token"]), "plain": value["token"].isalnum()}


def _role(aws: AWS, name: str) -> Any:
    attached = aws.iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
    return {**aws.iam.get_role(RoleName=name)["Role"], "attached": [each["PolicyName"] for each in attached]}


def _inline(aws: AWS, role: str, policy: str) -> Any:
    return aws.iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]["Statement"]


def _task_policy(aws: AWS, physical_id: str) -> Any:
    roles = [each["RoleName"] for each in aws.iam.list_roles()["Roles"]]
    return _inline(aws, first([name for name in roles if name.startswith("cases-TaskRole-")]), "TaskPol")


def _budget(aws: AWS, name: str) -> Any:
    account = {"AccountId": "123456789012", "BudgetName": name}
    notices = aws.budgets.describe_notifications_for_budget(**account)["Notifications"]
    who = [aws.budgets.describe_subscribers_for_notification(**account, Notification=notice)["Subscribers"]
           for notice in notices]
    return {**aws.budgets.describe_budget(**account)["Budget"], "notices": notices, "who": who}


def _plan(aws: AWS, plan: str) -> Any:
    answer = aws.backup.get_backup_plan(BackupPlanId=plan)
    return {**answer["BackupPlan"], "tags": aws.backup.list_tags(ResourceArn=answer["BackupPlanArn"])["Tags"]}


def _selection(aws: AWS, physical_id: str) -> Any:
    selection, plan = physical_id.split("_")
    return aws.backup.get_backup_selection(BackupPlanId=plan, SelectionId=selection)["BackupSelection"]


def _vault(aws: AWS, name: str) -> Any:
    vault = aws.backup.describe_backup_vault(BackupVaultName=name)
    return {**vault, "tags": aws.backup.list_tags(ResourceArn=vault["BackupVaultArn"])["Tags"]}


def _alarm(aws: AWS, name: str) -> Any:
    return first(aws.cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"])


def _log_group(aws: AWS, name: str) -> Any:
    group = first(aws.logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"])
    return {**group, "tags": aws.logs.list_tags_for_resource(resourceArn=group["logGroupArn"])["tags"]}


def _rule(aws: AWS, name: str) -> Any:
    rule = aws.events.describe_rule(Name=name)
    return {**rule, "pattern": json.loads(rule["EventPattern"]),
            "targets": aws.events.list_targets_by_rule(Rule=name)["Targets"]}


def _cluster(aws: AWS, name: str) -> Any:
    return first(aws.ecs.describe_clusters(clusters=[name], include=["SETTINGS", "TAGS"])["clusters"])


def _topic(aws: AWS, arn: str) -> Any:
    tags = aws.sns.list_tags_for_resource(ResourceArn=arn)["Tags"]
    return {**aws.sns.get_topic_attributes(TopicArn=arn)["Attributes"], "tags": tags}


def _topic_policy(aws: AWS, physical_id: str) -> Any:
    arn = "arn:aws:sns:us-east-1:123456789012:claude-code-cases-alerts"
    statement = first(json.loads(aws.sns.get_topic_attributes(TopicArn=arn)["Attributes"]["Policy"])["Statement"])
    return {"sid": statement["Sid"]}


def _subscription(aws: AWS, arn: str) -> Any:
    return aws.sns.get_subscription_attributes(SubscriptionArn=arn)["Attributes"]


def _group_rule(aws: AWS, rule: str) -> Any:
    return first(aws.ec2.describe_security_group_rules(SecurityGroupRuleIds=[rule])["SecurityGroupRules"])


def _dashboard(aws: AWS, name: str) -> Any:
    return json.loads(aws.cloudwatch.get_dashboard(DashboardName=name)["DashboardBody"])


def _name(tagged: dict[str, Any]) -> str:
    return str(first([each["Value"] for each in tagged["Tags"] if each["Key"] == "Name"]))


def _gateway(aws: AWS, gateway: str) -> Any:
    return first(aws.ec2.describe_internet_gateways(InternetGatewayIds=[gateway])["InternetGateways"])


def _route(aws: AWS, physical_id: str) -> Any:
    table, destination = physical_id.split("|")
    routes = first(aws.ec2.describe_route_tables(RouteTableIds=[table])["RouteTables"])["Routes"]
    [route] = [each for each in routes if each["DestinationCidrBlock"] == destination]
    return {**route, "through": _name(_gateway(aws, route["GatewayId"]))}


def _association(aws: AWS, physical_id: str) -> Any:
    """The route table of the association's subnet, which is in one association only."""
    tables = aws.ec2.describe_route_tables()["RouteTables"]
    found = {each["RouteTableAssociationId"]: (table, each) for table in tables for each in table["Associations"]}
    table, association = found[physical_id]
    same = [each for _, each in found.values() if each.get("SubnetId") == association["SubnetId"]]
    return {"table": _name(table), "associations": len(same)}


def _attachment(aws: AWS, physical_id: str) -> Any:
    vpc = physical_id.split("|")[1]
    gateways = aws.ec2.describe_internet_gateways()["InternetGateways"]
    found = [(each, at) for each in gateways for at in each["Attachments"] if at["VpcId"] == vpc]
    return [{"gateway": _name(gateway), "State": at["State"]} for gateway, at in found] or None


def _tags(value: str) -> list[dict[str, str]]:
    return [{"Key": "Name", "Value": value}]


EXPRESSION = {"Id": "e", "Expression": "desired-running", "Label": "missing", "ReturnData": True}

CASES = [
    Case("TaskSg", lambda aws, pid: first(aws.ec2.describe_security_groups(GroupIds=[pid])["SecurityGroups"]),
         {"Description": "tasks", "VpcId": "vpc-00000001", "Tags": [{"Key": "Project"}]},
         {"Tags": [{"Key": "Project", "Value": "other"}]}, {"Tags": [{"Value": "other"}]}),
    Case("EfsIngress", _group_rule, {"IsEgress": False, "FromPort": 2049, "ToPort": 2049, "Description": "NFS"},
         {"Description": "EFS"}, {"Description": "EFS", "FromPort": 2049}),
    Case("EfsEgress", _group_rule, {"IsEgress": True, "FromPort": 2049}, {"Description": "EFS"},
         {"Description": "EFS"}),
    Case("Fs", _file_system,
         {"Encrypted": True, "ThroughputMode": "bursting", "backup": "DISABLED", "NumberOfMountTargets": 2,
          "lifecycle": [{"TransitionToIA": "AFTER_30_DAYS"}, {"TransitionToPrimaryStorageClass": "AFTER_1_ACCESS"}],
          "policy": {"Statement": [{"Effect": "Deny"}]}},
         {"LifecyclePolicies": [{"TransitionToIA": "AFTER_7_DAYS"}], "ThroughputMode": "elastic"},
         {"lifecycle": [{"TransitionToIA": "AFTER_7_DAYS"}], "ThroughputMode": "elastic", "Encrypted": True}),
    Case("Mt0", _mount_target, {"SubnetId": "subnet-00000001", "LifeCycleState": "available", "groups": 1},
         {"SecurityGroups": [{"Ref": "EfsSg"}, {"Ref": "TaskSg"}]}, {"groups": 2}),
    Case("Ap", lambda aws, pid: first(aws.efs.describe_access_points(AccessPointId=pid)["AccessPoints"]),
         {"PosixUser": {"Uid": 1000}, "RootDirectory": {"Path": "/berth", "CreationInfo": {"Permissions": "750"}}},
         {"AccessPointTags": _tags("other")}, {"Name": "other"}),
    Case("Repo", _repository,
         {"imageScanningConfiguration": {"scanOnPush": True}, "rules": [{"selection": {"countNumber": 10}}]},
         {"ImageTagMutability": "IMMUTABLE"}, {"imageTagMutability": "IMMUTABLE"}),
    Case("Key", _secret, {"Description": "key", "value": {"placeholder": True}, "Tags": [{"Key": "Project"}]},
         {"Description": "other"}, {"Description": "other", "value": {"placeholder": True}}),
    Case("Token", _token, {"user": "x", "length": 40, "plain": True}),
    Case("ExecRole", _role, {"attached": ["AmazonECSTaskExecutionRolePolicy"], "Tags": [{"Key": "Project"}]},
         {"ManagedPolicyArns": []}, {"attached": []}),
    Case("TaskPol", _task_policy, [{"Action": "cloudwatch:PutMetricData"}, {"Effect": "Allow"}],
         {"PolicyDocument": {"Version": "2012-10-17", "Statement": [
             {"Effect": "Deny", "Action": "s3:*", "Resource": "*"}]}}, [{"Effect": "Deny"}]),
    Case("Logs", _log_group, {"retentionInDays": 7, "tags": {"Project": "claude-code"}},
         {"RetentionInDays": 30}, {"retentionInDays": 30}),
    Case("Cluster", _cluster, {"settings": [{"name": "containerInsights", "value": "enabled"}]},
         {"ClusterSettings": [{"Name": "containerInsights", "Value": "enhanced"}]},
         {"settings": [{"value": "enhanced"}], "capacityProviders": ["FARGATE", "FARGATE_SPOT"]}),
    Case("Cpa", _cluster, {"capacityProviders": ["FARGATE", "FARGATE_SPOT"]},
         {"DefaultCapacityProviderStrategy": [{"CapacityProvider": "FARGATE", "Weight": "1"}]},
         {"defaultCapacityProviderStrategy": [{"capacityProvider": "FARGATE", "weight": 1}]}),
    Case("Td", _task_definition,
         {"networkMode": "awsvpc", "cpu": "2048", "runtimePlatform": {"cpuArchitecture": "ARM64"},
          "ephemeralStorage": {"sizeInGiB": 40}, "tags": [{"key": "Project"}],
          "volumes": [{"efsVolumeConfiguration": {"transitEncryption": "ENABLED",
                                                  "authorizationConfig": {"iam": "ENABLED"}}}, {"name": "ssm"}],
          "containerDefinitions": [{
              "image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/claude-code-cases:latest",
              "secrets": [{"name": "ANTHROPIC_API_KEY"}], "stopTimeout": 120, "readonlyRootFilesystem": True,
              "mountPoints": [{"containerPath": "/data"}], "healthCheck": {"startPeriod": 60},
              "linuxParameters": {"initProcessEnabled": True}, "dockerLabels": {"Some.Key": "x"},
              "logConfiguration": {"options": {"awslogs-group": "/ecs/claude-code-cases"}}}]},
         {"Cpu": "4096"}, {"cpu": "4096", "revision": 2, "memory": "8192"}),
    Case("Svc", _service,
         {"desiredCount": 1, "runningCount": 1, "revision": "claude-code-cases:1", "enableExecuteCommand": True,
          "propagateTags": "SERVICE", "capacityProviderStrategy": [{"capacityProvider": "FARGATE"}],
          "deploymentConfiguration": {"maximumPercent": 100, "minimumHealthyPercent": 0,
                                      "deploymentCircuitBreaker": {"enable": True, "rollback": True}},
          "networkConfiguration": {"awsvpcConfiguration": {"assignPublicIp": "ENABLED"}},
          "deployments": [{"status": "PRIMARY", "rolloutState": "COMPLETED"}],
          "tasks": [{"lastStatus": "RUNNING", "capacityProviderName": "FARGATE"}]},
         {"CapacityProviderStrategy": [{"CapacityProvider": "FARGATE_SPOT", "Weight": 1}],
          "EnableExecuteCommand": False},
         {"revision": "claude-code-cases:2", "desiredCount": 1, "runningCount": 1, "enableExecuteCommand": False,
          "capacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT"}],
          "deployments": [{"rolloutState": "COMPLETED",
                           "capacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT"}]}],
          "tasks": [{"lastStatus": "RUNNING", "capacityProviderName": "FARGATE_SPOT"}]}),
    Case("Topic", _topic, {"tags": [{"Key": "Project"}]}, {"DisplayName": "other"}, {"DisplayName": "other"}),
    Case("TopicPol", _topic_policy, {"sid": "s"},
         {"PolicyDocument": {"Statement": [{"Sid": "other", "Effect": "Allow", "Principal": "*",
                                            "Action": "sns:Publish", "Resource": "*"}]}}, {"sid": "other"}),
    Case("Sub", _subscription, {"Protocol": "email", "Endpoint": "ops@example.com", "PendingConfirmation": "true"},
         {"FilterPolicy": {"a": ["b"]}}, {"FilterPolicy": '{"a": ["b"]}'}),
    Case("Cpu", _alarm,
         {"Threshold": 90, "EvaluationPeriods": 2, "Statistic": "Average", "AlarmActions": [
             "arn:aws:sns:us-east-1:123456789012:claude-code-cases-alerts"],
          "Dimensions": [{"Value": "claude-code-cases"}, {"Value": "claude-code-cases"}]},
         {"Threshold": 80}, {"Threshold": 80, "MetricName": "CPUUtilization"}),
    Case("Math", _alarm, {"Metrics": [{"Expression": "running-desired"}, {"MetricStat": {"Period": 60}}, {}]},
         {"Metrics": [EXPRESSION]}, {"Metrics": [EXPRESSION]}),
    Case("Dash", _dashboard, {"widgets": [{"type": "text"}]},
         {"DashboardBody": '{"widgets": []}'}, {"widgets": []}),
    Case("Failed", _rule, {"State": "ENABLED", "pattern": {"source": ["aws.ecs"]}, "targets": [{"Id": "t"}]},
         {"State": "DISABLED"}, {"State": "DISABLED", "targets": [{"Id": "t"}]}),
    Case("Vault", _vault, {"tags": {"Project": "claude-code"}},
         {"BackupVaultTags": {"Project": "other"}}, {"tags": {"Project": "other"}}),
    Case("Plan", _plan,
         {"Rules": [{"TargetBackupVaultName": "claude-code-cases", "Lifecycle": {"DeleteAfterDays": 35}}],
          "tags": {"Project": "claude-code"}},
         {"BackupPlanTags": {"Project": "other"}}, {"tags": {"Project": "other"}}),
    Case("Sel", _selection, {"SelectionName": "fs"},
         {"BackupSelection": {"SelectionName": "other", "IamRoleArn": {"Fn::GetAtt": ["BackupRole", "Arn"]},
                              "Resources": [{"Fn::GetAtt": ["Fs", "Arn"]}]}}, {"SelectionName": "other"}),
    Case("Budget", _budget,
         {"BudgetLimit": {"Amount": "200", "Unit": "USD"}, "notices": [{"Threshold": 80.0}],
          "who": [[{"Address": "ops@example.com"}]]},
         {"Budget": {"BudgetName": "claude-code-cases", "BudgetType": "COST", "TimeUnit": "MONTHLY",
                     "BudgetLimit": {"Amount": 50, "Unit": "USD"}}},
         {"BudgetLimit": {"Amount": "50"}, "notices": [{"Threshold": 80.0}]}),
    Case("Net", lambda aws, pid: first(aws.ec2.describe_vpcs(VpcIds=[pid])["Vpcs"]),
         {"CidrBlock": "10.0.0.0/16"}, {"Tags": _tags("other")}, {"Tags": [{"Value": "other"}]}),
    Case("Zone", lambda aws, pid: first(aws.ec2.describe_subnets(SubnetIds=[pid])["Subnets"]),
         {"CidrBlock": "10.0.0.0/18", "AvailabilityZone": "us-east-1b", "MapPublicIpOnLaunch": True},
         {"MapPublicIpOnLaunch": False}, {"MapPublicIpOnLaunch": False}),
    Case("Gateway", _gateway, {"Attachments": [{"State": "available"}]},
         {"Tags": _tags("other")}, {"Tags": [{"Value": "other"}]}),
    Case("Attached", _attachment, [{"gateway": "cases", "State": "available"}],
         {"InternetGatewayId": {"Ref": "Spare"}}, [{"gateway": "spare", "State": "available"}]),
    Case("Table", lambda aws, pid: first(aws.ec2.describe_route_tables(RouteTableIds=[pid])["RouteTables"]),
         {"Tags": [{"Value": "cases"}]}, {"Tags": _tags("other")}, {"Tags": [{"Value": "other"}]}),
    Case("Way", _route, {"State": "active", "through": "cases"},
         {"GatewayId": {"Ref": "Spare"}}, {"State": "active", "through": "spare"}),
    Case("Joined", _association, {"table": "cases", "associations": 1},
         {"RouteTableId": {"Ref": "Detour"}}, {"table": "detour", "associations": 1}),
]
