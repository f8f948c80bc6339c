{{- define "msemon.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* The release's name where that says what it is. Short enough for a pod's number after it. */}}
{{- define "msemon.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "msemon.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "msemon.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Quoted, since a name may look like a number or like true. */}}
{{- define "msemon.selector" -}}
app.kubernetes.io/name: {{ include "msemon.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "msemon.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "msemon.selector" . }}
{{- end -}}

{{- define "msemon.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "msemon.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "msemon.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "msemon.secret" -}}
{{- if .Values.secrets.existingSecret -}}
{{- .Values.secrets.existingSecret -}}
{{- else if .Values.secrets.values -}}
{{- include "msemon.fullname" . -}}
{{- end -}}
{{- end -}}

{{- define "msemon.store" -}}
{{- dig "state" "store" "sqlite" .Values.settings -}}
{{- end -}}

{{/* A key of TOML; one with dots is quoted. */}}
{{- define "msemon.key" -}}
{{- ternary . (toJson .) (regexMatch "^[A-Za-z0-9_-]+$" .) -}}
{{- end -}}

{{/* One section of msemon.toml: its keys, then its tables. JSON's text and arrays are TOML's too. */}}
{{- define "msemon.section" -}}
[{{ .name }}]
{{- range $key, $value := .keys }}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}
{{ include "msemon.key" $key }} = {{ toJson $value }}
{{- end }}
{{- end }}
{{- range $key, $value := .keys }}
{{- if kindIs "map" $value }}
{{ include "msemon.section" (dict "name" (printf "%s.%s" $.name (include "msemon.key" $key)) "keys" $value) }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "msemon.toml" -}}
{{- with .Values.settings.segments -}}
segments = {{ toJson . }}
{{- end }}
{{- range $name, $keys := .Values.settings }}
{{- if kindIs "map" $keys }}
{{ include "msemon.section" (dict "name" $name "keys" $keys) }}
{{- end }}
{{- end }}
{{- end -}}

{{/* What no schema can say, or not well. */}}
{{- define "msemon.check" -}}
{{- $own := dict "web.address" "listen and ports.http say it" "web.health_address" "listen and ports.health say it" "kafka.group_instance_id" "it is the pod's name" "kafka.sasl_password" "it belongs to secrets" "format.schema_registry_password" "it belongs to secrets" "state.path" "it is where the volume is" -}}
{{- range $path, $why := $own -}}
{{- $names := splitList "." $path -}}
{{- if hasKey (dig (first $names) (dict) $.Values.settings) (last $names) -}}
{{- fail (printf "settings.%s: %s" $path $why) -}}
{{- end -}}
{{- end -}}
{{- range $option, $_ := dig "kafka" "client_options" (dict) .Values.settings -}}
{{- if regexMatch "(?i)password|secret" $option -}}
{{- fail (printf "settings.kafka.client_options.%s: it belongs to secrets, with all of kafka.client_options as JSON" $option) -}}
{{- end -}}
{{- end -}}
{{- if eq (int .Values.ports.http) (int .Values.ports.health) -}}
{{- fail "ports.http and ports.health: two different ones, for both are served" -}}
{{- end -}}
{{- $many := or .Values.keda.enabled (gt (int .Values.replicas) 1) -}}
{{- if and $many (eq (include "msemon.store" .) "sqlite") -}}
{{- fail "several replicas need settings.state.store = kafka: with sqlite each sees its own disk alone" -}}
{{- end -}}
{{- if and .Values.keda.enabled (ne (include "msemon.store" .) "kafka") -}}
{{- fail "keda.enabled needs settings.state.store = kafka: what another replica takes over must have its state" -}}
{{- end -}}
{{- if and .Values.keda.enabled (lt (int .Values.keda.partitions) 1) -}}
{{- fail "keda.partitions: say how many partitions each topic has" -}}
{{- end -}}
{{- if and .Values.secrets.existingSecret .Values.secrets.values -}}
{{- fail "secrets.values and secrets.existingSecret: only one of the two" -}}
{{- end -}}
{{- end -}}
