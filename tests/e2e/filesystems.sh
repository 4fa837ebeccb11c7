#!/usr/bin/env bash
# ext4, xfs and btrfs on a loop device on the file keep a source tree over a remount of everything.
. "$(dirname "$0")/lib.sh"

say "a tree to copy"
mkdir "$T/tree" "$T/fs"
find /usr/include /usr/share -xdev -type f -readable -size -1024k -printf '%s %p\n' 2>/dev/null >"$T/candidates" || true
awk 'NR % 5 == 1 {sum += $1; if (sum > 52428800) exit; sub(/^[0-9]+ /, ""); print}' "$T/candidates" >"$T/list"
tar -cf - -C / -T <(sed 's,^/,,' "$T/list") | tar -xf - -C "$T/tree"
files=$(find "$T/tree" -type f | wc -l)
[ "$files" -ge 1000 ] || skip "only $files files to copy on this machine"
(cd "$T/tree" && find . -type f -print0 | sort -z | xargs -0 sha256sum) >"$T/manifest"
say "$files files, $(du -sm "$T/tree" | cut -f1) MiB"

make_ext4() { mkfs.ext4 -q -F "$1"; }
make_xfs() { mkfs.xfs -q -f "$1"; }
make_btrfs() { mkfs.btrfs -q -f "$1"; }
check_ext4() { e2fsck -fn "$1"; }
check_xfs() { xfs_repair -n "$1"; }
check_btrfs() { btrfs check "$1"; }
tool_of() { case $1 in ext4) echo e2fsck ;; xfs) echo xfs_repair ;; btrfs) echo btrfs ;; esac; }

mounts+=("$T/fs")
tried=0
for fs in ext4 xfs btrfs; do
  if ! command -v "mkfs.$fs" >/dev/null || ! command -v "$(tool_of $fs)" >/dev/null; then
    say "$fs left out: its tools are not installed"; continue
  fi
  if ! grep -qw "$fs" /proc/filesystems && ! modprobe -q "$fs" 2>/dev/null; then
    say "$fs left out: this kernel has it not"; continue
  fi
  tried=$((tried + 1))
  say "$fs"
  rm -f "$SHM/cache" "$T/backing"
  simple_setup 512M
  attach "$MNT/dev"
  "make_$fs" "$LOOP" >"$T/out" 2>&1 || { cat "$T/out" >&2; fail "mkfs.$fs"; }
  mount -t "$fs" "$LOOP" "$T/fs"
  cp -a "$T/tree/." "$T/fs/"
  umount "$T/fs"
  detach_and_wait "$LOOP"
  [ "$(stat_of dev dirty_bytes)" -gt 0 ] || fail "nothing is only in the cache, so the remount has nothing to keep"
  p umount "$MNT"

  p mount "$MNT" --cache "$SHM/cache"
  attach "$MNT/dev"
  "check_$fs" "$LOOP" >"$T/out" 2>&1 || { cat "$T/out" >&2; fail "$fs is damaged after the remount"; }
  mount -t "$fs" "$LOOP" "$T/fs"
  (cd "$T/fs" && sha256sum --quiet -c "$T/manifest") || fail "$fs lost or changed files"
  [ "$(cd "$T/fs" && find . -type f | wc -l)" -eq "$files" ] || fail "$fs has another number of files"
  umount "$T/fs"
  detach_and_wait "$LOOP"

  say "$fs from the backing alone"
  p remove dev
  p umount "$MNT"
  attach "$T/backing"
  "check_$fs" "$LOOP" >"$T/out" 2>&1 || { cat "$T/out" >&2; fail "$fs is damaged on the backing"; }
  mount -t "$fs" -o ro "$LOOP" "$T/fs"
  (cd "$T/fs" && sha256sum --quiet -c "$T/manifest") || fail "the backing lost or changed files of $fs"
  umount "$T/fs"
  detach "$LOOP"
done
[ $tried -gt 0 ] || skip "none of the filesystems can be made here"
