"""Resource types that the emulator lacks, or whose own handler loses properties.

Each goes through the service's backend, so the service's API then shows it.
A handler has the emulator's own form: create(logical id, properties, stack)
and update(physical id, old, new, stack, logical id) answer the physical id and
the attributes for Fn::GetAtt; delete(physical id, properties) answers nothing.
A change of a property in ``replaces`` is a replacement, done by the engine.
"""

from __future__ import annotations

import json
from typing import Any

from ministack.core.responses import get_account_id
from ministack.services import backup, budgets, ec2, ecs
from ministack.services.cloudformation import provisioners

from shapes import to_request

Props = dict[str, Any]
Result = tuple[str, dict[str, Any]]


def call(answer: tuple[int, Any, bytes]) -> dict[str, Any]:
    """The body of a backend's answer; an error status fails the resource."""
    status, _, body = answer
    decoded = json.loads(body) if body else {}
    if status >= 400:
        raise ValueError(f"{decoded.get('__type', status)}: {decoded.get('message', decoded)}")
    return decoded


class TaskDefinition:
    """A revision never changes: all but the tags is a new one, of the same family."""

    replaces = ("ContainerDefinitions", "Cpu", "EnableFaultInjection", "EphemeralStorage", "ExecutionRoleArn",
                "Family", "InferenceAccelerators", "IpcMode", "Memory", "NetworkMode", "PidMode",
                "PlacementConstraints", "ProxyConfiguration", "RequiresCompatibilities", "RuntimePlatform",
                "TaskRoleArn", "Volumes")

    @staticmethod
    def create(logical_id: str, props: Props, stack: str) -> Result:
        named = {"Family": f"{stack}-{logical_id}", **props}
        request = to_request("ecs", "RegisterTaskDefinition", named)
        record = call(ecs._register_task_definition(request))["taskDefinition"]
        arn = record["taskDefinitionArn"]
        # RegisterTaskDefinition here keeps the members it knows; keep the rest.
        rest = {key: value for key, value in request.items() if key not in record and key != "tags"}
        ecs._task_defs[f"{record['family']}:{record['revision']}"].update(rest)
        return arn, {"TaskDefinitionArn": arn}

    @staticmethod
    def update(physical_id: str, old: Props, new: Props, stack: str, logical_id: str) -> Result:
        ecs._tags[physical_id] = to_request("ecs", "TagResource", {"tags": new.get("Tags", [])})["tags"]
        return physical_id, {"TaskDefinitionArn": physical_id}

    @staticmethod
    def delete(physical_id: str, props: Props) -> None:
        ecs._deregister_task_definition({"taskDefinition": physical_id})


class Service:
    replaces = ("Cluster", "ServiceName", "LaunchType", "SchedulingStrategy", "DeploymentController")
    # Members whose change starts a new deployment, as it does on AWS.
    _rolls = frozenset({"capacityProviderStrategy", "enableExecuteCommand", "networkConfiguration",
                        "platformVersion"})

    @staticmethod
    def _require(task_definition: str) -> None:
        """The backend takes a revision that is not there, and counts tasks of it as running."""
        record = ecs._task_defs.get(ecs._resolve_td_key(task_definition))
        if record is None or record["status"] != "ACTIVE":
            raise ValueError(f"ClientException: Unable to find task definition: {task_definition}")

    @staticmethod
    def _record(arn: str) -> dict[str, Any]:
        return ecs._services["/".join(arn.split("/")[-2:])]

    @classmethod
    def _keep(cls, arn: str, request: Props, taken: tuple[str, ...]) -> None:
        """Store what the backend's call leaves out, so DescribeServices shows it."""
        cls._record(arn).update({k: v for k, v in request.items() if k not in taken})
        if "tags" in request:
            ecs._tags[arn] = list(request["tags"])

    @classmethod
    def create(cls, logical_id: str, props: Props, stack: str) -> Result:
        named = {"ServiceName": f"{stack}-{logical_id}", "DesiredCount": 1, **props}
        request = to_request("ecs", "CreateService", named)
        cls._require(request["taskDefinition"])
        arn = call(ecs._create_service(request))["service"]["serviceArn"]
        cls._keep(arn, request, ("cluster", "taskDefinition", "desiredCount"))
        return arn, {"ServiceArn": arn, "Name": request["serviceName"]}

    @classmethod
    def update(cls, physical_id: str, old: Props, new: Props, stack: str, logical_id: str) -> Result:
        cluster, name = physical_id.split("/")[-2:]
        # What the template no longer says goes back to the API's default.
        defaults = {"CapacityProviderStrategy": [], "EnableExecuteCommand": False, "Tags": []}
        change = {key: value for key, value in {**defaults, **new}.items()
                  if {**defaults, **old}.get(key) != value}
        tags = to_request("ecs", "TagResource", {"tags": change.pop("Tags", new.get("Tags", []))})
        request = to_request("ecs", "UpdateService", change)
        if "taskDefinition" in request:
            cls._require(request["taskDefinition"])
        rollout = {key: request.pop(key) for key in ("taskDefinition", "desiredCount") if key in request}
        target = {"cluster": cluster, "service": name}
        # In two calls: tasks start within the second, and take what the first has set.
        call(ecs._update_service({**target, **request}))
        cls._keep(physical_id, {**request, **tags}, ("capacityProviderStrategy",))
        restart = bool(request.keys() & cls._rolls)
        call(ecs._update_service({**target, **rollout, "forceNewDeployment": restart}))
        return physical_id, {"ServiceArn": physical_id, "Name": name}

    @staticmethod
    def delete(physical_id: str, props: Props) -> None:
        cluster, name = physical_id.split("/")[-2:]
        ecs._delete_service({"cluster": cluster, "service": name, "force": True})


class CapacityProviderAssociations:
    replaces = ("Cluster",)

    @staticmethod
    def create(logical_id: str, props: Props, stack: str) -> Result:
        request = to_request("ecs", "PutClusterCapacityProviders", props)
        call(ecs._put_cluster_capacity_providers(request))
        return props["Cluster"], {}

    @classmethod
    def update(cls, physical_id: str, old: Props, new: Props, stack: str, logical_id: str) -> Result:
        return cls.create(logical_id, new, stack)

    @staticmethod
    def delete(physical_id: str, props: Props) -> None:
        if ecs._resolve_cluster_name(physical_id) in ecs._clusters:
            ecs._put_cluster_capacity_providers({"cluster": physical_id})


class SecurityGroupRule:
    """One rule outside its group: the group's list is the only place it lives in."""

    replaces = ("CidrIp", "CidrIpv6", "DestinationPrefixListId", "DestinationSecurityGroupId", "FromPort",
                "GroupId", "IpProtocol", "SourcePrefixListId", "SourceSecurityGroupId", "ToPort")

    def __init__(self, egress: bool) -> None:
        self._egress = egress

    def _rules(self, group_id: str) -> list[dict[str, Any]]:
        group = ec2._security_groups.get(group_id, {})
        return group.get("IpPermissionsEgress" if self._egress else "IpPermissions", [])

    def create(self, logical_id: str, props: Props, stack: str) -> Result:
        group_id = props["GroupId"]
        if group_id not in ec2._security_groups:
            raise ValueError(f"The security group '{group_id}' does not exist")
        [rule] = provisioners._ec2_sg_permissions([props])
        rule_id = ec2._sg_rule_id(group_id, self._egress, rule)
        rules = self._rules(group_id)
        if any(ec2._sg_rule_id(group_id, self._egress, other) == rule_id for other in rules):
            raise ValueError(f"the specified rule already exists in {group_id}")
        rules.append({**rule, "SecurityGroupRuleId": rule_id})
        return rule_id, {"Id": rule_id}

    def update(self, physical_id: str, old: Props, new: Props, stack: str, logical_id: str) -> Result:
        self.delete(physical_id, old)
        return self.create(logical_id, new, stack)

    def delete(self, physical_id: str, props: Props) -> None:
        rules = self._rules(props["GroupId"])
        rules[:] = [rule for rule in rules if rule.get("SecurityGroupRuleId") != physical_id]


class BackupSelection:
    replaces = ("BackupPlanId", "BackupSelection")

    @staticmethod
    def create(logical_id: str, props: Props, stack: str) -> Result:
        request = to_request("backup", "CreateBackupSelection", props)
        plan = request["BackupPlanId"]
        selection = call(backup._create_selection(plan, request))["SelectionId"]
        physical_id = f"{selection}_{plan}"
        return physical_id, {"Id": physical_id, "SelectionId": selection, "BackupPlanId": plan}

    @staticmethod
    def delete(physical_id: str, props: Props) -> None:
        selection, plan = physical_id.split("_")
        backup._delete_selection(plan, selection)


class Budget:
    # UpdateBudget reaches neither notifications nor tags, so an update puts the
    # budget anew under its name.
    replaces: tuple[str, ...] = ()

    @staticmethod
    def _request(logical_id: str, props: Props, stack: str) -> dict[str, Any]:
        budget = {"BudgetName": f"{stack}-{logical_id}", **props["Budget"]}
        named = {"AccountId": get_account_id(), **props, "Budget": budget}
        return to_request("budgets", "CreateBudget", named)

    @classmethod
    def create(cls, logical_id: str, props: Props, stack: str) -> Result:
        request = cls._request(logical_id, props, stack)
        call(budgets._create_budget(request))
        return request["Budget"]["BudgetName"], {}

    @classmethod
    def update(cls, physical_id: str, old: Props, new: Props, stack: str, logical_id: str) -> Result:
        name = cls._request(logical_id, new, stack)["Budget"]["BudgetName"]
        if name != physical_id:
            return cls.create(logical_id, new, stack)  # the engine deletes the old one
        cls.delete(physical_id, old)
        try:
            return cls.create(logical_id, new, stack)
        except ValueError:
            cls.create(logical_id, old, stack)
            raise

    @staticmethod
    def delete(physical_id: str, props: Props) -> None:
        budgets._delete_budget({"AccountId": get_account_id(), "BudgetName": physical_id})


TAUGHT: dict[str, Any] = {
    "AWS::Backup::BackupSelection": BackupSelection,
    "AWS::Budgets::Budget": Budget,
    "AWS::EC2::SecurityGroupEgress": SecurityGroupRule(egress=True),
    "AWS::EC2::SecurityGroupIngress": SecurityGroupRule(egress=False),
    "AWS::ECS::ClusterCapacityProviderAssociations": CapacityProviderAssociations,
    "AWS::ECS::Service": Service,
    "AWS::ECS::TaskDefinition": TaskDefinition,
}
