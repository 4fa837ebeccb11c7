#!/usr/bin/env bash
# The configuration: what it brings up, over what is stored and under what is set; what is wrong in it and what is
# missing; and that what is printed can be fed back.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/bad_input.bash"

etc=$PCACHEFS_CONFIG_DIR
origin_of() { p get "$1" "$2" --json | jq -r '.settings[0] | "\(.value) \(.origin)"'; }

say "without one, a mount is empty and says what to do"
p mount "$MNT" >"$T/out" 2>"$T/err"
grep -q "nothing is configured in $etc; next: pcachefs register CACHE" "$T/out" || wrong "it says: $(cat "$T/out")"
[ ! -s "$T/err" ] || wrong "an empty mount complains: $(cat "$T/err")"
[ -z "$(ls -A "$MNT")" ] || wrong "an empty mount has files"
p umount "$MNT"
p mount "$MNT" --json | jq -e '.problems == [] and (.next | contains("register"))' >/dev/null || wrong "no JSON"
p umount "$MNT"

say "it brings everything up"
p format "$SHM/cache" --size 32M
p format "$SHM/other" --size 32M
truncate -s 16M "$T/db" "$T/vm1" "$T/vm2"
mkdir -p "$etc/conf.d"
cat >"$etc/pcachefs.toml" <<TOML
[mount]
allow_other = true

[cache_dev.cache]
path = "$SHM/cache"
epoch_max_ms = 700
defaults = { dirty_high = "60%", dirty_max_age = "5s" }

[logic_dev.db]
backing = "$T/db"
cache_dev = "cache"
dirty_high = "70%"
mode = "writethrough"
TOML
cat >"$etc/conf.d/vms.toml" <<TOML
[cache_dev.other]
path = "$SHM/other"
ack = "durable"
[logic_dev.vm1]
backing = "$T/vm1"
cache_dev = "other"
[logic_dev."vm 2"]
backing = "$T/vm2"
cache_dev = "cache"
TOML
p config check >"$T/out"
grep -q "2 files: 2 cache devices, 3 logical devices, nothing wrong" "$T/out" || wrong "check says: $(cat "$T/out")"
sed -i 's/\[mount\]/&\nlog_level = "warning"/' "$etc/pcachefs.toml"
cp "$T/db" "$T/aside" && p config check "$etc" >/dev/null
sed "s,$SHM/other,$T/aside,; s,$SHM/cache,$SHM/other," "$etc/pcachefs.toml" "$etc/conf.d/vms.toml" >"$T/wrong.toml"
p config check "$T/wrong.toml" >"$T/out"
grep -q "wrong.toml:5:12: warning: cache device $SHM/other has the label other, and not cache" "$T/out" &&
  grep -q "warning: $T/aside is not a pcachefs cache device" "$T/out" || wrong "check says: $(cat "$T/out")"
p mount "$MNT" >"$T/out" 2>&1
[ ! -s "$T/out" ] || wrong "a mount without problems says: $(cat "$T/out")"
check "db vm 2 vm1 " "$(ls -1 "$MNT" | tr '\n' ' ')" "what is there"
grep " $MNT " /proc/mounts | grep -q allow_other || wrong "allow_other is configured and not there"
check 700 "$(p status --json | jq '.cache_devs[] | select(.label == "cache") | .epoch_max_ms')" "epoch_max_ms"
check durable "$(p status --json | jq -r '.cache_devs[] | select(.label == "other") | .ack')" "ack"
check "70% config" "$(origin_of db dirty_high)" "a logical device's own setting"
check "60% config" "$(origin_of "vm 2" dirty_high)" "a default of its cache device"
check "50% default" "$(origin_of vm1 dirty_high)" "a setting that nobody chose"
for _ in $(seq 600); do [ "$(origin_of db mode)" = "writethrough config" ] && break; sleep 0.1; done
check "writethrough config" "$(origin_of db mode)" "the configured mode"
check "5000 config" "$(origin_of db dirty_max_age)" "the other default"

say "what is set counts at once, and says that the configuration comes back"
p set db dirty_high=80% dirty_low=10% 2>"$T/err"
grep -q "warning: dirty_high .* configured as 70%" "$T/err" || wrong "set says: $(cat "$T/err")"
check 1 "$(wc -l <"$T/err")" "warnings of set"
p set db full_max_wait=5s --temporary 2>"$T/err"
[ ! -s "$T/err" ] || wrong "set --temporary says: $(cat "$T/err")"
check "80% stored" "$(origin_of db dirty_high)" "what was set"
check "5000 temporary" "$(origin_of db full_max_wait)" "what was set for now"
expect_error 2 "mode is always stored" p set db mode=writeback --temporary
p set db full_policy=error
p unset db full_policy
check "throttle default" "$(origin_of db full_policy)" "what was taken back"
expect_error 2 nonsense p unset db nonsense
expect_error 2 KEY p unset db
expect_error 3 nosuch p unset nosuch dirty_high
p umount "$MNT"
p mount "$MNT"
check "70% config" "$(origin_of db dirty_high)" "the configuration at the next mount"
check "10% stored" "$(origin_of db dirty_low)" "what only is stored"
check "60000 default" "$(origin_of db full_max_wait)" "what was set for the last mount"
p unset db dirty_high dirty_low
check "70% config" "$(origin_of db dirty_high)" "what is configured, after unset"
check "40% default" "$(origin_of db dirty_low)" "the default, after unset"

say "what is printed can be fed back"
p save >"$T/saved.toml"
p save "$T/file.toml"
cmp "$T/saved.toml" "$T/file.toml" || wrong "save writes something else to a file"
p save --json | jq -e '.config.logic_dev.db.dirty_high == "70%" and .config.mount.allow_other' >/dev/null ||
  wrong "save --json: $(p save --json)"
p save - | cmp - "$T/saved.toml" || wrong "save - is not standard output"
p save /dev/stdout | cmp - "$T/saved.toml" || wrong "save /dev/stdout is not standard output"
expect_error 2 "nothing was written.* together with $etc/conf.d/vms.toml: .*conf.d/vms.toml:1:12" p save "$etc/pcachefs.toml"
grep -q "dirty_max_age = \"5s\"" "$etc/pcachefs.toml" || wrong "save replaced it all the same"
expect_error 2 "nothing was written.* together with $etc/pcachefs.toml, $etc/conf.d/vms.toml" p save "$etc/conf.d/zz.toml"
p config show >"$T/shown.toml"
p config show "$T/shown.toml" | cmp - "$T/shown.toml" || wrong "config show is not what it reads"
p config show --json | jq -e '.config.cache_dev.cache.defaults | .dirty_high == "60%" and .dirty_max_age == 5000' >/dev/null || wrong "no JSON of show"
p umount "$MNT"
p mount "$MNT" --config "$T/saved.toml"
p save | cmp - "$T/saved.toml" || wrong "a mount of what was saved is another one"
p set db dirty_high=20% 2>/dev/null
p set "vm 2" full_policy=error
p remove vm1
p restore "$T/saved.toml" >"$T/out"
printf '%s\n' "set db dirty_high=70%" "unset vm 2 full_policy" "add vm1 $T/vm1" | sort >"$T/expected"
# What only the configuration had is stored by a restore, and so may be set too.
sort "$T/out" | grep -v '^set vm' | diff "$T/expected" - || wrong "restore did: $(cat "$T/out")"
p save | cmp - "$T/saved.toml" || wrong "a restored mount is another one"
p restore "$T/saved.toml" >"$T/out"
[ ! -s "$T/out" ] || wrong "restoring once more did: $(cat "$T/out")"
truncate -s 16M "$T/elsewhere"
sed "s,$T/db,$T/elsewhere," "$T/saved.toml" >"$T/moved.toml"
expect_error 4 "db has the backing device $T/db" p restore "$T/moved.toml"
(p restore "$T/moved.toml" --json || true) | jq -e '.failed[0].code == "busy"' >/dev/null || wrong "no JSON of restore"
expect_error 3 "$T/nowhere" p restore "$T/nowhere"
expect_error 3 "$T/nowhere/x" p save "$T/nowhere/x"
p umount "$MNT"

say "what is missing is said, and the rest comes up"
mv "$SHM/other" "$SHM/away"
rm "$T/vm2"
p config check >"$T/out" || wrong "a missing device is an error of the configuration"
grep -q "$etc/conf.d/vms.toml:1:12: warning: cache device $SHM/other is not there" "$T/out" ||
  wrong "check says: $(cat "$T/out")"
grep -q "vms.toml:7:12: warning: backing device $T/vm2 is not there" "$T/out" || wrong "check says: $(cat "$T/out")"
p mount "$MNT" 2>"$T/err" >"$T/out"
check 3 "$(wc -l <"$T/err")" "lines about what is missing"
grep -q "^pcachefs: warning: cache device other is not brought up ($etc/conf.d/vms.toml:1:12): .*$SHM/other" "$T/err" ||
  wrong "mount says: $(cat "$T/err")"
grep -q "logical device vm1 is not brought up .*cache device other is missing" "$T/err" || wrong "$(cat "$T/err")"
grep -q "logical device vm 2 is not brought up .*no_backing" "$T/err" || wrong "$(cat "$T/err")"
check "db" "$(ls "$MNT")" "what is there without the others"
p save >"$T/saved.toml" 2>"$T/err"
grep -q "warning: cache device other is missing: .* those that are configured are saved, without settings" "$T/err" ||
  wrong "save says: $(cat "$T/err")"
grep -q "cache_dev.other" "$T/saved.toml" || wrong "save leaves out what is missing"
p status | grep -q "cache device other  $SHM/other  MISSING" || wrong "status does not say what is missing"
p status --json | jq -e '.cache_devs[] | select(.label == "other") | .state == "missing"' >/dev/null || wrong "no JSON"
p status --json | jq -e '.logic_devs[] | select(.name == "vm1") | .state == "missing"' >/dev/null || wrong "no JSON"
check "0" "$(cd "$MNT/.pcache"; echo cache_dev*/info | wc -w | sed 's/1/0/')" "directories of what is missing"
check "$SHM/cache" "$(cat "$MNT/.pcache/cache_dev0/path")" "the cache device that is there, in the tree"
getfattr --only-values -n user.pcachefs.dirty_high "$MNT/db" | grep -q % || wrong "no attributes beside what is missing"
checked=0; p status --check >/dev/null 2>&1 || checked=$?
check 11 "$checked" "the health"
expect_error 3 "logical device vm1 is missing" p get vm1

say "what was missing comes up by itself"
mv "$SHM/away" "$SHM/other"
for _ in $(seq 300); do [ -e "$MNT/vm1" ] && break; sleep 0.1; done
check "db vm1" "$(ls -1 "$MNT" | xargs)" "what is there once it is back"
check durable "$(p status --json | jq -r '.cache_devs[] | select(.label == "other") | .ack')" "its configured ack"
p remove vm1
p unregister other
p register "$SHM/other"
check durable "$(p status --json | jq -r '.cache_devs[] | select(.label == "other") | .ack')" "the same, registered"
check "db" "$(ls "$MNT")" "what is there without what was removed"
p unregister other
p restore "$T/saved.toml" >"$T/out" || true  # vm 2 has no backing
grep -qx "register $SHM/other" "$T/out" || wrong "restore did: $(cat "$T/out")"
grep -qx "add vm1 $T/vm1" "$T/out" || wrong "restore did: $(cat "$T/out")"
check "db vm1" "$(ls -1 "$MNT" | xargs)" "what is there once it is restored"
p remove vm1
p unregister other
mv "$SHM/other" "$SHM/away"
p umount "$MNT"
p mount "$MNT" --json 2>/dev/null | jq -e '.problems | length == 3' >/dev/null || wrong "no problems in JSON"
p unregister other
p remove vm1
p status --json | jq -e '[.cache_devs[], .logic_devs[] | .state] | index("missing") | not' >/dev/null ||
  wrong "what nobody expects any more is missing"
p umount "$MNT"
cp "$SHM/away" "$SHM/other"
sed -i "s/cache_dev.other/cache_dev.another/; s/\"other\"/\"another\"/" "$etc/conf.d/vms.toml"
p mount "$MNT" 2>"$T/err"
grep -q "another is not brought up .* has the label other" "$T/err" || wrong "another label: $(cat "$T/err")"
p register "$SHM/other"
p save "$T/saved.toml" || wrong "what is registered under its own label cannot be saved"
p config show "$T/saved.toml" --json | jq -e '.config.cache_dev | keys == ["cache", "other"]' >/dev/null ||
  wrong "save writes what is missing and there: $(cat "$T/saved.toml")"
p umount "$MNT"

say "what cannot be read is no missing configuration"
ln -s user@host.1234 "$etc/conf.d/.#vms.toml"
p config check >/dev/null || wrong "a hidden file is read"
ln -s nowhere "$etc/conf.d/x.toml"
expect_error 3 "$etc/conf.d/x.toml, a link to nowhere" p mount "$MNT"
rm "$etc/conf.d/x.toml"
mv "$etc/pcachefs.toml" "$T/away.toml"
ln -s nowhere "$etc/pcachefs.toml"
expect_error 3 "$etc/pcachefs.toml, a link to nowhere" p mount "$MNT"
mv "$T/away.toml" "$etc/pcachefs.toml"

say "a cache device that is named comes up alone"
p mount "$MNT" --cache "$SHM/cache" 2>"$T/err"
check 1 "$(wc -l <"$T/err")" "lines about what did not come up"
grep -q "^pcachefs: warning: logical device vm 2 is no_backing: .*$T/vm2" "$T/err" || wrong "mount says: $(cat "$T/err")"
p umount "$MNT"
p mount "$MNT" --cache "$SHM/cache" --json 2>/dev/null | jq -e '.problems | length == 1' >/dev/null || wrong "no problems in JSON"
check "1000 default" "$(origin_of db dirty_max_age)" "a setting that only the configuration has"
p umount "$MNT"

say "a wrong configuration brings nothing up, and says where"
rm -r "$etc/conf.d"
refused() {  # CODE PATTERN TEXT
  printf '%b' "$3" >"$etc/pcachefs.toml"
  expect_error "$1" "$2" p mount "$MNT"
  mountpoint -q "$MNT" && wrong "it is mounted all the same: $3"
  if p config check >"$T/out" 2>&1; then wrong "check finds nothing wrong: $3"; fi
  grep -Eq "^${2%%: *}: error: " "$T/out" || wrong "check says: $(cat "$T/out")"
  if p config check --json >"$T/out" 2>&1; then wrong "check --json ends with 0"; fi
  jq -e '.findings[0] | .severity == "error" and .line > 0 and .column > 0' "$T/out" >/dev/null || wrong "$(cat "$T/out")"
}
at=$etc/pcachefs.toml
refused 2 "$at:2:[0-9]+: .*array" "[mount]\nhttp = [\n"
refused 2 "$at:2:8: .*'foo:bar'" "[mount]\nhttp = \"foo:bar\"\n"
refused 2 "$at:1:1: there is no table 'caches'" "caches = 1\n"
refused 2 "$at:3:1: there is no 'dirty_hihg'" "[logic_dev.db]\nbacking = \"$T/db\"\ndirty_hihg = 1\n"
refused 2 "$at:2:11: backing is to be a text" "[logic_dev.db]\nbacking = 7\n"
refused 2 "$at:5:14: dirty_high must be 0% to 95%" \
  "[cache_dev.c]\npath = \"/c\"\n[logic_dev.db]\nbacking = \"$T/db\"\ndirty_high = \"99%\"\n"
printf '[cache_dev.cache]\npath = "%s"\n' "$SHM/cache" >"$at"
mkdir "$etc/conf.d"
printf '[cache_dev.cache]\npath = "%s"\n' "$SHM/other" >"$etc/conf.d/a.toml"
expect_error 2 "conf.d/a.toml:1:12: cache device cache is configured already at $at:1:12" p mount "$MNT"
expect_error 3 "$T/nowhere" p mount "$MNT" --config "$T/nowhere"
expect_error 3 "$T/nowhere" p config check "$T/nowhere"
expect_error 2 "check, show|subcommand|required" p config
if prepare_nobody; then
  chmod 600 "$at"
  expect_error 9 "$at" "${NOBODY[@]}" config check
fi
finish
