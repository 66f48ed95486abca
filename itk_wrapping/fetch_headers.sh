#!/bin/sh
# The headers of ITK 5.4, for building pymasr.itk._itk on a Debian system of any release: the package of the suite trixie
# is downloaded and unpacked into the directory given, not installed. The package sources are the machine's own, with
# the suite replaced, in a private list.
set -eu
target=$1
header=$target/usr/include/ITK-5.4/itkImageToImageMetricv4.h
if [ -f "$header" ]; then
  exit 0
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
  echo "The headers of ITK 5.4 can't be fetched, this is no Debian system: set ITK_INCLUDE_DIR, see docs/itk.md" >&2
  exit 1
fi
. /etc/os-release
work=$target/apt
mkdir -p "$work/sources" "$work/lists/partial" "$work/cache/archives/partial"
for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
  if [ -f "$list" ] && grep -q "$VERSION_CODENAME" "$list"; then
    sed "s/$VERSION_CODENAME/trixie/g" "$list" >"$work/sources/$(basename "$list")"
  fi
done
work=$(cd "$work" && pwd)
apt() {
  apt-get -qq -o APT::Sandbox::User=root -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/sources" \
    -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" "$@"
}
apt update
(cd "$work" && apt download libinsighttoolkit5-dev)
dpkg -x "$work"/libinsighttoolkit5-dev_*.deb "$target"
rm -rf "$work"
test -f "$header"
