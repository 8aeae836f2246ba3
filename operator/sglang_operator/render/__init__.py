"""From an `Endpoint` to Kubernetes objects. Pure: no clock, no cluster, no files but its own templates."""

from sglang_operator.render.objects import render_endpoint
from sglang_operator.render.platform import Platform
from sglang_operator.render.revision import revision_name
from sglang_operator.render.yaml_text import to_yaml

__all__ = ["Platform", "render_endpoint", "revision_name", "to_yaml"]
