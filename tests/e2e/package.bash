# A root directory with a Debian package of the build that is tested, installed by dpkg beside what it depends on and
# nothing else; $ROOT. What is mounted in there goes at the end.
for program in cpack dpkg dpkg-deb dpkg-query dpkg-shlibdeps chroot; do
  command -v $program >/dev/null || skip "no $program"
done
[ "$(id -u)" -eq 0 ] || skip "not root"
BUILD=$(dirname "$PCACHEFS")
[ -f "$BUILD/CPackConfig.cmake" ] || skip "$PCACHEFS is not in the directory that it was built in"
ROOT=$T/root
IN_ROOT=(chroot "$ROOT" /usr/bin/env -i PATH=/usr/sbin:/usr/bin)
in_root() { "${IN_ROOT[@]}" "$@"; }

unmount_root() {
  local status=$? point
  set +e
  for point in "$ROOT"/mnt/*; do
    grep -q " $point fuse" /proc/self/mounts || continue
    timeout 300 "${IN_ROOT[@]}" pcachefs umount "${point#"$ROOT"}" || umount -i -l "$point"
  done
  for point in "$ROOT"/{proc,dev/fuse,dev/null}; do mounted_at "$point" && umount -l "$point"; done
  (exit $status)
  cleanup
}
trap unmount_root EXIT

# The installed packages that these depend on, with themselves; of alternatives the one that is installed.
closure() {
  local waiting=("$@") name
  local -A seen=()
  while [ ${#waiting[@]} -gt 0 ]; do
    name=${waiting[0]}
    waiting=("${waiting[@]:1}")
    [ -z "${seen[$name]:-}" ] || continue
    if [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null | head -c 9)" != installed ]; then
      mapfile -t -O ${#waiting[@]} waiting < <(providers "$name")
      continue
    fi
    seen[$name]=1
    mapfile -t -O ${#waiting[@]} waiting < <(dpkg-query -W -f '${Depends}, ${Pre-Depends}\n' "$name" | names)
  done
  printf '%s\n' "${!seen[@]}"
}
providers() {  # of a virtual package
  dpkg-query -W -f '${db:Status-Status} ${Package} ${Provides}\n' |
    sed -n "s/^installed \([^ ]*\)\(.*,\)\? $1\([ ,].*\)\?\$/\1/p"
}
names() { tr ',|' '\n\n' | sed 's/(.*//; s/:any//; s/[[:space:]]//g; /^$/d'; }

make_root() {
  (cd "$T" && cpack -G DEB --config "$BUILD/CPackConfig.cmake" -B "$T/package") >"$T/out" 2>&1 ||
    { cat "$T/out"; fail "there is no package"; }
  DEB=$(echo "$T"/package/*.deb)
  local packages
  mapfile -t packages < <(dpkg-deb -f "$DEB" Depends | names)
  mapfile -t packages < <(closure "${packages[@]}" dash coreutils mount)  # scripts of packages, and what the test uses
  mkdir -p "$ROOT"/{usr/{bin,sbin,lib,lib64},etc,proc,dev,tmp,run,mnt,var/lib/dpkg/{info,updates,triggers}}
  for folder in bin sbin lib lib64; do ln -s "usr/$folder" "$ROOT/$folder"; done
  dpkg-query -L "${packages[@]}" | sort -u | grep -v '^/usr/share/\(doc\|man\|locale\|info\)/' |
    while read -r file; do { [ -f "$file" ] || [ -L "$file" ]; } && echo "${file#/}"; done >"$T/files" || true
  tar -C / -cf - --no-recursion -T "$T/files" | tar -C "$ROOT" -xf - --keep-directory-symlink
  dpkg-query -s "${packages[@]}" | sed '/^Conffiles:/,/^[^ ]/{/^Conffiles:/d;/^ /d}' >"$ROOT/var/lib/dpkg/status"
  for package in $(dpkg-query -W -f '${binary:Package} ${Package}\n' "${packages[@]}" | tr ' ' '\n' | sort -u); do
    [ ! -e "/var/lib/dpkg/info/$package.list" ] || cp "/var/lib/dpkg/info/$package.list" "$ROOT/var/lib/dpkg/info"
  done
  dpkg --root="$ROOT" -i "$DEB" >"$T/out" 2>&1 || { cat "$T/out"; fail "the package cannot be installed"; }
  mount -t proc none "$ROOT/proc"
  for node in fuse null; do
    : >"$ROOT/dev/$node"
    mount --bind "/dev/$node" "$ROOT/dev/$node"
  done
}
