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

# The directories that are made, so that they can be removed again: each after those in it.
made=$prefix/share/doc/tcptune/.directories
make_directory() {
    [ ! -d "$1" ] || return 0
    make_directory "$(dirname "$1")"
    mkdir "$1"
    new=$(mktemp)
    { echo "$1" && cat "$list"; } >"$new"
    mv "$new" "$list"
}

cd "$(dirname "$0")"
list=$(mktemp)
trap 'rm -f "$list"' EXIT
if [ $uninstall = yes ] && [ -e "$made" ]; then
    cat "$made" >"$list"
    rm -f "$made"
fi
machine=$(uname -m)
directory=$machine-linux-gnu
case $machine in
i?86) directory=i386-linux-gnu ;;
esac

# put FILE TARGET MODE
put() {
    [ -e "$1" ] || return 0
    if [ $uninstall = yes ]; then
        rm -f "$prefix/$2"
        return
    fi
    make_directory "$(dirname "$prefix/$2")"
    # Written beside and renamed: programs that run with an older library keep it.
    cp "$1" "$prefix/$2.new"
    chmod "$3" "$prefix/$2.new"
    mv -f "$prefix/$2.new" "$prefix/$2"
}

put "bin/$machine/tcptune" bin/tcptune 755
# The libraries of all machines lie in PREFIX/lib, where $LIB of Debian and its kin leads; that of this machine is in
# PREFIX/lib itself, too, and where there is a lib64 beside lib, both of its are where $LIB leads there.
put "lib/$directory/libtcptune.so" lib/libtcptune.so 644
find lib share -type f | while read -r file; do
    put "$file" "$file" 644
done
if [ -d /usr/lib64 ] && [ ! -d "/usr/lib/$directory" ] && [ ! -L /usr/lib64 ]; then
    put "lib/$directory/libtcptune.so" lib64/libtcptune.so 644
    put lib/i386-linux-gnu/libtcptune.so lib/libtcptune.so 644
fi
if [ $uninstall = yes ]; then
    while read -r made; do
        rmdir "$made" 2>/dev/null || true # what is not empty has become somebody else's
    done <"$list"
else
    # An update makes few or none.
    [ ! -e "$made" ] || cat "$made" >>"$list"
    cp "$list" "$made"
    echo "installed. To use it: $prefix/bin/tcptune --connect-timeout 3s your-program"
    echo "or: LD_PRELOAD=$prefix/lib/$directory/libtcptune.so TCPTUNE_CONNECT_TIMEOUT=3 your-program"
fi
