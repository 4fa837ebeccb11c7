#!/usr/bin/env bash
# The manual pages: every command and option of the command line is in them, they are rendered without a warning, and
# what they show works. And what bash completes.
. "$(dirname "$0")/lib.sh"
for program in scdoc man; do command -v $program >/dev/null || skip "no $program"; done
DOCS=$(cd "$(dirname "$0")/../../docs/man" && pwd)

render() {  # PAGE: as people read it, in $T/text
  cmake -DPCACHEFS="$PCACHEFS" -DSCDOC=scdoc -DPROJECT_VERSION=0 -DSOURCE="$DOCS/$1.scd.in" -DPAGE="$T/$1" \
    -P "$DOCS/make_page.cmake"
  LC_ALL=C.UTF-8 MANROFFSEQ='' MANWIDTH=100 man --warnings -E UTF-8 -l "$T/$1" >"$T/page" 2>"$T/err" ||
    { cat "$T/err"; fail "man does not render $1"; }
  [ ! -s "$T/err" ] || { cat "$T/err"; fail "$1 is rendered with warnings"; }
  col -bx <"$T/page" >"$T/text"
}

say "the page of the configuration is rendered without a warning, and its example is one"
render pcachefs.toml.5
sed -n '/^EXAMPLE/,/^SEE ALSO/p' "$T/text" | sed '1d;$d' >"$T/example.toml"
[ "$(grep -c '^ *\[' "$T/example.toml")" -eq 3 ] || { cat "$T/text"; fail "the example is not there"; }
p config show "$T/example.toml" >"$T/out" || { cat "$T/example.toml"; fail "its example is no configuration"; }

say "it has every setting, with its default"
for setting in $(p manual settings | sed -n 's/^\*\(.*\)\*$/\1/p' | tr -d '\\'); do
  grep -q "^ *$setting\$" "$T/text" || fail "the setting $setting is missing"
done
tr -s '\n ' ' ' <"$T/text" | grep -q "dirty_high Once more than .* default: 50%" || fail "dirty_high is not explained"

say "the page of the commands is rendered without a warning"
render pcachefs.8
[ "$(wc -l <"$T/text")" -gt 200 ] || fail "it has only $(wc -l <"$T/text") lines"

say "it has every command and option"
# What `--help` says, which CLI11 makes of the same command line, and which lists subcommands after two blanks.
commands=$(p --help | sed -n '/^Subcommands:/,$p' | sed -n 's/^  \([a-z][a-z-]*\) .*/\1/p')
[ "$(wc -w <<<"$commands")" -ge 20 ] || fail "there are only the commands $commands"
for command in $commands; do
  grep -q "^ *pcachefs $command\( \|\$\)" "$T/text" || fail "the command $command is missing"
  sed -n "/^   pcachefs $command\( \|\$\)/,/^   pcachefs \|^[A-Z]/p" "$T/text" >"$T/section"
  [ "$(wc -l <"$T/section")" -ge 4 ] || fail "there is no section of $command"
  for option in $(p "$command" --help | grep -o '^  *-[a-z-]*\(,--[a-z-]*\)\?' | tr ', ' '\n\n' | grep -v '^\(-h\|--help\)\?$'); do
    grep -q -- "$option\( \|,\|\$\)" "$T/section" || { cat "$T/section"; fail "option $option of $command is missing"; }
  done
  grep -q "Example: pcachefs $command" "$T/section" || fail "there is no example of $command"
done

for text in "pcachefs config check \[PATH\]" "cache_dev0/adm$" "user.pcachefs.NAME" "umount.fuse.pcachefs" \
  "NO_COLOR" "/etc/pcachefs/pcachefs.toml" "/etc/default/pcachefs-" "/v1/stats" "pcachefs backing-start -p"; do
  grep -q -- "$text" "$T/text" || fail "the page says nothing of $text"
done

say "bash completes"
p completion >"$T/completion"
bash -n "$T/completion"
simple_setup
completed() {  # COMPLETION... : the words after `pcachefs` as they are typed, of which the last is not finished
  bash --norc -c '
    compopt() { :; }  # there is no readline here
    . "$1"; COMP_WORDS=("$2"); COMP_LINE="$2"
    for typed in "${@:3}"; do
      COMP_LINE+=" $typed"
      while [[ $typed == [!\"\'\'']*=* ]]; do  # bash cuts words there
        COMP_WORDS+=("${typed%%=*}" =); typed=${typed#*=}
        [ -n "$typed" ] || continue 2
      done
      COMP_WORDS+=("$typed")
    done
    COMP_POINT=${#COMP_LINE} COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _pcachefs; printf "%s\n" "${COMPREPLY[@]}"
  ' bash "$T/completion" "$PCACHEFS" "$@" | sort | tr '\n' ' '
}
expect_completed() {
  local want=$1; shift
  [ "$(completed "$@")" = "$want" ] || fail "$* is completed to $(completed "$@")instead of $want"
}
expect_completed "drain " dr
expect_completed "dev " flush ""
expect_completed "dev " --mount "$MNT" --json flush d
expect_completed "dev " "--mount=$MNT" flush d
expect_completed "dirty_high " get dev dirty_h
expect_completed "dirty_high= " set dev dirty_h
expect_completed "dirty_high= " set dev mode=writeback dirty_h
expect_completed "dirty_low " unset dev dirty_high dirty_l
expect_completed "mode= " set dev mod
expect_completed "writearound writeback writeonly writethrough " set dev mode=w
expect_completed "bypass error throttle " set dev full_policy=
expect_completed "writeback,full_policy= " add new /x -o mode=writeback,full_po
expect_completed "writearound " add new /x --mode writea
expect_completed "writearound " add new /x --mode=writea
expect_completed "warning " mount /x --log-level w
expect_completed "warning " mount /x -o ack=flush,log_level=w
expect_completed "cache " unregister c
expect_completed "cache " grow ""
expect_completed "cache " add new /x --cache c
expect_completed "check show " config ""
expect_completed "show " config s
expect_completed "$SHM/cache " config check "$SHM/ca"
expect_completed "openmetrics " metrics --format o
expect_completed "--discard-dirty " remove --d
expect_completed "--json " status --js
expect_completed "$SHM/cache " check "$SHM/ca"
expect_completed "$MNT " umount "$T/mn"
expect_completed " " flush dev ""
expect_completed " " nonsense x
expect_completed " " format --size ""
expect_completed " " --mount "$T" flush d  # another mount has other names

say "what bash completes is quoted, and nothing of it is evaluated"
cd "$T"
truncate -s 1M "$T/a" "$T/b" "$T/c"
p add 'x$(touch${IFS}PWNED)' "$T/a"
p add 'vm `touch PWNED` 1' "$T/b"
p add "it's" "$T/c"
expect_completed 'x\$\(touch\$\{IFS\}PWNED\) ' flush x
expect_completed 'x\$\(touch\$\{IFS\}PWNED\) ' flush 'x\$\(tou'
expect_completed 'vm\ \`touch\ PWNED\`\ 1 ' flush v
expect_completed 'vm `touch PWNED` 1 ' flush "'vm "
expect_completed 'vm \`touch PWNED\` 1 ' flush '"vm \`'
expect_completed "it'\\''s " flush "'it"
expect_completed " " 'x$(touch${IFS}PWNED)' ""
expect_completed " " flush '-x$(touch${IFS}PWNED)' '$(touch${IFS}PWNED)'
[ ! -e PWNED ] || fail "completion ran what a device is called"

say "in a terminal too"
session=pcachefs-$$
t() { tmux -L "$session" "$@"; }
end_manual() { local status=$?; t kill-server 2>/dev/null; (exit $status); cleanup; }
trap end_manual EXIT
t -f /dev/null new-session -d -s bash -x 150 -y 20 "env PS1='ready> ' bash --norc --noprofile -i"
t send-keys -t bash ". $T/completion; PATH=$(dirname "$PCACHEFS"):\$PATH; cd $T" Enter
t send-keys -t bash "pcachefs set vm" Tab " mode=writet" Tab " dirty_h" Tab "30% >$T/done" Enter
for _ in $(seq 100); do [ -e "$T/done" ] && break; sleep 0.1; done
for _ in $(seq 100); do [ "$(p get 'vm `touch PWNED` 1' mode --json | jq -r '.settings[0].value')" = writethrough ] && break; sleep 0.1; done
[ "$(p get 'vm `touch PWNED` 1' mode --json | jq -r '.settings[0].value')" = writethrough ] ||
  { t capture-pane -p -t bash; fail "it was not set"; }
[ "$(p get 'vm `touch PWNED` 1' dirty_high --json | jq -r '.settings[0].value')" = 30% ] ||
  { t capture-pane -p -t bash; fail "the other one was not set"; }
[ ! -e PWNED ] || fail "completion ran what a device is called"
