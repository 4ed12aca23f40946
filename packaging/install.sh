#!/bin/sh
# Installs what lies beside this script, or removes it again.
set -eu

usage() {
    echo "usage: install.sh [--prefix DIR] [--uninstall]   DIR is /usr/local if not given"
}

prefix=/usr/local uninstall=no
while [ $# -gt 0 ]; do
    case $1 in
    --prefix=?*) prefix=${1#*=} ;;
    --prefix)
        [ -n "${2-}" ] || { usage >&2 && exit 2; }
        prefix=$2
        shift
        ;;
    --uninstall) uninstall=yes ;;
    --help) usage && exit ;;
    *) usage >&2 && exit 2 ;;
    esac
    shift
done
# LD_PRELOAD takes a path, and programs change their directory.
case $prefix in
/*) ;;
*) prefix=$PWD/$prefix ;;
esac

cd "$(dirname "$0")"
find bin lib share -type f | while read -r file; do
    target=$prefix/$file
    if [ $uninstall = yes ]; then
        rm -f "$target"
        continue
    fi
    mkdir -p "$(dirname "$target")"
    # Written beside and renamed: programs that run with an older library keep it.
    cp "$file" "$target.new"
    case $file in
    bin/*) chmod 755 "$target.new" ;;
    *) chmod 644 "$target.new" ;;
    esac
    mv -f "$target.new" "$target"
done
if [ $uninstall = no ]; then
    echo "installed. To use it: $prefix/bin/tcptune --connect-timeout 3s your-program"
    echo "or: LD_PRELOAD=$prefix/lib/libtcptune.so TCPTUNE_CONNECT_TIMEOUT=3 your-program"
fi
