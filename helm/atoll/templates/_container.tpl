{{/* One of the four processes as a container. Call with a dict: root, name, values (its section),
port and metricsPort (dicts of name and number), config (its file), dataPath, sidecar (bool),
env (list), mounts (list), lifecycle (dict). */}}
{{- define "atoll.container" -}}
{{- $root := .root -}}
- name: {{ .name }}
  image: {{ include "atoll.image" $root | quote }}
  imagePullPolicy: {{ $root.Values.image.pullPolicy }}
  {{- if .sidecar }}
  # A native sidecar: started before what follows, stopped after it.
  restartPolicy: Always
  {{- end }}
  command: [{{ printf "/usr/local/bin/%s" .name | quote }}]
  args:
    - --config=/etc/atoll/config/{{ .config }}
    {{- range .values.extraArgs }}
    - {{ . | quote }}
    {{- end }}
  {{- with concat (default (list) .env) .values.extraEnv }}
  env:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.extraEnvFrom }}
  envFrom:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  ports:
    - name: {{ .port.name }}
      containerPort: {{ int .port.number }}
      protocol: TCP
    - name: {{ .metricsPort.name }}
      containerPort: {{ int .metricsPort.number }}
      protocol: TCP
  startupProbe:
    {{- include "atoll.probe" (dict "path" "/livez" "port" .metricsPort.name "values" .values.startupProbe "defaults" (dict "periodSeconds" 1 "failureThreshold" 60 "timeoutSeconds" 2)) | nindent 4 }}
  livenessProbe:
    {{- include "atoll.probe" (dict "path" "/livez" "port" .metricsPort.name "values" .values.livenessProbe "defaults" (dict "periodSeconds" 10 "failureThreshold" 6 "timeoutSeconds" 5)) | nindent 4 }}
  readinessProbe:
    {{- include "atoll.probe" (dict "path" "/readyz" "port" .metricsPort.name "values" .values.readinessProbe "defaults" (dict "periodSeconds" 3 "failureThreshold" 2 "timeoutSeconds" 2)) | nindent 4 }}
  {{- with .lifecycle }}
  lifecycle:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  resources:
    {{- toYaml .values.resources | nindent 4 }}
  securityContext:
    {{- toYaml $root.Values.containerSecurityContext | nindent 4 }}
  volumeMounts:
    - name: config
      mountPath: /etc/atoll/config
      readOnly: true
    - name: data
      mountPath: {{ .dataPath }}
      subPath: {{ base .dataPath }}
    - name: tmp
      mountPath: /tmp
    {{- if $root.Values.peerAuth.enabled }}
    - name: peer-auth
      mountPath: /etc/atoll/peer-auth
      readOnly: true
    {{- end }}
    {{- if $root.Values.tls.enabled }}
    - name: tls
      mountPath: /etc/atoll/tls
      readOnly: true
    {{- end }}
    {{- with concat (default (list) .mounts) .values.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* A probe on the metrics listener, which answers when everything else is stuck. */}}
{{- define "atoll.probe" -}}
{{- toYaml (merge (dict "httpGet" (dict "path" .path "port" .port)) (deepCopy .values) .defaults) -}}
{{- end -}}

{{/* Environment of the membership agent: what differs from pod to pod. */}}
{{- define "atoll.membershipEnv" -}}
{{- $domain := include "atoll.peersDomain" . -}}
- name: ATOLL_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- if eq .Values.zone.source "podLabel" }}
- name: ATOLL_ZONE
  valueFrom:
    fieldRef:
      fieldPath: {{ printf "metadata.labels['%s']" .Values.zone.labelKey }}
{{- else if eq .Values.zone.source "host" }}
- name: ATOLL_ZONE
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{- else if eq .Values.zone.source "static" }}
- name: ATOLL_ZONE
  value: {{ .Values.zone.value | quote }}
{{- end }}
- name: ATOLL_ADVERTISE__ROUTER
  value: $(ATOLL_NAME).{{ $domain }}:{{ int .Values.ports.router }}
- name: ATOLL_ADVERTISE__STORAGE
  value: $(ATOLL_NAME).{{ $domain }}:{{ int .Values.ports.storage }}
- name: ATOLL_ADVERTISE__MEMBERSHIP
  value: $(ATOLL_NAME).{{ $domain }}:{{ int .Values.ports.membership }}
- name: ATOLL_ADVERTISE__WORKER
  value: $(ATOLL_NAME).{{ $domain }}:{{ int .Values.ports.antiEntropy }}
{{- end -}}
