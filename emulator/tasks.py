"""What a test that really runs the tasks tells the emulator, which only counts them.

The emulator is never given a Docker daemon (launch.py): its own way to run a container knows nothing
of volumes, capabilities, users or a read-only root. e2e/cloud runs the containers instead.
"""

from __future__ import annotations

from typing import Any

from ministack.services import ecs


def started(told: dict[str, Any]) -> dict[str, Any]:
    """A task's container runs, of this image."""
    task = ecs._tasks[told["task"]]
    for container in task["containers"]:
        container["imageDigest"] = told["digest"]
    return {}


def ended(told: dict[str, Any]) -> dict[str, Any]:
    """A task's container ended by itself, or did not start: the task is stopped, and its service gets another one."""
    task = ecs._tasks[told["task"]]
    code = told.get("code")
    ecs._mark_task_stopped(task["taskArn"], task, told["reason"],
                           "TaskFailedToStart" if code is None else "EssentialContainerExited", exit_code=code)
    cluster, service = ecs._cluster_name_from_arn(task["clusterArn"]), task["group"].split(":", 1)[1]
    ecs._reconcile_service_tasks(cluster, f"{cluster}/{service}")
    return {}
