{{- define "signalbox-agent.name" -}}
{{- if contains "agent" .Release.Name }}{{ .Release.Name }}{{ else }}{{ printf "%s-agent" .Release.Name }}{{ end }}
{{- end }}

{{- define "signalbox-agent.selector" -}}
app.kubernetes.io/name: signalbox-agent
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "signalbox-agent.labels" -}}
{{ include "signalbox-agent.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "signalbox-agent.image" -}}
{{- $repository := required "image.repository is required: where you have put the image that make release builds, such as registry.example.com/signalbox" .Values.image.repository -}}
{{- if .Values.image.digest }}{{ printf "%s@%s" $repository .Values.image.digest }}{{ else }}{{ printf "%s:%s" $repository (.Values.image.tag | default .Chart.AppVersion) }}{{ end }}
{{- end }}

{{/* What is in the file that the agent reads. */}}
{{- define "signalbox-agent.config" -}}
{{- $config := dict
  "issuer" (required "issuer is required: the URL of the service, such as https://sts.example.com" .Values.issuer)
  "listen" (dict "health" ":9191") -}}
{{- if .Values.ca.configMap }}{{ $_ := set $config "ca_file" (printf "/configmaps/%s/%s" .Values.ca.configMap .Values.ca.key) }}{{ end }}
{{- if .Values.namespaces }}
{{- $_ := set $config "kubernetes" (dict "namespaces" .Values.namespaces "lease" (dict "name" (include "signalbox-agent.name" .))) }}
{{- end }}
{{- if .Values.tokens }}{{ $_ := set $config "tokens" .Values.tokens }}{{ end }}
{{- toYaml $config }}
{{- end }}

{{/* The namespaces in which only tokens of the agent's own become Secrets. */}}
{{- define "signalbox-agent.written" -}}
{{- $all := list -}}
{{- range .Values.tokens }}{{ with .secret }}{{ $all = append $all .namespace }}{{ end }}{{ end -}}
{{- if has "*" .Values.namespaces }}{{ $all = list }}{{ end -}}
{{- without (uniq $all) "" | toJson -}}
{{- end }}

{{- define "signalbox-agent.kubernetes" -}}
{{- if .Values.namespaces }}true{{ end }}{{ range .Values.tokens }}{{ if .secret }}true{{ end }}{{ end }}
{{- end }}

{{/* The rules of a role in deploy/kubernetes/rbac.yaml. */}}
{{- define "signalbox-agent.rules" -}}
{{- range splitList "\n---\n" (.root.Files.Get "files/rbac.yaml") }}
{{- $object := fromYaml . }}
{{- if and (eq $object.metadata.name $.role) $object.rules }}{{ toYaml $object.rules }}{{ end }}
{{- end }}
{{- end }}

{{- define "signalbox-agent.subject" -}}
{kind: ServiceAccount, name: {{ include "signalbox-agent.name" . }}, namespace: {{ .Release.Namespace }}}
{{- end }}
