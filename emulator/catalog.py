"""Every resource type the emulator takes, and how far each one goes.

A type that is not in this table is refused, also where the emulator beneath
would take it: a type belongs here once a test has seen it created, updated and
deleted through its own API. ``docs/emulator.md`` shows the same table, and a
test compares the two.
"""

from __future__ import annotations

from typing import NamedTuple

NATIVE = "native"  # the emulator's own provisioner, unchanged
MENDED = "mended"  # the emulator's own, with a defect repaired in mend.py or taught.py
OURS = "ours"  # written here, over the emulator's own service backend

ACTS = "acts"  # other calls see its effect
RECORD = "record only"  # stored and returned by the service's API, without behaviour


class Row(NamedTuple):
    how: str
    effect: str
    note: str


TYPES: dict[str, Row] = {
    "AWS::Backup::BackupPlan": Row(NATIVE, RECORD, "no backup is ever taken on schedule"),
    "AWS::Backup::BackupSelection": Row(OURS, RECORD, "missing in the emulator"),
    "AWS::Backup::BackupVault": Row(MENDED, ACTS, "one that holds recovery points cannot be deleted"),
    "AWS::Budgets::Budget": Row(OURS, RECORD, "missing in the emulator; money spent is always 0"),
    "AWS::CloudWatch::Alarm": Row(MENDED, ACTS, "metric math is stored, and never evaluated"),
    "AWS::CloudWatch::Dashboard": Row(NATIVE, RECORD, ""),
    "AWS::EC2::InternetGateway": Row(NATIVE, RECORD, ""),
    "AWS::EC2::Route": Row(NATIVE, RECORD, ""),
    "AWS::EC2::RouteTable": Row(NATIVE, RECORD, ""),
    "AWS::EC2::SecurityGroup": Row(NATIVE, RECORD, "no packet is filtered"),
    "AWS::EC2::SecurityGroupEgress": Row(OURS, RECORD, "missing in the emulator"),
    "AWS::EC2::SecurityGroupIngress": Row(OURS, RECORD, "missing in the emulator"),
    "AWS::EC2::Subnet": Row(NATIVE, RECORD, ""),
    "AWS::EC2::SubnetRouteTableAssociation": Row(NATIVE, RECORD, ""),
    "AWS::EC2::VPC": Row(NATIVE, RECORD, ""),
    "AWS::EC2::VPCGatewayAttachment": Row(NATIVE, RECORD, ""),
    "AWS::ECR::Repository": Row(MENDED, ACTS, "takes a real `docker push`; EmptyOnDelete is honoured"),
    "AWS::ECS::Cluster": Row(MENDED, ACTS, "an update used to drop associated capacity providers"),
    "AWS::ECS::ClusterCapacityProviderAssociations": Row(OURS, ACTS, "missing in the emulator"),
    "AWS::ECS::Service": Row(OURS, ACTS, "tasks are simulated: RUNNING at once, no container"),
    "AWS::ECS::TaskDefinition": Row(OURS, ACTS, "the emulator's own loses secrets, volumes and platform"),
    "AWS::EFS::AccessPoint": Row(NATIVE, RECORD, ""),
    "AWS::EFS::FileSystem": Row(NATIVE, ACTS, "cannot be deleted while it has mount targets"),
    "AWS::EFS::MountTarget": Row(NATIVE, RECORD, "nothing can be mounted"),
    "AWS::Events::Rule": Row(MENDED, ACTS, "matches events that are put; ECS sends none by itself"),
    "AWS::IAM::Policy": Row(NATIVE, RECORD, "never enforced: every call is allowed"),
    "AWS::IAM::Role": Row(NATIVE, RECORD, "never enforced: every call is allowed"),
    "AWS::Logs::LogGroup": Row(MENDED, ACTS, "retention is stored; nothing expires"),
    "AWS::SNS::Subscription": Row(MENDED, RECORD, "no e-mail leaves; one by e-mail stays pending"),
    "AWS::SNS::Topic": Row(NATIVE, ACTS, ""),
    "AWS::SNS::TopicPolicy": Row(NATIVE, RECORD, "never enforced"),
    "AWS::SecretsManager::Secret": Row(MENDED, ACTS, ""),
}

# Properties that a type's handler was seen not to read, by type and operation.
# They change nothing in the emulator; the launcher reports any other at
# /_berth/ignored, and a test fails on it.
IGNORED: dict[str, dict[str, set[str]]] = {
    "AWS::CloudWatch::Dashboard": {"create": {"Tags"}},
    "AWS::ECR::Repository": {"create": {"EmptyOnDelete"}},  # read on deletion, where it matters
}
