"""Cases of every rule across fields: objects that break it, and objects that are just within."""

from __future__ import annotations

from typing import Any

from unit.api_objects import endpoint
from unit.rule_objects import (
    adapters,
    allowed,
    compared,
    model,
    named,
    one_node,
    published,
    routed,
    spread,
    tolerate,
    variable,
)

from sglang_operator.api.rules import NAME_LENGTH

CACHE = {"claimName": ""}
SECRET_KEY = {"name": "s", "key": "k"}
BLOCK = {"cidr": "10.0.0.0/8"}

# message of the rule (its beginning) -> objects that break it and no other rule, objects that are just within
CASES: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "must be lower-case letters": (
        [named("a" * (NAME_LENGTH + 1)), named("A"), named("1a"), named("a-"), named("a.b")],
        [named("a" * NAME_LENGTH), named("a-1")],
    ),
    "must be hf://": (
        [
            model(uri=uri)
            for uri in (
                "a/b",
                "hf://a",
                "hf://a/b/c",
                "s3://a/b",
                "s3://Bucket/m",
                "gs:///m",
                "s3://abc//m",
                "file://a/b",
                "file:///a:b",
                "pvc:///x",
            )
        ]
        + [adapters("org/b"), adapters("hf://a/b", "/a")]
        + [model(uri="file:///a b"), model(uri="file:///"), model(uri="pvc://c//"), model(uri="hf://a/b\n")],
        [
            model(uri=uri)
            for uri in (
                "hf://a/b.c_d-1",
                "s3://abc",
                "s3://my.bucket/m/",
                "gs://a-b/c/d=e",
                "pvc://c",
                "pvc://c/d/e",
                "file:///a",
                "file:///a/b/",
            )
        ],
    ),
    "must have no `.`": (
        [model(uri="pvc://c/../d"), model(uri="file:///a/.."), model(uri="file:///a/./b")],
        [model(uri="file:///a/..b"), model(uri="file:///a/.cache/b.c")],
    ),
    "only hf://, s3:// and gs:// models are downloaded": (
        [model(uri="pvc://c/d", cache=CACHE), model(uri="file:///d", cache={})],
        [model(uri=uri, cache=CACHE) for uri in ("hf://a/b", "s3://abc/d", "gs://abc/d")]
        + [model(uri="file:///d", cache=CACHE, lora={})],
    ),
    "only s3:// and gs:// models": (
        [model(uri=uri, storageSecret={"name": "s"}) for uri in ("hf://a/b", "pvc://c/d", "file:///d")],
        [model(uri=uri, storageSecret={"name": "s"}) for uri in ("s3://abc/d", "gs://abc")]
        + [model(uri="hf://a/b", storageSecret={"name": "s"}, lora={})],
    ),
    "only hf:// models are fetched": (
        [model(uri="pvc://c/d", tokenSecret=SECRET_KEY), model(uri="s3://abc/d", tokenSecret=SECRET_KEY)],
        [model(uri="hf://a/b", tokenSecret=SECRET_KEY), model(uri="s3://abc/d", tokenSecret=SECRET_KEY, lora={})],
    ),
    "has `all` beside others": (
        [model(uri="hf://a/b", lora={"targetModules": ["all", "q_proj"]})],
        [model(uri="hf://a/b", lora={"targetModules": modules}) for modules in (["all"], ["q_proj", "v_proj"])],
    ),
    "no room is reserved": (
        [model(uri="hf://org/m", adapters=[{"name": "a", "uri": "hf://a/b"}])],
        [adapters("hf://a/b"), model(uri="hf://org/m", adapters=[])],
    ),
    "is less than there are": (
        [adapters("hf://a/b", "hf://a/c", lora={"maxLoaded": 1}), adapters(*["hf://a/b"] * 9)],
        [adapters("hf://a/b", lora={"maxLoaded": 1}), adapters(*["hf://a/b"] * 8)],
    ),
    "one has the name of the model": (
        [
            adapters("hf://x/y", servedName="a"),
            adapters("hf://x/y", uri="hf://org/a"),
            adapters("hf://x/y", uri="file:///m/a/"),
        ],
        [adapters("hf://x/a"), adapters("hf://x/y", uri="hf://org/a", servedName="b"), adapters(uri="hf://org/a")],
    ),
    "a pvc:// adapter is on another claim": (
        [
            adapters("pvc://c/a"),
            adapters("pvc://c2/a", lora={"claimName": "c"}),
            adapters("pvc://c/a", uri="pvc://c/m"),
            adapters("hf://a/b", "pvc://d", lora={"claimName": "c"}),
        ],
        [adapters("pvc://c/a", "pvc://c", lora={"claimName": "c"}), adapters("hf://a/b", lora={"claimName": "c"})],
    ),
    "adapters are loaded into one copy": (
        [
            endpoint(model={"uri": "hf://a/b", "lora": {}}, accelerator={"count": 2}, parallelism={part: 2})
            for part in ("data", "attentionData", "nodes")
        ],
        [endpoint(model={"uri": "hf://a/b", "lora": {}}, accelerator={"count": 2}, parallelism={"tensor": 2})],
    ),
    "a ReadWriteOnce volume is mounted on one node only, which": (
        [one_node(replicas=2), one_node(scaling={"max": 2}), one_node(parallelism={"nodes": 2})],
        [
            one_node(replicas=1),
            one_node(replicas=0),
            one_node(scaling={"max": 1}),
            endpoint(replicas=2, model={"uri": "hf://a/b", "cache": {}}),
        ],
    ),
    "a ReadWriteOnce volume is mounted on one node only, and": (
        [one_node(upgrade={}), one_node(upgrade={"strategy": "BlueGreen"})],
        [one_node(), endpoint(model={"uri": "hf://a/b", "cache": {}})],
    ),
    "a claim of yours": (
        [model(uri="hf://a/b", cache={"claimName": "mine", "reclaim": "Delete"})],
        [
            model(uri="hf://a/b", cache={"reclaim": "Delete"}),
            model(uri="hf://a/b", cache={"claimName": "mine", "reclaim": "Retain"}),
        ],
    ),
    "spec.scaling decides": (
        [endpoint(replicas=count, scaling={"max": 4}) for count in (0, 2)],
        [endpoint(replicas=1, scaling={"max": 4}), endpoint(scaling={"max": 4}), endpoint(replicas=3)],
    ),
    "must not be less than spec.scaling.min": (
        [endpoint(scaling={"min": 3, "max": 2})],
        [endpoint(scaling={"min": 2, "max": 2}), endpoint(scaling={"max": 1}), endpoint(scaling={"min": 0, "max": 1})],
    ),
    "vendor cpu has no": (
        [endpoint(accelerator={"vendor": "cpu", "products": ["H100"]})],
        [endpoint(accelerator={"products": ["H100"]})],
    ),
    "vendor cpu requests": (
        [endpoint(accelerator={"vendor": "cpu", "resourceName": "a.b/c"})],
        [endpoint(accelerator={"resourceName": "a.b/c"})],
    ),
    "tensor * pipeline * data": (
        [spread(1, tensor=2), spread(4, tensor=2), spread(8, tensor=8, nodes=2), spread(8, tensor=8, pipeline=2)],
        [spread(8, tensor=2, pipeline=2, data=2), spread(8, tensor=16, nodes=2), spread(4, tensor=4, expert=4)],
    ),
    "pipeline * data must divide": (
        [spread(1, pipeline=2), spread(6, data=4), spread(3, pipeline=4, nodes=2)],
        [spread(6, data=3), spread(1, pipeline=2, nodes=2)],
    ),
    "must divide tensor, whose": (
        [spread(8, attentionData=3), spread(8, tensor=4, pipeline=2, attentionData=8), spread(8, attentionData=16)],
        [spread(8, attentionData=8), spread(8, nodes=2, attentionData=16), spread(8, pipeline=2, attentionData=4)],
    ),
    "must divide tensor, over": (
        [spread(8, expert=3), spread(8, pipeline=2, expert=8), spread(8, tensor=2, data=4, expert=4)],
        [spread(8, expert=8), spread(8, nodes=2, expert=16), spread(8, data=4, expert=2)],
    ),
    "SGLang does not combine attentionData": (
        [spread(8, data=2, attentionData=2)],
        [spread(8, data=2, attentionData=1), spread(8, data=1, attentionData=2)],
    ),
    "SGLang does not spread copies": (
        [spread(8, data=2, nodes=2), spread(8, tensor=8, data=2, nodes=2)],
        [spread(8, data=2, nodes=1), spread(8, data=1, nodes=2)],
    ),
    "nodes must divide pipeline": (
        [spread(6, pipeline=3, nodes=2), spread(8, pipeline=2, nodes=3), spread(8, pipeline=4, nodes=6)],
        [spread(8, pipeline=4, nodes=2), spread(8, pipeline=2, nodes=4), spread(1, pipeline=3, nodes=3)],
    ),
    "counts accelerators of one node": (
        [spread(17), endpoint(accelerator={"vendor": "amd", "count": 32})],
        [
            spread(16),
            endpoint(accelerator={"vendor": "cpu", "count": 17}),
            endpoint(accelerator={"count": 56, "resourceName": "example.com/slice"}),
        ],
    ),
    "a CUDA process sees one MIG slice": (
        [endpoint(accelerator={"count": 2, "resourceName": "nvidia.com/mig-1g.10gb"})],
        [
            endpoint(accelerator={"resourceName": "nvidia.com/mig-1g.10gb"}),
            endpoint(accelerator={"count": 1, "resourceName": "nvidia.com/mig-3g.40gb"}, replicas=2),
            endpoint(accelerator={"count": 2, "resourceName": "nvidia.com/gpu.shared"}),
            endpoint(accelerator={"count": 2}),
        ],
    ),
    "must not be empty with operator Equal": (
        [tolerate(value="a")],
        [tolerate(operator="Exists"), tolerate(key="a/b")],
    ),
    "has no meaning with operator Exists": ([tolerate(operator="Exists", value="a")], [tolerate(key="k", value="a")]),
    "only a NoExecute taint ends": (
        [tolerate(key="k", tolerationSeconds=0), tolerate(key="k", effect="NoSchedule", tolerationSeconds=9)],
        [tolerate(key="k", effect="NoExecute", tolerationSeconds=9)],
    ),
    "value and valueFrom": (
        [variable(value="a", valueFrom={"secretKeyRef": SECRET_KEY})],
        [variable(value="a"), variable(valueFrom={"configMapKeyRef": SECRET_KEY})],
    ),
    "must name either": (
        [variable(valueFrom={}), variable(valueFrom={"secretKeyRef": SECRET_KEY, "configMapKeyRef": SECRET_KEY})],
        [variable(valueFrom={"secretKeyRef": SECRET_KEY})],
    ),
    "Warn is for an image": (
        [endpoint(engine={"argsCheck": "Warn"})],
        [endpoint(engine={"argsCheck": "Warn", "image": "x"}), endpoint(engine={"argsCheck": "Strict"})],
    ),
    "is empty, which reads as nobody": (
        [endpoint(api={"allowFrom": []})],
        [endpoint(api={"allowFrom": [{"podSelector": {}}]}), endpoint(api={})],
    ),
    "must have podSelector, namespaceSelector or ipBlock": (
        [allowed({}), allowed({"podSelector": {}}, {})],
        [allowed({selector: {}}) for selector in ("podSelector", "namespaceSelector")]
        + [allowed({"ipBlock": BLOCK})]
        + [allowed({"podSelector": {"matchLabels": {"a": "b"}}, "namespaceSelector": {"matchLabels": {"c": "d"}}})],
    ),
    "stands alone": (
        [allowed({"ipBlock": BLOCK, selector: {}}) for selector in ("podSelector", "namespaceSelector")],
        [allowed({"ipBlock": BLOCK}, {"podSelector": {}})],
    ),
    "In and NotIn need values": (
        [
            compared(operator="In"),
            compared(operator="NotIn", values=[]),
            compared(operator="Exists", values=["a"]),
            compared(operator="DoesNotExist", values=["a", "b"]),
        ],
        [
            compared(operator="In", values=["a", ""]),
            compared(operator="NotIn", values=["a"]),
            compared(operator="Exists"),
            compared(operator="DoesNotExist", values=[]),
        ],
    ),
    "must be a host name, and is an address": (
        [published(host="192.0.2.7"), published(host="010.0.0.1")],
        [published(host=host) for host in ("", "a.example.com", "1.2.3.4.example.com", "*.example.com", "1.2.3")],
    ),
    "must have something between two slashes": (
        [published(path=path) for path in ("//", "/a//b", "/./a", "/a/../b", "/..", "/a/.")],
        [published(path=path) for path in ("/", "/a/", "/a/b.c", "/a/..b", "/.well-known/a")],
    ),
    "names one Gateway twice": (
        [
            routed({"name": "g"}, {"name": "g"}),
            routed({"name": "g"}, {"name": "g", "sectionName": "a"}),
            routed({"name": "g", "sectionName": "a"}, {"name": "h"}, {"name": "g", "sectionName": "a"}),
            routed({"name": "g", "namespace": "n"}, {"name": "g", "namespace": "n"}),
        ],
        [
            routed({"name": "g"}, {"name": "h"}),
            routed({"name": "g"}, {"name": "g", "namespace": "n"}),
            routed({"name": "g", "sectionName": "a"}, {"name": "g", "sectionName": "b"}),
        ],
    ),
    "ingress, route, NodePort and LoadBalancer open": (
        [
            endpoint(api={"ingress": {}}),
            endpoint(api={"route": {"parentRefs": [{"name": "g"}]}}),
            endpoint(api={"service": {"type": "NodePort"}}),
            endpoint(api={"service": {"type": "LoadBalancer"}}),
        ],
        [
            endpoint(api={"ingress": {}, "keysSecret": {"name": "k"}}),
            endpoint(api={"ingress": {}, "allowAnonymous": True}),
        ],
    ),
}
