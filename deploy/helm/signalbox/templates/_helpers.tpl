{{- define "signalbox.name" -}}
{{- if contains "signalbox" .Release.Name }}{{ .Release.Name }}{{ else }}{{ printf "%s-signalbox" .Release.Name }}{{ end }}
{{- end }}

{{- define "signalbox.selector" -}}
app.kubernetes.io/name: signalbox
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "signalbox.labels" -}}
{{ include "signalbox.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "signalbox.image" -}}
{{- $repository := required "image.repository is required: where you have put the image that make release builds, such as registry.example.com/signalbox" .Values.image.repository -}}
{{- if .Values.image.digest }}{{ printf "%s@%s" $repository .Values.image.digest }}{{ else }}{{ printf "%s:%s" $repository (.Values.image.tag | default .Chart.AppVersion) }}{{ end }}
{{- end }}

{{- define "signalbox.several" -}}
{{- if or .Values.autoscaling.enabled (gt (int .Values.replicas) 1) }}true{{ end }}
{{- end }}

{{- define "signalbox.tlsOff" -}}
{{- if .Values.tls.trustedProxies }}true{{ end }}
{{- end }}

{{/* What is in the file that the service reads. */}}
{{- define "signalbox.config" -}}
{{- $own := dict
  "issuer" (required "issuer is required: the URL of the service, such as https://sts.example.com" .Values.issuer)
  "listen" (dict "public" ":8443" "admin" ":9090")
  "secrets" (dict "master_key_file" (printf "/secrets/%s/%s" .Values.masterKey.secretName .Values.masterKey.key))
  "journal" (dict "dir" "/var/lib/signalbox/journal") -}}
{{- if include "signalbox.tlsOff" . }}
{{- $_ := set $own "tls" (dict "off" true "trusted_proxies" .Values.tls.trustedProxies) }}
{{- else }}
{{- $folder := printf "/secrets/%s" (required "tls needs secretName, or trustedProxies where a proxy ends TLS" .Values.tls.secretName) }}
{{- $_ := set $own "tls" (dict "cert_file" (printf "%s/tls.crt" $folder) "key_file" (printf "%s/tls.key" $folder)) }}
{{- end }}
{{- if not .Values.postgresql.secretName }}
{{- $_ := set $own "storage" (dict "url" "sqlite:/var/lib/signalbox/signalbox.db") }}
{{- end }}
{{- toYaml (mustMergeOverwrite (deepCopy .Values.config) $own) }}
{{- end }}

{{/* The Secrets that are folders of the pod, each once. */}}
{{- define "signalbox.secrets" -}}
{{- $names := list .Values.masterKey.secretName .Values.operator.secretName .Values.postgresql.secretName -}}
{{- if not (include "signalbox.tlsOff" .) }}{{ $names = append $names .Values.tls.secretName }}{{ end -}}
{{- concat $names .Values.files.secrets | compact | uniq | toJson -}}
{{- end }}

{{/* The clusters that are reached as the pod's own service account. */}}
{{- define "signalbox.inCluster" -}}
{{- range .Values.config.clusters }}{{ if eq (default "" .credential) "in-cluster" }}true{{ end }}{{ end }}
{{- end }}
