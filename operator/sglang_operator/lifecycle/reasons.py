"""Conditions that the rollout reports, and the closed list of their reasons."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class ConditionType(Enum):
    """Every condition. `decide` reports Ready, Progressing and Degraded; the others need no decision."""

    ACCEPTED = "Accepted"
    UPDATE_AVAILABLE = "UpdateAvailable"
    READY = "Ready"
    PROGRESSING = "Progressing"
    DEGRADED = "Degraded"


class Status(Enum):
    """Status of a condition, as Kubernetes writes it."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Reason(Enum):
    """Every reason of these conditions. Each has its row in docs/reference/conditions.md."""

    SERVING = "Serving"
    AT_ZERO = "ScaledToZero"
    WAKING = "WakingUp"
    NOT_SERVING = "NotServing"
    STOPPED = "Stopped"
    COMPLETE = "RolloutComplete"
    STARTING = "StartingRevision"
    REPLACING = "WaitingForOldPods"
    CAPACITY = "WaitingForCapacity"
    NO_CAPACITY = "NoCapacity"
    PODS_BLOCKED = "PodsBlocked"
    PROBE_UNREACHABLE = "ProbeUnreachable"
    ON_TRIAL = "OnTrial"
    DRAINING = "Draining"
    RECREATING = "Recreating"
    RECOVERING = "Recovering"
    HEAD_LOST = "HeadLost"
    ROLLED_BACK = "RolledBack"
    ROLLING_BACK = "RollingBack"
    PAUSED = "Paused"
    KUBERAY_SILENT = "KubeRaySilent"
    AS_EXPECTED = "AsExpected"
    FAILING = "RevisionFailing"
    DEADLINE = "ProgressDeadlineExceeded"
    LOST_AFTER_SWITCH = "LostAfterSwitch"
    VALID = "Valid"
    INVALID = "InvalidSpec"
    NAME_TAKEN = "NameTaken"
    RECORD_TOO_NEW = "RecordTooNew"
    KUBERAY_ABSENT = "KubeRayAbsent"
    ROUTE_ABSENT = "GatewayApiAbsent"
    FORBIDDEN = "Forbidden"
    REFUSED = "RefusedByCluster"
    INVALID_OBJECT = "InvalidObject"
    UP_TO_DATE = "UpToDate"
    NEW_DEFAULTS = "NewDefaults"


@dataclass(frozen=True)
class Condition:
    """One condition of status: what happened and what to do, in words."""

    type: ConditionType
    status: Status
    reason: Reason
    message: str
    failure: str = ""  # reason of the revision that it tells of, where that has failed
    again_at: float | None = None  # Unix seconds of the next try, with which the message ends in status
