{{- define "sglang-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* At most 52 characters: names of objects get a suffix such as -metrics, and pods one of their own. */}}
{{- define "sglang-operator.fullname" -}}
{{- $name := include "sglang-operator.name" . }}
{{- $whole := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- default $whole .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- /* ClusterRoles have no namespace: two releases of one name must not share them. */}}
{{- define "sglang-operator.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "sglang-operator.fullname" .) }}
{{- end }}

{{- define "sglang-operator.serviceAccountName" -}}
{{- $own := ternary (include "sglang-operator.fullname" .) "default" .Values.serviceAccount.create }}
{{- default $own .Values.serviceAccount.name }}
{{- end }}

{{- define "sglang-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "sglang-operator.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "sglang-operator.labels" -}}
{{ include "sglang-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: sglang-operator
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" | quote }}
{{- end }}

{{- /* What a monitor's endpoint says beside its port, from the values of that monitor. */}}
{{- define "sglang-operator.scrape" -}}
interval: {{ .interval }}
{{- with .relabelings }}
relabelings: {{ toJson . }}
{{- end }}
{{- with .metricRelabelings }}
metricRelabelings: {{ toJson . }}
{{- end }}
{{- end }}

{{- /* A null takes a value away, and printf would write it as %!s(<nil>). */}}
{{- define "sglang-operator.image" -}}
{{- with .Values.image }}
{{- $repository := required "image.repository: is required: write it, or remove the line for the chart's own" .repository }}
{{- $registry := ternary (printf "%s/" .registry) "" (ne (default "" .registry) "") }}
{{- $digest := ternary (printf "@%s" .digest) "" (ne (default "" .digest) "") }}
{{- printf "%s%s:%s%s" $registry $repository (default $.Chart.AppVersion .tag) $digest }}
{{- end }}
{{- end }}
