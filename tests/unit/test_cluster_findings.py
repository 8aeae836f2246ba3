"""Conditions that need no decision."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from unit.api_objects import endpoint
from unit.test_cluster_records import stored

from sglang_operator.api import parse_endpoint
from sglang_operator.cluster import findings
from sglang_operator.cluster.api import ApiError
from sglang_operator.lifecycle.reasons import Reason, Status
from sglang_operator.render import Platform, render_endpoint


def rendered(platform: Platform | None = None, **spec: Any) -> dict[str, Any]:
    objects = render_endpoint(parse_endpoint(endpoint(**spec)), platform)
    return next(item for item in objects if item["kind"] == "RayService")


def test_what_this_operator_would_make_is_up_to_date_whatever_the_count() -> None:
    assert findings.update_available(stored(), rendered(replicas=3)).status is Status.FALSE
    assert findings.update_available(None, rendered()).status is Status.FALSE


def test_a_record_whose_json_was_ordered_anew_is_up_to_date() -> None:
    """As by a backup that was restored."""
    record = stored()
    ordered = replace(record, ray_service=json.loads(json.dumps(record.ray_service, sort_keys=True)))
    assert findings.update_available(ordered, rendered()).status is Status.FALSE


def test_a_newer_image_of_the_platform_waits() -> None:
    newer = replace(Platform(), images=dict.fromkeys(("nvidia", "amd", "cpu"), "registry.example.com/next:1"))
    found = findings.update_available(stored(), rendered(newer))
    assert (found.status, found.reason) == (Status.TRUE, Reason.NEW_DEFAULTS)
    assert "restartToken" in found.message


def test_a_quota_is_no_missing_right() -> None:
    quota = ApiError(403, "Forbidden", 'pods "x" is forbidden: exceeded quota: compute')
    assert findings.blocked(quota).reason is Reason.REFUSED
    right = ApiError(403, "Forbidden", "cannot create resource rayservices")
    assert findings.blocked(right).reason is Reason.FORBIDDEN
    assert "helm upgrade" in findings.blocked(right).message
