{{- /* What the operator may do where it serves endpoints. tests/chart/rbac.yaml is the same list, for review. No Secrets,
no exec: values of keys and tokens are the kubelet's business alone. */}}
{{- define "sglang-operator.rules" -}}
- apiGroups: [serve.sglang.io]
  resources: [sglangendpoints]
  verbs: [get, list, watch]
- apiGroups: [serve.sglang.io]
  resources: [sglangendpoints/status]
  verbs: [patch]
# Objects that block the deletion of their owner may only be made by somebody who may finalize it.
- apiGroups: [serve.sglang.io]
  resources: [sglangendpoints/finalizers]
  verbs: [update]
- apiGroups: [ray.io]
  resources: [rayservices]
  verbs: [get, list, watch, create, patch, delete]
# Replica bounds of a live cluster, which KubeRay does not take from the RayService.
- apiGroups: [ray.io]
  resources: [rayclusters]
  verbs: [get, list, watch, patch]
# Owner references take them away, where they shall go.
- apiGroups: [""]
  resources: [services, persistentvolumeclaims]
  verbs: [get, list, watch, create, patch]
# To end those that a lost node cannot: KubeRay counts them, and makes no others.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, delete]
# The last lines of a failed start.
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
# To tell of transitions, and to read why pods do not start: a volume, a Secret, a quota.
- apiGroups: [""]
  resources: [events]
  verbs: [create, list]
# The records of revisions.
- apiGroups: [apps]
  resources: [controllerrevisions]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [ingresses, networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}
