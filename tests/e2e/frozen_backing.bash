# A backing that hangs and goes on again: $T/fs/backing, of 96M, on a filesystem that freeze and thaw stop and let go.
# Sourced after lib.sh; thaws before it cleans up.

frozen=
freeze() { fsfreeze --freeze "$T/fs"; frozen=1; }
thaw() { [ -z "$frozen" ] || fsfreeze --unfreeze "$T/fs"; frozen=; }
finish() {
  local status=$?
  set +e
  thaw
  (exit $status)
  cleanup
}
trap finish EXIT

truncate -s 192M "$SHM/image"
mkfs.ext4 -q "$SHM/image"
attach "$SHM/image"
mkdir "$T/fs"
mount "$LOOP" "$T/fs"
mounts+=("$T/fs")
fallocate -l 96M "$T/fs/backing"
