#!/bin/sh
# Sends one span after another to the agent's OTLP receiver, numbered. As an SDK does, it sends a span again until the
# receiver has said yes. So the numbers of one container have no gap, unless an acknowledged span was lost.
n=1
# A pod's first spans may arrive before the agent knows whose address it is; then what they say of themselves counts.
resource=$(echo "$OTEL_RESOURCE_ATTRIBUTES" | sed 's/\([^=,]*\)=\([^,]*\)/{"key":"\1","value":{"stringValue":"\2"}}/g')
while sleep 0.1; do
  now=$(date +%s)000000000
  trace=$(tr -d - </proc/sys/kernel/random/uuid)
  attributes='[{"key":"demo.number","value":{"intValue":'$n'}},{"key":"demo.container","value":{"stringValue":"'$HOSTNAME'"}}]'
  span='{"traceId":"'$trace'","spanId":"00000000000000ff","name":"tick","kind":2,"startTimeUnixNano":"'$now'","endTimeUnixNano":"'$now'","attributes":'$attributes'}'
  body='{"resourceSpans":[{"resource":{"attributes":['$resource']},"scopeSpans":[{"spans":['$span']}]}]}'
  wget -q -O /dev/null --header 'Content-Type: application/json' --post-data "$body" \
    "$OTEL_EXPORTER_OTLP_ENDPOINT/v1/traces" 2>/dev/null && n=$((n + 1))
done
