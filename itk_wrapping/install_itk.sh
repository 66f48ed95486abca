#!/bin/sh
# An ITK to build the module against: the one that ITK_DIR names, an installed one, or, where this user may install
# packages, Debian's.
set -eu
if [ -n "${ITK_DIR:-}" ] || ls -d /usr/lib*/cmake/ITK-5.* /usr/lib/*/cmake/ITK-5.* /usr/local/lib*/cmake/ITK-5.* 2>/dev/null | grep -q .; then
  exit 0
fi
if [ "$(id -u)" = 0 ]; then
  as_root=
elif sudo -n true 2>/dev/null; then
  as_root=sudo
else
  echo "There is no ITK, and packages can't be installed: set ITK_DIR, or have libinsighttoolkit5-dev installed" >&2
  exit 1
fi
$as_root apt-get -qq update
$as_root apt-get -qq install -y --no-install-recommends libinsighttoolkit5-dev
