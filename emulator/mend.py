"""Repairs the emulator's CloudFormation in memory, before it serves a request.

Only the engine's own tables and module functions are changed, never a file
that was installed: what is here can be read in one go and removed row by row
as the emulator learns.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from ministack.core.responses import get_account_id, get_region
from ministack.services import (
    backup,
    cloudformation,
    cloudwatch,
    cloudwatch_logs,
    ec2,
    ecr,
    ecs,
    eventbridge,
    secretsmanager,
    sns,
    tagging,
)
from ministack.services.cloudformation import engine, handlers, helpers, provisioners, stacks

from catalog import TYPES
from shapes import to_request
from taught import TAUGHT, Props, Result, call
from watch import watch_create, watch_update

_handlers: dict[str, dict[str, Any]] = provisioners._RESOURCE_HANDLERS
# Types that take the stack's tags beside those of the emulator's own list.
_TAGGED = {"AWS::ECS::TaskDefinition": ("Tags", "list"), "AWS::Budgets::Budget": ("ResourceTags", "list")}

# The properties whose change is a replacement, for types where the emulator's
# list has none: a change set would say "may be replaced" of any change at all.
_REPLACES: dict[str, tuple[str, ...]] = {
    "AWS::Backup::BackupPlan": (),
    "AWS::CloudWatch::Alarm": ("AlarmName",),
    "AWS::CloudWatch::Dashboard": ("DashboardName",),
    "AWS::EC2::InternetGateway": (),
    "AWS::EC2::Route": ("DestinationCidrBlock", "DestinationIpv6CidrBlock", "RouteTableId"),
    "AWS::EC2::RouteTable": ("VpcId",),
    "AWS::EC2::SecurityGroup": ("GroupDescription", "GroupName", "VpcId"),
    "AWS::EC2::Subnet": ("AvailabilityZone", "CidrBlock", "VpcId"),
    "AWS::EC2::SubnetRouteTableAssociation": ("SubnetId",),
    "AWS::EC2::VPC": ("CidrBlock",),
    "AWS::EC2::VPCGatewayAttachment": ("VpcId",),
    "AWS::ECS::Cluster": ("ClusterName",),
    "AWS::Events::Rule": ("EventBusName", "Name"),
    "AWS::IAM::Policy": (),
    "AWS::Logs::LogGroup": ("LogGroupName",),
    "AWS::SNS::Subscription": ("Endpoint", "Protocol", "TopicArn"),
    "AWS::SNS::TopicPolicy": (),
    "AWS::SecretsManager::Secret": ("Name",),
}

# Where a type keeps its records under the name that a template can give it.
# CloudFormation refuses to create what exists already; the emulator overwrites
# it, which would hide the commonest failure of a redeploy over retained data.
# An ECS service needs no row: its API refuses the name. A backup plan's name is
# not unique on AWS either.
_NAMED: dict[str, tuple[str, Callable[[str], bool]]] = {
    "AWS::Backup::BackupVault": ("BackupVaultName", lambda name: name in backup._vaults),
    "AWS::CloudWatch::Alarm": ("AlarmName", lambda name: name in cloudwatch._alarms),
    "AWS::CloudWatch::Dashboard": ("DashboardName", lambda name: name in cloudwatch._dashboards),
    "AWS::ECR::Repository": ("RepositoryName", lambda name: name in ecr._repositories),
    "AWS::ECS::Cluster": ("ClusterName", lambda name: name in ecs._clusters),
    "AWS::Events::Rule": ("Name", lambda name: eventbridge._rule_key(name, "default") in eventbridge._rules),
    "AWS::Logs::LogGroup": ("LogGroupName", lambda name: name in cloudwatch_logs._log_groups),
    "AWS::SNS::Topic": ("TopicName", lambda name: any(each["name"] == name for each in sns._topics.values())),
    "AWS::SecretsManager::Secret": ("Name", lambda name: name in secretsmanager._secrets),
}


def install() -> None:
    _refuse_types_outside_the_table()
    _register_taught_types()
    _simulate_tasks()
    _keep_capacity_providers()
    _protect_full_vaults()
    _accept_metric_math()
    _name_secrets_by_arn()
    _honour_password_rules()
    _complete_subscriptions()
    _find_the_default_vpc()
    _hide_untouched_resources()
    _refuse_dead_stacks()
    _refuse_rules_over_the_account()
    _find_more_by_tag()
    provisioners._REPLACING_PROPERTIES.update(_REPLACES)
    for rtype, (name, exists) in _NAMED.items():
        _refuse_existing(rtype, name, exists)
    for rtype, handler in _handlers.items():
        handler["create"] = watch_create(rtype, handler["create"])
        if "update" in handler:
            handler["update"] = watch_update(rtype, handler["update"])


def _refuse_types_outside_the_table() -> None:
    """The engine then answers as AWS does: a ValidationError that names the types."""
    for rtype in set(_handlers) - set(TYPES):
        del _handlers[rtype]


def _register_taught_types() -> None:
    for rtype, taught in TAUGHT.items():
        handler = {"create": taught.create, "delete": taught.delete}
        if hasattr(taught, "update"):
            handler |= {"update": taught.update, "update_with_logical_id": True}
        _handlers[rtype] = handler
        provisioners._REPLACING_PROPERTIES[rtype] = taught.replaces
    provisioners._CUSTOM_NAME_REPLACEMENT["AWS::ECS::Service"] = {"name": "ServiceName"}
    provisioners._STACK_TAG_PROPERTY.update(_TAGGED)


def _simulate_tasks() -> None:
    """Tasks are records that run at once, also on a machine with a Docker daemon."""
    ecs._get_docker = lambda: None


def _keep_capacity_providers() -> None:
    """A cluster's update must not take away what an association gave it."""
    update = _handlers["AWS::ECS::Cluster"]["update"]
    kept = ("capacityProviders", "defaultCapacityProviderStrategy")

    def keeping(physical_id: str, old: Props, new: Props, stack: str, logical_id: str) -> Result:
        before = {key: ecs._clusters[physical_id][key] for key in kept}
        result = update(physical_id, old, new, stack, logical_id)
        if "CapacityProviders" not in new and result[0] == physical_id:
            ecs._clusters[physical_id].update(before)
        return result

    _handlers["AWS::ECS::Cluster"]["update"] = keeping


def _protect_full_vaults() -> None:
    delete = _handlers["AWS::Backup::BackupVault"]["delete"]

    def careful(physical_id: str, props: Props) -> None:
        held = backup._vaults.get(physical_id, {}).get("NumberOfRecoveryPoints", 0)
        if held:
            raise ValueError(f"Backup vault {physical_id} cannot be deleted because it contains "
                             f"{held} recovery points (InvalidRequestException)")
        delete(physical_id, props)

    _handlers["AWS::Backup::BackupVault"]["delete"] = careful


def _accept_metric_math() -> None:
    """The emulator refuses an alarm over ``Metrics``: store it as DescribeAlarms returns it."""
    record = provisioners._cw_metric_alarm_record

    def with_metrics(name: str, props: Props) -> dict[str, Any]:
        if not props.get("Metrics"):
            return record(name, props)
        metrics = to_request("cloudwatch", "PutMetricAlarm", {"Metrics": props["Metrics"]})["Metrics"]
        single = {"Metrics": None, "MetricName": "-", "Namespace": "-"}
        alarm = record(name, {**props, **single})
        # Without these the emulator's evaluation passes the alarm over.
        for key in ("MetricName", "Namespace", "Statistic", "ExtendedStatistic", "Period", "Dimensions", "Unit"):
            alarm.pop(key)
        return {**alarm, "Metrics": metrics}

    provisioners._cw_metric_alarm_record = with_metrics


def _name_secrets_by_arn() -> None:
    """Ref of a secret is its ARN on AWS, and its name in the emulator."""
    handler = _handlers["AWS::SecretsManager::Secret"]
    create, update, delete = handler["create"], handler["update"], handler["delete"]

    def name_of(arn: str) -> str:
        return next((name for name, record in secretsmanager._secrets.items() if record["ARN"] == arn), arn)

    def by_arn(result: Result) -> Result:
        return result[1]["Arn"], result[1]

    handler["create"] = lambda logical_id, props, stack: by_arn(create(logical_id, props, stack))
    handler["update"] = lambda arn, *rest: by_arn(update(name_of(arn), *rest))
    handler["delete"] = lambda arn, props: delete(name_of(arn), props)


def _honour_password_rules() -> None:
    """The emulator reads two of GenerateSecretString's members; its API reads them all."""

    def value(props: Props) -> str:
        rules = dict(props.get("GenerateSecretString") or {})
        if "SecretString" in props or not rules:
            return props.get("SecretString", "")
        template, key = rules.pop("SecretStringTemplate", None), rules.pop("GenerateStringKey", None)
        request = to_request("secretsmanager", "GetRandomPassword", rules)
        password = call(secretsmanager._get_random_password(request))["RandomPassword"]
        return json.dumps({**json.loads(template), key: password}) if template else password

    provisioners._sm_secret_string = value


def _complete_subscriptions() -> None:
    """The emulator confirms an e-mail subscription by itself, and forgets what it is for."""
    create = _handlers["AWS::SNS::Subscription"]["create"]

    def complete(logical_id: str, props: Props, stack: str) -> Result:
        topic, protocol = props["TopicArn"], props["Protocol"]
        if topic not in sns._topics:
            raise ValueError(f"Topic does not exist: {topic}")
        arn, attributes = create(logical_id, props, stack)
        record = sns._find_subscription(topic, arn)
        waits = protocol.startswith(("email", "http"))
        record["confirmed"] = not waits
        record["attributes"] |= {
            "SubscriptionArn": arn, "TopicArn": topic, "Owner": record["owner"], "Protocol": protocol,
            "Endpoint": props.get("Endpoint", ""), "PendingConfirmation": str(waits).lower()}
        return arn, attributes

    _handlers["AWS::SNS::Subscription"]["create"] = complete


def _find_the_default_vpc() -> None:
    """EC2 takes this filter under two names; the CDK CLI uses the one the emulator ignores."""
    parse = ec2._parse_filters
    alias = {"isDefault": "is-default"}
    ec2._parse_filters = lambda params: {alias.get(name, name): values for name, values in parse(params).items()}


def _hide_untouched_resources() -> None:
    """An update reports every resource of the stack; AWS reports those it touches.

    Within the engine an update and its two events come one right after the
    other, so taking the first back when the second is due leaves no trace.
    """
    update, add_event = stacks._update_resource, stacks._add_event
    untouched: set[str] = set()

    def noting(rtype: str, physical_id: str, old: Props, new: Props, *rest: Any) -> Result:
        if old == new:
            untouched.add(physical_id)
        return update(rtype, physical_id, old, new, *rest)

    def sparing(stack_id: str, stack: str, logical_id: str, rtype: str, status: str, *rest: Any, **more: Any) -> None:
        if status == "UPDATE_COMPLETE" and more.get("physical_id") in untouched:
            untouched.discard(more["physical_id"])
            started = cloudformation._stack_events[stack_id].pop()
            assert (started["LogicalResourceId"], started["ResourceStatus"]) == (logical_id, "UPDATE_IN_PROGRESS")
            return
        add_event(stack_id, stack, logical_id, rtype, status, *rest, **more)

    stacks._update_resource, stacks._add_event = noting, sparing


def _refuse_dead_stacks() -> None:
    """After a failed creation a stack takes nothing but its deletion; the emulator takes a change set."""
    create = handlers._ACTION_HANDLERS["CreateChangeSet"]

    def careful(params: Props) -> Any:
        stack = handlers._resolve_stack(helpers._p(params, "StackName"))
        status = (stack or {}).get("StackStatus")
        if status in ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED"):
            message = f"Stack:{stack['StackId']} is in {status} state and can not be updated."
            return helpers._error("ValidationError", message)
        return create(params)

    handlers._ACTION_HANDLERS["CreateChangeSet"] = careful


def _refuse_rules_over_the_account() -> None:
    """The emulator evaluates a template's Rules, and skips one that asks the account for what it lacks.

    So the functions that ask are refused by name, as any function is that rules do not take.
    """
    engine._RULE_FUNCTIONS -= {"Fn::RefAll", "Fn::ValueOf", "Fn::ValueOfAll"}


def _find_more_by_tag() -> None:
    """A search by tag is how retained resources are found again; these services were left out of it."""
    kinds = {"sg": "security-group", "vpc": "vpc", "subnet": "subnet", "rtb": "route-table",
             "igw": "internet-gateway"}

    def pairs(tags: dict[str, str]) -> list[dict[str, str]]:
        return [{"Key": key, "Value": value} for key, value in tags.items()]

    def network() -> Iterator[tuple[str, list[dict[str, str]]]]:
        for resource, tags in ec2._tags.items():
            kind = kinds.get(resource.split("-")[0])
            if kind:
                yield f"arn:aws:ec2:{get_region()}:{get_account_id()}:{kind}/{resource}", tags

    tagging._COLLECTORS |= {
        "cloudwatch": lambda: ((arn, pairs(tags)) for arn, tags in cloudwatch._resource_tags.items()),
        "ec2": network,
        "logs": lambda: ((group["arn"].removesuffix(":*"), pairs(group.get("tags", {})))
                         for group in cloudwatch_logs._log_groups.values()),
        "secretsmanager": tagging._collect_secretsmanager,
    }


def _refuse_existing(rtype: str, prop: str, exists: Callable[[str], bool]) -> None:
    create = _handlers[rtype]["create"]

    def careful(logical_id: str, props: Props, stack: str) -> Result:
        name = props.get(prop)
        if name and exists(name):
            raise ValueError(f"Resource of type '{rtype}' with identifier '{name}' already exists.")
        return create(logical_id, props, stack)

    _handlers[rtype]["create"] = careful
