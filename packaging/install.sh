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

# The directories that were made for it, so that they can be removed again: each after those in it.
made=$prefix/share/doc/tcptune/.directories
make_directory() {
    [ -d "$1" ] && return
    make_directory "$(dirname "$1")"
    mkdir "$1"
    new="$1
$new"
}

cd "$(dirname "$0")"
if [ $uninstall = yes ]; then
    directories=$(cat "$made" 2>/dev/null || true)
    rm -f "$made"
else
    new=
    for directory in $(find bin lib share -type d); do
        make_directory "$prefix/$directory"
    done
    # An update makes none, and leaves the list as it is.
    [ -z "$new" ] || printf %s "$new" >>"$made"
fi
find bin lib share -type f | while read -r file; do
    target=$prefix/$file
    if [ $uninstall = yes ]; then
        rm -f "$target"
        continue
    fi
    # Written beside and renamed: programs that run with an older library keep it.
    cp "$file" "$target.new"
    case $file in
    bin/*) chmod 755 "$target.new" ;;
    *) chmod 644 "$target.new" ;;
    esac
    mv -f "$target.new" "$target"
done
if [ $uninstall = yes ]; then
    # What is not empty has become somebody else's.
    printf '%s\n' "$directories" | while read -r directory; do
        [ -z "$directory" ] || rmdir "$directory" 2>/dev/null || true
    done
else
    echo "installed. To use it: $prefix/bin/tcptune --connect-timeout 3s your-program"
    echo "or: LD_PRELOAD=$prefix/lib/libtcptune.so TCPTUNE_CONNECT_TIMEOUT=3 your-program"
fi
