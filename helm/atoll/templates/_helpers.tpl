{{/* Names, labels, and what several objects share. Nothing here renders an object. */}}

{{- define "atoll.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Cut at 40: pods, Services and Jobs add suffixes, and 63 is the limit. */}}
{{- define "atoll.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "atoll.peers" -}}
{{- include "atoll.fullname" . }}-peers
{{- end -}}

{{/* Domain of the pods: each is <pod>.<this>. */}}
{{- define "atoll.peersDomain" -}}
{{- include "atoll.peers" . }}.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end -}}

{{/* Every object of the release. */}}
{{- define "atoll.selectorLabels" -}}
app.kubernetes.io/name: {{ include "atoll.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The hosts of the ring and nothing else. Jobs and tests must never match it: a hard
anti-affinity would keep them off every node. */}}
{{- define "atoll.nodeLabels" -}}
{{ include "atoll.selectorLabels" . }}
app.kubernetes.io/component: node
{{- end -}}

{{- define "atoll.labels" -}}
{{ include "atoll.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- range $key, $value := .Values.commonLabels }}
{{ $key }}: {{ $value | toString | quote }}
{{- end }}
{{- end -}}

{{/* Annotations of an object, the common ones and those in `extra`; nothing where there are none. Call
with (dict "root" $ "indent" 2 "extra" (dict …)). */}}
{{- define "atoll.annotations" -}}
{{- $all := dict -}}
{{- range $key, $value := merge (dict) (default (dict) .extra) .root.Values.commonAnnotations -}}
{{- $_ := set $all $key (toString $value) -}}
{{- end -}}
{{- if $all -}}
{{- toYaml (dict "annotations" $all) | nindent .indent -}}
{{- end -}}
{{- end -}}

{{/* A digest names the bytes; it wins over the tag. */}}
{{- define "atoll.image" -}}
{{- $image := .Values.image -}}
{{- $repository := $image.repository -}}
{{- if $image.registry -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" $image.registry) $repository -}}
{{- end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "atoll.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "atoll.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "atoll.configMapName" -}}
{{- default (printf "%s-config" (include "atoll.fullname" .)) .Values.existingConfigMap -}}
{{- end -}}

{{- define "atoll.clusterSecretName" -}}
{{- default (printf "%s-cluster-secret" (include "atoll.fullname" .)) .Values.clusterSecret.existingSecret -}}
{{- end -}}

{{- define "atoll.authName" -}}
{{- default (printf "%s-auth" (include "atoll.fullname" .)) .Values.auth.existingSecret -}}
{{- end -}}

{{- define "atoll.peerAuthName" -}}
{{- default (printf "%s-peer-auth" (include "atoll.fullname" .)) .Values.peerAuth.existingSecret -}}
{{- end -}}

{{/* Whether hosts prove to each other what they are, by signatures or by certificates; nothing where they
do not. Storage nodes refuse to ask clients for keys otherwise: whoever has none would pass as a host. */}}
{{- define "atoll.hostsProven" -}}
{{- if or .Values.peerAuth.enabled .Values.tls.enabled -}}true{{- end -}}
{{- end -}}

{{/* How URLs of routers begin. */}}
{{- define "atoll.scheme" -}}
{{- .Values.tls.enabled | ternary "https" "http" -}}
{{- end -}}

{{/* What pods that speak as an administrator need in their container: the key, and the CA to believe;
nothing where neither is asked for. */}}
{{- define "atoll.adminAccess" -}}
{{- if or .Values.auth.enabled .Values.tls.enabled -}}
env:
  {{- if .Values.auth.enabled }}
  - name: ATOLL_API_KEY
    valueFrom:
      secretKeyRef:
        name: {{ include "atoll.authName" . }}
        key: {{ .Values.auth.adminKey }}
  {{- end }}
  {{- if .Values.tls.enabled }}
  - name: ATOLL_CA_FILE
    value: /etc/atoll/tls/ca.crt
  {{- end }}
{{- end }}
{{- if .Values.tls.enabled }}
volumeMounts:
  - name: tls
    mountPath: /etc/atoll/tls
    readOnly: true
{{- end -}}
{{- end -}}

{{/* Pods that run the image outside the ring: pull secrets, identity, placement. */}}
{{- define "atoll.helperPodSpec" -}}
serviceAccountName: {{ include "atoll.serviceAccountName" . }}
automountServiceAccountToken: false
enableServiceLinks: false
restartPolicy: Never
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .Values.tls.enabled }}
volumes:
  # The private key of the hosts stays out of it.
  - name: tls
    secret:
      secretName: {{ .Values.tls.existingSecret }}
      defaultMode: 0400
      items:
        - key: ca.crt
          path: ca.crt
{{- end }}
{{- end -}}

{{/* Client ports of pods that survive a scale-down to replicaCount, comma-separated. */}}
{{- define "atoll.survivors" -}}
{{- $urls := list -}}
{{- range $ordinal := until (min 3 (int .Values.replicaCount) | int) -}}
{{- $host := printf "%s-%d.%s" (include "atoll.fullname" $) $ordinal (include "atoll.peersDomain" $) -}}
{{- $urls = append $urls (printf "%s://%s:%d" (include "atoll.scheme" $) $host (int $.Values.ports.router)) -}}
{{- end -}}
{{- join "," $urls -}}
{{- end -}}

{{/* What a schema cannot compare. */}}
{{- define "atoll.validate" -}}
{{- $n := int .Values.ring.replicationFactor -}}
{{- if lt (int .Values.replicaCount) $n -}}
{{- fail (printf "replicaCount (%d) must be at least ring.replicationFactor (%d): replicas sit on distinct hosts" (int .Values.replicaCount) $n) -}}
{{- end -}}
{{- $ports := dict -}}
{{- range $name, $port := .Values.ports -}}
{{- $key := toString (int $port) -}}
{{- if hasKey $ports $key -}}
{{- fail (printf "ports.%s and ports.%s are both %s: the processes of a pod share one network" $name (get $ports $key) $key) -}}
{{- end -}}
{{- $_ := set $ports $key $name -}}
{{- end -}}
{{- if and .Values.tls.enabled (not .Values.tls.existingSecret) -}}
{{- fail "tls.enabled: set tls.existingSecret to a Secret with tls.crt, tls.key and ca.crt" -}}
{{- end -}}
{{- if and .Values.auth.enabled .Values.networkPolicy.directSelectors (not (include "atoll.hostsProven" .)) -}}
{{- fail "networkPolicy.directSelectors: storage nodes ask these clients for API keys only where hosts prove themselves: set peerAuth.enabled or tls.enabled" -}}
{{- end -}}
{{- if and (eq .Values.zone.source "static") (not .Values.zone.value) -}}
{{- fail "zone.source is static: set zone.value" -}}
{{- end -}}
{{- /* Router and worker stop together, then the storage node (what is in flight, then what that
left behind), then the agent. Beyond the grace they are killed in the middle of it. */ -}}
{{- $first := max (add (int .Values.router.preStopSleepSeconds) (int .Values.router.drainSeconds)) (int .Values.antiEntropy.drainSeconds) -}}
{{- $stops := add $first (mul 2 (int .Values.storage.drainSeconds)) (int .Values.membershipSvc.drainSeconds) -}}
{{- if ge $stops (int64 .Values.terminationGracePeriodSeconds) -}}
{{- fail (printf "terminationGracePeriodSeconds (%d) must be more than the %d s that the four stops may take one after another" (int .Values.terminationGracePeriodSeconds) (int $stops)) -}}
{{- end -}}
{{- end -}}

{{/* Where runbooks are in the files of rules and dashboards, before an installation says otherwise. */}}
{{- define "atoll.runbooks" -}}
https://atoll.example/runbooks
{{- end }}
