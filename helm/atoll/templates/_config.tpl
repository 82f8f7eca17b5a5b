{{/* A dict as TOML. A scalar or an array in JSON is the same in TOML, and unlike `toToml` it keeps
whole numbers whole. Call with (dict "table" … "path" ""). */}}
{{- define "atoll.toml" -}}
{{- $path := .path -}}
{{- range $key, $value := .table }}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}
{{ $key }} = {{ if kindIs "float64" $value }}{{ if eq $value (floor $value) }}{{ int64 $value }}{{ else }}{{ $value }}{{ end }}{{ else }}{{ toJson $value }}{{ end }}
{{- end }}
{{- end }}
{{- range $key, $value := .table }}
{{- if kindIs "map" $value }}
{{- $inner := ternary $key (printf "%s.%s" $path $key) (eq $path "") }}
[{{ $inner }}]
{{- include "atoll.toml" (dict "table" $value "path" $inner) }}
{{- end }}
{{- end }}
{{- end -}}

{{/* What every process has. Call with (dict "root" $ "values" … "port" … "metricsPort" … "data" …). */}}
{{- define "atoll.commonSettings" -}}
{{- $listen := .root.Values.listenAddress -}}
listen: {{ printf "%s:%d" $listen (int .port) | quote }}
metrics_listen: {{ printf "%s:%d" $listen (int .metricsPort) | quote }}
peer_auth:
  {{- if .root.Values.peerAuth.enabled }}
  mode: hmac
  keys_file: /etc/atoll/peer-auth/{{ .root.Values.peerAuth.key }}
  {{- else }}
  mode: none
  {{- end }}
{{- if .root.Values.tls.enabled }}
tls:
  cert_file: /etc/atoll/tls/tls.crt
  key_file: /etc/atoll/tls/tls.key
  ca_file: /etc/atoll/tls/ca.crt
  # Only hosts of this release have it, whatever else their CA issues.
  cluster_name: {{ include "atoll.peersDomain" .root | quote }}
{{- end }}
data_dir: /var/lib/atoll/{{ .data }}
runtime:
  drain_timeout_ms: {{ mul 1000 (int .values.drainSeconds) }}
telemetry:
  level: {{ .values.logLevel | quote }}
  format: {{ .root.Values.logs.format | quote }}
{{- end -}}

{{/* The four settings files, as a dict of dicts in YAML. */}}
{{- define "atoll.settings" -}}
{{- $v := .Values -}}
{{- $agent := printf "127.0.0.1:%d" (int $v.ports.membership) -}}
membership.toml:
  {{- include "atoll.commonSettings" (dict "root" . "values" $v.membershipSvc "port" $v.ports.membership "metricsPort" $v.ports.membershipMetrics "data" "membership") | nindent 2 }}
  seeds:
    {{- range $v.membership.seedOrdinals }}
    - {{ printf "%s-%d.%s:%d" (include "atoll.fullname" $) (int .) (include "atoll.peersDomain" $) (int $v.ports.membership) | quote }}
    {{- end }}
    {{- range $v.membership.extraSeeds }}
    - {{ . | quote }}
    {{- end }}
  founding:
    partitions: {{ int $v.ring.partitions }}
    spacing: {{ int $v.ring.replicationFactor }}
  {{- if $v.membership.autoJoin }}
  join:
    auto: true
    # The first N pods found the cluster, the first of them in the name of all. Not replicaCount:
    # the file must not change, and restart everybody, when the cluster grows.
    founders:
      {{- range $ordinal := until (int $v.ring.replicationFactor) }}
      - {{ printf "%s-%d" (include "atoll.fullname" $) $ordinal | quote }}
      {{- end }}
  {{- end }}
storage.toml:
  {{- include "atoll.commonSettings" (dict "root" . "values" $v.storage "port" $v.ports.storage "metricsPort" $v.ports.storageMetrics "data" "storage") | nindent 2 }}
  membership: {{ $agent | quote }}
  cluster_secret_file: /etc/atoll/cluster-secret/{{ $v.clusterSecret.key }}
  {{- if and $v.auth.enabled (include "atoll.hostsProven" .) }}
  auth:
    mode: keys
    keys_file: /etc/atoll/auth
  {{- end }}
router.toml:
  {{- include "atoll.commonSettings" (dict "root" . "values" $v.router "port" $v.ports.router "metricsPort" $v.ports.routerMetrics "data" "router") | nindent 2 }}
  membership: {{ $agent | quote }}
  auth:
    {{- if $v.auth.enabled }}
    mode: keys
    keys_file: /etc/atoll/auth
    {{- else }}
    mode: none
    {{- end }}
anti-entropy.toml:
  {{- include "atoll.commonSettings" (dict "root" . "values" $v.antiEntropy "port" $v.ports.antiEntropy "metricsPort" $v.ports.antiEntropyMetrics "data" "worker") | nindent 2 }}
  membership: {{ $agent | quote }}
  storage: {{ printf "127.0.0.1:%d" (int $v.ports.storage) | quote }}
{{- end -}}

{{/* What a storage node would refuse to start with, of its merged settings. */}}
{{- define "atoll.validateStorage" -}}
{{- $auth := default (dict) .auth -}}
{{- $peerAuth := default (dict) .peer_auth -}}
{{- $tls := default (dict) .tls -}}
{{- if and (eq (toString $auth.mode) "keys") (ne (toString $peerAuth.mode) "hmac") (not $tls.ca_file) -}}
{{- fail "storage.config: auth.mode is keys, and hosts prove nothing: set peerAuth.enabled or tls.enabled, or others are let in without a key" -}}
{{- end -}}
{{- end -}}

{{/* The content of the ConfigMap: the user's settings over the generated ones. */}}
{{- define "atoll.configFiles" -}}
{{- $own := dict "membership.toml" .Values.membershipSvc.config "storage.toml" .Values.storage.config "router.toml" .Values.router.config "anti-entropy.toml" .Values.antiEntropy.config -}}
{{- $settings := include "atoll.settings" . | fromYaml -}}
{{- if hasKey $settings "Error" -}}
{{- fail (printf "the generated settings are no YAML: %s" $settings.Error) -}}
{{- end -}}
{{- $files := dict -}}
{{- range $file, $generated := $settings -}}
{{- $merged := mergeOverwrite $generated (deepCopy (get $own $file)) -}}
{{- if eq $file "storage.toml" -}}
{{- include "atoll.validateStorage" $merged -}}
{{- end -}}
{{- $_ := set $files $file (printf "%s\n" (include "atoll.toml" (dict "table" $merged "path" "") | trim)) -}}
{{- end -}}
{{- toYaml $files -}}
{{- end -}}
