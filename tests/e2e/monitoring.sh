#!/usr/bin/env bash
# Debian's Prometheus scrapes a mount: what it stores is what status says, and configuration, alert rules and dashboard
# of examples/monitoring go by metrics that there are.
. "$(dirname "$0")/lib.sh"
for program in curl prometheus promtool; do command -v $program >/dev/null || skip "no $program"; done
EXAMPLES=$(cd "$(dirname "$0")/../../examples/monitoring" && pwd)

truncate -s 64M "$T/backing"
p format "$SHM/cache" --size 32M
mount_with_http 49594
p add dev "$T/backing"
dd if=/dev/urandom of="$MNT/dev" bs=64K count=128 oflag=direct conv=notrunc status=none
dd if="$MNT/dev" of=/dev/null bs=64K count=128 iflag=direct status=none

say "promtool takes the metrics, the rules and the configuration"
p metrics >"$T/metrics"
promtool check metrics <"$T/metrics" >"$T/out" 2>&1 || { cat "$T/out"; fail "promtool refuses the metrics"; }
[ ! -s "$T/out" ] || { cat "$T/out"; fail "promtool has something to say about the metrics"; }
mkdir "$T/prometheus"
sed -e "s/9494/$PORT/; s/15s/1s/" "$EXAMPLES/prometheus.yml" >"$T/prometheus/prometheus.yml"
cp "$EXAMPLES/pcachefs-alerts.yml" "$T/prometheus"
promtool check config "$T/prometheus/prometheus.yml" >"$T/out" 2>&1 || { cat "$T/out"; fail "promtool refuses the rules"; }

say "Prometheus scrapes it"
serve() {  # another program may have the port
  for WEB in $(seq 49694 49794); do
    prometheus --config.file="$T/prometheus/prometheus.yml" --storage.tsdb.path="$T/prometheus/data" \
      --web.listen-address="127.0.0.1:$WEB" --log.level=warn >"$T/prometheus/log" 2>&1 &
    SERVER=$!
    for _ in $(seq 600); do
      curl -fsS --max-time 60 "http://127.0.0.1:$WEB/-/ready" >/dev/null 2>&1 && kill -0 "$SERVER" 2>/dev/null && return
      kill -0 "$SERVER" 2>/dev/null || break
      sleep 0.1
    done
  done
  cat "$T/prometheus/log"
  fail "Prometheus does not start"
}
finish() {
  local status=$?
  set +e
  [ -z "${SERVER:-}" ] || { kill "$SERVER" 2>/dev/null; wait "$SERVER" 2>/dev/null; }
  (exit $status)
  cleanup
}
trap finish EXIT
serve
api() { curl -fsS --max-time 60 -G "http://127.0.0.1:$WEB/api/v1/$1" "${@:2}"; }
value() { api query --data-urlencode "query=$1" | jq -r '.data.result[0].value[1] // empty'; }
for _ in $(seq 600); do
  [ "$(value 'pcachefs_logic_dev_requests_total{op="write"}')" = "$(stat_of dev writes)" ] && break
  sleep 0.1
done
[ "$(value 'up{job="pcachefs"}')" = 1 ] || fail "the scrape fails"
for pair in 'requests_total{op="write"} writes' 'requests_total{op="read"} reads' \
  'request_bytes_total{op="write"} write_bytes' 'read_blocks_total{result="hit"} read_hits' 'size_bytes size_bytes'; do
  metric=pcachefs_logic_dev_${pair% *}
  [ "$(value "$metric")" = "$(stat_of dev "${pair#* }")" ] || fail "$metric is $(value "$metric")"
done
[ "$(value 'pcachefs_logic_dev_request_duration_seconds_count{op="write"}')" -gt 0 ] || fail "no write was measured"
[ "$(value pcachefs_health)" = 0 ] || fail "it is not healthy"

say "dashboard and rules ask for what there is"
api label/__name__/values | jq -r '.data[]' >"$T/names"
jq -r '.panels[].targets[].expr' "$EXAMPLES/grafana.json" |
  sed -e 's/\$__rate_interval/1m/g; s/\$instance/.*/g; s/\$logic_dev/.*/g' >"$T/exprs"
api rules | jq -r '.data.groups[].rules[].query' >>"$T/exprs"
[ "$(wc -l <"$T/exprs")" -ge 20 ] || fail "there are only $(wc -l <"$T/exprs") expressions"
while read -r expr; do
  api query --data-urlencode "query=$expr" >/dev/null || fail "Prometheus refuses $expr"
  for name in $(grep -o 'pcachefs_[a-z_]*' <<<"$expr"); do
    grep -qx "$name" "$T/names" || fail "there is no metric $name, which is asked for in $expr"
  done
done <"$T/exprs"
